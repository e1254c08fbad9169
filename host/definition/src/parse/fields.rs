//! An object of the file read by the table of its keys: types and bounds are checked here, for every key in the same
//! words; what remains for the callers is what keys mean together.

use std::collections::HashSet;

use jsonc_parser::ast::{Object, ObjectProp, StringLit, Value};
use jsonc_parser::common::Ranged as _;

use super::finding::{Report, nearest, quoted};
use super::keys::{Holds, Key};

/// A checked object.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    /// Its own key with all above, `inputs[0]`; empty at the top level.
    pub(super) path: String,
    /// Where its key is, or itself in a list.
    pub(super) offset: usize,
    entries: Vec<Entry<'a>>,
}

#[derive(Debug)]
struct Entry<'a> {
    name: &'static str,
    /// Where the key is.
    offset: usize,
    /// `None`: it was wrong, and has been reported.
    value: Option<Checked<'a>>,
}

/// A value of the type that its key demands.
#[derive(Debug)]
pub(super) enum Checked<'a> {
    Text(Text<'a>),
    Flag(bool),
    Whole(i64),
    Number(f64),
    Numbers(Vec<f64>),
    Object(Fields<'a>),
    List(Vec<Fields<'a>>),
}

/// A text with its place in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    /// What it says, escapes resolved.
    pub(super) value: &'a str,
    /// Where it begins, at the quote.
    pub(super) start: usize,
    /// As it stands in the file, between the quotes.
    pub(super) raw: &'a str,
}

impl Text<'_> {
    /// Where a byte of the text stands in the file.
    pub(super) fn at(&self, offset: usize) -> usize {
        let mut decoded = 0;
        let mut letters = self.raw.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            if decoded >= offset {
                return self.start + 1 + at;
            }
            if letter != '\\' {
                decoded += letter.len_utf8();
                continue;
            }
            match letters.next() {
                Some((_, '\n' | '\u{2028}' | '\u{2029}')) => {}
                Some((_, '\r')) => drop(letters.next_if(|(_, next)| *next == '\n')),
                Some((at, 'u')) => {
                    let code = self.raw.get(at + 1..at + 5).and_then(|hex| u32::from_str_radix(hex, 16).ok());
                    let pair = code.is_some_and(|code| (0xD800..0xDC00).contains(&code));
                    letters.by_ref().take(if pair { 10 } else { 4 }).for_each(drop);
                    decoded += if pair { 4 } else { code.and_then(char::from_u32).map_or(1, char::len_utf8) };
                }
                Some((at, 'x')) => {
                    let high =
                        self.raw.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()) > Some(0x7F);
                    letters.by_ref().take(2).for_each(drop);
                    decoded += if high { 2 } else { 1 };
                }
                Some((_, other)) => decoded += other.len_utf8(),
                None => {}
            }
        }
        self.start + 1 + self.raw.len()
    }
}

impl<'a> Fields<'a> {
    /// Reads an object by its table. Keys the table does not know go to `other`, which says what they are.
    pub(super) fn read(
        text: &'a str,
        object: &'a Object<'a>,
        keys: &'static [Key],
        (path, offset): (String, usize),
        report: &mut Report,
        mut other: impl FnMut(&'a ObjectProp<'a>, &mut Report),
    ) -> Self {
        let mut fields = Self { path, offset, entries: Vec::new() };
        let mut seen = HashSet::new();
        for property in &object.properties {
            let name = property.name.as_str();
            let at = property.start();
            if !seen.insert(name) {
                report.error(at, fields.key(name), "this key was there before; each key may be given once");
                continue;
            }
            let Some(key) = keys.iter().find(|key| key.name == name) else {
                other(property, report);
                continue;
            };
            let mut reader = Reader { text, path: fields.key(name), offset: at, report };
            let value = reader.check(&key.holds, &property.value);
            fields.entries.push(Entry { name: key.name, offset: at, value });
        }
        fields
    }

    /// Path of a key of this object.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The key is there, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// Where a key is; where the object is if the key is missing.
    pub(super) fn offset_of(&self, name: &str) -> usize {
        self.entries.iter().find(|entry| entry.name == name).map_or(self.offset, |entry| entry.offset)
    }

    /// Reports a mistake at a key.
    pub(super) fn error(&self, name: &str, message: impl Into<String>, report: &mut Report) {
        report.error(self.offset_of(name), self.key(name), message);
    }

    /// Reports a doubt at a key.
    pub(super) fn warning(&self, name: &str, message: impl Into<String>, report: &mut Report) {
        report.warning(self.offset_of(name), self.key(name), message);
    }

