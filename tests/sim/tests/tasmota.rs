//! The Tasmota reader in front of a broker written by hand, and its web server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::broker::Broker;
use common::{get, socket, until};
use ladekern_sim::World;
use ladekern_sim::physics::{House, HouseOptions, Script, Trace};
use ladekern_sim::tasmota::{Style, Tasmota, TasmotaOptions, sensor};
use serde_json::{Value, json};

fn world(base: [f64; 3]) -> Arc<World> {
    let options = HouseOptions {
        base: base.map(|amps| Trace::constant(amps, 0.0)),
        pv: [Trace::constant(0.0, 0.0), Trace::constant(10.0, 0.0), Trace::constant(0.0, 0.0)],
        ..Default::default()
    };
    World::new(House::new(options, vec![], Script::new()))
}

fn quick(broker: &Broker) -> TasmotaOptions {
    TasmotaOptions { broker: Some(broker.url()), interval: Duration::from_millis(20), ..Default::default() }
}

#[tokio::test]
async fn publishes_what_the_house_draws() {
    let broker = Broker::start().await;
    let reader = Tasmota::start(world([6.0, 4.0, 2.0]), quick(&broker)).await.unwrap();
    reader.connected().await;
    until("sensor", || broker.messages("tele/hichi/SENSOR").len() >= 2).await;
    let lwt = broker.messages("tele/hichi/LWT");
    assert_eq!((lwt.len(), lwt[0].payload.as_str(), lwt[0].retain), (1, "Online", true));
    let state: Value = serde_json::from_str(&broker.messages("tele/hichi/STATE")[0].payload).unwrap();
    assert!(state["Uptime"].as_str().unwrap().starts_with("0T00:00:"));
    let message = broker.messages("tele/hichi/SENSOR")[0].clone();
    assert!(!message.retain);
    let sml = serde_json::from_str::<Value>(&message.payload).unwrap()["SML"].clone();
    assert_eq!((&sml["current_l1"], &sml["current_l2"], &sml["current_l3"]), (&json!(6.0), &json!(6.0), &json!(2.0)));
    assert!(sml["power_l2"].as_f64().unwrap() < -1300.0, "the sign is in the power");
    let sum: f64 = ["power_l1", "power_l2", "power_l3"].iter().map(|key| sml[key].as_f64().unwrap()).sum();
    assert!((sml["power_curr"].as_f64().unwrap() - sum).abs() < 0.2);
    assert_eq!((&sml["total_in"], &sml["total_out"]), (&json!(12345.67), &json!(4321.0)));
    assert!(reader.control().requests() >= 2 && reader.control().connections() == 1);
}

#[tokio::test]
async fn falls_silent_loses_the_broker_and_comes_back() {
    let broker = Broker::start().await;
    let reader = Tasmota::start(world([1.0; 3]), quick(&broker)).await.unwrap();
    let sensors = || broker.messages("tele/hichi/SENSOR").len();
    until("sensor", || sensors() >= 2).await;
    // Another one at the same interval tells how much time has passed.
    let clock = TasmotaOptions { topic: "clock".into(), ..quick(&broker) };
    let _clock = Tasmota::start(world([1.0; 3]), clock).await.unwrap();
    let ticks = || broker.messages("tele/clock/SENSOR").len();
    reader.control().pause();
    // What was on its way arrives; then nothing for many intervals.
    let paused = ticks();
    until("what was on its way", || ticks() >= paused + 5).await;
    let before = sensors();
    until("ten intervals", || ticks() >= paused + 15).await;
    assert_eq!(sensors(), before);
    assert_eq!(broker.messages("tele/hichi/LWT").len(), 1, "still connected");
    reader.control().resume();
    until("sensor after the pause", || sensors() > before).await;
    reader.control().offline();
    until("last will", || broker.messages("tele/hichi/LWT").len() == 2).await;
    let will = broker.messages("tele/hichi/LWT")[1].clone();
    assert_eq!((will.payload.as_str(), will.retain), ("Offline", true));
    let before = sensors();
    reader.control().resume();
    until("sensor after the loss", || sensors() > before).await;
    assert_eq!(reader.control().connections(), 2);
    reader.stop().await;
    until("last will at the end", || broker.messages("tele/hichi/LWT").len() == 4).await;
}

#[tokio::test]
async fn a_message_counts_as_measured() {
    let broker = Broker::start().await;
    let world = world([40.0, 0.0, 0.0]);
    let _reader = Tasmota::start(world.clone(), quick(&broker)).await.unwrap();
    until("episode", || !world.with(|house| house.audit().episodes()).is_empty()).await;
    assert_eq!(world.with(|house| house.audit().episodes()[0].peak_a), 40.0);
}

#[tokio::test]
async fn web_server_and_styles() {
    let world = world([6.0, 4.0, 2.0]);
    let reader = Tasmota::start(world.clone(), TasmotaOptions::default()).await.unwrap();
    let address = socket(&reader.url().unwrap());
    let (status, answer) = get(address, "/cm?cmnd=Status%208").await;
    assert_eq!((status, &answer["StatusSNS"]["SML"]["current_l1"]), (200, &json!(6.0)));
    assert_eq!(get(address, "/cm?cmnd=Power").await.1, json!({"POWER": "ON"}));
    assert_eq!(get(address, "/nosuch").await.0, 404);
    let styled = |style| world.with(|house| sensor(house, &TasmotaOptions { style, ..Default::default() }));
    let strings = styled(Style::Mt681Strings)["MT681"].clone();
    assert_eq!(strings["Total_in"], "12345.6700");
    assert!(strings["Watt_L2"].as_str().unwrap().starts_with('-'));
    let arrays = styled(Style::Energy)["ENERGY"].clone();
    assert!(arrays["Power"].as_array().unwrap().len() == 3 && arrays["Voltage"].is_number());
}

#[tokio::test]
async fn a_broker_that_is_not_there_or_misspelt() {
    let options = |url: &str| TasmotaOptions { broker: Some(url.into()), ..Default::default() };
    for url in ["http://127.0.0.1:1883", "mqtt://:1883", "mqtt://host:port"] {
        let error = Tasmota::start(world([0.0; 3]), options(url)).await.err().expect(url);
        assert!(format!("{error:#}").contains("mqtt://[user:password@]host:port"), "{error:#}");
    }
    let reader = Tasmota::start(world([0.0; 3]), options("mqtt://127.0.0.1:1")).await.unwrap();
    assert_eq!(get(socket(&reader.url().unwrap()), "/cm?cmnd=Status%208").await.0, 200);
}
