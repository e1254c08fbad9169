//! The table `docs/contract-fields.md` against what is served: every key of cfos-interfaces.md 1.3 and 7.1 is there,
//! every row is a key, and each kind is true: what is live or configured changes with its source, a constant never.

use std::collections::BTreeSet;

use super::*;
use crate::load::{ChargerPlan, Plan, Reason};
use crate::session::{Overrides, Session};
use crate::site::Because;

/// Keys of 1.3.1 to 1.3.4, with the places they stand at.
const ORIGINAL: &[(&str, &str)] = &[
    ("", "params devices auth_cnt loadmgr_disabled"),
    (
        "params",
        "title desc version time vsn max_total_current max_total_cur_prc reserve_current overdraft_cur \
         max_overdraft_cur cur_overdraft max_total_evse_current cons_evse_power avail_evse_power cons_pwr prod_pwr \
         grid_pwr error_pwr storage_home storage_all surplus_power lb_enabled disable_policy max_imbalance_cur \
         max_imbalance imbalance_add min_pause_time phase_switch_delay reduce_on_com_err surplus_expr price_model \
         fixed_price tibber_home_id feed_in_tariff last_budget_reset cm_flags cm_vars cm_outs cycle_time max_evses \
         shareware_mode license_end real_evses real_evses_dis ocpp_gateway_license_cnt ocpp_gateway_licenses_used \
         ocpp_srv_tls_mode ocpp_srv_port ocpp_srv_use_ext_cert ocpp_srv_cert_fn ocpp_srv_private_key_fn \
         ocpp_srv_cacert_fn ocpp_srv_password cpu mem max_total_power power_reserve overdraft max_total_evse_power \
         consumed_evse_power remaining_evse_power",
    ),
    (
        "device",
        "dev_type device_enabled dev_id is_evse name desc number address ip_address id com_err com_err_secs com_errors \
         last_error status model inputs outputs has_history hide_dev show_in_overview show_chart_in_dev_info \
         show_chart_in_overview user_info is_mock power_w current_l1 current_l2 current_l3",
    ),
    (
        "wallbox",
        "used_phases state charging_enabled min_charging_cur max_charging_cur max_power cur_charging_power \
         last_set_charging_cur total_energy ta_en charging_dur phases phase_rotation prio label paused pause_time \
         pause_min_time pause_reason lreason needs_auth attach overrides ov_cur evse ocpp ucnt",
    ),
    (
        "evse",
        "dc_sensor_faults dc_last_test_time dc_sensor_fault dc_sensor_glitches cp_state cp_fault pp_state charging \
         current enabled",
    ),
    ("meter", "used_phases import export power voltage_l1 voltage_l2 voltage_l3 role is_va invert factor soc"),
];

/// Field and kind of each row.
fn rows() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/contract-fields.md");
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [field, kind, why] = cells.as_slice() else { panic!("{line}") };
        assert!(!why.is_empty(), "{line}");
        (field.trim_matches('`').to_owned(), (*kind).to_owned())
    };
    text.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

/// The object a row's field stands in, and the field's own name.
fn place<'a>(info: &'a Value, field: &'a str) -> (&'a Value, &'a str) {
    let devices = info["devices"].as_array().unwrap();
    let first = |is_evse: bool| devices.iter().find(|device| device["is_evse"] == is_evse).unwrap();
    match field.split_once('.') {
        None => (info, field),
        Some(("params", name)) => (&info["params"], name),
        Some(("device" | "wallbox", name)) => (first(true), name),
        Some(("evse", name)) => (&first(true)["evse"], name),
        Some(("meter", name)) => (first(false), name),
        Some((other, _)) => panic!("{other}"),
    }
}

fn at<'a>(info: &'a Value, field: &'a str) -> &'a Value {
    let (object, name) = place(info, field);
    &object[name]
}

/// A site with little in it.
fn plain() -> SiteView {
    view("[[device]]\nid = \"E1\"\ntype = \"http-input\"\n[[device]]\nid = \"M1\"\ntype = \"http-input\"", &[])
}

