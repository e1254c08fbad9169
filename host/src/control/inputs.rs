//! From readings to the load manager's numbers: the only place where currents are derived from powers, signs from
//! powers, and where floating-point values end. Pure. What is missing or old stays missing.

use crate::config::{CircuitConfig, Config, DeviceConfig, LoadMode};
use crate::load::{Charger, Circuit, CircuitId, Metering, Milliamps, Mode, PerPhase, Phase, Sample, Site, Tuning};
use crate::site::quantities::{
    CHARGING_ENABLED, CURRENT, ENERGY_SESSION, LIMIT_CABLE, LIMIT_CURRENT, PHASES_ACTIVE, POWER, POWER_TOTAL, VOLTAGE,
};
use crate::site::{
    Board, Connector, DeviceKind, DeviceStatus, Measured, Moment, Requests, Restriction, Restrictions, Role, Snapshot,
};

/// Voltage assumed where none is measured.
const NOMINAL_V: f64 = 230.0;
/// A measured voltage outside of this is a missing wire or a wrong register and not used as a divisor.
const PLAUSIBLE_V: std::ops::RangeInclusive<f64> = 100.0..=280.0;
/// Currents above this are nonsense from a broken reading and are taken as not measured.
const IMPOSSIBLE_MA: f64 = 10_000_000.0;
/// The step of wallboxes that take any current: finer than the pilot signal can say (1 % of duty is 0.6 A), coarse
/// enough that noise of a meter does not become commands.
const FINE_STEP: Milliamps = Milliamps(100);
/// The step of the others.
const WHOLE_AMPERE: Milliamps = Milliamps(1_000);

/// The load manager's view of the site.
#[must_use]
pub fn inputs(snapshot: &Snapshot, config: &Config, restrictions: &Restrictions, requests: &Requests) -> Site {
    let now = snapshot.at;
    // A wallbox that nobody has heard of yet is a silent one, not a missing one.
    let unheard = DeviceStatus::default();
    let status = |device: &DeviceConfig| snapshot.devices.get(&device.id).unwrap_or(&unheard);
    let pinned = |device: &DeviceConfig| pinned_currents(config, snapshot, device);
    let chargers: Vec<Charger> = chargers_of(config)
        .map(|(device, circuit)| {
            let mut charger = charger(device, circuit, status(device), pinned(device), now);
            charger.allowed = restrictions.get(&device.id).and_then(allowed);
            charger.rules = requests.get(&device.id).copied();
            charger
        })
        .collect();
    let own = |circuit: &CircuitConfig| own_currents(config, circuit, &chargers);
    let circuits = config
        .circuits
        .iter()
        .map(|circuit| {
            let meter = meter_of(config, circuit);
            let status = meter.and_then(|meter| snapshot.devices.get(&meter.id));
            self::circuit(config, circuit, meter, status, own(circuit), now)
        })
        .collect();
    let mode = match config.load.mode {
        LoadMode::Manage => Mode::Manage,
        LoadMode::Observe => Mode::Observe,
    };
    Site { mode, circuits, chargers, tuning: Tuning::default() }
}

/// What a restriction leaves, 0 for nothing at all; `None`: everything.
fn allowed(restriction: &Restriction) -> Option<Milliamps> {
    match restriction.forbidden {
        Some(_) => Some(Milliamps::ZERO),
        None => restriction.max_ma.map(Milliamps::from),
    }
}

/// The currents of the meter in front of a wallbox, if they are fresh. Its L1 is the circuit's.
fn pinned_currents(config: &Config, snapshot: &Snapshot, device: &DeviceConfig) -> Option<Sample> {
    let id = device.meter.as_ref()?;
    config.devices.iter().find(|meter| meter.id == *id && meter.enabled)?;
    let status = snapshot.devices.get(id)?;
    let Conductors { current, at } = measured_currents(status, status.not_before(snapshot.at))?;
    // A wallbox draws; signs here are only wiring.
    Some(Sample { current: PerPhase(current).map(|ma| ma.map(|ma| Milliamps(ma.0.abs()))), at })
}

/// The circuits alone, for the quick look whether a meter shows an overload.
pub(super) fn circuits_only(board: &Board, config: &Config, now: Moment) -> Site {
    let only_total = |status: &DeviceStatus| measured_currents(status, status.not_before(now)).is_none();
    let look = |circuit: &CircuitConfig| {
        let meter = meter_of(config, circuit)?;
        let status = board.device(&meter.id)?;
        // With the total power alone the phases follow only together with the wallboxes: left to the regular cycle.
        let status = (!only_total(&status)).then_some(status);
        Some(self::circuit(config, circuit, Some(meter), status.as_ref(), PerPhase::default(), now))
    };
    Site { circuits: config.circuits.iter().filter_map(look).collect(), ..Site::default() }
}

