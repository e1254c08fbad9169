//! The daemon's own `load::plan` in a closed loop with a simulated house, in virtual time: cars that obey after 0 to
//! 11 s and take more than they were told, meters that lag and die, wallboxes that fall silent or refuse. The judge is
//! a breaker's thermal curve that shares no code with `load/`.
//!
//! Promises:
//! * no random site trips the breaker, and a cut is commanded at once when the meter shows an overload;
//! * the ledger, the slow raise and the failsafe each prevent an overload in a scenario of their own, and the same
//!   scenario overloads the site when that part is switched off, so that the test is known to bite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

#[path = "closed_loop_parts/breaker.rs"]
mod breaker;

use std::collections::{BTreeMap, VecDeque};

use ladekern::load::{
    Alarm, Charger, Circuit, Metering, Milliamps, OrderKind, PerPhase, Phase, Plan, Sample, Site, State, Tuning, plan,
};
use ladekern::site::{Connector, DeviceId, Measured, Moment};

use breaker::Breaker;

/// Step of the physics.
const STEP_MS: u64 = 100;
/// A fiftieth above a limit is noise of measurement and no overload.
const NOISE: f64 = 1.02;
/// Cycle of the load manager.
const CYCLE_MS: u64 = 1_000;

/// A generator of numbers for the scenarios (splitmix64); the same seed gives the same site.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A wallbox with its car.
#[derive(Clone, Debug)]
struct Car {
    max: f64,
    phases: [bool; 3],
    /// From when on it uses only its first phase.
    drops_phases_at: Option<u64>,
    plugged_at: u64,
    /// What it takes beyond what it is told.
    greed: f64,
    /// How long it takes to obey, for each command anew between these.
    lag_ms: (u64, u64),
    /// The wallbox measures what the car draws.
    measures: bool,
    /// How often the wallbox is polled.
    poll_ms: u64,
    /// From when until when the wallbox says nothing and takes no command.
    silent: Option<(u64, u64)>,
    /// What the wallbox falls back to by itself after it has heard nothing for ten seconds.
    failsafe: Option<f64>,
    /// From when on it refuses commands but still reports.
    refuses_at: Option<u64>,
    /// Changes that the car will still make.
    coming: VecDeque<(u64, f64)>,
    told: f64,
    draws: f64,
    accepted: Option<Measured<Milliamps>>,
    sample: Option<(f64, u64)>,
}

impl Car {
    fn new(max: f64) -> Self {
        Self {
            max,
            phases: [true; 3],
            drops_phases_at: None,
            plugged_at: 0,
            greed: 0.0,
            lag_ms: (0, 0),
            measures: true,
            poll_ms: 1_000,
            silent: None,
            failsafe: None,
            refuses_at: None,
            coming: VecDeque::new(),
            told: 0.0,
            draws: 0.0,
            accepted: None,
            sample: None,
        }
    }

