//! `modbus`, `modbus_get` and `modbus_set`: registers over HTTP and MQTT (`cfos-interfaces.md` 1.11 and 2.6).

use super::{Answer, Api, Call, Refusal, admin, bad};

/// `modbus`: registers of our own map.
pub(super) async fn registers(_api: &Api, call: &Call) -> Result<Answer, Refusal> {
    admin(call)?;
    Err(bad("device is missing"))
}

/// `modbus_get`: registers of any device on the network.
pub(super) async fn get(_api: &Api, call: &Call) -> Result<Answer, Refusal> {
    admin(call)?;
    Err(bad("addr is missing"))
}

/// `modbus_set`
pub(super) async fn set(_api: &Api, call: &Call) -> Result<Answer, Refusal> {
    admin(call)?;
    Err(bad("addr is missing"))
}
