//! Every live field of get_dev_info, changed at its source: a feed, the configuration, a session; and what each known
//! client needs of the answer (cfos-interfaces.md 7.1), read the way that client reads it. That all keys are there and
//! which of them are constant is tested beside the shapes, against `docs/contract-fields.md`.

use ladekern_tests::site::Site;
use ladekern_tests::until;
use serde_json::{Value, json};

const SITE: &str = r#"
[site]
title = "Home"
[[circuit]]
id = "main"
limit_ma = [32000, 32000, 32000]
meter = "M1"
[[device]]
id = "E1"
name = "Box"
type = "http-input"
phases = "L1L2L3"
label = "Guest"
[[device]]
id = "M1"
name = "Grid"
type = "http-input"
role = "grid"
"#;

async fn info(site: &Site) -> Value {
    let answer = site.get("cmd=get_dev_info").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", answer.head);
    answer.json()
}

fn device<'a>(info: &'a Value, id: &str) -> &'a Value {
    info["devices"].as_array().unwrap().iter().find(|device| device["dev_id"] == id).unwrap()
}

/// `E1.state`, `params.title`, `auth_cnt`.
fn at<'a>(info: &'a Value, field: &str) -> &'a Value {
    match field.split_once('.') {
        None => &info[field],
        Some(("params", name)) => &info["params"][name],
        Some((id, name)) => name.split('.').fold(device(info, id), |value, name| &value[name]),
    }
}

/// Waits until each field says this.
async fn shows(site: &Site, wanted: &[(&str, Value)]) -> Value {
    let look = async || {
        let info = info(site).await;
        let wrong = wanted.iter().find(|(field, value)| at(&info, field) != value);
        let wrong = wrong.map(|(field, value)| format!("{field}: {value} wanted, {} shown", at(&info, field)));
        (wrong, info)
    };
    until("each field", look, |(wrong, _)| wrong.is_none()).await.1
}

async fn wallbox(site: &Site, body: &str) {
    let answer = site.post("cmd=set_ajax_evse&dev_id=E1", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

async fn meter(site: &Site, body: &str) {
    let answer = site.post("cmd=set_ajax_meter&dev_id=M1", body).await;
    assert_eq!((answer.status, answer.json()), (200, json!("ok")));
}

async fn ok(site: &Site, query: &str) {
    let answer = site.get(query).await;
    assert_eq!((answer.status, answer.json()), (200, json!("ok")), "{query}");
}

// === Live: a feed ===

#[tokio::test]
async fn a_meter_s_fields_follow_its_feed() {
    let site = Site::start(SITE).await;
    shows(&site, &[("M1.com_err", json!(true)), ("M1.power_w", json!(0))]).await;
    let first = r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],
        "current":[10001,10002,-10003.5],"power_w":-821.25,"soc":55}"#;
    meter(&site, first).await;
    let fields = [
        ("M1.com_err", json!(false)),
        ("M1.model", json!("TestModell")),
        ("M1.import", json!(12345)),
        ("M1.export", json!(23456)),
        ("M1.voltage_l1", json!(231)),
        ("M1.voltage_l2", json!(232)),
        ("M1.voltage_l3", json!(233)),
        ("M1.current_l1", json!(10001)),
        ("M1.current_l2", json!(10002)),
        ("M1.current_l3", json!(-10003.5)),
        ("M1.power_w", json!(-821.25)),
        ("M1.power", json!(-821.25)),
        ("M1.soc", json!(55)),
        ("M1.is_va", json!(false)),
        ("params.grid_pwr", json!(-821)),
        ("params.surplus_power", json!(821)),
    ];
    shows(&site, &fields).await;
    // A message that is wrong counts, and changes nothing else.
    assert_eq!(site.post("cmd=set_ajax_meter&dev_id=M1", "{\"power_w\":\"x\"}").await.status, 400);
    let wrong = shows(&site, &[("M1.com_errors", json!(1)), ("M1.power_w", json!(-821.25))]).await;
    assert!(at(&wrong, "M1.last_error").as_str().unwrap().contains("expected a number"), "{wrong}");
}

