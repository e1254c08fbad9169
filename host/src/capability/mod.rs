//! The host's side of each WIT interface that a plugin may import, one file per capability.
//!
//! Every function here takes the store's data by `&mut`, so it may be cancelled at any await without harm, and
//! answers with the interface's own error; a fault of the host itself becomes a trap. None of them panics.

mod clock;
mod http;
mod log;
mod modbus;
mod mqtt;
mod state;

pub use http::HttpSlot;
pub use log::{LogLine, LogTap};
pub use modbus::ModbusSlot;
pub use mqtt::MqttSlot;

pub(crate) use log::PluginLog;

use wasmtime::component::{Resource, ResourceTableError};

use crate::runtime::limits::{HANDLES, LimitExceeded};
use crate::runtime::{Guest, error};
use crate::transport::Endpoint;

impl Guest {
    /// The endpoint bound to slot `name`, or the sentence why there is none.
    fn bound(&self, name: &str) -> Result<&Endpoint, String> {
        let device = &self.context.device;
        self.context.endpoints.get(name).ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            let bound: Vec<&str> = self.context.endpoints.keys().map(String::as_str).collect();
            match bound.as_slice() {
                [] => format!("device {device} has no endpoint \"{name}\", none is bound"),
                some => format!("device {device} has no endpoint \"{name}\", bound are: {}", some.join(", ")),
            }
        })
    }

    /// The sentence for an endpoint of another kind than `wanted`.
    fn wrong_kind(&self, name: &str, endpoint: &Endpoint, wanted: &str) -> String {
        let device = &self.context.device;
        format!("endpoint \"{name}\" of device {device} speaks {}, not {wanted}", endpoint.kind())
    }

    /// The sentence for what the binding refuses.
    fn refused(&self, slot: &str, why: &str) -> String {
        format!("endpoint \"{slot}\" of device {}: {why}", self.context.device)
    }

    /// Hands out a handle. Too many of them end the instance: a guest that leaks would only limp on otherwise.
    fn hand_out<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        self.table.push(entry).map_err(|error| match error {
            ResourceTableError::Full => {
                let reason = format!("it holds more than {HANDLES} endpoints open at once");
                LimitExceeded::new(error::HANDLES, reason).into()
            }
            other => other.into(),
        })
    }
}
