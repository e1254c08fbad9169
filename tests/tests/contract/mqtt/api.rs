//! Contract A5 and the rules B5 to B8 and B21: calls over MQTT.

use std::time::Duration;

use ladekern_tests::SOON;
use rumqttc::v5;
use serde_json::{Value, json};

use super::{Host, M1, M3};

const API: &str = "publish = \"mqtt\"\npublish_interval_ms = 200\napi = \"mqtt\"\n";

/// Row 1 of `cfos-interfaces.md` 7.3 and the example of A5.
async fn a_call_is_answered_on_api_res(host: Host) {
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/api/cmd=get_params", "").await;
    let params = host.ear.json("cfos_mqtt/api_res", |_| true).await;
    assert_eq!(params["version"], "2.0.1");
    // The message is the body of the POST.
    host.ear.publish("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": 230}").await;
    host.ear.json("cfos_mqtt/api_res", |answer| *answer == "ok").await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 230).await;
    let answers = host.ear.everything().into_iter().filter(|heard| heard.topic == "cfos_mqtt/api_res");
    assert!(answers.into_iter().all(|heard| !heard.retained), "an answer is for who listens now");
}

#[tokio::test]
async fn a5_a_call_is_answered_on_api_res_at_mosquitto() {
    a_call_is_answered_on_api_res(Host::at_mosquitto(API, M3).await).await;
}

#[tokio::test]
async fn a5_a_call_is_answered_on_api_res_at_the_embedded_broker() {
    a_call_is_answered_on_api_res(Host::at_embedded(API, M3).await).await;
}

#[tokio::test]
async fn a5_values_may_hold_slashes_and_escapes() {
    let host = Host::at_mosquitto(API, M3).await;
    host.ready("cfos_mqtt").await;
    host.ear.call("cfos_mqtt", "cmd=set_ajax_meter&dev_id=%4D3&model=a/b%2Fc%23", "").await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["model"] == "a/b/c#").await;
}

#[tokio::test]
async fn a5_without_a_broker_for_the_api_nobody_answers() {
    let host = Host::at_mosquitto("publish = \"mqtt\"\npublish_interval_ms = 200\n", M3).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": 1}").await;
    host.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": 2}").await;
    host.ear.json("cfos_mqtt/get/M3", |meter| meter["power_w"] == 2).await;
    assert!(host.ear.all("cfos_mqtt/api_res").is_empty());
    assert!(!host.ear.all("cfos_mqtt/get/M3").iter().any(|meter| meter.contains("\"power_w\":1,")));
}

#[tokio::test]
async fn a5_calls_keep_their_order() {
    let host = Host::at_mosquitto(API, M3).await;
    host.ready("cfos_mqtt").await;
    for n in 0..50 {
        host.ear.publish("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", &format!("{{\"power_w\": {n}}}")).await;
        host.ear.publish(&format!("cfos_mqtt/api/cmd=get_dev_info&_rid={n}"), "").await;
    }
    for n in 0..50 {
        let info = host.ear.json(&format!("cfos_mqtt/api_res/{n}"), |_| true).await;
        assert_eq!(info["devices"][0]["power_w"], n, "what was set just before");
    }
}

#[tokio::test]
async fn h9_a_formula_over_mqtt_follows_a_fed_meter() {
    let host = Host::at_embedded(API, M3).await;
    host.ready("cfos_mqtt").await;
    let vars = r#"{"vars":[{"name":"kw","expr":"M3.power_w / 1000"}]}"#;
    host.ear.publish("cfos_mqtt/api/cmd=set_cm_vars", vars).await;
    host.ear.json("cfos_mqtt/api_res", |answer| *answer == "ok").await;
    for (watts, kilowatts) in [(2_300, 2.3), (-500, -0.5)] {
        host.ear.publish("cfos_mqtt/set/M3", &format!("{{\"power_w\": {watts}}}")).await;
        let wanted = json!({"vars": [
            {"name": "kw", "expr": "M3.power_w / 1000", "val": kilowatts, "value": kilowatts},
        ]});
        host.ear.json("cfos_mqtt/get/params", |params| params["cm_vars"] == wanted).await;
    }
}

#[tokio::test]
async fn b21_every_call_is_answered() {
    let host = Host::at_mosquitto(API, &format!("{M1}{M3}")).await;
    host.ready("cfos_mqtt").await;
    let calls: [(&str, &[u8], &str); 8] = [
        ("cfos_mqtt/api/", b"", "cmd is missing"),
        ("cfos_mqtt/api", b"", "cmd is missing"),
        ("cfos_mqtt/api/cmd=", b"", "unknown cmd"),
        ("cfos_mqtt/api/cmd=fly", b"", "unknown cmd"),
        ("cfos_mqtt/api/cmd=set_ajax_meter", b"{}", "dev_id is missing"),
        ("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M1", b"{\"power_w\":", "EOF"),
        ("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", b"\xff\xfe", "UTF-8"),
        ("cfos_mqtt/api/cmd=%zz", b"", "escaped wrongly"),
    ];
    for (number, (topic, body, words)) in calls.into_iter().enumerate() {
        host.ear.client.publish(topic, rumqttc::QoS::AtLeastOnce, false, body).await.unwrap();
        let answers = host.ear.several("cfos_mqtt/api_res", number + 1).await;
        let error = answers[number]["error"].as_str().unwrap_or_default();
        assert!(error.contains(words), "{topic}: {}", answers[number]);
    }
}

