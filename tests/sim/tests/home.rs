//! The whole site: addresses, script, a naive manager in the loop, and a manager that is missing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod common;

use std::time::Duration;

use common::broker::Broker;
use common::{Tcp, get, socket, until};
use ladekern_sim::home::{Home, HomeOptions, Ports, demo_script, house, loopback};
use ladekern_sim::physics::{Action, CarOptions, Script, Settings, Source};
use serde_json::Value;

#[tokio::test]
async fn every_device_answers_where_it_says_and_stop_frees_the_ports() {
    let home = Home::start(HomeOptions::default()).await.unwrap();
    let at = |id| socket(&home.address(id).unwrap());
    assert_eq!(home.addresses().iter().map(|(id, _)| *id).collect::<Vec<_>>(), ["M1", "M2", "E1", "E2"]);
    assert_eq!(Tcp::connect(at("E1")).await.read(1, 3, 8092, 1).await.unwrap(), [1]);
    assert_eq!(get(at("E2"), "/api/status?filter=car").await.1["car"], 1);
    assert!(get(at("M1"), "/cm?cmnd=Status%208").await.1["StatusSNS"]["SML"].is_object());
    assert!(tokio::net::TcpStream::connect(at("M2")).await.is_ok());
    for id in ["E1", "E2", "M1", "M2"] {
        until(id, || home.control().device(id).unwrap().connections() == 1).await;
    }
    let ports = ["M1", "M2", "E1", "E2"].map(at);
    let summary = home.stop().await;
    assert!(summary.ok() && summary.real_s > 0.0);
    for port in ports {
        tokio::net::TcpListener::bind(port).await.expect("free");
    }
}

#[tokio::test]
async fn a_busy_port_is_named_or_avoided() {
    let taken = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
    let ports = Ports { goe: taken.local_addr().unwrap().port(), ..Ports::FREE };
    let error = Home::start(HomeOptions { ports, ..Default::default() }).await.err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("E2") && text.contains(&ports.goe.to_string()), "{text}");
    let home = Home::start(HomeOptions { ports, avoid_busy: true, ..Default::default() }).await.unwrap();
    assert_ne!(socket(&home.address("E2").unwrap()).port(), ports.goe);
}

/// Steps the demo's house by hand with both wallboxes at their least; returns it after `seconds`.
fn demo_after(seconds: f64) -> ladekern_sim::physics::House {
    let script = demo_script(Duration::from_secs(20));
    let mut house = house(&HomeOptions { script, ..Default::default() });
    for index in [0, 1] {
        house.command(index, Settings { limit_a: 6.0, enabled: true, one_phase: false });
    }
    for _ in 0..(seconds / 0.05) as usize {
        house.step(0.05);
    }
    house
}

#[test]
fn the_demo_overloads_the_fuse_even_with_the_least_charging_and_the_breaker_gives_time() {
    for seed in 1..20 {
        let options = HomeOptions { seed, ..Default::default() };
        for index in [0, 1] {
            let reaction = house(&options).evses()[index].car().options.reaction_s;
            assert!((0.3..=2.0).contains(&reaction));
        }
    }
    let calm = demo_after(7.9);
    assert!(calm.amps(Source::Grid).iter().all(|amps| *amps < 35.0) && calm.is_charging());
    let spike = demo_after(9.0);
    assert!(spike.amps(Source::Grid)[0] > 36.0, "{:?}", spike.amps(Source::Grid));
    assert!(spike.amps(Source::Load)[0] < 34.0, "without charging it fits");
    let after = demo_after(20.0);
    assert!(after.breakers().iter().all(|breaker| breaker.tripped_s().is_none()));
    assert!(after.amps(Source::Grid)[0] < 35.0);
}

#[test]
fn the_demo_fits_and_repeats() {
    let short = demo_script(Duration::from_secs(20));
    assert!(short.events().iter().all(|event| event.at_s < 20.0));
    let long = demo_script(Duration::from_secs(60));
    let silences = long.events().iter().filter(|e| matches!(e.action, Action::Silence { .. })).count();
    assert_eq!(silences, 3);
    assert!(long.events().windows(2).all(|pair| pair[0].at_s <= pair[1].at_s));
}