/// When the newest sample that shows more than its limit was measured.
pub(super) fn newest_overload(site: &Site) -> Option<Moment> {
    let over = |circuit: &Circuit| match &circuit.metering {
        Metering::Metered { sample: Some(sample), .. } => {
            let above = |phase: &Phase| sample.current[*phase].is_some_and(|ma| ma > circuit.limit[*phase]);
            Phase::ALL.iter().any(above).then_some(sample.at)
        }
        Metering::Metered { sample: None, .. } | Metering::Unmetered { .. } => None,
    };
    site.circuits.iter().filter_map(over).max()
}

/// The wallboxes that take part, each with its circuit. One without a circuit shares nothing: the configuration gives
/// each wallbox one as soon as there is any.
fn chargers_of(config: &Config) -> impl Iterator<Item = (&DeviceConfig, CircuitId)> {
    let takes_part = |device: &&DeviceConfig| device.enabled && device.id.kind() == DeviceKind::Evse;
    let devices = config.devices.iter().filter(takes_part);
    devices.filter_map(|device| Some((device, CircuitId::from(device.circuit.as_deref()?))))
}

/// The meter of a circuit: the one it names; a root that names none is measured by the only grid meter.
fn meter_of<'a>(config: &'a Config, circuit: &CircuitConfig) -> Option<&'a DeviceConfig> {
    if let Some(id) = &circuit.meter {
        return config.devices.iter().find(|device| device.id == *id);
    }
    let mut grid = config.devices.iter().filter(|device| device.enabled && device.role == Role::Grid);
    match (grid.next(), grid.next()) {
        (Some(meter), None) if circuit.parent.is_none() => Some(meter),
        _ => None,
    }
}

/// What of a circuit's limit may be used.
pub(super) fn usable(config: &Config, limit_ma: u32) -> Milliamps {
    let share = i64::from(config.load.max_total_cur_prc.min(100));
    Milliamps((i64::from(limit_ma) * share / 100 - i64::from(config.load.reserve_ma)).max(0))
}

fn circuit(
    config: &Config,
    circuit: &CircuitConfig,
    meter: Option<&DeviceConfig>,
    status: Option<&DeviceStatus>,
    own: PerPhase<Milliamps>,
    now: Moment,
) -> Circuit {
    let failsafe = circuit.failsafe_base_ma.map(|ma| PerPhase(ma).map(Milliamps::from));
    let metering = if meter.is_none() && circuit.meter.is_none() {
        // Nothing measures it: the declared load, or none.
        Metering::Unmetered { fixed: failsafe.unwrap_or_default() }
    } else {
        let status = status.filter(|_| meter.is_some_and(|meter| meter.enabled));
        let sample = status.and_then(|status| meter_sample(status, PerPhase(circuit.limit_ma), own, now));
        let stale_after = status.map_or(0, |status| status.stale_after.as_millis());
        let stale_after_ms = u64::try_from(stale_after).unwrap_or(u64::MAX);
        // The file's default: the whole limit, so that nothing is given while nobody knows.
        let failsafe = failsafe.unwrap_or(PerPhase(circuit.limit_ma).map(Milliamps::from));
        Metering::Metered { sample, stale_after_ms, failsafe }
    };
    Circuit {
        id: circuit.id.as_str().into(),
        parent: circuit.parent.as_deref().map(CircuitId::from),
        limit: PerPhase(circuit.limit_ma).map(|ma| usable(config, ma)),
        sum_limit: None,
        metering,
    }
}

/// Currents of one device's conductors with the age of the oldest that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Conductors {
    current: [Option<Milliamps>; 3],
    at: Moment,
}

/// What a meter shows. A meter's L1 is the circuit's.
fn meter_sample(
    status: &DeviceStatus,
    limit_ma: PerPhase<u32>,
    own: PerPhase<Milliamps>,
    now: Moment,
) -> Option<Sample> {
    let not_before = status.not_before(now);
    if let Some(conductors) = measured_currents(status, not_before) {
        return Some(Sample { current: PerPhase(conductors.current), at: conductors.at });
    }
    // Only the power of all phases together. On a circuit with one phase that says everything. On three it does not
    // say on which the load is, so all of it is assumed on each, less what the wallboxes draw on the other two: more
    // than that no phase can carry (unless another one exports, which such a meter cannot show). That leaves cars
    // less than there is; a meter that shows phases leaves them all.
    let total = status.values.get(POWER_TOTAL).filter(|total| total.at >= not_before)?;
    let whole = milliamps(total.value * 1_000.0 / NOMINAL_V)?;
    let on = |phase: Phase| {
        let others = Phase::ALL.into_iter().filter(|other| *other != phase && limit_ma[*other] > 0);
        let elsewhere = others.map(|other| own[other]).sum();
        Some(if limit_ma[phase] > 0 { whole - elsewhere } else { Milliamps::ZERO })
    };
    Some(Sample { current: PerPhase::from_fn(on), at: total.at })
}

