//! The model without sockets and without waiting: cars, wallboxes, house, audit and the breaker's curve.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use ladekern_sim::physics::*;

fn held(breaker: &mut Breaker, amps: f64, seconds: f64) -> Option<f64> {
    for _ in 0..(seconds / 0.05) as usize {
        breaker.step(amps, 0.05);
    }
    breaker.tripped_s()
}

#[test]
fn breaker_holds_113_percent_for_an_hour() {
    assert_eq!(held(&mut Breaker::new(35.0, 0.0), 35.0 * 1.13, 3600.0), None);
    assert_eq!(held(&mut Breaker::new(35.0, 35.0), 35.0 * 1.13, 3600.0), None);
}

#[test]
fn breaker_trips_inside_the_bands_of_iec_60898() {
    let cold = |times: f64, for_s: f64| held(&mut Breaker::new(35.0, 0.0), 35.0 * times, for_s).unwrap();
    assert!(cold(1.45, 3600.0) < 3600.0);
    let two = cold(2.0, 120.0);
    assert!((5.0..120.0).contains(&two), "{two}");
    let more = cold(2.55, 120.0);
    assert!((1.0..120.0).contains(&more), "{more}");
    assert!(cold(1.45, 3600.0) > two && two > more, "more current trips sooner");
    let magnetic = cold(3.5, 1.0);
    assert!((0.1..0.2).contains(&magnetic), "{magnetic}");
    assert!(cold(5.1, 1.0) <= 0.051);
}

#[test]
fn breaker_remembers_heat_and_cools() {
    let warm = held(&mut Breaker::new(35.0, 35.0), 70.0, 120.0).unwrap();
    let cold = held(&mut Breaker::new(35.0, 0.0), 70.0, 120.0).unwrap();
    assert!(warm < cold / 2.0, "warm {warm} cold {cold}");
    let mut breaker = Breaker::new(35.0, 35.0);
    assert_eq!(held(&mut breaker, 56.0, 4.0), None, "1.6 times for four seconds is what a slow cut looks like");
    let hot = breaker.heat();
    held(&mut breaker, 20.0, 30.0);
    assert!(breaker.heat() < hot && breaker.peak_heat() >= hot);
    // Feeding in heats as much as drawing.
    assert!(held(&mut Breaker::new(35.0, 0.0), -70.0, 120.0).is_some());
}

#[test]
fn breaker_does_not_depend_on_the_step_width() {
    let mut coarse = Breaker::new(35.0, 0.0);
    let mut fine = Breaker::new(35.0, 0.0);
    coarse.step(50.0, 10.0);
    for _ in 0..1000 {
        fine.step(50.0, 0.01);
    }
    assert!((coarse.heat() - fine.heat()).abs() < 1e-9);
}

fn run(evse: &mut Evse, seconds: f64) {
    for _ in 0..(seconds / 0.05).round() as usize {
        evse.step(0.05, &[230.0; 3]);
    }
}

fn a_box(car: CarOptions) -> Evse {
    let options = EvseOptions {
        id: "E1".into(),
        wiring: vec![0, 1, 2],
        max_a: 16.0,
        initial: Settings { limit_a: 16.0, enabled: true, one_phase: false },
        logic_period_s: 0.0,
        failsafe: Failsafe { after_s: 0.0, limit_a: 0.0 },
    };
    Evse::new(options, Car::new(car), true)
}

#[test]
fn car_follows_after_its_reaction_time() {
    let mut evse = a_box(CarOptions { reaction_s: 11.0, up_a_per_s: 100.0, ..Default::default() });
    run(&mut evse, 10.9);
    assert_eq!((evse.state(), evse.currents()), (State::B, [0.0; 3]));
    run(&mut evse, 1.0);
    assert_eq!((evse.state(), evse.currents()), (State::C, [16.0; 3]));
    evse.set(Settings { limit_a: 7.0, enabled: true, one_phase: false });
    assert_eq!(evse.prospective(), [7.0; 3]);
    run(&mut evse, 10.5);
    assert_eq!(evse.currents(), [16.0; 3], "not before 11 s");
    run(&mut evse, 1.0);
    assert_eq!(evse.currents(), [7.0; 3]);
}

