//! From text to a syntax tree: JSON5, and one sentence that says what is wrong when it is none.

use jsonc_parser::ast::{Object, Value};
use jsonc_parser::common::Ranged as _;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::tokens::{Token, TokenAndRange};
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, ParseStringErrorKind, parse_to_ast};

use super::finding::{Report, quoted};

/// Larger files are refused. The largest known definition has 20 kB.
pub(super) const MOST_BYTES: usize = 256 * 1024;

/// To say where each one is takes a walk through the text.
const MOST_COMMAS: usize = 50;

/// The file's object, or what is wrong with the text.
pub(super) fn read<'a>(text: &'a str, report: &mut Report) -> Option<Object<'a>> {
    if text.len() > MOST_BYTES {
        let message = format!("the file has {} bytes, a definition may have at most {MOST_BYTES}", text.len());
        report.error(0, "", message);
        return None;
    }
    let collect = CollectOptions { comments: CommentCollectionStrategy::Off, tokens: true };
    // Missing commas are let through to read on, and reported.
    let options = ParseOptions {
        allow_comments: true,
        allow_loose_object_property_names: true,
        allow_trailing_commas: true,
        allow_missing_commas: true,
        allow_single_quoted_strings: true,
        allow_hexadecimal_numbers: true,
        allow_unary_plus_numbers: true,
        allow_bare_decimal_point_numbers: true,
        allow_non_finite_numbers: true,
        allow_extended_string_escapes: true,
    };
    let result = match parse_to_ast(text, &collect, &options) {
        Ok(result) => result,
        Err(error) => {
            syntax(text, &error, report);
            return None;
        }
    };
    for token in missing_commas(result.tokens.as_deref().unwrap_or_default()).take(MOST_COMMAS) {
        let at = token.range.start;
        report.error(at, Walk::to(text, at).key(), format!("expected a comma before {}", quoted(token.text(text))));
    }
    match result.value {
        Some(Value::Object(object)) => Some(object),
        Some(other) => {
            report.error(other.start(), "", "a definition is an object: { \"dev_type\": …, \"rtype\": …, … }");
            None
        }
        None => {
            report.error(0, "", "the file is empty; a definition is an object: { \"dev_type\": …, \"rtype\": …, … }");
            None
        }
    }
}

/// Tokens that begin a value or a key right after a value.
fn missing_commas<'a, 't>(tokens: &'t [TokenAndRange<'a>]) -> impl Iterator<Item = &'t TokenAndRange<'a>> {
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    pairs.filter_map(|(before, token)| {
        let ended = !matches!(before.token, Token::OpenBrace | Token::OpenBracket | Token::Comma | Token::Colon);
        let begins = !matches!(token.token, Token::CloseBrace | Token::CloseBracket | Token::Comma | Token::Colon);
        (ended && begins).then_some(token)
    })
}

fn syntax(text: &str, error: &ParseError, report: &mut Report) {
    let at = error.range().start.min(text.len());
    let walk = Walk::to(text, at);
    // A quote that is missing is noticed much later, when the next text's quote ends this one.
    if let Some(start) = walk.open_text {
        let message = "this text is not closed on its line; the closing quote is missing";
        report.error(start, Walk::to(text, start).key(), message);
        return;
    }
    report.error(at, walk.key(), sentence(error.kind(), text.get(at..).unwrap_or_default()));
}