/// Per conductor L1, L2, L3 in mA: the current with the sign of the power, else the power divided by the voltage, where
/// it was measured at or after `not_before`.
pub(crate) fn signed_currents(status: &DeviceStatus, not_before: Moment) -> [Option<f64>; 3] {
    #[expect(clippy::cast_precision_loss, reason = "no possible current is so large")]
    let as_float = |ma: Milliamps| ma.0 as f64;
    measured_currents(status, not_before).map_or([None; 3], |found| found.current.map(|ma| ma.map(as_float)))
}

/// Per conductor: the current with the sign of the power, else the power divided by the voltage. `None` if neither is
/// known of any conductor.
fn measured_currents(status: &DeviceStatus, not_before: Moment) -> Option<Conductors> {
    let fresh = |name: &str| status.values.get(name).filter(|value| value.at >= not_before && value.value.is_finite());
    let currents = CURRENT.map(fresh);
    let powers = POWER.map(fresh);
    let volts = VOLTAGE.map(fresh);
    let total = fresh(POWER_TOTAL);
    let exports = exporting(currents, powers, total);
    let mut at: Option<Moment> = None;
    let mut result = [None; 3];
    let each = result.iter_mut().zip(currents).zip(powers).zip(volts).zip(exports);
    for ((((slot, current), power), voltage), exporting) in each {
        let volt = voltage.map(|v| v.value).filter(|v| PLAUSIBLE_V.contains(v)).unwrap_or(NOMINAL_V);
        let (value, measured) = match (current, power) {
            (Some(current), _) => {
                let magnitude = current.value.abs();
                (milliamps(if exporting { -magnitude } else { magnitude }), current.at)
            }
            (None, Some(power)) => (milliamps(power.value * 1_000.0 / volt), power.at),
            (None, None) => continue,
        };
        *slot = value;
        if value.is_some() {
            at = Some(at.map_or(measured, |at| at.min(measured)));
        }
    }
    Some(Conductors { current: result, at: at? })
}

/// Which conductors carry current towards the grid. The power of the phase says it; else the meter's own sign; else,
/// with magnitudes and the total power alone, a phase counts as exporting only if the total is so low that it cannot
/// be importing even if both others export all their current.
fn exporting(
    currents: [Option<Measured<f64>>; 3],
    powers: [Option<Measured<f64>>; 3],
    total: Option<Measured<f64>>,
) -> [bool; 3] {
    let signed = currents.iter().flatten().any(|current| current.value < 0.0);
    let sum: f64 = currents.iter().flatten().map(|current| current.value.abs()).sum();
    let decide = |(current, power): (Option<Measured<f64>>, Option<Measured<f64>>)| match (current, power) {
        (_, Some(power)) => power.value < 0.0,
        (Some(current), None) if signed => current.value < 0.0,
        (Some(current), None) => total.is_some_and(|total| {
            let magnitude = current.value.abs();
            total.value < 0.0 && total.value * 1_000.0 / NOMINAL_V < magnitude - (sum - magnitude)
        }),
        (None, None) => false,
    };
    let [c1, c2, c3] = currents;
    let [p1, p2, p3] = powers;
    [(c1, p1), (c2, p2), (c3, p3)].map(decide)
}

/// Moves conductors to the circuit's phases.
fn on_circuit(conductors: Conductors, order: [Option<u8>; 3]) -> Sample {
    let mut current = PerPhase::default();
    for (value, phase) in conductors.current.into_iter().zip(order) {
        if let Some(phase) = phase.and_then(Phase::from_index) {
            current[phase] = value;
        }
    }
    // A phase nothing is connected to carries nothing through this meter.
    for phase in Phase::ALL {
        let connected = order.into_iter().flatten().filter_map(Phase::from_index).any(|other| other == phase);
        if !connected {
            current[phase] = Some(Milliamps::ZERO);
        }
    }
    Sample { current, at: conductors.at }
}

