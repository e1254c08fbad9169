//! MQTT connections, one per broker URL, shared by the host and by all devices that use that broker. Subscriptions
//! outlive reconnects; measurements on their way out give way to newer ones of the same topic; a slow reader never
//! holds the connection up. Knows no topic of the contract and no device.

mod connection;
mod endpoint;
mod outbox;
mod routes;
mod session;
mod topic;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

pub(super) use connection::run;
pub(super) use endpoint::MqttEndpoint;
pub(crate) use topic::matches as topic_matches;

use self::outbox::{Outbox, Outgoing};
use self::routes::Routes;
use super::{Inbox, MqttError, Qos};
use crate::config::BrokerUrl;
use crate::site::Clock;

/// Largest payload in bytes that is handed on or published. Larger ones are dropped and logged.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// Messages that may wait in order for one broker.
const MAX_ORDERED: usize = 1024;

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
    /// How it stands.
    pub state: BrokerState,
    /// What went wrong last, also if it works again.
    pub last_error: Option<String>,
    /// Messages received.
    pub received: u64,
    /// Received messages larger than [`MAX_PAYLOAD`], which were dropped.
    pub too_large: u64,
    /// Messages handed to the broker.
    pub sent: u64,
    /// Measurements that gave way to newer ones before they were sent.
    pub superseded: u64,
    /// How often the connection was lost.
    pub lost: u64,
}

/// A shared connection; cheap to clone. It is closed some seconds after the last handle and the last inbox that was
/// subscribed through it are gone.
#[derive(Clone)]
pub struct MqttConnection {
    shared: Arc<Shared>,
    /// Its drop tells the registry to look whether the connection is still needed.
    _user: Arc<dyn Send + Sync>,
}

impl MqttConnection {
    pub(super) fn new(shared: Arc<Shared>, user: Arc<dyn Send + Sync>) -> Self {
        Self { shared, _user: user }
    }

    /// Messages of `filter` go into `inbox` until every other handle of the inbox is dropped, across reconnects.
    /// They carry `endpoint` as their name and their topic without `strip_prefix` and the slash behind it.
    /// Returns when the request is queued; [`MqttConnection::acknowledged`] tells when the broker has it.
    /// Overlapping filters on one connection may bring a message more than once (MQTT 3.1.1, 3.3.5).
    /// A later reader of the same filter makes the broker send its retained messages once more to all its readers.
    ///
    /// # Errors
    /// [`MqttError::Denied`] if `filter` is no MQTT filter, [`MqttError::Unreachable`] if this build cannot speak to
    /// the broker at all (TLS).
    pub async fn subscribe(
        &self,
        filter: &str,
        qos: Qos,
        endpoint: &str,
        strip_prefix: &str,
        inbox: Inbox,
    ) -> Result<(), MqttError> {
        topic::check_filter(filter).map_err(MqttError::Denied)?;
        self.shared.check_possible()?;
        self.shared.routes().add(filter, qos, endpoint, strip_prefix, inbox.downgrade());
        self.shared.start();
        Ok(())
    }

    /// Publishes a measurement at QoS 0. Never waits and never fails: while the broker is slow or away, the newest
    /// message of each topic waits. A topic with a wildcard or a payload above [`MAX_PAYLOAD`] is dropped and logged.
    pub fn publish_latest(&self, topic: impl Into<String>, payload: impl Into<Bytes>, retain: bool) {
        let message = Outgoing { topic: topic.into(), payload: payload.into(), qos: Qos::AtMostOnce, retain };
        if let Err(error) = check_outgoing(&message) {
            tracing::warn!(broker = %self.shared.url, topic = message.topic, %error, "message not published");
            return;
        }
        self.shared.outbox().push_latest(message);
        self.shared.start();
    }

    /// Publishes a message that keeps its order. Returns when it is queued. At QoS 0 it is refused while the broker
    /// is away; at QoS 1 and 2 it waits for the broker.
    ///
    /// # Errors
    /// [`MqttError::Denied`]: no topic. [`MqttError::Limit`]: the payload is larger than [`MAX_PAYLOAD`].
    /// [`MqttError::Unreachable`]: QoS 0 and no connection, or too many messages wait already.
    pub async fn publish(
        &self,
        topic: impl Into<String>,
        payload: impl Into<Bytes>,
        qos: Qos,
        retain: bool,
    ) -> Result<(), MqttError> {
        let message = Outgoing { topic: topic.into(), payload: payload.into(), qos, retain };
        check_outgoing(&message)?;
        self.shared.check_possible()?;
        self.shared.start();
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let down = self.down_reason();
            {
                let mut outbox = self.shared.outbox();
                let full = outbox.ordered_len() >= MAX_ORDERED;
                match down {
                    Some(reason) if qos == Qos::AtMostOnce => return Err(MqttError::Unreachable(reason)),
                    Some(reason) if full => {
                        let text = format!("{reason}; {MAX_ORDERED} messages wait already");
                        return Err(MqttError::Unreachable(text));
                    }
                    None if full => {}
                    _ => {
                        outbox.push_ordered(message);
                        break;
                    }
                }
            }
            room.await;
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    fn down_reason(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            BrokerState::Connected { .. } => None,
            BrokerState::Connecting => Some(format!("{} is not connected yet", self.shared.url)),
            BrokerState::Down(reason) => Some(reason.clone()),
        }
    }

