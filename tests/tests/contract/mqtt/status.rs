//! Contract A3 and A4, the rules B3, B4, B5, B12, B13, B19, B20 and B22: feeding and status.

use serde_json::{Value, json};

use super::{Host, M1, M3, WALLBOXES};

const PUBLISH: &str = "publish = \"mqtt\"\npublish_interval_ms = 200\n";
const SAMPLE: &str = r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}"#;

async fn the_documented_message_feeds_the_meter(host: Host) {
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/set/M3", SAMPLE).await;
    let meter = host.ear.json("cfos_mqtt/get/M3", |meter| meter["import"] == 12345).await;
    for (key, value) in [("export", 23456), ("voltage_l1", 231), ("current_l1", 10001), ("current_l3", 10003)] {
        assert_eq!(meter[key], json!(value), "{key}");
    }
    assert_eq!((&meter["com_err"], &meter["model"]), (&json!(false), &json!("TestModell")));
}

#[tokio::test]
async fn a3_the_documented_message_feeds_the_meter_at_mosquitto() {
    the_documented_message_feeds_the_meter(Host::at_mosquitto(PUBLISH, M3).await).await;
}

#[tokio::test]
async fn a3_the_documented_message_feeds_the_meter_at_the_embedded_broker() {
    the_documented_message_feeds_the_meter(Host::at_embedded(PUBLISH, M3).await).await;
}

#[tokio::test]
async fn a3_b9_messages_may_be_json5_and_a_wrong_one_changes_nothing() {
    let host = Host::at_mosquitto(PUBLISH, M3).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/set/M3", "{power_w: 0x10, import_wh: 5, /* note */}").await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 16).await;
    host.ear.publish("cfos_mqtt/set/M3", "{power_w: 17, import_wh: true}").await;
    let meter = host.ear.json("cfos_mqtt/get/M3", |meter| meter["com_errors"] == 1).await;
    assert_eq!((&meter["power_w"], &meter["import"]), (&json!(16), &json!(5)));
    assert!(meter["last_error"].as_str().unwrap().contains("line 1"), "{meter}");
}

#[tokio::test]
async fn a4_status_is_that_of_http() {
    let host = Host::at_mosquitto(PUBLISH, &format!("{M3}{WALLBOXES}")).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/set/M3", SAMPLE).await;
    let info = host.ear.json("cfos_mqtt/get/dev_info", |info| info["devices"][0]["import"] == 12345).await;
    let http = host.site.get("cmd=get_dev_info").await.json();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&info), keys(&http));
    assert_eq!(keys(&info["params"]), keys(&http["params"]));
    for (ours, theirs) in info["devices"].as_array().unwrap().iter().zip(http["devices"].as_array().unwrap()) {
        assert_eq!(keys(ours), keys(theirs));
        let alone = host.ear.json(&format!("cfos_mqtt/get/{}", ours["dev_id"].as_str().unwrap()), |_| true).await;
        assert_eq!(keys(&alone), keys(ours));
    }
    let params = host.ear.json("cfos_mqtt/get/params", |_| true).await;
    assert_eq!(keys(&params), keys(&http["params"]));
}

#[tokio::test]
async fn a4_one_device_alone_and_all_but_one() {
    let alone = format!("{M1}{M3}publish = \"mqtt\"\n");
    let host = Host::at_mosquitto("publish_interval_ms = 200\n", &alone).await;
    host.ear.json("cfos_mqtt/get/M3", |_| true).await;
    assert!(host.ear.all("cfos_mqtt/get/dev_info").is_empty() && host.ear.all("cfos_mqtt/get/M1").is_empty());

    let all_but_one = format!("{M1}publish = \"\"\n{M3}");
    let host = Host::at_mosquitto(PUBLISH, &all_but_one).await;
    host.ear.json("cfos_mqtt/get/M3", |_| true).await;
    host.ear.json("cfos_mqtt/get/dev_info", |info| info["devices"].as_array().unwrap().len() == 2).await;
    assert!(host.ear.all("cfos_mqtt/get/M1").is_empty());
}

#[tokio::test]
async fn b3_b4_status_is_retained_and_the_last_will_tells_of_a_dead_manager() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = super::Ear::connect(broker.port()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, format!("[mqtt]\nbroker = \"{}\"\n{PUBLISH}\n{M3}", broker.url())).unwrap();
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let set = ["--set", "http.listen=127.0.0.1:0"];
    let daemon =
        ladekern_tests::daemon::Daemon::start(["run", "--config", &config, "--state", &state].iter().chain(&set));
    ear.json("cfos_mqtt/get/online", |online| *online == true).await;
    for topic in ["dev_info", "params", "M3"] {
        ear.json(&format!("cfos_mqtt/get/{topic}"), |_| true).await;
    }
    let late = super::Ear::connect_to(broker.port(), "cfos_mqtt/get/#").await;
    for topic in ["online", "dev_info", "params", "M3"] {
        let topic = format!("cfos_mqtt/get/{topic}");
        late.hear(&topic, |heard| heard.topic == topic && heard.retained).await;
    }
    // Killed, not stopped: nobody can say goodbye.
    drop(daemon);
    ear.json("cfos_mqtt/get/online", |online| *online == false).await;
}

