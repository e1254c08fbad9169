//! How much has flowed into a car, from whatever its wallbox counts. Pure. Counters fall back to 0 when a wallbox is
//! restarted, and come back: neither makes energy negative or huge.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Now;
use crate::site::Moment;

/// A counter may be that much above what the car can have drawn: some count in whole kilowatt hours.
const COARSE_WH: f64 = 1_100.0;
/// So long a counter has to stay below its last value until it is believed to have been reset.
const RESET_AFTER: Duration = Duration::from_secs(30);
/// Power is not carried on over a longer pause of this program than this.
const LONGEST_STEP: Duration = Duration::from_secs(10);
/// More than any wallbox for cars with a Type 2 plug gives: 80 A on three phases.
const MOST_OF_ALL_W: f64 = 65_000.0;
/// Assumed as the time between two readings where no clock tells.
const UNKNOWN_GAP_H: f64 = 24.0;

/// What there is to count with at one moment; only what is fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meters {
    /// The wallbox's own lifetime counter, Wh.
    pub own_wh: Option<f64>,
    /// The wallbox's counter since the plug-in, Wh.
    pub session_wh: Option<f64>,
    /// The lifetime counter of the meter in front of it, Wh.
    pub pinned_wh: Option<f64>,
    /// Power into the car, W.
    pub power_w: Option<f64>,
    /// The most the car should draw, W. It may draw more where the wallbox is not as the configuration says.
    pub most_w: f64,
}

/// What is counted with, the better later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Source {
    Power,
    Pinned,
    Session,
    Own,
}

/// The energy of one transaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Energy {
    wh: f64,
    source: Option<Source>,
    counter: Counter,
    /// The soft meter's readings at the start and now, for transactions without a lifetime counter.
    soft_start_wh: f64,
    #[serde(skip)]
    power: Option<(f64, Moment)>,
}

/// The readings of one counter during one transaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Counter {
    start: Option<f64>,
    last: Option<f64>,
    /// When `last` was first read.
    unix_s: Option<u64>,
    #[serde(skip)]
    at: Option<Moment>,
    low: Option<Low>,
}

/// Readings below the last good one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Low {
    least: f64,
    latest: f64,
    #[serde(skip)]
    since: Option<Moment>,
}

impl Energy {
    /// Nothing yet. `soft_wh` is what the wallbox's soft meter shows.
    pub fn new(soft_wh: f64) -> Self {
        Self { soft_start_wh: soft_wh, ..Self::default() }
    }

    /// Counts up to now. What has been added, and whether the wallbox's own counter said so.
    pub fn count(&mut self, meters: &Meters, now: Now) -> f64 {
        let usable = |wh: Option<f64>| wh.filter(|wh| wh.is_finite() && *wh >= 0.0);
        let counters = [
            (Source::Own, usable(meters.own_wh)),
            (Source::Session, usable(meters.session_wh)),
            (Source::Pinned, usable(meters.pinned_wh)),
        ];
        let best = counters.iter().find_map(|(source, wh)| wh.map(|_| *source)).unwrap_or(Source::Power);
        if self.source.is_none_or(|source| best > source) {
            // The better one counts from here; what was counted up to here stays.
            (self.source, self.counter) = (Some(best), Counter::default());
        }
        let reading = counters.iter().find(|(source, _)| Some(*source) == self.source).and_then(|(_, wh)| *wh);
        let by_power = self.integrate(meters.power_w, now);
        let added = match (self.source, reading) {
            (Some(Source::Power), _) => by_power,
            (_, Some(reading)) => self.counter.read(reading, meters.most_w, now),
            // It says nothing now; its next reading makes up for it.
            (_, None) => 0.0,
        };
        self.wh += added;
        added
    }

    /// The last word: what a counter that was reset has counted since.
    pub fn settle(&mut self) -> f64 {
        let added = self.counter.low.take().map_or(0.0, |low| low.latest - low.least);
        self.wh += added;
        added
    }

    /// Power held from look to look.
    fn integrate(&mut self, power_w: Option<f64>, now: Now) -> f64 {
        let before = self.power.take();
        // A wallbox draws; signs here are only wiring.
        let usable = power_w.filter(|watts| watts.is_finite()).map(f64::abs);
        self.power = usable.map(|watts| (watts, now.at));
        let (Some((watts, at)), Some(_)) = (before, self.power) else { return 0.0 };
        let step = now.at.since(at);
        if step <= LONGEST_STEP { watts * step.as_secs_f64() / 3_600.0 } else { 0.0 }
    }