/// What is wrong at the beginning of `rest`.
fn sentence(kind: &ParseErrorKind, rest: &str) -> String {
    use ParseErrorKind as Kind;
    let word: String = rest.chars().take_while(|c| !c.is_whitespace() && !",:{}[]".contains(*c)).collect();
    match kind {
        Kind::ExpectedColonAfterObjectKey => "expected a colon between key and value".into(),
        Kind::ExpectedObjectValue => "expected a value after the colon".into(),
        Kind::ExpectedDigit
        | Kind::ExpectedDigitFollowingNegativeSign
        | Kind::ExpectedPlusMinusOrDigitInNumberLiteral => {
            "this is no number; numbers look like 12, -0.1 or 0x1F".into()
        }
        Kind::MultipleRootJsonValues => "the file goes on after its object; it must hold one object { … }".into(),
        Kind::String(ParseStringErrorKind::UnterminatedStringLiteral) => {
            "this text is never closed; the closing quote is missing".into()
        }
        Kind::String(_) => "this text has a \\ that JSON5 does not know; a backslash is written \\\\".into(),
        Kind::UnexpectedWord | Kind::UnexpectedToken if matches!(word.as_str(), "True" | "False" | "None") => {
            format!("{word} is no JSON; write true, false or null")
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken if !word.is_empty() => {
            format!("{} must stand in quotes", quoted(&word))
        }
        Kind::UnterminatedArray => "this [ is never closed; the file ends too early".into(),
        Kind::UnterminatedObject => "this { is never closed; the file ends too early".into(),
        Kind::UnterminatedCommentBlock => "this comment is never closed; expected */".into(),
        Kind::NestingDepthExceeded => "nested too deeply; a definition has at most four levels".into(),
        _ => match rest.chars().next() {
            Some(letter) => {
                format!("unexpected {}; expected a key, a value or the end of the object", quoted(&letter.to_string()))
            }
            None => "the file ends too early".into(),
        },
    }
}

/// Where in the structure a byte of a text is, also when the text is no JSON.
#[derive(Default)]
struct Walk<'a> {
    /// The key in each open object, `None` in an array.
    keys: Vec<Option<&'a str>>,
    /// Where a text with a line end in it begins.
    open_text: Option<usize>,
}

impl<'a> Walk<'a> {
    fn to(text: &'a str, end: usize) -> Self {
        let mut walk = Self::default();
        let mut at = 0;
        // The text or word that was read last, in case it turns out to be a key.
        let mut last = "";
        while at < end {
            let rest = text.get(at..).unwrap_or_default();
            let Some(letter) = rest.chars().next() else { break };
            let mut length = letter.len_utf8();
            match letter {
                '"' | '\'' => {
                    length = text_length(rest, letter);
                    let inner = rest.get(1..length.max(2) - 1).unwrap_or_default();
                    if walk.open_text.is_none() && has_line_end(inner) {
                        walk.open_text = Some(at);
                    }
                    last = inner;
                }
                '/' if rest.starts_with("//") => length = rest.find(['\n', '\r']).unwrap_or(rest.len()),
                '/' if rest.starts_with("/*") => length = rest.find("*/").map_or(rest.len(), |end| end + 2),
                '{' => walk.keys.push(Some("")),
                '[' => walk.keys.push(None),
                '}' | ']' => {
                    walk.keys.pop();
                }
                ',' => {
                    if let Some(key @ Some(_)) = walk.keys.last_mut() {
                        *key = Some("");
                    }
                }
                ':' => {
                    if let Some(key @ Some(_)) = walk.keys.last_mut() {
                        *key = Some(last);
                    }
                }
                _ if letter.is_alphanumeric() || letter == '_' => {
                    let word = |c: char| !(c.is_alphanumeric() || "_-$".contains(c));
                    length = rest.find(word).unwrap_or(rest.len());
                    last = rest.get(..length).unwrap_or_default();
                }
                _ => {}
            }
            at += length;
        }
        walk
    }

    /// `power_w.address`
    fn key(&self) -> String {
        let names: Vec<&str> = self.keys.iter().flatten().copied().filter(|name| !name.is_empty()).collect();
        names.join(".")
    }
}

/// Bytes of the text at the beginning of `rest`, with both quotes.
fn text_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A line end without the backslash that would continue the text.
fn has_line_end(inner: &str) -> bool {
    let mut before = ' ';
    inner.chars().any(|letter| {
        let ends = matches!(letter, '\n' | '\r') && before != '\\' && before != '\r';
        before = letter;
        ends
    })
}
