//! The Modbus server: the register map of a Power Brain wallbox, so that whoever controls such a one controls ours.

use std::sync::Arc;

use crate::contract::SiteSource;
use crate::session::Sessions;
use crate::site::Commands;

/// What the server shows and whom it commands.
#[derive(Clone)]
pub struct ServerParts {
    /// The live site.
    pub source: SiteSource,
    /// Where wishes go while the load manager manages.
    pub sessions: Sessions,
    /// Where commands go while it observes.
    pub commands: Arc<dyn Commands>,
}

/// The running server; follows the configuration. Ends when dropped.
#[derive(Debug)]
pub struct ModbusServer {}

impl ModbusServer {
    /// Starts on the present runtime. A port that cannot be used is logged and tried again.
    #[must_use]
    pub fn start(parts: ServerParts) -> Self {
        _ = parts;
        Self {}
    }
}