    /// How the connection stands, now and later.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<BrokerState> {
        self.shared.start();
        self.shared.state.subscribe()
    }

    /// Waits until the connection is up and the broker has answered every subscription made so far.
    pub async fn acknowledged(&self) {
        self.shared.start();
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            let connected = matches!(*self.shared.state.borrow(), BrokerState::Connected { .. });
            if connected && self.shared.routes().all_answered() {
                return;
            }
            progress.await;
        }
    }

    /// What the broker publishes for us when we vanish (QoS 1). Best before the first use of the connection; later
    /// it costs one reconnect.
    pub fn set_last_will(&self, topic: impl Into<String>, payload: impl Into<Bytes>, retain: bool) {
        let will = Outgoing { topic: topic.into(), payload: payload.into(), qos: Qos::AtLeastOnce, retain };
        let mut current = lock(&self.shared.will);
        if current.as_ref() != Some(&will) {
            *current = Some(will);
            self.shared.will_changed.store(true, Ordering::Release);
            self.shared.wake.notify_one();
        }
    }

    /// The URL without the password.
    #[must_use]
    pub fn url(&self) -> String {
        self.shared.url.to_string()
    }
}

fn check_outgoing(message: &Outgoing) -> Result<(), MqttError> {
    topic::check_topic(&message.topic).map_err(MqttError::Denied)?;
    if message.payload.len() > MAX_PAYLOAD {
        let (topic, bytes) = (&message.topic, message.payload.len());
        return Err(MqttError::Limit(format!("{bytes} bytes for `{topic}`; at most {MAX_PAYLOAD} are published")));
    }
    Ok(())
}

/// What the handles and the task of one connection share. No lock is held across an await.
pub(super) struct Shared {
    url: BrokerUrl,
    client_id: String,
    clock: Clock,
    routes: Mutex<Routes>,
    outbox: Mutex<Outbox>,
    will: Mutex<Option<Outgoing>>,
    will_changed: AtomicBool,
    last_error: Mutex<Option<String>>,
    state: watch::Sender<BrokerState>,
    /// Something for the task to do.
    wake: Notify,
    /// Subscriptions were answered, or the connection came up.
    progress: Notify,
    /// There may be room again for messages that keep their order, or no hope of it.
    room: Notify,
    started: AtomicBool,
    closing: AtomicBool,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    received: AtomicU64,
    too_large: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
}

impl Shared {
    pub(super) fn new(url: BrokerUrl, client_id: String, clock: Clock) -> Self {
        let state = match no_tls(&url) {
            Ok(()) => BrokerState::Connecting,
            Err(reason) => BrokerState::Down(reason),
        };
        Self {
            url,
            client_id,
            clock,
            routes: Mutex::default(),
            outbox: Mutex::default(),
            will: Mutex::default(),
            will_changed: AtomicBool::new(false),
            last_error: Mutex::default(),
            state: watch::Sender::new(state),
            wake: Notify::new(),
            progress: Notify::new(),
            room: Notify::new(),
            started: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    pub(super) fn status(&self) -> BrokerStatus {
        BrokerStatus {
            url: self.url.to_string(),
            state: self.state.borrow().clone(),
            last_error: lock(&self.last_error).clone(),
            received: self.counters.received.load(Ordering::Relaxed),
            too_large: self.counters.too_large.load(Ordering::Relaxed),
            sent: self.counters.sent.load(Ordering::Relaxed),
            superseded: self.outbox().superseded(),
            lost: self.counters.lost.load(Ordering::Relaxed),
        }
    }

    /// Tells the task to send what waits, to disconnect and to end.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether somebody still reads, or something waits to be sent.
    pub(super) fn is_needed(&self) -> bool {
        self.routes().has_readers() || !self.outbox().is_empty()
    }

    /// The connection is made when it is first used, so that a last will can be set before.
    fn start(&self) {
        self.started.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    fn check_possible(&self) -> Result<(), MqttError> {
        no_tls(&self.url).map_err(MqttError::Unreachable)
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        lock(&self.routes)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }
}

/// One clear sentence if the URL asks for TLS.
pub(super) fn no_tls(url: &BrokerUrl) -> Result<(), String> {
    if url.tls {
        return Err(format!("{url}: this build of ladekern has no TLS; use mqtt:// or mqtt5:// instead"));
    }
    Ok(())
}

/// A panic elsewhere must not spread through a lock: the data behind ours is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
