//! The contract's shapes, field by field.

mod fields;

use serde_json::{Value, json};

use super::*;
use crate::config;
use crate::load::{CircuitPlan, Milliamps, PerPhase};
use crate::site::{Board, Connector, Health, Measured, Moment, Outcome};

const NOW: Moment = Moment(100_000);

/// A site of this configuration, with the values of each device.
fn view(text: &str, fed: &[(&str, &[(&str, f64)])]) -> SiteView {
    let config = config::parse("f", text, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let board = Board::default();
    let senders: Vec<_> = fed
        .iter()
        .map(|(id, values)| {
            let sender = board.register(id.parse().unwrap());
            let mut outcome = Outcome::default();
            values.iter().for_each(|(name, value)| outcome.push(name, *value));
            sender.update(|status| {
                status.health = Health::Running;
                status.stale_after = std::time::Duration::from_secs(60);
                status.values.merge(outcome, NOW);
            });
            sender
        })
        .collect();
    let snapshot = board.snapshot(NOW);
    drop(senders);
    SiteView {
        config: Arc::new(config),
        snapshot,
        plan: Arc::default(),
        sessions: Arc::default(),
        variables: Arc::default(),
        serial: "S-1".into(),
        unix_s: 1_709_229_198,
        max_overdraft_ma: 0,
        machine: crate::contract::Machine::default(),
    }
}

fn change(view: &mut SiteView, id: &str, change: impl FnOnce(&mut crate::site::DeviceStatus)) {
    change(view.snapshot.devices.get_mut(&id.parse().unwrap()).unwrap());
}

fn json(shape: &impl serde::Serialize) -> Value {
    serde_json::from_slice(&to_json(shape)).unwrap()
}

fn device(view: &SiteView, id: &str) -> Value {
    json(&view.device(&id.parse().unwrap()).unwrap())
}

/// `value` has these members.
fn check(value: &Value, wanted: Value) {
    for (key, wanted) in wanted.as_object().unwrap() {
        assert_eq!(&value[key], wanted, "{key} in {value:#}");
    }
}

const BOTH: &str = r#"
[site]
title = "T"
desc = "D"
[mqtt]
broker = "mqtt://127.0.0.1"
[[circuit]]
id = "main"
limit_ma = [63000, 63000, 63000]
meter = "M1"
[[device]]
id = "E1"
name = "Box"
type = "http-input"
address = "mqtt"
phases = "L2L3L1"
[[device]]
id = "M1"
name = "Grid"
type = "http-input"
role = "grid"
address = "mqtt://u:secret@10.0.0.1"
"#;

const EXAMPLE: &str = r#"{"params":{"title":"T","desc":"D","version":"2.0.1","time":1709229198,
        "vsn":{"vendorid":52997,"version":33564433,"productid":1,"serialno":"X00-0001","platform":"linux"},
        "max_total_cur_prc":100,"max_total_current":63000,"reserve_current":0,"overdraft_cur":0,"max_overdraft_cur":0,
        "cur_overdraft":0,"max_total_evse_current":0,"max_total_evse_power":0,
        "cons_pwr":0,"prod_pwr":0,"grid_pwr":0,"error_pwr":0,"storage_home":0,"storage_all":0,
        "cons_evse_power":0,"avail_evse_power":43470,"surplus_power":0,"lb_enabled":true,"disable_policy":1,
        "max_imbalance_cur":20000,"imbalance_add":false,"min_pause_time":300,"phase_switch_delay":180,
        "reduce_on_com_err":false,"surplus_expr":"","max_total_current_expr":"","price_model":0,"fixed_price":0,"cm_flags":0,
        "cycle_time":3000,"max_evses":3,"shareware_mode":false,"cm_vars":{"vars":[]},"cm_outs":[]},
        "auth_cnt":0,
        "devices":[
        {"dev_type":"evse_ajax","device_enabled":1,"name":"Box","address":"mqtt","id":1,"dev_id":"E1","number":1,"desc":"",
        "com_err":false,"com_err_secs":0,"com_errors":0,"status":"","last_error":"","is_evse":true,"used_phases":0,
        "label":"","min_charging_cur":6000,"max_charging_cur":16000,"prio":1,"charging_enabled":true,
        "power_w":0,"cur_charging_power":0,"current_l1":0,"current_l2":0,"current_l3":0,
        "last_set_charging_cur":0,"total_energy":0,"ta_en":0,"charging_dur":0,"phases":0,"phase_rotation":0,"state":1,
        "lreason":0,"model":"Maker,Device,1.0,2.0.1,S1","paused":false,"pause_reason":0,"pause_time":300,
        "pause_min_time":300,"needs_auth":false,"overrides":0,
        "evse":{"cp_state":"Standby","pp_state":"no cable","charging":false,"current":0,"enabled":true}},
        {"dev_type":"meter_ajax","device_enabled":1,"name":"Grid","address":"mqtt","id":1,"dev_id":"M1","number":2,"desc":"",
        "com_err":false,"com_err_secs":0,"com_errors":0,"status":"","last_error":"","is_evse":false,"used_phases":7,
        "factor":1,"is_va":false,"import":0,"export":0,"power_w":0,"power":0,"current_l1":0,"current_l2":0,"current_l3":0,
        "voltage_l1":230,"voltage_l2":230,"voltage_l3":230,"role":3,"model":"TestModell"}]}"#;