#[tokio::test]
async fn an_apparent_power_says_so() {
    let site = Site::start(SITE).await;
    meter(&site, r#"{"power_va":700,"is_va":true}"#).await;
    shows(&site, &[("M1.is_va", json!(true)), ("M1.power_w", json!(700))]).await;
}

#[tokio::test]
async fn a_wallbox_s_fields_follow_its_feed() {
    let site = Site::start(SITE).await;
    shows(&site, &[("E1.state", json!(6)), ("E1.evse.cp_state", json!("Offline"))]).await;
    wallbox(&site, r#"{"state":1,"current":[0,0,0],"total_energy":5000}"#).await;
    shows(&site, &[("E1.state", json!(1)), ("E1.total_energy", json!(5000)), ("E1.evse.pp_state", json!("no cable"))])
        .await;
    wallbox(&site, r#"{"state":3,"current":[9000,9000,0],"total_energy":5100,"model":"M,D,1,2,S"}"#).await;
    let fields = [
        ("E1.state", json!(3)),
        ("E1.evse.charging", json!(true)),
        ("E1.evse.cp_state", json!("Charging")),
        ("E1.evse.pp_state", json!("cable")),
        ("E1.total_energy", json!(5100)),
        ("E1.power_w", json!(4140)),
        ("E1.cur_charging_power", json!(4140)),
        ("E1.current_l1", json!(9000)),
        ("E1.phases", json!(3)),
        ("E1.model", json!("M,D,1,2,S")),
        ("params.cons_evse_power", json!(4140)),
        ("params.consumed_evse_power", json!(4140)),
    ];
    shows(&site, &fields).await;
    wallbox(&site, r#"{"state":5}"#).await;
    shows(&site, &[("E1.state", json!(5)), ("E1.evse.charging", json!(false)), ("E1.evse.cp_state", json!("Error"))])
        .await;
}

#[tokio::test]
async fn what_the_load_manager_gives_shows_and_changes_with_the_grid() {
    let site = Site::start(SITE).await;
    let look = async || {
        meter(&site, r#"{"current":[1000,1000,1000],"voltage":[230,230,230],"power_w":690}"#).await;
        wallbox(&site, r#"{"state":2,"current":[0,0,0]}"#).await;
        info(&site).await
    };
    let current = |info: &Value| at(info, "E1.last_set_charging_cur").as_i64().unwrap() >= 6_000;
    let given = until("the load manager gives current", look, current).await;
    assert_eq!(at(&given, "E1.evse.current"), at(&given, "E1.last_set_charging_cur"));
    assert_eq!(at(&given, "E1.paused"), &json!(false));
    let available = at(&given, "params.avail_evse_power").as_i64().unwrap();
    assert_eq!(available, 32 * 3 * 230 - 690, "{given}");
    // An overload: the wallbox is paused, and the overload is told.
    meter(&site, r#"{"current":[40000,1000,1000],"voltage":[230,230,230],"power_w":9660}"#).await;
    let fields = [
        ("E1.paused", json!(true)),
        ("E1.pause_reason", json!(1)),
        ("E1.last_set_charging_cur", json!(0)),
        ("params.cur_overdraft", json!(8_000)),
        ("params.max_overdraft_cur", json!(8_000)),
        ("params.overdraft_cur", json!(8_000)),
    ];
    shows(&site, &fields).await;
}

// === Live: a session ===

#[tokio::test]
async fn overrides_and_energy_last_as_long_as_the_car_is_plugged_in() {
    let site = Site::start(SITE).await;
    wallbox(&site, r#"{"state":1,"current":[0,0,0],"total_energy":5000}"#).await;
    shows(&site, &[("E1.label", json!("")), ("E1.overrides", json!(0)), ("E1.ov_cur", Value::Null)]).await;
    wallbox(&site, r#"{"state":2,"current":[0,0,0],"total_energy":5000}"#).await;
    shows(&site, &[("E1.label", json!("Guest"))]).await;
    ok(&site, "cmd=override_device&dev_id=E1&flags=C&mamps=8000.0").await;
    shows(&site, &[("E1.overrides", json!(1)), ("E1.ov_cur", json!(8_000)), ("E1.pause_reason", json!(3))]).await;
    ok(&site, "cmd=override_device&dev_id=E1&flags=cEU").await;
    shows(&site, &[("E1.overrides", json!(6))]).await;
    wallbox(&site, r#"{"state":3,"current":[9000,9000,9000],"total_energy":5000}"#).await;
    wallbox(&site, r#"{"state":3,"current":[9000,9000,9000],"total_energy":5250}"#).await;
    shows(&site, &[("E1.ta_en", json!(250))]).await;
    let look = async || {
        wallbox(&site, r#"{"state":3,"current":[9000,9000,9000],"total_energy":5250}"#).await;
        at(&info(&site).await, "E1.charging_dur").as_u64().unwrap()
    };
    until("charging takes time", look, |seconds| *seconds > 0).await;
    wallbox(&site, r#"{"state":1,"current":[0,0,0],"total_energy":5250}"#).await;
    let fields = [
        ("E1.label", json!("")),
        ("E1.overrides", json!(0)),
        ("E1.ov_cur", Value::Null),
        ("E1.ta_en", json!(0)),
        ("E1.charging_dur", json!(0)),
    ];
    shows(&site, &fields).await;
}

#[tokio::test]
async fn a_wallbox_with_users_waits_for_a_card() {
    let users = "[[user]]\nid = \"5678\"\nname = \"A\"\ndevices = [\"E1\"]\n";
    let site = Site::start(&format!("{SITE}{users}")).await;
    wallbox(&site, r#"{"state":2,"current":[0,0,0]}"#).await;
    shows(&site, &[("E1.needs_auth", json!(true)), ("auth_cnt", json!(1)), ("E1.pause_reason", json!(3))]).await;
    assert_eq!(site.get("cmd=enter_rfid&rfid=5678&dev_id=E1").await.status, 200);
    shows(&site, &[("E1.needs_auth", json!(false)), ("auth_cnt", json!(0))]).await;
}

// === Configured ===

#[tokio::test]
async fn configured_fields_follow_the_file() {
    let site = Site::start(SITE).await;
    let before = [
        ("params.title", json!("Home")),
        ("params.lb_enabled", json!(true)),
        ("loadmgr_disabled", json!(false)),
        ("E1.number", json!(1)),
        ("E1.attach", Value::Null),
        ("params.real_evses_dis", json!(0)),
    ];
    shows(&site, &before).await;
    let text = std::fs::read_to_string(site.file()).unwrap();
    let changed = text
        .replace("\"Home\"", "\"Hof\"\ndesc = \"D\"")
        .replace("32000, 32000, 32000", "63000, 50000, 63000")
        .replace(
            "name = \"Box\"",
            "name = \"Links\"\nnumber = 7\nmeter = \"M2\"\npriority = 3\nmin_ma = 8000\nmax_ma = 20000",
        )
        .replace("L1L2L3", "L2L3L1")
        + "[load]\nmode = \"observe\"\ncycle_ms = 2000\nreserve_ma = 1500\ndisable_policy = 0\nmax_total_cur_prc = 50\n\
           [variables]\ntariff = 1.5\n[[device]]\nid = \"M2\"\ntype = \"http-input\"\nrole = \"storage-home\"\n\
           [[device]]\nid = \"E2\"\ntype = \"http-input\"\nenabled = false\n";
    std::fs::write(site.file(), changed).unwrap();
    let after = [
        ("params.title", json!("Hof")),
        ("params.desc", json!("D")),
        ("params.lb_enabled", json!(false)),
        ("loadmgr_disabled", json!(true)),
        ("params.cycle_time", json!(2_000)),
        ("params.max_total_current", json!(50_000)),
        ("params.max_total_power", json!(34_500)),
        ("params.max_total_cur_prc", json!(50)),
        ("params.reserve_current", json!(1_500)),
        ("params.power_reserve", json!(1_035)),
        ("params.disable_policy", json!(0)),
        ("params.cm_vars", json!({"vars": [{"name": "tariff", "expr": 1.5, "val": 1.5, "value": 1.5}]})),
        ("params.real_evses", json!(1)),
        ("params.real_evses_dis", json!(1)),
        ("E1.name", json!("Links")),
        ("E1.number", json!(7)),
        ("E1.attach", json!("M2")),
        ("E1.prio", json!(3)),
        ("E1.min_charging_cur", json!(8_000)),
        ("E1.max_charging_cur", json!(20_000)),
        ("E1.max_power", json!(13_800)),
        ("E1.phase_rotation", json!(1)),
        ("E2.device_enabled", json!(0)),
        ("E2.state", json!(6)),
        ("M2.role", json!(5)),
    ];
    shows(&site, &after).await;
}

#[tokio::test]
async fn what_is_set_until_the_next_start_shows_too() {
    let site = Site::start(SITE).await;
    let set = site.post("cmd=set_params", r#"{"max_total_cur_prc":50}"#).await;
    assert_eq!((set.status, set.json()), (200, json!("ok")));
    ok(&site, "cmd=set_cm_vars&name=x&val=3&tmp=1").await;
    let vars = json!({"vars": [{"name": "x", "expr": 3, "val": 3, "value": 3}]});
    shows(&site, &[("params.max_total_cur_prc", json!(50)), ("params.cm_vars", vars)]).await;
}

// === What clients need ===

/// A wallbox that charges and a meter that counts.
async fn charging(text: &str) -> (Site, Value) {
    let site = Site::start(text).await;
    wallbox(&site, r#"{"state":3,"current":[9000,0,0],"total_energy":5100,"model":"Maker,Box,1.0,2.0.1,S1"}"#).await;
    meter(&site, r#"{"import_wh":7,"power_w":1500,"voltage":[230,231,232],"current":[1,2,3]}"#).await;
    let info = shows(&site, &[("E1.state", json!(3)), ("M1.import", json!(7))]).await;
    (site, info)
}

#[tokio::test]
async fn client_home_assistant() {
    let (site, info) = charging(SITE).await;
    // It reads "2.0" of the version as a number and takes the new names from 1.2 on.
    let version = info["params"]["version"].as_str().unwrap();
    let major_minor: f64 = version.split('.').take(2).collect::<Vec<_>>().join(".").parse().unwrap();
    assert!(major_minor >= 1.2, "{version}");
    assert!(info["params"]["title"].is_string() && info["params"]["vsn"]["serialno"].is_string());
    for device in info["devices"].as_array().unwrap() {
        assert!(device["device_enabled"].is_i64() && device["is_evse"].is_boolean(), "{device}");
        assert!(["dev_id", "name", "model"].iter().all(|key| device[key].is_string()), "{device}");
        let numbers: &[&str] = if device["is_evse"] == true {
            assert!((1..=6).contains(&device["state"].as_i64().unwrap()));
            &[
                "power_w",
                "total_energy",
                "current_l1",
                "current_l2",
                "current_l3",
                "min_charging_cur",
                "max_charging_cur",
            ]
        } else {
            &[
                "power_w",
                "import",
                "export",
                "current_l1",
                "current_l2",
                "current_l3",
                "voltage_l1",
                "voltage_l2",
                "voltage_l3",
            ]
        };
        assert!(numbers.iter().all(|key| device[key].is_number()), "{device}");
    }
    // A device must not vanish between two polls, whatever happens to it.
    let text = std::fs::read_to_string(site.file()).unwrap();
    std::fs::write(site.file(), text.replace("name = \"Box\"", "name = \"Box\"\nenabled = false")).unwrap();
    shows(&site, &[("E1.device_enabled", json!(0)), ("E1.state", json!(6))]).await;
}

#[tokio::test]
async fn client_py_powerbrain() {
    let (site, info) = charging(&SITE.replace("name = \"Box\"", "name = \"Box\"\nmeter = \"M1\"")).await;
    let types = site.get("cmd=get_dev_types").await.json();
    let ids: Vec<&Value> = info["devices"].as_array().unwrap().iter().map(|device| &device["dev_id"]).collect();
    for device in info["devices"].as_array().unwrap() {
        assert!(types[device["dev_type"].as_str().unwrap()].is_string(), "{device} in {types}");
        assert!(device.get("attach").is_none_or(|meter| ids.contains(&meter)), "{device}");
    }
    assert_eq!(device(&info, "E1")["attach"], "M1");
    let params = site.get("cmd=get_params").await.json();
    assert!(
        params["version"].is_string() && params["max_total_evse_power"].is_number() && params["dev_meta"].is_object()
    );
}

#[tokio::test]
async fn client_tesla_logger() {
    let (_site, info) = charging(SITE).await;
    let devices = info["devices"].as_array().unwrap();
    let grid = devices.iter().find(|device| device["is_evse"] == false && device["role"] == 3).unwrap();
    assert_eq!(grid["import"].as_f64(), Some(7.0));
    let wallbox = devices.iter().find(|device| device["is_evse"] == true).unwrap();
    assert_eq!((wallbox["total_energy"].as_f64(), wallbox["evse"]["charging"].as_bool()), (Some(5100.0), Some(true)));
    assert!(info["params"]["version"].is_string());
}

#[tokio::test]
async fn client_cobot() {
    // It handles one type of wallbox only, and its schema wants these types.
    let text =
        "[[device]]\nid = \"E1\"\ntype = \"cfos-power-brain\"\naddress = \"tcp://127.0.0.1:9\"\nenabled = false\n";
    let site = Site::start(text).await;
    let info = info(&site).await;
    let ours: Vec<&Value> =
        info["devices"].as_array().unwrap().iter().filter(|device| device["dev_type"] == "evse_powerbrain").collect();
    let [wallbox] = ours.as_slice() else { panic!("{info}") };
    assert!(["address", "desc", "dev_id", "name"].iter().all(|key| wallbox[key].is_string()), "{wallbox}");
    assert!(
        wallbox["state"].is_i64() && wallbox["charging_enabled"].is_boolean() && wallbox["total_energy"].is_number()
    );
    assert_eq!(site.get("cmd=get_dev_types").await.json()["evse_powerbrain"], "cfos-power-brain");
}

#[tokio::test]
async fn client_edomi() {
    let (_site, info) = charging(SITE).await;
    let wallbox = device(&info, "E1");
    assert_eq!(wallbox["cur_charging_power"], 2_070);
    let model: Vec<&str> = wallbox["model"].as_str().unwrap().split(',').collect();
    assert_eq!((model.len(), model[3], model[4]), (5, "2.0.1", "S1"));
}

#[tokio::test]
async fn client_home_meter_and_the_matrix() {
    let (_site, info) = charging(SITE).await;
    let powers = ["grid_pwr", "cons_pwr", "cons_evse_power", "avail_evse_power", "surplus_power"];
    assert!(powers.iter().all(|key| info["params"][key].is_number()), "{}", info["params"]);
    // Grid 1500 W, of which 2070 W should be the car: the two were not measured together, and nothing is hidden.
    assert_eq!((&info["params"]["grid_pwr"], &info["params"]["cons_pwr"]), (&json!(1500), &json!(-570)));
    let roles: Vec<(&Value, &Value)> = info["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|device| device["is_evse"] == false)
        .map(|device| (&device["role"], &device["power_w"]))
        .collect();
    assert_eq!(roles, [(&json!(3), &json!(1500))]);
}
