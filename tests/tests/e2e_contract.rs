//! The contract, end to end: the built daemon beside a real Mosquitto, seen only through MQTT and HTTP.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::net::SocketAddr;

use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::mqtt::Probe;
use ladekern_tests::{SOON, http};
use serde_json::{Value, json};

const SAMPLE: &str = r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}"#;

/// The example of the contract, at a broker of the test's own.
struct Site {
    daemon: Daemon,
    http: SocketAddr,
    _state: tempfile::TempDir,
}

async fn mqtt_meter(broker: &str, more: &[&str]) -> Site {
    let state = tempfile::tempdir().unwrap();
    let broker = format!("mqtt.broker={broker}");
    let mut args = vec!["run", "--config", "examples/mqtt-meter/ladekern.toml", "--set", &broker];
    args.extend(["--set", "http.listen=127.0.0.1:0", "--state", state.path().to_str().unwrap()]);
    args.extend(more);
    let daemon = Daemon::start(args);
    let http = daemon.http_address().await;
    Site { daemon, http, _state: state }
}

#[tokio::test]
async fn the_reference_example_works_with_mosquitto() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "cfos_mqtt/get/#").await;
    let site = mqtt_meter(&broker.url(), &[]).await;
    // Who sees dev_info may publish: the subscriptions stand by then.
    probe.wait("cfos_mqtt/get/dev_info", Value::is_object).await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE, false).await;
    let meter = probe.wait("cfos_mqtt/get/M3", |m| m["import"] == json!(12345)).await;
    for (key, value) in [("export", 23456), ("voltage_l1", 231), ("voltage_l3", 233), ("current_l3", 10003)] {
        assert_eq!(meter[key], json!(value), "{key} in {meter}");
    }
    assert_eq!(meter["com_err"], json!(false));
    let model = meter["model"].as_str().unwrap();
    assert!(model.contains("TestModell"), "{model}");

    let answer = http::get(site.http, "/cnf?cmd=get_dev_info").await.unwrap();
    assert_eq!(answer.status, 200);
    let info = answer.json();
    assert_eq!(info["devices"][0]["dev_id"], json!("M3"));
    assert_eq!(info["devices"][0]["current_l1"], json!(10001));
    let params = http::get(site.http, "/cnf?cmd=get_params").await.unwrap().json();
    assert_eq!(params["version"], json!("2.0.1"));

    let (code, output) = site.daemon.stop().await;
    assert_eq!(code, Some(0), "{output}");
}

#[tokio::test]
async fn a_broker_that_is_not_there_keeps_nothing_from_starting_and_is_found_later() {
    let port = ladekern_tests::free_port();
    let site = mqtt_meter(&format!("mqtt://127.0.0.1:{port}"), &[]).await;
    let answer = http::get(site.http, "/cnf?cmd=get_dev_info").await.unwrap();
    assert_eq!(answer.json()["devices"][0]["com_err"], json!(true), "nothing has been measured yet");
    let broker = Mosquitto::start_on(port);
    let probe = Probe::connect(broker.port(), "cfos_mqtt/get/#").await;
    probe.wait("cfos_mqtt/get/dev_info", Value::is_object).await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE, false).await;
    probe.wait("cfos_mqtt/get/M3", |m| m["import"] == json!(12345)).await;

    // The same after a restart of the broker, with nothing done by hand.
    drop(probe);
    drop(broker);
    let broker = Mosquitto::start_on(port);
    let probe = Probe::connect(broker.port(), "cfos_mqtt/get/#").await;
    probe.wait("cfos_mqtt/get/dev_info", Value::is_object).await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE.replace("12345", "54321"), false).await;
    probe.wait("cfos_mqtt/get/M3", |m| m["import"] == json!(54321)).await;
}

#[tokio::test]
async fn a_retained_measurement_is_shown_but_not_believed() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "cfos_mqtt/get/#").await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE, true).await;
    let _site = mqtt_meter(&broker.url(), &[]).await;
    let meter = probe.wait("cfos_mqtt/get/M3", |m| m["import"] == json!(12345)).await;
    assert_eq!(meter["com_err"], json!(true), "nobody knows how old a retained message is: {meter}");
}

#[tokio::test]
async fn a_message_that_is_no_measurement_changes_nothing_and_is_named() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "cfos_mqtt/get/#").await;
    let site = mqtt_meter(&broker.url(), &[]).await;
    probe.wait("cfos_mqtt/get/dev_info", Value::is_object).await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE, false).await;
    probe.wait("cfos_mqtt/get/M3", |m| m["import"] == json!(12345)).await;
    for bad in ["", "{", "[1,2]", r#"{"voltage":"a lot"}"#] {
        probe.publish("cfos_mqtt/set/M3", bad, false).await;
    }
    site.daemon.line_with("cfos_mqtt/set/M3").await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE.replace("23456", "1"), false).await;
    let meter = probe.wait("cfos_mqtt/get/M3", |m| m["export"] == json!(1)).await;
    assert_eq!(meter["voltage_l1"], json!(231), "{meter}");
}

#[tokio::test]
async fn the_embedded_broker_serves_the_same_example() {
    let port = ladekern_tests::free_port();
    let listen = format!("mqtt.embedded_listen=127.0.0.1:{port}");
    let site = mqtt_meter("embedded", &["--set", &listen]).await;
    let probe = Probe::connect(port, "cfos_mqtt/get/#").await;
    probe.wait("cfos_mqtt/get/dev_info", Value::is_object).await;
    probe.publish("cfos_mqtt/set/M3", SAMPLE, false).await;
    probe.wait("cfos_mqtt/get/M3", |m| m["current_l3"] == json!(10003)).await;
    drop(probe);
    let (code, output) = site.daemon.stop().await;
    assert_eq!(code, Some(0), "{output}");
}

