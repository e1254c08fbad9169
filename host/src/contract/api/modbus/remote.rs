//! `modbus_get` and `modbus_set`: registers of any device on the network, whether it is configured or not
//! (`cfos-interfaces.md` 2.6). Uses the bus that configured devices use, so there is one connection and one queue.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::config::{EndpointConfig, EndpointUrl, Parity, SerialLine, Timing};
use crate::transport::{Block, Modbus, ModbusError, Table};

use super::super::{Answer, Api, Call, Refusal, admin, args, bad, required};
use super::number_of;

/// One request.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The whole call, with the wait for others on the same bus.
const PATIENCE: Duration = Duration::from_secs(8);

/// How a value lies in the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Word,
    Double,
    Float,
    Quad,
    Text,
}

impl Kind {
    fn of(call: &Call) -> Result<Self, Refusal> {
        match call.args.get("type").unwrap_or("w") {
            "w" => Ok(Kind::Word),
            "d" => Ok(Kind::Double),
            "f" => Ok(Kind::Float),
            "q" => Ok(Kind::Quad),
            "s" => Ok(Kind::Text),
            other => Err(bad(format!("type: \"{}\", expected w, d, f, q or s", args::short(other)))),
        }
    }

    /// Words; 0 for a text, whose length the caller says.
    fn width(self) -> u16 {
        match self {
            Kind::Word => 1,
            Kind::Double | Kind::Float => 2,
            Kind::Quad => 4,
            Kind::Text => 0,
        }
    }
}

/// What both commands are about.
struct Target {
    wire: Arc<dyn Modbus>,
    address: u16,
    kind: Kind,
    low_first: bool,
}

impl Target {
    fn of(api: &Api, call: &Call) -> Result<Self, Refusal> {
        admin(call)?;
        let url = address(required(call, "addr", "192.168.1.20:502")?)?;
        let unit = match call.args.get("id") {
            None => 1,
            Some(text) => number_of(text)
                .and_then(|unit| u8::try_from(unit).ok())
                .ok_or_else(|| bad(format!("id: \"{}\", expected a Modbus unit, 0 to 255", args::short(text))))?,
        };
        let register = required(call, "reg", "8092")?;
        let address = number_of(register)
            .and_then(|register| u16::try_from(register).ok())
            .ok_or_else(|| bad(format!("reg: \"{}\", expected 0 to 65535 or 0x…", args::short(register))))?;
        let kind = Kind::of(call)?;
        let low_first = match call.args.get("order") {
            None | Some("hl") => false,
            Some("lh") if matches!(kind, Kind::Double | Kind::Float | Kind::Quad) => true,
            Some("lh") => return Err(bad("order: a word or a text has no order of words; lh is for d, f and q")),
            Some(other) => return Err(bad(format!("order: \"{}\", expected hl or lh", args::short(other)))),
        };
        let config = EndpointConfig {
            url,
            unit: Some(unit),
            timeout: Some(TIMEOUT),
            min_gap: None,
            read_only: false,
            topic_prefix: String::new(),
            user: None,
            password_file: None,
            timing: Timing::default(),
        };
        let wire = api.transports.modbus(&config).ok_or_else(|| bad("addr: this is no Modbus address"))?;
        Ok(Self { wire, address, kind, low_first })
    }

    /// The words as the wire has them, or the other way round.
    fn ordered(&self, mut words: Vec<u16>) -> Vec<u16> {
        if self.low_first {
            words.reverse();
        }
        words
    }
}

/// `modbus_get`
pub(in super::super) async fn get(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let target = Target::of(api, call)?;
    let table = match call.args.get("func") {
        None | Some("3") => Table::Holding,
        Some("4") => Table::Input,
        Some(other) => return Err(bad(format!("func: \"{}\", expected 3 or 4 to read", args::short(other)))),
    };
    let count = match (target.kind, call.args.get("cnt")) {
        (Kind::Text, Some(text)) => length(text)?,
        (Kind::Text, None) => return Err(bad("cnt is missing: how many registers the text takes, like cnt=8")),
        (_, Some(_)) => return Err(bad("cnt is for texts only (type=s)")),
        (kind, None) => kind.width(),
    };
    let block = Block { table, address: target.address, count };
    let words = within(target.wire.read(block)).await?;
    value(target.kind, &target.ordered(words)).map(|value| Answer::of(&value))
}

/// `modbus_set`
pub(in super::super) async fn set(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let target = Target::of(api, call)?;
    let text = required(call, "val", "1")?;
    let length = call.args.get("cnt").map(length).transpose()?;
    let words = target.ordered(words(target.kind, text, length)?);
    let single = match (call.args.get("func"), words.as_slice()) {
        (None | Some("6"), [word]) => Some(*word),
        (None | Some("16"), _) => None,
        (Some("6"), _) => return Err(bad("func: 6 writes one register; 16 is for more")),
        (Some(other), _) => return Err(bad(format!("func: \"{}\", expected 6 or 16 to write", args::short(other)))),
    };
    match single {
        Some(word) => within(target.wire.write_register(target.address, word)).await?,
        None => within(target.wire.write_registers(target.address, words)).await?,
    }
    Ok(Answer::of(&"ok"))
}

