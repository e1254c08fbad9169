//! From shares to commands. Down at once and without any timer; up only in steps, only after the last change has
//! settled, and only with current that nobody may still be drawing.

use super::fill::Slack;
use super::plan::{Ground, Unit};
use super::{Milliamps, Order, OrderKind, Tuning};
use crate::site::Moment;

/// What kept a wallbox from going up to its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing.
    #[default]
    No,
    /// Its last change has to settle, or the step is as large as it may be.
    Ramp,
    /// This limit has nothing free yet.
    Line(usize),
    /// An input has just been lost.
    InputLost,
    /// It does not accept commands.
    NotAccepting,
}

/// Decides what each wallbox is told: reductions first, then raises into what is free.
pub(super) fn decide(units: &mut [Unit<'_>], ground: &mut Ground<'_>, now: Moment, tuning: &Tuning) {
    for unit in units.iter_mut() {
        let setting = unit.watch.setting;
        unit.granted = if unit.live { unit.charger.on_grid(setting.min(Milliamps(unit.now.current))) } else { setting };
    }
    // Half of what is free may be taken per tick, by all together.
    let mut allowed = Slack(ground.free.0.iter().map(|free| portion(*free, tuning)).collect());
    let mut order: Vec<&mut Unit<'_>> = units.iter_mut().filter(|unit| unit.live).collect();
    order.sort_by(|a, b| {
        let key = |unit: &Unit<'_>| (std::cmp::Reverse(unit.charger.priority), unit.granted);
        key(a).cmp(&key(b)).then_with(|| a.charger.id.cmp(&b.charger.id))
    });
    for unit in order {
        let goal = Milliamps(unit.now.current.min(unit.high.current));
        if goal <= unit.granted || unit.granted < unit.watch.setting {
            continue;
        }
        let (granted, held) = raise(unit, goal, ground, &mut allowed, now, tuning);
        (unit.granted, unit.held) = (granted, held);
    }
}

fn portion(free: i64, tuning: &Tuning) -> i64 {
    (free / tuning.ramp_share.max(1)).max(free.min(tuning.ramp_per_s.0))
}

/// The next step of one wallbox towards `goal`, taken off what is free.
fn raise(
    unit: &Unit<'_>,
    goal: Milliamps,
    ground: &mut Ground<'_>,
    allowed: &mut Slack,
    now: Moment,
    tuning: &Tuning,
) -> (Milliamps, Held) {
    let from = unit.granted;
    if ground.input_lost {
        return (from, Held::InputLost);
    }
    if unit.watch.not_accepting {
        return (from, Held::NotAccepting);
    }
    // Step upon step without an answer would not be a ramp; and who has never answered starts from what it does now.
    let since = unit.memory.changed.map(|at| now.0.saturating_sub(at.0));
    if !unit.memory.accepted || since.is_some_and(|since| since < tuning.settle_ms) {
        return (from, Held::Ramp);
    }
    let least = unit.charger.least();
    // What it may draw anyway is counted already; only what goes beyond needs something free.
    let counted = unit.watch.counted.0.into_iter().max().unwrap_or_default();
    let starting = from < least;
    let step_end = if starting { least } else { from + steepest(unit, since, tuning) };
    // A start is all or nothing: the half rule would keep a car waiting for twice its minimum.
    let source = if starting { &ground.free } else { &*allowed };
    let mut end = goal.min(step_end);
    let mut held = if end < goal { Held::Ramp } else { Held::No };
    for &(k, coefficient) in &unit.seat.uses {
        let free = source.on(k).min(ground.free.on(k));
        let reach = if free < 0 { from } else { counted.max(from) + Milliamps(free / coefficient.max(1)) };
        if reach < end {
            (end, held) = (reach, Held::Line(k));
        }
    }
    let end = unit.charger.on_grid(end);
    let small = end - from < tuning.ramp_least && end < goal.min(unit.charger.cap());
    if end <= from || small {
        return (from, if held == Held::No { Held::Ramp } else { held });
    }
    let need = (end - counted).at_least_zero();
    for &(k, coefficient) in &unit.seat.uses {
        for slack in [&mut ground.free, &mut *allowed] {
            if let Some(left) = slack.0.get_mut(k) {
                *left = left.saturating_sub(need.0.saturating_mul(coefficient));
            }
        }
    }
    (end, held)
}

/// How far a charging car may go up in one step, `since_ms` after its last change.
fn steepest(unit: &Unit<'_>, since_ms: Option<u64>, tuning: &Tuning) -> Milliamps {
    let range = (unit.charger.cap() - unit.charger.least()).at_least_zero();
    let per_s = tuning.ramp_per_s.0.max(range.0.saturating_mul(tuning.ramp_range_per_mille) / 1_000);
    // Time that passed without a raise is not saved up beyond one settling time.
    let ms = i64::try_from(since_ms.unwrap_or(0).min(tuning.settle_ms)).unwrap_or(0);
    // At least one step of the grid, or a wallbox with whole amperes would stand still at a fast cycle.
    Milliamps((per_s.saturating_mul(ms) / 1_000).max(unit.seat.step))
}

/// The commands that are due now, reductions first, and notes them as sent.
pub(super) fn send(units: &mut [Unit<'_>], now: Moment, tuning: &Tuning) -> Vec<Order> {
    let mut orders: Vec<Order> = units.iter_mut().filter_map(|unit| due(unit, now, tuning)).collect();
    orders.sort_by(|a, b| (a.kind, &a.device).cmp(&(b.kind, &b.device)));
    orders
}

fn due(unit: &mut Unit<'_>, now: Moment, tuning: &Tuning) -> Option<Order> {
    if !unit.live {
        return None;
    }
    let setting = unit.watch.setting;
    let age = unit.memory.sent.map(|at| now.0.saturating_sub(at.0));
    let patience = if unit.memory.accepted { tuning.lease_ms / 3 } else { tuning.retry_ms };
    let kind = match unit.granted.cmp(&setting) {
        std::cmp::Ordering::Less => OrderKind::Reduce,
        std::cmp::Ordering::Greater => OrderKind::Raise,
        // The first command after a silence takes back whatever the wallbox fell back to meanwhile.
        std::cmp::Ordering::Equal if age.is_none() => OrderKind::Reduce,
        std::cmp::Ordering::Equal if age.is_some_and(|age| age >= patience) => OrderKind::Refresh,
        std::cmp::Ordering::Equal => return None,
    };
    if unit.granted != setting {
        unit.memory.set(unit.charger, unit.granted, now, tuning);
    }
    unit.memory.sent = Some(now);
    Some(Order { device: unit.charger.id.clone(), current: unit.granted, kind })
}
