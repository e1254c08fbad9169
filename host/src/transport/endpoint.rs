//! What a device sees of a wire: a named slot it may read from and write to, with the address, the unit id and the
//! credentials left out. Behind each trait stands a real wire, or a recorded sample when a payload is decoded
//! without a device.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use crate::site::Moment;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The slots of one device by name.
pub type Endpoints = BTreeMap<String, Endpoint>;

/// One bound slot.
#[derive(Clone)]
pub enum Endpoint {
    /// A unit on a Modbus bus.
    Modbus(Arc<dyn Modbus>),
    /// An HTTP origin.
    Http(Arc<dyn Http>),
    /// A topic prefix at a broker.
    Mqtt(Arc<dyn Mqtt>),
}

impl Endpoint {
    /// The word of the manifest: `modbus`, `http`, `mqtt`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Endpoint::Modbus(_) => "modbus",
            Endpoint::Http(_) => "http",
            Endpoint::Mqtt(_) => "mqtt",
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

// === Modbus ===

/// Which of the four Modbus tables is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Table {
    Coils,
    Discrete,
    Holding,
    Input,
}

impl Table {
    /// Most values one request may ask for (Modbus application protocol 1.1b3, 6.1 to 6.4).
    #[must_use]
    pub fn max_count(self) -> u16 {
        match self {
            Table::Coils | Table::Discrete => 2000,
            Table::Holding | Table::Input => 125,
        }
    }
}

/// Consecutive values of one table. Addresses are wire addresses, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Block {
    pub table: Table,
    pub address: u16,
    pub count: u16,
}

/// Why a Modbus request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModbusError {
    /// The binding does not grant this.
    #[error("not allowed: {0}")]
    Denied(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The line or the host is not there.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The device answered with this exception code.
    #[error("the device answered with Modbus exception {0} ({meaning})", meaning = exception(*.0))]
    Exception(u8),
    /// The answer is no answer to the request.
    #[error("bad answer: {0}")]
    Protocol(String),
    /// Larger than the host or the protocol allows.
    #[error("too large: {0}")]
    Limit(String),
}

/// What an exception code means (Modbus application protocol 1.1b3, section 7).
fn exception(code: u8) -> &'static str {
    match code {
        1 => "function not supported",
        2 => "no such register",
        3 => "value or number of registers not allowed",
        4 => "the device failed",
        5 => "accepted, takes its time",
        6 => "busy",
        10 => "gateway: no path to the unit",
        11 => "gateway: no unit with this id answers",
        _ => "of the maker's own",
    }
}

/// One unit on a Modbus bus. Cancel-safe: a dropped future leaves no half-written frame on the wire.
pub trait Modbus: Send + Sync {
    /// Reads one block; coils and discrete inputs come as 0 or 1.
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>>;
    /// Reads several blocks, adjacent ones in one request; one result per block, in their order. When the device
    /// refuses a merged request, its parts are asked one by one.
    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>>;
    /// Function 5.
    fn write_coil(&self, address: u16, value: bool) -> BoxFuture<'_, Result<(), ModbusError>>;
    /// Function 6.
    fn write_register(&self, address: u16, value: u16) -> BoxFuture<'_, Result<(), ModbusError>>;
    /// Function 16.
    fn write_registers(&self, address: u16, values: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>>;
}

// === HTTP ===

/// A request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// One request; `path` is relative to the endpoint's base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct HttpRequest {
    pub method: HttpMethod,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer of any status.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct HttpResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why an HTTP request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// An address outside the endpoint, or a write on a read-only one.
    #[error("not allowed: {0}")]
    Denied(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Nobody listens there.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The TLS handshake failed, or this build has no TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The answer is no HTTP.
    #[error("bad answer: {0}")]
    Protocol(String),
    /// A body larger than `limits.http_body`.
    #[error("too large: {0}")]
    Limit(String),
}

/// One HTTP origin with its base path and credentials.
pub trait Http: Send + Sync {
    /// Sends one request. `max_body` bounds both bodies in bytes.
    fn send(&self, request: HttpRequest, max_body: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>>;
}

// === MQTT ===

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Qos {
    AtMostOnce,
    AtLeastOnce,
    ExactlyOnce,
}

/// Why an MQTT request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MqttError {
    /// A topic outside the bound prefix, a bad filter, or a publish on a read-only endpoint.
    #[error("not allowed: {0}")]
    Denied(String),
    /// The broker is not there.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// Too large, or too many at once.
    #[error("too large: {0}")]
    Limit(String),
}

/// One received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The slot it came in on.
    pub endpoint: Arc<str>,
    /// Topic relative to the endpoint's prefix.
    pub topic: String,
    /// The bytes on the wire.
    pub payload: Bytes,
    /// The broker had stored it: its age is unknown.
    pub retained: bool,
    /// When it arrived.
    pub at: Moment,
    /// Where the sender wants its answer (MQTT 5 request and response).
    pub reply_to: Option<ReplyTo>,
}

/// Where an answer goes (MQTT 5, 4.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The response topic, whole.
    pub topic: String,
    /// Goes back as it came, so that the sender knows which of its requests is answered.
    pub correlation: Option<Bytes>,
}

/// A topic prefix at one broker.
pub trait Mqtt: Send + Sync {
    /// Messages of `filter` (relative) go into `inbox` from now on, across reconnects, until the inbox is dropped.
    fn subscribe(&self, filter: String, qos: Qos, inbox: super::Inbox) -> BoxFuture<'_, Result<(), MqttError>>;
    /// Publishes below the prefix. Waits until the request is queued, not until the broker has it.
    fn publish(&self, topic: String, payload: Bytes, qos: Qos, retain: bool) -> BoxFuture<'_, Result<(), MqttError>>;
    /// Publishes below the prefix at QoS 1 and waits until the broker has it. Who drops the future takes the message
    /// back, unless it is on its way.
    fn deliver(&self, topic: String, payload: Bytes) -> BoxFuture<'_, Result<(), MqttError>> {
        // Where there is no broker, queued is delivered.
        self.publish(topic, payload, Qos::AtLeastOnce, false)
    }
}
