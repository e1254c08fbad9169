//! What one connection is doing, for those who have to end it: a client that sends its request drop by drop, that
//! does not read its answer, that has nothing more to say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// From the first byte of a request to the end of its headers, and from the connection to its first byte.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(10);
/// A connection without a request is kept for so long.
const IDLE_TIME: Duration = Duration::from_secs(75);
/// A client that takes nothing of its answer for so long is gone.
const WRITE_TIME: Duration = Duration::from_secs(15);
/// How often connections are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request.
    Idle,
    /// Something of it has come.
    Head,
    /// It is being answered. Bodies have limits of their own.
    Busy,
    /// The answer is on its way.
    Answered,
}

/// How a connection is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// With an answer: the request did not come in time.
    Slow,
    /// Without.
    Quiet,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    stalled: Option<Instant>,
    /// The request line of the present head is complete.
    line: bool,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    /// Told when the connection is to make room.
    pub leave: Notify,
}

impl Pulse {
    /// A connection that has just been made: its request is awaited now.
    pub fn new() -> Arc<Self> {
        let state = State { phase: Phase::Head, since: Instant::now(), stalled: None, line: false };
        Arc::new(Self { state: Mutex::new(state), leave: Notify::new() })
    }

    /// Bytes came.
    pub fn read(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.phase == Phase::Idle {
            *state = State { phase: Phase::Head, since: Instant::now(), stalled: None, line: false };
        }
        if state.phase == Phase::Head {
            state.line |= bytes.contains(&b'\n');
        }
    }

    /// A request is complete but for its body.
    pub fn request(&self) {
        self.enter(Phase::Busy);
    }

    /// It has its answer.
    pub fn answered(&self) {
        self.enter(Phase::Answered);
    }

    /// Everything is written.
    pub fn flushed(&self) {
        let mut state = self.lock();
        state.stalled = None;
        if state.phase == Phase::Answered {
            state.phase = Phase::Idle;
            state.since = Instant::now();
        }
    }

    /// Whether the client took something of what is written.
    pub fn wrote(&self, something: bool) {
        let mut state = self.lock();
        state.stalled = if something { None } else { state.stalled.or_else(|| Some(Instant::now())) };
    }

    /// Whether the request line of the present head has come whole.
    pub fn has_line(&self) -> bool {
        self.lock().line
    }

    /// Nothing is answered any more; the client may still be reading.
    pub fn ended(&self) {
        self.enter(Phase::Idle);
    }

    /// Since when nothing is being answered; those that wait between requests go before those that send one.
    pub fn expendable(&self) -> Option<(bool, Instant)> {
        let state = self.lock();
        match state.phase {
            Phase::Idle => Some((false, state.since)),
            Phase::Head => Some((true, state.since)),
            Phase::Busy | Phase::Answered => None,
        }
    }

    /// Whether the connection has to end now.
    pub fn overdue(&self) -> Option<Overdue> {
        let state = self.lock();
        let now = Instant::now();
        let over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        if state.stalled.is_some_and(|since| over(since, WRITE_TIME)) {
            return Some(Overdue::Quiet);
        }
        match state.phase {
            Phase::Head if over(state.since, HEAD_TIME) => Some(Overdue::Slow),
            Phase::Idle if over(state.since, IDLE_TIME) => Some(Overdue::Quiet),
            _ => None,
        }
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = phase;
        state.since = Instant::now();
        state.line = false;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
