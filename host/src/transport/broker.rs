//! The embedded MQTT broker: for a site that has none. Speaks 3.1.1 and 5 on one port, keeps retained messages and
//! sessions in memory only, writes nothing to the disk and asks nobody for a password, which is why it listens on
//! the loopback unless the user says otherwise. Why this one: docs/decisions/0003-embedded-broker.md.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use mqtt5::broker::config::StorageConfig;
use mqtt5::broker::{BrokerConfig, MqttBroker};
use tokio::sync::oneshot;

use crate::config::BrokerUrl;

/// Largest packet the broker takes: a payload of [`super::MAX_PAYLOAD`] with its topic and properties fits well.
const MAX_PACKET: usize = 4 * 1024 * 1024;

/// Messages that may wait for one client of each class of QoS; a client that is slower loses messages, not the
/// process its memory.
const MAX_WAITING: usize = 2048;

/// Clients at once.
const MAX_CLIENTS: usize = 1000;

/// Topics with a retained message.
const MAX_RETAINED: usize = 10_000;

/// How long the session of a client that asked for one is kept after it left.
const SESSION: Duration = Duration::from_secs(3600);

/// How long clients that wait for a farewell may hold up [`EmbeddedBroker::stop`].
const FAREWELL: Duration = Duration::from_millis(1500);

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("the embedded broker cannot listen on {listen}: {reason}; set mqtt.embedded_listen to a free address")]
    Listen {
        /// The address of the configuration.
        listen: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// The system gives no thread.
    #[error("the embedded broker cannot start: {0}")]
    Thread(std::io::Error),
}

/// A running broker. It has a thread and a runtime of its own, so that a flood of messages between its clients does
/// not hold up the wires of the host, and so that stopping it leaves nothing behind. Dropping it stops it, without
/// waiting.
#[derive(Debug)]
pub struct EmbeddedBroker {
    local_addr: SocketAddr,
    /// Its end is the sign to stop.
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl EmbeddedBroker {
    /// Listens on `listen`; port 0 takes a free one. Clients can connect when this returns.
    ///
    /// # Errors
    /// [`BrokerError::Listen`] with the address if it is in use or not ours.
    pub async fn start(listen: SocketAddr) -> Result<Self, BrokerError> {
        let fail = |reason: String| BrokerError::Listen { listen, reason };
        // Asked of the system first, because the library answers with a page of text.
        drop(std::net::TcpListener::bind(listen).map_err(|error| fail(error.to_string()))?);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BrokerError::Thread)?;
        let (ready, started) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("mqtt-broker".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listen, ready, stopped));
                // Whatever is left of a connection ends here.
                runtime.shutdown_background();
            })
            .map_err(BrokerError::Thread)?;
        match started.await {
            Ok(Ok(local_addr)) => Ok(Self { local_addr, stop, thread }),
            Ok(Err(reason)) => Err(fail(reason)),
            Err(_) => Err(fail("it ended at once".to_owned())),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How the host reaches it: with version 5, so that requests with a response topic keep it.
    #[must_use]
    pub fn url(&self) -> BrokerUrl {
        let host = match self.local_addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.to_string(),
            ip => ip.to_string(),
        };
        BrokerUrl { host, port: self.local_addr.port(), v5: true, tls: false, login: None }
    }

    /// Disconnects all clients, frees the port and ends the thread; takes less than two seconds.
    pub async fn stop(self) {
        let Self { stop, thread, .. } = self;
        drop(stop);
        // The join is short; it must not block a runtime's worker all the same. A thread that failed is gone too.
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// Runs the broker until `stopped` resolves or its sender is dropped.
async fn serve(listen: SocketAddr, ready: oneshot::Sender<Result<SocketAddr, String>>, stopped: oneshot::Receiver<()>) {
    let mut broker = match MqttBroker::with_config(config(listen)).await {
        Ok(broker) => broker,
        Err(error) => {
            let _ = ready.send(Err(error.to_string()));
            return;
        }
    };
    let local_addr = broker.local_addr().unwrap_or(listen);
    let (mut accepting, shutdown) = (broker.ready_receiver(), broker.shutdown_handle());
    let mut running = Box::pin(broker.run());
    tokio::select! {
        _ = accepting.wait_for(|ready| *ready) => {}
        result = &mut running => {
            let _ = ready.send(Err(result.err().map_or_else(|| "it ended at once".to_owned(), |error| error.to_string())));
            return;
        }
    }
    let _ = ready.send(Ok(local_addr));
    tokio::select! {
        _ = stopped => {
            shutdown.shutdown();
            let _ = tokio::time::timeout(FAREWELL, running).await;
        }
        result = &mut running => tracing::error!(?result, "the embedded broker has ended by itself"),
    }
}

fn config(listen: SocketAddr) -> BrokerConfig {
    let mut config = BrokerConfig::default()
        .with_bind_address(listen)
        .with_max_packet_size(MAX_PACKET)
        .with_storage(StorageConfig::default().with_persistence(false));
    config.client_channel_capacity = MAX_WAITING;
    config.max_clients = MAX_CLIENTS;
    config.max_retained_messages = MAX_RETAINED;
    config.session_expiry_interval = SESSION;
    config.sys_topics_enabled = false;
    config
}