    /// All of it, to the thousandth.
    pub fn wh(&self) -> f64 {
        (self.wh * 1_000.0).round() / 1_000.0
    }

    /// Whether it is counted by something that counts for life and not only this transaction.
    fn lifetime(&self) -> bool {
        matches!(self.source, Some(Source::Own | Source::Pinned))
    }

    /// The reading at the start; the soft meter's where nothing else counts for life.
    pub fn meter_start_wh(&self) -> Option<f64> {
        match self.source {
            None => None,
            Some(_) if self.lifetime() => self.counter.start,
            Some(_) => Some(self.soft_start_wh),
        }
    }

    /// The reading now.
    pub fn meter_end_wh(&self) -> Option<f64> {
        match self.source {
            None => None,
            Some(_) if self.lifetime() => match self.counter.low {
                Some(low) if low.latest > low.least => Some(low.latest),
                _ => self.counter.last,
            },
            Some(_) => Some(self.soft_start_wh + self.wh()),
        }
    }
}

impl Counter {
    /// What has been counted since the last reading.
    fn read(&mut self, wh: f64, most_w: f64, now: Now) -> f64 {
        let Some(last) = self.last else {
            (self.start, self.last) = (Some(wh), Some(wh));
            self.note(now);
            return 0.0;
        };
        if wh < last {
            return self.read_low(wh, most_w, now);
        }
        self.low = None;
        let gained = wh - last;
        if gained == 0.0 {
            return 0.0;
        }
        // A counter that shows 0 may be one that has not woken up yet; from any other reading a large step is believed
        // as far as cables carry, because what is not believed is not billed.
        let most_w = if last > 0.0 { most_w.max(MOST_OF_ALL_W) } else { most_w };
        let possible = gained <= self.possible_wh(self.at, most_w, now);
        self.last = Some(wh);
        self.note(now);
        if possible {
            return gained;
        }
        // It showed something else than its reading before, as a wallbox does that has just been switched on.
        self.start = Some(wh);
        0.0
    }

    /// Below its last value: it may come back, as after a restart of the wallbox; if it stays and counts on, it was
    /// reset. A 0 alone is never believed.
    fn read_low(&mut self, wh: f64, most_w: f64, now: Now) -> f64 {
        let low = self.low.get_or_insert(Low { least: wh, latest: wh, since: Some(now.at) });
        let since = *low.since.get_or_insert(now.at);
        low.least = low.least.min(wh);
        low.latest = wh;
        let gained = wh - low.least;
        if gained <= 0.0 || now.at.since(since) < RESET_AFTER {
            return 0.0;
        }
        (self.low, self.last) = (None, Some(wh));
        let possible = gained <= self.possible_wh(Some(since), most_w, now);
        self.note(now);
        if possible { gained } else { 0.0 }
    }

    fn note(&mut self, now: Now) {
        (self.at, self.unix_s) = (Some(now.at), now.unix_s);
    }

