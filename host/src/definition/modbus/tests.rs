//! A scripted device on virtual time, and a simulated one on real sockets.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ladekern_definition::parse;
use ladekern_sim::modbus::{Bank, Bus, Framing, Table as Tables, serve};
use ladekern_sim::net::{Control, Fault, Server};
use tokio::runtime::Handle;

use super::*;
use crate::site::{Info, Quantity};
use crate::transport::{Endpoint, Transports};

/// A device that writes down what it is asked.
#[derive(Default)]
struct Device {
    /// Holding registers.
    registers: Mutex<BTreeMap<u16, u16>>,
    asked: Mutex<Vec<String>>,
    /// What it answers instead to a read that touches the address.
    spoiled: Mutex<BTreeMap<u16, ModbusError>>,
}

impl Device {
    fn with(registers: &[(u16, u16)]) -> Arc<Self> {
        let device = Self::default();
        device.registers.lock().unwrap().extend(registers.iter().copied());
        Arc::new(device)
    }

    fn set(&self, address: u16, word: u16) {
        self.registers.lock().unwrap().insert(address, word);
    }

    fn spoil(&self, address: u16, error: ModbusError) {
        self.spoiled.lock().unwrap().insert(address, error);
    }

    fn mend(&self, address: u16) {
        self.spoiled.lock().unwrap().remove(&address);
    }

    /// What was asked since the last call, `3r0+2`: function 3, two registers from 0.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn answer(&self, block: Block) -> Result<Vec<u16>, ModbusError> {
        let function = if block.table == Table::Input { 4 } else { 3 };
        self.asked.lock().unwrap().push(format!("{function}r{}+{}", block.address, block.count));
        let addresses = block.address..block.address + block.count;
        if let Some((_, error)) = self.spoiled.lock().unwrap().range(addresses.clone()).next() {
            return Err(error.clone());
        }
        let registers = self.registers.lock().unwrap();
        Ok(addresses.map(|address| registers.get(&address).copied().unwrap_or(0)).collect())
    }
}

impl Modbus for Device {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        Box::pin(async move { self.answer(block) })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        Box::pin(async move { blocks.into_iter().map(|block| self.answer(block)).collect() })
    }

    fn write_coil(&self, _: u16, _: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        panic!("a definition reads")
    }

    fn write_register(&self, _: u16, _: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        panic!("a definition reads")
    }

    fn write_registers(&self, _: u16, _: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        panic!("a definition reads")
    }
}

