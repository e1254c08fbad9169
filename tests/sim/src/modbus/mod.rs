//! A Modbus server for tests: TCP, RTU over TCP and RTU on any byte stream (a pty), able to misbehave on order.
//!
//! Frames are taken apart by hand, so that it shares no code and no mistake with the host's library.

mod bank;
mod frame;
mod pdu;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

pub use bank::{Bank, Table};
pub(crate) use frame::send;
pub use frame::{Framing, crc16};

use crate::net::{Control, Server};

/// Exception codes of the application protocol.
pub mod exception {
    /// The function is not supported.
    pub const FUNCTION: u8 = 1;
    /// An address is not there.
    pub const ADDRESS: u8 = 2;
    /// A value or a count is not allowed.
    pub const VALUE: u8 = 3;
    /// The device failed.
    pub const FAILURE: u8 = 4;
    /// Gateway: nobody answers under this unit id.
    pub const NO_TARGET: u8 = 0x0B;
}

/// What a call to a unit gives: values, or an exception code.
pub type Answer<T> = Result<T, u8>;

/// The registers of one device. A table the device does not have answers with exception 1 (illegal function).
pub trait Unit: Send + Sync {
    /// Function 3 (`Table::Holding`) or 4 (`Table::Input`): `count` registers from `address`.
    ///
    /// # Errors
    /// The exception code to answer with.
    fn read_words(&self, _table: Table, _address: u16, _count: u16) -> Answer<Vec<u16>> {
        Err(exception::FUNCTION)
    }

    /// Function 6 (one value) or 16.
    ///
    /// # Errors
    /// The exception code to answer with.
    fn write_words(&self, _address: u16, _values: &[u16]) -> Answer<()> {
        Err(exception::FUNCTION)
    }

    /// Function 1 (`Table::Coils`) or 2 (`Table::Discrete`): `count` bits from `address`.
    ///
    /// # Errors
    /// The exception code to answer with.
    fn read_bits(&self, _table: Table, _address: u16, _count: u16) -> Answer<Vec<bool>> {
        Err(exception::FUNCTION)
    }

    /// Function 5 (one value) or 15.
    ///
    /// # Errors
    /// The exception code to answer with.
    fn write_bits(&self, _address: u16, _values: &[bool]) -> Answer<()> {
        Err(exception::FUNCTION)
    }

    /// Called for every request to this unit, before it is answered.
    fn heard(&self) {}

    /// Called right before a read is answered without a fault.
    fn answered(&self, _table: Table, _address: u16, _count: u16) {}
}

/// The devices on one wire, by unit id.
#[derive(Clone, Default)]
pub struct Bus {
    units: BTreeMap<u8, Arc<dyn Unit>>,
    any: Option<Arc<dyn Unit>>,
}

impl Bus {
    /// A wire with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device.
    #[must_use]
    pub fn with(mut self, id: u8, unit: Arc<dyn Unit>) -> Self {
        self.units.insert(id, unit);
        self
    }

    /// Answers every unit id that has no device of its own.
    #[must_use]
    pub fn with_any(mut self, unit: Arc<dyn Unit>) -> Self {
        self.any = Some(unit);
        self
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<dyn Unit>> {
        self.units.values().chain(&self.any)
    }

    pub(crate) fn unit(&self, id: u8) -> Option<&Arc<dyn Unit>> {
        self.units.get(&id).or(self.any.as_ref())
    }
}

/// Serves `bus` on a TCP socket, Modbus TCP or RTU over TCP.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, framing: Framing, bus: Bus, control: Control) -> anyhow::Result<Server> {
    Server::listen(address, control, move |stream, control| {
        // A reply of a few bytes must not wait for more.
        let _ = stream.set_nodelay(true);
        serve_stream(stream, framing, bus.clone(), control)
    })
    .await
}

/// Serves `bus` on one byte stream until it ends: a serial line, a pty, an in-memory pipe.
pub async fn serve_stream<S>(stream: S, framing: Framing, bus: Bus, control: Control)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let result = match framing {
        Framing::Tcp => frame::tcp(stream, &bus, &control).await,
        Framing::Rtu => frame::rtu(stream, &bus, &control).await,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "simulated Modbus connection ended");
    }
}