    fn answers(&self, now: u64) -> bool {
        !self.silent.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    fn uses(&self, phase: usize, now: u64) -> bool {
        let first = self.phases.iter().position(|used| *used);
        match self.drops_phases_at {
            Some(at) if now >= at => first == Some(phase),
            _ => self.phases[phase],
        }
    }

    /// The wallbox takes a command; the car obeys later.
    fn command(&mut self, ampere: f64, now: u64, dice: &mut Dice) {
        if !self.answers(now) || self.refuses_at.is_some_and(|at| now >= at) {
            return;
        }
        let told = if ampere < 6.0 { 0.0 } else { ampere };
        // Milliamperes as they were commanded: the acceptance is compared exactly.
        let value = Milliamps((ampere * 1_000.0).round() as i64);
        self.accepted = Some(Measured { value, at: Moment(now) });
        if told != self.told {
            let lag = self.lag_ms.0 + dice.below(self.lag_ms.1 - self.lag_ms.0 + 1);
            let last = self.coming.back().map_or(0, |(at, _)| *at);
            self.coming.push_back(((now + lag).max(last), told));
            self.told = told;
        }
    }

    fn live(&mut self, now: u64) {
        if let (Some((from, to)), Some(failsafe)) = (self.silent, self.failsafe)
            && (from + 10_000..to).contains(&now)
            && self.told > failsafe
        {
            self.told = failsafe;
            self.coming.push_back((now + self.lag_ms.1, failsafe));
        }
        while self.coming.front().is_some_and(|(at, _)| *at <= now) {
            let (_, told) = self.coming.pop_front().unwrap();
            self.draws = if told > 0.0 { told + self.greed } else { 0.0 };
        }
        if now.is_multiple_of(self.poll_ms) && self.answers(now) {
            let drawn = if now >= self.plugged_at { self.draws } else { 0.0 };
            self.sample = Some((drawn, now));
        }
    }
}

/// The meter at the fuse.
#[derive(Clone, Debug)]
struct Meter {
    /// There is one at all.
    exists: bool,
    period_ms: u64,
    lag_ms: u64,
    /// From when on it says nothing.
    dies_at: Option<u64>,
    stale_after_ms: u64,
    failsafe: f64,
    past: VecDeque<(u64, [f64; 3])>,
    sample: Option<Sample>,
    /// The moment whose currents the sample shows.
    shown_from: u64,
}

struct World {
    now: u64,
    limit: f64,
    house: Box<dyn Fn(u64) -> [f64; 3]>,
    cars: Vec<Car>,
    meter: Meter,
    tuning: Tuning,
    state: State,
    dice: Dice,
    breakers: [Breaker; 3],
    plan: Plan,
    /// Ampere-seconds above the limit, the worst phase's.
    overload_as: [f64; 3],
    peak: f64,
    /// When each overload that the meter has shown was answered, in ms.
    slowest_cut_ms: u64,
    open_cut: Option<u64>,
    charged_as: f64,
}

fn id(number: usize) -> DeviceId {
    format!("E{}", number + 1).parse().unwrap()
}

fn ma(ampere: f64) -> Milliamps {
    Milliamps((ampere * 1_000.0).round() as i64)
}

impl World {
    fn new(limit: f64, cars: Vec<Car>, house: impl Fn(u64) -> [f64; 3] + 'static) -> Self {
        let meter = Meter {
            exists: true,
            period_ms: 1_000,
            lag_ms: 0,
            dies_at: None,
            stale_after_ms: 10_000,
            failsafe: limit,
            past: VecDeque::new(),
            sample: None,
            shown_from: 0,
        };
        Self {
            now: 1_000,
            limit,
            house: Box::new(house),
            cars,
            meter,
            tuning: Tuning::default(),
            state: State::default(),
            dice: Dice(1),
            breakers: std::array::from_fn(|_| Breaker::new(limit)),
            plan: Plan::default(),
            overload_as: [0.0; 3],
            peak: 0.0,
            slowest_cut_ms: 0,
            open_cut: None,
            charged_as: 0.0,
        }
    }

    fn currents(&self) -> [f64; 3] {
        let house = (self.house)(self.now);
        std::array::from_fn(|phase| {
            let cars = self.cars.iter().filter(|car| self.now >= car.plugged_at && car.uses(phase, self.now));
            house[phase] + cars.map(|car| car.draws).sum::<f64>()
        })
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + seconds * 1_000;
        while self.now < end {
            self.physics();
            let fresh = self.read_meter();
            let over = fresh && self.metered_overload();
            if self.now.is_multiple_of(CYCLE_MS) || over {
                self.control();
            }
            self.now += STEP_MS;
        }
        self
    }

    fn physics(&mut self) {
        let now = self.now;
        self.cars.iter_mut().for_each(|car| car.live(now));
        let currents = self.currents();
        let seconds = STEP_MS as f64 / 1_000.0;
        for (phase, ampere) in currents.into_iter().enumerate() {
            self.breakers[phase].carry(ampere, seconds);
            if ampere > self.limit * NOISE {
                self.overload_as[phase] += (ampere - self.limit) * seconds;
            }
            self.peak = self.peak.max(ampere);
        }
        self.charged_as += self.cars.iter().map(|car| car.draws * seconds).sum::<f64>();
        self.meter.past.push_back((now, currents));
    }

