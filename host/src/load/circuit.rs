//! What is remembered of a circuit: the load that is no wallbox over the last half minute, and how warm its breaker
//! may be. A silent meter's load is assumed, never repeated.

use super::{Circuit, Metering, Milliamps, PerPhase, Phase, Sample, Tuning};
use crate::site::Moment;

/// The budget of one overload. It is spent in 60 s at 13 % above the limit, in 30 s at 40 %, in 10 s at 100 %, which
/// is well below what miniature circuit breakers carry, and is given back in 60 s without overload.
const HEAT_BUDGET: i64 = 1_000_000;
/// (per mille above the limit, budget spent per ms), linear in between.
const HEAT_CURVE: [(i64, i64); 4] = [(0, 0), (130, 17), (400, 33), (1_000, 100)];
/// Budget given back per ms.
const COOLING: i64 = 17;
/// A gap between ticks longer than this is not counted as overload: nobody looked.
const LONGEST_TICK_MS: u64 = 5_000;

/// The load that is no wallbox in one sample of the meter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct BaseSample {
    at: Moment,
    /// At most.
    high: PerPhase<Milliamps>,
    /// At least, as far as wallboxes that are just changing explain the rest.
    low: PerPhase<Milliamps>,
    /// With what the wallboxes measured last, for an overload.
    latest: PerPhase<Milliamps>,
}

/// Memory of one circuit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CircuitMemory {
    samples: Vec<BaseSample>,
    /// The meter was fresh in the last tick.
    fresh: bool,
    heat: PerPhase<i64>,
    worst: PerPhase<Milliamps>,
    penalty: PerPhase<Option<(Milliamps, Moment)>>,
}

/// What is known of a circuit in this tick.
#[derive(Clone, Debug, Default)]
pub(super) struct CircuitWatch {
    pub limit: PerPhase<Milliamps>,
    pub measured: PerPhase<Option<Milliamps>>,
    /// For sharing among those who charge.
    pub base: PerPhase<Milliamps>,
    /// For raising.
    pub base_high: PerPhase<Milliamps>,
    pub stale: bool,
    pub over: PerPhase<bool>,
    /// The budget of an overload has been spent lately.
    pub near_trip: PerPhase<bool>,
    /// The meter has fallen silent in this very tick.
    pub lost: bool,
}

/// The wallboxes' parts in a sample: the highest they measured about then, the latest, and what they may draw at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parts {
    pub surely: PerPhase<Milliamps>,
    pub latest: PerPhase<Milliamps>,
    pub perhaps: PerPhase<Milliamps>,
}

impl CircuitMemory {
    /// Takes in what the meter says now. `elapsed_ms` is the time since the last tick.
    pub fn observe(
        &mut self,
        circuit: &Circuit,
        parts: Parts,
        now: Moment,
        elapsed_ms: u64,
        tuning: &Tuning,
    ) -> CircuitWatch {
        let (sample, stale_after_ms, failsafe) = match &circuit.metering {
            Metering::Unmetered { fixed } => {
                *self = Self::default();
                let limit = circuit.limit;
                return CircuitWatch { limit, base: *fixed, base_high: *fixed, ..CircuitWatch::default() };
            }
            Metering::Metered { sample, stale_after_ms, failsafe } => (*sample, *stale_after_ms, *failsafe),
        };
        let fresh = sample.filter(|sample| now.0 <= sample.at.0.saturating_add(stale_after_ms));
        let lost = self.fresh && fresh.is_none();
        self.fresh = fresh.is_some();
        let mut watch = CircuitWatch { lost, stale: fresh.is_none(), ..CircuitWatch::default() };
        if let Some(sample) = fresh {
            watch.measured = sample.current;
            self.note(sample, parts, failsafe, tuning);
        }
        self.warm(circuit, &mut watch, now, elapsed_ms.min(LONGEST_TICK_MS), tuning);
        for phase in Phase::ALL {
            let highest = self.samples.iter().map(|sample| sample.high[phase]).max().unwrap_or_default();
            if watch.stale {
                watch.base_high[phase] = highest.max(failsafe[phase]);
                watch.base[phase] = watch.base_high[phase];
            } else {
                watch.base[phase] = self.present(phase, watch.over[phase], tuning);
                watch.base_high[phase] = highest.max(watch.base[phase]);
            }
        }
        watch
    }