#[test]
fn car_draws_above_its_offer_but_not_below_six_ampere() {
    let mut evse = a_box(CarOptions { over_a: 1.5, reaction_s: 0.0, ..Default::default() });
    evse.set(Settings { limit_a: 10.0, enabled: true, one_phase: false });
    run(&mut evse, 10.0);
    assert_eq!(evse.currents(), [11.5; 3]);
    evse.set(Settings { limit_a: 5.9, enabled: true, one_phase: false });
    run(&mut evse, 10.0);
    assert_eq!((evse.currents(), evse.state()), ([0.0; 3], State::B));
}

#[test]
fn one_phase_car_and_wiring_put_the_current_where_it_belongs() {
    let options = EvseOptions {
        id: "E2".into(),
        wiring: vec![2, 0, 1],
        max_a: 16.0,
        initial: Settings { limit_a: 16.0, enabled: true, one_phase: false },
        logic_period_s: 0.0,
        failsafe: Failsafe { after_s: 0.0, limit_a: 0.0 },
    };
    let mut evse = Evse::new(options, Car::new(CarOptions { phases: 1, ..Default::default() }), true);
    run(&mut evse, 10.0);
    assert_eq!(evse.currents(), [0.0, 0.0, 16.0]);
    assert_eq!(evse.conductor_currents(), [16.0, 0.0, 0.0]);
}

#[test]
fn car_that_does_not_obey_is_stopped_by_the_contactor_after_six_seconds() {
    let mut evse = a_box(CarOptions { obeys: false, ..Default::default() });
    run(&mut evse, 10.0);
    evse.set(Settings { limit_a: 16.0, enabled: false, one_phase: false });
    run(&mut evse, 5.9);
    assert_eq!(evse.currents(), [16.0; 3]);
    run(&mut evse, 0.3);
    assert_eq!(evse.currents(), [0.0; 3]);
}

#[test]
fn sleeping_car_wakes_by_an_interrupted_pilot_only() {
    let mut evse = a_box(CarOptions { sleeps_after_s: Some(10.0), ..Default::default() });
    evse.set(Settings { limit_a: 16.0, enabled: false, one_phase: false });
    run(&mut evse, 11.0);
    assert!(evse.car().is_asleep());
    evse.set(Settings { limit_a: 16.0, enabled: true, one_phase: false });
    run(&mut evse, 20.0);
    assert_eq!((evse.state(), evse.currents()), (State::B, [0.0; 3]));
    evse.interrupt_pilot(5.0);
    run(&mut evse, 4.0);
    assert!(evse.interruption_left_s() > 0.9);
    run(&mut evse, 10.0);
    assert_eq!((evse.state(), evse.currents()), (State::C, [16.0; 3]));
}

#[test]
fn full_car_stops_and_energy_is_counted() {
    let mut evse = a_box(CarOptions { wants_wh: 100.0, reaction_s: 0.0, up_a_per_s: 1e6, ..Default::default() });
    // 16 A on three phases of 230 V are 11.04 kW: 100 Wh take 32.6 s.
    run(&mut evse, 30.0);
    assert_eq!(evse.state(), State::C);
    assert!((evse.energy_wh() - 92.0).abs() < 0.5, "{}", evse.energy_wh());
    run(&mut evse, 5.0);
    assert!(evse.car().is_full());
    assert_eq!((evse.state(), evse.currents()), (State::B, [0.0; 3]));
}

#[test]
fn failsafe_limits_a_box_that_nobody_talks_to() {
    let mut evse = a_box(CarOptions::default());
    evse.failsafe = Failsafe { after_s: 20.0, limit_a: 8.0 };
    run(&mut evse, 19.0);
    assert_eq!(evse.currents(), [16.0; 3]);
    run(&mut evse, 4.0);
    assert!(evse.is_failsafe());
    assert_eq!(evse.currents(), [8.0; 3]);
    evse.touch();
    run(&mut evse, 10.0);
    assert_eq!(evse.currents(), [16.0; 3]);
    evse.failsafe = Failsafe { after_s: 1.0, limit_a: 0.0 };
    run(&mut evse, 5.0);
    assert_eq!(evse.currents(), [0.0; 3]);
}

