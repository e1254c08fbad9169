//! The reasons: every number that a person asks about ("why only 9 A?") has its answer in the plan.

use std::collections::BTreeMap;

use super::commit::Held;
use super::plan::{Ground, Unit};
use super::tree::add_along;
use super::{Alarm, ChargerPlan, CircuitPlan, Line, Milliamps, Mode, Order, PerPhase, Phase, Plan, Reason, Site};
use crate::site::{Because, Connector, Moment};

/// Puts the plan together and notes since when each wallbox's answer holds.
pub(super) fn explain(
    mut units: Vec<Unit<'_>>,
    ground: &Ground<'_>,
    commands: Vec<Order>,
    site: &Site,
    now: Moment,
) -> Plan {
    let circuits = circuits(&units, ground, site.mode);
    let alarms = alarms(&units, ground);
    let mut chargers = BTreeMap::new();
    for unit in &mut units {
        let reason = reason(unit, ground, site.mode);
        let since = match &unit.memory.told {
            Some((granted, told, since)) if *granted == unit.granted && *told == reason => *since,
            _ => now,
        };
        unit.memory.told = Some((unit.granted, reason.clone(), since));
        let plan = ChargerPlan {
            requested: unit.watch.requested,
            share: Milliamps(unit.now.current),
            granted: unit.granted,
            counted: unit.watch.counted,
            measured: unit.charger.measured.map(|sample| sample.current),
            reason,
            since,
        };
        chargers.insert(unit.charger.id.clone(), plan);
    }
    Plan { at: now, chargers, circuits, commands, alarms }
}

fn reason(unit: &Unit<'_>, ground: &Ground<'_>, mode: Mode) -> Reason {
    if unit.path.is_empty() {
        return Reason::NoCircuit;
    }
    if !unit.charger.reachable {
        return Reason::Unreachable;
    }
    if mode == Mode::Observe {
        return Reason::Observe;
    }
    match unit.charger.connector {
        Connector::Available => return Reason::NoVehicle,
        Connector::NoPilot | Connector::Fault => return Reason::NotAvailable,
        _ => {}
    }
    if unit.watch.not_accepting {
        return Reason::NotAccepting;
    }
    if unit.watch.not_following {
        return Reason::NotFollowing;
    }
    if unit.charger.forbidden() {
        return Reason::Forbidden;
    }
    if let Some(because) = unit.charger.ruled_out() {
        return Reason::Rules(because);
    }
    if unit.granted >= unit.watch.requested {
        return at_its_most(unit);
    }
    let goal = unit.now.current.min(unit.high.current);
    if unit.granted.0 < goal {
        return held_reason(unit.held, ground);
    }
    match (unit.now.held_by, unit.high.held_by) {
        (Some(k), _) if unit.granted.0 >= unit.now.current => short_of(k, unit.granted, ground),
        (_, Some(k)) => waits_or_stale(k, ground),
        (Some(k), None) => short_of(k, unit.granted, ground),
        // Held by nothing: the rest of a step of its grid.
        (None, None) => Reason::Ramp,
    }
}

fn at_its_most(unit: &Unit<'_>) -> Reason {
    if unit.watch.takes_less {
        Reason::TakesLess
    } else if let Some(because) = ruled(unit.charger) {
        Reason::Rules(because)
    } else if unit.charger.allowed.is_some_and(|allowed| binds(allowed, unit.charger)) {
        Reason::Restricted
    } else if unit.charger.cable.is_some_and(|cable| cable.0 > 0 && cable < unit.charger.max) {
        Reason::Cable
    } else {
        Reason::OwnMaximum
    }
}

/// Why its rules want no more, if they are the tightest of the wallbox's own limits.
fn ruled(charger: &super::Charger) -> Option<Because> {
    let ruled = charger.ruled()?;
    let tightest = charger.allowed.is_none_or(|allowed| ruled < allowed) && binds(ruled, charger);
    charger.rules.filter(|_| tightest).map(|request| request.because)
}

/// Whether what somebody allows is the tightest of the wallbox's own limits.
fn binds(allowed: Milliamps, charger: &super::Charger) -> bool {
    allowed < charger.max && charger.cable.is_none_or(|cable| cable.0 <= 0 || allowed < cable)
}

fn held_reason(held: Held, ground: &Ground<'_>) -> Reason {
    match held {
        Held::No | Held::Ramp => Reason::Ramp,
        Held::Line(k) => waits_or_stale(k, ground),
        Held::InputLost => Reason::InputLost,
        Held::NotAccepting => Reason::NotAccepting,
    }
}

