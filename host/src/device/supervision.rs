//! When a driver is started, given up for a while, or given up for good: a state machine over plain numbers. It
//! starts nothing, waits for nothing and reads no clock; the device task tells it what happened and asks what to do.

use std::collections::VecDeque;
use std::time::Duration;

use crate::site::{Health, Moment};

/// The longest a device that does not answer is left alone.
pub const LONGEST_POLL: Duration = Duration::from_secs(30);
/// Wait after the first fault; doubled with each further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait between two attempts, before jitter.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Success for this long makes the next fault the first one again.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// So many faults within [`FAULT_WINDOW`] end in quarantine.
pub const FAULTS_TO_QUARANTINE: usize = 5;
/// See [`FAULTS_TO_QUARANTINE`].
pub const FAULT_WINDOW: Duration = Duration::from_secs(600);
/// Share by which a wait may be shorter or longer, so that drivers that failed together do not return together.
pub const JITTER: f64 = 0.2;

/// A source of numbers in 0..1. Random in the host, a script in tests.
pub type Jitter = Box<dyn FnMut() -> f64 + Send>;

/// What the device task may do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The driver may run or be started.
    Run,
    /// A start is allowed from this moment on.
    WaitUntil(Moment),
    /// Nothing is started until [`Supervisor::reset`].
    Never,
}

/// Counts what one driver does and decides how the host reacts.
pub struct Supervisor {
    jitter: Jitter,
    state: State,
    /// Faults within the window, oldest first. Success does not clear it: a driver that dies once a minute would
    /// open the contactor once a minute for ever.
    faults: VecDeque<Moment>,
    /// Faults since the driver was last well for [`FORGIVEN_AFTER`].
    in_a_row: u32,
    /// Since when every exchange has succeeded.
    well_since: Option<Moment>,
    /// Failed exchanges (offline, protocol) in a row.
    unanswered: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Backoff { until: Moment, reason: String },
    Quarantined(String),
    Misconfigured(String),
    Missing(String),
}

impl Supervisor {
    /// A supervisor of a driver that has not done anything yet.
    #[must_use]
    pub fn new(jitter: Jitter) -> Self {
        Self { jitter, state: State::Ready, faults: VecDeque::new(), in_a_row: 0, well_since: None, unanswered: 0 }
    }

    /// Whether the driver may be started at `now`.
    #[must_use]
    pub fn permission(&self, now: Moment) -> Permission {
        match &self.state {
            State::Backoff { until, .. } if *until > now => Permission::WaitUntil(*until),
            State::Ready | State::Backoff { .. } => Permission::Run,
            State::Quarantined(_) | State::Misconfigured(_) | State::Missing(_) => Permission::Never,
        }
    }

    /// A trap, a timeout or a broken limit: the instance is gone.
    pub fn fault(&mut self, now: Moment, reason: String) {
        self.well_since = None;
        self.faults.push_back(now);
        while self.faults.front().is_some_and(|first| now.since(*first) >= FAULT_WINDOW) {
            self.faults.pop_front();
        }
        if self.faults.len() >= FAULTS_TO_QUARANTINE {
            let text = format!(
                "{} faults within {} minutes, the last one: {reason}",
                self.faults.len(),
                FAULT_WINDOW.as_secs() / 60
            );
            self.state = State::Quarantined(text);
            return;
        }
        let wait = FIRST_BACKOFF.saturating_mul(1 << self.in_a_row.min(16)).min(LONGEST_BACKOFF);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let spread = 1.0 + JITTER * (2.0 * (self.jitter)().clamp(0.0, 1.0) - 1.0);
        self.state = State::Backoff { until: now.after(wait.mul_f64(spread)), reason };
    }

    /// The device did not answer, or answered nonsense. The driver is fine.
    pub fn unanswered(&mut self) {
        self.well_since = None;
        self.unanswered = self.unanswered.saturating_add(1);
        self.back_to_ready();
    }

    /// An exchange succeeded.
    pub fn success(&mut self, now: Moment) {
        self.unanswered = 0;
        self.back_to_ready();
        let since = *self.well_since.get_or_insert(now);
        if now.since(since) >= FORGIVEN_AFTER {
            self.in_a_row = 0;
        }
    }

