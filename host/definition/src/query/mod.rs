//! The query language (`cfos-interfaces.md` 2.3): which part of a JSON document a variable is.
//!
//! ```text
//! query   := step ( '.' member | '[' index ']' )*
//! step    := member | '[' index ']'
//! member  := one or more characters, none of them . [ ]
//! index   := integer              element of an array, counted from 0
//!          | member               the same as .member
//!          | "quoted string"      a JSON string: any name, escapes as in JSON
//!          | { "m": scalar, … }   the first element of an array that is an object and has all these members
//! ```
//!
//! | query | of | is |
//! |---|---|---|
//! | `a.b` or `a["b"]` or `a[b]` | `{"a":{"b":1}}` | 1 |
//! | `a[3]` | `{"a":[0,1,2,3]}` | 3 |
//! | `tuple[0][1]` | `{"tuple":[[5,6]]}` | 6 |
//! | `arr[{"el1":"v1","el2":3}].value` | `{"arr":[{"el1":"v1","el2":3,"value":7}]}` | 7 |
//! | `[0].x` | `[{"x":1}]` | 1 |
//! | `["1-0:1.8.0*255"]` | `{"1-0:1.8.0*255":1}` | 1 |
//!
//! That a query may begin with `[…]` is an addition for documents whose root is an array, or whose member names hold
//! a point. Blanks are allowed around an index, and belong to the name nowhere else than inside quotes or inside a
//! member. In `{…}` numbers are equal by value (3 and 3.0), texts and numbers never are, and `null` is a member that
//! is there and null. Negative indexes, wildcards, slices and the `$` of JSONPath are refused.
//!
//! A query is at most [`MAX_LENGTH`] bytes long and has at most [`MAX_STEPS`] steps.

mod parse;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

/// Bytes of a query.
pub const MAX_LENGTH: usize = 1024;
/// Members and indexes of a query.
pub const MAX_STEPS: usize = 32;

/// A compiled query; cheap to clone.
#[derive(Clone)]
pub struct Query(Arc<Inner>);

struct Inner {
    text: Arc<str>,
    steps: Vec<Part>,
}

/// A step and where it ends in the text.
#[derive(Debug, PartialEq)]
pub(crate) struct Part {
    pub step: Step,
    pub end: usize,
}

/// One step down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Member(Box<str>),
    Element(usize),
    Where(Vec<(Box<str>, Scalar)>),
}

/// What a member has to equal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(Box<str>),
}

/// A text that is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// Byte of the text.
    pub offset: usize,
    /// What is wrong there and what would be right.
    pub message: String,
}

impl Query {
    /// Compiles the text.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        Ok(Self(Arc::new(Inner { text: text.into(), steps: parse::steps(text)? })))
    }

    /// The text it was made of.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn shared_text(&self) -> Arc<str> {
        self.0.text.clone()
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.0.steps
    }
}

impl PartialEq for Query {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Query {}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({})", self.0.text)
    }
}
