//! `regex`: parts of payloads that are text.

use regex::{Regex, RegexBuilder};

use super::error::{Problem, quote};
use super::value::Raw;

/// Bytes of a pattern.
const MAX_PATTERN: usize = 512;
/// Bytes of memory for a compiled pattern: `(\d{1,50}){1,50}` is refused, what people write is not.
const MAX_COMPILED: usize = 512 * 1024;
/// Brackets within brackets.
const MAX_NESTING: u32 = 32;

/// Compiles a `regex` of a definition. Everything of `cfos-interfaces.md` 2.2 works: `.`, `\d \s \w \D \S \W`, classes,
/// `(a|b)`, `(?:…)`, `? * +` with lazy forms, `^ $`. The time a search takes grows with the payload only linearly,
/// whatever the pattern.
///
/// # Errors
/// See [`RegexError`].
pub fn compile_regex(text: &str) -> Result<Regex, RegexError> {
    let wrong = |message: String| RegexError { offset: 0, message };
    if text.is_empty() {
        return Err(wrong("is empty; expected a pattern, like (-?\\d+(?:\\.\\d+)?)".into()));
    }
    if text.len() > MAX_PATTERN {
        return Err(wrong(format!("is {} bytes long; expected at most {MAX_PATTERN}", text.len())));
    }
    let built = RegexBuilder::new(text).size_limit(MAX_COMPILED).nest_limit(MAX_NESTING).build();
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => {
            wrong("is too large when compiled; expected fewer or smaller repetitions".into())
        }
        other => explained(text, &other.to_string()),
    })
}

/// A text that is no regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegexError {
    /// Byte of the text.
    pub offset: usize,
    /// What is wrong there, or that it is too large.
    pub message: String,
}

/// The crate explains in several lines, with the pattern and a mark under the place; the last one says what is wrong.
fn explained(pattern: &str, explanation: &str) -> RegexError {
    let last = explanation.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
    let mark = explanation.lines().find(|line| line.trim_start().starts_with('^')).and_then(|line| line.find('^'));
    // The pattern is indented by four.
    let letters = mark.map_or(0, |column| column.saturating_sub(4));
    let offset = pattern.char_indices().nth(letters).map_or(pattern.len(), |(at, _)| at);
    RegexError { offset, message: format!("is no regular expression: {last}") }
}

/// The first group of the first match that takes part in it, or else the whole match. A line end behind the text does
/// not count, so that `$` means the end of what is written.
pub(super) fn part<'a>(regex: &Regex, text: &'a str) -> Result<Raw<'a>, Problem> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let captures = regex.captures(text).ok_or_else(|| Problem::NoMatch(quote(text)))?;
    let group = captures.iter().skip(1).flatten().next().or_else(|| captures.get(0));
    Ok(Raw::Text(group.map_or("", |group| group.as_str()).into()))
}
