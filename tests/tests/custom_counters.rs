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

use ladekern_tests::daemon::Daemon;
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
