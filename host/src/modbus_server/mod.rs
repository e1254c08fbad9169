//! The Modbus server: the register map of a Power Brain wallbox and its two meters on three ports, so that whoever
//! controls such a one controls ours (`cfos-interfaces.md` 4.1 and 7.5). Modbus knows no password; it is off until
//! the configuration switches it on.

mod port;
mod registers;
mod silence;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;

pub use port::{CONNECTIONS, IDLE};
pub use registers::{RegisterParts, Registers, Writer};

/// The running server; follows the configuration. Ends when dropped.
#[derive(Debug)]
pub struct ModbusServer {
    addresses: watch::Receiver<[Option<SocketAddr>; 3]>,
    task: JoinHandle<()>,
}

impl ModbusServer {
    /// Starts on the present runtime. A port that cannot be used is logged and tried again.
    #[must_use]
    pub fn start(registers: Registers) -> Self {
        let (bound, addresses) = watch::channel([None; 3]);
        Self { addresses, task: tokio::spawn(follow(registers, bound)) }
    }

    /// Where the wallbox and the two meters can be reached; `None` where nobody listens.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<[Option<SocketAddr>; 3]> {
        self.addresses.clone()
    }
}

impl Drop for ModbusServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The running ports.
#[derive(Default)]
struct Running {
    wanted: Option<(IpAddr, [u16; 3])>,
    ports: Vec<port::Port>,
}

async fn follow(registers: Registers, bound: watch::Sender<[Option<SocketAddr>; 3]>) {
    let bound = Arc::new(bound);
    let mut config = registers.source().config.clone();
    let mut running = Running::default();
    loop {
        let wanted = wanted(&config.borrow_and_update());
        if wanted != running.wanted {
            // The old ones go first: the new ones may want the same numbers.
            for port in running.ports.drain(..) {
                port.end().await;
            }
            bound.send_replace([None; 3]);
            if wanted.is_none() {
                registers.release_controllers().await;
            }
            let listen = |(port, number)| {
                let (ip, registers, bound) = (wanted?.0, registers.clone(), Arc::clone(&bound));
                Some(port::Port::start(port, (ip, number).into(), registers, bound))
            };
            let numbers = wanted.map(|(_, ports)| ports).unwrap_or_default();
            running.ports = numbers.into_iter().enumerate().filter_map(listen).collect();
            running.wanted = wanted;
        }
        if config.changed().await.is_err() {
            return;
        }
    }
}

fn wanted(config: &Config) -> Option<(IpAddr, [u16; 3])> {
    let server = &config.modbus_server;
    server.enabled.then_some((server.listen, server.ports))
}

#[cfg(test)]
mod tests;
