//! How long to wait before a wire is tried again: doubling from half a second to half a minute, with jitter, so that
//! a hundred wires that fell together do not come back together. Never waits itself.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The wait lies between half a step and all of it, so the first is half a second at least.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures and says how long to wait after each.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: between half and all of the doubled step.
    pub(crate) fn next(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // RandomState is seeded by the system; its hash of nothing is random enough to spread reconnects.
        let random = RandomState::new().hash_one(0u8) % 1000;
        step / 2 + (step / 2).mul_f64(random as f64 / 1000.0)
    }

    /// The wire has worked for this long and then fallen. What falls again and again soon after it was opened is not
    /// well: only a wire that has held as long as the longest wait starts over.
    pub(crate) fn has_held(&mut self, time: Duration) {
        if time >= LONGEST {
            self.reset();
        }
    }

    /// The wire works again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b1_waits_double_from_half_a_second_up_to_half_a_minute_and_start_over() {
        let mut backoff = Backoff::default();
        for expected_ms in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let wait = backoff.next().as_millis();
            assert!((expected_ms / 2..=expected_ms).contains(&wait), "{wait} ms is not within {expected_ms}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn b1_a_wire_that_has_not_held_for_half_a_minute_does_not_start_over() {
        let mut backoff = Backoff::default();
        for _ in 0..6 {
            backoff.next();
        }
        backoff.has_held(LONGEST - Duration::from_millis(1));
        assert!(backoff.next() >= LONGEST / 2);
        backoff.has_held(LONGEST);
        assert!(backoff.next() <= FIRST);
    }
}
