//! The registers of cfos-interfaces.md 4.1: over Modbus TCP (7.5), over `cmd=modbus` (1.11; 7.2 rows 13 and 14), and
//! `modbus_get` and `modbus_set` (2.6; row 20).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ladekern::contract::api::{Args, Call, Caller};
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve};
use ladekern_sim::net::Control;
use ladekern_tests::site::Site;
use ladekern_tests::{SOON, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Context, Reader, Writer, tcp};
use tokio_modbus::{ExceptionCode, Request, Slave};

const DEVICES: &str = r#"
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
[[device]]
id = "M2"
type = "http-input"
"#;

const OBSERVE: &str = "[load]\nmode = \"observe\"\n";
const SERVER: &str = "[modbus_server]\nenabled = true\nports = [0, 0, 0]\n";

const CHARGING: &str =
    r#"{"state":3,"max_charging_current":16000,"current":[10000,10000,0],"total_energy":1234567,"rfid":"0A1B2C3D"}"#;

async fn site(more: &str) -> Site {
    let site = Site::start(&format!("{more}{DEVICES}")).await;
    feed(&site, CHARGING).await;
    let meter = r#"{"import_wh":70000000001,"voltage":[231,232,233],"current":[1000,2000,-3000],"power_w":-821.4}"#;
    assert_eq!(site.post("cmd=set_ajax_meter&dev_id=M1", meter).await.status, 200);
    site
}

async fn feed(site: &Site, body: &str) -> Value {
    let answer = site.post("cmd=set_ajax_evse&dev_id=E1", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// `cmd=modbus` with these arguments.
async fn modbus(site: &Site, arguments: &str) -> Value {
    let answer = site.get(&format!("cmd=modbus&{arguments}")).await;
    assert_eq!(answer.status, 200, "{arguments}: {}", answer.body);
    answer.json()
}

/// Why `cmd=…` is refused.
async fn refused(site: &Site, query: &str) -> String {
    let answer = site.get(query).await;
    assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    answer.json()["error"].as_str().unwrap().to_owned()
}

/// Waits until the ports listen, or no longer do.
async fn ports(site: &Site, listening: bool) -> Vec<SocketAddr> {
    let mut addresses = site.app.modbus_addresses();
    let found = tokio::time::timeout(SOON, addresses.wait_for(|all| all.iter().all(|one| one.is_some() == listening)));
    let found = found.await.expect("the ports do as configured").unwrap();
    found.iter().flatten().copied().collect()
}

async fn client(address: SocketAddr, unit: u8) -> Context {
    tcp::connect_slave(address, Slave(unit)).await.unwrap()
}

async fn read(client: &mut Context, address: u16, count: u16) -> Vec<u16> {
    client.read_holding_registers(address, count).await.unwrap().unwrap()
}

// === cmd=modbus ===

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
    let mut last = Value::Null;
    let found = tokio::time::timeout(SOON, async {
        loop {
            last = site.device("E1").await;
            if wished(last["last_set_charging_cur"].as_i64().unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(found.await.is_ok(), "not {what}: {last}");
    last
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
    let back = tokio::time::timeout(SOON, async {
        while site.device("E1").await["last_set_charging_cur"] != 8_000 {
            read(&mut controller, 8092, 1).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    back.await.expect("a controller that is back is believed again");
    feeder.abort();
}
