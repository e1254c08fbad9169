//! The Modbus server (4.1, 7.5): whoever controls a Power Brain controls ours.

use std::time::Duration;

use ladekern_tests::site::Site;
use ladekern_tests::until;
use ladekern_tests::{SOON, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Reader, Writer};
use tokio_modbus::{ExceptionCode, Request};

use super::*;

#[tokio::test]
async fn m_a_session_like_evcc_s() {
    let site = site(&format!("{OBSERVE}{SERVER}")).await;
    let ports = ports(&site, true).await;
    let mut evcc = client(ports[0], 1).await;
    // What it looks at once: a meter, its phase currents, the ability to switch phases.
    assert_eq!(read(&mut evcc, 8112, 1).await, [1]);
    assert_eq!(read(&mut evcc, 8057, 1).await, [1]);
    assert_eq!(read(&mut evcc, 8113, 1).await[0] & 0x100, 0, "what is fed cannot switch phases");
    // Status, enable, current, as in its cycle.
    assert_eq!(read(&mut evcc, 8092, 1).await, [2]);
    evcc.write_single_register(8093, 80).await.unwrap().unwrap();
    evcc.write_single_register(8094, 1).await.unwrap().unwrap();
    assert_eq!(read(&mut evcc, 8094, 1).await, [1]);
    let orders = feed(&site, CHARGING).await;
    assert_eq!((&orders["charging_current"], &orders["charging_enabled"]), (&json!(8_000), &json!(true)));
    evcc.write_single_register(8094, 0).await.unwrap().unwrap();
    assert_eq!(read(&mut evcc, 8094, 1).await, [0]);
    assert_eq!(feed(&site, CHARGING).await["charging_enabled"], false);
    feed(&site, r#"{"state":2,"current":[0,0,0]}"#).await;
    assert_eq!(read(&mut evcc, 8092, 1).await, [1]);
    // Measurements and the card, with its own request sizes.
    feed(&site, CHARGING).await;
    assert_eq!(read(&mut evcc, 8062, 2).await, [0, 4_600], "20 A at 230 V, nothing else is known");
    assert_eq!(read(&mut evcc, 8058, 4).await, [0, 0, 18, 54_919]);
    assert_eq!((18 << 16) + 54_919, 1_234_567);
    assert_eq!(read(&mut evcc, 8064, 6).await, [0, 100, 0, 100, 0, 0]);
    let card: Vec<u8> = read(&mut evcc, 8096, 15).await.iter().flat_map(|word| word.to_be_bytes()).collect();
    assert_eq!(String::from_utf8(card).unwrap().trim_end_matches('\0'), "0A1B2C3D");
    assert_eq!(read(&mut evcc, 8111, 1).await, [1]);
    // This wallbox can neither be woken up nor switched: an error, and never a silent OK.
    for address in [8086, 8087] {
        let answer = evcc.write_single_register(address, 1).await.unwrap();
        assert_eq!(answer, Err(ExceptionCode::IllegalDataValue), "{address}");
    }
}

#[tokio::test]
async fn m_meters_have_their_own_ports_and_units() {
    let more = format!("{OBSERVE}{SERVER}meter1 = \"M2\"\nmeter2 = \"M1\"\n");
    let site = site(&more).await;
    let ports = ports(&site, true).await;
    let mut second = client(ports[2], 3).await;
    assert_eq!(read(&mut second, 8040, 1).await, [3]);
    assert_eq!(read(&mut second, 8062, 2).await, [0xFFFF, 0xFCCB], "-821 W");
    let inputs = second.read_input_registers(8045, 3).await.unwrap().unwrap();
    assert_eq!(inputs, [231, 232, 233]);
    let written = second.write_single_register(8093, 100).await.unwrap();
    assert_eq!(written, Err(ExceptionCode::IllegalDataAddress));
    let mut first = client(ports[1], 2).await;
    assert_eq!(read(&mut first, 8040, 1).await, [2]);
    // M2 has never said anything: no measurement is better than a made-up one.
    let silent = first.read_holding_registers(8062, 2).await.unwrap();
    assert_eq!(silent, Err(ExceptionCode::ServerDeviceFailure));
}

#[tokio::test]
async fn m_units_functions_addresses_and_widths_are_checked() {
    let site = site(&format!("{OBSERVE}{SERVER}")).await;
    let port = ports(&site, true).await[0];
    for unit in [0, 1, 255] {
        assert_eq!(read(&mut client(port, unit).await, 8092, 1).await, [2], "unit {unit}");
    }
    let mut stranger = client(port, 2).await;
    assert_eq!(stranger.read_holding_registers(8092, 1).await.unwrap(), Err(ExceptionCode::GatewayTargetDevice));
    let mut client = client(port, 1).await;
    for (address, count) in [(8089, 1), (7999, 2), (8121, 2), (0, 1), (65_535, 1)] {
        let answer = client.read_holding_registers(address, count).await.unwrap();
        assert_eq!(answer, Err(ExceptionCode::IllegalDataAddress), "{address}");
    }
    assert_eq!(client.read_holding_registers(8000, 0).await.unwrap(), Err(ExceptionCode::IllegalDataValue));
    for (address, words, code) in [
        (8083, &[1][..], ExceptionCode::IllegalDataValue),
        (8093, &[631], ExceptionCode::IllegalDataValue),
        (8093, &[100, 2], ExceptionCode::IllegalDataValue),
        (8094, &[1, 1], ExceptionCode::IllegalDataAddress),
        (8088, &[1], ExceptionCode::IllegalDataValue),
        (8092, &[1], ExceptionCode::IllegalDataAddress),
    ] {
        let answer = client.write_multiple_registers(address, words).await.unwrap();
        assert_eq!(answer, Err(code), "{address} {words:?}");
    }
    assert_eq!(read(&mut client, 8093, 2).await, [160, 1], "nothing of it counted");
    client.write_multiple_registers(8093, &[90, 1]).await.unwrap().unwrap();
    client.write_multiple_registers(8083, &[0, 900]).await.unwrap().unwrap();
    assert_eq!((read(&mut client, 8093, 2).await, read(&mut client, 8083, 2).await), (vec![90, 1], vec![0, 900]));
    for request in [
        Request::ReadCoils(8092, 1),
        Request::WriteSingleCoil(8094, true),
        Request::MaskWriteRegister(8094, 0, 1),
        Request::Custom(0x41, std::borrow::Cow::Borrowed(&[1, 2, 3])),
    ] {
        assert_eq!(client.call(request.clone()).await.unwrap(), Err(ExceptionCode::IllegalFunction), "{request:?}");
    }
}

#[tokio::test]
async fn m_too_many_connections_half_frames_and_a_flood_hurt_nobody() {
    let site = site(&format!("{OBSERVE}{SERVER}")).await;
    let port = ports(&site, true).await[0];
    let mut good = client(port, 1).await;
    read(&mut good, 8092, 1).await;
    // Half a frame each, and then nothing.
    let mut half = Vec::new();
    for _ in 1..16 {
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 3]).await.unwrap();
        half.push(stream);
    }
    // One too many is closed; whether it was accepted after all others is the system's business, so it is repeated.
    let refused = async {
        loop {
            let mut stream = TcpStream::connect(port).await.unwrap();
            let closed = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
            if closed.is_ok_and(|read| read.is_err()) {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, refused).await.expect("the 17th is closed");
    assert_eq!(read(&mut good, 8092, 1).await, [2], "the others are served");
    // A thousand requests at once on one connection are answered, all of them.
    drop(half.pop());
    let mut flood = tokio::time::timeout(SOON, async {
        loop {
            let mut stream = TcpStream::connect(port).await.unwrap();
            let probe = stream.write_all(&[0, 0, 0, 0, 0, 6, 1, 3, 0x1F, 0x9C, 0, 1]).await;
            let mut answer = [0; 11];
            if probe.is_ok() && stream.read_exact(&mut answer).await.is_ok() {
                return stream;
            }
        }
    })
    .await
    .expect("a place is free again");
    let mut requests = Vec::new();
    for number in 0_u16..1_000 {
        requests.extend(number.to_be_bytes());
        requests.extend([0, 0, 0, 6, 1, 3, 0x1F, 0x9C, 0, 1]);
    }
    flood.write_all(&requests).await.unwrap();
    for number in 0_u16..1_000 {
        let mut answer = [0; 11];
        tokio::time::timeout(SOON, flood.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, [number.to_be_bytes()[0], number.to_be_bytes()[1], 0, 0, 0, 5, 1, 3, 2, 0, 2]);
    }
    // What is no Modbus ends its connection and nothing else.
    flood.write_all(&[0, 1, 0, 1, 0, 6, 1, 3, 0x1F, 0x9C, 0, 1]).await.unwrap();
    let end = tokio::time::timeout(SOON, flood.read_u8()).await.unwrap();
    assert!(end.is_err(), "{end:?}");
    assert_eq!(read(&mut good, 8092, 1).await, [2]);
}

#[tokio::test]
async fn m_the_server_follows_the_configuration() {
    let site = site(OBSERVE).await;
    assert_eq!(ports(&site, false).await, [], "off by default");
    let text = std::fs::read_to_string(site.file()).unwrap();
    std::fs::write(site.file(), format!("{SERVER}{text}")).unwrap();
    let first = ports(&site, true).await;
    let mut client = client(first[0], 1).await;
    assert_eq!(read(&mut client, 8092, 1).await, [2]);
    // Other numbers, and the old ones are free.
    let port = ladekern_tests::free_port();
    let moved = SERVER.replace("[0, 0, 0]", &format!("[{port}, 0, 0]"));
    std::fs::write(site.file(), format!("{moved}{text}")).unwrap();
    let mut addresses = site.app.modbus_addresses();
    let there = addresses.wait_for(|all| all[0].is_some_and(|address| address.port() == port));
    tokio::time::timeout(SOON, there).await.expect("it listens on the new port").unwrap();
    assert!(client.read_holding_registers(8092, 1).await.is_err(), "the connections of the old port are closed");
    std::net::TcpListener::bind(first[0]).expect("the old port is free");
    std::fs::write(site.file(), &text).unwrap();
    ports(&site, false).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

/// Waits until the current that the wallbox was told last is as wished.
async fn told(site: &Site, what: &str, wished: impl Fn(i64) -> bool) -> Value {
    let is_told = |device: &Value| wished(device["last_set_charging_cur"].as_i64().unwrap());
    until(what, async || site.device("E1").await, is_told).await
}

#[tokio::test]
async fn m_in_mode_manage_a_controller_caps_the_load_manager_and_its_silence_counts() {
    let circuit = "[[circuit]]\nid = \"main\"\nlimit_ma = [32000, 32000, 32000]\nmeter = \"M1\"\n";
    let site = site(&format!("{SERVER}{circuit}")).await;
    let port = ports(&site, true).await[0];
    // A car that waits for current, and a house that draws little, told again and again as real ones are.
    let address = site.http();
    let feeder = tokio::spawn(async move {
        let meter = r#"{"current":[1000,1000,1000],"voltage":[230,230,230],"power_w":690}"#;
        loop {
            let _ = http::post(address, "/cnf?cmd=set_ajax_meter&dev_id=M1", meter).await;
            let _ = http::post(address, "/cnf?cmd=set_ajax_evse&dev_id=E1", "{\"state\":2,\"current\":[0,0,0]}").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    told(&site, "more than 8 A", |ma| ma > 8_000).await;
    let mut controller = client(port, 1).await;
    controller.write_single_register(8093, 80).await.unwrap().unwrap();
    told(&site, "8 A", |ma| ma == 8_000).await;
    controller.write_single_register(8094, 0).await.unwrap().unwrap();
    let paused = told(&site, "a pause", |ma| ma == 0).await;
    assert_eq!((&paused["paused"], &paused["pause_reason"]), (&json!(true), &json!(3)));
    controller.write_single_register(8094, 1).await.unwrap().unwrap();
    told(&site, "8 A again", |ma| ma == 8_000).await;
    // Two seconds without a request, and the failsafe current counts; calls over HTTP are no sign of life.
    controller.write_multiple_registers(8083, &[0, 2, 60]).await.unwrap().unwrap();
    told(&site, "6 A", |ma| ma == 6_000).await;
    assert_eq!(modbus(&site, "device=evse&read=8093").await, 80, "what was written still stands there");
    let look = async || {
        read(&mut controller, 8092, 1).await;
        site.device("E1").await
    };
    let what = "a controller that is back is believed again";
    until(what, look, |device| device["last_set_charging_cur"] == 8_000).await;
    feeder.abort();
}