/// A limit that gives nobody more now.
fn short_of(k: usize, granted: Milliamps, ground: &Ground<'_>) -> Reason {
    let Some(line) = ground.tree.line(k) else { return Reason::NoCircuit };
    let watch = ground.tree.number(&line.circuit).and_then(|number| ground.watches.get(number));
    if watch.is_some_and(|watch| watch.stale) {
        return Reason::MeterStale(line.circuit);
    }
    let over = |watch: &super::circuit::CircuitWatch| match line.phase {
        Some(phase) => watch.over[phase],
        None => watch.over.0.contains(&true),
    };
    if watch.is_some_and(over) {
        return Reason::Emergency(line);
    }
    if granted.0 == 0 { Reason::NotAdmitted(line) } else { Reason::Limit(line) }
}

/// A limit that will give more once others are down or the load has been low for long enough.
fn waits_or_stale(k: usize, ground: &Ground<'_>) -> Reason {
    let Some(line) = ground.tree.line(k) else { return Reason::NoCircuit };
    let watch = ground.tree.number(&line.circuit).and_then(|number| ground.watches.get(number));
    if watch.is_some_and(|watch| watch.stale) {
        Reason::MeterStale(line.circuit)
    } else {
        Reason::WaitsForRelease(line)
    }
}

fn circuits(units: &[Unit<'_>], ground: &Ground<'_>, mode: Mode) -> BTreeMap<super::CircuitId, CircuitPlan> {
    let mut granted = vec![PerPhase::<Milliamps>::default(); ground.watches.len()];
    let mut ledger = granted.clone();
    for unit in units {
        let told = |phase: Phase| {
            let told = unit.charger.reachable && unit.charger.uses(phase);
            if told { unit.granted } else { Milliamps::ZERO }
        };
        add_along(&mut granted, &unit.path, PerPhase::from_fn(told));
        let beyond = |phase: Phase| (unit.watch.counted[phase] - told(phase)).at_least_zero();
        // Who only observes commands nobody and owes nobody anything.
        if mode == Mode::Manage {
            add_along(&mut ledger, &unit.path, PerPhase::from_fn(beyond));
        }
    }
    let mut plans = BTreeMap::new();
    for (((circuit, watch), granted), ledger) in
        ground.tree.circuits.iter().zip(&ground.watches).zip(granted).zip(ledger)
    {
        let plan = CircuitPlan {
            limit: watch.limit,
            measured: watch.measured,
            base: watch.base,
            base_high: watch.base_high,
            ledger,
            granted,
            stale: watch.stale,
            over: watch.over,
        };
        plans.insert(circuit.id.clone(), plan);
    }
    plans
}

fn alarms(units: &[Unit<'_>], ground: &Ground<'_>) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    for (circuit, watch) in ground.tree.circuits.iter().zip(&ground.watches) {
        if watch.stale {
            alarms.push(Alarm::MeterStale(circuit.id.clone()));
        }
        for phase in Phase::ALL.into_iter().filter(|phase| watch.near_trip[*phase]) {
            alarms.push(Alarm::NearTrip(Line { circuit: circuit.id.clone(), phase: Some(phase) }));
        }
    }
    // More is gone than the limit allows before anything is shared: pausing everybody does not help. Where the load is
    // only assumed because the meter is silent, that is the alarm.
    let silent = |line: &Line| alarms.contains(&Alarm::MeterStale(line.circuit.clone()));
    let overloaded = (0..).zip(&ground.room.0).filter(|(_, room)| **room < 0);
    let overloaded: Vec<Line> =
        overloaded.filter_map(|(k, _)| ground.tree.line(k)).filter(|line| !silent(line)).collect();
    alarms.extend(overloaded.into_iter().map(Alarm::Overload));
    for unit in units {
        let id = || unit.charger.id.clone();
        let named = [
            (unit.path.is_empty(), Alarm::NoCircuit(id())),
            (!unit.charger.reachable, Alarm::Unreachable(id())),
            (unit.watch.not_following, Alarm::NotFollowing(id())),
            (unit.watch.not_accepting, Alarm::NotAccepting(id())),
        ];
        alarms.extend(named.into_iter().filter(|(holds, _)| *holds).map(|(_, alarm)| alarm));
    }
    alarms.sort();
    alarms
}
