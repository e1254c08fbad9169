//! The registry of wires: whoever asks for the same wire gets the same task. A wire is let go some seconds after its
//! last user, so that a reload of a device or a plugin keeps the connection. Opens nothing itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::http::{HttpEndpoint, new_client};
use super::modbus::{Bus, BusStatus, ModbusEndpoint, Wire};
use super::mqtt::{self, BrokerStatus, MqttConnection, MqttEndpoint};
use super::{Endpoint, Modbus};
use crate::config::{BrokerRef, BrokerTls, BrokerUrl, EndpointConfig, EndpointUrl};
use crate::site::{Clock, DeviceId};

/// How long a wire outlives its last user.
const LINGER: Duration = Duration::from_secs(5);

/// How long [`Transports::shutdown`] waits for a connection to say goodbye.
const GOODBYE: Duration = Duration::from_secs(3);

/// Why a slot cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device {device}, endpoint `{slot}`: {reason}")]
pub struct TransportError {
    /// The device.
    pub device: DeviceId,
    /// The slot; `address` where the plugin has only one.
    pub slot: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// All wires of the process; cheap to clone. Sockets, timers and tasks live on the runtime given to
/// [`Transports::new`]; what it hands out may be awaited on any runtime.
#[derive(Clone)]
pub struct Transports {
    inner: Arc<Inner>,
}

struct Inner {
    io: Handle,
    clock: Clock,
    client_id_prefix: String,
    default_broker: Mutex<Option<BrokerUrl>>,
    brokers: Mutex<HashMap<BrokerUrl, Broker>>,
    /// The number of each connection, from 1: it keeps its client id when it comes back.
    numbers: Mutex<HashMap<BrokerUrl, usize>>,
    versions: mqtt::Versions,
    broker_tls: Mutex<BTreeMap<(String, u16), BrokerTls>>,
    buses: Mutex<HashMap<Wire, BusEntry>>,
    /// By how long a connection may take, and the pause behind it.
    http: Mutex<HashMap<(Option<Duration>, Duration), reqwest::Client>>,
}

struct Broker {
    shared: Arc<mqtt::Shared>,
    user: Weak<User>,
    task: JoinHandle<()>,
}

struct BusEntry {
    bus: Arc<Bus>,
    user: Weak<User>,
}

/// Held by everything that uses one wire, together with the registry, which in turn holds it weakly. Its drop is the
/// sign to look whether the wire is still needed.
struct User {
    inner: Arc<Inner>,
    wire: Used,
}

#[derive(Clone)]
enum Used {
    Broker(BrokerUrl),
    Bus(Wire),
}

impl Drop for User {
    fn drop(&mut self) {
        self.inner.io.spawn(let_go(self.inner.clone(), self.wire.clone()));
    }
}

/// Closes a wire after [`LINGER`] unless it is used again.
async fn let_go(inner: Arc<Inner>, wire: Used) {
    loop {
        tokio::time::sleep(LINGER).await;
        if inner.close_unused(&wire) {
            return;
        }
    }
}

impl Transports {
    /// No wire yet. The MQTT client id of a connection is `client_id_prefix`, a dash and the number of the connection
    /// (contract rule B17), counted from 1 in the order of first use: a broker disconnects a client when another one
    /// comes with the same id, and two URLs may lead to the same broker.
    #[must_use]
    pub fn new(io: Handle, clock: Clock, default_broker: Option<BrokerUrl>, client_id_prefix: String) -> Self {
        let inner = Inner {
            io,
            clock,
            client_id_prefix,
            default_broker: Mutex::new(default_broker),
            brokers: Mutex::default(),
            numbers: Mutex::default(),
            versions: mqtt::Versions::default(),
            broker_tls: Mutex::default(),
            buses: Mutex::default(),
            http: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Binds a slot. `default_port` and `default_unit` are the manifest's and count where the configuration says
    /// nothing. Opens nothing yet.
    ///
    /// # Errors
    /// `mqtt` without a default broker, an unreadable password file, a bad URL.
    pub fn endpoint(
        &self,
        device: &DeviceId,
        slot: &str,
        cfg: &EndpointConfig,
        default_port: Option<u16>,
        default_unit: Option<u8>,
    ) -> Result<Endpoint, TransportError> {
        let shown = if slot.is_empty() { "address" } else { slot };
        let fail = |reason| TransportError { device: device.clone(), slot: shown.to_owned(), reason };
        match &cfg.url {
            EndpointUrl::Http(url) => {
                let pace = (cfg.timing.connect_timeout, cfg.timing.delay_after_connect);
                let client = lock(&self.inner.http).entry(pace).or_insert_with(|| new_client(pace)).clone();
                HttpEndpoint::new(&self.inner.io, client, url, cfg, default_port, shown)
                    .map(|http| Endpoint::Http(Arc::new(http)))
                    .map_err(fail)
            }
            EndpointUrl::Mqtt(broker) => {
                let url = self.resolve(broker).map_err(fail)?;
                let prefix = cfg.topic_prefix.trim_end_matches('/').to_owned();
                let (connection, read_only) = (self.mqtt(&url), cfg.read_only);
                Ok(Endpoint::Mqtt(Arc::new(MqttEndpoint { connection, slot: slot.to_owned(), prefix, read_only })))
            }
            EndpointUrl::ModbusTcp { .. } | EndpointUrl::ModbusRtuTcp { .. } | EndpointUrl::ModbusRtu(_) => {
                let Some(wire) = Wire::of(&cfg.url, default_port) else {
                    return Err(fail("this is no Modbus address".to_owned()));
                };
                let (bus, user) = self.bus(wire);
                let unit = cfg.unit.or(default_unit).unwrap_or(1);
                Ok(Endpoint::Modbus(Arc::new(ModbusEndpoint::new(bus, user, unit, cfg, shown))))
            }
        }
    }

    /// The broker that is meant.
    ///
    /// # Errors
    /// The sentence why there is none.
    pub fn resolve(&self, broker: &BrokerRef) -> Result<BrokerUrl, String> {
        match broker {
            BrokerRef::Url(url) => Ok(url.clone()),
            BrokerRef::Default => lock(&self.inner.default_broker).clone().ok_or_else(|| {
                "the address is `mqtt`, but `mqtt.broker` names no broker; set mqtt.broker or give a broker URL here"
                    .to_owned()
            }),
            BrokerRef::Off => Err("the address is empty; give `mqtt` or a broker URL".to_owned()),
        }
    }

    /// The connection to a broker, shared by all who name the same URL and credentials. It connects when it is first
    /// used.
    #[must_use]
    pub fn mqtt(&self, url: &BrokerUrl) -> MqttConnection {
        let mut brokers = lock(&self.inner.brokers);
        let broker = brokers.entry(url.clone()).or_insert_with(|| self.inner.connect(url));
        let held = broker.user.upgrade().unwrap_or_else(|| user(&self.inner, Used::Broker(url.clone())));
        broker.user = Arc::downgrade(&held);
        MqttConnection::new(broker.shared.clone(), held)
    }

    /// A unit on a Modbus bus for whoever is no device, on the same connection and in the same queue as the devices
    /// on that bus. `None`: this is no Modbus address. Opens nothing yet.
    #[must_use]
    pub fn modbus(&self, cfg: &EndpointConfig) -> Option<Arc<dyn Modbus>> {
        let (bus, user) = self.bus(Wire::of(&cfg.url, None)?);
        Some(Arc::new(ModbusEndpoint::new(bus, user, cfg.unit.unwrap_or(1), cfg, "")))
    }

    fn bus(&self, wire: Wire) -> (Arc<Bus>, Arc<dyn Send + Sync>) {
        let mut buses = lock(&self.inner.buses);
        let entry = buses
            .entry(wire.clone())
            .or_insert_with(|| BusEntry { bus: Bus::start(&self.inner.io, wire.clone()), user: Weak::new() });
        let held = entry.user.upgrade().unwrap_or_else(|| user(&self.inner, Used::Bus(wire)));
        entry.user = Arc::downgrade(&held);
        (entry.bus.clone(), held)
    }

    /// All brokers in use, ordered by URL.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerStatus> {
        let mut all: Vec<_> = lock(&self.inner.brokers).values().map(|broker| broker.shared.status()).collect();
        all.sort_by(|a, b| a.url.cmp(&b.url));
        all
    }

    /// All Modbus buses in use, ordered by wire.
    #[must_use]
    pub fn buses(&self) -> Vec<BusStatus> {
        let mut all: Vec<_> = lock(&self.inner.buses).values().map(|entry| entry.bus.status()).collect();
        all.sort_by(|a, b| a.wire.cmp(&b.wire));
        all
    }

    /// What the word `mqtt` means to endpoints from now on; bound ones keep their broker.
    pub fn set_default_broker(&self, broker: Option<BrokerUrl>) {
        *lock(&self.inner.default_broker) = broker;
    }

    /// How brokers are verified and how they verify us, by host and port (contract rule B18). Connections whose
    /// settings changed are made anew.
    pub fn set_broker_tls(&self, settings: BTreeMap<(String, u16), BrokerTls>) {
        // First here, so that a connection that is being made meanwhile does not miss them.
        lock(&self.inner.broker_tls).clone_from(&settings);
        for (url, broker) in &*lock(&self.inner.brokers) {
            broker.shared.set_tls(tls_of(url, &settings));
        }
    }

    /// Sends what waits, disconnects from all brokers and closes all lines; takes at most three seconds. Handles
    /// that are still around get errors afterwards.
    pub async fn shutdown(&self) {
        lock(&self.inner.buses).drain().for_each(|(_, entry)| entry.bus.close());
        let tasks: Vec<_> = lock(&self.inner.brokers)
            .drain()
            .map(|(_, broker)| {
                broker.shared.close();
                broker.task
            })
            .collect();
        let all = async {
            for task in tasks {
                // A task that failed has nothing left to close.
                let _ = task.await;
            }
        };
        // The timer must not depend on the caller's runtime having one.
        let timed = self.inner.io.spawn(async move { tokio::time::timeout(GOODBYE, all).await });
        let _ = timed.await;
    }
}

impl Inner {
    fn connect(&self, url: &BrokerUrl) -> Broker {
        let number = {
            let mut numbers = lock(&self.numbers);
            let next = numbers.len() + 1;
            *numbers.entry(url.clone()).or_insert(next)
        };
        let client_id = format!("{}-{number}", self.client_id_prefix);
        let tls = tls_of(url, &lock(&self.broker_tls));
        let shared = mqtt::Shared::new(url.clone(), client_id, self.clock, tls, Arc::clone(&self.versions));
        let shared = Arc::new(shared);
        let task = self.io.spawn(mqtt::run(shared.clone()));
        Broker { shared, user: Weak::new(), task }
    }

