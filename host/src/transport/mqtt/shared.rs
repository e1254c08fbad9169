//! What the handles and the task of one connection share. No lock is held across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::duplicates::Duplicates;
use super::outbox::Outbox;
use super::packet::Will;
use super::routes::Routes;
use super::status::{BrokerState, BrokerStatus};
use crate::config::{BrokerTls, BrokerUrl};
use crate::site::{Clock, Moment};

/// The protocol version that has worked with a URL of version 5, until the process ends: `true` is 5, `false` is
/// 3.1.1.
pub(in crate::transport) type Versions = Arc<Mutex<HashMap<BrokerUrl, bool>>>;

/// See the module.
pub(in crate::transport) struct Shared {
    pub(super) url: BrokerUrl,
    pub(super) client_id: String,
    pub(super) clock: Clock,
    pub(super) versions: Versions,
    tls: Mutex<BrokerTls>,
    routes: Mutex<Routes>,
    outbox: Mutex<Outbox>,
    will: Mutex<Option<Will>>,
    pub(super) duplicates: Mutex<Duplicates>,
    pub(super) last_error: Mutex<Option<String>>,
    pub(super) times: Mutex<Times>,
    pub(super) state: watch::Sender<BrokerState>,
    /// Something for the task to do.
    pub(super) wake: Notify,
    /// Subscriptions were answered, or the connection came up.
    pub(super) progress: Notify,
    /// There may be room again for messages that keep their order, or no hope of it.
    pub(super) room: Notify,
    pub(super) started: AtomicBool,
    pub(super) closing: AtomicBool,
    /// Something changed that only a new connection can take over.
    pub(super) renew: AtomicBool,
    pub(super) counters: Counters,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) connected_since: Option<Moment>,
    pub(super) next_attempt: Option<Moment>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) received: AtomicU64,
    pub(super) too_large: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) lost: AtomicU64,
}

impl Shared {
    pub(in crate::transport) fn new(
        url: BrokerUrl,
        client_id: String,
        clock: Clock,
        tls: BrokerTls,
        versions: Versions,
    ) -> Self {
        Self {
            url,
            client_id,
            clock,
            versions,
            tls: Mutex::new(tls),
            routes: Mutex::default(),
            outbox: Mutex::default(),
            will: Mutex::default(),
            duplicates: Mutex::default(),
            last_error: Mutex::default(),
            times: Mutex::default(),
            state: watch::Sender::new(BrokerState::Connecting),
            wake: Notify::new(),
            progress: Notify::new(),
            room: Notify::new(),
            started: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            renew: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    pub(in crate::transport) fn status(&self) -> BrokerStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let times = *lock(&self.times);
        let (waiting, superseded) = {
            let outbox = self.outbox();
            (outbox.ordered_len(), outbox.superseded())
        };
        BrokerStatus {
            url: self.url.to_string(),
            client_id: self.client_id.clone(),
            state: self.state.borrow().clone(),
            connected_since: times.connected_since,
            next_attempt: times.next_attempt,
            last_error: lock(&self.last_error).clone(),
            refused_filters: self.routes().refused(),
            received: count(&self.counters.received),
            too_large: count(&self.counters.too_large),
            duplicates: count(&self.counters.duplicates),
            sent: count(&self.counters.sent),
            refused: count(&self.counters.refused),
            waiting,
            superseded,
            connections: count(&self.counters.connections),
            lost: count(&self.counters.lost),
        }
    }

    /// Tells the task to send what waits, to disconnect and to end.
    pub(in crate::transport) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Whether somebody still reads, or something waits to be sent.
    pub(in crate::transport) fn is_needed(&self) -> bool {
        self.routes().has_readers() || !self.outbox().is_empty()
    }

    /// Takes over other TLS settings, with a new connection if there is one.
    pub(in crate::transport) fn set_tls(&self, settings: BrokerTls) {
        let mut current = lock(&self.tls);
        if self.url.tls && *current != settings {
            *current = settings;
            self.renew();
        }
    }

    pub(super) fn tls(&self) -> BrokerTls {
        lock(&self.tls).clone()
    }

    /// What the broker publishes for us when we vanish.
    pub(super) fn set_will(&self, will: Will) {
        let mut current = lock(&self.will);
        if current.as_ref() != Some(&will) {
            *current = Some(will);
            self.renew();
        }
    }

    pub(super) fn will(&self) -> Option<Will> {
        lock(&self.will).clone()
    }

    fn renew(&self) {
        self.renew.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// The connection is made when it is first used, so that a last will can be set before.
    pub(super) fn start(&self) {
        self.started.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn routes(&self) -> MutexGuard<'_, Routes> {
        lock(&self.routes)
    }

    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        lock(&self.outbox)
    }
}

/// A panic elsewhere must not spread through a lock: the data behind ours is whole between any two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
