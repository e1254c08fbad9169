//! One tick from beginning to end.

use std::collections::BTreeMap;

use super::charger::{ChargerMemory, Watch};
use super::circuit::{CircuitMemory, CircuitWatch, Parts};
use super::fill::{self, Seat, Share, Slack};
use super::tree::{Tree, add_along};
use super::{Charger, CircuitId, Milliamps, Mode, PerPhase, Phase, Plan, Site, commit, explain};
use crate::site::{Connector, DeviceId, Moment};

/// What the load manager remembers from tick to tick. Plain data: a copy of it together with the inputs repeats a
/// decision exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    last: Option<Moment>,
    chargers: BTreeMap<DeviceId, ChargerMemory>,
    circuits: BTreeMap<CircuitId, CircuitMemory>,
}

/// A wallbox in this tick: what it is, what is known, and what becomes of it.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub charger: &'a Charger,
    pub memory: &'a mut ChargerMemory,
    pub watch: Watch,
    /// Numbers of its circuits up to the root; empty if there is no such way.
    pub path: Vec<usize>,
    /// It can be commanded: it answers, has a circuit, and the mode is "manage".
    pub live: bool,
    pub seat: Seat,
    /// Its share now, and its share if the load were as high as it was lately.
    pub now: Share,
    pub high: Share,
    /// What it is told in the end.
    pub granted: Milliamps,
    /// What kept it from going up to its share.
    pub held: commit::Held,
}

/// The circuits in this tick, in the order of the tree.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub tree: Tree<'a>,
    pub watches: Vec<CircuitWatch>,
    /// Nobody may be raised: an input has just been lost.
    pub input_lost: bool,
    /// What is left on each limit for sharing, before anything is shared.
    pub room: Slack,
    /// What is left for raises: nothing that somebody may still draw is in it.
    pub free: Slack,
}

/// Decides what each wallbox is told at `now`, from the inputs and what is remembered in `state`.
///
/// Never fails: what cannot be right (a circuit below itself, a wallbox on a circuit that does not exist) is given
/// nothing and named in [`Plan::alarms`]. `now` must not run backwards.
pub fn plan(state: &mut State, site: &Site, now: Moment) -> Plan {
    let (mut units, mut ground) = assess(state, site, now);
    if site.mode == Mode::Manage {
        commit::decide(&mut units, &mut ground, now, &site.tuning);
    } else {
        units.iter_mut().for_each(|unit| unit.granted = Milliamps(unit.now.current));
    }
    let commands = commit::send(&mut units, now, &site.tuning);
    explain::explain(units, &ground, commands, site, now)
}

/// Takes in what is known and shares: everything before the first decision.
fn assess<'a>(state: &'a mut State, site: &'a Site, now: Moment) -> (Vec<Unit<'a>>, Ground<'a>) {
    let elapsed_ms = state.last.map_or(0, |last| now.0.saturating_sub(last.0));
    let known: BTreeMap<&DeviceId, &Charger> = by_id(&site.chargers);
    state.chargers.retain(|id, _| known.contains_key(id));
    for id in known.keys() {
        if !state.chargers.contains_key(*id) {
            state.chargers.insert((*id).clone(), ChargerMemory::default());
        }
    }
    state.last = Some(now);
    let tree = Tree::new(&site.circuits);
    let mut units = observe_chargers(&mut state.chargers, &known, site, &tree, now);
    let watches = observe_circuits(&mut state.circuits, &tree, &units, (now, elapsed_ms), site);
    let ground = survey(tree, watches, &units);
    share(&mut units, &ground);
    (units, ground)
}

/// The wallboxes by id. Two with one id cannot be told apart; the configuration refuses that, and here the one that
/// may draw more is kept, whatever the order of the list.
fn by_id(chargers: &[Charger]) -> BTreeMap<&DeviceId, &Charger> {
    let mut known: BTreeMap<&DeviceId, &Charger> = BTreeMap::new();
    for charger in chargers {
        let entry = known.entry(&charger.id).or_insert(charger);
        if (charger.max, &charger.circuit) > (entry.max, &entry.circuit) {
            *entry = charger;
        }
    }
    known
}

fn observe_chargers<'a>(
    memories: &'a mut BTreeMap<DeviceId, ChargerMemory>,
    known: &BTreeMap<&DeviceId, &'a Charger>,
    site: &Site,
    tree: &Tree<'_>,
    now: Moment,
) -> Vec<Unit<'a>> {
    let mut units = Vec::with_capacity(memories.len());
    for (memory, charger) in memories.values_mut().zip(known.values()) {
        if site.mode == Mode::Observe {
            memory.let_go();
        }
        let watch = memory.observe(charger, now, &site.tuning);
        let path = tree.path(&charger.circuit).unwrap_or_default();
        let live = charger.reachable && !path.is_empty() && site.mode == Mode::Manage;
        let cap = if charger.reachable { watch.requested.0 } else { 0 };
        let seat = Seat {
            min: charger.least().0,
            cap,
            step: charger.step.0.max(1),
            tier: charger.priority,
            uses: tree.uses(charger, &path),
        };
        units.push(Unit {
            charger,
            memory,
            watch,
            path,
            live,
            seat,
            now: Share::default(),
            high: Share::default(),
            granted: Milliamps::ZERO,
            held: commit::Held::No,
        });
    }
    units
}