    /// A new sample enters the window; an old one seen again does not. While the meter is silent the window stands
    /// still, so that the highest load before the silence is not forgotten.
    fn note(&mut self, sample: Sample, parts: Parts, failsafe: PerPhase<Milliamps>, tuning: &Tuning) {
        if self.samples.last().is_none_or(|last| last.at < sample.at) {
            // A phase that the meter does not show is as unknown as a silent meter's.
            let base = |own: PerPhase<Milliamps>| {
                PerPhase::from_fn(|p| sample.current[p].map_or(failsafe[p], |ma| (ma - own[p]).at_least_zero()))
            };
            let (high, low, latest) = (base(parts.surely), base(parts.perhaps), base(parts.latest));
            self.samples.push(BaseSample { at: sample.at, high, low, latest });
        }
        self.samples.retain(|old| old.at.0.saturating_add(tuning.window_ms) >= sample.at.0);
    }

    /// The load for sharing among those who charge: under overload the latest of everything. Without overload
    /// nothing burns, and a reduction can wait until two samples agree that it is the house and not a car that one of
    /// the meters has seen earlier than the other.
    fn present(&self, phase: Phase, over: bool, tuning: &Tuning) -> Milliamps {
        let Some(latest) = self.samples.last() else { return Milliamps::ZERO };
        if over {
            return latest.latest[phase];
        }
        let recent = |sample: &&BaseSample| sample.at.0.saturating_add(tuning.skew_ms) >= latest.at.0;
        self.samples.iter().filter(recent).map(|sample| sample.low[phase]).min().unwrap_or_default()
    }

    /// Spends and gives back the budget of overloads, and lowers the limit for a while after one that spent it.
    fn warm(&mut self, circuit: &Circuit, watch: &mut CircuitWatch, now: Moment, elapsed_ms: u64, tuning: &Tuning) {
        let elapsed = i64::try_from(elapsed_ms).unwrap_or(0);
        for phase in Phase::ALL {
            let limit = circuit.limit[phase];
            let over = watch.measured[phase].map_or(Milliamps::ZERO, |ma| (ma - limit).at_least_zero());
            if over.0 > 0 {
                self.heat[phase] = self.heat[phase].saturating_add(elapsed.saturating_mul(heating(over, limit)));
                self.worst[phase] = self.worst[phase].max(over);
            } else {
                self.heat[phase] = (self.heat[phase] - elapsed.saturating_mul(COOLING)).max(0);
            }
            if self.heat[phase] >= HEAT_BUDGET {
                let until = Moment(now.0.saturating_add(tuning.penalty_ms));
                self.penalty[phase] = Some((self.worst[phase], until));
                self.heat[phase] = 0;
            }
            if self.heat[phase] == 0 {
                self.worst[phase] = Milliamps::ZERO;
            }
            self.penalty[phase] = self.penalty[phase].filter(|(_, until)| now < *until);
            let taken = self.penalty[phase].map_or(Milliamps::ZERO, |(overdraft, _)| overdraft);
            watch.near_trip[phase] = self.penalty[phase].is_some();
            watch.limit[phase] = (limit - taken).at_least_zero();
            watch.over[phase] = watch.measured[phase].is_some_and(|ma| ma > watch.limit[phase]);
        }
    }
}

/// How fast an overload spends the budget, per ms.
fn heating(over: Milliamps, limit: Milliamps) -> i64 {
    let per_mille = over.0.saturating_mul(1_000) / limit.0.max(1);
    let mut below = (0, 0);
    for above in HEAT_CURVE {
        if per_mille < above.0 {
            return below.1 + (per_mille - below.0) * (above.1 - below.1) / (above.0 - below.0).max(1);
        }
        below = above;
    }
    // Above twice the limit the time keeps falling in proportion.
    below.1.saturating_mul(per_mille) / below.0.max(1)
}
