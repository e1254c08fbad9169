//! Monotonic time as plain numbers, so that pure code can compute with it and never asks a clock itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds on the host's monotonic clock, counted from the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Time that passed since `earlier`; zero if `earlier` lies in the future.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `by` later.
    #[must_use]
    pub fn after(self, by: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// The one source of [`Moment`]s. Follows tokio's clock, so a test that pauses tokio's time pauses this one too.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    /// A clock that reads 1 000 ms now. Not 0, so that subtracting a few seconds from "now" saturates visibly
    /// late in tests only, and `Moment(0)` can stand for "before everything".
    #[must_use]
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(1_000 + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Unix time in milliseconds; `None` while the system's clock stands before 2024, which is what a board
    /// without a battery shows until it has reached a time server.
    #[must_use]
    pub fn unix_ms(&self) -> Option<u64> {
        const YEAR_2024_MS: u64 = 1_704_067_200_000;
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis();
        u64::try_from(ms).ok().filter(|ms| *ms >= YEAR_2024_MS)
    }
}