fn observe_circuits(
    memories: &mut BTreeMap<CircuitId, CircuitMemory>,
    tree: &Tree<'_>,
    units: &[Unit<'_>],
    (now, elapsed_ms): (Moment, u64),
    site: &Site,
) -> Vec<CircuitWatch> {
    let mut surely = vec![PerPhase::default(); tree.circuits.len()];
    let (mut latest, mut perhaps) = (surely.clone(), surely.clone());
    for unit in units {
        add_along(&mut surely, &unit.path, unit.watch.surely);
        add_along(&mut latest, &unit.path, unit.watch.latest);
        add_along(&mut perhaps, &unit.path, unit.watch.perhaps);
    }
    memories.retain(|id, _| tree.circuits.iter().any(|circuit| circuit.id == *id));
    let parts = surely.into_iter().zip(latest).zip(perhaps);
    let parts = parts.map(|((surely, latest), perhaps)| Parts { surely, latest, perhaps });
    let observe = |(circuit, parts): (&&super::Circuit, Parts)| {
        let memory = memories.entry(circuit.id.clone()).or_default();
        memory.observe(circuit, parts, now, elapsed_ms, &site.tuning)
    };
    tree.circuits.iter().zip(parts).map(observe).collect()
}

/// What is left on each limit. In observe mode nothing is known of what wallboxes may draw, and the shares show what
/// they would get.
fn survey<'a>(tree: Tree<'a>, watches: Vec<CircuitWatch>, units: &[Unit<'_>]) -> Ground<'a> {
    let limits: Vec<PerPhase<Milliamps>> = watches.iter().map(|watch| watch.limit).collect();
    let mut load: Vec<PerPhase<Milliamps>> = watches.iter().map(|watch| watch.base).collect();
    let mut taken: Vec<PerPhase<Milliamps>> = watches.iter().map(|watch| watch.base_high).collect();
    for unit in units {
        // What a wallbox that answers is told is shared out below; what it takes beyond that is gone, like all that a
        // silent one may take. Reductions on their way are not taken off here: the share of whoever was reduced would
        // shrink once more by its own reduction. They count for raises.
        let gone = if unit.charger.reachable { unit.watch.excess } else { unit.watch.counted };
        add_along(&mut load, &unit.path, gone);
        add_along(&mut taken, &unit.path, unit.watch.counted);
    }
    let room = Slack(tree.slack(&limits, &load));
    let free = Slack(tree.slack(&limits, &taken));
    let input_lost = units.iter().any(|unit| unit.watch.lost) || watches.iter().any(|watch| watch.lost);
    Ground { tree, watches, input_lost, room, free }
}

/// Shares twice: what the circuits carry now, and what they would carry if the load were as high as it was lately.
fn share(units: &mut [Unit<'_>], ground: &Ground<'_>) {
    units.sort_by(|a, b| admission_order(a).cmp(&admission_order(b)).then_with(|| fairness(a, b)));
    let seats: Vec<&Seat> = units.iter().map(|unit| &unit.seat).collect();
    let mut room = ground.room.clone();
    let now = fill::share(&seats, &mut room);
    let mut high_room = ground.room.clone();
    for (number, watch) in ground.watches.iter().enumerate() {
        let more = PerPhase::from_fn(|phase: Phase| (watch.base_high[phase] - watch.base[phase]).at_least_zero());
        ground.tree.lower(&mut high_room.0, number, more);
    }
    let high = fill::share(&seats, &mut high_room);
    for ((unit, now), high) in units.iter_mut().zip(now).zip(high) {
        (unit.now, unit.high) = (now, high);
    }
}

/// Who is asked first: the higher priority, then cars that draw before cars that have long drawn nothing, then who
/// runs already before who waits, so that nobody is stopped for an equal.
fn admission_order(unit: &Unit<'_>) -> (std::cmp::Reverse<i32>, bool, bool) {
    let running = unit.live && unit.watch.setting.0 > 0 && unit.watch.requested.0 > 0;
    (std::cmp::Reverse(unit.charger.priority), unit.watch.idle, !running)
}

/// Among equals who got less energy for its weight, then the id.
fn fairness(a: &Unit<'_>, b: &Unit<'_>) -> std::cmp::Ordering {
    let key = |mine: &Charger, other: &Charger| u128::from(mine.energy_wh) * u128::from(other.weight.max(1));
    key(a.charger, b.charger).cmp(&key(b.charger, a.charger)).then_with(|| a.charger.id.cmp(&b.charger.id))
}

/// What each wallbox that answers is left with when nobody manages the site any more: its minimum if all minimums
/// together with the load of the last while stay below every limit, else 0, decided in the order of admission. Empty
/// wallboxes take part, as a car may be plugged in later.
#[must_use]
pub fn minimums(state: &State, site: &Site, now: Moment) -> Vec<(DeviceId, Milliamps)> {
    let mut frugal = site.clone();
    // A silent one hears nothing and may go on drawing its maximum.
    for charger in frugal.chargers.iter_mut().filter(|charger| charger.reachable) {
        charger.max = charger.least();
        if charger.connector == Connector::Available {
            charger.connector = Connector::Connected;
        }
    }
    let mut state = state.clone();
    let (units, _) = assess(&mut state, &frugal, now);
    let answering = units.into_iter().filter(|unit| unit.charger.reachable);
    answering.map(|unit| (unit.charger.id.clone(), Milliamps(unit.now.current.min(unit.high.current)))).collect()
}
