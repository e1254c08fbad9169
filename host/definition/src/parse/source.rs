//! Where a variable's value comes from, by transport: registers, or part of an answer.

use regex::Regex;

use crate::{
    Address, DocumentField, Extract, Method, ModbusField, Number, Query, Shape, Source, WordOrder, compile_regex,
};

use super::fields::{Checked, Fields, Text, number, whole};
use super::finding::{Report, quoted};

/// `rtype`, while the rest is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Modbus,
    Http,
    Mqtt,
}

/// Registers there are.
const REGISTERS: u32 = 65_536;

/// Longest topic and path.
const MOST_LETTERS: usize = 2000;

/// What the target of a variable demands of its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A quantity, a manager variable.
    Number,
    /// `version`, `firmware_version`: a text, or a number that may be dotted.
    Version,
    /// The other identities: a text or a number.
    Text,
    /// A user variable: a number or a text.
    Any,
}

/// Reads `address` and what stands beside it.
pub(super) fn read(fields: &Fields<'_>, wire: Wire, wanted: Wanted, report: &mut Report) -> Option<Source> {
    let shape = shape(fields, wire, wanted, report);
    match wire {
        Wire::Modbus => {
            for name in ["query", "regex"].into_iter().filter(|name| fields.has(name)) {
                fields.error(name, format!("{name} is for HTTP and MQTT (rtype 1 and 2); registers need type"), report);
            }
            let (shape, count) = shape?;
            let address = register(fields, count, report)?;
            let order = match fields.text("order") {
                Some(text) if text.value == "lh" => WordOrder::LowFirst,
                _ => WordOrder::HighFirst,
            };
            Some(Source::Modbus(ModbusField { address, count, shape, order }))
        }
        Wire::Http | Wire::Mqtt => {
            if fields.has("order") {
                fields.warning("order", "has no effect; it is for registers (rtype 0)", report);
            }
            let address = document(fields, wire, report);
            let extract = extract(fields, report);
            let (shape, _) = shape?;
            Some(Source::Document(DocumentField { address: address?, extract: extract?, shape }))
        }
    }
}

/// Reads an entry of `inputs`: bits, held by as many registers as they need, or by a whole number.
pub(super) fn bits(fields: &Fields<'_>, wire: Wire, report: &mut Report) -> Option<(Source, u8)> {
    let count: u8 = if fields.has("count") { fields.small("count") } else { Some(1) }?;
    let (number, registers) = if count > 16 { (Number::Uint32, 2) } else { (Number::Uint16, 1) };
    let shape = Shape::Number { number, factor: 1.0 };
    let source = match wire {
        Wire::Modbus => {
            if fields.has("query") {
                fields.error("query", "query is for HTTP and MQTT (rtype 1 and 2)", report);
            }
            let address = register(fields, registers, report)?;
            Source::Modbus(ModbusField { address, count: registers, shape, order: WordOrder::HighFirst })
        }
        Wire::Http | Wire::Mqtt => {
            let address = document(fields, wire, report);
            let extract = extract(fields, report);
            Source::Document(DocumentField { address: address?, extract: extract?, shape })
        }
    };
    Some((source, count))
}

