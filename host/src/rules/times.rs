//! What keeps charging by rules from coming and going: shortest times of charging and of pausing, and a surplus that
//! follows its measurement only where that stays. Pure.

use std::time::Duration;

use crate::site::{Because, Moment};

/// So long a car charges at least once it has begun (load manager, section 2 step 8): contactors and cars wear out.
pub const SHORTEST_RUN: Duration = Duration::from_secs(60);
/// So long it pauses at least after that.
pub const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
/// The same after charging from surplus: the next cloud comes soon.
pub const SHORTEST_SURPLUS_PAUSE: Duration = Duration::from_secs(180);
/// A car that changes its current is seen by its own meter and by that of the grid at different moments; between them
/// the difference of the two is wrong. A surplus counts once it has been there for so long.
pub const SETTLES: Duration = Duration::from_secs(6);

/// Whether a wallbox charges by its rules, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// `None`: nothing has been decided for this car yet.
    state: Option<(State, Moment)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Runs { surplus: bool },
    Pauses { least: Duration },
}

impl Pace {
    /// Whether it charges.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self.state, Some((State::Runs { .. }, _)))
    }

    /// Lets `wanted` through where that keeps the shortest times, else what keeps them: `least` to go on charging, 0 to
    /// go on pausing. Where a value is missing charging ends at once.
    pub fn keep(&mut self, wanted: (u32, Because), surplus: bool, least: u32, now: Moment) -> (u32, Because) {
        let (ma, because) = wanted;
        match self.state {
            Some((State::Runs { surplus: was }, since)) if ma == 0 => {
                if !matches!(because, Because::Missing | Because::Mistake) && now.since(since) < SHORTEST_RUN {
                    return (least, Because::ShortestRun);
                }
                let least = if was { SHORTEST_SURPLUS_PAUSE } else { SHORTEST_PAUSE };
                self.state = Some((State::Pauses { least }, now));
            }
            Some((State::Runs { .. }, since)) => self.state = Some((State::Runs { surplus }, since)),
            Some((State::Pauses { least }, since)) if ma > 0 && now.since(since) < least => {
                return (0, Because::ShortestPause);
            }
            _ if ma > 0 => self.state = Some((State::Runs { surplus }, now)),
            // Nothing to keep: it has not charged yet.
            _ => {}
        }
        wanted
    }

    /// Another car, other rules: what was decided before does not count.
    pub fn forget(&mut self) {
        self.state = None;
    }
}

/// A measurement of which only what lasts counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Steady {
    recent: Vec<(Moment, f64)>,
    shown: Option<f64>,
}

impl Steady {
    /// Takes in a value; the answer is the last answer unless all values of the last [`SETTLES`] lie above or below it.
    /// A value that is missing is missing at once.
    pub fn take(&mut self, value: Option<f64>, now: Moment) -> Option<f64> {
        let Some(value) = value else {
            *self = Self::default();
            return None;
        };
        self.recent.retain(|(at, _)| now.since(*at) < SETTLES);
        self.recent.push((now, value));
        let least = self.recent.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let most = self.recent.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        // At the beginning nothing has lasted: the least of it.
        let shown = self.shown.map_or(least, |shown| shown.max(least).min(most));
        self.shown = Some(shown);
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(1_000 + seconds * 1_000)
    }

    #[test]
    fn charging_and_pausing_last_their_time() {
        let mut pace = Pace::default();
        let surplus = |pace: &mut Pace, ma, second| pace.keep((ma, Because::Surplus), true, 6_000, at(second));
        assert_eq!(surplus(&mut pace, 0, 0), (0, Because::Surplus), "nothing to keep");
        assert_eq!(surplus(&mut pace, 8_000, 1), (8_000, Because::Surplus), "and the first start waits for nothing");
        assert_eq!(surplus(&mut pace, 0, 60), (6_000, Because::ShortestRun));
        assert_eq!(surplus(&mut pace, 7_000, 60), (7_000, Because::Surplus));
        assert_eq!(surplus(&mut pace, 0, 61), (0, Because::Surplus));
        assert_eq!(surplus(&mut pace, 8_000, 240), (0, Because::ShortestPause), "179 s after a surplus");
        assert_eq!(surplus(&mut pace, 8_000, 241), (8_000, Because::Surplus));
        // After charging that was no surplus the pause is shorter.
        let normal = |pace: &mut Pace, ma, second| pace.keep((ma, Because::Rule(1)), false, 6_000, at(second)).0;
        assert_eq!(normal(&mut pace, 8_000, 300), 8_000);
        assert_eq!(normal(&mut pace, 0, 302), 0);
        assert_eq!(normal(&mut pace, 8_000, 361), 0);
        assert_eq!(normal(&mut pace, 8_000, 362), 8_000);
        pace.forget();
        assert_eq!(normal(&mut pace, 0, 363), 0, "another car");
        assert_eq!(normal(&mut pace, 8_000, 364), 8_000);
    }

    #[test]
    fn without_a_value_charging_ends_at_once() {
        let mut pace = Pace::default();
        pace.keep((8_000, Because::Surplus), true, 6_000, at(0));
        assert_eq!(pace.keep((0, Because::Missing), true, 6_000, at(1)), (0, Because::Missing));
        assert_eq!(pace.keep((8_000, Because::Surplus), true, 6_000, at(2)), (0, Because::ShortestPause));
    }

    #[test]
    fn a_surplus_counts_once_it_lasts() {
        let mut steady = Steady::default();
        assert_eq!(steady.take(Some(1_000.0), at(0)), Some(1_000.0));
        // A car that ramps is seen by one meter before the other: down and up again within seconds.
        for (second, value) in [(1, -2_000.0), (2, -2_000.0), (3, 1_000.0), (4, 1_000.0)] {
            assert_eq!(steady.take(Some(value), at(second)), Some(1_000.0), "second {second}");
        }
        // What stays counts: after six seconds the lowest of them.
        let shown: Vec<f64> = (5..15).filter_map(|second| steady.take(Some(500.0), at(second))).collect();
        assert_eq!(shown, [1_000.0, 1_000.0, 1_000.0, 1_000.0, 1_000.0, 500.0, 500.0, 500.0, 500.0, 500.0]);
        assert_eq!(steady.take(None, at(16)), None, "what is missing is missing at once");
        assert_eq!(steady.take(Some(3_000.0), at(17)), Some(3_000.0));
    }
}
