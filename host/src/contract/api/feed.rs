//! `set_ajax_meter` and `set_ajax_evse`: a message for a fed device, as the body or as arguments.

use serde_json::{Map, Value};

use crate::config::{Config, HTTP_INPUT};
use crate::site::{DeviceId, DeviceKind};

use super::{Answer, Api, Call, Refusal, admin, bad, required};

pub(super) fn meter(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    feed(api, call, DeviceKind::Meter)
}

pub(super) fn evse(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    feed(api, call, DeviceKind::Evse)
}

fn feed(api: &Api, call: &Call, kind: DeviceKind) -> Result<Answer, Refusal> {
    admin(call)?;
    let id = device(&api.source.config.borrow(), kind, call)?;
    // Between a change of the configuration and the start of its devices there is a short while.
    let starting = || Refusal::NotNow(format!("{id} is just being started"));
    let input = api.feeds.get(&id).ok_or_else(starting)?;
    let answer = if call.body.is_empty() {
        let values = call.args.iter().filter(|(name, _)| *name != "cmd" && *name != "dev_id");
        let message: Map<String, Value> =
            values.map(|(name, value)| (name.to_owned(), Value::String(value.to_owned()))).collect();
        input.feed(&super::to_json(&message), false)
    } else {
        input.feed(&call.body, false)
    };
    answer.map(|answer| Answer::of(&answer.to_json())).map_err(|error| bad(error.to_string()))
}

/// The fed device that is meant.
fn device(config: &Config, kind: DeviceKind, call: &Call) -> Result<DeviceId, Refusal> {
    let (cmd, example) = match kind {
        DeviceKind::Meter => ("set_ajax_meter", "M1"),
        DeviceKind::Evse => ("set_ajax_evse", "E1"),
    };
    let text = required(call, "dev_id", example)?;
    let id: DeviceId = text.parse().map_err(|error: crate::site::BadDeviceId| bad(error.to_string()))?;
    if id.kind() != kind {
        return Err(bad(format!("{cmd} is not for {id}; expected a device like {example}")));
    }
    match config.devices.iter().find(|device| device.id == id) {
        None => Err(bad(format!("there is no device {id}"))),
        Some(device) if device.device_type != HTTP_INPUT => {
            Err(bad(format!("{id} is of type {}, only devices of type {HTTP_INPUT} are fed", device.device_type)))
        }
        Some(device) if !device.enabled => Err(bad(format!("{id} is disabled"))),
        Some(_) => Ok(id),
    }
}