/// The shape, and how many registers it takes.
fn shape(fields: &Fields<'_>, wire: Wire, wanted: Wanted, report: &mut Report) -> Option<(Shape, u16)> {
    let length: Option<u16> = fields.small("length");
    let number = match fields.text("type").map(|text| text.value) {
        Some("string") => return text(fields, wire, wanted, length, report),
        Some(name) => number_named(name)?,
        // Wrong, and reported.
        None if fields.has("type") => return None,
        None if wire == Wire::Modbus => {
            fields.error("type", "type is missing; it says what the registers hold: int16, uint16, int32, uint32, int64, uint64, float, double or string", report);
            return None;
        }
        None if matches!(wanted, Wanted::Version | Wanted::Text) => return text(fields, wire, wanted, length, report),
        None => Number::Float,
    };
    let registers = match number {
        Number::Int16 | Number::Uint16 => 1,
        Number::Int32 | Number::Uint32 | Number::Float => 2,
        Number::Int64 | Number::Uint64 | Number::Double => 4,
    };
    if fields.has("order") && registers == 1 && wire == Wire::Modbus {
        fields.warning("order", "has no effect on a single register", report);
    }
    if let (Wanted::Version, Some(length)) = (wanted, length) {
        if fields.has("resolution") {
            fields.warning("resolution", "has no effect on a dotted version", report);
        }
        let fits = match number {
            Number::Float | Number::Double => false,
            Number::Int16 | Number::Uint16 => length == 2,
            _ => length == 2 || length == 4,
        };
        if !fits {
            let message =
                "a version of a 16-bit number has length 2, one of 32 or 64 bits 2 or 4; floats have no parts";
            fields.error("length", message, report);
            return None;
        }
        let parts = u8::try_from(length).ok()?;
        return Some((Shape::Dotted { number, parts }, registers));
    }
    if fields.has("length") {
        fields.warning("length", "has no effect here; it is for strings in registers, and for versions", report);
    }
    let factor = if fields.has("resolution") { fields.number("resolution")? } else { 1.0 };
    Some((Shape::Number { number, factor }, registers))
}

fn text(
    fields: &Fields<'_>,
    wire: Wire,
    wanted: Wanted,
    length: Option<u16>,
    report: &mut Report,
) -> Option<(Shape, u16)> {
    if wanted == Wanted::Number {
        fields.error("type", "this variable is a number; string is for texts", report);
        return None;
    }
    for name in ["resolution", "order"]
        .into_iter()
        .filter(|name| fields.has(name) && (*name == "resolution" || wire == Wire::Modbus))
    {
        fields.warning(name, "has no effect on a text", report);
    }
    if wire != Wire::Modbus {
        if fields.has("length") {
            fields.warning("length", "has no effect on a text of an answer; it is for strings in registers", report);
        }
        return Some((Shape::Text, 0));
    }
    if !fields.has("length") {
        fields.error(
            "length",
            "length is missing; it says how many registers the string takes, two characters each",
            report,
        );
    }
    Some((Shape::Text, length?))
}

fn number_named(name: &str) -> Option<Number> {
    Some(match name {
        "int16" => Number::Int16,
        "uint16" => Number::Uint16,
        "int32" => Number::Int32,
        "uint32" => Number::Uint32,
        "int64" => Number::Int64,
        "uint64" => Number::Uint64,
        "float" => Number::Float,
        "double" => Number::Double,
        _ => return None,
    })
}

/// The first register, so that `count` of them fit.
fn register(fields: &Fields<'_>, count: u16, report: &mut Report) -> Option<u16> {
    let address = match fields.value("address") {
        Some(Checked::Whole(number)) => Some(*number),
        // "0x5B00", as some manuals' tables are copied.
        Some(Checked::Text(text)) => match whole(text.value.trim()) {
            Some(number) => Some(number),
            None => {
                let message =
                    format!("must be the number of a register, 0 to 65535, is the text {}", quoted(text.value));
                report.error(text.start, fields.key("address"), message);
                return None;
            }
        },
        _ if fields.has("address") => return None,
        _ => {
            fields.error("address", "address is missing; it is the number of the first register, 0 to 65535", report);
            return None;
        }
    }?;
    let Some(first) = u16::try_from(address).ok() else {
        fields.error("address", format!("must be the number of a register, 0 to 65535, is {address}"), report);
        return None;
    };
    if u32::from(first) + u32::from(count) > REGISTERS {
        let message = format!("{count} registers from {first} on do not fit; the last register is 65535");
        fields.error("address", message, report);
        return None;
    }
    Some(first)
}

/// A path or topic.
fn document(fields: &Fields<'_>, wire: Wire, report: &mut Report) -> Option<Address> {
    let what = if wire == Wire::Http { "a path, like /status or GET /status" } else { "a topic, like meters/1/power" };
    let Some(text) = fields.text("address") else {
        if matches!(fields.value("address"), Some(Checked::Whole(_))) {
            fields.error("address", format!("must be {what}, is a number; registers are for Modbus (rtype 0)"), report);
        } else if !fields.has("address") {
            fields.error("address", format!("address is missing; it is {what}"), report);
        }
        return None;
    };
    let read = match wire {
        Wire::Mqtt => topic(text.value),
        Wire::Http | Wire::Modbus => path(text.value),
    };
    read.map_err(|(at, message)| report.error(text.at(at), fields.key("address"), message)).ok()
}

