//! What a person may know of a connection to a broker.

use crate::site::Moment;

/// How a connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Not tried yet, or being tried.
    Connecting,
    /// Connected.
    Connected {
        /// With protocol version 5, else 3.1.1.
        v5: bool,
    },
    /// The last attempt failed or the connection was lost; it is tried again.
    Down(String),
}

/// One connection as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStatus {
    /// The URL without the password.
    pub url: String,
    /// What the broker knows us as.
    pub client_id: String,
    /// How it stands, and with which version of the protocol.
    pub state: BrokerState,
    /// Since when it has been connected; `None` if it is not.
    pub connected_since: Option<Moment>,
    /// When it is tried again; `None` if it is connected or being tried.
    pub next_attempt: Option<Moment>,
    /// What went wrong last, also if it works again.
    pub last_error: Option<String>,
    /// Filters that the broker does not let us subscribe to.
    pub refused_filters: Vec<String>,
    /// Messages received and handed on.
    pub received: u64,
    /// Received messages larger than [`super::MAX_PAYLOAD`], which were dropped.
    pub too_large: u64,
    /// Received messages that the broker had delivered before, which were dropped: repeated with the DUP flag, or
    /// once for each of our filters that matches.
    pub duplicates: u64,
    /// Messages sent to the broker.
    pub sent: u64,
    /// Messages that the broker did not take (MQTT 5; a broker of 3.1.1 cannot say so).
    pub refused: u64,
    /// Messages that keep their order and wait to be sent.
    pub waiting: usize,
    /// Measurements that gave way to newer ones before they were sent.
    pub superseded: u64,
    /// How often the connection was made.
    pub connections: u64,
    /// How often the connection was lost.
    pub lost: u64,
}
