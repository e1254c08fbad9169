//! `modbus`, `modbus_get` and `modbus_set`: registers over HTTP and MQTT (`cfos-interfaces.md` 1.11 and 2.6).

mod remote;

use serde_json::{Map, Value};

use crate::contract::registers::{Content, Register, RegisterError, Shape, Shown};
use crate::modbus_server::{Registers, Writer};
use crate::site::DeviceId;

use super::{Answer, Api, Call, Refusal, admin, args, bad};

pub(super) use remote::{get, set};

const WRONG_SIZE: Refusal = Refusal::Exact("bad modbus register size");
const NO_DEVICE: Refusal = Refusal::Exact("unknown device");
const NO_REGISTER: Refusal = Refusal::Exact("bad modbus register");

/// More values than the map has registers are wanted by nobody.
const MAX_COUNT: u16 = 125;

/// `modbus`: registers of our own map, whether the Modbus server runs or not.
pub(super) async fn registers(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    admin(call)?;
    let id = device(api, call)?;
    match (call.args.get("read"), call.args.get("write")) {
        (Some("all"), None) => api.registers.read(&id, |shown| Ok(all(shown))).await.map(|all| Answer::of(&all)),
        (Some(register), None) => {
            let asked = Asked::parse(register, "read")?;
            let count = count(call)?;
            let value = api.registers.read(&id, |shown| Ok(read(shown, asked, count))).await;
            return Ok(Answer::of(&value.map_err(refused)??));
        }
        (None, Some(register)) => {
            let asked = Asked::parse(register, "write")?;
            let width = api.registers.read(&id, |shown| Ok(width(shown, asked))).await.map_err(refused)??;
            let mut words = Vec::new();
            for value in values(call)? {
                words.extend(words_of(value, width)?);
            }
            api.registers.write(Writer::Call, &id, asked.number, &words).await.map(|()| Answer::of(&"ok"))
        }
        (Some(_), Some(_)) => return Err(bad("read and write are two calls")),
        (None, None) => return Err(bad("read or write is missing, like read=8092, read=all or write=8093&value=160")),
    }
    .map_err(refused)
}

fn refused(error: RegisterError) -> Refusal {
    match error {
        RegisterError::Address(text) | RegisterError::Value(text) => bad(text),
        RegisterError::Device(text) | RegisterError::Busy(text) => Refusal::NotNow(text),
    }
}

/// `evse`, `meter1`, `meter2` as the Modbus server shows them, or one of our ids.
fn device(api: &Api, call: &Call) -> Result<DeviceId, Refusal> {
    let config = api.source.config.borrow();
    let id = match call.args.get("device") {
        Some("evse") => Registers::on_port(&config, 0),
        Some("meter1") => Registers::on_port(&config, 1),
        Some("meter2") => Registers::on_port(&config, 2),
        Some(id) => id.parse().ok().filter(|id| config.devices.iter().any(|device| device.id == *id)),
        None => None,
    };
    id.ok_or(NO_DEVICE)
}

/// `8058q`: a register and how wide the caller believes it to be.
#[derive(Clone, Copy)]
struct Asked {
    number: u16,
    /// Words; 0 for a text.
    width: u16,
}

impl Asked {
    fn parse(text: &str, argument: &str) -> Result<Self, Refusal> {
        let (digits, width) = match text.split_at_checked(text.len().saturating_sub(1)) {
            Some((digits, "d")) => (digits, 2),
            Some((digits, "q")) => (digits, 4),
            Some((digits, "s")) => (digits, 0),
            _ => (text, 1),
        };
        let number = number_of(digits).and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or_else(|| {
            let text = args::short(text);
            bad(format!("{argument}: \"{text}\" is no register; expected a number with d, q, s or nothing behind it"))
        })?;
        Ok(Self { number, width })
    }
}

/// The width of the register that is meant, if the caller is right about it.
fn width(shown: &Shown<'_>, asked: Asked) -> Result<u16, Refusal> {
    let register = shown.at(asked.number).ok_or(NO_REGISTER)?;
    match register.shape {
        // The documentation reads texts word by word too.
        Shape::Text if asked.width == 1 => Ok(1),
        Shape::Text if asked.width == 0 && asked.number == register.number => Ok(register.width),
        // The documentation says two words, and the second of them is a register of its own.
        Shape::Number if asked.number == 8004 && asked.width == 2 => Ok(2),
        Shape::Number if asked.width == register.width && asked.number == register.number => Ok(register.width),
        _ => Err(WRONG_SIZE),
    }
}