async fn within<T>(request: impl Future<Output = Result<T, ModbusError>>) -> Result<T, Refusal> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error @ (ModbusError::Timeout | ModbusError::Unreachable(_)))) => {
            Err(Refusal::NotNow(error.to_string()))
        }
        Ok(Err(error)) => Err(bad(error.to_string())),
        Err(_) => Err(Refusal::NotNow(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

fn length(text: &str) -> Result<u16, Refusal> {
    let length = text.parse().ok().filter(|length| (1..=123).contains(length));
    length.ok_or_else(|| bad(format!("cnt: \"{}\", expected 1 to 123 registers", args::short(text))))
}

/// `ip:port`, `COM1,9600,8,n,1`, `/dev/ttyUSB0,9600,8,n,1`, or an address as the configuration writes it.
fn address(text: &str) -> Result<EndpointUrl, Refusal> {
    let wrong = |why: &str| {
        let text = args::short(text);
        bad(format!("addr: \"{text}\": {why}; expected host:port or /dev/ttyUSB0,9600,8,n,1 or COM1,9600,8,n,1"))
    };
    if text.contains(',') {
        return serial(text).map(EndpointUrl::ModbusRtu).map_err(wrong);
    }
    let url = if text.contains("://") { text.to_owned() } else { format!("tcp://{text}") };
    let url: EndpointUrl = url.parse().map_err(|error: crate::config::BadUrl| wrong(&error.to_string()))?;
    match url {
        EndpointUrl::Http(_) | EndpointUrl::Mqtt(_) => Err(wrong("this is no Modbus address")),
        modbus => Ok(modbus),
    }
}

fn serial(text: &str) -> Result<SerialLine, &'static str> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [path, baud, bits, parity, stop_bits] = parts.as_slice() else {
        return Err("a serial line has five parts");
    };
    if path.is_empty() {
        return Err("the line has no name");
    }
    if *bits != "8" {
        return Err("Modbus RTU has 8 data bits");
    }
    let baud = baud.parse().ok().filter(|baud| (300..=1_000_000).contains(baud));
    let baud = baud.ok_or("the second part is the speed, 300 to 1000000")?;
    let parity = match parity.to_ascii_lowercase().as_str() {
        "n" => Parity::None,
        "e" => Parity::Even,
        "o" => Parity::Odd,
        _ => return Err("the parity is n, e or o"),
    };
    let stop_bits = match *stop_bits {
        "1" => 1,
        "2" => 2,
        _ => return Err("there are 1 or 2 stop bits"),
    };
    Ok(SerialLine { path: (*path).to_owned(), baud, parity, stop_bits })
}

fn value(kind: Kind, words: &[u16]) -> Result<Value, Refusal> {
    let short = || bad("the answer is shorter than what was asked for");
    let joined = words.iter().fold(0_u64, |value, word| value << 16 | u64::from(*word));
    if words.len() != usize::from(kind.width()) && kind != Kind::Text {
        return Err(short());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "two's complement")]
    Ok(match kind {
        Kind::Word => joined.into(),
        Kind::Double => (joined as u32 as i32).into(),
        Kind::Quad => (joined as i64).into(),
        Kind::Float => {
            let float = f32::from_bits(joined as u32);
            let finite = || bad(format!("the device answered {float}, which is no number"));
            serde_json::Number::from_f64(shortest(float)).map(Value::Number).ok_or_else(finite)?
        }
        Kind::Text => {
            let bytes: Vec<u8> =
                words.iter().flat_map(|word| word.to_be_bytes()).take_while(|byte| *byte != 0).collect();
            String::from_utf8_lossy(&bytes).trim_end().to_owned().into()
        }
    })
}

/// 0.1 as 0.1 and not as the digits a double needs for the nearest float.
fn shortest(float: f32) -> f64 {
    float.to_string().parse().unwrap_or(f64::from(float))
}

fn words(kind: Kind, text: &str, length: Option<u16>) -> Result<Vec<u16>, Refusal> {
    let wrong = |wanted: &str| bad(format!("val: \"{}\", expected {wanted}", args::short(text)));
    if kind == Kind::Text {
        return text_words(text, length);
    }
    if length.is_some() {
        return Err(bad("cnt is for texts only (type=s)"));
    }
    if kind == Kind::Float {
        let float = text.parse::<f32>().ok().filter(|float| float.is_finite()).ok_or_else(|| wrong("a number"))?;
        let [a, b, c, d] = float.to_be_bytes();
        return Ok(vec![u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
    }
    let number = number_of(text).ok_or_else(|| wrong("a whole number, decimal or 0x…"))?;
    super::words_of(number, kind.width())
}

/// Two characters per register, padded with NUL up to `length` registers.
fn text_words(text: &str, length: Option<u16>) -> Result<Vec<u16>, Refusal> {
    if !text.is_ascii() {
        return Err(bad("val: a text is ASCII, two characters per register"));
    }
    let needed = text.len().div_ceil(2).max(1);
    let length = length.map_or(needed, usize::from);
    if needed > length || length > 123 {
        return Err(bad(format!("val: the text takes {needed} registers, there is room for {}", length.min(123))));
    }
    let mut bytes = text.bytes().chain(std::iter::repeat(0));
    let mut byte = || bytes.next().unwrap_or_default();
    Ok((0..length).map(|_| u16::from_be_bytes([byte(), byte()])).collect())
}
