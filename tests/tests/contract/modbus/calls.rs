//! Registers over HTTP and MQTT: `modbus` (1.11; 7.2 rows 13 and 14), `modbus_get` and `modbus_set` (2.6; row 20).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use ladekern::contract::api::{Args, Call, Caller};
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve};
use ladekern_sim::net::Control;
use ladekern_tests::SOON;
use serde_json::json;

use super::*;

#[tokio::test]
async fn h13_registers_are_read_with_suffix_count_and_all() {
    // The Modbus server is off: the command needs none.
    let site = site(OBSERVE).await;
    assert_eq!(modbus(&site, "device=evse&read=8092").await, json!(2));
    assert_eq!(modbus(&site, "device=E1&read=8092").await, json!(2));
    assert_eq!(modbus(&site, "device=evse&read=8000d").await, json!(-821_755_904), "32 bits are signed");
    assert_eq!(modbus(&site, "device=evse&read=8016s").await, json!("cFos Power Brain"));
    assert_eq!(modbus(&site, "device=evse&read=8096s").await, json!("0A1B2C3D"));
    assert_eq!(modbus(&site, "device=evse&read=8016&count=2").await, json!([0x6346, 0x6F73]), "words of a text");
    assert_eq!(modbus(&site, "device=evse&read=8058q").await, json!(1_234_567));
    assert_eq!(modbus(&site, "device=evse&read=8064d&count=3").await, json!([100, 100, 0]));
    assert_eq!(modbus(&site, "device=meter1&read=8062d").await, json!(-821));
    assert_eq!(modbus(&site, "device=M1&read=8058q").await, json!(70_000_000_001_u64));
    assert_eq!(modbus(&site, "device=meter1&read=8045&count=3").await, json!([231, 232, 233]));
    assert_eq!(modbus(&site, "device=meter1&read=0x1F6D").await, json!(231));

    let all = modbus(&site, "device=evse&read=all").await;
    for (key, value) in
        [("8000d", json!(-821_755_904)), ("8058q", json!(1_234_567)), ("8092", json!(2)), ("8112", json!(1))]
    {
        assert_eq!(all[key], value, "{key} in {all}");
    }
    assert_eq!(all["8016s"], "cFos Power Brain");
    assert_eq!(all.as_object().unwrap().len(), 35, "{all}");
    let all = modbus(&site, "device=meter1&read=all").await;
    assert_eq!((&all["8062d"], &all["8044"], all.get("8092")), (&json!(-821), &json!(7), None));
    // A meter that says nothing has no measurements, and they are not made up.
    assert_eq!(modbus(&site, "device=meter2&read=all").await.get("8062d"), None);
    assert_eq!(site.get("cmd=modbus&device=meter2&read=8062d").await.status, 503);
}

#[tokio::test]
async fn h13_the_exact_strings_for_wrong_sizes_registers_and_devices() {
    let site = site(OBSERVE).await;
    for wrong in [
        "meter1&read=8044d",
        "evse&read=8000",
        "evse&read=8092q",
        "evse&read=8092s",
        "meter1&read=8058d",
        "evse&read=8017s",
        "evse&read=8096d",
        "evse&write=8093d&value=100",
    ] {
        assert_eq!(modbus(&site, &format!("device={wrong}")).await, "bad modbus register size", "{wrong}");
    }
    for wrong in [
        "evse&read=8044",
        "evse&read=9000",
        "evse&read=8089",
        "meter1&read=8092",
        "evse&read=8112&count=9",
        "meter1&write=8093&value=100",
    ] {
        assert_eq!(modbus(&site, &format!("device={wrong}")).await, "bad modbus register", "{wrong}");
    }
    for wrong in ["device=E9&read=8092", "device=box&read=8092", "device=&read=8092", "read=8092"] {
        assert_eq!(modbus(&site, wrong).await, "unknown device", "{wrong}");
    }
    for (wrong, words) in [
        ("device=evse", "read or write"),
        ("device=evse&read=8092&write=8093", "two calls"),
        ("device=evse&read=x", "no register"),
        ("device=evse&read=-1", "no register"),
        ("device=evse&read=8092&count=0", "count"),
        ("device=evse&write=8093", "value is missing"),
        ("device=evse&write=8093&value=a", "whole number"),
        ("device=evse&write=8093&value=65536", "16 bits"),
        ("device=evse&write=8093&values=160", "list"),
    ] {
        let error = refused(&site, &format!("cmd=modbus&{wrong}")).await;
        assert!(error.contains(words), "{wrong}: {error}");
    }
}