fn read(shown: &Shown<'_>, asked: Asked, count: Option<u16>) -> Result<Value, Refusal> {
    let mut values = Vec::new();
    let mut at = asked;
    for _ in 0..count.unwrap_or(1) {
        let width = width(shown, at)?;
        let register = shown.at(at.number).ok_or(NO_REGISTER)?;
        if let Some(silent) = shown.silent(register) {
            return Err(Refusal::NotNow(silent));
        }
        values.push(match (shown.content(register), asked.width) {
            (Content::Text(text), 0) => Value::String(text),
            _ => {
                let words = shown.read(at.number, width).map_err(|_| NO_REGISTER)?;
                number(&words)
            }
        });
        at.number = at.number.checked_add(width).ok_or(NO_REGISTER)?;
    }
    Ok(if count.is_some() { Value::Array(values) } else { values.pop().unwrap_or_default() })
}

/// One word is unsigned, two and four are signed.
fn number(words: &[u16]) -> Value {
    let joined = words.iter().fold(0_u64, |value, word| value << 16 | u64::from(*word));
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "two's complement, as documented")]
    match words.len() {
        2 => (joined as u32 as i32).into(),
        4 => (joined as i64).into(),
        _ => joined.into(),
    }
}

/// Everything that can be read now, by register and suffix.
fn all(shown: &Shown<'_>) -> Map<String, Value> {
    let readable = shown.registers().filter(|register| shown.silent(register).is_none());
    readable.map(|register| (key(register), value(shown, register))).collect()
}

fn key(register: &Register) -> String {
    let suffix = match (register.shape, register.width) {
        (Shape::Text, _) => "s",
        (_, 2) => "d",
        (_, 4) => "q",
        _ => "",
    };
    format!("{}{suffix}", register.number)
}

fn value(shown: &Shown<'_>, register: &Register) -> Value {
    match shown.content(register) {
        Content::Text(text) => Value::String(text),
        Content::Number(_) => number(&shown.words(register)),
    }
}

fn count(call: &Call) -> Result<Option<u16>, Refusal> {
    let Some(text) = call.args.get("count") else { return Ok(None) };
    let count = text.parse().ok().filter(|count| (1..=MAX_COUNT).contains(count));
    count.map(Some).ok_or_else(|| bad(format!("count: \"{}\", expected 1 to {MAX_COUNT}", args::short(text))))
}

/// `value=160` or `values=[160,1]`.
fn values(call: &Call) -> Result<Vec<i64>, Refusal> {
    let one = |text: &str| number_of(text).ok_or_else(|| bad(format!("\"{}\" is no whole number", args::short(text))));
    match (call.args.get("value"), call.args.get("values")) {
        (Some(value), None) => Ok(vec![one(value)?]),
        (None, Some(list)) => {
            let wrong = || bad(format!("values: \"{}\", expected a list like [160,1]", args::short(list)));
            let inside = list.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or_else(wrong)?;
            let values: Result<Vec<i64>, Refusal> = inside.split(',').map(|value| one(value.trim())).collect();
            values.map_err(|_| wrong())
        }
        (Some(_), Some(_)) => Err(bad("value and values exclude each other")),
        (None, None) => Err(bad("value is missing, like value=160")),
    }
}

/// Decimal, also with a fraction of zero as some clients write it, or hexadecimal with 0x.
fn number_of(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return i64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with(['+', '-']));
    }
    let whole = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|digit| digit == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok()
}

/// A value as so many words, high word first.
fn words_of(value: i64, width: u16) -> Result<Vec<u16>, Refusal> {
    let bits = u32::from(width) * 16;
    let fits = bits >= 64 || (-(1_i64 << (bits - 1))..1_i64 << bits).contains(&value);
    if !fits {
        return Err(bad(format!("{value} does not fit into {bits} bits")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one word after the other")]
    Ok((0..width).rev().map(|word| (value >> (16 * u32::from(word))) as u16).collect())
}
