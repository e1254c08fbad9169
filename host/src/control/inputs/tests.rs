//! From readings to numbers: signs, derivations, ages, and what is never made up.

use std::time::Duration;

use super::*;
use crate::site::{Health, Info, Outcome};

const NOW: Moment = Moment(100_000);
const SITE: &str = r#"
[[circuit]]
id = "main"
limit_ma = [35000, 35000, 35000]
meter = "M1"
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
phases = "L2L3L1"
max_ma = 16000
failsafe = { ma = 8000, timeout_s = 60 }
"#;

fn config(text: &str) -> Config {
    crate::config::parse("test.toml", text, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

fn status(readings: &[(&str, f64)], age_ms: u64) -> DeviceStatus {
    let mut status =
        DeviceStatus { stale_after: Duration::from_secs(10), health: Health::Running, ..Default::default() };
    let mut outcome = Outcome::default();
    readings.iter().for_each(|(name, value)| outcome.push(name, *value));
    status.values.merge(outcome, Moment(NOW.0 - age_ms));
    status
}

fn site_of(text: &str, devices: Vec<(&str, DeviceStatus)>) -> Site {
    let devices = devices.into_iter().map(|(id, status)| (id.parse().unwrap(), status)).collect();
    inputs(&Snapshot { at: NOW, devices }, &config(text), &Restrictions::new(), &Requests::new())
}

fn sample_of(site: &Site) -> Option<[Option<i64>; 3]> {
    match &site.circuits[0].metering {
        Metering::Metered { sample, .. } => sample.map(|sample| sample.current.map(|ma| ma.map(|ma| ma.0)).0),
        Metering::Unmetered { .. } => panic!("the circuit has a meter"),
    }
}

/// What the grid meter shows when it says this.
fn meter(readings: &[(&str, f64)]) -> Option<[Option<i64>; 3]> {
    sample_of(&site_of(SITE, vec![("M1", status(readings, 1_000))]))
}

fn wallbox(status: DeviceStatus) -> Charger {
    site_of(SITE, vec![("E1", status)]).chargers.remove(0)
}

#[test]
fn the_power_of_a_phase_gives_its_current_the_sign() {
    let currents = [("current.l1", 5_000.0), ("current.l2", 6_000.0), ("current.l3", 7_000.0)];
    let powers = [("power.l1", -1_100.0), ("power.l2", 1_300.0), ("power.l3", 1_500.0)];
    let all = [currents, powers].concat();
    assert_eq!(meter(&all), Some([Some(-5_000), Some(6_000), Some(7_000)]));
    // A meter that signs its currents is believed where it says no power.
    let signed = [("current.l1", -5_000.0), ("current.l2", 6_000.0), ("current.l3", 7_000.0)];
    assert_eq!(meter(&signed), Some([Some(-5_000), Some(6_000), Some(7_000)]));
    assert_eq!(meter(&currents), Some([Some(5_000), Some(6_000), Some(7_000)]));
}

#[test]
fn the_total_power_alone_makes_a_phase_export_only_if_it_cannot_import() {
    let at = |l1: f64, l2: f64, l3: f64, total: f64| {
        meter(&[("current.l1", l1), ("current.l2", l2), ("current.l3", l3), ("power.total", total)])
    };
    assert_eq!(at(10_000.0, 10_000.0, 10_000.0, -6_900.0), Some([Some(-10_000); 3]));
    // A one-phase inverter on L1: the two others still consume.
    assert_eq!(at(20_000.0, 2_000.0, 2_000.0, -3_680.0), Some([Some(-20_000), Some(2_000), Some(2_000)]));
    assert_eq!(at(10_000.0, 10_000.0, 10_000.0, 6_900.0), Some([Some(10_000); 3]));
    // Two phases export what one imports: which one is unknown, so all count.
    assert_eq!(at(10_000.0, 10_000.0, 10_000.0, -2_300.0), Some([Some(10_000); 3]));
}

#[test]
fn powers_become_currents_with_the_voltage_if_that_is_plausible() {
    let powers = [("power.l1", 2_300.0), ("power.l2", 2_300.0), ("power.l3", -2_300.0)];
    assert_eq!(meter(&powers), Some([Some(10_000), Some(10_000), Some(-10_000)]));
    let with_volts = [&powers[..], &[("voltage.l1", 200.0), ("voltage.l2", 0.0)]].concat();
    assert_eq!(meter(&with_volts), Some([Some(11_500), Some(10_000), Some(-10_000)]));
}

#[test]
fn the_total_power_alone_is_assumed_on_each_phase_less_what_wallboxes_draw_on_the_others() {
    assert_eq!(meter(&[("power.total", 2_300.0)]), Some([Some(10_000); 3]));
    let car = [("current.l1", 10_000.0), ("current.l2", 10_000.0), ("current.l3", 10_000.0)];
    let grid = status(&[("power.total", 9_200.0)], 500);
    let site = site_of(SITE, vec![("M1", grid.clone()), ("E1", status(&car, 500))]);
    // 40 A in all, of which 20 A are the car's on the two other phases.
    assert_eq!(sample_of(&site), Some([Some(20_000); 3]));
    // With one phase nothing is left to guess.
    let single = SITE.replace("[35000, 35000, 35000]", "[35000, 0, 0]");
    assert_eq!(sample_of(&site_of(&single, vec![("M1", grid)])), Some([Some(40_000), Some(0), Some(0)]));
}

#[test]
fn what_is_no_number_or_no_current_is_not_measured() {
    assert_eq!(
        meter(&[("current.l1", f64::NAN), ("current.l2", 1e12), ("current.l3", 3_000.0)]),
        Some([None, None, Some(3_000)])
    );
    assert_eq!(meter(&[("current.l1", f64::INFINITY)]), None);
    assert_eq!(meter(&[("power.total", f64::NAN)]), None);
    assert_eq!(meter(&[("voltage.l1", 230.0)]), None);
    // Parts of a mA are not lost.
    assert_eq!(meter(&[("current.l1", 0.2)]), Some([Some(1), None, None]));
}

#[test]
fn what_is_old_is_not_measured() {
    let currents = [("current.l1", 5_000.0), ("current.l2", 5_000.0), ("current.l3", 5_000.0)];
    let old = site_of(SITE, vec![("M1", status(&currents, 10_001))]);
    assert_eq!(sample_of(&old), None);
    // One phase alone can age: it is missing, and the sample is as old as the oldest part that counts.
    let mut mixed = status(&currents[..2], 9_000);
    let mut newer = Outcome::default();
    newer.push("current.l2", 6_000.0);
    mixed.values.merge(newer, Moment(NOW.0 - 1_000));
    let site = site_of(SITE, vec![("M1", mixed)]);
    let Metering::Metered { sample: Some(sample), stale_after_ms: 10_000, .. } = &site.circuits[0].metering else {
        panic!("{:?}", site.circuits)
    };
    assert_eq!(sample.at, Moment(NOW.0 - 9_000));
    assert_eq!(sample.current.0, [Some(Milliamps(5_000)), Some(Milliamps(6_000)), None]);
}

#[test]
fn a_meter_nobody_has_heard_of_leaves_the_failsafe() {
    let site = site_of(SITE, vec![]);
    let all = PerPhase::all(Milliamps(35_000));
    assert_eq!(site.circuits[0].metering, Metering::Metered { sample: None, stale_after_ms: 0, failsafe: all });
    let declared = SITE.replace("meter = \"M1\"", "meter = \"M1\"\nfailsafe_base_ma = [9000, 8000, 7000]");
    let Metering::Metered { failsafe, .. } = &site_of(&declared, vec![]).circuits[0].metering else { panic!() };
    assert_eq!(failsafe.0, [Milliamps(9_000), Milliamps(8_000), Milliamps(7_000)]);
    assert!(!site.chargers[0].reachable, "nor is a wallbox that nobody has heard of missing");
    assert_eq!(site.chargers[0].max, Milliamps(16_000));
}

#[test]
fn a_root_without_a_meter_takes_the_only_grid_meter() {
    let unnamed = SITE.replace("meter = \"M1\"\n", "");
    let site = site_of(&unnamed, vec![("M1", status(&[("current.l1", 5_000.0)], 0))]);
    assert_eq!(sample_of(&site), Some([Some(5_000), None, None]));
    let none = unnamed.replace("role = \"grid\"\n", "");
    let unmetered = Metering::Unmetered { fixed: PerPhase::default() };
    assert_eq!(site_of(&none, vec![]).circuits[0].metering, unmetered);
}

#[test]
fn a_disabled_meter_is_a_silent_one() {
    let off = SITE.replace("role = \"grid\"", "role = \"grid\"\nenabled = false");
    let site = site_of(&off, vec![("M1", status(&[("current.l1", 5_000.0)], 0))]);
    assert_eq!(sample_of(&site), None);
}

#[test]
fn reserve_and_percentage_come_off_every_limit() {
    let less = format!("[load]\nmax_total_cur_prc = 80\nreserve_ma = 1500\n{SITE}");
    assert_eq!(site_of(&less, vec![]).circuits[0].limit, PerPhase::all(Milliamps(26_500)));
    let nothing = format!("[load]\nmax_total_cur_prc = 0\nreserve_ma = 1500\n{SITE}");
    assert_eq!(site_of(&nothing, vec![]).circuits[0].limit, PerPhase::all(Milliamps(0)));
}

#[test]
fn a_wallbox_measures_on_the_phases_it_is_connected_to() {
    let currents = [("current.l1", 11_000.0), ("current.l2", -12_000.0), ("current.l3", 13_000.0)];
    let charger = wallbox(status(&currents, 0));
    let on = |sample: Option<Sample>| sample.unwrap().current.map(|ma| ma.unwrap().0).0;
    // Its L1 is the circuit's L2, and so on; a sign is only wiring.
    assert_eq!(on(charger.measured), [13_000, 11_000, 12_000]);
    assert_eq!(charger.phases, Some(PerPhase::all(true)));
    // Charging on one phase it uses its first.
    let single = [&currents[..1], &[("phases.active", 1.0)]].concat();
    let charger = wallbox(status(&single, 0));
    assert_eq!(charger.phases, Some(PerPhase([false, true, false])));
    assert_eq!(charger.draws().0, [Milliamps(0), Milliamps(11_000), Milliamps(0)]);
}

#[test]
fn an_unknown_order_of_phases_counts_at_its_worst() {
    let unknown = SITE.replace("phases = \"L2L3L1\"\n", "");
    let currents = [("current.l1", 16_000.0), ("current.l2", 10_000.0), ("current.l3", 9_000.0)];
    let charger = site_of(&unknown, vec![("E1", status(&currents, 0))]).chargers.remove(0);
    assert_eq!(charger.phases, None);
    assert_eq!(charger.draws(), PerPhase::all(Milliamps(16_000)));
    assert_eq!(charger.surely_draws(), PerPhase::all(Milliamps(9_000)));
}

#[test]
fn the_power_of_a_wallbox_is_divided_among_its_phases() {
    let three = wallbox(status(&[("power.total", 6_900.0)], 0));
    assert_eq!(three.draws(), PerPhase::all(Milliamps(10_000)));
    let one = wallbox(status(&[("power.total", 2_300.0), ("phases.active", 1.0)], 0));
    assert_eq!(one.draws().0, [Milliamps(0), Milliamps(10_000), Milliamps(0)]);
}

#[test]
fn a_restriction_is_the_most_or_nothing() {
    let restricted = |restriction: Restriction| {
        let restrictions = Restrictions::from([("E1".parse().unwrap(), restriction)]);
        let devices = [("E1".parse().unwrap(), status(&[("current.l1", 1_000.0)], 0))].into();
        inputs(&Snapshot { at: NOW, devices }, &config(SITE), &restrictions, &Requests::new())
            .chargers
            .remove(0)
            .allowed
    };
    use crate::site::Forbidden;
    assert_eq!(restricted(Restriction::default()), None);
    assert_eq!(restricted(Restriction { forbidden: None, max_ma: Some(8_000) }), Some(Milliamps(8_000)));
    let both = Restriction { forbidden: Some(Forbidden::Override), max_ma: Some(8_000) };
    assert_eq!(restricted(both), Some(Milliamps(0)));
}

#[test]
fn a_wallbox_without_own_currents_is_measured_by_the_meter_in_front_of_it() {
    let text = format!("{SITE}meter = \"M2\"\n[[device]]\nid = \"M2\"\ntype = \"http-input\"\n");
    let currents = [("current.l1", 11_000.0), ("current.l2", 0.0), ("current.l3", -3_000.0)];
    let measured = |own: &[(&str, f64)], meter: DeviceStatus, text: &str| {
        let site = site_of(text, vec![("E1", status(own, 0)), ("M2", meter)]);
        site.chargers[0].measured.map(|sample| sample.current.map(|ma| ma.unwrap().0).0)
    };
    // The meter's L1 is the circuit's, whatever the order of the wallbox's conductors.
    let power = [("power.total", 6_900.0)];
    assert_eq!(measured(&power, status(&currents, 1_000), &text), Some([11_000, 0, 3_000]));
    let own = [("current.l1", 7_000.0), ("current.l2", 8_000.0), ("current.l3", 9_000.0)];
    assert_eq!(measured(&own, status(&currents, 1_000), &text), Some([9_000, 7_000, 8_000]));
    // What the meter said long ago says nothing now.
    assert_eq!(measured(&power, status(&currents, 10_001), &text), Some([10_000; 3]));
    assert_eq!(measured(&[("energy.session", 1.0)], status(&currents, 10_001), &text), None);
    let off = format!("{text}enabled = false\n");
    assert_eq!(measured(&power, status(&currents, 1_000), &off), Some([10_000; 3]));
}

#[test]
fn age_and_not_the_last_exchange_decides_whether_a_wallbox_answers() {
    let mut failing = status(&[("current.l1", 1_000.0)], 9_000);
    failing.health = Health::Offline("timed out".into());
    assert!(wallbox(failing).reachable, "one failed poll takes nothing back");
    let mut silent = status(&[("current.l1", 1_000.0)], 11_000);
    silent.commanded = Some(Measured { value: 9_000, at: Moment(80_000) });
    let charger = wallbox(silent);
    assert!(!charger.reachable);
    assert_eq!((charger.measured, charger.connector), (None, Connector::Unknown));
    assert_eq!(charger.accepted.map(|accepted| accepted.value), Some(Milliamps(9_000)));
    assert_eq!(charger.failsafe, Some(Milliamps(8_000)));
}

#[test]
fn what_a_wallbox_says_of_itself_is_passed_on() {
    let readings = [("limit.current", 10_000.0), ("limit.cable", 13_000.0), ("energy.session", 1_234.5)];
    let mut told = status(&readings, 0);
    told.info = Info { features: vec!["current.milliamp".into()], ..Info::default() };
    told.values.merge(Outcome { connector: Some(Connector::Charging), ..Outcome::default() }, NOW);
    let charger = wallbox(told);
    assert_eq!(charger.connector, Connector::Charging);
    assert_eq!((charger.follows, charger.cable), (Some(Milliamps(10_000)), Some(Milliamps(13_000))));
    assert_eq!((charger.energy_wh, charger.step), (1_234, Milliamps(100)));
    // Not allowed to charge is a limit of 0, whatever the limit would be; no cable is no limit by the cable.
    let paused = [("limit.current", 10_000.0), ("charging.enabled", 0.0), ("limit.cable", 0.0)];
    let charger = wallbox(status(&paused, 0));
    assert_eq!((charger.follows, charger.cable, charger.step), (Some(Milliamps(0)), None, Milliamps(1_000)));
}

#[test]
fn an_overload_is_found_with_its_moment() {
    let over = [("current.l1", 5_000.0), ("current.l2", 35_001.0), ("current.l3", 5_000.0)];
    let site = site_of(SITE, vec![("M1", status(&over, 700))]);
    assert_eq!(newest_overload(&site), Some(Moment(NOW.0 - 700)));
    let full = [("current.l1", 35_000.0)];
    assert_eq!(newest_overload(&site_of(SITE, vec![("M1", status(&full, 0))])), None);
}
