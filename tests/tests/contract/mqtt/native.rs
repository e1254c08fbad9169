//! Rule B16: our own topics, as `docs/mqtt-native.md` says.

use serde_json::{Value, json};

use super::{Ear, Host, M3, WALLBOXES};

const NATIVE: &str = "publish = \"mqtt\"\nnative = \"mqtt\"\npublish_interval_ms = 200\n";

fn root(host: &Host) -> String {
    format!("ladekern/{}", host.site.app.view().serial)
}

async fn status_and_devices_are_published(host: Host) {
    let root = root(&host);
    let status = host.ear.json(&format!("{root}/status"), |status| status["brokers"][0]["connected"] == true).await;
    assert_eq!((&status["online"], &status["mode"]), (&json!(true), &json!("manage")));
    assert!(status["time"].as_str().unwrap().ends_with('Z'), "{status}");

    host.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": -500.5, \"current\": [1000, null, 3000]}").await;
    let topic = format!("{root}/device/M3");
    let meter = host.ear.json(&topic, |meter| meter["values"]["power.total"]["value"] == -500.5).await;
    let power = &meter["values"]["power.total"];
    assert_eq!((&power["unit"], &meter["health"], &meter["silent"]), (&json!("W"), &json!("running"), &json!(false)));
    assert_eq!(meter["values"]["current.l3"]["unit"], "mA");
    assert!(meter["values"].get("current.l2").is_none() && meter["values"].get("energy.import").is_none(), "{meter}");
    assert_eq!((&meter["setpoint"], &meter["reason"], &meter["role"]), (&Value::Null, &Value::Null, &json!("display")));
    // The value stays and its age grows.
    host.ear.json(&topic, |meter| meter["values"]["power.total"]["age_ms"].as_u64() > Some(300)).await;

    let wallbox = host.ear.json(&format!("{root}/device/E1"), |e| e["reason"].is_string()).await;
    assert_eq!(
        (&wallbox["kind"], &wallbox["silent"], &wallbox["connector"]),
        (&json!("wallbox"), &json!(true), &Value::Null)
    );
    assert_eq!(wallbox["setpoint"]["ma"], 0);
}

#[tokio::test]
async fn b16_status_and_devices_are_published_at_mosquitto() {
    status_and_devices_are_published(Host::at_mosquitto(NATIVE, &format!("{M3}{WALLBOXES}")).await).await;
}

#[tokio::test]
async fn b16_status_and_devices_are_published_at_the_embedded_broker() {
    status_and_devices_are_published(Host::at_embedded(NATIVE, &format!("{M3}{WALLBOXES}")).await).await;
}

#[tokio::test]
async fn b16_no_password_is_published() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = Ear::connect(broker.port()).await;
    let url = format!("mqtt://user:geheim-4711@127.0.0.1:{}", broker.port());
    let site = ladekern_tests::site::Site::start(&format!("[mqtt]\nbroker = \"{url}\"\n{NATIVE}\n{M3}")).await;
    let topic = format!("ladekern/{}/status", site.app.view().serial);
    let status = ear.json(&topic, |status| status["brokers"][0]["url"].is_string()).await;
    assert!(status["brokers"][0]["url"].as_str().unwrap().contains("user:***@"), "{status}");
    assert!(!ear.everything().iter().any(|heard| String::from_utf8_lossy(&heard.payload).contains("geheim-4711")));
    site.stop().await;
}

#[tokio::test]
async fn b16_both_trees_have_a_last_will() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = Ear::connect(broker.port()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, format!("[mqtt]\nbroker = \"{}\"\n{NATIVE}\n{M3}", broker.url())).unwrap();
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let args = ["run", "--config", &config, "--state", &state, "--set", "http.listen=127.0.0.1:0"];
    let daemon = ladekern_tests::daemon::Daemon::start(args);
    let status = |online: bool| {
        move |heard: &super::ear::Heard| {
            let json: Value = serde_json::from_slice(&heard.payload).unwrap_or_default();
            heard.topic.starts_with("ladekern/") && heard.topic.ends_with("/status") && json["online"] == online
        }
    };
    ear.hear("status", status(true)).await;
    ear.json("cfos_mqtt/get/online", |online| *online == true).await;
    // Killed, not stopped.
    drop(daemon);
    ear.hear("the last will", status(false)).await;
    ear.json("cfos_mqtt/get/online", |online| *online == false).await;
}

#[tokio::test]
async fn b16_what_is_gone_is_taken_back() {
    let host = Host::at_mosquitto(NATIVE, &format!("{M3}{WALLBOXES}")).await;
    let root = root(&host);
    let topics = [format!("{root}/device/M3"), "cfos_mqtt/get/M3".to_owned()];
    for topic in &topics {
        host.ear.json(topic, |_| true).await;
    }
    let text = std::fs::read_to_string(host.site.file()).unwrap();
    std::fs::write(host.site.file(), text.replace(M3, "")).unwrap();
    for topic in &topics {
        host.ear.hear(topic, |heard| heard.topic == *topic && heard.payload.is_empty()).await;
    }
    host.site.stop().await;
    host.ear.json(&format!("{root}/status"), |status| *status == json!({"online": false})).await;
}