#[test]
fn phase_relay_interrupts_and_then_uses_one_conductor() {
    let mut evse = a_box(CarOptions { reaction_s: 0.5, ..Default::default() });
    run(&mut evse, 10.0);
    evse.set(Settings { limit_a: 16.0, enabled: true, one_phase: true });
    run(&mut evse, 1.0);
    assert_eq!(evse.currents(), [0.0; 3]);
    run(&mut evse, 10.0);
    assert_eq!(evse.currents(), [16.0, 0.0, 0.0]);
}

#[test]
fn logic_period_delays_settings() {
    let options = EvseOptions {
        id: "E".into(),
        wiring: vec![0],
        max_a: 16.0,
        initial: Settings { limit_a: 6.0, enabled: true, one_phase: false },
        logic_period_s: 1.0,
        failsafe: Failsafe { after_s: 0.0, limit_a: 0.0 },
    };
    let mut evse = Evse::new(options, Car::new(CarOptions::default()), true);
    run(&mut evse, 2.1);
    evse.set(Settings { limit_a: 10.0, enabled: true, one_phase: false });
    run(&mut evse, 0.8);
    assert_eq!(evse.offer(), 6.0);
    run(&mut evse, 0.2);
    assert_eq!(evse.offer(), 10.0);
}

fn house(base: f64, script: Script) -> House {
    let options = HouseOptions { base: [0, 1, 2].map(|_| Trace::constant(base, 0.0)), ..Default::default() };
    let mut evse = a_box(CarOptions { reaction_s: 2.0, up_a_per_s: 100.0, ..Default::default() });
    run(&mut evse, 5.0);
    House::new(options, vec![evse], script)
}

fn go(house: &mut House, seconds: f64) {
    for _ in 0..(seconds / 0.05).round() as usize {
        house.step(0.05);
    }
}

const OFF: Settings = Settings { limit_a: 6.0, enabled: false, one_phase: false };

#[test]
fn same_seed_same_house() {
    let options = |seed| HouseOptions {
        seed,
        base: [0, 1, 2].map(|_| Trace::constant(5.0, 1.0)),
        pv: [0, 1, 2].map(|_| Trace { points: vec![(0.0, 0.0), (10.0, 8.0)], repeat_s: Some(20.0), noise: 0.2 }),
        ..Default::default()
    };
    let after = |seed, steps: usize, dt: f64| {
        let mut house = House::new(options(seed), vec![], Script::new());
        for _ in 0..steps {
            house.step(dt);
        }
        house.amps(Source::Grid)
    };
    assert_eq!(after(7, 100, 0.05), after(7, 100, 0.05));
    assert_ne!(after(7, 100, 0.05), after(8, 100, 0.05));
    let (fine, coarse) = (after(7, 500, 0.01), after(7, 100, 0.05));
    assert!((fine[0] - coarse[0]).abs() < 1e-6, "{fine:?} {coarse:?}");
}

#[test]
fn grid_is_load_and_cars_minus_generation_and_the_counters_follow() {
    let options = HouseOptions {
        base: [0, 1, 2].map(|_| Trace::constant(5.0, 0.0)),
        pv: [0, 1, 2].map(|_| Trace::constant(12.0, 0.0)),
        ..Default::default()
    };
    let mut house = House::new(options, vec![], Script::new());
    let (before_in, before_out) = house.energy_wh(Source::Grid);
    go(&mut house, 3600.0);
    assert_eq!(house.amps(Source::Grid), [-7.0; 3]);
    let (import, export) = house.energy_wh(Source::Grid);
    assert_eq!(import, before_in);
    assert!((export - before_out - 7.0 * 3.0 * 230.5).abs() < 60.0, "{}", export - before_out);
    assert!(house.volts().iter().all(|u| (226.0..235.0).contains(u)));
}

