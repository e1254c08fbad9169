//! Cases of `fixtures/`, the requests of each action, and the order of reads and writes.

use ladekern_plugin_sdk::fixtures::{self, Recorded};
use ladekern_plugin_sdk::{Error, Info, Json, ModbusPort, Outcome, modbus};

use crate::{PowerBrain, decode};

const STATE: &str = r#"{"fc":3,"start":8092,"hex":"0002 00A0 0001"}"#;

fn device(blocks: &[&str]) -> Recorded {
    Recorded::parse(&format!(r#"{{"kind":"modbus","blocks":[{}]}}"#, blocks.join(",")), None).unwrap()
}

fn start(device: Recorded) -> (PowerBrain<Recorded>, Info) {
    PowerBrain::start(device, &Json::parse("{}").unwrap()).unwrap()
}

fn sent(write: decode::Write) -> String {
    let device = Recorded::default();
    device.write_register(write.address, write.value).unwrap();
    device.take_sent().remove(0)
}

#[test]
fn recorded_registers() {
    fixtures::check_all(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"), |case| {
        let device = case.device()?;
        let mut device = Some(device);
        let opened = case.with_config(|config| {
            Ok(PowerBrain::start(device.take().unwrap_or_default(), config)
                .and_then(|(mut driver, info)| driver.read_all().map(|outcome: Outcome| (outcome, info))))
        })?;
        Ok(opened)
    })
    .unwrap();
}

#[test]
fn actions_are_the_documented_requests() {
    assert_eq!(sent(decode::current(10_400).unwrap()), "061F9D0068");
    assert_eq!(sent(decode::enabled(false)), "061F9E0000");
    assert_eq!(sent(decode::enabled(true)), "061F9E0001");
    assert_eq!(sent(decode::phases(1).unwrap()), "061F970001");
    assert_eq!(sent(decode::phases(3).unwrap()), "061F970000");
    assert_eq!(sent(decode::wake_up(5)), "061F960005");
}

#[test]
fn a_current_is_never_rounded_up_and_never_below_6_a() {
    assert_eq!(decode::current(6_099).unwrap().value, 60);
    assert_eq!(decode::current(32_000).unwrap().value, 320);
    for milliamps in [0, 1, 5_999, u32::MAX] {
        assert!(matches!(decode::current(milliamps), Err(Error::Unsupported(_))), "{milliamps}");
    }
}

#[test]
fn phases_are_switched_only_where_the_box_allows_it() {
    let (mut driver, info) = start(device(&[STATE, r#"{"fc":3,"start":8112,"hex":"0001 0100"}"#]));
    assert!(info.features.iter().any(|f| f == "phases.switch"));
    driver.switch_phases(1).unwrap();
    assert_eq!(driver.port.take_sent(), ["061F970001"]);
    assert!(matches!(driver.switch_phases(2), Err(Error::Unsupported(_))));

    for blocks in [vec![STATE], vec![STATE, r#"{"fc":3,"start":8112,"hex":"0001 0001"}"#]] {
        let (mut driver, info) = start(device(&blocks));
        assert!(!info.features.iter().any(|f| f == "phases.switch"));
        assert!(matches!(driver.switch_phases(1), Err(Error::Unsupported(_))));
        assert!(driver.port.take_sent().is_empty());
    }
}

#[test]
fn flash_is_written_only_when_it_has_to_change() {
    let armed = r#"{"fc":3,"start":8083,"hex":"0000 003C 003C"}"#;
    let (mut driver, _) = start(device(&[STATE, armed]));
    driver.arm_failsafe(6_000, 60).unwrap();
    assert!(driver.port.take_sent().is_empty(), "it is armed like this already");
    driver.arm_failsafe(8_000, 60).unwrap();
    assert_eq!(driver.port.take_sent(), ["061F950050"]);
    driver.arm_failsafe(0, 70_000).unwrap();
    assert_eq!(driver.port.take_sent(), ["061F950000", "101F9300020400011170"]);

    let (mut driver, _) = start(device(&[STATE]));
    assert!(matches!(driver.arm_failsafe(6_000, 60), Err(Error::Unsupported(_))));
}

#[test]
fn a_poll_writes_nothing() {
    let (mut driver, _) = start(device(&[STATE]));
    for _ in 0..3 {
        driver.read_all().unwrap();
    }
    assert!(driver.port.take_sent().is_empty());
}

#[test]
fn one_request_or_several_say_the_same() {
    let mut words = vec![0_u16; 28];
    for (at, word) in [(4, 200), (6, 0x0102), (7, 0x00A0), (8, 1), (10, 0x3031), (26, 0), (27, 0x0100)] {
        words[at] = word;
    }
    let hex = |words: &[u16]| words.iter().map(|word| format!("{word:04X}")).collect::<String>();
    let block = |start: usize, words: &[u16]| format!(r#"{{"fc":3,"start":{start},"hex":"{}"}}"#, hex(words));
    let (mut whole, _) = start(device(&[&block(8086, &words)]));
    assert!(whole.whole);
    let spans: [(usize, usize); 5] = [(1, 1), (4, 1), (6, 3), (10, 15), (26, 2)];
    let blocks: Vec<String> = spans.iter().map(|(at, n)| block(8086 + at, &words[*at..at + n])).collect();
    let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
    let (mut parts, _) = start(device(&blocks));
    assert!(!parts.whole);
    assert_eq!(whole.read_all().unwrap(), parts.read_all().unwrap());
    assert_eq!(whole.read_all().unwrap().value("limit.cable"), Some(Some(20_000.0)));
}

/// Answers with one error whatever is asked.
struct Broken(fn() -> modbus::Error);

impl ModbusPort for Broken {
    fn read_holding(&self, _: u16, _: u16) -> Result<Vec<u16>, modbus::Error> {
        Err((self.0)())
    }
    fn read_input(&self, _: u16, _: u16) -> Result<Vec<u16>, modbus::Error> {
        Err((self.0)())
    }
    fn write_register(&self, _: u16, _: u16) -> Result<(), modbus::Error> {
        Err((self.0)())
    }
    fn write_registers(&self, _: u16, _: &[u16]) -> Result<(), modbus::Error> {
        Err((self.0)())
    }
}

#[test]
fn failures_tell_offline_from_nonsense() {
    let open = |error| PowerBrain::start(Broken(error), &Json::parse("{}").unwrap()).map(|_| ());
    assert!(matches!(open(|| modbus::Error::Timeout), Err(Error::Offline(_))));
    assert!(matches!(open(|| modbus::Error::Unreachable("x".into())), Err(Error::Offline(_))));
    assert!(matches!(open(|| modbus::Error::Exception(2)), Err(Error::Protocol(_))));
    assert!(matches!(open(|| modbus::Error::Denied("x".into())), Err(Error::Config(_))));
}

#[test]
fn another_vendors_box_is_not_operated() {
    let open = |vendor: &str| {
        let vendor = format!(r#"{{"fc":3,"start":8000,"hex":"{vendor}"}}"#);
        PowerBrain::start(device(&[STATE, &vendor]), &Json::parse("{}").unwrap()).map(|_| ())
    };
    assert_eq!(open("0000CF05"), Ok(()));
    assert_eq!(open("CF050000"), Ok(()));
    assert!(matches!(open("00010002"), Err(Error::Protocol(_))));
}

#[test]
fn short_and_strange_answers_never_panic() {
    for words in [vec![], vec![0xFFFF], vec![0xFFFF; 200]] {
        let raw = decode::Raw {
            state: words.clone(),
            cable: Some(words.clone()),
            relay: Some(words.clone()),
            rfid: Some(words.clone()),
            features: Some(words.clone()),
            meter: Some(words.clone()),
        };
        if let Ok(outcome) = raw.outcome() {
            assert_eq!(outcome.value("power.total"), Some(None));
            assert_eq!(outcome.value("current.l1"), Some(None));
            assert_eq!(outcome.value("energy.import"), Some(None));
        }
        let _ = decode::Raw::from_control(&words).outcome();
        let _ = decode::failsafe(&words, 6_000, 60).unwrap();
        let _ = decode::info(Some(&words), Some(&words), Some(&words));
    }
}
