//! The go-e against its fact sheet, asked with requests written by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod common;

use std::sync::Arc;

use common::{DEADLINE, get};
use ladekern_sim::goe::{GoE, GoEOptions, evse_options};
use ladekern_sim::physics::{Car, CarOptions, Evse, House, HouseOptions, Script};
use ladekern_sim::{Fault, World};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn start(options: GoEOptions) -> (Arc<World>, GoE) {
    let car = CarOptions { phases: 1, reaction_s: 0.5, ..Default::default() };
    let evse = Evse::new(evse_options("E2", &[0, 1, 2]), Car::new(car), false);
    let world = World::new(House::new(HouseOptions::default(), vec![evse], Script::new()));
    let device = GoE::start(world.clone(), 0, options).await.unwrap();
    (world, device)
}

#[tokio::test]
async fn v2_status_filters_and_has_the_documented_types() {
    let (world, device) = start(GoEOptions::default()).await;
    let (status, idle) = get(device.address(), "/api/status?filter=car,alw,acu,amp,frc,nosuch").await;
    assert_eq!((status, idle), (200, json!({"car": 1, "alw": true, "acu": null, "amp": 6, "frc": 0})));
    world.with(|house| house.evse_mut(0).unwrap().plug_in());
    world.advance(20.0);
    let (_, all) = get(device.address(), "/api/status").await;
    assert_eq!((&all["car"], &all["acu"], &all["err"], &all["trx"]), (&json!(2), &json!(6), &json!(0), &json!(null)));
    assert_eq!(all["pha"], json!([true, false, false, true, true, true]));
    let nrg: Vec<f64> = all["nrg"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(nrg.len(), 16);
    assert_eq!(nrg[4..7], [6.0, 0.0, 0.0]);
    assert!((nrg[0] - 230.0).abs() < 5.0 && (nrg[11] - nrg[0] * 6.0).abs() < 1e-6 && nrg[7] == nrg[11]);
    assert!(all["wh"].as_f64().unwrap() > 5.0 && all["eto"].is_i64());
    assert_eq!(all["pnp"], 1);
    world.with(|house| house.evse_mut(0).unwrap().set_fault(true));
    let (_, broken) = get(device.address(), "/api/status?filter=car,err").await;
    assert_eq!(broken, json!({"car": 5, "err": 8}));
}

#[tokio::test]
async fn v2_set_answers_per_key_and_takes_up_to_a_second() {
    let (world, device) = start(GoEOptions::default()).await;
    world.with(|house| house.evse_mut(0).unwrap().plug_in());
    let (status, answer) = get(device.address(), "/api/set?amp=14&frc=2&nosuch=1&psm=9&car=2&dwo=x").await;
    assert_eq!(status, 200);
    assert_eq!((&answer["amp"], &answer["frc"]), (&json!(true), &json!(true)));
    for key in ["nosuch", "psm", "car", "dwo"] {
        assert!(answer[key].is_string(), "{key}: {answer}");
    }
    for value in ["5", "17", "14.5", "%2214%22", "null"] {
        let (_, answer) = get(device.address(), &format!("/api/set?amp={value}")).await;
        assert!(answer["amp"].is_string(), "{value}: {answer}");
    }
    let (_, before) = get(device.address(), "/api/status?filter=amp").await;
    assert_eq!(before, json!({"amp": 6}), "the logic has not run yet");
    world.advance(1.05);
    let (_, after) = get(device.address(), "/api/status?filter=amp,alw,modelStatus").await;
    assert_eq!(after, json!({"amp": 14, "alw": true, "modelStatus": 3}));
    get(device.address(), "/api/set?frc=1").await;
    world.advance(10.0);
    let (_, stopped) = get(device.address(), "/api/status?filter=car,alw,acu,modelStatus").await;
    assert_eq!(stopped, json!({"car": 4, "alw": false, "acu": null, "modelStatus": 4}));
    let sets: Vec<_> = device.sets().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(sets, ["amp=14", "frc=2", "frc=1"]);
}

#[tokio::test]
async fn phases_and_authorisation() {
    let (world, device) = start(GoEOptions::default()).await;
    world.with(|house| {
        let evse = house.evse_mut(0).unwrap();
        evse.car_mut().options.phases = 3;
        evse.plug_in();
    });
    world.advance(10.0);
    let (_, three) = get(device.address(), "/api/status?filter=pnp").await;
    assert_eq!(three, json!({"pnp": 3}));
    get(device.address(), "/api/set?psm=1").await;
    world.advance(10.0);
    let (_, one) = get(device.address(), "/api/status?filter=pnp,psm,fsp").await;
    assert_eq!(one, json!({"pnp": 1, "psm": 1, "fsp": true}));
    device.require_authorisation();
    world.advance(10.0);
    let (_, waits) = get(device.address(), "/api/status?filter=alw,modelStatus,acs").await;
    assert_eq!(waits, json!({"alw": false, "modelStatus": 2, "acs": 1}));
    get(device.address(), "/api/set?trx=0").await;
    world.advance(10.0);
    let (_, goes) = get(device.address(), "/api/status?filter=alw,trx,car").await;
    assert_eq!(goes, json!({"alw": true, "trx": 0, "car": 2}));
}

#[tokio::test]
async fn v1_speaks_strings_and_odd_units() {
    let (world, device) = start(GoEOptions { v2: false, ..Default::default() }).await;
    assert_eq!(get(device.address(), "/api/status?filter=alw").await.0, 404);
    world.with(|house| house.evse_mut(0).unwrap().plug_in());
    get(device.address(), "/mqtt?payload=amx=14").await;
    world.advance(20.0);
    let (status, all) = get(device.address(), "/status").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&all["car"], &all["amp"], &all["alw"], &all["pha"]),
        (&json!("2"), &json!("14"), &json!("1"), &json!("57"))
    );
    assert_eq!(all["nrg"][4], 140, "0.1 A");
    assert_eq!(all["nrg"][7], 32, "0.1 kW");
    assert!((300..340).contains(&all["nrg"][11].as_i64().unwrap()), "0.01 kW");
    assert!(all["dws"].as_str().unwrap().parse::<u64>().unwrap() > 3000, "10 Ws");
    let (_, refused) = get(device.address(), "/mqtt?payload=amx=40").await;
    assert_eq!(refused["amp"], "14", "visible only as unchanged");
    assert_eq!(device.flash_writes(), 0);
    get(device.address(), "/mqtt?payload=amp=10").await;
    assert_eq!(device.flash_writes(), 1);
    get(device.address(), "/mqtt?payload=alw=0").await;
    world.advance(5.0);
    let (_, off) = get(device.address(), "/status").await;
    assert_eq!((&off["alw"], &off["car"], &off["amp"]), (&json!("0"), &json!("4"), &json!("10")));
}