/// A site that is another one in every respect.
const OTHER: &str = r#"
[site]
title = "T"
desc = "D"
[load]
mode = "observe"
disable_policy = -1
cycle_ms = 700
reserve_ma = 500
max_total_cur_prc = 80
surplus_expr = "CM._org_surplus - 100"
[variables]
tariff = 2
_flag2 = 1
[[circuit]]
id = "main"
limit_ma = [63000, 50000, 63000]
limit_ma_expr = "60000"
meter = "M2"
[[device]]
id = "M2"
type = "some-meter"
role = "grid"
name = "Grid"
[[device]]
id = "M3"
type = "http-input"
role = "generation"
[[device]]
id = "M4"
type = "http-input"
role = "storage-home"
[[device]]
id = "M5"
type = "http-input"
role = "storage-all"
[[device]]
id = "E2"
type = "cfos-power-brain"
name = "Box"
desc = "Left"
number = 77
label = "Guest"
meter = "M2"
phases = "L2L3L1"
min_ma = 7000
max_ma = 20000
priority = 5
endpoint.main = { url = "tcp://10.0.0.7:4701", unit = 3 }
[[device]]
id = "E3"
type = "go-e"
[[device]]
id = "E4"
type = "go-e"
enabled = false
"#;

fn other() -> SiteView {
    let wallbox: &[(&str, f64)] = &[
        ("power.total", 3_000.0),
        ("current.l1", 4_000.0),
        ("current.l2", 5_000.0),
        ("current.l3", 6_000.0),
        ("energy.import", 99.0),
        ("charging.enabled", 0.0),
    ];
    let meter: &[(&str, f64)] = &[
        ("power.apparent", -900.0),
        ("current.l1", 1.0),
        ("voltage.l1", 231.0),
        ("voltage.l2", 232.0),
        ("voltage.l3", 233.0),
        ("energy.import", 5.0),
        ("energy.export", 6.0),
        ("battery.soc", 50.0),
    ];
    let watts = |watts| -> &'static [(&'static str, f64)] { if watts { &[("power.total", 400.0)] } else { &[] } };
    let mut view =
        view(OTHER, &[("E2", wallbox), ("M2", meter), ("M3", watts(true)), ("M4", watts(true)), ("M5", watts(true))]);
    change(&mut view, "E2", |status| {
        let outcome = Outcome { connector: Some(Connector::Charging), ..Outcome::default() };
        status.values.merge(outcome, NOW);
        status.commanded = Some(Measured { value: 8_000, at: NOW });
        status.info.model = Some("Maker,Box,1".into());
        status.info.shown = ["Temp".to_owned()].into();
        let mut own = Outcome::default();
        own.push("var.temp", 21.5);
        status.values.merge(own, NOW);
        (status.errors, status.last_error) = (3, "too late".into());
        status.update_failed = Some("a.json:1:2: power_w.type: …".into());
    });
    let overrides = Overrides { charging_off: true, rules_off: false, user_rules_off: true, max_ma: Some(9_000) };
    let session = Session {
        plugged: true,
        needs_auth: true,
        overrides,
        energy_wh: 1_234.5,
        charging_s: 321,
        ..Session::default()
    };
    view.sessions = Arc::new([("E2".parse().unwrap(), session)].into());
    let ma = |values: [i64; 3]| PerPhase(values.map(Milliamps));
    let circuit = CircuitPlan {
        limit: ma([60_000; 3]),
        measured: PerPhase([Some(Milliamps(70_000)), None, None]),
        base: ma([0; 3]),
        base_high: ma([0; 3]),
        ledger: ma([0; 3]),
        granted: ma([0; 3]),
        stale: false,
        over: PerPhase([true, false, false]),
    };
    let mut plan = PlanView::default();
    plan.plan.circuits.insert("main".into(), circuit);
    plan.rule_mistakes = [("E2".parse().unwrap(), "f:1: device.E2.charging_rules: rule 0.aexpr: …".to_owned())].into();
    view.plan = Arc::new(plan);
    view.max_overdraft_ma = 8_000;
    view.machine = Machine { cpu: 12, mem: 34 };
    view.serial = "S-2".into();
    let values = Arc::make_mut(&mut view.variables);
    values.set(&crate::config::variable_key("_flag2"), Some(1.0));
    values.set(&crate::formulas::surplus_name(), Some(700.0));
    view.unix_s += 60;
    view
}

