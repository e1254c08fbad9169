//! From a part of the payload to a value.

use std::borrow::Cow;

use super::error::{Problem, quote};
use super::scan::Scanner;
use super::{MAX_TEXT, Marks};
use crate::registers::{dotted, scaled};
use crate::{Number, Shape, Value};

/// A part of a payload.
pub(super) enum Raw<'a> {
    Null,
    Bool(bool),
    /// As written.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// `an object`
    Container(&'static str),
}

impl<'a> Raw<'a> {
    /// From valid JSON without blanks around it.
    pub fn of_json(json: &'a [u8]) -> Result<Self, Problem> {
        let utf8 = || std::str::from_utf8(json).map_err(|_| Problem::BadText(quote(&String::from_utf8_lossy(json))));
        Ok(match json.first() {
            Some(b'"') => {
                let text = utf8()?;
                let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                if inner.contains('\\') {
                    let bad = |_| Problem::BadText(quote(inner));
                    Self::Text(Cow::Owned(serde_json::from_str(text).map_err(bad)?))
                } else {
                    Self::Text(Cow::Borrowed(inner))
                }
            }
            Some(b'{') => Self::Container("an object"),
            Some(b'[') => Self::Container("an array"),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') | None => Self::Null,
            Some(_) => Self::Number(utf8()?),
        })
    }

    /// A whole payload that is one value: a JSON scalar or bare text.
    pub fn of_payload(text: &'a str) -> Result<Self, Problem> {
        let text = text.trim_start_matches('\u{feff}').trim();
        let json = matches!(text.as_bytes().first(), Some(b'"' | b'{' | b'[')) || text == "null";
        let mut scanner = Scanner::new(text.as_bytes());
        match json && scanner.skip().is_ok() && scanner.at == text.len() {
            true => Self::of_json(text.as_bytes()),
            false => Ok(Self::Text(Cow::Borrowed(text))),
        }
    }

    pub fn value(self, shape: Shape, marks: &Marks) -> Result<Value, Problem> {
        match &self {
            Self::Null => return Err(Problem::NoValue),
            Self::Container(what) => return Err(Problem::Container(what)),
            Self::Text(text) if is_missing(text.trim()) => return Err(Problem::Unavailable(quote(text.trim()))),
            _ => {}
        }
        match shape {
            Shape::Number { factor, .. } => self.number(factor, marks).map(Value::Number),
            Shape::Text => self.text().map(Value::Text),
            Shape::Dotted { number, parts } => {
                let text = self.text()?;
                Ok(Value::Text(version(&text, number, parts).unwrap_or(text)))
            }
        }
    }

    fn number(&self, factor: f64, marks: &Marks) -> Result<f64, Problem> {
        let raw = match self {
            Self::Bool(value) => f64::from(u8::from(*value)),
            // The grammar of JSON's numbers is part of that of `f64`.
            Self::Number(text) => text.parse().map_err(|_| Problem::NotANumber(quote(text)))?,
            Self::Text(text) => number_in(text.trim())?,
            Self::Null | Self::Container(_) => return Err(Problem::NoValue),
        };
        let shown = || match self {
            Self::Number(text) => quote(text),
            Self::Text(text) => quote(text),
            _ => quote(if raw == 0.0 { "false" } else { "true" }),
        };
        if !raw.is_finite() {
            return Err(Problem::NotFinite(shown()));
        }
        if marks.unavailable.contains(&raw) {
            return Err(Problem::Unavailable(shown()));
        }
        if marks.reserved.contains(&raw) {
            return Ok(0.0);
        }
        scaled(raw, factor).ok_or_else(|| Problem::NotFinite(shown()))
    }

    fn text(self) -> Result<String, Problem> {
        let text = match self {
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Number(text) => Cow::Borrowed(text),
            Self::Text(text) => text,
            Self::Null | Self::Container(_) => return Err(Problem::NoValue),
        };
        let trimmed = text.trim();
        if trimmed.len() > MAX_TEXT {
            return Err(Problem::TooLong(trimmed.len()));
        }
        Ok(trimmed.to_owned())
    }
}

/// What Home Assistant and others write for "no value".
fn is_missing(text: &str) -> bool {
    text.is_empty() || ["unavailable", "unknown", "none"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A trimmed text that is to hold a number.
fn number_in(text: &str) -> Result<f64, Problem> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("on") || is("true") {
        return Ok(1.0);
    }
    if is("off") || is("false") {
        return Ok(0.0);
    }
    // `f64` also reads nan, inf and infinity.
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if text.bytes().all(plain) {
        return text.parse().map_err(|_| Problem::NotANumber(quote(text)));
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    if ["nan", "inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return Err(Problem::NotFinite(quote(text)));
    }
    if text.bytes().all(|byte| plain(byte) || byte == b',') && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(Problem::DecimalComma(quote(text)));
    }
    Err(Problem::NotANumber(quote(text)))
}

/// The parts of an integer with dots between them; `None`: it is no integer of that type.
fn version(text: &str, number: Number, parts: u8) -> Option<String> {
    let value: i128 = text.parse().ok()?;
    let width = u32::from(number.registers()) * 16;
    let bits = value & ((1 << width) - 1);
    let signed = -(1 << (width - 1));
    if value != bits && !(signed..0).contains(&value) {
        return None;
    }
    dotted(u64::try_from(bits).ok()?, number, parts).ok()
}