    /// The most that can have flowed since then.
    fn possible_wh(&self, since: Option<Moment>, most_w: f64, now: Now) -> f64 {
        let hours = match (since, self.unix_s, now.unix_s) {
            (Some(since), ..) => now.at.since(since).as_secs_f64() / 3_600.0,
            // Read by an earlier run of this program.
            (None, Some(then), Some(now)) =>
            {
                #[expect(clippy::cast_precision_loss, reason = "seconds between two readings")]
                (now.saturating_sub(then) as f64 / 3_600.0)
            }
            _ => UNKNOWN_GAP_H,
        };
        COARSE_WH + most_w * hours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_W: f64 = 12_000.0;

    struct Car {
        energy: Energy,
        at: u64,
    }

    impl Car {
        fn new() -> Self {
            Self { energy: Energy::new(0.0), at: 1_000 }
        }

        fn now(&self) -> Now {
            Now { at: Moment(self.at), unix_s: Some(1_800_000_000 + self.at / 1_000) }
        }

        /// The own counter's readings, ten seconds apart.
        fn own(&mut self, readings: &[f64]) -> &mut Self {
            for reading in readings {
                let meters = Meters { own_wh: Some(*reading), most_w: MOST_W, ..Meters::default() };
                self.energy.count(&meters, self.now());
                self.at += 10_000;
            }
            self
        }

        fn restarted(&mut self) -> &mut Self {
            self.energy = serde_json::from_str(&serde_json::to_string(&self.energy).unwrap()).unwrap();
            self.at = 1_000;
            self
        }
    }

    #[test]
    fn the_counter_counts_by_difference() {
        let mut car = Car::new();
        car.own(&[1_000.0, 1_010.5, 1_040.25]);
        assert_eq!(car.energy.wh(), 40.25);
        assert_eq!((car.energy.meter_start_wh(), car.energy.meter_end_wh()), (Some(1_000.0), Some(1_040.25)));
    }

    #[test]
    fn a_zero_in_between_costs_nothing_and_adds_nothing() {
        let mut car = Car::new();
        car.own(&[1_000.0, 1_040.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1_050.0]);
        assert_eq!(car.energy.wh(), 50.0);
        // A wallbox that begins with 0 and then shows what it has counted in its life.
        let mut car = Car::new();
        car.own(&[0.0, 51_000_000.0, 51_000_020.0]);
        assert_eq!((car.energy.wh(), car.energy.meter_start_wh()), (20.0, Some(51_000_000.0)));
    }

    #[test]
    fn a_counter_that_was_reset_counts_on() {
        let mut car = Car::new();
        car.own(&[1_000.0, 1_040.0, 0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(car.energy.wh(), 80.0);
        let mut car = Car::new();
        car.own(&[1_000.0, 1_040.0, 0.0, 10.0]);
        assert_eq!(car.energy.wh(), 40.0, "it may still come back");
        assert_eq!((car.energy.settle(), car.energy.wh()), (10.0, 50.0));
    }

    #[test]
    fn what_flowed_while_this_program_was_away_counts() {
        let mut car = Car::new();
        car.own(&[1_000.0, 1_040.0]).restarted().own(&[1_540.0]);
        assert_eq!(car.energy.wh(), 540.0);
        // Three hours away, and the wallbox gives twice of what the configuration says.
        let mut car = Car::new();
        car.own(&[1_000.0]).restarted();
        car.at = 3 * 3_600_000;
        car.own(&[73_000.0]);
        assert_eq!(car.energy.wh(), 72_000.0);
    }

    #[test]
    fn the_best_source_counts_and_nothing_counts_twice() {
        let mut car = Car::new();
        let mut at = |own: Option<f64>, session: Option<f64>, pinned: Option<f64>, power: Option<f64>| {
            let meters = Meters { own_wh: own, session_wh: session, pinned_wh: pinned, power_w: power, most_w: MOST_W };
            car.energy.count(&meters, car.now());
            car.at += 10_000;
            (car.energy.wh(), car.energy.meter_start_wh())
        };
        at(None, None, None, Some(3_600.0));
        assert_eq!(at(None, None, None, Some(-7_200.0)), (10.0, Some(0.0)));
        assert_eq!(at(None, None, Some(500.0), Some(7_200.0)), (10.0, Some(500.0)), "the meter begins to count here");
        assert_eq!(at(None, None, Some(510.0), Some(7_200.0)).0, 20.0);
        assert_eq!(at(None, Some(30.0), Some(520.0), None), (20.0, Some(0.0)));
        assert_eq!(at(None, Some(35.0), Some(560.0), None).0, 25.0);
        assert_eq!(at(Some(9_000.0), Some(40.0), None, None), (25.0, Some(9_000.0)));
        // The better one says nothing for a while: nobody steps in, and nothing is lost.
        assert_eq!(at(None, Some(80.0), None, Some(7_200.0)).0, 25.0);
        assert_eq!(at(Some(9_050.0), Some(90.0), None, None).0, 75.0);
    }

    #[test]
    fn power_is_not_carried_over_a_pause_or_a_silence() {
        let mut car = Car::new();
        let mut at = |seconds: u64, watts: Option<f64>| {
            car.at += seconds * 1_000;
            car.energy.count(&Meters { power_w: watts, most_w: MOST_W, ..Meters::default() }, car.now());
            car.energy.wh()
        };
        at(0, Some(3_600.0));
        assert_eq!(at(5, Some(3_600.0)), 5.0);
        assert_eq!(at(60, Some(3_600.0)), 5.0);
        assert_eq!(at(1, None), 5.0);
        assert_eq!(at(1, Some(3_600.0)), 5.0);
        assert_eq!(at(1, Some(f64::NAN)), 5.0);
    }
}