    /// Whether a new sample has arrived.
    fn read_meter(&mut self) -> bool {
        let meter = &mut self.meter;
        while meter.past.len() > 1 && meter.past[1].0 + meter.lag_ms <= self.now {
            meter.past.pop_front();
        }
        if !self.now.is_multiple_of(meter.period_ms) || meter.dies_at.is_some_and(|at| self.now >= at) {
            return false;
        }
        let (from, shown) = meter.past.front().copied().unwrap_or_default();
        meter.shown_from = from;
        meter.sample = Some(Sample { current: PerPhase(shown.map(|a| Some(ma(a)))), at: Moment(self.now) });
        true
    }

    fn metered_overload(&self) -> bool {
        let over = |current: Option<Milliamps>| current.is_some_and(|current| current > ma(self.limit));
        self.meter.sample.is_some_and(|sample| sample.current.0.into_iter().any(over))
    }

    fn site(&self) -> Site {
        let metering = if self.meter.exists {
            Metering::Metered {
                sample: self.meter.sample,
                stale_after_ms: self.meter.stale_after_ms,
                failsafe: PerPhase::all(ma(self.meter.failsafe)),
            }
        } else {
            Metering::Unmetered { fixed: PerPhase::default() }
        };
        let circuit = Circuit {
            id: "main".into(),
            parent: None,
            limit: PerPhase::all(ma(self.limit)),
            sum_limit: None,
            metering,
        };
        let chargers = self.cars.iter().enumerate().map(|(number, car)| self.charger(number, car)).collect();
        Site { circuits: vec![circuit], chargers, tuning: self.tuning.clone(), ..Site::default() }
    }

    fn charger(&self, number: usize, car: &Car) -> Charger {
        let mut charger = Charger::new(id(number), "main".into(), ma(car.max));
        charger.phases = Some(PerPhase(car.phases));
        charger.step = Milliamps(100);
        let fresh = car.sample.filter(|(_, at)| self.now <= at + 10_000);
        charger.reachable = fresh.is_some();
        charger.accepted = car.accepted;
        charger.failsafe = car.failsafe.map(ma);
        charger.connector = match fresh {
            None => Connector::Unknown,
            Some(_) if self.now < car.plugged_at => Connector::Available,
            Some((drawn, _)) if drawn > 0.0 => Connector::Charging,
            Some(_) => Connector::Connected,
        };
        charger.measured = fresh.filter(|_| car.measures).map(|(drawn, at)| {
            let on = |phase: usize| if car.uses(phase, at) { ma(drawn) } else { Milliamps::ZERO };
            Sample { current: PerPhase([Some(on(0)), Some(on(1)), Some(on(2))]), at: Moment(at) }
        });
        charger
    }

    fn control(&mut self) {
        let before: BTreeMap<DeviceId, Milliamps> =
            self.plan.chargers.iter().map(|(id, plan)| (id.clone(), plan.granted)).collect();
        let site = self.site();
        self.plan = plan(&mut self.state, &site, Moment(self.now));
        self.judge_cut(&before);
        for order in self.plan.commands.clone() {
            let number = usize::try_from(order.device.number()).unwrap() - 1;
            let (now, dice) = (self.now, &mut self.dice);
            self.cars[number].command(order.current.0 as f64 / 1_000.0, now, dice);
        }
    }