#[tokio::test]
async fn the_script_silences_a_device_and_brings_it_back() {
    let script = Script::new().at(1.0, Action::Silence { id: "M1".into(), for_s: 10.0 }, "silent").at(
        2.0,
        Action::Offline { id: "E2".into(), for_s: 10.0 },
        "offline",
    );
    let home = Home::start(HomeOptions { script, speed: 20.0, ..Default::default() }).await.unwrap();
    let mut events = home.events();
    let (m1, e2) = (home.control().device("M1").unwrap().clone(), home.control().device("E2").unwrap().clone());
    until("both are gone", || !m1.is_online() && e2.is_offline()).await;
    let mut watch = home.watch();
    tokio::time::timeout(common::DEADLINE, watch.wait_for(|site| !site.meter_online)).await.unwrap().unwrap();
    until("both are back", || m1.is_online() && e2.is_online()).await;
    assert_eq!([events.try_recv().unwrap().text, events.try_recv().unwrap().text], ["silent", "offline"]);
}

const CAR: fn() -> CarOptions = || CarOptions { reaction_s: 0.5, up_a_per_s: 50.0, ..Default::default() };

async fn charging(home: &Home) -> Tcp {
    let mut e1 = Tcp::connect(socket(&home.address("E1").unwrap())).await;
    e1.write(1, 8093, 160).await.unwrap();
    e1.write(1, 8094, 1).await.unwrap();
    let mut watch = home.watch();
    let full = watch.wait_for(|site| site.boxes[0].state == 'C' && site.boxes[0].amps[0] > 15.0);
    tokio::time::timeout(common::DEADLINE, full).await.expect("charges").unwrap();
    e1
}

#[tokio::test]
async fn a_naive_manager_in_the_loop_satisfies_the_oracle() {
    let broker = Broker::start().await;
    let options = HomeOptions {
        broker: Some(broker.url()),
        meter_interval: Duration::from_millis(50),
        car1: Some(CAR()),
        ..Default::default()
    };
    let home = Home::start(options).await.unwrap();
    home.meter_connected().await;
    let mut e1 = charging(&home).await;
    home.control().load([25.0, 0.0, 0.0], 60.0);
    let over = || {
        let last = broker.messages("tele/hichi/SENSOR").last().map(|message| message.payload.clone());
        let sml: Value = serde_json::from_str(&last.unwrap_or("{}".into())).unwrap();
        sml["SML"]["current_l1"].as_f64().is_some_and(|amps| amps > 35.2)
    };
    until("overload is measured", over).await;
    e1.write(1, 8094, 0).await.unwrap();
    until("it is over", || home.summary().episodes.last().is_some_and(|e| e.physical_s.is_some())).await;
    let summary = home.stop().await;
    assert_eq!(summary.episodes.len(), 1, "{summary}");
    assert!(summary.ok() && summary.worst_reaction_ms < 1000, "{summary}");
    assert!(summary.overload_s[0] > 0.3 && summary.overload_s[1] == 0.0, "{summary}");
    assert!((9.0..13.0).contains(&summary.worst_overload_a[0]), "{summary}");
    assert!(summary.energy_wh[0].0 == "E1" && summary.energy_wh[0].1 > 1.0, "{summary}");
}

#[tokio::test]
async fn without_a_manager_the_oracle_objects() {
    let broker = Broker::start().await;
    let options = HomeOptions {
        broker: Some(broker.url()),
        meter_interval: Duration::from_millis(50),
        car1: Some(CAR()),
        speed: 10.0,
        ..Default::default()
    };
    let home = Home::start(options).await.unwrap();
    let _e1 = charging(&home).await;
    home.control().load([60.0, 0.0, 0.0], 600.0);
    until("the reaction is too slow", || home.summary().worst_reaction_ms > 1000).await;
    assert!(!home.summary().ok());
    until("the breaker trips", || home.summary().tripped()).await;
    let summary = home.stop().await;
    assert!(!summary.ok() && summary.tripped_s[0].is_some() && summary.tripped_s[1].is_none());
    assert!(summary.to_string().contains("TRIPPED on L1"), "{summary}");
}