    pub(super) fn value(&self, name: &str) -> Option<&Checked<'a>> {
        self.entries.iter().find(|entry| entry.name == name)?.value.as_ref()
    }

    pub(super) fn text(&self, name: &str) -> Option<Text<'a>> {
        match self.value(name) {
            Some(Checked::Text(text)) => Some(*text),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            Some(Checked::Flag(flag)) => Some(*flag),
            _ => None,
        }
    }

    pub(super) fn whole(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Some(Checked::Whole(number)) => Some(*number),
            _ => None,
        }
    }

    /// A whole number that fits by the bounds of its key.
    pub(super) fn small<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.whole(name).and_then(|number| T::try_from(number).ok())
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match self.value(name) {
            Some(Checked::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn millis(&self, name: &str) -> Option<std::time::Duration> {
        self.small(name).map(std::time::Duration::from_millis)
    }

    pub(super) fn object(&self, name: &str) -> Option<&Fields<'a>> {
        match self.value(name) {
            Some(Checked::Object(fields)) => Some(fields),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Fields<'a>] {
        match self.value(name) {
            Some(Checked::List(list)) => list,
            _ => &[],
        }
    }
}

/// Reads one value.
struct Reader<'a, 'r> {
    text: &'a str,
    path: String,
    /// Where the key is.
    offset: usize,
    report: &'r mut Report,
}

impl<'a> Reader<'a, '_> {
    fn check(&mut self, holds: &Holds, value: &'a Value<'a>) -> Option<Checked<'a>> {
        match (holds, value) {
            (Holds::Text, Value::StringLit(text)) => Some(Checked::Text(self.literal(text))),
            (Holds::Address | Holds::TextOrNumber, Value::StringLit(text)) => Some(Checked::Text(self.literal(text))),
            (Holds::Word(words), Value::StringLit(text)) => {
                let text = self.literal(text);
                let word = words.iter().find(|word| word.eq_ignore_ascii_case(text.value.trim()));
                if let Some(value) = word {
                    return Some(Checked::Text(Text { value, ..text }));
                }
                let hint = nearest(text.value, words.iter().copied());
                let hint = hint.map_or_else(String::new, |word| format!("; did you mean \"{word}\"?"));
                self.wrong(value, format!("must be one of {}, is {}{hint}", words.join(", "), quoted(text.value)))
            }
            (Holds::Flag, Value::BooleanLit(flag)) => Some(Checked::Flag(flag.value)),
            (Holds::Whole { least, most }, Value::NumberLit(literal)) => {
                let number = whole(literal.value).filter(|number| (*least..=*most).contains(number));
                number.map(Checked::Whole).or_else(|| self.unfit(holds, value))
            }
            (Holds::Code(codes), Value::NumberLit(literal)) => {
                let number = whole(literal.value).filter(|number| codes.iter().any(|(code, _)| code == number));
                number.map(Checked::Whole).or_else(|| self.unfit(holds, value))
            }
            (Holds::Factor, Value::NumberLit(literal)) => {
                let number = number(literal.value).filter(|number| *number != 0.0);
                number.map(Checked::Number).or_else(|| self.unfit(holds, value))
            }
            (Holds::TextOrNumber, Value::NumberLit(literal)) => {
                number(literal.value).map(Checked::Number).or_else(|| self.unfit(holds, value))
            }
            (Holds::Address, Value::NumberLit(literal)) => {
                whole(literal.value).map(Checked::Whole).or_else(|| self.unfit(holds, value))
            }
            (Holds::Numbers { most }, Value::Array(array)) if array.elements.len() <= *most => {
                let mut numbers = Vec::new();
                for (at, element) in array.elements.iter().enumerate() {
                    let number = element.as_number_lit().and_then(|literal| number(literal.value));
                    if number.is_none() {
                        let message = format!("must be a number, is {}", self.shown(element));
                        self.report.error(element.start(), format!("{}[{at}]", self.path), message);
                    }
                    numbers.extend(number);
                }
                Some(Checked::Numbers(numbers))
            }
            (Holds::Object(keys), Value::Object(object)) => Some(Checked::Object(self.object(keys, object, None))),
            (Holds::List { of, most }, Value::Array(array)) if array.elements.len() <= *most => {
                let mut list = Vec::new();
                for (at, element) in array.elements.iter().enumerate() {
                    if let Value::Object(object) = element {
                        list.push(self.object(of, object, Some(at)));
                    } else {
                        let message = format!("must be an object, is {}", self.shown(element));
                        self.report.error(element.start(), format!("{}[{at}]", self.path), message);
                    }
                }
                Some(Checked::List(list))
            }
            _ => self.unfit(holds, value),
        }
    }

    fn object(&mut self, keys: &'static [Key], object: &'a Object<'a>, index: Option<usize>) -> Fields<'a> {
        let place = match index {
            Some(index) => (format!("{}[{index}]", self.path), object.start()),
            None => (self.path.clone(), self.offset),
        };
        let path = place.0.clone();
        Fields::read(self.text, object, keys, place, self.report, |property, report| {
            unknown(&path, property, keys, report);
        })
    }

    fn literal(&self, text: &'a StringLit<'a>) -> Text<'a> {
        let range = text.range();
        let raw = self.text.get(range.start + 1..range.end.saturating_sub(1)).unwrap_or_default();
        Text { value: text.value.as_ref(), start: range.start, raw }
    }

    /// The value is of the wrong type, or out of bounds.
    fn unfit(&mut self, holds: &Holds, value: &Value<'_>) -> Option<Checked<'a>> {
        let message = format!("must be {}, is {}", expected(holds), self.shown(value));
        self.wrong(value, message)
    }

    fn wrong(&mut self, value: &Value<'_>, message: String) -> Option<Checked<'a>> {
        self.report.error(value.start(), self.path.clone(), message);
        None
    }

    fn shown(&self, value: &Value<'_>) -> String {
        shown(self.text, value)
    }
}

/// Reports a key that its object does not know.
pub(super) fn unknown(path: &str, property: &ObjectProp<'_>, keys: &'static [Key], report: &mut Report) {
    let name = property.name.as_str();
    let message = match nearest(name, keys.iter().map(|key| key.name)) {
        Some(known) => format!("unknown key; did you mean \"{known}\"?"),
        None => {
            let mut known: Vec<&str> = keys.iter().map(|key| key.name).collect();
            known.sort_unstable();
            format!("unknown key; known here are {}", known.join(", "))
        }
    };
    report.error(property.start(), format!("{path}.{}", short(name)), message);
}

/// A key as it is shown; one of a megabyte is not.
pub(super) fn short(name: &str) -> String {
    if name.chars().count() <= 60 { name.to_owned() } else { name.chars().take(59).chain(['…']).collect() }
}

/// A value in a message.
pub(super) fn shown(text: &str, value: &Value<'_>) -> String {
    match value {
        Value::StringLit(text) => format!("the text {}", quoted(&text.value)),
        Value::NumberLit(literal) => literal.value.chars().take(40).collect(),
        Value::BooleanLit(_) | Value::NullKeyword(_) => value.text(text).to_owned(),
        Value::Object(_) => "an object".into(),
        Value::Array(array) if array.elements.is_empty() => "an empty list".into(),
        Value::Array(array) => format!("a list of {}", array.elements.len()),
    }
}

/// What a key wants, after "must be".
fn expected(holds: &Holds) -> String {
    match holds {
        Holds::Text => "a text".into(),
        Holds::Flag => "true or false".into(),
        Holds::Whole { least, most } => format!("a whole number from {least} to {most}"),
        Holds::Factor => "a number other than 0".into(),
        Holds::Code(codes) => {
            let codes: Vec<String> = codes.iter().map(|(code, means)| format!("{code} ({means})")).collect();
            codes.join(" or ")
        }
        Holds::Word(words) => format!("one of the texts {}", words.join(", ")),
        Holds::Numbers { most } => format!("a list of at most {most} numbers"),
        Holds::TextOrNumber => "a text or a number".into(),
        Holds::Address => "a text, or the number of a register".into(),
        Holds::Object(keys) => {
            let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
            format!("an object with {}", known.join(", "))
        }
        Holds::List { of, most } => {
            let known: Vec<&str> = of.iter().map(|key| key.name).collect();
            format!("a list of at most {most} objects with {}", known.join(", "))
        }
    }
}

/// A finite number: `12`, `-0.5`, `.5`, `+1e3`, `0x1F`.
pub(super) fn number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, text.get(1..)?),
        Some(b'+') => (1.0, text.get(1..)?),
        _ => (1.0, text),
    };
    let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.starts_with('+') => return None,
        #[expect(clippy::cast_precision_loss, reason = "a number of JSON is a double")]
        Some(hex) => u64::from_str_radix(hex, 16).ok()? as f64,
        None if digits.starts_with(['+', '-']) => return None,
        None => digits.parse().ok()?,
    };
    Some(sign * value).filter(|value: &f64| value.is_finite())
}