    /// An overload that the meter shows has to be answered within a second by a reduction, unless what is commanded
    /// already fits (the cars only have to obey) or nobody on that phase has anything left to give.
    fn judge_cut(&mut self, before: &BTreeMap<DeviceId, Milliamps>) {
        let reduced = self.plan.commands.iter().any(|order| order.kind == OrderKind::Reduce);
        let shown = self.meter.sample.map_or([None; 3], |sample| sample.current.0);
        // Judged by what the meter has shown, not by what nobody can know yet.
        let seen = self.meter.shown_from;
        let open = (0..3).any(|phase| {
            let here = || (0..self.cars.len()).filter(|number| self.cars[*number].uses(phase, self.now));
            // A wallbox counts as silent as soon as its values are too old, and no earlier can anybody know.
            let heard = |number: usize| self.cars[number].sample.is_some_and(|(_, at)| self.now <= at + 10_000);
            let part = |number: usize| match heard(number) {
                true => self.plan.chargers[&id(number)].granted.0 as f64 / 1_000.0,
                false => self.cars[number].draws,
            };
            let told = (self.house)(seen)[phase] + here().map(part).sum::<f64>();
            let gives = |number: &usize| before.get(&id(*number)).is_some_and(|granted| granted.0 > 0);
            let give = here().filter(|number| heard(*number)).any(|number| gives(&number));
            shown[phase].is_some_and(|current| current > ma(self.limit)) && told > self.limit * NOISE && give
        });
        if !open || reduced {
            self.open_cut = None;
            return;
        }
        let since = *self.open_cut.get_or_insert(self.now);
        self.slowest_cut_ms = self.slowest_cut_ms.max(self.now - since);
    }

    fn tripped(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.tripped)
    }

    fn overload(&self) -> f64 {
        self.overload_as.into_iter().fold(0.0, f64::max)
    }
}

fn quiet(_: u64) -> [f64; 3] {
    [0.0; 3]
}

#[test]
fn the_judge_holds_what_a_breaker_holds_and_trips_where_one_may() {
    let seconds_to_trip = |load: f64| {
        let mut breaker = Breaker::new(16.0);
        (1..36_000).find(|_| {
            breaker.carry(16.0 * load, 0.1);
            breaker.tripped
        })
    };
    assert_eq!(seconds_to_trip(1.12), None);
    for (load, from, to) in [(1.45, 330, 370), (2.0, 105, 125), (3.0, 1, 1)] {
        let tenths = seconds_to_trip(load).unwrap();
        assert!((from..=to).contains(&tenths), "{load}: {tenths} tenths of a second");
    }
}

/// One car has the whole fuse of a garage when three more arrive. It obeys late, they start at once, and neither the
/// garage nor the wallboxes have a meter: nothing but the ledger knows what may still flow.
fn newcomers(release_hold_ms: u64) -> World {
    let mut first = Car::new(32.0);
    first.lag_ms = (11_000, 11_000);
    first.measures = false;
    let late = |_| Car { plugged_at: 120_000, measures: false, ..Car::new(16.0) };
    let mut world = World::new(32.0, std::iter::once(first).chain((0..3).map(late)).collect(), quiet);
    world.meter.exists = false;
    world.tuning.release_hold_ms = release_hold_ms;
    world.run(240);
    world
}

#[test]
fn current_is_not_given_twice() {
    let world = newcomers(Tuning::default().release_hold_ms);
    assert_eq!(world.overload(), 0.0, "peak {} A", world.peak);
    let granted: Vec<i64> = world.plan.chargers.values().map(|plan| plan.granted.0).collect();
    assert!(granted.iter().all(|ma| *ma >= 6_000), "everybody charges in the end: {granted:?}");

    let without = newcomers(0);
    assert!(without.overload() > 50.0, "without the ledger the fuse carries {} A", without.peak);
}

/// A heater of 16 A switches every 12 s beside a car on a 20 A fuse. `steady` is the daemon's own slow raise.
fn thermostat(steady: bool) -> World {
    let mut car = Car::new(16.0);
    car.lag_ms = (3_000, 11_000);
    let heater = |now: u64| if now / 12_000 % 2 == 1 { [12.0; 3] } else { [0.0; 3] };
    let mut world = World::new(20.0, vec![car], heater);
    if !steady {
        world.tuning.window_ms = 0;
        world.tuning.settle_ms = 1_000;
        world.tuning.ramp_per_s = Milliamps(100_000);
        world.tuning.ramp_share = 1;
    }
    world.run(20 * 60);
    world
}