#[tokio::test]
async fn http_keeps_connections_and_misbehaves_on_order() {
    let (_world, device) = start(GoEOptions::default()).await;
    let mut stream = TcpStream::connect(device.address()).await.unwrap();
    let mut text = [0; 4096];
    for n in 1..=3 {
        stream.write_all(b"GET /api/status?filter=car HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let length = tokio::time::timeout(DEADLINE, stream.read(&mut text)).await.unwrap().unwrap();
        assert!(text[..length].ends_with(b"\r\n\r\n{\"car\":1}"), "{}", String::from_utf8_lossy(&text[..length]));
        assert_eq!((device.control().requests(), device.control().connections()), (n, 1));
    }
    device.control().inject(Fault::Status(503));
    assert_eq!(get(device.address(), "/api/status").await, (503, json!({})));
    device.control().inject(Fault::Cut(20));
    stream.write_all(b"GET /api/status HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"HTTP/1.1 200 OK\r\nCon");
    assert_eq!(get(device.address(), "/nosuch").await.0, 404);
    let mut stream = TcpStream::connect(device.address()).await.unwrap();
    stream.write_all(b"POST /api/status HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
    let length = tokio::time::timeout(DEADLINE, stream.read(&mut text)).await.unwrap().unwrap();
    assert!(text[..length].starts_with(b"HTTP/1.1 405 "));
    // Escapes: the filter may come with its commas encoded.
    assert_eq!(get(device.address(), "/api/status?filter=car%2Camp").await.1, json!({"car": 1, "amp": 6}));
}
