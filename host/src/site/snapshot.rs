//! The latest state of every device, gathered without a lock that a device could hold: each device publishes into
//! its own channel, a snapshot reads them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{DeviceId, Info, Measured, Moment, Values};

/// How a device and its driver are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Not yet opened.
    #[default]
    Starting,
    /// Opened, and the last exchange succeeded.
    Running,
    /// The device does not answer; the driver is fine and keeps trying.
    Offline(String),
    /// The driver trapped, timed out or broke a limit; it is started again at `retry_at`.
    Faulted {
        /// What happened.
        reason: String,
        /// When it is tried again.
        retry_at: Moment,
    },
    /// Too many faults; only a new file, a changed binding or a person ends this.
    Quarantined(String),
    /// The configuration cannot work; retrying cannot help.
    Misconfigured(String),
    /// The plugin's folder is gone.
    MissingDriver(String),
}

impl Health {
    /// Whether values of this device may be believed as far as their age allows.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Health::Running)
    }

    /// One word and the reason, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Health::Starting => "starting".into(),
            Health::Running => "running".into(),
            Health::Offline(why) => format!("offline: {why}"),
            Health::Faulted { reason, .. } => format!("faulted: {reason}"),
            Health::Quarantined(why) => format!("quarantined: {why}"),
            Health::Misconfigured(why) => format!("misconfigured: {why}"),
            Health::MissingDriver(why) => format!("missing driver: {why}"),
        }
    }
}

/// Everything the site knows about one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceStatus {
    /// How it is doing.
    pub health: Health,
    /// Name and version of the driver that runs, `tasmota 0.1.0`; empty for built-in types.
    pub driver: String,
    /// Why the newest plugin or definition file was not taken into use; the older one goes on.
    pub update_failed: Option<String>,
    /// Who it is.
    pub info: Info,
    /// The newest value of everything.
    pub values: Values,
    /// Values older than this are not to be used.
    pub stale_after: Duration,
    /// Exchanges that failed since the start.
    pub errors: u64,
    /// Text of the last failed exchange; stays after recovery.
    pub last_error: String,
    /// Since when nothing has succeeded.
    pub failing_since: Option<Moment>,
    /// Polls and messages that succeeded since the start.
    pub successes: u64,
    /// The last current in mA that the device accepted, and when; 0 is a pause.
    pub commanded: Option<Measured<u32>>,
    /// Whether charging is allowed by the last order that said so; for devices that read their orders and do not
    /// report `charging.enabled` themselves.
    pub enable_ordered: Option<bool>,
}

impl DeviceStatus {
    /// The oldest moment whose values may still be used at `now`. Never `Moment(0)`, which stands for an unknown age
    /// and is not fresh even in the first seconds after the start.
    #[must_use]
    pub fn not_before(&self, now: Moment) -> Moment {
        Moment(now.0.saturating_sub(u64::try_from(self.stale_after.as_millis()).unwrap_or(u64::MAX)).max(1))
    }

    /// Whether the device counts as silent at `now`: its driver is not running, or nothing it said is fresh.
    #[must_use]
    pub fn com_err(&self, now: Moment) -> bool {
        !self.health.is_running() || self.values.newest().is_none_or(|at| at < self.not_before(now))
    }
}

/// All devices at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When it was taken.
    pub at: Moment,
    /// Every configured device.
    pub devices: BTreeMap<DeviceId, DeviceStatus>,
}

/// Where the newest status of each device is read.
pub trait Statuses {
    /// What `read` makes of a device's status; `None`: there is no such device. `read` must not wait.
    fn with<T>(&self, id: &DeviceId, read: impl FnOnce(&DeviceStatus) -> T) -> Option<T>;
}

impl Statuses for Board {
    fn with<T>(&self, id: &DeviceId, read: impl FnOnce(&DeviceStatus) -> T) -> Option<T> {
        Board::with(self, id, read)
    }
}

