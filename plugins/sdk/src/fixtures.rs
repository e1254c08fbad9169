//! Tests of a plugin without a device and without a host: `fixtures/<case>/input.json` is what the device said once,
//! `expect.json` what must come out of it. `cargo test` runs them natively; the host runs the same folders against the component.
//!
//! `input.json` has one of these forms:
//! * the JSON body of one HTTP answer;
//! * `{"kind":"http","responses":[{"request":"GET /status","status":200,"body":…}]}`;
//! * `{"kind":"mqtt","messages":[{"topic":"tele/x/SENSOR","payload":"…"}]}` in the order of arrival;
//! * `{"kind":"modbus","blocks":[{"fc":4,"start":0,"hex":"43671EB8"}]}`; a read outside of the blocks gets exception 2.
//!
//! `expect.json` names values in the project's units: `power_w`, `power_phase_w[3]`, `voltage[3]`, `current[3]` in mA, `frequency`,
//! `import_wh`, `export_wh`, `session_wh`, `state` (A to F), `enabled`, `limit_ma`, `phases`, `rfid`, `error`, `phase_switch`.
//! `null` is unknown, a missing key is not checked. `_meta` may hold `config`, `topic_prefix`, `request`, `tolerance` and `accept`
//! by key, and `error` with the kind of error that must come instead.
//!
//! It is no part of a component and knows nothing of the host.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use crate::decoder::Table;
use crate::payload::{Message, Payload};
use crate::{Connector, Decoder, Error, HttpPort, Info, Json, ModbusPort, Outcome, PayloadDecoder, http, modbus};

/// One folder of fixtures.
#[derive(Debug)]
pub struct Case {
    /// Name of the folder.
    pub name: String,
    input: String,
    expect: String,
}

/// Reads every folder below `dir`.
///
/// # Errors
/// A sentence that names the file.
pub fn cases(dir: impl AsRef<Path>) -> Result<Vec<Case>, String> {
    let dir = dir.as_ref();
    let told = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let mut cases = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| told(dir, e))? {
        let folder = entry.map_err(|e| told(dir, e))?.path();
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|e| told(&path, e))
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        cases.push(Case { name, input: read("input.json")?, expect: read("expect.json")? });
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    if cases.is_empty() { Err(format!("{}: no case", dir.display())) } else { Ok(cases) }
}

