//! How a type of devices wants its wire used, where the file says nothing.

use std::time::Duration;

use super::EndpointConfig;

/// What a type of devices needs of its wire (`rtu` and `tcp` of a definition). The file's own keys beat it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How long one request may take.
    pub timeout: Option<Duration>,
    /// Silence between two requests on a Modbus bus.
    pub gap: Option<Duration>,
    /// The gap lies only between requests to different units; within one unit the silence that ends a frame is enough.
    pub gap_between_units: bool,
    /// How often a Modbus read without a good answer is made again.
    pub retries: u8,
    /// How long a connection may take. `None`: as long as a request, at least 1 s.
    pub connect_timeout: Option<Duration>,
    /// Pause between a new Modbus connection and the first request on it.
    pub delay_after_connect: Duration,
    /// Most registers in one Modbus request, the reads of others on the same unit included.
    pub max_registers: Option<u16>,
}

impl EndpointConfig {
    /// How long one request may take.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        self.timeout.or(self.timing.timeout).unwrap_or(Duration::from_secs(1))
    }
}