#[tokio::test]
async fn h14_registers_are_written_and_the_wallbox_follows() {
    let site = site(OBSERVE).await;
    assert_eq!(modbus(&site, "device=evse&write=8093&value=100").await, "ok");
    let orders = feed(&site, CHARGING).await;
    assert_eq!(orders["charging_current"], 10_000, "{orders}");
    assert_eq!(site.device("E1").await["last_set_charging_cur"], 10_000);
    // Limit and permission in one request.
    assert_eq!(modbus(&site, "device=E1&write=8093&values=[120,0]").await, "ok");
    assert_eq!(feed(&site, CHARGING).await["charging_enabled"], false);
    assert_eq!(modbus(&site, "device=evse&read=8093&count=2").await, json!([120, 0]));
    assert_eq!(modbus(&site, "device=evse&write=8094&value=1.0").await, "ok");
    assert_eq!(feed(&site, CHARGING).await["charging_current"], 12_000);
    assert_eq!(modbus(&site, "device=evse&write=8083d&value=600").await, "ok");
    assert_eq!(modbus(&site, "device=evse&read=8083d").await, 600);

    // What cannot be done is never "ok": not by this wallbox, not at all, not with this value.
    for (wrong, words) in [
        ("8087&value=1", "http-input"),
        ("8086&value=5", "http-input"),
        ("8088&value=1", "relay2"),
        ("8040&value=2", "slave_id"),
        ("8092&value=1", "only be read"),
        ("8093&value=631", "out of range"),
        ("8093&values=[100,2]", "out of range"),
        ("8094&value=-1", "out of range"),
    ] {
        let error = refused(&site, &format!("cmd=modbus&device=evse&write={wrong}")).await;
        assert!(error.contains(words), "{wrong}: {error}");
    }
    assert_eq!(modbus(&site, "device=evse&read=8093&count=2").await, json!([120, 1]), "nothing of it counted");
}

#[tokio::test]
async fn h13_h14_h20_only_an_admin_may() {
    let site = site(OBSERVE).await;
    for query in [
        "cmd=modbus&device=evse&read=8092",
        "cmd=modbus&device=evse&write=8094&value=0",
        "cmd=modbus_get&addr=127.0.0.1:1&reg=1",
        "cmd=modbus_set&addr=127.0.0.1:1&reg=1&val=1",
    ] {
        let caller = Caller { admin: false, address: None };
        let call = Call { args: Args::parse(query).unwrap(), body: Bytes::new(), caller };
        assert_eq!(site.app.api().call(&call).await.status, 401, "{query}");
    }
    assert_eq!(modbus(&site, "device=evse&read=8094").await, 1);
}

// === modbus_get, modbus_set ===

/// A device of plain registers, and its address.
async fn bank() -> (Arc<Bank>, Control, ladekern_sim::net::Server, SocketAddr) {
    let holding = [160, 0xFFFF, 0xFFFE, 0x3DCC, 0xCCCD, 0, 1, 2, 3, 0x6162, 0x6300, 0, 0];
    let bank = Arc::new(Bank::new().with(Table::Holding, 100, &holding).with(Table::Input, 7, &[42]));
    let control = Control::default();
    let bus = Bus::new().with(1, bank.clone()).with(9, Arc::new(Bank::new().with(Table::Holding, 1, &[9])));
    let server = serve(([127, 0, 0, 1], 0).into(), Framing::Tcp, bus, control.clone()).await.unwrap();
    let address = server.address();
    (bank, control, server, address)
}

