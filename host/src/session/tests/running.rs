//! Transactions: when they begin and end, what they count, what a restart changes.

use super::super::{OutsideWish, SessionError};
use super::*;

const B: Option<Connector> = Some(Connector::Connected);
const A: Option<Connector> = Some(Connector::Available);
const C: Option<Connector> = Some(Connector::Charging);

fn own(wh: f64) -> [(&'static str, f64); 1] {
    [("energy.import", wh)]
}

#[test]
fn a_transaction_runs_from_plug_in_to_unplug() {
    let mut bench = Bench::new("");
    bench.say("E1", A, &own(1_000.0));
    assert!(bench.events.is_empty() && !bench.session("E1").plugged);
    bench.after(5).say("E1", B, &own(1_000.0));
    for n in 1..=5 {
        bench.after(1).say("E1", C, &own(1_000.0 + 3.0 * f64::from(n)));
    }
    let running = bench.session("E1");
    assert_eq!((running.plugged, running.energy_wh, running.charging_s), (true, 15.0, 4));
    bench.after(1).say("E1", A, &own(1_016.0));
    let [begin] = bench.begins()[..] else { panic!("{:?}", bench.events) };
    let [end] = bench.ends()[..] else { panic!("{:?}", bench.events) };
    assert_eq!((begin.name.as_str(), begin.start_s, begin.meter_start_wh), ("Carport", 1_800_000_005, Some(1_000.0)));
    assert_eq!((end.start_s, end.end_s, end.energy_wh), (1_800_000_005, Some(1_800_000_011), 16.0));
    assert_eq!((end.meter_start_wh, end.meter_end_wh), (Some(1_000.0), Some(1_016.0)));
    assert_eq!(end.reason.as_deref(), Some("unplugged"));
    assert_eq!(bench.session("E1"), Session { soft_meter_wh: None, ..Session::default() });
}

#[test]
fn b23_only_a_wallbox_that_is_seen_unplugged_ends_a_transaction() {
    let mut bench = Bench::new("");
    bench.say("E1", C, &own(1_000.0));
    for state in [Connector::Unknown, Connector::Fault, Connector::NoPilot] {
        bench.after(1).say("E1", Some(state), &[]);
    }
    // Silent for an hour, offline, then restarting: what it said last is old.
    bench.after(3_600).look();
    bench.devices.get_mut(&id("E1")).unwrap().health = Health::Offline("gone".into());
    bench.after(60).look();
    bench.devices.clear();
    bench.after(60).look();
    assert!(bench.ends().is_empty() && bench.session("E1").plugged);
    // An Available of unknown age (a retained message) says nothing either.
    let outcome = Outcome { connector: A, ..Outcome::default() };
    let mut status = DeviceStatus { stale_after: Duration::from_secs(10), ..DeviceStatus::default() };
    status.values.merge(outcome, Moment(0));
    bench.devices.insert(id("E1"), status);
    bench.after(1).look();
    assert!(bench.ends().is_empty());
    bench.after(1).say("E1", B, &own(9_000.0));
    assert_eq!((bench.begins().len(), bench.session("E1").energy_wh), (1, 8_000.0));
    bench.after(1).say("E1", A, &own(9_000.0));
    assert_eq!(bench.ends().len(), 1);
}

#[test]
fn b23_a_restart_interrupts_nothing_and_what_flowed_meanwhile_counts() {
    let mut bench = Bench::new("");
    bench.say("E1", C, &own(1_000.0));
    bench.after(1).say("E1", C, &own(1_003.0));
    bench.crash(3_600);
    assert!(bench.session("E1").plugged, "known before anything is heard");
    bench.after(5).say("E1", C, &own(4_000.0));
    assert_eq!((bench.begins().len(), bench.session("E1").energy_wh), (1, 3_000.0));
    bench.crash(60);
    bench.after(5).say("E1", A, &own(4_500.0));
    let [end] = bench.ends()[..] else { panic!("{:?}", bench.events) };
    assert_eq!((end.energy_wh, end.start_s), (3_500.0, 1_800_000_000));
    assert_eq!(end.reason.as_deref(), Some("unplugged while the manager was away"));
}

#[test]
fn energy_is_written_every_ten_seconds_and_not_more_often() {
    let mut bench = Bench::new("");
    bench.say("E1", C, &own(1_000.0));
    bench.writes = 0;
    for second in 1..=100 {
        bench.after(1).say("E1", C, &own(1_000.0 + 3.0 * f64::from(second)));
        let mut killed = Bench { disk: bench.disk.clone(), now: bench.now, ..Bench::new("") };
        killed.crash(0);
        let lost = bench.session("E1").energy_wh - killed.session("E1").energy_wh;
        assert!((0.0..=30.0).contains(&lost), "{lost} Wh lost after {second} s");
    }
    assert!((10..=12).contains(&bench.writes), "{} writes in 100 s", bench.writes);
    // Nobody charges: nothing is written.
    bench.after(20).say("E1", B, &own(1_300.0));
    bench.writes = 0;
    for _ in 0..100 {
        bench.after(1).say("E1", B, &own(1_300.0));
    }
    assert!(bench.writes <= 1, "{}", bench.writes);
}

#[test]
fn h15_a_wallbox_that_counts_nothing_has_a_soft_meter() {
    let mut bench = Bench::new("");
    let power = [("power.total", 3_600.0)];
    bench.say("E1", C, &power);
    for _ in 0..10 {
        bench.after(1).say("E1", C, &power);
    }
    assert_eq!((bench.session("E1").energy_wh, bench.session("E1").soft_meter_wh), (10.0, Some(10.0)));
    let (config, now) = (bench.config.clone(), bench.now);
    assert_eq!(bench.core.soft_meter(&config, &id("E1"), None, now), Ok(10.0));
    assert_eq!(bench.core.soft_meter(&config, &id("E1"), Some(5_000.0), now), Ok(10.0));
    bench.after(1).say("E1", A, &power);
    assert_eq!((bench.ends()[0].energy_wh, bench.ends()[0].meter_start_wh), (11.0, Some(0.0)));
    assert_eq!(bench.session("E1").soft_meter_wh, Some(5_001.0));
    // It outlives the process, and the next transaction starts from it.
    bench.crash(1).say("E1", B, &[]);
    assert_eq!(bench.core.soft_meter(&config, &id("E1"), Some(7.0), now), Ok(5_001.0));
    assert!(bench.core.soft_meter(&config, &id("E1"), Some(-1.0), now).is_err());
    assert!(bench.core.soft_meter(&config, &id("E1"), Some(f64::NAN), now).is_err());
    assert_eq!(bench.core.soft_meter(&config, &id("E9"), None, now), Err(SessionError::UnknownDevice));
    bench.after(1).say("E1", B, &own(1.0));
    assert_eq!(bench.session("E1").soft_meter_wh, None);
    let counts = bench.core.soft_meter(&config, &id("E1"), None, now).unwrap_err().to_string();
    assert_eq!(counts, "E1 has a counter of its own");
}

#[test]
fn the_meter_in_front_of_a_wallbox_counts_for_it() {
    let mut bench = Bench::new("");
    bench.config = config(&SITE.replace("name = \"Carport\"", "meter = \"M1\""));
    bench.say("M1", None, &own(500_000.0)).say("E1", B, &[]);
    bench.after(5).say("M1", None, &own(500_012.5)).say("E1", C, &[]);
    assert_eq!(bench.session("E1").energy_wh, 12.5);
    bench.after(5).say("M1", None, &own(500_020.0)).say("E1", A, &[]);
    let end = bench.ends()[0];
    assert_eq!((end.energy_wh, end.meter_start_wh, end.meter_end_wh), (20.0, Some(500_000.0), Some(500_020.0)));
}

#[test]
fn a_beginning_before_the_clock_is_set_gets_its_time_later() {
    let mut bench = Bench::new("");
    bench.now.unix_s = None;
    bench.say("E1", B, &own(1.0));
    assert_eq!(bench.begins()[0].start_s, 0);
    bench.after(100);
    bench.now.unix_s = Some(1_800_000_100);
    bench.say("E1", A, &own(1.0));
    assert_eq!((bench.ends()[0].start_s, bench.ends()[0].end_s), (1_800_000_000, Some(1_800_000_100)));
}

#[test]
fn an_outside_wish_lasts_until_it_is_withdrawn() {
    use crate::site::Forbidden;
    let mut bench = Bench::new("");
    let wish = OutsideWish { forbidden: true, max_ma: Some(10_000) };
    bench.core.outside(&id("E1"), Some(wish));
    bench.say("E1", B, &[]).after(1).say("E1", A, &[]).after(1).say("E1", B, &[]);
    let outside = Restriction { forbidden: Some(Forbidden::Outside), max_ma: Some(10_000) };
    assert_eq!(bench.restriction("E1"), Some(outside));
    bench.core.outside(&id("E1"), Some(OutsideWish { forbidden: false, ..wish }));
    assert_eq!(bench.restriction("E1"), Some(Restriction { forbidden: None, max_ma: Some(10_000) }));
    bench.core.outside(&id("E1"), None);
    assert_eq!(bench.restriction("E1"), None);
}