#[tokio::test]
async fn b21_calls_at_the_configured_broker_are_admin() {
    // With a password HTTP refuses what the broker's access rules allow.
    let hash = ladekern::password::hash("secret").unwrap().0;
    let http = format!("[http]\nadmin_password_hash = \"{hash}\"\n");
    let host = Host::at_mosquitto(API, &format!("{http}{M3}")).await;
    host.ready("cfos_mqtt").await;
    let refused = host.site.post("cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": 1}").await;
    assert_eq!(refused.status, 401);
    assert_eq!(host.ear.call("cfos_mqtt", "cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": 1}").await, json!("ok"));
}

#[tokio::test]
async fn b5_a_retained_call_is_neither_run_nor_answered() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = super::Ear::connect(broker.port()).await;
    ear.retain("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": 7}").await;
    ear.hear("the retained call", |heard| heard.topic.starts_with("cfos_mqtt/api/")).await;
    let text = format!("[mqtt]\nbroker = \"{}\"\n{API}\n{M3}", broker.url());
    let site = ladekern_tests::site::Site::start(&text).await;
    ear.json("cfos_mqtt/get/dev_info", |_| true).await;
    // This call comes behind the retained one, and calls keep their order.
    let info = ear.call("cfos_mqtt", "cmd=get_dev_info", "").await;
    assert_eq!(info["devices"][0]["power_w"], 0);
    assert!(ear.all("cfos_mqtt/api_res").is_empty());
    site.stop().await;
}

#[tokio::test]
async fn b6_the_same_call_within_the_window_runs_once_and_is_answered_twice() {
    let host = Host::at_mosquitto(&format!("{API}duplicate_window_ms = 60000\n"), M3).await;
    host.ready("cfos_mqtt").await;
    for _ in 0..3 {
        // Wrong messages are counted by the device, so it tells how often the call ran.
        host.ear.publish("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": \"x\"}").await;
    }
    let answers = host.ear.several("cfos_mqtt/api_res", 3).await;
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer["error"].is_string()), "{answers:?}");
    let info = host.ear.call("cfos_mqtt", "cmd=get_dev_info", "").await;
    assert_eq!(info["devices"][0]["com_errors"], 1);
}

#[tokio::test]
async fn b6_a_window_of_zero_runs_everything() {
    let host = Host::at_mosquitto(&format!("{API}duplicate_window_ms = 0\n"), M3).await;
    host.ready("cfos_mqtt").await;
    for _ in 0..3 {
        host.ear.publish("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3", "{\"power_w\": \"x\"}").await;
    }
    host.ear.several("cfos_mqtt/api_res", 3).await;
    let info = host.ear.call("cfos_mqtt", "cmd=get_dev_info", "").await;
    assert_eq!(info["devices"][0]["com_errors"], 3);
}

#[tokio::test]
async fn b7_a_request_id_gets_its_own_topic() {
    let host = Host::at_mosquitto(API, M3).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/api/cmd=get_dev_types&_rid=abc-1", "").await;
    host.ear.json("cfos_mqtt/api_res/abc-1", |types| types["meter_ajax"].is_string()).await;
    assert!(host.ear.all("cfos_mqtt/api_res").is_empty());
    // An id that could be several topics is an error, and the call does not run.
    host.ear.publish("cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3&power_w=5&_rid=a%2Fb", "").await;
    let refused = host.ear.json("cfos_mqtt/api_res", |_| true).await;
    assert!(refused["error"].as_str().unwrap().contains("_rid"), "{refused}");
    let info = host.ear.call("cfos_mqtt", "cmd=get_dev_info", "").await;
    assert_eq!(info["devices"][0]["power_w"], 0);
}

