//! A small JSON reader (RFC 8259) for plugins: borrows from the text, reads a number when it is asked for, and has a limit for nesting.
//! It never panics, and it never takes anything for a number that is not one. It is here because a guest pays for each dependency three
//! times: when it is built, when it is compiled for the host, and in the memory of each instance.

use std::borrow::Cow;
use std::fmt;

/// Deeper nesting than this is refused: a device's message has five levels at most, and the stack of a guest is small.
const MAX_DEPTH: u32 = 32;

/// One JSON value. Objects keep their order; of equal keys the last one counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number as it stood in the text.
    Number(&'a str),
    /// A string without its escapes.
    Text(Cow<'a, str>),
    /// `[…]`
    Array(Vec<Json<'a>>),
    /// `{…}`
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// Where a text stops being JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    /// Offset in bytes.
    pub at: usize,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no JSON: expected {} at byte {}", self.expected, self.at)
    }
}

impl std::error::Error for JsonError {}

impl From<JsonError> for crate::Error {
    fn from(error: JsonError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl<'a> Json<'a> {
    /// Reads one value; blanks may stand around it, nothing else.
    ///
    /// # Errors
    /// The offset of the first byte that is no JSON.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(MAX_DEPTH)?;
        reader.blanks();
        if reader.at == text.len() { Ok(value) } else { Err(reader.error("the end")) }
    }

    /// Member `key` of an object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.members().iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Element `index` of an array.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<&Json<'a>> {
        self.elements().get(index)
    }

    /// The members of an object; none of anything else.
    #[must_use]
    pub fn members(&self) -> &[(Cow<'a, str>, Json<'a>)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array; none of anything else.
    #[must_use]
    pub fn elements(&self) -> &[Json<'a>] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// A finite number, or a text that holds exactly one ("16", " -3.5 "): devices write both. Never a boolean, `null`,
    /// an empty text, or a number outside the range of a double.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        let text = match self {
            Self::Number(text) => text,
            // "nan", "inf" and "infinity" parse as floats too; none of them has to do with a measurement.
            Self::Text(text) if text.bytes().any(|b| b.is_ascii_digit()) => text.trim(),
            _ => return None,
        };
        text.parse().ok().filter(|v: &f64| v.is_finite())
    }

    /// A whole number that fits, under the rules of [`Json::number`] and without the rounding of a double.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            Self::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A boolean in one of the ways devices write it: `true`, `1`, `"1"`, `"true"`, `"on"`, in any case, and their opposites.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        let text = match self {
            Self::Bool(flag) => return Some(*flag),
            Self::Number(text) => text,
            Self::Text(text) => text.as_ref(),
            _ => return None,
        };
        let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        if is(["1", "true", "on"]) {
            Some(true)
        } else if is(["0", "false", "off"]) {
            Some(false)
        } else {
            None
        }
    }

    /// `null`
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// `text` as a JSON string with its quotes, for bodies that a driver sends.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                out.push_str("\\u00");
                for digit in [u32::from(c) >> 4, u32::from(c) & 15] {
                    out.extend(char::from_digit(digit, 16));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, expected: &'static str) -> JsonError {
        JsonError { at: self.at, expected }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte after blanks is `byte`, and is taken.
    fn took(&mut self, byte: u8) -> bool {
        self.blanks();
        let took = self.peek() == Some(byte);
        self.at += usize::from(took);
        took
    }

    fn slice(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn value(&mut self, depth: u32) -> Result<Json<'a>, JsonError> {
        self.blanks();
        match self.peek() {
            Some(b'"') => self.string().map(Json::Text),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("a value")),
        }
    }

    fn word(&mut self, word: &'static str, value: Json<'a>) -> Result<Json<'a>, JsonError> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.error("a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { Err(self.error("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Json<'a>, JsonError> {
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Json::Number(self.slice(from)))
    }

    fn array(&mut self, depth: u32) -> Result<Json<'a>, JsonError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.error("fewer levels"))?;
        self.at += 1;
        let mut elements = Vec::new();
        if self.took(b']') {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth)?);
            if self.took(b']') {
                return Ok(Json::Array(elements));
            }
            if !self.took(b',') {
                return Err(self.error("',' or ']'"));
            }
        }
    }

    fn object(&mut self, depth: u32) -> Result<Json<'a>, JsonError> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.error("fewer levels"))?;
        self.at += 1;
        let mut members = Vec::new();
        if self.took(b'}') {
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("a key"));
            }
            let key = self.string()?;
            if !self.took(b':') {
                return Err(self.error("':'"));
            }
            members.push((key, self.value(depth)?));
            if self.took(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.took(b',') {
                return Err(self.error("',' or '}'"));
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        self.at += 1;
        let mut from = self.at;
        let mut owned: Option<String> = None;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let rest = self.slice(from);
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(text) => Cow::Owned(text + rest),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(self.text.get(from..self.at).unwrap_or_default());
                    self.at += 1;
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    from = self.at;
                }
                Some(0..=0x1F) => return Err(self.error("no control character")),
                Some(_) => self.at += 1,
                None => return Err(self.error("'\"'")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.error("an escape")),
        };
        self.at += 1;
        Ok(c)
    }

    /// After `\u`: one unit, or a pair of surrogates. A lone surrogate is no character and becomes U+FFFD.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.hex4()?;
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if (0xD800..0xDC00).contains(&first) && rest.starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code << 4 | digit.ok_or_else(|| self.error("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_devices_send() {
        let json =
            Json::parse(r#" {"a":[1,-2.5e3,"x\u00e4\ud83d\ude00\n"],"b":null,"c":true,"":{}, "a2":" 16 "} "#).unwrap();
        let list = json.get("a").unwrap();
        assert_eq!(list.at(0).unwrap().number(), Some(1.0));
        assert_eq!(list.at(1).unwrap().number(), Some(-2500.0));
        assert_eq!(list.at(2).unwrap().text(), Some("xä😀\n"));
        assert!(json.get("b").unwrap().is_null());
        assert_eq!(json.get("c").unwrap().flag(), Some(true));
        assert_eq!(json.get("").unwrap().members(), &[]);
        assert_eq!(json.get("a2").unwrap().number(), Some(16.0));
        assert_eq!(json.get("a").unwrap().get("a"), None);
    }

    #[test]
    fn refuses_what_is_no_json() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1,]",
            "{,}",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "nul",
            "NaN",
            "Infinity",
            "\"\n\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"open",
            "1 2",
            "[1] x",
            "'a'",
            "\u{feff}1",
        ] {
            assert!(Json::parse(text).is_err(), "{text:?} was accepted");
        }
        assert!(Json::parse(&"[".repeat(100_000)).is_err());
        assert!(Json::parse(&("[".repeat(32) + &"]".repeat(32))).is_ok());
        assert!(Json::parse(&("[".repeat(33) + &"]".repeat(33))).is_err());
    }

    #[test]
    fn numbers_are_numbers_only() {
        let number = |text: &str| Json::parse(text).unwrap().number();
        assert_eq!(number("1e999"), None);
        for text in ["\"\"", "\"nan\"", "\"inf\"", "null", "true", "\"1,5\"", "\"12 W\"", "[1]", "\"unavailable\""] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(Json::parse("9007199254740993").unwrap().integer(), Some(9_007_199_254_740_993));
        assert_eq!(Json::parse("1.0").unwrap().integer(), None);
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        assert_eq!(Json::parse(r#"{"a":1,"a":2}"#).unwrap().get("a").unwrap().number(), Some(2.0));
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        assert_eq!(Json::parse(r#""\ud800x""#).unwrap().text(), Some("\u{FFFD}x"));
        assert_eq!(Json::parse(r#""\ud800\u0041""#).unwrap().text(), Some("\u{FFFD}A"));
    }

    #[test]
    fn quoting_is_undone_by_reading() {
        let text = "a\"b\\c\n\u{1}ä/\u{7f}";
        let quoted = quote(text);
        assert_eq!(Json::parse(&quoted).unwrap().text(), Some(text));
    }

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        let text = r#"{"a":[1,-2.5e3,"x\u00e4\ud83d\ude00"],"b":null}"#;
        for cut in 0..text.len() {
            if let Some(part) = text.get(..cut) {
                assert!(Json::parse(part).is_err(), "{part}");
            }
            for byte in [b'"', b'\\', b'{', b']', b'9', 0, b'u'] {
                let mut bytes = text.as_bytes().to_vec();
                bytes[cut] = byte;
                if let Ok(changed) = std::str::from_utf8(&bytes) {
                    let _ = Json::parse(changed);
                }
            }
        }
    }
}
