//! Reads arguments and members of JSON bodies: each mistake names what was given, what was found and what would be
//! right. What may be secret (cards, PINs, passwords) is never repeated in a message. Pure.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::site::{BadDeviceId, DeviceId};

use super::{Call, Refusal, args, bad, required};

/// Most characters of a name, a label or a title.
pub(super) const NAME: usize = 200;
/// Most characters of a description.
pub(super) const DESCRIPTION: usize = 4_000;

/// The body as a JSON object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => Err(bad(format!("the body is {}; expected a JSON object", describe(&other)))),
        Err(error) => Err(bad(format!("the body is no JSON: {error}"))),
    }
}

/// A value as a message shows it.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("\"{}\"", args::short(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}

fn wrong(key: &str, wanted: &str, value: &Value) -> Refusal {
    bad(format!("{key}: expected {wanted}, found {}", describe(value)))
}

/// One line of text, at most `most` characters, without control characters.
pub(super) fn line(key: &str, value: &Value, most: usize) -> Result<String, Refusal> {
    checked(key, value, most, |c| c.is_control())
}

/// A formula as text; empty for none.
pub(super) fn formula(key: &str, value: &Value) -> Result<String, Refusal> {
    let Value::String(text) = value else { return Err(wrong(key, "a formula as text", value)) };
    if !text.is_empty() {
        crate::config::formula(text).map_err(|why| bad(format!("{key}: {why}")))?;
    }
    Ok(text.clone())
}

/// Whether a value that may be a number or a formula is a formula; a number as text is none.
pub(super) fn is_formula(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().parse::<f64>().is_err())
}

/// Text that may have several lines.
pub(super) fn lines(key: &str, value: &Value, most: usize) -> Result<String, Refusal> {
    checked(key, value, most, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

fn checked(key: &str, value: &Value, most: usize, refused: impl Fn(char) -> bool) -> Result<String, Refusal> {
    let Value::String(text) = value else { return Err(wrong(key, "a text", value)) };
    let length = text.chars().count();
    if length > most {
        return Err(bad(format!("{key}: the text has {length} characters; expected at most {most}")));
    }
    if let Some(at) = text.chars().position(refused) {
        return Err(bad(format!("{key}: there is a control character at position {at}; expected text without them")));
    }
    Ok(text.clone())
}

/// A whole number in a range, also written `16000.0`.
pub(super) fn whole(key: &str, value: &Value, range: RangeInclusive<i64>) -> Result<i64, Refusal> {
    let found = value.as_i64().or_else(|| value.as_f64().and_then(whole_of));
    let wanted = || format!("a whole number from {} to {}", range.start(), range.end());
    found.filter(|number| range.contains(number)).ok_or_else(|| wrong(key, &wanted(), value))
}

#[expect(clippy::cast_possible_truncation, reason = "only what is whole and fits")]
fn whole_of(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0).then_some(number as i64)
}

/// true or false, also as 1 or 0.
pub(super) fn flag(key: &str, value: &Value) -> Result<bool, Refusal> {
    match (value, value.as_f64()) {
        (Value::Bool(value), _) => Ok(*value),
        (_, Some(0.0)) => Ok(false),
        (_, Some(1.0)) => Ok(true),
        _ => Err(wrong(key, "true or false", value)),
    }
}

/// A list.
pub(super) fn list<'a>(key: &str, value: &'a Value) -> Result<&'a Vec<Value>, Refusal> {
    value.as_array().ok_or_else(|| wrong(key, "a list", value))
}

/// An object inside the body.
pub(super) fn inner<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| wrong(key, "an object", value))
}

/// Whether two JSON values mean the same: 1 and 1.0 do.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Whether a value says "none".
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "off",
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// A finite number of an argument.
pub(super) fn number_arg(name: &str, text: &str) -> Result<f64, Refusal> {
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    number.ok_or_else(|| bad(format!("{name}: expected a number, found \"{}\"", args::short(text))))
}

/// An argument that is 1 or 0; absent it is 0.
pub(super) fn flag_arg(call: &Call, name: &str) -> Result<bool, Refusal> {
    match call.args.get(name) {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(other) => Err(bad(format!("{name}: expected 0 or 1, found \"{}\"", args::short(other)))),
    }
}

/// `dev_id`, which has to be there and to have the form of a device id.
pub(super) fn device_arg(call: &Call, example: &str) -> Result<DeviceId, Refusal> {
    // What is no id at all is no device either: clients know one answer for both.
    device(required(call, "dev_id", example)?).map_err(|_| Refusal::Exact(super::UNKNOWN_DEVICE))
}

/// A device id.
pub(super) fn device(text: &str) -> Result<DeviceId, BadDeviceId> {
    text.parse()
}
