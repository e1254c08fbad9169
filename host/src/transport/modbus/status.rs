//! What a person is told about a bus.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One bus as a person sees it. Counters run from the start of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusStatus {
    /// The wire as the configuration spells it.
    pub wire: String,
    /// The line is open. It is opened when it is first needed.
    pub connected: bool,
    /// What went wrong last with the line or a request, also if it works again.
    pub last_error: Option<String>,
    /// Requests sent.
    pub requests: u64,
    /// Requests that got no answer or a bad one; exceptions are answers.
    pub errors: u64,
    /// Reads that were answered by a request they shared with another read.
    pub merged: u64,
    /// How often the line was opened after the first time.
    pub reconnects: u64,
    /// Requests that wait.
    pub waiting: usize,
}

/// The counters behind it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicBool,
    pub(super) last_error: Mutex<Option<String>>,
    pub(super) requests: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) merged: AtomicU64,
    pub(super) opened: AtomicU64,
}

impl Counters {
    pub(super) fn snapshot(&self, wire: String, waiting: usize) -> BusStatus {
        BusStatus {
            wire,
            connected: self.connected.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            merged: self.merged.load(Ordering::Relaxed),
            reconnects: self.opened.load(Ordering::Relaxed).saturating_sub(1),
            waiting,
        }
    }

    pub(super) fn note_error(&self, text: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}
