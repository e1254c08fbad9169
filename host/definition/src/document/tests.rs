//! Documents and the values in them.

use super::*;
use crate::{Address, Number};

const NUMBER: Shape = Shape::Number { number: Number::Float, factor: 1.0 };

fn field(extract: Extract, shape: Shape) -> DocumentField {
    DocumentField { address: Address::Mqtt { topic: "t".into() }, extract, shape }
}

fn query(text: &str) -> DocumentField {
    field(Extract::Query(Query::parse(text).unwrap()), NUMBER)
}

/// One value as text, or the error.
fn read(field: &DocumentField, payload: &str) -> String {
    let mut results = match Document::new(&[field], &[]).read(payload.as_bytes()) {
        Ok(results) => results,
        Err(error) => return format!("document: {error}"),
    };
    assert_eq!(results.len(), 1);
    match results.remove(0) {
        Ok(Value::Number(number)) => number.to_string(),
        Ok(Value::Text(text)) => format!("{text:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_golden_table() {
    for (text, payload, expected) in [
        ("power", r#"{"power":231.5}"#, "231.5"),
        ("a.b", r#"{"a":{"b":1}}"#, "1"),
        ("a[3]", r#"{"a":[0,1,2,3]}"#, "3"),
        (r#"a["x"]"#, r#"{"a":{"x":4}}"#, "4"),
        ("a[name]", r#"{"a":{"name":5}}"#, "5"),
        ("tuple[0][1]", r#"{"tuple":[[5,6]]}"#, "6"),
        (
            r#"arr[{"el1":"v1","el2":3}].value"#,
            r#"{"arr":[{"el1":"v1","el2":4,"value":1},{"el1":"v1","el2":3.0,"value":7}]}"#,
            "7",
        ),
        ("[0].x", r#"[{"x":1}]"#, "1"),
        (r#"["1-0:1.8.0*255"]"#, r#"{"1-0:1.8.0*255":1}"#, "1"),
    ] {
        assert_eq!(read(&query(text), payload), expected, "{text} of {payload}");
    }
}