fn charger(
    device: &DeviceConfig,
    circuit: CircuitId,
    status: &DeviceStatus,
    pinned: Option<Sample>,
    now: Moment,
) -> Charger {
    let not_before = status.not_before(now);
    // Age alone decides: one failed poll does not make the values of a second ago worthless, and a driver that is
    // being restarted has until they are too old.
    let reachable = status.values.newest().is_some_and(|at| at >= not_before && at > Moment(0));
    let fresh = |name: &str| status.values.fresh(name, not_before).filter(|value| value.is_finite());
    let active = fresh(PHASES_ACTIVE);
    let conductors = connected(device, active);
    let map = |phases: [Option<u8>; 3]| {
        let on = |phase: Phase| phases.into_iter().flatten().filter_map(Phase::from_index).any(|used| used == phase);
        PerPhase::from_fn(on)
    };
    let order = device.phases.map_or([Some(0), Some(1), Some(2)], |map| map.of);
    // What it measures itself counts; one that measures no current is measured by the meter in front of it, and only
    // without such a one its power is divided among the phases.
    let own = own_conductors(status, not_before).map(|own| on_circuit(own, order));
    let shared = || shared_power(status, not_before, conductors, active).map(|sample| on_circuit(sample, order));
    let measured = own.or(pinned).or_else(shared);
    let enabled = fresh(CHARGING_ENABLED).is_none_or(|enabled| enabled != 0.0);
    let follows = fresh(LIMIT_CURRENT).and_then(milliamps);
    let milliamp = status.info.features.iter().any(|feature| feature == "current.milliamp");
    Charger {
        id: device.id.clone(),
        circuit,
        phases: device.phases.map(|_| map(conductors)),
        min: device.min_ma.into(),
        max: device.max_ma.into(),
        step: if milliamp { FINE_STEP } else { WHOLE_AMPERE },
        cable: fresh(LIMIT_CABLE).and_then(milliamps).filter(|cable| cable.0 > 0),
        allowed: None,
        rules: None,
        reachable,
        connector: status.values.connector().filter(|c| c.at >= not_before).map_or(Connector::Unknown, |c| c.value),
        measured: measured.filter(|_| reachable),
        accepted: status.commanded.map(|accepted| Measured { value: accepted.value.into(), at: accepted.at }),
        follows: if enabled { follows } else { Some(Milliamps::ZERO) },
        failsafe: device.failsafe.map(|failsafe| failsafe.ma.into()),
        priority: device.priority,
        weight: 1,
        energy_wh: fresh(ENERGY_SESSION).and_then(whole).unwrap_or(0),
    }
}

/// The conductors in use, as phases of the circuit. A wallbox that charges on one phase uses its first.
fn connected(device: &DeviceConfig, active: Option<f64>) -> [Option<u8>; 3] {
    let all = device.phases.map_or([Some(0), Some(1), Some(2)], |map| map.of);
    let [first, ..] = all;
    if active == Some(1.0) && first.is_some() { [first, None, None] } else { all }
}

/// What a wallbox measures on its conductors.
fn own_conductors(status: &DeviceStatus, not_before: Moment) -> Option<Conductors> {
    let Conductors { current, at } = measured_currents(status, not_before)?;
    // A wallbox draws; signs here are only wiring.
    Some(Conductors { current: current.map(|value| value.map(|ma| Milliamps(ma.0.abs()))), at })
}

/// Only its total power known: divided among the conductors in use; a car that uses fewer is still counted with its
/// full limit on each, which makes up for what the division misses.
fn shared_power(
    status: &DeviceStatus,
    not_before: Moment,
    conductors: [Option<u8>; 3],
    active: Option<f64>,
) -> Option<Conductors> {
    let total = status.values.get(POWER_TOTAL).filter(|total| total.at >= not_before)?;
    let used = conductors.iter().flatten().count();
    let told = active.filter(|active| (1.0..=3.0).contains(active));
    let divisor = told.unwrap_or(f64::from(u8::try_from(used.max(1)).unwrap_or(3)));
    let each = milliamps(total.value.abs() * 1_000.0 / NOMINAL_V / divisor)?;
    Some(Conductors { current: conductors.map(|phase| Some(phase.map_or(Milliamps::ZERO, |_| each))), at: total.at })
}

/// What the wallboxes below a circuit measure on each phase.
fn own_currents(config: &Config, circuit: &CircuitConfig, chargers: &[Charger]) -> PerPhase<Milliamps> {
    let below = |charger: &&Charger| {
        let mut next = Some(charger.circuit.as_str());
        for _ in 0..=config.circuits.len() {
            if next == Some(circuit.id.as_str()) {
                return true;
            }
            let found = config.circuits.iter().find(|other| Some(other.id.as_str()) == next);
            next = found.and_then(|other| other.parent.as_deref());
        }
        false
    };
    let mut own = PerPhase::<Milliamps>::default();
    for charger in chargers.iter().filter(below) {
        let surely = charger.surely_draws();
        own = PerPhase::from_fn(|phase| own[phase] + surely[phase]);
    }
    own
}

/// The number as an integer, rounded away from zero so that no load is lost; `None` if it is no possible current.
fn milliamps(ma: f64) -> Option<Milliamps> {
    let possible = ma.is_finite() && ma.abs() <= IMPOSSIBLE_MA;
    let rounded = if ma < 0.0 { ma.floor() } else { ma.ceil() };
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked above, and `as` saturates")]
    possible.then_some(Milliamps(rounded as i64))
}

fn whole(value: f64) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, negatives become 0")]
    value.is_finite().then_some(value as u64)
}

#[cfg(test)]
mod tests;
