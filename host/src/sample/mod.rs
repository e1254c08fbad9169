//! Recorded payloads: what a real device said once, in a file, so that a driver can be run without the device.
//! `ladekern decode` and the drivers' fixtures use this. Parses files into a [`Sample`] and offers it as endpoints;
//! never touches a wire.

mod endpoints;
mod keys;
mod parse;

pub use keys::expected_keys;
pub use parse::{HttpAnswer, ModbusBlock, MqttMessage, Sample, SampleError};
