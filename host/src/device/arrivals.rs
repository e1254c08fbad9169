//! How often a fed device is fed, and from that how soon its values are too old to be used (contract rule B12).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::site::Moment;

/// Values of a fed device are used for this long if nothing else is known.
pub const FED_STALE_AFTER: Duration = Duration::from_secs(60);
/// No value is called old earlier than this.
pub const LEAST_STALE_AFTER: Duration = Duration::from_secs(10);
/// Missed intervals after which a device counts as silent.
const MISSED: u32 = 3;
/// More sources than any device has; a broker with endless topics must not fill the memory.
const MOST_SOURCES: usize = 256;

/// Intervals at which the sources of one device arrive.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    sources: BTreeMap<String, Source>,
}

#[derive(Clone, Copy, Debug)]
struct Source {
    last: Moment,
    smoothed: Option<Duration>,
}

impl Arrivals {
    /// A message of `source` (a topic) arrived live, not as a retained one.
    pub fn note(&mut self, source: &str, at: Moment) {
        if let Some(known) = self.sources.get_mut(source) {
            let gap = at.since(known.last);
            known.last = at;
            // A quarter of the new gap: one late message does not change what is normal.
            known.smoothed = Some(known.smoothed.map_or(gap, |old| (old * 3 + gap) / 4));
        } else if self.sources.len() < MOST_SOURCES {
            self.sources.insert(source.to_owned(), Source { last: at, smoothed: None });
        }
    }

    /// Three times the interval of the slowest source, at least 10 s, at most 60 s. A source that came only once has
    /// no interval.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        let slowest = self.sources.values().filter_map(|source| source.smoothed).max();
        slowest.map_or(FED_STALE_AFTER, |interval| interval * MISSED).clamp(LEAST_STALE_AFTER, FED_STALE_AFTER)
    }
}

/// Age at which values of a device that is polled every `interval` are too old: three intervals, at least 10 s.
#[must_use]
pub fn polled_stale_after(interval: Duration) -> Duration {
    interval.saturating_mul(MISSED).max(LEAST_STALE_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(gaps_ms: &[u64]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        let mut at = Moment(1_000);
        arrivals.note("SENSOR", at);
        for gap in gaps_ms {
            at = Moment(at.0 + gap);
            arrivals.note("SENSOR", at);
        }
        arrivals
    }

    #[test]
    fn three_intervals_within_ten_and_sixty_seconds() {
        assert_eq!(Arrivals::default().stale_after(), FED_STALE_AFTER);
        assert_eq!(fed(&[]).stale_after(), FED_STALE_AFTER);
        assert_eq!(fed(&[1_000, 1_000]).stale_after(), Duration::from_secs(10));
        assert_eq!(fed(&[10_000, 10_000]).stale_after(), Duration::from_secs(30));
        assert_eq!(fed(&[300_000, 300_000]).stale_after(), Duration::from_secs(60));
    }

    #[test]
    fn one_late_message_is_not_the_new_normal() {
        assert_eq!(fed(&[4_000, 4_000, 4_000, 8_000]).stale_after(), Duration::from_secs(15));
    }

    #[test]
    fn the_slowest_source_decides() {
        let mut arrivals = fed(&[5_000, 5_000]);
        arrivals.note("STATE", Moment(1_000));
        assert_eq!(arrivals.stale_after(), Duration::from_secs(15), "once is no interval");
        arrivals.note("STATE", Moment(16_000));
        assert_eq!(arrivals.stale_after(), Duration::from_secs(45));
    }

    #[test]
    fn polled_devices_age_with_their_interval() {
        assert_eq!(polled_stale_after(Duration::from_secs(1)), Duration::from_secs(10));
        assert_eq!(polled_stale_after(Duration::from_secs(30)), Duration::from_secs(90));
    }
}