#[test]
fn a_load_that_comes_and_goes_does_not_take_the_car_with_it() {
    let world = thermostat(true);
    assert!(!world.tripped());
    assert!(world.overload() < 20.0, "{} As above the limit, peak {} A", world.overload(), world.peak);
    assert!(world.charged_as > 6.0 * 15.0 * 60.0, "and it charges all the time: {} As", world.charged_as);

    let without = thermostat(false);
    assert!(without.overload() > 300.0, "without the slow raise: {} As", without.overload());
}

/// The meter dies while the house is quiet; later the oven, the stove and the sauna are switched on.
fn blind(stale_after_ms: u64, failsafe: f64) -> World {
    let mut car = Car::new(32.0);
    car.lag_ms = (0, 11_000);
    let house = |now: u64| if now < 200_000 { [2.0; 3] } else { [25.0; 3] };
    let mut world = World::new(35.0, vec![car], house);
    world.meter.dies_at = Some(100_000);
    world.meter.stale_after_ms = stale_after_ms;
    world.meter.failsafe = failsafe;
    world.run(400);
    world
}

#[test]
fn a_dead_meter_does_not_look_like_a_quiet_house() {
    for failsafe in [35.0, 28.0] {
        let world = blind(10_000, failsafe);
        assert!(!world.tripped());
        assert_eq!(world.overload(), 0.0, "peak {} A", world.peak);
        assert!(world.plan.alarms.contains(&Alarm::MeterStale("main".into())));
    }
    // A failsafe base of 28 A leaves the car 7 A of 35 A, and it takes them.
    assert_eq!(blind(10_000, 28.0).plan.chargers[&id(0)].granted, Milliamps(7_000));

    let without = blind(u64::MAX, 35.0);
    assert!(without.tripped(), "with the last value for ever the fuse carries {} A", without.peak);
}

#[test]
fn a_silent_wallbox_keeps_what_it_may_draw() {
    let mut silent = Car::new(16.0);
    silent.silent = Some((60_000, 300_000));
    let mut world = World::new(25.0, vec![silent, Car { plugged_at: 100_000, ..Car::new(16.0) }], quiet);
    world.run(250);
    assert_eq!(world.overload(), 0.0);
    assert!(world.plan.alarms.contains(&Alarm::Unreachable(id(0))));
    // The fuse's meter shows the 16 A too, and nobody can say that they are the same.
    assert_eq!(world.plan.chargers[&id(1)].granted, Milliamps(0));
    world.run(150);
    assert_eq!(world.overload(), 0.0);
    assert!(world.plan.chargers.values().all(|plan| plan.granted.0 >= 12_000), "{:#?}", world.plan);
}

#[test]
fn a_wallbox_that_refuses_reductions_costs_the_others_and_not_the_fuse() {
    let mut stubborn = Car::new(16.0);
    stubborn.refuses_at = Some(60_000);
    let house = |now: u64| if now < 120_000 { [0.0; 3] } else { [10.0; 3] };
    let mut world = World::new(32.0, vec![stubborn, Car::new(16.0)], house);
    world.run(400);
    assert!(!world.tripped());
    assert!(world.plan.alarms.contains(&Alarm::NotAccepting(id(0))), "{:?}", world.plan.alarms);
    // Some seconds pass until it is clear that the reduction will not come; then the other one makes room.
    assert!(world.overload() < 120.0, "{} As above the limit", world.overload());
    let flows = world.currents().into_iter().fold(0.0, f64::max);
    assert!(flows <= 32.0, "{flows} A in the end, {:#?}", world.plan);
}