    /// The configuration cannot work: no retries.
    pub fn misconfigured(&mut self, reason: String) {
        self.state = State::Misconfigured(reason);
    }

    /// There is no plugin of this type.
    pub fn missing(&mut self, reason: String) {
        self.state = State::Missing(reason);
    }

    /// A new file, a changed binding or a person asks for a fresh start.
    pub fn reset(&mut self) {
        self.state = State::Ready;
        self.faults.clear();
        self.in_a_row = 0;
        self.well_since = None;
        self.unanswered = 0;
    }

    /// How long to wait for the next poll of a device that is normally polled every `base`: doubled with each
    /// failed exchange, up to [`LONGEST_POLL`] (or `base`, if that is longer).
    #[must_use]
    pub fn stretched(&self, base: Duration) -> Duration {
        base.saturating_mul(1 << self.unanswered.min(16)).min(LONGEST_POLL.max(base))
    }

    /// What to publish while the driver does not run; `None`: nothing keeps it from running.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        match &self.state {
            State::Ready => None,
            State::Backoff { until, reason } => Some(Health::Faulted { reason: reason.clone(), retry_at: *until }),
            State::Quarantined(reason) => Some(Health::Quarantined(reason.clone())),
            State::Misconfigured(reason) => Some(Health::Misconfigured(reason.clone())),
            State::Missing(reason) => Some(Health::MissingDriver(reason.clone())),
        }
    }

    fn back_to_ready(&mut self) {
        if matches!(self.state, State::Backoff { .. }) {
            self.state = State::Ready;
        }
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("state", &self.state).field("faults", &self.faults).finish_non_exhaustive()
    }
}

