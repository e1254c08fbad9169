//! `get_devices`, `set_device`, `del_device` and `reset_device`: 7.2, rows 16 and 17.

use serde_json::json;

use super::*;
use crate::config::{BrokerRef, PhaseMap};
use crate::site::Role;

fn map(of: [Option<u8>; 3]) -> Option<PhaseMap> {
    Some(PhaseMap { of })
}

#[tokio::test]
async fn h16_every_device_is_there_with_its_configuration() {
    let site = TestSite::start(SITE).await;
    let devices = site.read("cmd=get_devices").await;
    let ids: Vec<&str> = devices.as_array().unwrap().iter().map(|device| device["dev_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["M1", "M2", "E1", "E2"]);
    let info = site.read("cmd=get_dev_info").await;
    for (device, shown) in devices.as_array().unwrap().iter().zip(info["devices"].as_array().unwrap()) {
        for key in shown.as_object().unwrap().keys() {
            assert!(device.get(key).is_some(), "{key} of {}", shown["dev_id"]);
        }
    }
    let e1 = site.full("E1").await;
    assert_eq!(e1["crule_set"], json!({"rule_set": {"": []}, "selected_id": ""}));
    assert_eq!((&e1["users"], &e1["fixed_rfid"]), (&json!(["4711"]), &json!("")));
    assert_eq!(site.full("E2").await["users"], json!([]));
    assert!(e1.get("attach").is_none());
}

#[tokio::test]
async fn h16_what_was_read_can_be_sent_back_and_writes_nothing() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_ajax_meter&dev_id=M1&power_w=100", "").await;
    let (before, config) = (site.text(), site.config());
    for device in site.read("cmd=get_devices").await.as_array().unwrap() {
        let answer = site.set_device(device.clone()).await;
        assert_eq!((answer.status, text(&answer)), (200, "\"ok\""), "{device}");
    }
    assert_eq!(*config, *site.config());
    assert_eq!(site.restart().await.text(), before);
}

#[tokio::test]
async fn h16_rules_are_kept_with_keys_nobody_here_knows() {
    let site = TestSite::start(SITE).await;
    let rule =
        json!({"id": 1, "ena": true, "ctype": 51, "aexpr": "16000", "flags": 16, "new_key": {"deep": [1.5, null]}});
    let rules = json!({"rule_set": {"": [rule], "night": []}, "selected_id": "night", "more": "x"});
    let mut device = site.full("E1").await;
    device["crule_set"] = rules.clone();
    assert_eq!(site.set_device(device).await.status, 200);
    assert_eq!(site.full("E1").await["crule_set"], rules);
    let site = site.restart().await;
    assert_eq!(site.full("E1").await["crule_set"], rules);
    for (wrong, part) in [
        (json!([]), "expected an object, found a list of 0"),
        (json!({}), "rule_set is missing"),
        (json!({"rule_set": []}), "crule_set.rule_set"),
        (json!({"rule_set": {"": "x".repeat(70_000)}}), "at most 65536"),
        (json!({"rule_set": {"": [{"ctype": 51, "atype": 0}]}}), "rule 0.aexpr: is missing"),
        (json!({"rule_set": {"": [], "x": [{"ctype": 50, "cexpr": "1 +", "aexpr": 1}]}}), "set \"x\", rule 0.cexpr"),
    ] {
        let body = json!({"devices": [{"dev_id": "E1", "crule_set": wrong}]});
        site.refused("cmd=set_device", &body.to_string(), &["crule_set", part]).await;
    }
    assert_eq!(site.full("E1").await["crule_set"], rules);
}

#[tokio::test]
async fn h16_the_own_rules_are_a_list_too() {
    let site = TestSite::start(SITE).await;
    let list = |ma: u32| json!([{"ctype": 51, "atype": 0, "aexpr": ma, "unheard_of": 1}, {"ctype": 77, "atype": 99}]);
    let mut device = site.full("E1").await;
    assert_eq!(device["charging_rules"], json!([]));
    device["charging_rules"] = list(8_000);
    assert_eq!(site.set_device(device.clone()).await.status, 200);
    let shown = site.full("E1").await;
    assert_eq!(shown["charging_rules"], list(8_000));
    assert_eq!(shown["crule_set"], json!({"rule_set": {"": list(8_000)}, "selected_id": ""}));
    // Other sets stay where they are.
    let sets = json!({"rule_set": {"": list(9_000), "night": list(1)}, "selected_id": "night"});
    let body = json!({"devices": [{"dev_id": "E1", "crule_set": sets}]}).to_string();
    site.ok("cmd=set_device", &body).await;
    let body = json!({"devices": [{"dev_id": "E1", "charging_rules": list(7_000)}]}).to_string();
    site.ok("cmd=set_params", &body).await;
    let shown = site.full("E1").await;
    assert_eq!(shown["crule_set"], json!({"rule_set": {"": list(7_000), "night": list(1)}, "selected_id": "night"}));
    let both = json!({"devices": [{"dev_id": "E1", "crule_set": sets, "charging_rules": []}]}).to_string();
    site.refused("cmd=set_device", &both, &["charging_rules", "says something else"]).await;
}

#[tokio::test]
async fn h16_each_key_changes_its_setting() {
    let site = TestSite::start(SITE).await;
    let wanted = json!({
        "dev_id": "E1", "name": "Hof \"links\"", "desc": "a\r\n\tb # '''\"\"\"\\", "number": 7, "label": "bin gleich da",
        "min_charging_cur": 8000, "max_charging_cur": "12000", "prio": 5, "attach": "M2", "fixed_rfid": "AB12",
        "charging_enabled": false, "power_w": 99, "nobody_knows": {},
    });
    assert_eq!(site.set_device(wanted).await.status, 200);
    let check = |device: &DeviceConfig| {
        assert_eq!((device.name.as_str(), device.desc.as_str()), ("Hof \"links\"", "a\r\n\tb # '''\"\"\"\\"));
        assert_eq!((device.number, device.label.as_str()), (Some(7), "bin gleich da"));
        assert_eq!((device.min_ma, device.max_ma, device.priority), (8_000, 12_000, 5));
        assert_eq!(device.meter.as_ref().map(|id| id.as_str()), Some("M2"));
        assert_eq!(device.fixed_rfid.as_deref(), Some("AB12"));
        assert_eq!(device.phases, map([Some(1), Some(2), Some(0)]), "untouched");
    };
    check(&site.device("E1"));
    let full = site.full("E1").await;
    assert_eq!(
        (&full["attach"], &full["fixed_rfid"], &full["max_charging_cur"]),
        (&json!("M2"), &json!("AB12"), &json!(12_000))
    );
    let site = site.restart().await;
    check(&site.device("E1"));
    assert_eq!(
        site.set_device(json!({"dev_id": "E1", "attach": "", "fixed_rfid": null, "device_enabled": 0})).await.status,
        200
    );
    let device = site.device("E1");
    assert_eq!((device.meter, device.fixed_rfid, device.enabled), (None, None, false));
    assert_eq!(site.set_device(json!({"dev_id": "E1", "device_enabled": true})).await.status, 200);
    assert!(site.device("E1").enabled);
    let meter = json!({"dev_id": "M2", "role": 5, "name": "Akku", "address": ""});
    assert_eq!(site.set_device(meter).await.status, 200);
    assert_eq!((site.device("M2").role, site.device("M2").name), (Role::StorageHome, "Akku".to_owned()));
}

#[tokio::test]
async fn h16_phases_and_rotation_are_one_map() {
    let site = TestSite::start(SITE).await;
    for (keys, wanted) in [
        (json!({"phase_rotation": 0}), map([Some(0), Some(1), Some(2)])),
        (json!({"phase_rotation": 240}), map([Some(2), Some(0), Some(1)])),
        (json!({"phase_rotation": 1}), map([Some(1), Some(2), Some(0)])),
        (json!({"used_phases": 4}), map([Some(2), None, None])),
        (json!({"phase_rotation": 120}), map([Some(1), None, None])),
        (json!({"used_phases": 3, "phase_rotation": 0}), map([Some(0), Some(1), None])),
        (json!({"used_phases": 0, "phase_rotation": 0}), None),
        (json!({"phase_rotation": 2}), map([Some(2), Some(0), Some(1)])),
        (json!({"used_phases": 7, "phase_rotation": 0}), map([Some(0), Some(1), Some(2)])),
        (json!({"used_phases": 1, "phase_rotation": 0}), map([Some(0), None, None])),
    ] {
        let mut device = json!({"dev_id": "E1"});
        device.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let answer = site.set_device(device).await;
        assert_eq!(answer.status, 200, "{keys}: {}", text(&answer));
        assert_eq!(site.device("E1").phases, wanted, "{keys}");
        // And what is shown then is what was set.
        let full = site.full("E1").await;
        assert_eq!(site.set_device(full).await.status, 200);
        assert_eq!(site.device("E1").phases, wanted, "{keys} sent back");
    }
    for (keys, part) in [
        (r#""phase_rotation":3"#, "expected 0, 1 or 2"),
        (r#""phase_rotation":90"#, "120, 240 degrees"),
        (r#""used_phases":8"#, "from 0 to 7"),
        (r#""used_phases":2,"phase_rotation":2"#, "L3 is not among used_phases"),
    ] {
        site.refused("cmd=set_device", &format!(r#"{{"devices":[{{"dev_id":"E1",{keys}}}]}}"#), &[part]).await;
    }
}

#[tokio::test]
async fn h16_users_are_assigned_on_either_side() {
    let site = TestSite::start(&format!("{SITE}[[user]]\nid = \"22\"\n")).await;
    assert_eq!(site.set_device(json!({"dev_id": "E2", "users": ["22", "4711"]})).await.status, 200);
    let devices = |site: &TestSite| -> Vec<Vec<String>> {
        site.config().users.iter().map(|user| user.devices.iter().map(ToString::to_string).collect()).collect()
    };
    assert_eq!(devices(&site), [vec!["E1", "E2"], vec!["E2"]]);
    assert_eq!(site.config().users[0].cards[0].id, "04AB12", "the cards stay");
    assert_eq!(site.set_device(json!({"dev_id": "E1", "users": []})).await.status, 200);
    assert_eq!(devices(&site), [vec!["E2"], vec!["E2"]]);
    let site = site.restart().await;
    assert_eq!(site.full("E2").await["users"], json!(["4711", "22"]));
    let body = r#"{"devices":[{"dev_id":"E2","users":["22","987654"]}]}"#;
    let answer = site.call("cmd=set_device", body).await;
    assert_eq!(answer.status, 400);
    assert!(text(&answer).contains("users[1]: there is no such user") && !text(&answer).contains("987654"));
}

#[tokio::test]
async fn h16_wrong_devices_are_refused_whole() {
    let site = TestSite::start(SITE).await;
    for (device, parts) in [
        (json!({"name": "x"}), vec!["dev_id is missing"]),
        (json!({"dev_id": 1}), vec!["dev_id", "found 1"]),
        (json!({"dev_id": "X1"}), vec!["dev_id", "\"X1\" is no device id"]),
        (json!({"dev_id": "E1", "name": 1}), vec!["name", "expected a text, found 1"]),
        (json!({"dev_id": "E1", "name": "x".repeat(201)}), vec!["name", "201 characters", "at most 200"]),
        (json!({"dev_id": "E1", "label": "a\nb"}), vec!["label", "control character"]),
        (json!({"dev_id": "E1", "min_charging_cur": 5999}), vec!["min_charging_cur", "from 6000 to 80000"]),
        (json!({"dev_id": "E1", "max_charging_cur": "M1.power_w/"}), vec!["max_charging_cur", "character 12"]),
        (json!({"dev_id": "E1", "min_charging_cur": "M1.soc"}), vec!["min_charging_cur", "expected a number in mA"]),
        (
            json!({"dev_id": "E1", "min_charging_cur": 20000}),
            vec!["min_charging_cur", "above max_charging_cur, which is 16000"],
        ),
        (json!({"dev_id": "E1", "min_charging_cur": 20000, "max_charging_cur": 16000}), vec!["20000 is above"]),
        (json!({"dev_id": "E1", "prio": 1.5}), vec!["prio", "whole number"]),
        (json!({"dev_id": "E1", "attach": "M9"}), vec!["attach", "no device M9"]),
        (json!({"dev_id": "E1", "attach": "E2"}), vec!["meter", "E2 is a wallbox"]),
        (json!({"dev_id": "E1", "device_enabled": 2}), vec!["device_enabled", "true or false"]),
        (json!({"dev_id": "E1", "allow_ph_sw": true}), vec!["allow_ph_sw", "this version cannot"]),
        (json!({"dev_id": "E1", "charging_rules": [{"days": 1}]}), vec!["charging_rules", "rule 0.ctype: is missing"]),
        (json!({"dev_id": "E1", "hide_dev": true}), vec!["hide_dev", "always false"]),
        (json!({"dev_id": "M1", "factor": -1}), vec!["factor", "always 1"]),
        (json!({"dev_id": "M1", "role": 7}), vec!["role", "from 0 to 6"]),
        (json!({"dev_id": "M1", "prio": 2}), vec!["device.M1.priority", "only wallboxes"]),
        (json!({"dev_id": "M1", "users": ["4711"]}), vec!["users", "a meter has none"]),
        (json!({"dev_id": "E1", "address": "ftp://x"}), vec!["address"]),
        (json!({"dev_id": "E1", "address": "mqtt"}), vec!["address", "mqtt.broker is not set"]),
        (json!({"dev_id": "E1", "address": "mqtt://u:***@host"}), vec!["address", "password that is not shown"]),
        (json!({"dev_id": "E1", "id": 2}), vec!["id", "no Modbus unit"]),
        (json!({"dev_id": "E1", "dev_type": "evse_other"}), vec!["dev_type", "E1 is evse_ajax"]),
    ] {
        let mut device = device;
        // Something sound beside it, which must not be taken either.
        device.as_object_mut().unwrap().insert("desc".into(), "sound".into());
        site.refused("cmd=set_device", &json!({ "devices": [device] }).to_string(), &parts).await;
    }
    let answer = site.set_device(json!({"dev_id": "E1", "fixed_rfid": "12 34 56"})).await;
    assert!(answer.status == 400 && !text(&answer).contains("12 34"), "{}", text(&answer));
    for (body, part) in [
        ("{}", "devices is missing"),
        (r#"{"devices":{}}"#, "expected a list"),
        (r#"{"devices":[]}"#, "a list of one device"),
        (r#"{"devices":[{"dev_id":"E1"},{"dev_id":"E2"}]}"#, "a list of one device"),
        (r#"{"devices":["E1"]}"#, "devices[0]: expected an object"),
    ] {
        site.refused("cmd=set_device", body, &[part]).await;
    }
}

#[tokio::test]
async fn h16_a_new_device_is_made_and_runs() {
    let site = TestSite::start(SITE).await;
    let new =
        json!({"dev_id": "E7", "dev_type": "evse_ajax", "name": "Neu", "max_charging_cur": 10000, "used_phases": 2});
    assert_eq!(site.set_device(new).await.status, 200);
    let device = site.device("E7");
    assert_eq!((device.name.as_str(), device.max_ma, device.phases), ("Neu", 10_000, map([Some(1), None, None])));
    assert_eq!(device.circuit.as_deref(), Some("main"));
    assert_eq!(site.call("cmd=set_ajax_evse&dev_id=E7&state=1", "").await.status, 200, "it is fed at once");
    assert_eq!(site.set_device(json!({"dev_id": "M8", "dev_type": "meter_ajax", "role": 2})).await.status, 200);
    let site = site.restart().await;
    assert_eq!(site.device("M8").role, Role::Generation);
    assert_eq!(site.device("E7").max_ma, 10_000);
    for (device, parts) in [
        (json!({"dev_id": "E8"}), vec!["dev_type", "no device E8", "evse_ajax", "found none"]),
        (json!({"dev_id": "E8", "dev_type": "meter_ajax"}), vec!["dev_type", "evse_ajax", "found \"meter_ajax\""]),
        (json!({"dev_id": "E8", "dev_type": "evse_unheard_of"}), vec!["dev_type", "evse_unheard_of"]),
    ] {
        site.refused("cmd=set_device", &json!({ "devices": [device] }).to_string(), &parts).await;
    }
}

#[tokio::test]
async fn h16_a_new_wallbox_hangs_on_the_house_connection() {
    let circuits = "[[circuit]]\nid = \"garage\"\nparent = \"main\"\nlimit_ma = [16000, 16000, 16000]\n";
    let site = SITE
        .replace("phases = \"L2L3L1\"", "circuit = \"garage\"")
        .replace("id = \"E2\"", "id = \"E2\"\ncircuit = \"main\"");
    let site = TestSite::start(&format!("{site}{circuits}")).await;
    assert_eq!(site.set_device(json!({"dev_id": "E3", "dev_type": "evse_ajax"})).await.status, 200);
    assert_eq!(site.device("E3").circuit.as_deref(), Some("main"));
}

#[tokio::test]
async fn h16_addresses_and_units_of_drivers() {
    let polled = "[[device]]\nid = \"M5\"\ntype = \"eastron-sdm\"\nendpoint.meter = { url = \"tcp://127.0.0.1:1\", unit = 3 }\n\
                  [[device]]\nid = \"M6\"\ntype = \"eastron-sdm\"\naddress = \"tcp://127.0.0.1:1\"\n";
    let site = TestSite::start(&format!("{SITE}{polled}")).await;
    let full = site.full("M5").await;
    assert_eq!((&full["address"], &full["id"]), (&json!("tcp://127.0.0.1:1"), &json!(3)));
    assert_eq!(site.set_device(json!({"dev_id": "M5", "address": "tcp://127.0.0.1:2", "id": 4})).await.status, 200);
    let endpoint = site.device("M5").endpoints["meter"].clone();
    assert_eq!((endpoint.url.to_string().as_str(), endpoint.unit), ("tcp://127.0.0.1:2", Some(4)));
    assert_eq!(site.set_device(json!({"dev_id": "M6", "address": "tcp://127.0.0.1:3"})).await.status, 200);
    assert_eq!(site.device("M6").endpoints[""].url.to_string(), "tcp://127.0.0.1:3");
    // The plugin is not installed here, so nobody knows the name of its slot.
    let body = json!({"devices": [{"dev_id": "M6", "id": 9}]});
    site.refused("cmd=set_device", &body.to_string(), &["id", "configuration file", "endpoint"]).await;
}

#[tokio::test]
async fn h16_a_broker_s_password_is_neither_shown_nor_lost() {
    let address = "address = \"mqtt://u:geheim@127.0.0.1:1\"";
    let site = TestSite::start(&SITE.replace("role = \"grid\"", &format!("role = \"grid\"\n{address}"))).await;
    let mut full = site.full("M1").await;
    assert!(!full.to_string().contains("geheim"));
    full["name"] = "renamed".into();
    assert_eq!(site.set_device(full).await.status, 200);
    let BrokerRef::Url(url) = site.device("M1").feed else { panic!("a broker") };
    assert_eq!(url.login, Some(("u".into(), "geheim".into())));
}

#[tokio::test]
async fn h17_a_device_is_removed_unless_something_names_it() {
    let site = TestSite::start(SITE).await;
    site.refused("cmd=del_device&dev_id=M1", "", &["circuit.main.meter", "no device M1"]).await;
    site.refused("cmd=del_device&dev_id=E1", "", &["devices", "no device E1"]).await;
    site.ok("cmd=del_device&dev_id=E2", "").await;
    site.ok("cmd=del_device&dev_id=M2", "").await;
    let ids = |site: &TestSite| site.config().devices.iter().map(|device| device.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&site), ["M1", "E1"]);
    let site = site.restart().await;
    assert_eq!(ids(&site), ["M1", "E1"]);
}

#[tokio::test]
async fn h17_a_driver_is_started_again() {
    let site =
        TestSite::start(&format!("{SITE}[[device]]\nid = \"M5\"\ntype = \"http-input\"\nenabled = false\n")).await;
    site.ok("cmd=reset_device&dev_id=E1", "").await;
    site.refused("cmd=reset_device&dev_id=M5", "", &["M5 is disabled"]).await;
}