#[test]
fn a_greedy_car_counts_with_what_it_takes() {
    let mut greedy = Car::new(16.0);
    greedy.greed = 1.5;
    let mut world = World::new(25.0, vec![greedy, Car::new(16.0)], quiet);
    world.run(300);
    let flows = world.currents().into_iter().fold(0.0, f64::max);
    assert!((22.0..=25.0).contains(&flows), "{flows} A");
    assert!(world.plan.alarms.contains(&Alarm::NotFollowing(id(0))));
}

/// A site and a history that no real one is much worse than.
fn random_world(seed: u64) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let limit = [20.0, 25.0, 35.0, 50.0, 63.0][usize::try_from(dice.below(5)).unwrap()];
    let mut cars = Vec::new();
    for _ in 0..1 + dice.below(5) {
        let mut car = Car::new([11.0, 16.0, 16.0, 32.0][usize::try_from(dice.below(4)).unwrap()]);
        if dice.chance(30) {
            car.phases = [[true, false, false], [false, true, false], [false, false, true]]
                [usize::try_from(dice.below(3)).unwrap()];
        }
        let slow = dice.below(11_000);
        car.lag_ms = (dice.below(slow + 1), slow);
        car.plugged_at = dice.below(400_000);
        car.measures = dice.chance(75);
        car.poll_ms = [1_000, 1_000, 2_000, 5_000][usize::try_from(dice.below(4)).unwrap()];
        car.greed = [0.0, 0.0, 0.5, 1.5][usize::try_from(dice.below(4)).unwrap()];
        car.drops_phases_at = dice.chance(20).then(|| dice.below(900_000));
        car.silent = dice.chance(20).then(|| {
            let from = dice.below(600_000);
            (from, from + 20_000 + dice.below(200_000))
        });
        // Nothing can cut a wallbox that hears nothing, except its own watchdog.
        car.failsafe = Some(6.0);
        cars.push(car);
    }
    // Every 10 to 90 s another load, up to four tenths of the fuse higher than the least.
    let period = 10_000 + dice.below(80_000);
    let least = limit * dice.below(30) as f64 / 100.0;
    let house = move |now: u64| {
        let mut dice = Dice((now / period).wrapping_mul(0x2545_f491_4f6c_dd1d) ^ seed);
        std::array::from_fn(|_| least + limit * dice.below(40) as f64 / 100.0)
    };
    let mut world = World::new(limit, cars, house);
    world.meter.period_ms = [500, 1_000, 1_000, 2_000, 3_000][usize::try_from(dice.below(5)).unwrap()];
    world.meter.lag_ms = dice.below(1_500);
    world.meter.dies_at = dice.chance(25).then(|| dice.below(900_000));
    world.dice = Dice(seed);
    world
}

#[test]
fn no_random_site_trips_the_breaker() {
    let mut charged = 0.0;
    for seed in 0..120 {
        let mut world = random_world(seed);
        world.run(15 * 60);
        assert!(!world.tripped(), "seed {seed}: {} As above {} A, peak {}", world.overload(), world.limit, world.peak);
        assert!(world.slowest_cut_ms <= 1_000, "seed {seed}: a cut took {} ms", world.slowest_cut_ms);
        charged += world.charged_as;
    }
    // A manager that gives nothing trips nothing.
    assert!(charged / 120.0 > 3_000.0, "{} As per site", charged / 120.0);
}

#[test]
fn every_phase_is_guarded() {
    // Three one-phase cars on one phase, the house on another.
    let cars = (0..3).map(|_| Car { phases: [false, true, false], ..Car::new(32.0) }).collect();
    let mut world = World::new(20.0, cars, |_| [15.0, 1.0, 0.0]);
    world.run(120);
    assert_eq!(world.overload(), 0.0);
    let granted: i64 = world.plan.chargers.values().map(|plan| plan.granted.0).sum();
    assert!((18_400..=19_000).contains(&granted), "{granted}");
    let line = &world.plan.circuits[&"main".into()];
    assert!(line.base[Phase::L2] <= Milliamps(1_000));
}
