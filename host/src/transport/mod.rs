//! Wires: Modbus buses, MQTT connections, HTTP. The only module that touches sockets and serial lines on behalf of
//! devices. What a device sees of a wire is an [`Endpoint`]; [`Transports`] hands them out.

mod backoff;
mod broker;
mod endpoint;
mod http;
mod inbox;
mod modbus;
mod mqtt;
mod newest;
mod transports;

pub use broker::{BrokerError, EmbeddedBroker};
pub use endpoint::*;
pub use inbox::{Inbox, Overflow, WeakInbox};
pub use modbus::BusStatus;
pub(crate) use mqtt::topic_matches;
pub use mqtt::{Acknowledgement, BrokerState, BrokerStatus, MAX_PAYLOAD, MqttConnection};
pub use transports::{TransportError, Transports};