#[test]
fn every_key_of_the_documented_example_is_there_with_its_type() {
    // The example of cfos-interfaces.md 7.1: its keys and types are what clients index; values come from the site.
    let example: Value = serde_json::from_str(EXAMPLE).unwrap();
    fn same_shape(path: &str, wanted: &Value, found: &Value) {
        match (wanted, found) {
            (Value::Object(wanted), Value::Object(found)) => {
                for (key, value) in wanted {
                    let path = format!("{path}.{key}");
                    same_shape(&path, value, found.get(key).unwrap_or_else(|| panic!("{path} is missing")));
                }
            }
            (Value::Array(wanted), Value::Array(found)) => {
                assert_eq!(wanted.len(), found.len(), "{path}");
                wanted.iter().zip(found).for_each(|(wanted, found)| same_shape(path, wanted, found));
            }
            (Value::Number(wanted), Value::Number(found)) => {
                assert_eq!(wanted.is_i64(), found.is_i64(), "{path}: {found}")
            }
            (wanted, found) => {
                assert_eq!(std::mem::discriminant(wanted), std::mem::discriminant(found), "{path}: {found}")
            }
        }
    }
    let view = view(BOTH, &[("E1", &[]), ("M1", &[])]);
    let found = json(&DevInfo(&view));
    same_shape("", &example, &found);
    check(
        &found["params"],
        json!({"title": "T", "time": 1_709_229_198, "max_total_current": 63000, "avail_evse_power": 43470}),
    );
    assert_eq!(
        found["params"]["vsn"],
        json!({"vendorid":52997,"version":33_564_433,"productid":1,"serialno":"S-1","platform":"linux"})
    );
}

#[test]
fn a_meter_shows_what_it_was_fed_unrounded() {
    let values: &[(&str, f64)] = &[
        ("energy.import", 12_345.0),
        ("energy.export", 23_456.0),
        ("voltage.l1", 231.0),
        ("current.l3", -10_003.5),
        ("power.total", -500.25),
        ("battery.soc", 55.5),
    ];
    let mut view = view(BOTH, &[("M1", values)]);
    change(&mut view, "M1", |status| status.info.model = Some("TestModell".into()));
    check(
        &device(&view, "M1"),
        json!({"import": 12345, "export": 23456, "voltage_l1": 231, "voltage_l2": 0, "current_l3": -10003.5,
            "power_w": -500.25, "power": -500.25, "soc": 55.5, "role": 3, "model": "TestModell", "com_err": false,
            "address": "mqtt://u:***@10.0.0.1:1883", "number": 2, "is_va": false}),
    );
}

