//! `examples/custom-counters` as its README starts it: three devices that only definitions know, on all three
//! transports, and what becomes of them when somebody edits a definition meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use ladekern_sim::counters::{Counters, CountersOptions};
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::{free_port, http, root, until};
use serde_json::{Value, json};

const EXAMPLE: &str = "examples/custom-counters";

/// A copy of the example that may be edited.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let example = root().join(EXAMPLE);
    std::fs::copy(example.join("ladekern.toml"), copy.path().join("ladekern.toml")).unwrap();
    let definitions = copy.path().join("definitions");
    std::fs::create_dir(&definitions).unwrap();
    for entry in std::fs::read_dir(example.join("definitions")).unwrap() {
        let file = entry.unwrap();
        std::fs::copy(file.path(), definitions.join(file.file_name())).unwrap();
    }
    copy
}

/// Writes the file anew with `new` in the place of `old`, which must be there.
fn edit(file: &Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert_eq!(text.matches(old).count(), 1, "{old} in {}", file.display());
    std::fs::write(file, text.replace(old, new)).unwrap();
}

async fn device(address: SocketAddr, id: &str) -> Value {
    let info = http::get(address, "/cnf?cmd=get_dev_info").await.unwrap().json();
    let devices = info["devices"].as_array().cloned().unwrap_or_default();
    devices.into_iter().find(|device| device["dev_id"] == json!(id)).unwrap_or_default()
}

/// The device when it is as wanted.
async fn wait(address: SocketAddr, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(id, async || device(address, id).await, wanted).await
}