/// The other site in states that exclude each other.
fn others() -> Vec<SiteView> {
    let with = |changed: fn(&mut crate::site::DeviceStatus)| {
        let mut view = other();
        change(&mut view, "E2", changed);
        view
    };
    fn connector(status: &mut crate::site::DeviceStatus, connector: Connector) {
        status.values.merge(Outcome { connector: Some(connector), ..Outcome::default() }, NOW);
    }
    let mut disabled = other();
    let mut config = Config::clone(&disabled.config);
    config.devices.iter_mut().for_each(|device| device.enabled = false);
    disabled.config = Arc::new(config);
    vec![
        other(),
        disabled,
        with(|status| status.health = Health::Offline("no answer".into())),
        with(|status| connector(status, Connector::NoPilot)),
        with(|status| {
            connector(status, Connector::Fault);
            let mut outcome = Outcome::default();
            outcome.push("error.code", 9.0);
            status.values.merge(outcome, NOW);
        }),
        with(|status| {
            connector(status, Connector::Connected);
            status.commanded = Some(Measured { value: 0, at: Moment(NOW.0 - 7_000) });
        }),
    ]
}

#[test]
fn every_key_of_the_original_is_served_and_every_served_key_is_listed() {
    let info = json(&DevInfo(&other()));
    for (object, names) in ORIGINAL {
        for name in names.split_whitespace() {
            let field = if object.is_empty() { name.to_owned() } else { format!("{object}.{name}") };
            assert!(!at(&info, &field).is_null(), "{field} is missing");
        }
    }
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let (wallbox, meter) = (place(&info, "wallbox.x").0, place(&info, "meter.x").0);
    // ip_address and update_error only where there is one.
    let mut common: BTreeSet<String> = keys(wallbox).intersection(&keys(meter)).cloned().collect();
    common.extend(["ip_address".to_owned(), "update_error".to_owned()]);
    common.remove("used_phases");
    let named = |object: &str, names: BTreeSet<String>| -> Vec<String> {
        names.into_iter().map(|name| if object.is_empty() { name } else { format!("{object}.{name}") }).collect()
    };
    let own = |value: &Value| keys(value).difference(&common).cloned().collect();
    let served: BTreeSet<String> = [
        named("", keys(&info)),
        named("params", keys(&info["params"])),
        named("device", common.clone()),
        named("wallbox", own(wallbox)),
        named("evse", keys(&wallbox["evse"])),
        named("meter", own(meter)),
    ]
    .concat()
    .into_iter()
    .collect();
    let listed: BTreeSet<String> = rows().into_iter().map(|(field, _)| field).collect();
    assert_eq!(listed.len(), rows().len(), "a row stands there twice");
    assert_eq!(served.difference(&listed).collect::<Vec<_>>(), Vec::<&String>::new(), "served and not listed");
    assert_eq!(listed.difference(&served).collect::<Vec<_>>(), Vec::<&String>::new(), "listed and not served");
}

#[test]
fn what_is_live_or_configured_changes_with_its_source_and_a_constant_never() {
    let before = json(&DevInfo(&plain()));
    let after: Vec<Value> = others().iter().map(|view| json(&DevInfo(view))).collect();
    for (field, kind) in rows() {
        let changes = after.iter().any(|after| at(after, &field) != at(&before, &field));
        match kind.as_str() {
            "live" | "configured" => {
                assert!(changes, "{field} is said to be {kind} and is always {}", at(&before, &field))
            }
            "constant" => assert!(!changes, "{field} is said to be constant"),
            other => panic!("{field}: {other}"),
        }
    }
}

#[test]
fn what_is_configured_comes_from_the_file() {
    let info = json(&DevInfo(&other()));
    check(&info, json!({"auth_cnt": 1, "loadmgr_disabled": true}));
    check(
        &info["params"],
        json!({"title": "T", "lb_enabled": false, "disable_policy": -1, "cycle_time": 700, "max_total_current": 50000,
            "max_total_cur_prc": 80, "real_evses": 2, "real_evses_dis": 1, "cpu": 12, "mem": 34,
            "surplus_expr": "CM._org_surplus - 100", "surplus_power": 700, "cm_flags": 2, "cm_vars": {"vars": [
                {"name": "_flag2", "expr": 1, "val": 1, "value": 1},
                {"name": "tariff", "expr": 2, "val": 2, "value": 2}]}}),
    );
    check(
        place(&info, "wallbox.x").0,
        json!({"dev_type": "evse_powerbrain", "number": 77, "label": "Guest", "attach": "M2", "prio": 5, "id": 3,
            "address": "tcp://10.0.0.7:4701", "ip_address": "10.0.0.7", "min_charging_cur": 7000,
            "max_charging_cur": 20000, "phase_rotation": 1}),
    );
    assert_eq!(place(&info, "meter.x").0["number"], 1, "its place in the file");
}