/// A whole number that a double holds exactly.
pub(super) fn whole(text: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = number(text).filter(|value| value.fract() == 0.0 && value.abs() <= EXACT)?;
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_json5() {
        for (text, value) in
            [("12", 12.0), ("-0.5", -0.5), (".5", 0.5), ("5.", 5.0), ("+1e3", 1000.0), ("0x1F", 31.0), ("-0XA", -10.0)]
        {
            assert_eq!(number(text), Some(value), "{text}");
        }
        for text in ["", "-", "0x", "1e999", "NaN", "-Infinity", "0x1FFFFFFFFFFFFFFFF", "--1", "1 2"] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(whole("1e3"), Some(1000));
        assert_eq!(whole("1.5"), None);
        assert_eq!(whole("1e300"), None);
    }

    #[test]
    fn a_byte_of_a_text_is_found_behind_escapes() {
        let raw = r"a\\b\u00e4c\x41\
d\ud83d\ude00e";
        let text = Text { value: "a\\bäcAd😀e", start: 10, raw };
        for (letter, written) in
            [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("e", "e"), ("ä", r"\u00e4"), ("😀", r"\ud83d")]
        {
            let at = text.at(text.value.find(letter).unwrap()) - 11;
            // `e` also stands in hex digits and `d` in an escape: compare what begins there.
            assert!(raw[at..].starts_with(written) || raw[at..].starts_with("\\\n"), "{letter}: {}", &raw[at..]);
        }
        assert_eq!(text.at(text.value.len()), 11 + raw.len());
    }
}
