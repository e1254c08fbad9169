//! The demo and the example of a home as a newcomer starts them, with a plugin replaced while cars charge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::Path;
use std::time::Duration;

use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::mqtt::Probe;
use ladekern_tests::until;
use ladekern_tests::{dist, http};
use serde_json::json;

/// One after the other: the demo is judged by how fast it reacts, and the others compile plugins meanwhile.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A copy of the built plugins that a test may change.
fn plugins() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dist().join("plugins")).unwrap() {
        let from = entry.unwrap().path();
        let to = copy.path().join(from.file_name().unwrap());
        std::fs::create_dir(&to).unwrap();
        for file in ["driver.toml", "driver.wasm"] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
    copy
}

/// The same component with a custom section behind it: other bytes, so another version of the file.
fn replace(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    // Section id 0, five bytes: a name of length 4.
    bytes.extend_from_slice(&[0, 5, 4, b't', b'e', b's', b't']);
    let beside = file.with_extension("new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn the_demo_survives_a_spike_a_lost_meter_and_a_new_plugin_without_a_missed_poll() {
    let _alone = ALONE.lock().await;
    let plugins = plugins();
    let daemon = Daemon::start(["demo", "--plain", "--duration", "20s", "--plugins", plugins.path().to_str().unwrap()]);
    daemon.line_with("a car plugs in at E2").await;
    let driver = plugins.path().join("cfos-power-brain").join("driver.wasm");
    replace(&driver);
    daemon.line_with("load spike").await;
    // A file that is cut off while it is copied changes nothing but the log.
    let whole = std::fs::read(&driver).unwrap();
    std::fs::write(&driver, &whole[..whole.len() / 2]).unwrap();
    daemon.line_with("plugin cannot be used").await;
    let (code, output) = daemon.ended(Duration::from_secs(60)).await;
    assert_eq!(code, Some(0), "{output}");
    for words in ["overload", "the grid meter M1 falls silent", "main breaker   held", "worst"] {
        assert!(output.contains(words), "\"{words}\" is missing in:\n{output}");
    }
    assert!(output.contains("plugin replaced"), "no swap:\n{output}");
    let e1 = output.lines().find(|line| line.contains("E1") && line.contains("exchanges")).unwrap();
    assert!(e1.contains(" 0 failed, 1 connections"), "a poll was missed or the line opened again: {e1}\n{output}");
}

#[tokio::test]
async fn the_example_of_a_home_runs_against_the_simulated_devices() {
    let _alone = ALONE.lock().await;
    let broker = Mosquitto::start();
    let sim = Daemon::start(["sim", "home", "--avoid-busy", "--broker", &broker.url()]);
    let mut set = vec![format!("mqtt.broker={}", broker.url()), "http.listen=127.0.0.1:0".to_owned()];
    for (device, scheme) in [("M2", "rtutcp://"), ("E1", "tcp://"), ("E2", "http://")] {
        let line = sim.line_with(&format!("{device}  {scheme}")).await;
        set.push(format!("device.{device}.endpoint.main.url={}", line.split_whitespace().nth(1).unwrap()));
    }
    let state = tempfile::tempdir().unwrap();
    let mut args = vec!["run", "--config", "examples/home/ladekern.toml", "--state", state.path().to_str().unwrap()];
    args.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
    let daemon = Daemon::start(&args);
    let address = daemon.http_address().await;
    let probe = Probe::connect(broker.port(), "cfos_mqtt/get/#").await;
    for device in ["M1", "M2", "E1", "E2"] {
        probe.wait(&format!("cfos_mqtt/get/{device}"), |device| device["com_err"] == json!(false)).await;
    }
    let charging = probe.wait("cfos_mqtt/get/E1", |e1| e1["state"] == json!(3)).await;
    assert_eq!(charging["is_evse"], json!(true), "{charging}");
    let info = http::get(address, "/cnf?cmd=get_dev_info").await.unwrap().json();
    assert_eq!(info["devices"].as_array().unwrap().len(), 4);
    assert_eq!(info["params"]["max_total_current"], json!(35000));
    let (code, output) = daemon.stop().await;
    assert_eq!(code, Some(0), "{output}");
    sim.stop().await;
}

#[tokio::test]
async fn the_counters_that_no_driver_knows_can_be_reached() {
    let _alone = ALONE.lock().await;
    let broker = Mosquitto::start();
    let sim = Daemon::start(["sim", "counters", "--avoid-busy", "--broker", &broker.url()]);
    let inverter = sim.line_with("inverter  http://").await;
    let address = inverter.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().parse().unwrap();
    let status = http::get(address, "/status").await.unwrap().json();
    assert_eq!(status["device"]["model"], json!("SUN-3K"));
    let probe = Probe::connect(broker.port(), "counters/#").await;
    probe.wait("counters/battery", |battery| battery["soc"].as_f64().is_some()).await;
    probe.wait("counters/battery/temperature", |degrees| degrees.as_f64().is_some()).await;
    sim.stop().await;
    let wrong = Daemon::start(["sim", "home", "--http-port", "8020"]);
    let (code, output) = wrong.ended(Duration::from_secs(60)).await;
    assert!(code != Some(0) && output.contains("belong to `ladekern sim counters`"), "{output}");
}

#[tokio::test]
async fn what_is_not_there_or_no_plugin_keeps_nothing_else_from_running() {
    let _alone = ALONE.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ladekern.toml");
    let nobody = ladekern_tests::free_port();
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\
         [[device]]\nid = \"M1\"\ntype = \"http-input\"\n\
         [[device]]\nid = \"E1\"\ntype = \"cfos-power-brain\"\nendpoint.main = {{ url = \"tcp://127.0.0.1:{nobody}\" }}\n\
         [[device]]\nid = \"E2\"\ntype = \"go-e\"\n\
         [[device]]\nid = \"M2\"\ntype = \"no-component\"\naddress = \"tcp://127.0.0.1:{nobody}\"\n\
         [[device]]\nid = \"M3\"\ntype = \"nowhere\"\naddress = \"tcp://127.0.0.1:{nobody}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let plugin = folder.path().join("plugins/no-component");
    std::fs::create_dir_all(&plugin).unwrap();
    std::fs::copy(dist().join("plugins/eastron-sdm/driver.toml"), plugin.join("driver.toml")).unwrap();
    std::fs::write(plugin.join("driver.wasm"), b"not a component").unwrap();

    let daemon = Daemon::start(["run", "--config", config.to_str().unwrap()]);
    let address = daemon.http_address().await;
    let fed = http::post(address, "/cnf?cmd=set_ajax_meter&dev_id=M1", "{\"power_w\":-500}").await.unwrap();
    assert_eq!((fed.status, fed.body.as_str()), (200, "\"ok\""));
    // Each says what is wrong with it, by its own name.
    let said = async |id: &str, words: &str| {
        let look = async || {
            let info = http::get(address, "/cnf?cmd=get_dev_info").await.unwrap().json();
            let devices = info["devices"].as_array().unwrap();
            let device = devices.iter().find(|device| device["dev_id"] == json!(id)).unwrap();
            let error = format!("{} {}", device["status"], device["last_error"]);
            (device["com_err"] == json!(true), error, daemon.output())
        };
        until(id, look, |(com_err, error, _)| *com_err && error.contains(words)).await;
    };
    said("E1", "Connection refused").await;
    said("E2", "main").await;
    said("M2", "component").await;
    said("M3", "nowhere").await;
    let info = http::get(address, "/cnf?cmd=get_dev_info").await.unwrap().json();
    assert_eq!(info["devices"][0]["power_w"], json!(-500), "{info}");
    let check = Daemon::start(["check", "--config", config.to_str().unwrap()]);
    let (code, output) = check.ended(Duration::from_secs(60)).await;
    assert_eq!(code, Some(64), "{output}");
    for words in ["no-component", "nowhere", "device.E2.endpoint.main"] {
        assert!(output.contains(words), "{words} is missing in:\n{output}");
    }
}