#[test]
fn a_session_shows_until_the_car_is_gone() {
    let mut view = other();
    check(
        &device(&view, "E2"),
        json!({"needs_auth": true, "overrides": 5, "ov_cur": 9000, "ta_en": 1234.5, "charging_dur": 321}),
    );
    let gone = json(&DevInfo(&{
        view.sessions = Arc::new([("E2".parse().unwrap(), Session { needs_auth: true, ..Session::default() })].into());
        view
    }));
    let wallbox = place(&gone, "wallbox.x").0;
    check(wallbox, json!({"label": "", "overrides": 0, "ta_en": 0, "charging_dur": 0}));
    assert_eq!((wallbox.get("ov_cur"), &gone["auth_cnt"]), (None, &json!(0)));
}

#[test]
fn total_energy_is_the_nearest_counter_there_is() {
    let text = "[[device]]\nid = \"E1\"\ntype = \"x\"\nmeter = \"M1\"\n[[device]]\nid = \"M1\"\ntype = \"y\"";
    let energy = |fed: &[(&str, &[(&str, f64)])]| {
        let mut view = view(text, fed);
        let session = Session { soft_meter_wh: Some(3.0), ..Session::default() };
        view.sessions = Arc::new([("E1".parse().unwrap(), session)].into());
        device(&view, "E1")["total_energy"].clone()
    };
    assert_eq!(energy(&[("E1", &[("energy.import", 1.0)]), ("M1", &[("energy.import", 2.0)])]), 1);
    assert_eq!(energy(&[("E1", &[]), ("M1", &[("energy.import", 2.0)])]), 2);
    assert_eq!(energy(&[("E1", &[]), ("M1", &[])]), 3);
}

#[test]
fn a_pause_says_who_wants_it() {
    let mut view = view("[[device]]\nid = \"E1\"\ntype = \"x\"", &[("E1", &[])]);
    change(&mut view, "E1", |status| {
        status.values.merge(Outcome { connector: Some(Connector::Connected), ..Outcome::default() }, NOW);
        status.commanded = Some(Measured { value: 0, at: NOW });
    });
    assert_eq!(device(&view, "E1")["pause_reason"], 1);
    let plan = ChargerPlan {
        requested: Milliamps::ZERO,
        share: Milliamps::ZERO,
        granted: Milliamps::ZERO,
        counted: PerPhase::default(),
        measured: None,
        reason: Reason::Rules(Because::NoRule),
        since: NOW,
    };
    let plan = Plan { chargers: [("E1".parse().unwrap(), plan)].into(), ..Plan::default() };
    view.plan = Arc::new(PlanView { plan, ..PlanView::default() });
    assert_eq!(device(&view, "E1")["pause_reason"], 2);
    let overrides = Overrides { charging_off: true, ..Overrides::default() };
    let session = Session { plugged: true, overrides, ..Session::default() };
    view.sessions = Arc::new([("E1".parse().unwrap(), session)].into());
    assert_eq!(device(&view, "E1")["pause_reason"], 3);
}

#[test]
fn the_cable_is_what_the_wallbox_tells_and_else_the_car() {
    let pp = |device_type: &str, cable: Option<f64>, connector| {
        let text = format!("[[device]]\nid = \"E1\"\ntype = \"{device_type}\"");
        let values: Vec<(&str, f64)> = cable.into_iter().map(|ma| ("limit.cable", ma)).collect();
        let mut view = view(&text, &[("E1", &values)]);
        change(&mut view, "E1", |status| {
            status.values.merge(Outcome { connector: Some(connector), ..Outcome::default() }, NOW);
        });
        device(&view, "E1")["evse"]["pp_state"].clone()
    };
    assert_eq!(pp("x", Some(20_000.0), Connector::Available), "cable");
    assert_eq!(pp("x", Some(0.0), Connector::Available), "no cable");
    assert_eq!(pp("x", None, Connector::Connected), "cable");
    assert_eq!(pp("http-input", Some(16_000.0), Connector::Available), "no cable", "that is its maximum");
}

#[test]
fn the_host_is_found_in_every_address_that_has_one() {
    for (url, host) in [
        ("tcp://10.0.0.1:502", Some("10.0.0.1")),
        ("http://10.0.0.2:8080/base", Some("10.0.0.2")),
        ("http://box.local", Some("box.local")),
        ("rtu:///dev/ttyUSB0?baud=9600", None),
    ] {
        let view = view(&format!("[[device]]\nid = \"E1\"\ntype = \"x\"\naddress = \"{url}\""), &[]);
        assert_eq!(device(&view, "E1").get("ip_address"), host.map(|host| json!(host)).as_ref(), "{url}");
    }
}
