//! Towards the wires: the endpoints of a driver behind small traits, so that a driver's sequence of reads and writes runs
//! natively against a script ([`crate::fixtures`]), and what each failure of a transport means for the device.
//! Nothing here opens a connection: the host owns them all.

use crate::Error;
use crate::bindings::imports::ladekern as wit;

/// Log lines; the host adds plugin, device and call.
pub mod log {
    pub use super::wit::host::log::{Level, log};

    /// For whoever looks for a fault in the driver.
    pub fn debug(message: &str) {
        log(Level::Debug, message, &[]);
    }

    /// Worth knowing, nothing to do.
    pub fn info(message: &str) {
        log(Level::Info, message, &[]);
    }

    /// Somebody should look at it.
    pub fn warn(message: &str) {
        log(Level::Warn, message, &[]);
    }
}

/// The only clock a driver has.
pub mod clock {
    pub use super::wit::host::clock::{now_ms, sleep_ms, unix_ms};
}

/// A few small values that outlive restarts and upgrades.
pub mod state {
    pub use super::wit::host::state::{Error, delete, get, set};
}

/// Modbus endpoints.
pub mod modbus {
    pub use super::wit::modbus::client::{Endpoint, Error};
}

/// HTTP endpoints.
pub mod http {
    pub use super::wit::http::client::{Endpoint, Error, Method, Request, Response};

    impl Request {
        /// GET of a path relative to the bound base URL.
        #[must_use]
        pub fn get(path: &str) -> Self {
            Self { method: Method::Get, path: path.into(), headers: Vec::new(), body: Vec::new() }
        }
    }
}

/// MQTT endpoints.
pub mod mqtt {
    pub use super::wit::mqtt::client::{Endpoint, Error, Qos};
}

/// What a Modbus driver needs of its endpoint. [`modbus::Endpoint`] is the real one.
pub trait ModbusPort {
    /// Function code 3.
    ///
    /// # Errors
    /// As the host reports them.
    fn read_holding(&self, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error>;
    /// Function code 4.
    ///
    /// # Errors
    /// As the host reports them.
    fn read_input(&self, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error>;
    /// Function code 6.
    ///
    /// # Errors
    /// As the host reports them.
    fn write_register(&self, address: u16, value: u16) -> Result<(), modbus::Error>;
    /// Function code 16.
    ///
    /// # Errors
    /// As the host reports them.
    fn write_registers(&self, address: u16, values: &[u16]) -> Result<(), modbus::Error>;
}

impl ModbusPort for modbus::Endpoint {
    fn read_holding(&self, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error> {
        modbus::Endpoint::read_holding(self, address, count)
    }
    fn read_input(&self, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error> {
        modbus::Endpoint::read_input(self, address, count)
    }
    fn write_register(&self, address: u16, value: u16) -> Result<(), modbus::Error> {
        modbus::Endpoint::write_register(self, address, value)
    }
    fn write_registers(&self, address: u16, values: &[u16]) -> Result<(), modbus::Error> {
        modbus::Endpoint::write_registers(self, address, values)
    }
}

/// What an HTTP driver needs of its endpoint. [`http::Endpoint`] is the real one.
pub trait HttpPort {
    /// One request, one answer, whatever its status.
    ///
    /// # Errors
    /// As the host reports them.
    fn send(&self, request: &http::Request) -> Result<http::Response, http::Error>;
}

impl HttpPort for http::Endpoint {
    fn send(&self, request: &http::Request) -> Result<http::Response, http::Error> {
        http::Endpoint::send(self, request)
    }
}

/// What an MQTT driver needs of its endpoint. [`mqtt::Endpoint`] is the real one.
pub trait MqttPort {
    /// Topics are relative to the bound prefix.
    ///
    /// # Errors
    /// As the host reports them.
    fn publish(&self, topic: &str, payload: &[u8], qos: mqtt::Qos, retain: bool) -> Result<(), mqtt::Error>;
}

impl MqttPort for mqtt::Endpoint {
    fn publish(&self, topic: &str, payload: &[u8], qos: mqtt::Qos, retain: bool) -> Result<(), mqtt::Error> {
        mqtt::Endpoint::publish(self, topic, payload, qos, retain)
    }
}

impl From<modbus::Error> for Error {
    fn from(error: modbus::Error) -> Self {
        match error {
            modbus::Error::Denied(text) => Self::Config(text),
            modbus::Error::Timeout => Self::Offline("no answer in time".into()),
            modbus::Error::Unreachable(text) => Self::Offline(text),
            modbus::Error::Exception(code) => Self::Protocol(format!("Modbus exception {code}")),
            modbus::Error::Protocol(text) => Self::Protocol(text),
            modbus::Error::Limit(text) => Self::Other(text),
        }
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        match error {
            http::Error::Denied(text) => Self::Config(text),
            http::Error::Timeout => Self::Offline("no answer in time".into()),
            http::Error::Unreachable(text) | http::Error::Tls(text) => Self::Offline(text),
            http::Error::Protocol(text) => Self::Protocol(text),
            http::Error::Limit(text) => Self::Other(text),
        }
    }
}

impl From<mqtt::Error> for Error {
    fn from(error: mqtt::Error) -> Self {
        match error {
            mqtt::Error::Denied(text) => Self::Config(text),
            mqtt::Error::Unreachable(text) => Self::Offline(text),
            mqtt::Error::Limit(text) => Self::Other(text),
        }
    }
}

impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Self::Other(match error {
            state::Error::TooLarge => "a value is larger than the space for it".into(),
            state::Error::Quota => "no space left for the driver's values".into(),
            state::Error::Io(text) => text,
        })
    }
}
