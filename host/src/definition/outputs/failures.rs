//! How many outputs did not arrive, for whoever shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::site::DeviceId;

/// Attempts of each device that failed since the start; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Failures(Arc<Mutex<BTreeMap<DeviceId, Counter>>>);

/// Counts for one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter(Arc<AtomicU64>);

impl Failures {
    /// `None`: the device has had no outputs since the start.
    #[must_use]
    pub fn count(&self, device: &DeviceId) -> Option<u64> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.get(device).map(|counter| counter.0.load(Ordering::Relaxed))
    }

    /// Counts on where the device had been before.
    pub(super) fn counter(&self, device: &DeviceId) -> Counter {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(device.clone()).or_default().clone()
    }
}

impl Counter {
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
