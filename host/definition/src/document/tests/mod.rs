//! Documents and the values in them.

mod oracle;
mod patterns;
mod structure;
mod values;

use super::*;
use crate::{Address, Number};

const NUMBER: Shape = Shape::Number { number: Number::Float, factor: 1.0 };

fn field(extract: Extract, shape: Shape) -> DocumentField {
    DocumentField { address: Address::Mqtt { topic: "t".into() }, extract, shape }
}

fn query(text: &str) -> DocumentField {
    shaped(text, NUMBER)
}

fn shaped(text: &str, shape: Shape) -> DocumentField {
    field(Extract::Query(Query::parse(text).unwrap()), shape)
}

/// One value as text, or the error.
fn read(field: &DocumentField, payload: impl AsRef<[u8]>) -> String {
    read_all(&[field], payload).remove(0)
}

/// Values as text, or their errors; the error of the document alone.
fn read_all(fields: &[&DocumentField], payload: impl AsRef<[u8]>) -> Vec<String> {
    let results = match Document::new(fields, &[]).read(payload.as_ref()) {
        Ok(results) => results,
        Err(error) => return vec![format!("document: {error}")],
    };
    assert_eq!(results.len(), fields.len());
    results.into_iter().map(shown).collect()
}

fn shown(result: Result<Value, FieldError>) -> String {
    match result {
        Ok(Value::Number(number)) => number.to_string(),
        Ok(Value::Text(text)) => format!("{text:?}"),
        Err(error) if error.is_missing() => format!("missing: {error}"),
        Err(error) => error.to_string(),
    }
}
