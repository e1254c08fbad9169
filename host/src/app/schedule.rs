//! When the file is written. Flash memory wears out, so that changes are gathered. Knows monotonic time only.

use std::time::Duration;

use tokio::time::Instant;

/// A change is written after this time, with all that follow meanwhile.
pub(super) const SOON: Duration = Duration::from_millis(300);
/// At most one write in this time.
pub(super) const GAP: Duration = Duration::from_secs(10);
/// The wait after the first attempt that failed; it doubles …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The state of writing.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    changed: Option<Instant>,
    written: Option<Instant>,
    failures: u32,
    retry: Option<Instant>,
}

impl Schedule {
    /// Whether there is something to write, now.
    pub fn set(&mut self, dirty: bool, now: Instant) {
        self.changed = dirty.then(|| self.changed.unwrap_or(now));
    }

    /// When to write next; `None`: there is nothing to write.
    pub fn due(&self) -> Option<Instant> {
        let soon = self.changed? + SOON;
        let gap = self.written.map(|written| written + GAP);
        [Some(soon), gap, self.retry].into_iter().flatten().max()
    }

    /// The file was written.
    pub fn written(&mut self, now: Instant) {
        *self = Self { written: Some(now), ..Self::default() };
    }

    /// It was not; the wait until the next attempt.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(1 << self.failures.min(10)).min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(now + wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_change_is_written_soon_and_the_next_ones_ten_seconds_later() {
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(), None);
        let start = Instant::now();
        schedule.set(true, start);
        schedule.set(true, start + SOON / 2);
        assert_eq!(schedule.due(), Some(start + SOON), "further changes do not put it off");
        schedule.written(start + SOON);
        assert_eq!(schedule.due(), None);
        schedule.set(true, start + SOON);
        assert_eq!(schedule.due(), Some(start + SOON + GAP));
        schedule.set(false, start + SOON);
        assert_eq!(schedule.due(), None, "what was taken back is not written");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_fail_become_rare_and_one_that_succeeds_ends_that() {
        let mut schedule = Schedule::default();
        let mut now = Instant::now();
        schedule.set(true, now);
        let waits: Vec<u64> = (0..9).map(|_| schedule.failed(now).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(schedule.due(), Some(now + LAST_RETRY));
        now += LAST_RETRY;
        schedule.written(now);
        schedule.set(true, now);
        assert_eq!(schedule.due(), Some(now + GAP));
        assert_eq!(schedule.failed(now), FIRST_RETRY);
    }
}
