//! MQTT connections, one per broker URL, shared by the host and by all devices that use that broker. Subscriptions
//! outlive reconnects; measurements on their way out give way to newer ones of the same topic; a slow reader never
//! holds the connection up. Knows no topic of the contract and no device.

mod connection;
mod duplicates;
mod endpoint;
mod flight;
mod handle;
mod life;
mod open;
mod outbox;
mod packet;
mod routes;
mod shared;
mod status;
mod tls;
mod topic;
mod wire;

pub(super) use connection::run;
pub(super) use endpoint::MqttEndpoint;
pub use handle::{Acknowledgement, MqttConnection};
pub(super) use shared::{Shared, Versions};
pub use status::{BrokerState, BrokerStatus};
pub(crate) use topic::matches as topic_matches;

/// Largest payload in bytes that is handed on or published. Larger ones are dropped and logged.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