impl Statuses for Snapshot {
    fn with<T>(&self, id: &DeviceId, read: impl FnOnce(&DeviceStatus) -> T) -> Option<T> {
        self.devices.get(id).map(read)
    }
}

/// Where devices publish and everybody else reads.
#[derive(Clone, Debug, Default)]
pub struct Board {
    inner: Arc<BoardInner>,
}

#[derive(Debug, Default)]
struct BoardInner {
    devices: Mutex<BTreeMap<DeviceId, watch::Receiver<DeviceStatus>>>,
    /// Counts the changes of all devices, so that a reader who was busy misses none.
    changes: watch::Sender<u64>,
}

/// The one writer of one device's status.
#[derive(Debug)]
pub struct StatusSender {
    id: DeviceId,
    board: Board,
    sender: watch::Sender<DeviceStatus>,
}

impl Board {
    /// Registers a device; a second registration of the same id takes the place of the first.
    #[must_use]
    pub fn register(&self, id: DeviceId) -> StatusSender {
        let (sender, receiver) = watch::channel(DeviceStatus::default());
        self.lock().insert(id.clone(), receiver);
        self.note_change();
        StatusSender { id, board: self.clone(), sender }
    }

    /// The state of every registered device.
    #[must_use]
    pub fn snapshot(&self, at: Moment) -> Snapshot {
        let devices = self.lock().iter().map(|(id, status)| (id.clone(), status.borrow().clone())).collect();
        Snapshot { at, devices }
    }

    /// The state of one device.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<DeviceStatus> {
        self.lock().get(id).map(|status| status.borrow().clone())
    }

    /// What `read` makes of one device's state, without a copy of it. `read` must not wait: the device's task is held
    /// up meanwhile.
    pub fn with<T>(&self, id: &DeviceId, read: impl FnOnce(&DeviceStatus) -> T) -> Option<T> {
        let status = self.lock().get(id).cloned()?;
        let read = read(&status.borrow());
        Some(read)
    }

    /// A channel that follows one device.
    #[must_use]
    pub fn follow(&self, id: &DeviceId) -> Option<watch::Receiver<DeviceStatus>> {
        self.lock().get(id).cloned()
    }

    /// A counter that grows with every change of any device: `changed().await` on it waits for the next one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    fn note_change(&self) {
        self.inner.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<DeviceId, watch::Receiver<DeviceStatus>>> {
        // The map is only ever inserted into and read: a panic elsewhere cannot leave it half changed.
        self.inner.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StatusSender {
    /// The device this writes for.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    /// Changes the status and tells everybody who waits.
    pub fn update(&self, change: impl FnOnce(&mut DeviceStatus)) {
        self.sender.send_modify(change);
        self.board.note_change();
    }

    /// A copy of the present status.
    #[must_use]
    pub fn status(&self) -> DeviceStatus {
        self.sender.borrow().clone()
    }
}

impl Drop for StatusSender {
    fn drop(&mut self) {
        let mut devices = self.board.lock();
        // A reload may have registered the same id anew; then the entry belongs to the newcomer.
        if devices.get(&self.id).is_some_and(|receiver| receiver.same_channel(&self.sender.subscribe())) {
            devices.remove(&self.id);
        }
        drop(devices);
        self.board.note_change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Outcome;

    #[test]
    fn a_value_of_unknown_age_is_silent_even_right_after_the_start() {
        let mut status =
            DeviceStatus { health: Health::Running, stale_after: Duration::from_secs(60), ..Default::default() };
        let outcome = Outcome { readings: vec![("power.total".into(), Some(1.0))], ..Default::default() };
        status.values.merge(outcome.clone(), Moment(0));
        let now = Moment(2_000);
        assert!(status.com_err(now));
        assert_eq!(status.values.fresh("power.total", status.not_before(now)), None);
        status.values.merge(outcome, now);
        assert!(!status.com_err(now));
    }
}
