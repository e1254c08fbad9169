//! Why there is no value, in a sentence.

use std::fmt;
use std::sync::Arc;

/// The payload as a whole cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DocumentError {
    /// Line of the payload, from 1.
    pub line: usize,
    /// Byte of the line, from 1.
    pub column: usize,
    /// What is wrong, with line, column and how the payload begins.
    pub message: String,
}

/// Why a field has no value. Its text names the query and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub(super) what: Arc<str>,
    pub(super) problem: Problem,
}

impl FieldError {
    /// The device itself says that there is no value now (`null`, `unavailable`): no fault.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.problem, Problem::NoValue | Problem::Unavailable(_))
    }

    /// What the query asks for is not there, or is no single value (some write `[]` for nothing): no fault of a
    /// variable that is optional.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.problem, Problem::NotThere { .. } | Problem::Container(_))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Problem {
    /// `null`, or the payload of another kind of field.
    NoValue,
    /// A word for it.
    Unavailable(Box<str>),
    /// A step that leads nowhere: the step, and where it was taken.
    NotThere {
        step: Box<str>,
        within: Box<str>,
    },
    /// A step that needs an object or array found something else.
    NotInside {
        step: Box<str>,
        within: Box<str>,
        found: &'static str,
        wanted: &'static str,
    },
    /// An object or array where a value is wanted.
    Container(&'static str),
    NotANumber(Box<str>),
    DecimalComma(Box<str>),
    NotFinite(Box<str>),
    TooLong(usize),
    /// Bytes or escapes that are no characters.
    BadText(Box<str>),
    /// The valid bytes before it.
    NotUtf8(usize),
    NoMatch(Box<str>),
    Document(DocumentError),
}

impl std::error::Error for FieldError {}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match &self.problem {
            Problem::NoValue => write!(f, "is null, there is no value now"),
            Problem::Unavailable(word) => write!(f, "is {word}, there is no value now"),
            Problem::NotThere { step, within } => write!(f, "there is no {step} in {within}"),
            Problem::NotInside { step, within, found, wanted } => {
                write!(f, "{within} is {found}; {step} needs {wanted}")
            }
            Problem::Container(what) => write!(f, "is {what}; expected a value"),
            Problem::NotANumber(found) => write!(f, "is {found}; expected a number"),
            Problem::DecimalComma(found) => {
                write!(f, "is {found}; expected a number with a decimal point, not a comma")
            }
            Problem::NotFinite(found) => write!(f, "is {found}, which is no finite number that can be calculated with"),
            Problem::TooLong(bytes) => write!(f, "is {bytes} bytes long; expected at most {}", super::MAX_TEXT),
            Problem::BadText(found) => {
                write!(f, "is {found}, which is not UTF-8 or has escapes that are no characters")
            }
            Problem::NotUtf8(valid) => write!(f, "the payload is no text, byte {} of it is not UTF-8", valid + 1),
            Problem::NoMatch(found) => write!(f, "matches nothing in {found}"),
            Problem::Document(error) => write!(f, "{error}"),
        }
    }
}

/// How a text begins, quoted, for messages.
pub(super) fn quote(text: &str) -> Box<str> {
    const SHOWN: usize = 40;
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(SHOWN).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("\"{}{more}\"", start.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")).into()
}
