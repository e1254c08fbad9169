//! Invariants of whole ticks, over random sites and random histories: cars that follow late or take more than they
//! were told, meters and wallboxes that fall silent, limits that change. I1, I2, I4 and I5.
//!
//! I1 ("base + ledger + what wallboxes may draw stays below the limit") can only be kept by what a plan *does*: when
//! the house switches an oven on, no plan of this moment makes it true before the cars have obeyed. So it is tested as
//! its two halves. What wallboxes are told together with the load fits, or all of them are told 0 and an alarm says
//! so; and whoever is raised is raised into current that nobody may still draw.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{
    Alarm, Charger, Circuit, CircuitId, Metering, Milliamps, PerPhase, Phase, Plan, Sample, Site, State, plan,
};
use super::evse;
use crate::site::{Connector, DeviceId, Measured, Moment};

/// What one car and its wallbox do in a history.
#[derive(Clone, Debug)]
struct Car {
    circuit: usize,
    phases: Option<[bool; 3]>,
    min: i64,
    max: i64,
    step: i64,
    priority: i32,
    /// The wallbox tells what it measures.
    measures: bool,
    /// Time until the car obeys what the wallbox has accepted.
    lag_ms: u64,
    /// What it takes beyond what it is told.
    greed: i64,
    /// Share of what it is told that it takes, in percent.
    appetite: i64,
    /// Time until the wallbox accepts a command.
    deaf_ms: u64,
}

/// What happens in one tick.
#[derive(Clone, Debug)]
struct Event {
    elapsed_ms: u64,
    house: [i64; 3],
    meter_silent: bool,
    /// The wallbox that is silent, if that many exist.
    silent: usize,
    state: Connector,
    limit_percent: i64,
    /// Who is restricted, and to what in mA; 0 forbids.
    restricted: Option<(usize, i64)>,
}

#[derive(Clone, Debug)]
struct History {
    /// Limit in A and whether there is a meter, root first; the others hang below it.
    circuits: Vec<(i64, bool)>,
    cars: Vec<Car>,
    events: Vec<Event>,
}

