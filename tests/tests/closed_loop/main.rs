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

mod breaker;
mod dice;
mod world;

use ladekern::load::{Alarm, Milliamps, Phase, Tuning};

use breaker::Breaker;
use dice::Dice;
use world::{Car, World, id, quiet};

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