#[tokio::test]
async fn h20_registers_of_any_device_are_read_and_written() {
    let site = site(OBSERVE).await;
    let (bank, control, _server, address) = bank().await;
    let get = async |arguments: &str| {
        let answer = site.get(&format!("cmd=modbus_get&addr={address}&{arguments}")).await;
        assert_eq!(answer.status, 200, "{arguments}: {}", answer.body);
        answer.json()
    };
    for (arguments, value) in [
        ("reg=100", json!(160)),
        ("func=3&id=1&reg=0x64&type=w", json!(160)),
        ("func=4&reg=7", json!(42)),
        ("reg=1&id=9", json!(9)),
        ("reg=101&type=d", json!(-2)),
        ("reg=101&type=d&order=lh", json!(-65_537)),
        ("reg=103&type=f", json!(0.1)),
        ("reg=105&type=q", json!(0x0000_0001_0002_0003_i64)),
        ("reg=105&type=q&order=lh", json!(0x0003_0002_0001_0000_i64)),
        ("reg=109&type=s&cnt=2", json!("abc")),
    ] {
        assert_eq!(get(arguments).await, value, "{arguments}");
    }
    let set = async |arguments: &str| {
        let answer = site.get(&format!("cmd=modbus_set&addr=tcp://{address}&{arguments}")).await;
        assert_eq!((answer.status, answer.json()), (200, json!("ok")), "{arguments}");
    };
    set("reg=100&val=100").await;
    set("func=16&reg=100&val=0x65").await;
    set("reg=101&type=d&val=-2&order=lh").await;
    set("reg=103&type=f&val=0.1").await;
    set("reg=105&type=q&val=4294967298").await;
    set("reg=109&type=s&val=xyz&cnt=3").await;
    let written: Vec<(u16, Vec<u16>)> = vec![
        (100, vec![100]),
        (100, vec![101]),
        (101, vec![0xFFFE, 0xFFFF]),
        (103, vec![0x3DCC, 0xCCCD]),
        (105, vec![0, 1, 0, 2]),
        (109, vec![0x7879, 0x7A00, 0]),
    ];
    assert_eq!(bank.writes(), written);
    assert_eq!(control.connections(), 1, "one connection and one queue for all");
}

#[tokio::test]
async fn h20_what_is_wrong_is_said_and_nobody_is_waited_for_too_long() {
    let site = site(OBSERVE).await;
    let (_bank, control, server, address) = bank().await;
    for (wrong, words) in [
        ("cmd=modbus_get&reg=1", "addr is missing"),
        ("cmd=modbus_get&addr=10.0.0.1:502", "reg is missing"),
        ("cmd=modbus_get&addr=http://10.0.0.1&reg=1", "no Modbus address"),
        ("cmd=modbus_get&addr=10.0.0.1:x&reg=1", "addr"),
        ("cmd=modbus_get&addr=COM1,9600,7,n,1&reg=1", "8 data bits"),
        ("cmd=modbus_get&addr=/dev/ttyUSB0,9600,8,n&reg=1", "five parts"),
        ("cmd=modbus_get&addr=/dev/ttyUSB0,9600,8,x,1&reg=1", "parity"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=65536", "reg"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=1&id=256", "id"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=1&func=6", "func"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=1&type=x", "type"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=1&order=lh", "order"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=1&type=s", "cnt is missing"),
        ("cmd=modbus_get&addr=10.0.0.1:502&reg=1&type=s&cnt=200", "cnt"),
        ("cmd=modbus_set&addr=10.0.0.1:502&reg=1", "val is missing"),
        ("cmd=modbus_set&addr=10.0.0.1:502&reg=1&val=a", "val"),
        ("cmd=modbus_set&addr=10.0.0.1:502&reg=1&val=1&type=d&func=6", "16 is for more"),
        ("cmd=modbus_set&addr=10.0.0.1:502&reg=1&val=99999", "16 bits"),
    ] {
        let error = refused(&site, wrong).await;
        assert!(error.contains(words), "{wrong}: {error}");
    }
    let error = refused(&site, &format!("cmd=modbus_get&addr={address}&reg=9999")).await;
    assert!(error.contains("exception 2"), "{error}");
    // A line that is not there, a host that refuses, a device that never answers.
    let gone = site.get("cmd=modbus_get&addr=/dev/no-such-line,9600,8,n,1&reg=1").await;
    assert_eq!(gone.status, 503, "{}", gone.body);
    control.pause();
    let silent = tokio::time::timeout(SOON, site.get(&format!("cmd=modbus_get&addr={address}&reg=100"))).await.unwrap();
    assert_eq!(silent.status, 503, "{}", silent.body);
    server.stop().await;
    let refused = site.get(&format!("cmd=modbus_get&addr={address}&reg=100")).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
}

// === The server ===