fn car() -> impl Strategy<Value = Car> {
    let phases = prop::sample::select(vec![
        Some([true; 3]),
        Some([true; 3]),
        Some([true, false, false]),
        Some([false, true, true]),
        None,
    ]);
    let wallbox = (0..3_usize, phases, 6..=8_i64, 8..=32_i64, prop::sample::select(vec![1_i64, 100, 1_000]), 0..=1_i32);
    let behaviour =
        (any::<bool>(), 0..=11_000_u64, prop::sample::select(vec![0_i64, 0, 1_500, 4_000]), 50..=100_i64, 0..4_000_u64);
    (wallbox, behaviour).prop_map(
        |((circuit, phases, min, max, step, priority), (measures, lag_ms, greed, appetite, deaf_ms))| Car {
            circuit,
            phases,
            min: min * 1_000,
            max: max * 1_000,
            step,
            priority,
            measures,
            lag_ms,
            greed,
            appetite,
            deaf_ms,
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let states = vec![
        Connector::Charging,
        Connector::Charging,
        Connector::Charging,
        Connector::Connected,
        Connector::Available,
        Connector::Unknown,
        Connector::Fault,
    ];
    let house = prop::array::uniform3(-10_000..=30_000_i64);
    let limit = prop::sample::select(vec![100_i64, 100, 100, 100, 80, 50]);
    let allowed = prop::sample::select(vec![0_i64, 0, 5_999, 8_000, 13_000]);
    let restricted = prop::option::of((0..5_usize, allowed));
    let world = (prop::bool::weighted(0.1), 0..20_usize, prop::sample::select(states), limit, restricted);
    (200..8_000_u64, house, world).prop_map(
        |(elapsed_ms, house, (meter_silent, silent, state, limit_percent, restricted))| Event {
            elapsed_ms,
            house,
            meter_silent,
            silent,
            state,
            limit_percent,
            restricted,
        },
    )
}

fn history() -> impl Strategy<Value = History> {
    let circuits = prop::collection::vec((10..=63_i64, any::<bool>()), 1..=3);
    let cars = prop::collection::vec(car(), 1..=5);
    let events = prop::collection::vec(event(), 1..=14);
    (circuits, cars, events).prop_map(|(circuits, cars, events)| History { circuits, cars, events })
}

/// One command on its way.
#[derive(Clone, Copy, Debug)]
struct Told {
    value: Milliamps,
    started: Moment,
    accepted: Moment,
    obeyed: Moment,
}

/// What the wallboxes and cars really do.
#[derive(Clone, Debug, Default)]
struct World {
    told: BTreeMap<DeviceId, Vec<Told>>,
}

impl World {
    fn tell(&mut self, id: &DeviceId, car: &Car, value: Milliamps, now: Moment) {
        let told = self.told.entry(id.clone()).or_default();
        // As `control` does it: one command under way, the newest waits in place of an older one.
        told.pop_if(|last| last.started > now);
        let (free, before) = told.last().map_or((now, now), |last| (last.accepted, last.obeyed));
        let started = free.max(now);
        let accepted = Moment(started.0 + car.deaf_ms);
        told.push(Told { value, started, accepted, obeyed: Moment(accepted.0 + car.lag_ms).max(before) });
    }

    fn accepted(&self, id: &DeviceId, now: Moment) -> Option<Measured<Milliamps>> {
        let told = self.told.get(id)?.iter().rfind(|told| told.accepted <= now)?;
        Some(Measured { value: told.value, at: told.accepted })
    }

    fn draws(&self, id: &DeviceId, car: &Car, now: Moment) -> Milliamps {
        let told = self.told.get(id).and_then(|told| told.iter().rfind(|told| told.obeyed <= now));
        let told = told.map_or(Milliamps::ZERO, |told| told.value);
        if told.0 == 0 { told } else { Milliamps(told.0 * car.appetite / 100 + car.greed) }
    }

    /// What the car may still draw by right: what it obeys now and all that is on its way.
    fn may_draw(&self, id: &DeviceId, now: Moment) -> Milliamps {
        let Some(told) = self.told.get(id) else { return Milliamps::ZERO };
        let obeyed = told.iter().rposition(|told| told.obeyed <= now).unwrap_or(0);
        told.iter().skip(obeyed).map(|told| told.value).max().unwrap_or_default()
    }
}

fn circuit_name(number: usize) -> CircuitId {
    CircuitId::from(["root", "left", "right"][number])
}

fn build(history: &History, event: &Event, world: &World, now: Moment) -> Site {
    let count = history.circuits.len();
    let mut chargers = Vec::new();
    let mut draw = vec![PerPhase::<Milliamps>::default(); count];
    for (number, car) in history.cars.iter().enumerate() {
        let id = evse(number + 1);
        let home = car.circuit % count;
        let mut charger = Charger::new(id.clone(), circuit_name(home), Milliamps(car.max));
        charger.phases = car.phases.map(PerPhase);
        (charger.min, charger.step, charger.priority) = (Milliamps(car.min), Milliamps(car.step), car.priority);
        let drawn = PerPhase::from_fn(|p| if charger.uses(p) { world.draws(&id, car, now) } else { Milliamps::ZERO });
        for circuit in [0, home].into_iter().take(if home == 0 { 1 } else { 2 }) {
            draw[circuit] = PerPhase::from_fn(|phase| draw[circuit][phase] + drawn[phase]);
        }
        charger.allowed = event.restricted.filter(|(who, _)| *who == number).map(|(_, ma)| Milliamps(ma));
        charger.reachable = event.silent != number;
        if charger.reachable {
            charger.connector = event.state;
            charger.measured = car.measures.then(|| Sample { current: drawn.map(Some), at: now });
            charger.accepted = world.accepted(&id, now);
        }
        chargers.push(charger);
    }
    let circuits = history.circuits.iter().zip(draw).enumerate().map(|(number, ((ampere, measured), draw))| {
        let house = PerPhase(event.house).map(|ma| Milliamps(ma / if number == 0 { 1 } else { 4 }));
        let current = PerPhase::from_fn(|phase| Some(house[phase] + draw[phase]));
        let sample = (!event.meter_silent).then_some(Sample { current, at: now });
        let metered = Metering::Metered { sample, stale_after_ms: 1_000, failsafe: PerPhase::all(Milliamps(8_000)) };
        Circuit {
            id: circuit_name(number),
            parent: (number > 0).then(|| circuit_name(0)),
            limit: PerPhase::all(Milliamps(ampere * 10 * event.limit_percent)),
            sum_limit: None,
            metering: if *measured { metered } else { Metering::Unmetered { fixed: PerPhase::default() } },
        }
    });
    Site { circuits: circuits.collect(), chargers, ..Site::default() }
}

/// Whether `charger` counts on this circuit: all hang on the root, some on a circuit below it.
fn counts_on(charger: &Charger, circuit: &Circuit) -> bool {
    circuit.parent.is_none() || charger.circuit == circuit.id
}

fn check_fits(site: &Site, world: &World, before: &Plan, after: &Plan) -> Result<(), TestCaseError> {
    for circuit in &site.circuits {
        let view = &after.circuits[&circuit.id];
        for phase in Phase::ALL {
            let here = || site.chargers.iter().filter(|c| counts_on(c, circuit) && c.uses(phase));
            let granted = |charger: &Charger| after.chargers[&charger.id].granted;
            let counted = |charger: &Charger| after.chargers[&charger.id].counted[phase];
            let told: Milliamps = here().map(|c| if c.reachable { granted(c) } else { counted(c) }).sum();
            let paused = here().filter(|charger| charger.reachable).all(|charger| granted(charger).0 == 0);
            let load = view.base[phase] + told;
            let named = after.alarms.iter().any(|alarm| match alarm {
                Alarm::Overload(line) => line.circuit == circuit.id && line.phase == Some(phase),
                Alarm::MeterStale(silent) => *silent == circuit.id,
                _ => false,
            });
            prop_assert!(load <= view.limit[phase] || (paused && named), "{} {phase}: {load}, {after:#?}", circuit.id);
            let rose = |charger: &Charger| {
                charger.reachable && before.chargers.get(&charger.id).is_some_and(|b| granted(charger) > b.granted)
            };
            if here().any(rose) {
                // Not by what the plan counts itself, but by what cars may really draw until they have obeyed.
                let most: Milliamps = here().map(|c| granted(c).max(world.may_draw(&c.id, after.at))).sum();
                let load = view.base_high[phase] + most;
                prop_assert!(load <= view.limit[phase], "raised on {} {phase}: {load}, {after:#?}", circuit.id);
                let most: Milliamps = here().map(|c| granted(c).max(counted(c))).sum();
                prop_assert!(view.base_high[phase] + most <= view.limit[phase]);
            }
        }
    }
    Ok(())
}

fn check_values(site: &Site, after: &Plan) -> Result<(), TestCaseError> {
    for charger in site.chargers.iter().filter(|charger| charger.reachable) {
        let granted = after.chargers[&charger.id].granted;
        prop_assert!(granted.0 == 0 || (charger.min..=charger.max).contains(&granted), "{granted} {charger:?}");
        prop_assert_eq!(granted.0 % charger.step.0, 0);
        if let Some(allowed) = charger.allowed {
            prop_assert!(granted <= allowed, "{granted} of {allowed} for {charger:?}");
            prop_assert!(allowed >= charger.min || granted.0 == 0);
        }
    }
    Ok(())
}

fn check_loss(lost: bool, before: &Plan, after: &Plan) -> Result<(), TestCaseError> {
    for (id, plan) in after.chargers.iter().filter(|_| lost) {
        let was = before.chargers.get(id).map_or(Milliamps::ZERO, |before| before.granted);
        prop_assert!(plan.granted <= was, "{id} rose from {was} to {} in a tick of loss", plan.granted);
    }
    Ok(())
}

fn reversed(site: &Site) -> Site {
    let mut site = site.clone();
    site.circuits.reverse();
    site.chargers.reverse();
    let middle = site.chargers.len() / 2;
    site.chargers.rotate_left(middle);
    site
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_an_invariant(history in history()) {
        let (mut state, mut world, mut before) = (State::default(), World::default(), Plan::default());
        let mut now = Moment(1_000);
        let mut lost_before: Option<(bool, usize)> = None;
        for event in &history.events {
            now = Moment(now.0 + event.elapsed_ms);
            let site = build(&history, event, &world, now);
            let mut other = state.clone();
            let after = plan(&mut state, &site, now);
            let again = plan(&mut other, &reversed(&site), now);
            prop_assert_eq!(&after, &again);
            prop_assert_eq!(&state, &other);
            check_fits(&site, &world, &before, &after)?;
            check_values(&site, &after)?;
            // The first tick has nobody who could fall silent.
            let metered = history.circuits.iter().any(|(_, metered)| *metered);
            let lost = lost_before.is_some_and(|(silent_meter, silent_box)| {
                (metered && event.meter_silent && !silent_meter)
                    || (event.silent < history.cars.len() && event.silent != silent_box)
            });
            check_loss(lost, &before, &after)?;
            lost_before = Some((event.meter_silent, event.silent));
            for order in &after.commands {
                prop_assert_eq!(order.current, after.chargers[&order.device].granted);
            }
            let reductions = after.commands.iter().map(|order| order.kind);
            prop_assert!(reductions.is_sorted());
            for order in &after.commands {
                let car = &history.cars[usize::try_from(order.device.number()).unwrap() - 1];
                world.tell(&order.device, car, order.current, now);
            }
            before = after;
        }
    }
}