/// A version 5 client that asks once and returns the answers with their correlation data.
async fn ask(port: u16, correlations: &[&str]) -> Vec<(Option<Vec<u8>>, Value)> {
    let mut options = v5::MqttOptions::new(format!("asker-{}", ladekern_tests::free_port()), "127.0.0.1", port);
    options.set_max_packet_size(Some(4 << 20));
    let (client, mut events) = v5::AsyncClient::new(options, 20);
    client.subscribe("answers/me", v5::mqttbytes::QoS::AtLeastOnce).await.unwrap();
    let (mut answers, mut asked) = (Vec::new(), false);
    let all = async {
        while answers.len() < correlations.len() {
            match events.poll().await.unwrap() {
                v5::Event::Incoming(v5::mqttbytes::v5::Packet::SubAck(_)) if !asked => {
                    asked = true;
                    for correlation in correlations {
                        let properties = v5::mqttbytes::v5::PublishProperties {
                            response_topic: Some("answers/me".into()),
                            correlation_data: Some(correlation.as_bytes().to_vec().into()),
                            ..Default::default()
                        };
                        let (topic, qos) = ("cfos_mqtt/api/cmd=get_params", v5::mqttbytes::QoS::AtLeastOnce);
                        client.publish_with_properties(topic, qos, false, "", properties).await.unwrap();
                    }
                }
                v5::Event::Incoming(v5::mqttbytes::v5::Packet::Publish(publish)) => {
                    let correlation = publish.properties.and_then(|properties| properties.correlation_data);
                    let json = serde_json::from_slice(&publish.payload).unwrap();
                    answers.push((correlation.map(|bytes| bytes.to_vec()), json));
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, all).await.expect("all answers in time");
    answers
}

#[tokio::test]
async fn b7_a_request_of_version_5_is_answered_on_its_response_topic() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let text = format!("[mqtt]\nbroker = \"mqtt5://127.0.0.1:{}\"\n{API}\n{M3}", broker.port());
    let site = ladekern_tests::site::Site::start(&text).await;
    let ear = super::Ear::connect(broker.port()).await;
    ear.json("cfos_mqtt/get/dev_info", |_| true).await;
    // Both are the same call within the window: it runs once, and each caller gets its own answer.
    let mut answers = ask(broker.port(), &["one", "two"]).await;
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let correlations: Vec<_> = answers.iter().map(|(correlation, _)| correlation.clone()).collect();
    assert_eq!(correlations, [Some(b"one".to_vec()), Some(b"two".to_vec())]);
    assert!(answers.iter().all(|(_, params)| params["version"] == "2.0.1"));
    assert!(ear.all("cfos_mqtt/api_res").is_empty());
    site.stop().await;
}

#[tokio::test]
async fn b8_a_long_answer_says_where_to_get_it() {
    let host = Host::at_mosquitto(&format!("{API}api_max_response = 1000\n"), &format!("{M1}{M3}")).await;
    host.ready("cfos_mqtt").await;
    let answer = host.ear.call("cfos_mqtt", "cmd=get_dev_info", "").await;
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("use HTTP") && error.contains("1000"), "{error}");
    assert!(host.ear.call("cfos_mqtt", "cmd=get_dev_types", "").await["meter_ajax"].is_string());
}

#[tokio::test]
async fn b21_a_changed_configuration_loses_no_answer() {
    let host = Host::at_mosquitto(API, M3).await;
    host.ready("cfos_mqtt").await;
    let text = std::fs::read_to_string(host.site.file()).unwrap();
    std::fs::write(host.site.file(), text.replace("publish_interval_ms = 200", "publish_interval_ms = 300")).unwrap();
    // Calls go on while everything around them is built anew.
    let until = tokio::time::Instant::now() + Duration::from_millis(1500);
    let mut calls = 0;
    while tokio::time::Instant::now() < until {
        assert_eq!(host.ear.call("cfos_mqtt", "cmd=get_params", "").await["version"], "2.0.1");
        calls += 1;
    }
    assert!(calls > 10, "{calls}");
}

#[tokio::test]
async fn a1_with_the_serial_number_several_managers_share_a_broker() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = super::Ear::connect(broker.port()).await;
    let text = format!("[mqtt]\nbroker = \"{}\"\nprefix_with_serial = true\n{API}\n{M3}", broker.url());
    let (one, two) = (ladekern_tests::site::Site::start(&text).await, ladekern_tests::site::Site::start(&text).await);
    let prefix = |site: &ladekern_tests::site::Site| format!("cfos_mqtt_{}", site.app.view().serial);
    let (one_prefix, two_prefix) = (prefix(&one), prefix(&two));
    assert_ne!(one_prefix, two_prefix);
    for prefix in [&one_prefix, &two_prefix] {
        ear.json(&format!("{prefix}/get/dev_info"), |_| true).await;
        ear.json(&format!("{prefix}/get/online"), |online| *online == true).await;
        assert_eq!(ear.call(prefix, "cmd=get_params", "").await["version"], "2.0.1");
    }
    ear.publish(&format!("{one_prefix}/set/M3"), "{\"power_w\": 1}").await;
    ear.publish(&format!("{two_prefix}/set/M3"), "{\"power_w\": 2}").await;
    ear.json(&format!("{one_prefix}/get/M3"), |meter| meter["power_w"] == 1).await;
    ear.json(&format!("{two_prefix}/get/M3"), |meter| meter["power_w"] == 2).await;
    one.stop().await;
    ear.json(&format!("{one_prefix}/get/online"), |online| *online == false).await;
    let others = ear.everything().into_iter().filter(|heard| heard.topic.starts_with("cfos_mqtt/")).count();
    assert_eq!(others, 0, "nothing below the plain prefix");
}