/// A definition with these keys beside the ones it must have.
fn definition(keys: &str) -> Definition {
    let text =
        format!(r#"{{"rtype": 0, "mtype": 1, "name": "Meter", "manufacturer": "Maker", "dev_type": "m", {keys}}}"#);
    match parse::parse("m.json", &text) {
        Ok(parsed) => parsed.definition,
        Err(findings) => panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn guest(definition: Definition, modbus: Arc<dyn Modbus>) -> ModbusGuest {
    let Transport::Modbus(reading) = definition.transport.clone() else { panic!("this is no Modbus device") };
    ModbusGuest::new(Readings::new(Arc::new(definition)).unwrap(), reading, modbus, Clock::start())
}

/// What the outcome says of a quantity, whenever in the poll it was read.
fn reading(outcome: &Outcome, quantity: &str) -> Option<Option<f64>> {
    let quantity = Quantity::from(quantity);
    let earlier = outcome.aged.iter().map(|(name, value, _)| (name, value));
    let mut all = outcome.readings.iter().map(|(name, value)| (name, value)).chain(earlier);
    all.find(|(name, _)| **name == quantity).map(|(_, value)| *value)
}

fn driver(error: CallError) -> DriverError {
    match error {
        CallError::Driver(error) => error,
        other => panic!("{other}"),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn registers_become_readings_texts_inputs_and_identity() {
    let definition = definition(
        r#""modbus_read": 4, "modbus_allow_gaps": true,
        "type_designation": {"type": "string", "address": 100, "length": 3},
        "serial": {"type": "uint64", "address": 110},
        "firmware_version": {"type": "int32", "address": 114, "length": 4},
        "power_w": {"type": "int32", "address": 0, "resolution": 0.1, "order": "lh"},
        "voltage_l1": {"type": "float", "address": 4},
        "import_wh": {"type": "int64", "address": 6, "resolution": 10},
        "*Temp": {"type": "int16", "address": 12, "resolution": -0.5},
        "CM._set_price": {"type": "uint16", "address": 13},
        "note": {"type": "string", "address": 14, "length": 1},
        "inputs": [{"address": 16, "count": 3}]"#,
    );
    let device = Device::with(&[
        (0, 0xfff6),
        (1, 0xffff),
        (4, 0x4366),
        (5, 0x8000),
        (9, 7),
        (12, 5),
        (13, 31),
        (14, 0x6f6b),
        (16, 0b101),
    ]);
    for (address, word) in [
        (100, 0x4142),
        (101, 0x4300),
        (110, 0xffff),
        (111, 0xffff),
        (112, 0xffff),
        (113, 0xffff),
        (114, 0x0102),
        (115, 0x0304),
    ] {
        device.set(address, word);
    }
    let mut guest = guest(definition, device.clone());
    let Opened::Driver(info) = guest.open("{}").await.unwrap() else { panic!() };
    assert_eq!(info.model.as_deref(), Some("Maker,Meter,"), "what the file says until the device has answered");
    assert_eq!(device.asked(), [""; 0]);
    let outcome = guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["4r0+116"]);
    assert_eq!(reading(&outcome, "power.total"), Some(Some(-1.0)));
    assert_eq!(reading(&outcome, "voltage.l1"), Some(Some(230.5)));
    assert_eq!(reading(&outcome, "energy.import"), Some(Some(70.0)));
    assert_eq!(reading(&outcome, "var.temp"), Some(Some(-2.5)));
    assert_eq!(reading(&outcome, "cm._set_price"), Some(Some(31.0)));
    assert_eq!(outcome.texts, [("var.note".to_owned(), "ok".to_owned())]);
    let inputs = [1, 2, 3].map(|n| reading(&outcome, &format!("input.{n}")).flatten());
    assert_eq!(inputs, [Some(1.0), Some(0.0), Some(1.0)]);
    let Some(Info { model, serial, firmware, .. }) = outcome.info else { panic!("nobody said who it is") };
    assert_eq!(model.as_deref(), Some("Maker,ABC,"));
    assert_eq!((serial.as_deref(), firmware.as_deref()), (Some("18446744073709551615"), Some("1.2.3.4")));
    assert_eq!(outcome.trouble, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_read_once_is_read_until_it_is_there() {
    let definition = definition(
        r#""serial": {"type": "uint16", "address": 50},
        "start": {"type": "uint16", "address": 60, "once": true},
        "power_w": {"type": "int16", "address": 0}"#,
    );
    let device = Device::with(&[(50, 4711), (60, 5)]);
    device.spoil(50, ModbusError::Protocol("noise".into()));
    let mut guest = guest(definition, device.clone());
    let outcome = guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["3r0+1", "3r50+1", "3r60+1"]);
    assert_eq!(outcome.trouble.as_deref(), Some("reading 1 register from 50: bad answer: noise"));
    device.mend(50);
    device.set(60, 6);
    let outcome = guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["3r0+1", "3r50+1"]);
    assert_eq!(reading(&outcome, "var.start"), Some(Some(5.0)), "known for good");
    assert_eq!(outcome.info.and_then(|info| info.serial).as_deref(), Some("4711"));
    guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["3r0+1"]);
}

#[tokio::test(start_paused = true)]
async fn counters_of_energy_are_read_every_three_seconds_or_while_power_flows() {
    let keys = r#""power_w": {"type": "int16", "address": 0}, "import_wh": {"type": "uint16", "address": 10},
        "export_wh": {"type": "uint16", "address": 20}"#;
    let with_counters = vec!["3r0+1".to_owned(), "3r10+1".into(), "3r20+1".into()];
    let without = vec!["3r0+1".to_owned()];
    let device = Device::with(&[]);
    let mut guest_of = guest(definition(keys), device.clone());
    let mut seen = Vec::new();
    for _ in 0..7 {
        guest_of.poll().await.unwrap();
        seen.push(device.asked() == with_counters);
        tokio::time::advance(SECOND).await;
    }
    assert_eq!(seen, [true, false, false, true, false, false, true]);
    // Power is seen by one poll, the next one reads the counters.
    device.set(0, 0xffff);
    guest_of.poll().await.unwrap();
    assert_eq!(device.asked(), without);
    for _ in 0..3 {
        guest_of.poll().await.unwrap();
        assert_eq!(device.asked(), with_counters);
    }
    let mut always = guest(definition(&format!(r#""delay_accumulated": false, {keys}"#)), device.clone());
    device.set(0, 0);
    for _ in 0..3 {
        always.poll().await.unwrap();
        assert_eq!(device.asked(), with_counters);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_register_costs_only_itself_and_is_asked_for_now_and_then() {
    let definition = definition(
        r#""power_w": {"type": "int16", "address": 0}, "voltage_l1": {"type": "uint16", "address": 1},
        "current_l1": {"type": "uint16", "address": 2}"#,
    );
    let device = Device::with(&[(0, 1), (1, 2), (2, 3)]);
    device.spoil(1, ModbusError::Exception(2));
    let mut guest = guest(definition, device.clone());
    let outcome = guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["3r0+3", "3r0+1", "3r1+1", "3r2+1"]);
    assert_eq!((reading(&outcome, "power.total"), reading(&outcome, "current.l1")), (Some(Some(1.0)), Some(Some(3.0))));
    assert_eq!(reading(&outcome, "voltage.l1"), None);
    let sentence =
        "voltage_l1: reading 1 register from 1: the device answered with Modbus exception 2 (no such register)";
    assert_eq!(outcome.trouble.as_deref(), Some(sentence));
    tokio::time::advance(59 * SECOND).await;
    let outcome = guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["3r0+1", "3r2+1"]);
    assert_eq!(outcome.trouble.as_deref(), Some(sentence), "it is still missing");
    device.mend(1);
    tokio::time::advance(2 * SECOND).await;
    let outcome = guest.poll().await.unwrap();
    assert_eq!((reading(&outcome, "voltage.l1"), outcome.trouble), (Some(Some(2.0)), None));
}

#[tokio::test]
async fn a_device_that_refuses_everything_says_so() {
    let keys = r#""power_w": {"type": "int16", "address": 7}"#;
    let device = Device::with(&[]);
    device.spoil(7, ModbusError::Exception(1));
    let mut guest = guest(definition(keys), device.clone());
    for _ in 0..2 {
        let error = driver(guest.poll().await.unwrap_err());
        assert!(
            matches!(&error, DriverError::Protocol(text) if text.contains("power_w") && text.contains("exception 1"))
        );
    }
    assert_eq!(device.asked().len(), 1, "and is not asked again at once");
}

#[tokio::test]
async fn nobody_there_is_asked_once_per_poll() {
    let definition = definition(
        r#""modbus_read_max_registers": 1, "power_w": {"type": "int32", "address": 0},
        "power_va": {"type": "int32", "address": 2}, "power_var": {"type": "int32", "address": 4}"#,
    );
    let device = Device::with(&[]);
    let mut guest = guest(definition, device.clone());
    for error in [ModbusError::Timeout, ModbusError::Unreachable("gone".into()), ModbusError::Exception(11)] {
        device.spoil(0, error);
        let error = driver(guest.poll().await.unwrap_err());
        assert!(matches!(&error, DriverError::Offline(text) if text.contains("2 registers from 0")), "{error}");
        assert_eq!(device.asked(), ["3r0+2"]);
    }
    device.mend(0);
    guest.poll().await.unwrap();
    assert_eq!(device.asked(), ["3r0+2", "3r2+2", "3r4+2"]);
    device.spoil(4, ModbusError::Timeout);
    let outcome = guest.poll().await.unwrap();
    assert_eq!(reading(&outcome, "power.total"), Some(Some(0.0)), "the rest counts");
    assert!(outcome.trouble.unwrap().contains("from 4: no answer in time"));
}

#[tokio::test]
async fn what_is_no_value_is_missing() {
    let definition = definition(r#""power_w": {"type": "float", "address": 0}, "double_w": {"expr": "power_w * 2"}"#);
    let device = Device::with(&[(0, 0x3f80)]);
    let mut guest = guest(definition, device.clone());
    let outcome = guest.poll().await.unwrap();
    assert_eq!(reading(&outcome, "power.total"), Some(Some(1.0)));
    assert_eq!(reading(&outcome, "var.double_w"), Some(Some(2.0)));
    device.set(0, 0x7fc0);
    let outcome = guest.poll().await.unwrap();
    assert_eq!(reading(&outcome, "power.total"), Some(None), "NaN: the device does not know");
}

/// A simulated meter on a socket, and a guest on the wires of the host with the timing of its definition.
async fn connected(framing: Framing, keys: &str, bank: Bank) -> (Server, Arc<Bank>, ModbusGuest, Transports) {
    let bank = Arc::new(bank);
    let bus = Bus::new().with(1, bank.clone());
    let server = serve(([127, 0, 0, 1], 0).into(), framing, bus, Control::default()).await.unwrap();
    let (host, port) = ("127.0.0.1".to_owned(), Some(server.address().port()));
    let url = match framing {
        Framing::Tcp => EndpointUrl::ModbusTcp { host, port },
        Framing::Rtu => EndpointUrl::ModbusRtuTcp { host, port },
    };
    let (guest, transports) = wired(keys, url);
    (server, bank, guest, transports)
}

fn binding(url: EndpointUrl) -> EndpointConfig {
    EndpointConfig {
        url,
        unit: Some(1),
        timeout: None,
        min_gap: None,
        read_only: false,
        topic_prefix: String::new(),
        user: None,
        password_file: None,
        timing: Timing::default(),
    }
}

fn wired(keys: &str, url: EndpointUrl) -> (ModbusGuest, Transports) {
    let definition = definition(keys);
    let binding = timed(&definition, &binding(url));
    let transports = Transports::new(Handle::current(), Clock::start(), None, "test".into());
    let device = "M1".parse().unwrap();
    let Ok(Endpoint::Modbus(modbus)) = transports.endpoint(&device, "", &binding, None, None) else { panic!() };
    (guest(definition, modbus), transports)
}

const METER: &str = r#""power_w": {"type": "int32", "address": 0}, "import_wh": {"type": "uint32", "address": 40},
    "rtu": {"silence_period": 5, "retries": 4, "rcv_timeout": 500}, "tcp": {"connect_timeout": 5000}"#;

fn meter() -> Bank {
    Bank::new().with(Tables::Holding, 0, &[0, 1234]).with(Tables::Holding, 40, &[1, 0])
}

#[tokio::test]
async fn it_works_over_tcp_and_rtu_over_tcp() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let (_server, bank, mut guest, _transports) = connected(framing, METER, meter()).await;
        let outcome = guest.poll().await.unwrap();
        assert_eq!(reading(&outcome, "power.total"), Some(Some(1234.0)));
        assert_eq!(reading(&outcome, "energy.import"), Some(Some(65_536.0)));
        assert_eq!(bank.requests(), 2, "the gap is not read");
    }
}

#[tokio::test]
async fn it_works_on_a_serial_line() {
    let (master, mut slave) = tokio_serial::SerialStream::pair().unwrap();
    let path = tokio_serial::SerialPort::name(&slave).unwrap();
    // The host locks the line when it opens it, so ours is swapped for a plain file that only keeps it alive.
    slave.set_exclusive(false).unwrap();
    let _keep = std::fs::File::open(&path).unwrap();
    drop(slave);
    let bus = Bus::new().with(1, Arc::new(meter()));
    tokio::spawn(ladekern_sim::modbus::serve_stream(master, Framing::Rtu, bus, Control::default()));
    let (mut guest, _transports) = wired(METER, format!("rtu://{path}?baud=9600").parse().unwrap());
    assert_eq!(reading(&guest.poll().await.unwrap(), "power.total"), Some(Some(1234.0)));
}

#[tokio::test]
async fn a_lost_or_damaged_answer_is_asked_for_again() {
    let (server, bank, mut guest, _transports) = connected(Framing::Rtu, METER, meter()).await;
    server.control().inject(Fault::Drop);
    server.control().inject(Fault::BadCrc);
    let outcome = guest.poll().await.unwrap();
    assert_eq!((reading(&outcome, "power.total"), outcome.trouble), (Some(Some(1234.0)), None));
    assert!(server.control().requests() >= 4 && bank.requests() >= 3);
}

#[tokio::test]
async fn garbage_is_an_error_and_the_next_answer_counts_again() {
    let keys = r#""power_w": {"type": "int32", "address": 0}"#;
    let (server, _bank, mut guest, _transports) = connected(Framing::Tcp, keys, meter()).await;
    guest.poll().await.unwrap();
    for _ in 0..4 {
        server.control().inject(Fault::WrongTransaction);
    }
    let error = driver(guest.poll().await.unwrap_err());
    assert!(
        matches!(&error, DriverError::Protocol(text) if text.starts_with("reading 2 registers from 0: ")),
        "{error}"
    );
    let recovered = async {
        loop {
            if let Ok(outcome) = guest.poll().await {
                return outcome;
            }
        }
    };
    let outcome = tokio::time::timeout(10 * SECOND, recovered).await.unwrap();
    assert_eq!(reading(&outcome, "power.total"), Some(Some(1234.0)));
}

#[tokio::test]
async fn a_hole_in_the_registers_is_read_around() {
    let keys = r#""modbus_allow_gaps": true, "power_w": {"type": "int32", "address": 0},
        "import_wh": {"type": "uint32", "address": 40}"#;
    let (_server, bank, mut guest, _transports) = connected(Framing::Tcp, keys, meter()).await;
    let outcome = guest.poll().await.unwrap();
    assert_eq!(reading(&outcome, "energy.import"), Some(Some(65_536.0)), "{:?}", outcome.trouble);
    assert_eq!(bank.requests(), 3, "the whole, then each");
    guest.poll().await.unwrap();
    assert_eq!(bank.requests(), 5, "never the whole again");
}

#[test]
fn the_timing_of_a_definition_is_for_the_wires_it_is_about() {
    let definition = definition(
        r#""rtu": {"silence_period": 30, "silence_same_slave": true, "retries": 3, "rcv_timeout": 400},
        "tcp": {"connect_timeout": 700, "delay_after_connect": 90}, "modbus_read_max_registers": 20,
        "power_w": {"type": "int32", "address": 0}"#,
    );
    let ms = Duration::from_millis;
    let of = |url: &str| timed(&definition, &binding(url.parse().unwrap())).timing;
    let tcp = Timing {
        connect_timeout: Some(ms(700)),
        delay_after_connect: ms(90),
        max_registers: Some(20),
        ..Timing::default()
    };
    let rtu = |tcp: Timing| Timing { timeout: Some(ms(400)), gap: Some(ms(30)), retries: 3, ..tcp };
    let serial = Timing { max_registers: Some(20), ..Timing::default() };
    assert_eq!(of("tcp://10.0.0.1"), tcp);
    assert_eq!(of("rtutcp://10.0.0.1"), rtu(tcp.clone()));
    assert_eq!(of("rtu:///dev/ttyUSB0"), rtu(serial));
}