/// A byte of the text and what is wrong there.
type Wrong = (usize, String);

fn path(text: &str) -> Result<Address, Wrong> {
    let (method, path) = match text.split_once(' ') {
        Some(("GET", path)) => (Method::Get, path),
        Some(("POST", path)) => (Method::Post, path),
        Some((word, _)) if !word.starts_with('/') => {
            return Err((0, format!("{} is no method to read with; write GET or POST before the path", quoted(word))));
        }
        _ => (Method::Get, text),
    };
    let start = text.len() - path.len();
    if path.starts_with("http://") || path.starts_with("https://") {
        return Err((
            start,
            "must be a path beginning with /; the host is the address of the device in ladekern.toml".into(),
        ));
    }
    if !path.starts_with('/') {
        let message = format!("must be a path beginning with /, after an optional GET or POST, is {}", quoted(text));
        return Err((start, message));
    }
    if path.len() > MOST_LETTERS {
        return Err((start, format!("a path has at most {MOST_LETTERS} letters")));
    }
    if let Some((at, letter)) = path.char_indices().find(|(_, c)| !c.is_ascii_graphic() || *c == '#') {
        let escaped: String = letter.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect();
        return Err((start + at, format!("{} cannot stand in a path; write {escaped}", quoted(&letter.to_string()))));
    }
    Ok(Address::Http { method, path: path.to_owned() })
}

fn topic(text: &str) -> Result<Address, Wrong> {
    if text.is_empty() {
        return Err((0, "is empty; it is a topic, like meters/1/power".into()));
    }
    if let Some(at) = text.find(['+', '#']) {
        let message = "must be one topic without the wildcards + and #: a variable is one value, and with several topics \
                       each message would overwrite another device's; give each variable its own topic";
        return Err((at, message.into()));
    }
    if let Some(at) = text.find(char::is_control) {
        return Err((at, "a control character cannot stand in a topic".into()));
    }
    if text.len() > MOST_LETTERS {
        return Err((0, format!("a topic has at most {MOST_LETTERS} letters")));
    }
    Ok(Address::Mqtt { topic: text.to_owned() })
}

fn extract(fields: &Fields<'_>, report: &mut Report) -> Option<Extract> {
    if fields.has("query") && fields.has("regex") {
        fields.error("regex", "query is for JSON, regex for other texts; give only one of the two", report);
        return None;
    }
    if fields.has("query") {
        let text = fields.text("query")?;
        let query = Query::parse(text.value);
        return query
            .map_err(|error| report.error(text.at(error.offset), fields.key("query"), error.message))
            .map(Extract::Query)
            .ok();
    }
    if fields.has("regex") {
        let text = fields.text("regex")?;
        return regex(text)
            .map_err(|(at, message)| report.error(at, fields.key("regex"), message))
            .map(Extract::Regex)
            .ok();
    }
    Some(Extract::Whole)
}

/// Compiles an expression; the error has its byte in the file.
fn regex(text: Text<'_>) -> Result<Regex, Wrong> {
    // JSON5 reads `"\d"` as the letter d, which nobody who writes an expression means.
    if let Some((at, letter)) = lost_backslash(text.raw) {
        let message = format!("\\{letter} in a JSON text is only {letter}; write \\\\{letter}");
        return Err((text.start + 1 + at, message));
    }
    compile_regex(text.value).map_err(|error| (text.at(error.offset), error.message))
}

/// A backslash that JSON5 drops without a trace.
fn lost_backslash(raw: &str) -> Option<(usize, char)> {
    let mut letters = raw.char_indices();
    while let Some((at, letter)) = letters.next() {
        if letter != '\\' {
            continue;
        }
        let (_, next) = letters.next()?;
        if !"\"'\\/bfnrtuvx0\n\r\u{2028}\u{2029}".contains(next) {
            return Some((at, next));
        }
    }
    None
}

/// The number a text says, for constants.
pub(super) fn constant(text: &str) -> Option<f64> {
    number(text.trim())
}