/// Jitter from the hasher that the standard library seeds from the system: good enough to spread restarts.
#[must_use]
pub fn random_jitter() -> Jitter {
    use std::hash::BuildHasher;
    let state = std::collections::hash_map::RandomState::new();
    let mut count = 0_u64;
    Box::new(move || {
        count = count.wrapping_add(1);
        // The upper 32 bits fit into an f64 without rounding.
        f64::from(u32::try_from(state.hash_one(count) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn secs(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn supervisor(jitter: f64) -> Supervisor {
        Supervisor::new(Box::new(move || jitter))
    }

    fn wait_after_fault(s: &mut Supervisor, now: Moment) -> Duration {
        s.fault(now, "trap".into());
        match s.permission(now) {
            Permission::WaitUntil(at) => at.since(now),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn backoff_doubles_with_each_fault_and_jitter_spreads_it_by_a_fifth() {
        let mut s = supervisor(0.5);
        let mut now = Moment(1_000);
        let waits: Vec<Duration> = (0..4)
            .map(|_| {
                now = now.after(secs(1));
                wait_after_fault(&mut s, now)
            })
            .collect();
        assert_eq!(waits, [secs(1), secs(2), secs(4), secs(8)]);
        assert_eq!(wait_after_fault(&mut supervisor(0.0), now), Duration::from_millis(800));
        assert_eq!(wait_after_fault(&mut supervisor(1.0), now), Duration::from_millis(1_200));
    }

    #[test]
    fn backoff_ends_at_sixty_seconds() {
        let mut s = supervisor(0.5);
        let mut now = Moment(1_000);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            // Rarer than the window allows for a quarantine, and never well in between.
            now = now.after(secs(200));
            last = wait_after_fault(&mut s, now);
        }
        assert_eq!(last, secs(60));
    }

    #[test]
    fn a_minute_of_success_is_forgiven_a_shorter_time_is_not() {
        for (well_for, expected) in [(59, secs(4)), (60, secs(1))] {
            let mut s = supervisor(0.5);
            let mut now = Moment(1_000);
            wait_after_fault(&mut s, now);
            now = now.after(secs(5));
            wait_after_fault(&mut s, now);
            now = now.after(secs(5));
            for _ in 0..=well_for {
                s.success(now);
                now = now.after(secs(1));
            }
            assert_eq!(wait_after_fault(&mut s, now), expected, "well for {well_for} s");
        }
    }

    #[test]
    fn a_failed_exchange_interrupts_the_minute_of_success() {
        let mut s = supervisor(0.5);
        let mut now = Moment(1_000);
        wait_after_fault(&mut s, now);
        for second in 0..70 {
            now = now.after(secs(1));
            if second == 35 { s.unanswered() } else { s.success(now) }
        }
        assert_eq!(wait_after_fault(&mut s, now), secs(2));
    }

    #[test]
    fn five_faults_in_ten_minutes_are_quarantined_until_somebody_acts() {
        let mut s = supervisor(0.5);
        let mut now = Moment(1_000);
        for _ in 0..4 {
            s.fault(now, "trap".into());
            // Well for more than a minute in between: the backoff is forgiven, the count is not.
            for _ in 0..100 {
                now = now.after(secs(1));
                s.success(now);
            }
        }
        assert_eq!(s.permission(now), Permission::Run);
        s.fault(now, "unreachable".into());
        assert_eq!(s.permission(now.after(secs(1_000_000))), Permission::Never);
        match s.health() {
            Some(Health::Quarantined(reason)) => assert!(reason.contains("5 faults") && reason.contains("unreachable")),
            other => panic!("{other:?}"),
        }
        s.reset();
        assert_eq!((s.permission(now), s.health()), (Permission::Run, None));
        assert_eq!(wait_after_fault(&mut s, now), secs(1));
    }

    #[test]
    fn an_unanswered_device_stretches_the_interval_and_is_no_fault() {
        let mut s = supervisor(0.5);
        let mut seen = Vec::new();
        for _ in 0..7 {
            seen.push(s.stretched(secs(1)).as_secs());
            s.unanswered();
            assert_eq!(s.permission(Moment(0)), Permission::Run);
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(s.stretched(secs(60)), secs(60), "a slow device is not polled faster because it fails");
        s.success(Moment(1));
        assert_eq!(s.stretched(secs(1)), secs(1));
    }

    #[test]
    fn a_wrong_configuration_or_a_missing_driver_is_never_retried_by_itself() {
        for missing in [false, true] {
            let mut s = supervisor(0.5);
            if missing {
                s.missing("gone".into())
            } else {
                s.misconfigured("bad".into())
            }
            s.success(Moment(5));
            s.unanswered();
            assert_eq!(s.permission(Moment(u64::MAX)), Permission::Never);
            s.reset();
            assert_eq!(s.permission(Moment(5)), Permission::Run);
        }
    }

    #[test]
    fn the_hosts_jitter_lies_between_zero_and_one_and_varies() {
        let mut jitter = random_jitter();
        let drawn: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|x| (0.0..=1.0).contains(x)));
        assert!(drawn.iter().any(|x| *x < 0.5) && drawn.iter().any(|x| *x > 0.5));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Fault,
        Success,
        Unanswered,
        Pass(u16),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Fault),
            Just(Event::Success),
            Just(Event::Unanswered),
            (0..600_u16).prop_map(Event::Pass)
        ];
        proptest::collection::vec(event, 0..60)
    }

    proptest! {
        /// Whatever happens: never more than four restarts in a window, waits within their bounds, quarantine only
        /// with five faults in the window and then for ever, no wait without a fault.
        #[test]
        fn restarts_are_bounded(events in events(), jitter in 0.0..=1.0_f64) {
            let mut s = supervisor(jitter);
            let mut now = Moment(1_000);
            let mut faults: Vec<Moment> = Vec::new();
            let mut quarantined = false;
            for event in events {
                match event {
                    Event::Fault if quarantined => {}
                    Event::Fault => {
                        faults.push(now);
                        s.fault(now, "trap".into());
                        let recent = faults.iter().filter(|at| now.since(**at) < FAULT_WINDOW).count();
                        quarantined = recent >= FAULTS_TO_QUARANTINE;
                        if let Permission::WaitUntil(at) = s.permission(now) {
                            let wait = at.since(now);
                            prop_assert!(wait >= Duration::from_millis(800) && wait <= secs(72), "{wait:?}");
                        }
                    }
                    Event::Success => s.success(now),
                    Event::Unanswered => s.unanswered(),
                    Event::Pass(seconds) => now = now.after(secs(seconds.into())),
                }
                prop_assert_eq!(s.permission(now) == Permission::Never, quarantined);
                prop_assert_eq!(matches!(s.health(), Some(Health::Quarantined(_))), quarantined);
                prop_assert!(s.stretched(secs(1)) >= secs(1) && s.stretched(secs(1)) <= LONGEST_POLL);
            }
        }
    }
}