#[test]
fn apparent_and_computed_power_are_told_where_none_is_measured() {
    let text = "[[device]]\nid = \"M1\"\ntype = \"http-input\"";
    let apparent = view(text, &[("M1", &[("power.apparent", 7.5)])]);
    check(&device(&apparent, "M1"), json!({"power_w": 7.5, "is_va": true}));
    let computed = view(
        text,
        &[("M1", &[("current.l1", 10_000.0), ("voltage.l1", 231.0), ("current.l2", 1_000.0), ("voltage.l2", 230.0)])],
    );
    check(&device(&computed, "M1"), json!({"power_w": 2540, "is_va": false}));
    let unknown = view(text, &[("M1", &[("current.l1", 10_000.0)])]);
    check(&device(&unknown, "M1"), json!({"power_w": 0}));
}

#[test]
fn a_wallbox_shows_state_orders_and_phases() {
    let mut view = view(
        BOTH,
        &[("E1", &[("current.l1", 8_000.0), ("current.l2", 0.0), ("current.l3", 0.0), ("energy.import", 99.0)])],
    );
    change(&mut view, "E1", |status| {
        let outcome = Outcome { connector: Some(Connector::Charging), ..Outcome::default() };
        status.values.merge(outcome, NOW);
        status.commanded = Some(Measured { value: 8_000, at: NOW });
    });
    // The wallbox's L1 is the house's L2.
    check(
        &device(&view, "E1"),
        json!({"state": 3, "last_set_charging_cur": 8000, "paused": false, "used_phases": 7, "phases": 2,
            "phase_rotation": 1, "power_w": 1840, "cur_charging_power": 1840, "total_energy": 99, "pause_reason": 0,
            "evse": {"dc_sensor_faults": 0, "dc_last_test_time": "1970-01-01T00:00:00.000Z", "dc_sensor_fault": false,
                "dc_sensor_glitches": 0, "cp_state": "Charging", "cp_fault": false, "pp_state": "cable",
                "charging": true, "current": 8000, "enabled": true}}),
    );
    change(&mut view, "E1", |status| {
        status.commanded = Some(Measured { value: 0, at: Moment(NOW.0 - 5_000) });
        status.enable_ordered = Some(false);
    });
    check(&device(&view, "E1"), json!({"paused": true, "pause_reason": 1, "pause_time": 5, "charging_enabled": false}));
}

#[test]
fn silence_is_an_error_with_its_length_and_the_state_offline() {
    let mut view = view(BOTH, &[("E1", &[("current.l1", 6_000.0)])]);
    view.snapshot.at = Moment(NOW.0 + 70_000);
    check(&device(&view, "E1"), json!({"com_err": true, "com_err_secs": 10, "state": 6, "current_l1": 6000}));
    // Registered by nobody yet: silent since the start.
    check(&device(&view, "M1"), json!({"com_err": true, "com_err_secs": 169, "power_w": 0}));
    let params = json(&Params(&view));
    // What does not answer counts with the most it may draw: 16 A on three phases.
    check(&params, json!({"error_pwr": 11040, "cons_evse_power": 0}));
}

#[test]
fn a_disabled_device_is_listed_and_is_no_error() {
    let view = view("[[device]]\nid = \"E1\"\ntype = \"go-e\"\nenabled = false", &[]);
    check(
        &device(&view, "E1"),
        json!({"device_enabled": 0, "com_err": false, "state": 6, "last_set_charging_cur": -1}),
    );
}

#[test]
fn powers_are_summed_by_role_in_the_contract_s_signs() {
    let text = r#"
[load]
reserve_ma = 1000
max_total_cur_prc = 50
[[circuit]]
id = "main"
limit_ma = [20000, 22000, 20000]
meter = "M1"
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "M2"
type = "eastron-sdm"
role = "generation"
[[device]]
id = "M3"
type = "battery"
role = "storage-home"
[[device]]
id = "M4"
type = "http-input"
role = "storage-all"
[[device]]
id = "E1"
type = "go-e"
"#;
    let view = view(
        text,
        &[
            ("M1", &[("power.total", 1_000.0)]),
            ("M2", &[("power.total", 3_000.0)]),
            ("M3", &[("power.total", 200.0)]),
            ("M4", &[("power.total", 300.0)]),
            ("E1", &[("power.total", 2_000.4)]),
        ],
    );
    check(
        &json(&Params(&view)),
        // The surplus is without what the battery of the house gives. Available: (20 A * 50 % - 1 A) * 2 + (22 A * 50 % - 1 A) at 230 V, less the house's 2 000 W.
        json!({"grid_pwr": 1000, "prod_pwr": 3000, "cons_pwr": 2000, "cons_evse_power": 2000, "surplus_power": 800,
            "storage_home": -200, "storage_all": 300, "avail_evse_power": 4440, "cur_overdraft": 0,
            "max_total_current": 20000, "reserve_current": 1000, "max_total_cur_prc": 50, "error_pwr": 0}),
    );
    check(&device(&view, "M3"), json!({"power_w": -200, "dev_type": "meter_battery"}));
    check(&device(&view, "E1"), json!({"dev_type": "evse_go_e"}));
}