    /// `true` if the wire is closed, or is in use and will call again.
    fn close_unused(&self, wire: &Used) -> bool {
        match wire {
            Used::Broker(url) => {
                let mut brokers = lock(&self.brokers);
                let Some(broker) = brokers.get(url) else { return true };
                if broker.user.strong_count() > 0 {
                    return true;
                }
                if broker.shared.is_needed() {
                    return false;
                }
                broker.shared.close();
                brokers.remove(url);
            }
            Used::Bus(wire) => {
                let mut buses = lock(&self.buses);
                if buses.get(wire).is_some_and(|entry| entry.user.strong_count() == 0)
                    && let Some(entry) = buses.remove(wire)
                {
                    entry.bus.close();
                }
            }
        }
        true
    }
}

/// Neither a handle nor a wire that lingers is left.
impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.buses).values().for_each(|entry| entry.bus.close());
        lock(&self.brokers).values().for_each(|broker| broker.shared.close());
    }
}

fn tls_of(url: &BrokerUrl, settings: &BTreeMap<(String, u16), BrokerTls>) -> BrokerTls {
    settings.get(&(url.host.clone(), url.port)).cloned().unwrap_or_default()
}

fn user(inner: &Arc<Inner>, wire: Used) -> Arc<User> {
    Arc::new(User { inner: inner.clone(), wire })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