#[tokio::test]
async fn every_error_of_a_configuration_is_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ladekern.toml");
    std::fs::write(
        &file,
        "[site]\ntitel = \"x\"\n[[device]]\nid = \"M1\"\ntype = \"http-input\"\nmax_ma = \"lots\"\n\
         [[device]]\nid = \"M1\"\ntype = \"http-input\"\n[[device]]\nid = \"E1\"\ntype = \"no-such-box\"\n",
    )
    .unwrap();
    let daemon = Daemon::start(["check", "--config", file.to_str().unwrap()]);
    let (code, output) = daemon.ended(SOON).await;
    assert_eq!(code, Some(64), "{output}");
    for words in ["titel", "title", "max_ma", "M1", "ladekern.toml"] {
        assert!(output.contains(words), "{words} is missing in:\n{output}");
    }
}

#[tokio::test]
async fn rules_and_definitions_that_do_not_count_are_errors_of_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let (file, definitions) = (folder.path().join("ladekern.toml"), folder.path().join("definitions"));
    std::fs::create_dir(&definitions).unwrap();
    let meter = "{\"rtype\": 2, \"dev_type\": \"acme\", \"power_w\": {\"address\": \"t\"}}";
    let text = |rule: &str| {
        format!(
            "[[circuit]]\nid = \"main\"\nlimit_ma = [16000, 16000, 16000]\n[[device]]\nid = \"E1\"\n\
             type = \"http-input\"\ncharging_rules = [\n{{ ctype = 51, {rule} }},\n]\n"
        )
    };
    std::fs::write(definitions.join("a.json"), meter).unwrap();
    let check = async || {
        Daemon::start(["check", "--config", file.to_str().unwrap()]).ended(std::time::Duration::from_secs(60)).await
    };
    for (rule, says) in [
        ("aexpr = 8000", None),
        ("aexpr = \"8000 +\"", Some("rule 0.aexpr: ")),
        ("aexpr = 8000, dayz = 31", Some("rule 0: unknown key \"dayz\", did you mean \"days\"?")),
        ("aexpr = 8000, days = \"Mon\"", Some("rule 0.days: expected a whole number from 0 to 255, found \"Mon\"")),
    ] {
        std::fs::write(&file, text(rule)).unwrap();
        let (code, output) = check().await;
        assert_eq!(code, Some(if says.is_some() { 64 } else { 0 }), "{output}");
        let place = says.map(|says| format!("{}:8: device.E1.charging_rules: {says}", file.display()));
        assert!(place.is_none_or(|place| output.contains(&place)), "{rule}: {output}");
    }
    std::fs::write(&file, text("aexpr = 8000")).unwrap();
    std::fs::write(definitions.join("b.json"), meter).unwrap();
    let (code, output) = check().await;
    let (a, b) = (definitions.join("a.json"), definitions.join("b.json"));
    let wanted = format!("{}: dev_type: \"acme\" is described by {} too", b.display(), a.display());
    assert!(code == Some(64) && output.contains(&wanted), "{output}");
    let both = ["definition", "check", a.to_str().unwrap(), b.to_str().unwrap()];
    let (code, output) = Daemon::start(both).ended(std::time::Duration::from_secs(60)).await;
    assert!(code == Some(1) && output.contains("is described by"), "{output}");
}

#[tokio::test]
async fn a_changed_file_takes_effect_at_once_and_a_broken_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ladekern.toml");
    let text = |title: &str, more: &str| {
        format!(
            "# kept by the one who wrote it\n[site]\ntitle = \"{title}\"\n[http]\nlisten = \"127.0.0.1:0\"\n{more}\n\
             [[device]]\nid = \"M1\"\ntype = \"http-input\"\n"
        )
    };
    std::fs::write(&file, text("before", "")).unwrap();
    let daemon = Daemon::start(["run", "--config", file.to_str().unwrap(), "--set", "site.desc=overridden"]);
    let address = daemon.http_address().await;
    let fed = http::post(address, "/cnf?cmd=set_ajax_meter&dev_id=M1", "{\"power_w\":7}").await.unwrap();
    assert_eq!(fed.status, 200, "{}", fed.body);

    std::fs::write(&file, text("broken", "[mqqt]\nbroker = \"mqtt://x\"")).unwrap();
    let line = daemon.line_with("mqqt").await;
    assert!(line.contains("ladekern.toml:6") && line.contains("mqtt"), "{line}");
    daemon.line_with("the one before stays in force").await;
    let params = http::get(address, "/cnf?cmd=get_params").await.unwrap().json();
    assert_eq!(params["title"], json!("before"), "{params}");

    std::fs::write(&file, text("after", "[[device]]\nid = \"M2\"\ntype = \"http-input\"")).unwrap();
    daemon.line_with("the changed configuration is in force").await;
    let info = http::get(address, "/cnf?cmd=get_dev_info").await.unwrap().json();
    assert_eq!(info["params"]["title"], json!("after"), "{info}");
    assert_eq!(info["params"]["desc"], json!("overridden"), "an override outlives a reload: {info}");
    let devices = info["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2, "{info}");
    let first = devices.iter().find(|device| device["dev_id"] == json!("M1")).unwrap();
    assert_eq!(first["power_w"], json!(7), "a device that did not change keeps its values: {info}");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("# kept"), "the file is the user's");
}