#[test]
fn script_acts_once_and_in_time() {
    let script = Script::new().at(2.0, Action::Load { amps: [10.0, 0.0, 0.0], for_s: 3.0 }, "spike").at(
        1.0,
        Action::Unplug("E1".into()),
        "gone",
    );
    let mut house = house(5.0, script);
    go(&mut house, 0.9);
    assert!(house.amps(Source::Grid)[0] > 20.0);
    go(&mut house, 0.2);
    assert_eq!(house.amps(Source::Grid), [5.0; 3]);
    go(&mut house, 1.0);
    assert_eq!(house.amps(Source::Grid), [15.0, 5.0, 5.0]);
    go(&mut house, 3.0);
    assert_eq!(house.amps(Source::Grid), [5.0; 3]);
    house.happen(Action::PlugIn("E1".into()), "back");
    let told = house.step(0.05);
    assert_eq!(told.iter().map(|e| e.text.as_str()).collect::<Vec<_>>(), ["back"]);
    assert!(house.evses()[0].is_plugged());
}

#[test]
fn audit_counts_overload_and_the_time_until_the_cut() {
    let mut house = house(10.0, Script::new());
    go(&mut house, 1.0);
    house.happen(Action::Load { amps: [15.0, 0.0, 0.0], for_s: 100.0 }, "");
    go(&mut house, 1.0);
    let measured = house.amps(Source::Grid);
    assert!(measured[0] > 40.0);
    house.delivered(&measured);
    go(&mut house, 0.4);
    house.command(0, OFF);
    go(&mut house, 4.0);
    let audit = house.audit();
    let episode = &audit.episodes()[0];
    assert_eq!(episode.phases, [true, false, false]);
    assert!((episode.cut_s.unwrap() - 0.4).abs() < 1e-6, "{episode:?}");
    assert!((episode.enough_s.unwrap() - 0.4).abs() < 1e-6);
    // The car needs 2 s to follow and ramps down at 40 A/s.
    assert!((2.2..3.0).contains(&episode.physical_s.unwrap()), "{episode:?}");
    assert!((audit.worst_reaction_s(house.wall_s()) - 0.4).abs() < 1e-6);
    assert!((3.0..4.2).contains(&audit.overload_s()[0]), "{:?}", audit.overload_s());
    assert_eq!(audit.overload_s()[1], 0.0);
    assert!((audit.worst_overload_a()[0] - 6.0).abs() < 0.5);
}

#[test]
fn a_cut_that_never_comes_keeps_counting() {
    let mut house = house(25.0, Script::new());
    go(&mut house, 1.0);
    let measured = house.amps(Source::Grid);
    house.delivered(&measured);
    go(&mut house, 7.0);
    assert!((house.audit().worst_reaction_s(house.wall_s()) - 7.0).abs() < 1e-6);
    // A raise is no cut, and neither is the same again.
    house.command(0, Settings { limit_a: 16.0, enabled: true, one_phase: false });
    assert!(house.audit().episodes()[0].cut_s.is_none());
    // A lower one that is not enough is a cut, but not the end of it.
    house.command(0, Settings { limit_a: 14.0, enabled: true, one_phase: false });
    let episode = house.audit().episodes()[0].clone();
    assert!(episode.cut_s.is_some() && episode.enough_s.is_none());
}

#[test]
fn what_is_commanded_already_or_cannot_be_cut_is_no_slow_reaction() {
    let mut house = house(25.0, Script::new());
    go(&mut house, 1.0);
    house.command(0, OFF);
    let measured = house.amps(Source::Grid);
    house.delivered(&measured);
    assert_eq!(house.audit().episodes()[0].cut_s, Some(0.0));
    go(&mut house, 4.0);
    let measured = house.amps(Source::Grid);
    house.delivered(&measured);
    house.happen(Action::Load { amps: [30.0, 0.0, 0.0], for_s: 100.0 }, "");
    go(&mut house, 1.0);
    let measured = house.amps(Source::Grid);
    house.delivered(&measured);
    go(&mut house, 10.0);
    assert_eq!(house.audit().episodes().len(), 2);
    assert_eq!(house.audit().worst_reaction_s(house.wall_s()), 0.0, "no wallbox has anything left to give");
}

#[test]
fn an_overload_that_was_never_measured_is_no_slow_reaction() {
    let mut house = house(25.0, Script::new());
    go(&mut house, 5.0);
    assert!(house.audit().overload_s()[0] > 4.0);
    assert!(house.audit().episodes().is_empty());
}