fn between(value: &Value, least: f64, most: f64) -> bool {
    value.as_f64().is_some_and(|value| (least..=most).contains(&value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_reads_all_three_devices_and_follows_its_definitions() {
    let folder = copy();
    let broker = free_port();
    let sim = Daemon::start(["sim", "counters", "--avoid-busy", "--broker", &format!("mqtt://127.0.0.1:{broker}")]);
    let config = folder.path().join("ladekern.toml");
    let mut set = vec![format!("mqtt.embedded_listen=127.0.0.1:{broker}"), "http.listen=127.0.0.1:0".to_owned()];
    for (device, name, scheme) in [("M1", "meter", "tcp://"), ("M2", "inverter", "http://")] {
        let line = sim.line_with(&format!("  {name}")).await;
        let url = line.split_whitespace().find(|word| word.starts_with(scheme)).unwrap();
        set.push(format!("device.{device}.address={}", url.trim_end_matches("/status")));
    }
    let mut args = vec!["run", "--config", config.to_str().unwrap()];
    args.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
    let daemon = Daemon::start(&args);
    let address = daemon.http_address().await;

    // The bounds are those of the simulation (`ladekern_sim::counters`).
    let meter = wait(address, "M1", |m1| between(&m1["power_w"], 1200.0, 3000.0) && m1["com_err"] == false).await;
    assert!(between(&meter["voltage_l1"], 228.9, 232.1), "{meter}");
    assert!(between(&meter["current_l3"], 1_700.0, 4_400.0), "mA: {meter}");
    assert!(between(&meter["import"], 1_234_550.0, 1_234_900.0), "Wh: {meter}");
    assert_eq!(meter["model"], json!("Example,HP-METER 3000,2.7,,20260117"));
    assert!(between(&meter["user_info"]["Sag"], -2.1, 2.1), "{meter}");
    let inverter = wait(address, "M2", |m2| between(&m2["power_w"], 1900.0, 3500.0) && m2["com_err"] == false).await;
    assert!(between(&inverter["user_info"]["RoofShare"], 50.0, 80.0), "{inverter}");
    assert_eq!(inverter["model"], json!("Example,SUN-3K,,,S3K-0042"));
    let told = |m3: &Value| between(&m3["soc"], 39.0, 81.0) && between(&m3["user_info"]["Temperature"], 21.0, 27.0);
    let battery = wait(address, "M3", |m3| told(m3) && m3["com_err"] == false).await;
    assert!(between(&battery["user_info"]["Stored"], 3_900.0, 8_400.0), "{battery}");

    // The counter's unit is another one, as the README suggests.
    let definition = folder.path().join("definitions/hp-meter.json");
    let edited = Instant::now();
    edit(&definition, r#"order: "lh", resolution: 10 "#, r#"order: "lh", resolution: 1 "#);
    wait(address, "M1", |m1| between(&m1["import"], 123_455.0, 123_490.0)).await;
    eprintln!("the changed definition was seen after {:?}", edited.elapsed());

    // A typing error: the place and what would be right are told, and the meter is read as before.
    edit(&definition, r#"power_w: { address: 18, type: "float" }"#, r#"power_w: { address: 18, type: "flaot" }"#);
    let line = daemon.line_with("hp-meter.json:").await;
    assert!(line.contains("power_w.type") && line.contains("float"), "{line}");
    let before = device(address, "M1").await["power_w"].clone();
    let on = wait(address, "M1", |m1| m1["power_w"] != before).await;
    assert!(between(&on["power_w"], 1200.0, 3000.0) && on["com_err"] == false, "{on}");
    assert!(between(&on["import"], 123_455.0, 123_490.0), "{on}");

    let (code, output) = daemon.stop().await;
    assert_eq!(code, Some(0), "{output}");
    sim.stop().await;
}

/// One reading with `ladekern definition try … --json`: the exit code and what is said of each variable.
async fn tried(definition: &Path, address: &str, more: &[&str]) -> (Option<i32>, Value) {
    // What the program logs would stand in the midst of it.
    let args = ["--log", "off", "definition", "try", definition.to_str().unwrap(), "--json", "--address", address];
    let (code, output) = Daemon::start(args.iter().chain(more)).ended(Duration::from_secs(60)).await;
    (code, serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error} in:\n{output}")))
}

fn variable(tried: &Value, name: &str) -> Value {
    let all = tried["variables"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|variable| variable["name"] == json!(name)).unwrap_or_else(|| panic!("{name}: {tried:#}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_can_be_tried_at_a_real_device() {
    let broker = Mosquitto::start();
    let options = CountersOptions {
        modbus: ([127, 0, 0, 1], 0).into(),
        http: ([127, 0, 0, 1], 0).into(),
        broker: Some(broker.url()),
        interval: Duration::from_millis(200),
    };
    let counters = Counters::start(options).await.unwrap();
    let folder = copy();
    let file = |name: &str| folder.path().join("definitions").join(name);

    let (code, meter) = tried(&file("hp-meter.json"), &counters.modbus_url(), &["--unit", "1"]).await;
    assert_eq!((code, &meter["ok"]), (Some(0), &json!(true)), "{meter:#}");
    // 1234560 Wh are 123456 = 0x1e240, the low word first.
    let import = variable(&meter, "import_wh");
    let counted = import["raw"].as_str().unwrap();
    assert!(counted.starts_with("e2") && counted.ends_with(" 0001"), "{import}");
    assert!(between(&import["value"], 1_234_550.0, 1_234_900.0) && import["unit"] == "Wh", "{import}");
    let serial = variable(&meter, "serial");
    assert_eq!((&serial["raw"], &serial["value"]), (&json!("0135 2515"), &json!("20260117")), "{serial}");
    assert_eq!(variable(&meter, "version")["value"], "2.7");
    assert!(between(&variable(&meter, "*Sag")["value"], -2.1, 2.1));

    // Without its power: it is derived, and says so. What is refused says so, too, and costs only itself.
    let definition = file("hp-meter.json");
    edit(&definition, "power_w: { address: 18", "refused: { address: 999");
    let (code, meter) = tried(&definition, &counters.modbus_url(), &[]).await;
    assert_eq!(code, Some(0));
    let power = variable(&meter, "power_w");
    assert!(between(&power["value"], 1200.0, 3000.0) && power["derived"] == true && power["raw"].is_null(), "{power}");
    let refused = variable(&meter, "refused");
    assert!(refused["value"].is_null() && refused["error"].as_str().unwrap().contains("exception 2"), "{refused}");
    let args = ["definition", "try", definition.to_str().unwrap(), "--address", &counters.modbus_url()];
    let (_, output) = Daemon::start(args).ended(Duration::from_secs(60)).await;
    assert!(output.contains("derived from currents and voltages") && output.contains("0135 2515"), "{output}");

    let inverter = file("sun-3k.json");
    edit(&inverter, "ac.voltage[2]", "ac.voltage[3]");
    let (code, inverter) = tried(&inverter, &counters.http_url(), &[]).await;
    assert_eq!(code, Some(0));
    let power = variable(&inverter, "power_w");
    let raw: f64 = power["raw"].as_str().unwrap().parse().unwrap();
    assert_eq!((power["value"].as_f64().unwrap(), &power["unit"]), (-raw, &json!("W")));
    let missing = variable(&inverter, "voltage_l3");
    assert!(missing["error"].as_str().unwrap().contains("ac.voltage[3]"), "{missing}");

    let battery = file("cellar-battery.json");
    let (code, read) = tried(&battery, &broker.url(), &[]).await;
    assert_eq!(code, Some(0), "{read:#}");
    let degrees = variable(&read, "*Temperature");
    let raw: f64 = degrees["raw"].as_str().unwrap().parse().unwrap();
    assert_eq!(degrees["value"].as_f64(), Some(raw));
    let (code, silent) = tried(&battery, &broker.url(), &["--topic-prefix", "elsewhere", "--seconds", "1"]).await;
    assert_eq!((code, &silent["ok"]), (Some(1), &json!(false)), "{silent:#}");
    let soc = variable(&silent, "soc");
    assert!(soc["error"].as_str().unwrap().contains("no message on the topic counters/battery within 1 s"), "{soc}");

    // Nobody there, and options of another transport.
    let nobody = format!("tcp://127.0.0.1:{}", free_port());
    let (code, nothing) = tried(&file("hp-meter.json"), &nobody, &[]).await;
    assert_eq!((code, &nothing["ok"]), (Some(1), &json!(false)), "{nothing:#}");
    assert!(nothing["error"].as_str().unwrap().contains("not reachable"), "{nothing:#}");
    let args = ["definition", "try", battery.to_str().unwrap(), "--unit", "3", "--address", &broker.url()];
    let (code, output) = Daemon::start(args).ended(Duration::from_secs(60)).await;
    assert!(code == Some(1) && output.contains("--unit belongs to Modbus"), "{output}");
    counters.stop().await;
}

#[tokio::test]
async fn the_example_passes_the_check() {
    let config = format!("{EXAMPLE}/ladekern.toml");
    let (code, output) = Daemon::start(["check", "--config", &config]).ended(Duration::from_secs(60)).await;
    assert_eq!(code, Some(0), "{output}");
    let definitions = ["hp-meter", "sun-3k", "cellar-battery"].map(|name| format!("{EXAMPLE}/definitions/{name}.json"));
    let check = ["definition", "check"].into_iter().chain(definitions.iter().map(String::as_str));
    let (code, output) = Daemon::start(check).ended(Duration::from_secs(60)).await;
    assert_eq!(code, Some(0), "{output}");
}