/// Runs all cases below `dir` through a register decoder.
///
/// # Errors
/// Every difference, one a line.
pub fn check_decoder<D: Decoder>(dir: impl AsRef<Path>) -> Result<(), String> {
    check_all(dir, |case| {
        let (mut decoder, plan) = case.with_config(D::open)?;
        let device = case.device()?;
        let mut blocks = Vec::with_capacity(plan.len());
        for block in plan {
            match device.read(block.table, block.address, block.count) {
                Ok(words) => blocks.push(Some(words)),
                Err(_) if block.optional => blocks.push(None),
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(decoder.decode(&blocks).map(|outcome| (outcome, Info::new())))
    })
}

/// Runs all cases below `dir` through a payload decoder.
///
/// # Errors
/// Every difference, one a line.
pub fn check_payload_decoder<D: PayloadDecoder>(dir: impl AsRef<Path>) -> Result<(), String> {
    check_all(dir, |case| {
        let (mut decoder, wants) = case.with_config(D::open)?;
        let device = case.device()?;
        let mut messages = Vec::new();
        for fetch in &wants.fetches {
            if let Some((_, body)) = device.answer(&fetch.path) {
                messages.push((fetch.endpoint.clone(), fetch.path.clone(), body));
            }
        }
        let prefix = case.topic_prefix(&device.messages)?;
        for (topic, payload) in &device.messages {
            let Some(relative) = topic.strip_prefix(&prefix).map(|rest| rest.trim_start_matches('/')) else { continue };
            if let Some(wanted) = wants.subscriptions.iter().find(|s| topic_matches(&s.filter, relative)) {
                messages.push((wanted.endpoint.clone(), relative.to_owned(), payload.clone()));
            }
        }
        let mut merged = Outcome::new();
        for (endpoint, source, text) in messages {
            match decoder.decode(&Message { endpoint, source, payload: Payload::Text(text) }) {
                Ok(Some(outcome)) => merge(&mut merged, outcome),
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok((merged, Info::new())))
    })
}

/// Runs `run` on every case below `dir` and compares what comes out.
///
/// # Errors
/// Every difference, one a line.
pub fn check_all(
    dir: impl AsRef<Path>,
    run: impl Fn(&Case) -> Result<Result<(Outcome, Info), Error>, String>,
) -> Result<(), String> {
    let mut differences = Vec::new();
    for case in cases(dir)? {
        match run(&case).and_then(|result| case.check(&result)) {
            Ok(found) => differences.extend(found),
            Err(error) => differences.push(format!("{}: {error}", case.name)),
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

impl Case {
    /// Runs `open` with the case's configuration.
    ///
    /// # Errors
    /// A sentence that names the case.
    pub fn with_config<R>(&self, open: impl FnOnce(&Json<'_>) -> Result<R, Error>) -> Result<R, String> {
        let expect = self.expectation()?;
        let empty = Json::Object(Vec::new());
        let config = expect.get("_meta").and_then(|meta| meta.get("config")).unwrap_or(&empty);
        open(config).map_err(|error| format!("open: {error:?}"))
    }

    /// What the device said, as endpoints.
    ///
    /// # Errors
    /// A sentence that names the case.
    pub fn device(&self) -> Result<Recorded, String> {
        let expect = self.expectation()?;
        let request = expect.get("_meta").and_then(|meta| meta.get("request")).and_then(Json::text);
        Recorded::parse(&self.input, request).map_err(|error| format!("{}/input.json: {error}", self.name))
    }

    /// Differences between `result` and what the case expects.
    ///
    /// # Errors
    /// The expectation itself is no good.
    pub fn check(&self, result: &Result<(Outcome, Info), Error>) -> Result<Vec<String>, String> {
        let expect = self.expectation()?;
        let meta = |name: &str, key: &str| expect.get("_meta")?.get(name)?.get(key);
        let wanted = expect.get("_meta").and_then(|meta| meta.get("error")).and_then(Json::text);
        let (outcome, info) = match (result, wanted) {
            (Ok(result), None) => result,
            (Err(error), Some(kind)) if kind == kind_of(error) => return Ok(Vec::new()),
            (other, Some(kind)) => return Ok(vec![format!("{}: expected an error {kind}, got {other:?}", self.name)]),
            (Err(error), None) => return Ok(vec![format!("{}: {error:?}", self.name)]),
        };
        let mut differences = Vec::new();
        for (key, expected) in expect.members().iter().filter(|(key, _)| key != "_meta") {
            let actual = Value::of(key, outcome, info).ok_or_else(|| format!("{}: no key {key}", self.name))?;
            let tolerance = meta("tolerance", key).and_then(Json::number).unwrap_or_else(|| tolerance(key));
            let others = meta("accept", key).map(Json::elements).unwrap_or_default();
            if !std::iter::once(expected).chain(others).any(|expected| actual.equals(expected, tolerance)) {
                differences.push(format!("{}: {key} is {actual:?}, expected {expected:?}", self.name));
            }
        }
        Ok(differences)
    }

    fn expectation(&self) -> Result<Json<'_>, String> {
        Json::parse(&self.expect).map_err(|error| format!("{}/expect.json: {error}", self.name))
    }

    /// What the user would have bound: as `_meta` says, else the folders that all topics share.
    fn topic_prefix(&self, messages: &[(String, String)]) -> Result<String, String> {
        let expect = self.expectation()?;
        if let Some(prefix) = expect.get("_meta").and_then(|meta| meta.get("topic_prefix")).and_then(Json::text) {
            return Ok(prefix.to_owned());
        }
        let mut folders = messages.iter().map(|(topic, _)| topic.rsplit_once('/').map_or("", |(folder, _)| folder));
        let mut common: Vec<&str> = folders.next().unwrap_or_default().split('/').collect();
        for folder in folders {
            let same = common.iter().zip(folder.split('/')).take_while(|(a, b)| **a == *b).count();
            common.truncate(same);
        }
        Ok(common.join("/"))
    }
}

/// A recorded device: answers what it was asked when it was recorded, and notes what is written to it.
#[derive(Debug, Default)]
pub struct Recorded {
    blocks: Vec<(u8, u16, Vec<u16>)>,
    answers: Vec<(Option<String>, u16, String)>,
    messages: Vec<(String, String)>,
    /// Each write as the PDU on the wire in hexadecimal, each request as `GET /path`; in their order.
    pub sent: RefCell<Vec<String>>,
}

impl Recorded {
    /// Reads one of the forms of `input.json`. `request` (such as `GET /status`) says which request a plain JSON body
    /// answers; without it the body answers every request.
    ///
    /// # Errors
    /// A sentence about the first part that is not as it should be.
    pub fn parse(input: &str, request: Option<&str>) -> Result<Self, String> {
        let json = Json::parse(input).map_err(|error| error.to_string())?;
        let mut device = Self::default();
        let list = |name: &str| json.get(name).map(Json::elements).unwrap_or_default();
        let text = |value: &Json<'_>, key: &str| {
            value
                .get(key)
                .and_then(Json::text)
                .map(str::to_owned)
                .ok_or_else(|| format!("no text \"{key}\" in {value:?}"))
        };
        let number = |value: &Json<'_>, key: &str| {
            let number = value.get(key).and_then(Json::integer).and_then(|n| u16::try_from(n).ok());
            number.ok_or_else(|| format!("no number \"{key}\" in {value:?}"))
        };
        match json.get("kind").and_then(Json::text) {
            Some("modbus") => {
                for block in list("blocks") {
                    let function = u8::try_from(number(block, "fc")?).map_err(|e| e.to_string())?;
                    device.blocks.push((function, number(block, "start")?, words(&text(block, "hex")?)?));
                }
            }
            Some("mqtt") => {
                for message in list("messages") {
                    device.messages.push((text(message, "topic")?, text(message, "payload")?));
                }
            }
            Some("http") => {
                for answer in list("responses") {
                    let path = path_of(&text(answer, "request")?);
                    let body = answer.get("body").map(print).unwrap_or_default();
                    device.answers.push((path, number(answer, "status").unwrap_or(200), body));
                }
            }
            _ => device.answers.push((request.and_then(path_of), 200, input.to_owned())),
        }
        Ok(device)
    }

    /// Registers as the device has them now.
    ///
    /// # Errors
    /// Exception 2 outside of the recorded blocks.
    pub fn read(&self, table: Table, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error> {
        let function = match table {
            Table::Coils => 1,
            Table::Discrete => 2,
            Table::Holding => 3,
            Table::Input => 4,
        };
        let held = self.blocks.iter().filter(|(f, ..)| *f == function).find_map(|(_, start, words)| {
            let from = usize::from(address.checked_sub(*start)?);
            words.get(from..from + usize::from(count))
        });
        held.map(<[u16]>::to_vec).ok_or(modbus::Error::Exception(2))
    }

    /// What was written or requested since the last call.
    pub fn take_sent(&self) -> Vec<String> {
        self.sent.take()
    }

    fn answer(&self, path: &str) -> Option<(u16, String)> {
        let without_query = |path: &str| path.split_once('?').map_or(path, |(path, _)| path).to_owned();
        let exact = self.answers.iter().find(|(p, ..)| p.as_deref() == Some(path));
        let same = |p: &Option<String>| p.as_deref().is_none_or(|p| without_query(p) == without_query(path));
        let found = exact.or_else(|| self.answers.iter().find(|(p, ..)| same(p)));
        found.map(|(_, status, body)| (*status, body.clone()))
    }
}

impl ModbusPort for Recorded {
    fn read_holding(&self, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error> {
        self.read(Table::Holding, address, count)
    }
    fn read_input(&self, address: u16, count: u16) -> Result<Vec<u16>, modbus::Error> {
        self.read(Table::Input, address, count)
    }
    fn write_register(&self, address: u16, value: u16) -> Result<(), modbus::Error> {
        self.sent.borrow_mut().push(format!("06{address:04X}{value:04X}"));
        Ok(())
    }
    fn write_registers(&self, address: u16, values: &[u16]) -> Result<(), modbus::Error> {
        let data: String = values.iter().map(|value| format!("{value:04X}")).collect();
        self.sent.borrow_mut().push(format!("10{address:04X}{:04X}{:02X}{data}", values.len(), values.len() * 2));
        Ok(())
    }
}

impl HttpPort for Recorded {
    fn send(&self, request: &http::Request) -> Result<http::Response, http::Error> {
        let method = format!("{:?}", request.method).rsplit("::").next().unwrap_or_default().to_ascii_uppercase();
        self.sent.borrow_mut().push(format!("{method} {}", request.path));
        let (status, body) = self.answer(&request.path).unwrap_or((404, String::new()));
        Ok(http::Response { status, headers: Vec::new(), body: body.into_bytes() })
    }
}

/// The path in the words of a request.
fn path_of(request: &str) -> Option<String> {
    request.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned)
}

/// MQTT's rules for `+` and `#`.
fn topic_matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for part in filter.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            (part, Some(level)) if part == "+" || part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

fn merge(all: &mut Outcome, new: Outcome) {
    all.readings.retain(|old| !new.readings.iter().any(|reading| reading.quantity == old.quantity));
    all.readings.extend(new.readings);
    all.texts.retain(|old| !new.texts.iter().any(|text| text.name == old.name));
    all.texts.extend(new.texts);
    all.connector = new.connector.or(all.connector);
}

fn kind_of(error: &Error) -> &'static str {
    match error {
        Error::Offline(_) => "offline",
        Error::Protocol(_) => "protocol",
        Error::Config(_) => "config",
        Error::Unsupported(_) => "unsupported",
        Error::Other(_) => "other",
    }
}

fn words(hex: &str) -> Result<Vec<u16>, String> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let word = |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|word| u16::from_str_radix(word, 16).ok());
    let (registers, rest) = digits.as_chunks::<4>();
    let all: Option<Vec<u16>> = registers.iter().map(|digits| word(digits)).collect();
    all.filter(|_| rest.is_empty()).ok_or_else(|| format!("\"{hex}\" is not made of registers of four digits"))
}

/// The text of a value; a text stands for itself, as a body that is no JSON.
fn print(value: &Json<'_>) -> String {
    fn inner(value: &Json<'_>) -> String {
        match value {
            Json::Null => "null".into(),
            Json::Bool(flag) => flag.to_string(),
            Json::Number(number) => (*number).into(),
            Json::Text(text) => crate::json::quote(text),
            Json::Array(list) => format!("[{}]", list.iter().map(inner).collect::<Vec<_>>().join(",")),
            Json::Object(members) => {
                let member = |(key, value): &(std::borrow::Cow<'_, str>, Json<'_>)| {
                    format!("{}:{}", crate::json::quote(key), inner(value))
                };
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }
    value.text().map_or_else(|| inner(value), str::to_owned)
}

/// Absolute, in the unit of the key.
fn tolerance(key: &str) -> f64 {
    match key {
        "power_w" | "power_phase_w" => 0.05,
        "voltage" => 0.01,
        "current" => 1.0,
        "frequency" => 0.002,
        "import_wh" | "export_wh" | "session_wh" => 0.5,
        _ => 0.0,
    }
}

/// A decoded value under a key of `expect.json`.
#[derive(Debug)]
enum Value {
    Number(Option<f64>),
    Phases([Option<f64>; 3]),
    Flag(Option<bool>),
    Text(Option<String>),
}

impl Value {
    fn of(key: &str, outcome: &Outcome, info: &Info) -> Option<Self> {
        let number = |name: &str| outcome.value(name).flatten();
        let phases = |name: &str| Self::Phases(crate::PHASES.map(|phase| number(&format!("{name}.{phase}"))));
        Some(match key {
            "power_w" => Self::Number(number("power.total")),
            "power_phase_w" => phases("power"),
            "voltage" => phases("voltage"),
            "current" => phases("current"),
            "frequency" => Self::Number(number("frequency")),
            "import_wh" => Self::Number(number("energy.import")),
            "export_wh" => Self::Number(number("energy.export")),
            "session_wh" => Self::Number(number("energy.session")),
            "limit_ma" => Self::Number(number("limit.current")),
            "phases" => Self::Number(number("phases.active")),
            "error" => Self::Number(number("error.code")),
            "enabled" => Self::Flag(number("charging.enabled").map(|value| value != 0.0)),
            "phase_switch" => Self::Flag(Some(info.features.iter().any(|feature| feature == "phases.switch"))),
            "state" => Self::Text(outcome.connector.and_then(letter).map(str::to_owned)),
            "rfid" => {
                let text = outcome.texts.iter().find(|text| text.name == "rfid" && !text.value.is_empty());
                Self::Text(text.map(|text| text.value.clone()))
            }
            _ => return None,
        })
    }

    fn equals(&self, expected: &Json<'_>, tolerance: f64) -> bool {
        let near = |actual: Option<f64>, expected: &Json<'_>| match (actual, expected) {
            (None, Json::Null) => true,
            (Some(actual), Json::Number(_)) => {
                expected.number().is_some_and(|expected| (actual - expected).abs() <= tolerance)
            }
            _ => false,
        };
        match self {
            Self::Number(actual) => near(*actual, expected),
            Self::Phases(actual) => {
                let expected = expected.elements();
                expected.len() == 3 && actual.iter().zip(expected).all(|(actual, expected)| near(*actual, expected))
            }
            Self::Flag(None) | Self::Text(None) => expected.is_null(),
            Self::Flag(Some(actual)) => *expected == Json::Bool(*actual),
            Self::Text(Some(actual)) => expected.text() == Some(actual),
        }
    }
}

fn letter(connector: Connector) -> Option<&'static str> {
    Some(match connector {
        Connector::Unknown => return None,
        Connector::Available => "A",
        Connector::Connected => "B",
        Connector::Charging => "C",
        Connector::Ventilation => "D",
        Connector::NoPilot => "E",
        Connector::Fault => "F",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_mqtt() {
        for (filter, topic, matches) in [
            ("SENSOR", "SENSOR", true),
            ("+/x", "a/x", true),
            ("a/#", "a/b/c", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("+", "a/b", false),
        ] {
            assert_eq!(topic_matches(filter, topic), matches, "{filter} {topic}");
        }
    }

    #[test]
    fn a_read_outside_of_the_blocks_is_exception_2() {
        let device =
            Recorded::parse(r#"{"kind":"modbus","blocks":[{"fc":3,"start":10,"hex":"0001 0002"}]}"#, None).unwrap();
        assert_eq!(device.read_holding(10, 2), Ok(vec![1, 2]));
        assert_eq!(device.read_holding(11, 2), Err(modbus::Error::Exception(2)));
        assert_eq!(device.read_holding(9, 1), Err(modbus::Error::Exception(2)));
        assert_eq!(device.read_input(10, 1), Err(modbus::Error::Exception(2)));
    }

    #[test]
    fn unknown_is_never_zero() {
        let mut outcome = Outcome::new();
        outcome.set("power.total", None);
        let value = Value::of("power_w", &outcome, &Info::new()).unwrap();
        assert!(value.equals(&Json::Null, 1.0));
        assert!(!value.equals(&Json::Number("0"), 1.0));
    }
}