#[test]
fn an_overload_of_the_house_connection_is_told() {
    let mut view = view(BOTH, &[]);
    let ma = |values: [i64; 3]| PerPhase(values.map(Milliamps));
    let circuit = CircuitPlan {
        limit: ma([60_000; 3]),
        measured: PerPhase([Some(Milliamps(62_000)), None, Some(Milliamps(64_500))]),
        base: ma([0; 3]),
        base_high: ma([0; 3]),
        ledger: ma([0; 3]),
        granted: ma([0; 3]),
        stale: false,
        over: PerPhase([false, false, true]),
    };
    let mut plan = PlanView::default();
    plan.plan.circuits.insert("main".into(), circuit);
    view.plan = Arc::new(plan);
    view.max_overdraft_ma = 2_000;
    // Against the limit of the file, 63 A, and not against what is usable of it.
    check(&json(&Params(&view)), json!({"cur_overdraft": 1500, "max_overdraft_cur": 2000, "overdraft_cur": 2000}));
}

#[test]
fn without_a_grid_meter_the_others_tell_what_it_would_show() {
    let text =
        "[[device]]\nid = \"M1\"\ntype = \"http-input\"\nrole = \"consumption\"\n[[device]]\nid = \"E1\"\ntype = \"x\"";
    let view = view(text, &[("M1", &[("power.total", 700.0)]), ("E1", &[("power.total", 300.0)])]);
    check(&json(&Params(&view)), json!({"grid_pwr": 1000, "cons_pwr": 700}));
}

#[test]
fn the_model_has_five_parts() {
    let mut view = view("[[device]]\nid = \"E1\"\ntype = \"go-e\"", &[("E1", &[])]);
    for (model, firmware, serial, wanted) in [
        (None, None, None, ""),
        (Some("Box"), Some("1.2"), Some("77"), ",Box,,1.2,77"),
        (Some("Maker,Box"), Some("1,2"), None, "Maker,Box,,1 2,"),
        (Some("Maker,Box,3"), None, Some("77"), "Maker,Box,3,,77"),
        (Some("a,b,c,d,e"), Some("x"), None, "a,b,c,d,e"),
        (None, Some("1.2"), None, ",,,1.2,"),
    ] {
        change(&mut view, "E1", |status| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            (status.info.model, status.info.firmware, status.info.serial) = (own(model), own(firmware), own(serial));
        });
        assert_eq!(device(&view, "E1")["model"], wanted);
    }
}

#[test]
fn every_type_of_the_site_has_a_label() {
    let view = view(BOTH, &[]);
    assert_eq!(
        dev_types(&view.config, &Library::default()).into_keys().collect::<Vec<_>>(),
        ["evse_ajax", "meter_ajax"]
    );
    let other = config::parse("f", "[[device]]\nid = \"E1\"\ntype = \"cfos-power-brain\"", &[]).unwrap();
    assert_eq!(dev_types(&other, &Library::default())["evse_powerbrain"], "cfos-power-brain");
}

#[test]
fn addresses_are_those_of_the_file() {
    let text = "[[device]]\nid = \"E1\"\ntype = \"x\"\nendpoint.main = { url = \"tcp://10.0.0.1:502\", unit = 7 }";
    check(&device(&view(text, &[]), "E1"), json!({"address": "tcp://10.0.0.1:502", "id": 7}));
}
