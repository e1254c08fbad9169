//! Wires: Modbus buses, MQTT connections, HTTP. The only module that touches sockets and serial lines on behalf of
//! devices. What a device sees of a wire is an [`Endpoint`].

mod endpoint;
mod inbox;

pub use endpoint::*;
pub use inbox::{Inbox, Overflow};