#[tokio::test]
async fn b5_a_retained_measurement_is_shown_and_not_used() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = super::Ear::connect(broker.port()).await;
    ear.retain("cfos_mqtt/set/M3", "{\"power_w\": 7}").await;
    ear.hear("the retained message", |heard| heard.topic == "cfos_mqtt/set/M3").await;
    let text = format!("[mqtt]\nbroker = \"{}\"\n{PUBLISH}\n{M3}", broker.url());
    let site = ladekern_tests::site::Site::start(&text).await;
    ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 7 && meter["com_err"] == true).await;
    ear.publish("cfos_mqtt/set/M3", "{\"power_w\": 8}").await;
    ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 8 && meter["com_err"] == false).await;
    site.stop().await;
}

#[tokio::test]
async fn b12_silence_is_an_error_and_never_a_zero() {
    let host = Host::at_mosquitto(PUBLISH, &format!("{M3}timeout_s = 1\n")).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": 5}").await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 5 && meter["com_err"] == false).await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 5 && meter["com_err"] == true).await;
}

#[tokio::test]
async fn b13_a_large_message_costs_itself_only() {
    let host = Host::at_mosquitto(&format!("{PUBLISH}api = \"mqtt\"\n"), M3).await;
    host.ready("cfos_mqtt").await;
    let filling = |bytes: usize| format!("{{\"power_w\": 1, \"x\": \"{}\"}}", "x".repeat(bytes));
    host.ear.publish("cfos_mqtt/set/M3", &filling(1_500_000)).await;
    host.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": 2}").await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 2).await;
    assert!(!host.ear.all("cfos_mqtt/get/M3").iter().any(|meter| meter.contains("\"power_w\":1,")));
    host.ear.publish("cfos_mqtt/set/M3", &filling(1_000_000)).await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 1).await;
    let status = host.site.app.brokers();
    assert_eq!((status[0].lost, status[0].too_large), (0, 1), "the connection stays");
}

#[tokio::test]
async fn b13_a_flood_delays_neither_calls_nor_control() {
    let observe = "[load]\nmode = \"observe\"\n";
    let mqtt = format!("{PUBLISH}api = \"mqtt\"\ncontrol = true\n");
    let host = Host::at_mosquitto(&mqtt, &format!("{observe}{M1}{WALLBOXES}")).await;
    host.ready("cfos_mqtt").await;
    let flood = super::Ear::connect_to(host._broker.as_ref().unwrap().port(), "nothing").await;
    let flooding = tokio::spawn(async move {
        for n in 0..u64::MAX {
            let payload = format!("{{\"power_w\": {n}}}");
            flood.client.publish("cfos_mqtt/set/M1", rumqttc::QoS::AtMostOnce, false, payload).await.unwrap();
            if n % 100 == 0 {
                // As fast as a broker of this machine takes it, and still leaving its other clients a turn.
                tokio::task::yield_now().await;
            }
        }
    });
    host.ear.json("cfos_mqtt/get/M1", |meter| meter["power_w"].as_u64().unwrap_or(0) > 1_000).await;
    for round in 0..5 {
        let params = host.ear.call("cfos_mqtt", "cmd=get_params", "").await;
        assert_eq!(params["version"], "2.0.1");
        let ma = 8_000 + round;
        host.ear.publish("cfos_mqtt/ctl", &format!("{{E1: {{cur: {ma}}}}}")).await;
        host.ear.json("cfos_mqtt/get/E1", |e| e["last_set_charging_cur"] == ma).await;
    }
    // The control cycle goes on: plans are made while the flood lasts.
    let plan = || host.site.app.view().plan.plan.at;
    let before = plan();
    let cycles = async {
        while plan().0 < before.0 + 2_000 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(4), cycles).await.expect("two cycles in four seconds");
    flooding.abort();
}

#[tokio::test]
async fn b19_who_sees_dev_info_may_publish_at_once() {
    for _ in 0..5 {
        let host = Host::at_mosquitto(&format!("{PUBLISH}api = \"mqtt\"\n"), M3).await;
        host.ready("cfos_mqtt").await;
        host.ear.publish("cfos_mqtt/api/cmd=get_params", "").await;
        host.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": 3}").await;
        host.ear.json("cfos_mqtt/api_res", |_| true).await;
        host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 3).await;
    }
}

#[tokio::test]
async fn b20_numbers_go_out_as_they_came_in() {
    let host = Host::at_mosquitto(PUBLISH, &format!("{M3}role = \"grid\"\n")).await;
    host.ready("cfos_mqtt").await;
    let text = "{\"power_w\": -1234.5678, \"current\": [-10001, 10002.25, 0], \"export_wh\": 23456.75}";
    host.ear.publish("cfos_mqtt/set/M3", text).await;
    let meter = host.ear.json("cfos_mqtt/get/M3", |meter| meter["export"] == 23456.75).await;
    assert_eq!(meter["power_w"], -1234.5678);
    assert_eq!((&meter["current_l1"], &meter["current_l2"]), (&json!(-10001), &json!(10002.25)));
}

#[tokio::test]
async fn b22_a_fed_wallbox_reads_its_orders_from_its_topic() {
    let host = Host::at_mosquitto(PUBLISH, WALLBOXES).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/set/E1", "{\"state\": 2, \"max_charging_current\": 16000, \"current\": [0,0,0]}").await;
    let orders = host.ear.json("cfos_mqtt/get/E1", |e| e["last_set_charging_cur"].as_u64() >= Some(6_000)).await;
    assert_eq!((&orders["charging_enabled"], &orders["paused"]), (&json!(true), &json!(false)));
}
