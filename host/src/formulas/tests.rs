//! What formulas see of a site: every object, what is missing, and that it agrees with the contract's `params`.

use std::time::Duration;

use jiff::civil::date;
use ladekern_definition::Formula;
use proptest::prelude::*;

use super::testing::{Site, id, parsed};
use super::*;
use crate::load::{ChargerPlan, Milliamps, PerPhase, Reason};
use crate::session::Session;
use crate::site::{Connector, Health, Measured, Moment, Outcome};

const SITE: &str = r#"
[load]
cycle_ms = 2000
[[circuit]]
id = "main"
limit_ma = [35000, 32000, 35000]
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "M2"
type = "http-input"
role = "generation"
[[device]]
id = "M3"
type = "some-battery"
role = "storage-home"
[[device]]
id = "E1"
type = "http-input"
phases = "L2L3L1"
max_ma = 20000
[[device]]
id = "E2"
type = "http-input"
phases = "L1"
"#;

impl Site {
    #[track_caller]
    fn check(&self, wanted: &[(&str, Option<f64>)]) {
        for (formula, value) in wanted {
            assert_eq!(self.value(None, formula), *value, "{formula}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn members_of_a_device_are_what_it_says_now() {
    let site = Site::new(SITE);
    site.check(&[("M1.power_w", None), ("M1.com_err", Some(1.0)), ("E1.state", Some(6.0)), ("M9.power_w", None)]);
    let grid = [
        ("power.total", -1_500.0),
        ("power.reactive", 20.0),
        ("current.l1", -9_000.0),
        ("current.l2", 2_000.0),
        ("energy.import", 5e6),
        ("energy.export", 7.0),
        ("var.temperature", 21.5),
        ("input.2", 1.0),
        ("voltage.l2", 231.0),
        ("power.l3", -700.0),
        ("frequency", 50.01),
    ];
    site.say("M1", &grid);
    site.say("M3", &[("power.l1", -400.0), ("voltage.l1", 230.0), ("var.voltage_l1", 1.0)]);
    site.check(&[
        ("M1.power_w", Some(-1_500.0)),
        ("m1.Reactive_Power", Some(20.0)),
        ("M1.current_l1", Some(-9_000.0)),
        ("M1.current_l3", None),
        ("M1.current", Some(-9_000.0)),
        ("M1.import_wh", Some(5e6)),
        ("M1.export_wh", Some(7.0)),
        ("M1.Temperature", Some(21.5)),
        ("M1.input2", Some(1.0)),
        ("M1.input1", None),
        ("M1.voltage_l2", Some(231.0)),
        ("M1.voltage_l1", None),
        ("M1.power_w_l3", Some(-700.0)),
        ("M1.power_var", Some(20.0)),
        ("M1.frequency", Some(50.01)),
        ("M3.power_w_l1", Some(400.0)),
        ("M3.voltage_l1", Some(1.0)),
        ("M1.soc", None),
        ("M1.com_err", Some(0.0)),
        ("M1.max_current", None),
        ("M1.budget", None),
        ("M1.dt", Some(2.0)),
        ("M1.id", Some(1.0)),
        ("V1.soc", None),
        ("PB.input1", None),
    ]);
    assert_eq!(site.value(Some("M1"), "power_w * 2"), Some(-3_000.0));
    assert_eq!(site.value(None, "power_w"), None, "no variable of the Charging Manager is called so");
    // What is old is missing, and not 0.
    tokio::time::advance(Duration::from_secs(11)).await;
    site.check(&[
        ("M1.power_w", None),
        ("M1.temperature", None),
        ("M1.com_err", Some(1.0)),
        ("M1.com_err2", Some(0.0)),
    ]);
    tokio::time::advance(Duration::from_secs(2)).await;
    site.check(&[("M1.com_err2", Some(1.0)), ("exists(M1.power_w)", Some(0.0))]);
}

#[tokio::test(start_paused = true)]
async fn a_wallbox_also_has_a_plan_and_a_session() {
    let site = Site::new(SITE);
    let currents = [("current.l1", 8_000.0), ("current.l2", 7_900.0), ("current.l3", 100.0)];
    site.outcome("E1", &currents, Some(Connector::Charging));
    let mut plan = PlanView::default();
    let charger = ChargerPlan {
        requested: Milliamps(20_000),
        share: Milliamps(10_000),
        granted: Milliamps(9_000),
        counted: PerPhase::default(),
        measured: None,
        reason: Reason::OwnMaximum,
        since: Moment(0),
    };
    plan.plan.chargers.insert(id("E1"), charger.clone());
    plan.plan.chargers.insert(id("E2"), charger);
    let begin = date(2024, 2, 29).at(13, 0, 0, 0).in_tz("Europe/Berlin").unwrap().timestamp().as_second();
    let session = Session {
        plugged: true,
        energy_wh: 1_234.5,
        charging_s: 200,
        start_unix_s: u64::try_from(begin).ok(),
        ..Session::default()
    };
    let sessions = [(id("E1"), session), (id("E2"), Session::default())].into();
    site.world.connect(watch::channel(Arc::new(plan)).1, watch::channel(Arc::new(sessions)).1);
    site.check(&[
        ("E1.state", Some(3.0)),
        ("E1.cphases", Some(2.0)),
        ("E1.pphases", Some(3.0)),
        ("E2.pphases", Some(1.0)),
        ("E1.min_current", Some(6_000.0)),
        ("E1.max_current", Some(20_000.0)),
        ("E1.offered", Some(9_000.0)),
        ("E1.lb_cur", Some(10_000.0)),
        ("E2.lb_cur_l1", Some(10_000.0)),
        ("E2.lb_cur_l2", Some(0.0)),
        ("E1.txn_energy", Some(1_234.5)),
        ("E1.charging_dur", Some(200.0)),
        ("E1.txn_duration", Some(309.0)),
        ("E2.txn_duration", Some(0.0)),
        ("CM._num_charging", Some(1.0)),
    ]);
    // The power of a wallbox may be told by its currents alone.
    assert_eq!(site.value(Some("E1"), "power_w"), Some(3_680.0));
}

#[tokio::test(start_paused = true)]
async fn the_global_meters_follow_from_the_roles() {
    let site = Site::new(SITE);
    site.check(&[
        ("GM.grid_demand", None),
        ("GM.consumed", None),
        ("GM.produced", None),
        ("GM.surplus", None),
        ("CM._org_surplus", None),
        // Nobody has heard of the wallboxes: 16 A on one phase, 20 A on three.
        ("GM.error.power_w", Some(3_680.0 + 13_800.0)),
        ("GM.consumed_evse.power_w", Some(0.0)),
    ]);
    let per_phase = |ma: f64| [("current.l1", ma), ("current.l2", ma), ("current.l3", 0.0)];
    site.say("M1", &[&[("power.total", -1_000.0), ("energy.import", 3.0)][..], &per_phase(-2_000.0)].concat());
    site.say("M2", &[&[("power.total", 4_000.0)][..], &per_phase(9_000.0)].concat());
    site.say("E1", &[&[("power.total", 2_300.0)][..], &per_phase(5_000.0)].concat());
    site.say("E2", &[("power.total", 0.0)]);
    site.say("M3", &[("power.total", 700.0), ("battery.soc", 40.0)]);
    site.check(&[
        ("GM.grid_demand", Some(-1_000.0)),
        ("GM.grid_demand.power_w", Some(-1_000.0)),
        ("GM.grid_demand.current_l1", Some(-2_000.0)),
        ("GM.grid_demand.current", Some(-2_000.0)),
        ("GM.grid_demand.import_wh", Some(3.0)),
        ("GM.grid_demand.export_wh", None),
        ("GM.produced.power_w", Some(4_000.0)),
        ("GM.consumed_evse.power_w", Some(2_300.0)),
        // On the circuit's phases: its L1 is L2.
        ("GM.consumed_evse.current_l2", Some(5_000.0)),
        // The other one does not tell its current.
        ("GM.consumed_evse.current_l1", None),
        ("GM.consumed", Some(700.0)),
        // Without what the battery of the house gives.
        ("GM.surplus.power_w", Some(2_600.0)),
        ("CM._surplus", Some(2_600.0)),
        ("GM.error", Some(0.0)),
        // A battery that discharges, in the contract's sign.
        ("GM.storage_home", Some(-700.0)),
        ("CM._storage_home_soc", Some(40.0)),
        ("GM.storage_all", None),
        ("GM.available_evse", Some((35.0 + 32.0 + 35.0) * 230.0 - 700.0)),
        ("GM.nothing", None),
        ("GM.surplus.nothing", None),
        ("round(E1.surplus_pcur)", Some(3_768.0)),
    ]);
    // One silent meter, and what needs it is missing.
    tokio::time::advance(Duration::from_secs(8)).await;
    site.say("M1", &[("power.total", 0.0)]);
    tokio::time::advance(Duration::from_secs(3)).await;
    site.check(&[("GM.grid_demand", Some(0.0)), ("GM.produced", None), ("GM.consumed", None), ("GM.surplus", None)]);
}

#[tokio::test(start_paused = true)]
async fn the_charging_manager_has_members_of_its_own() {
    let site = Site::new(SITE);
    site.check(&[
        ("CM._max_total_current", Some(32_000.0)),
        ("CM._max_total_current_prc", Some(100.0)),
        ("_dt", Some(2.0)),
        ("CM._price", None),
        ("CM._flag1", Some(0.0)),
        ("CM._flag32", Some(0.0)),
        ("CM._flag33", None),
        ("CM._num_charging1", None),
        ("CM._storage_all_soc", None),
        ("CM.x", None),
    ]);
    site.say("M2", &[("cm._set_price", 0.31), ("cm.x", 5.0)]);
    site.check(&[("CM._price", Some(0.31)), ("CM.X", Some(5.0)), ("x", Some(5.0))]);
    let extra = |name: &str| (name == "power_w").then_some(7.0);
    let formula = Formula::parse("power_w + CM.x").unwrap();
    assert_eq!(formula.value(&site.world.look().scope_with(Some(&id("M2")), &extra)), Some(12.0));
}

#[tokio::test(start_paused = true)]
async fn the_date_is_local() {
    let site = Site::new(SITE);
    site.check(&[
        ("date.year", Some(2024.0)),
        ("date.month", Some(1.0)),
        ("date.day", Some(29.0)),
        ("date.weekday", Some(4.0)),
        ("date.yearday", Some(59.0)),
        ("date.hour", Some(13.0)),
        ("date.minute", Some(5.0)),
        ("date.second", Some(9.0)),
        ("date.daysecond", Some(47_109.0)),
        ("date.dayminute", Some(785.0)),
        ("date.dst", Some(0.0)),
        ("date.timestamp", Some(1_709_208_309.0)),
        ("date.week", None),
    ]);
}

fn some_flow() -> impl Strategy<Value = Vec<(u8, f64)>> {
    prop::collection::vec((0_u8..5, -20_000.0..20_000.0), 0..5)
}

proptest! {
    /// Whoever is silent: what formulas see is what `params` shows, or nothing.
    #[test]
    fn what_is_known_is_what_params_shows(says in some_flow()) {
        let config = parsed(SITE);
        let now = Moment(60_000);
        let mut snapshot = crate::site::Snapshot { at: now, ..Default::default() };
        for (device, watts) in says {
            let device = ["M1", "M2", "M3", "E1", "E2"][usize::from(device)];
            let watts = if device.starts_with('E') { watts.abs() } else { watts };
            let status = snapshot.devices.entry(id(device)).or_default();
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(10);
            status.commanded = Some(Measured { value: 6_000, at: now });
            status.values.merge(Outcome { readings: vec![("power.total".into(), Some(watts))], ..Default::default() }, now);
        }
        let known = Flows::of(&config, &snapshot, now, Silent::Missing);
        let shown = Flows::of(&config, &snapshot, now, Silent::Skipped);
        for (known, shown) in [
            (known.grid, shown.grid),
            (known.consumption, shown.consumption),
            (known.generation, shown.generation),
            (known.evse, shown.evse),
            (known.available, shown.available),
            (known.surplus, shown.surplus),
            (known.storage_home, shown.storage_home),
            (known.unanswered, shown.unanswered),
        ] {
            prop_assert!(known.power_w.is_none() || known.power_w == shown.power_w, "{:?} {:?}", known, shown);
        }
        prop_assert!(shown.surplus.power_w.unwrap() >= 0.0 && shown.available.power_w.unwrap() >= 0.0);
    }
}
