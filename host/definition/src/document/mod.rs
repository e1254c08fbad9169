//! Values out of an HTTP answer or an MQTT message: every variable of one address in one pass over the payload.
//!
//! JSON is read once from front to back: what no query asks for is checked, skipped and never kept; what one asks for is
//! a slice of the payload until it becomes a value. Only elements of an array that is searched (`[{…}]`) are looked at
//! twice. Nesting is limited to 128.
//!
//! How a part becomes a value:
//!
//! * For a number: JSON numbers; texts that hold one (`"16"`, `" 231.5 "`); `true` and `"ON"` are 1, `false` and
//!   `"OFF"` are 0, in any case. A decimal comma is refused. `type` only says that it is a number: a document states its
//!   numbers in full, so that neither the range of `int16` nor whole numbers are enforced. Every number becomes an
//!   `f64`, rounded to the nearest: integers beyond 2^53 keep 15 to 16 digits.
//! * `reserved` raw values are 0 and `unavailable` ones no value; others are multiplied with `resolution`.
//! * For a text (`type` `string`): texts, and numbers and booleans as they are written; at most [`MAX_TEXT`] bytes.
//! * For a dotted version: integers are cut into parts; any other text or number already is one.
//! * `null` and the texts `unavailable`, `unknown`, `none` and the empty one mean that there is no value now
//!   ([`FieldError::is_missing`]): the device says so itself, nothing is wrong.
//! * Of a member that is there twice the last one counts.

mod error;
mod json;
mod pattern;
mod scan;
#[cfg(test)]
mod tests;
mod tree;
mod value;

use std::sync::Arc;

pub use error::{DocumentError, FieldError};
pub use pattern::{RegexError, compile_regex};
use regex::Regex;

use crate::{DocumentField, Extract, Query, Shape, Value};
use error::Problem;
use tree::Node;
use value::Raw;

/// Bytes of a text value.
pub const MAX_TEXT: usize = 256;

/// The variables of one address, compiled.
#[derive(Debug)]
pub struct Document {
    fields: Vec<Field>,
    marks: Marks,
    root: Node,
    queries: usize,
}

/// Raw numbers that mean something else.
#[derive(Debug)]
struct Marks {
    /// 0
    reserved: Vec<f64>,
    /// That there is no value now.
    unavailable: Vec<f64>,
}

#[derive(Debug)]
struct Field {
    /// In messages.
    what: Arc<str>,
    part: Part,
    shape: Shape,
}

#[derive(Debug)]
enum Part {
    Query(Query),
    Regex(Regex),
    Whole,
}

impl Document {
    /// Compiles them; results come in their order. `reserved` are the raw values that mean 0.
    #[must_use]
    pub fn new(fields: &[&DocumentField], reserved: &[f64]) -> Self {
        let mut compiled = Vec::with_capacity(fields.len());
        for field in fields {
            let (what, part) = match &field.extract {
                Extract::Query(query) => (query.shared_text(), Part::Query(query.clone())),
                Extract::Regex(regex) => (format!("regex {regex}").into(), Part::Regex(regex.clone())),
                Extract::Whole => ("the payload".into(), Part::Whole),
            };
            compiled.push(Field { what, part, shape: field.shape });
        }
        let query = |(index, field): (usize, &Field)| match &field.part {
            Part::Query(query) => Some((index, query.clone())),
            Part::Regex(_) | Part::Whole => None,
        };
        let queries: Vec<(usize, Query)> = compiled.iter().enumerate().filter_map(query).collect();
        let root = Node::root(queries.iter().map(|(index, query)| (*index, query)));
        Self {
            fields: compiled,
            marks: Marks { reserved: reserved.to_vec(), unavailable: Vec::new() },
            root,
            queries: queries.len(),
        }
    }

    /// The raw numbers that mean that there is no value now (`unavailable` of the definition).
    #[must_use]
    pub fn unavailable(mut self, raw: &[f64]) -> Self {
        self.marks.unavailable = raw.to_vec();
        self
    }

    /// One result per field. A payload that is cut off or has anything behind its end is refused as a whole, because
    /// none of it can be trusted.
    ///
    /// # Errors
    /// The payload is no JSON, and every field is a query; if some are not, those that are get the error each.
    pub fn read(&self, payload: &[u8]) -> Result<Vec<Result<Value, FieldError>>, DocumentError> {
        let found = match self.queries {
            0 => Ok(None),
            _ => json::find(&self.root, self.fields.len(), payload).map(Some),
        };
        let found = match found {
            Err(error) if self.queries == self.fields.len() => return Err(error),
            found => found,
        };
        let text = match self.queries == self.fields.len() {
            true => Ok(""),
            false => std::str::from_utf8(payload).map_err(|error| Problem::NotUtf8(error.valid_up_to())),
        };
        let one = |(index, field): (usize, &Field)| {
            let raw = match &field.part {
                Part::Query(query) => match &found {
                    Ok(Some(found)) => found.part(index, query, &self.root),
                    Ok(None) => Err(Problem::NoValue),
                    Err(error) => Err(Problem::Document(error.clone())),
                },
                Part::Regex(regex) => text.clone().and_then(|text| pattern::part(regex, text)),
                Part::Whole => text.clone().and_then(Raw::of_payload),
            };
            let value = raw.and_then(|raw| raw.value(field.shape, &self.marks));
            value.map_err(|problem| FieldError { what: field.what.clone(), problem })
        };
        Ok(self.fields.iter().enumerate().map(one).collect())
    }
}
