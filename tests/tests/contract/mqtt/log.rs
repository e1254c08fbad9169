//! Contract A7 and rule B14: the system's log on `log`. The daemon runs as a process, because a log belongs to one.

use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use serde_json::Value;

use super::{Ear, M3};

const PASSWORD: &str = "geheim-4711";
const CARD: &str = "98765432";

struct Run {
    daemon: Daemon,
    ear: Ear,
    broker: Mosquitto,
    _folder: tempfile::TempDir,
}

/// A daemon whose broker URL has a password, which Mosquitto here does not ask for.
async fn run(filter: &str, mqtt: &str, rest: &str) -> Run {
    let broker = Mosquitto::start();
    let ear = Ear::connect(broker.port()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ladekern.toml");
    let url = format!("mqtt://user:{PASSWORD}@127.0.0.1:{}", broker.port());
    let text = format!(
        "[mqtt]\nbroker = \"{url}\"\npublish = \"mqtt\"\npublish_interval_ms = 200\nlog = \"mqtt\"\n{mqtt}\n{rest}"
    );
    std::fs::write(&file, text).unwrap();
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let args = ["--log", filter, "run", "--config", &config, "--state", &state, "--set", "http.listen=127.0.0.1:0"];
    let daemon = Daemon::start(args);
    ear.json("cfos_mqtt/get/dev_info", |_| true).await;
    Run { daemon, ear, broker, _folder: folder }
}

fn message(entry: &Value) -> &str {
    entry["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a7_every_entry_goes_to_log() {
    let run = run("warn,ladekern=info", "", M3).await;
    run.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": \"lots\"}").await;
    let entry = run.ear.json("cfos_mqtt/log", |entry| message(entry).contains("not taken")).await;
    assert_eq!((&entry["level"], &entry["device"]), (&"warn".into(), &"M3".into()));
    assert_eq!(entry["target"], "ladekern::contract::mqtt::feeding");
    let keys: Vec<&String> = entry.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    // RFC 3339 in UTC with milliseconds.
    let time = entry["time"].as_str().unwrap();
    assert!(time.len() == "2026-01-31T12:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    // The same line stands on standard error.
    run.daemon.line_with("not taken").await;
    // What is written while the program ends is published too.
    run.daemon.stop().await;
    assert!(!run.ear.everything().iter().any(|heard| heard.topic == "cfos_mqtt/log" && heard.retained));
}

#[tokio::test]
async fn b14_secrets_are_in_no_log() {
    let text = format!("{M3}[[device]]\nid = \"E1\"\ntype = \"http-input\"\naddress = \"mqtt\"\n");
    let run = run("info,ladekern=trace", "api = \"mqtt\"\n", &text).await;
    let calls = [
        (format!("cmd=enter_rfid&rfid={CARD}&dev_id=E1"), String::new()),
        (format!("cmd=enter_rfid&rfid={CARD}&dev_id=E9"), String::new()),
        ("cmd=set_ajax_meter&dev_id=M3".into(), "{\"power_w\": \"x\"}".into()),
        ("cmd=set_ajax_evse&dev_id=E1".into(), format!("{{\"state\": 2, \"rfid\": \"{CARD}\"}}")),
        (format!("cmd=change_admin_pwd&old_pwd={PASSWORD}&new_pwd={PASSWORD}"), String::new()),
    ];
    for (query, body) in &calls {
        run.ear.call("cfos_mqtt", query, body).await;
    }
    // Topics hold arguments: a message that is too large is named with its topic.
    run.ear.publish(&format!("cfos_mqtt/api/cmd=enter_rfid&rfid={CARD}"), &"x".repeat(1_500_000)).await;
    // What concerns the log's own connection stands on standard error only.
    assert!(run.daemon.line_with("too large").await.contains("rfid=***"));
    // A broker that is not there is spoken of with its URL.
    let file = run._folder.path().join("ladekern.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let gone = ladekern_tests::free_port();
    let other = format!("address = \"mqtt://other:{PASSWORD}@127.0.0.1:{gone}\"");
    std::fs::write(&file, text.replacen("address = \"mqtt\"", &other, 1)).unwrap();
    run.ear.json("cfos_mqtt/log", |entry| message(entry).contains(&format!("other:***@127.0.0.1:{gone}"))).await;
    let log = run.ear.all("cfos_mqtt/log").join("\n");
    let (_, output) = run.daemon.stop().await;
    assert!(output.contains("***"), "{output}");
    for secret in [PASSWORD, CARD] {
        assert!(!log.contains(secret), "the topic says {secret}:\n{log}");
        assert!(!output.contains(secret), "standard error says {secret}:\n{output}");
    }
}

#[tokio::test]
async fn b14_the_publisher_does_not_feed_itself() {
    // At this level the client library speaks of each packet, and each would be one more entry.
    let run = run("trace", "", M3).await;
    run.ear.publish("cfos_mqtt/set/M3", "{\"power_w\": \"lots\"}").await;
    run.ear.json("cfos_mqtt/log", |entry| message(entry).contains("not taken")).await;
    // One more entry that always comes: whatever the first ones brought about has come before it.
    let file = run._folder.path().join("ladekern.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}[variables]\nbarrier = 1\n")).unwrap();
    run.ear.json("cfos_mqtt/log", |entry| message(entry).contains("the changed configuration is in force")).await;
    let entries = run.ear.all("cfos_mqtt/log");
    let entries: Vec<Value> = entries.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let targets: Vec<&str> = entries.iter().map(|entry| entry["target"].as_str().unwrap()).collect();
    // The supplied definitions are counted at the start.
    let ours = ["ladekern::web::tls", "ladekern::app", "ladekern::contract::mqtt::feeding", "ladekern::app::writer"];
    assert_eq!(targets, ours, "{entries:#?}");
}

#[tokio::test]
async fn b14_a_flood_is_cut_and_counted() {
    // Each refused write of a configuration is some entries; a thousand lines come at once.
    let run = run("warn,ladekern=info", "", M3).await;
    let file = run._folder.path().join("ladekern.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let wrong: String = (0..500).map(|n| format!("unknown{n} = 1\n")).collect();
    std::fs::write(&file, format!("{wrong}{text}")).unwrap();
    let entry = run.ear.json("cfos_mqtt/log", |entry| message(entry).contains("came too fast")).await;
    let count: u64 = message(&entry).split(' ').next().unwrap().parse().unwrap();
    assert!((250..=500).contains(&count), "{entry}");
}

#[tokio::test]
async fn a7_entries_written_while_the_broker_is_away_come_later() {
    let run = run("warn,ladekern=info", "", M3).await;
    let Run { daemon, ear, broker, _folder } = run;
    let port = broker.port();
    drop((broker, ear));
    let file = _folder.path().join("ladekern.toml");
    std::fs::write(&file, "nonsense = 1\n").unwrap();
    daemon.line_with("was not taken over").await;
    let _broker = Mosquitto::start_on(port);
    let ear = Ear::connect(port).await;
    ear.json("cfos_mqtt/log", |entry| message(entry).contains("was not taken over")).await;
}
