//! A query against a payload: the first line is the query, the rest what a device sent. What is taken for JSON is what
//! serde_json takes for it, simple queries find what a walk over its tree finds, and whatever comes out is fit to be used.
#![no_main]

use ladekern_definition::{Address, Document, DocumentField, Extract, Number, Query, Shape, Value};
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Json;

/// The same, slowly. `None`: the query is not of the simple kind.
fn walk<'a>(query: &str, mut value: &'a Json) -> Option<Option<&'a Json>> {
    for step in query.replace('[', ".[").trim_start_matches('.').split('.') {
        let next = match step.strip_prefix('[').and_then(|step| step.strip_suffix(']')) {
            Some(index) => value.get(index.parse::<usize>().ok()?),
            None if step.bytes().all(|byte| byte.is_ascii_alphanumeric()) => value.get(step),
            None => return None,
        };
        match next {
            Some(next) => value = next,
            None => return Some(None),
        }
    }
    Some(Some(value))
}

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let Some(Ok(text)) = lines.next().map(std::str::from_utf8) else { return };
    let payload = lines.next().unwrap_or_default();
    let query = match Query::parse(text) {
        Ok(query) => query,
        Err(error) => return assert!(error.offset <= text.len() && !error.message.is_empty()),
    };
    let number = Shape::Number { number: Number::Float, factor: 0.1 };
    let dotted = Shape::Dotted { number: Number::Uint32, parts: 4 };
    let query = Extract::Query(query);
    let fields = [
        (&query, number),
        (&query, Shape::Text),
        (&query, dotted),
        (&Extract::Whole, number),
        (&Extract::Whole, Shape::Text),
    ];
    let fields = fields.map(|(extract, shape)| DocumentField {
        address: Address::Mqtt { topic: "t".into() },
        extract: extract.clone(),
        shape,
    });
    let [first, rest @ ..] = &fields;
    let alone = Document::new(&[first], &[0.0]).read(payload);
    let json = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    match &alone {
        Err(error) if error.message.contains("at most 128") => return,
        _ => assert_eq!(alone.is_ok(), serde_json::from_slice::<serde::de::IgnoredAny>(json).is_ok()),
    }
    if let (Ok(found), Ok(tree)) = (&alone, serde_json::from_slice::<Json>(json))
        && let Some(expected) = walk(text, &tree)
    {
        match (expected, &found[0]) {
            (Some(Json::Number(expected)), found) => {
                let Ok(Value::Number(found)) = found else { panic!("{expected}: {found:?}") };
                // serde_json may be off by the last bit.
                let expected = expected.as_f64().unwrap_or_default() / 10.0;
                assert!((expected - found).abs() <= expected.abs() * 1e-15 + f64::MIN_POSITIVE, "{expected}, {found}");
            }
            (Some(Json::Bool(_)), found) => assert!(found.is_ok()),
            (Some(Json::Null), Err(error)) => assert!(error.is_missing(), "{error}"),
            (Some(Json::String(_)), _) => {}
            (_, found) => assert!(found.is_err()),
        }
    }
    let all: Vec<&DocumentField> = [first].into_iter().chain(rest).collect();
    let all = Document::new(&all, &[]).read(payload).expect("not all of them are queries");
    assert_eq!(all.len(), 5);
    for found in all {
        match found {
            Ok(Value::Number(number)) => assert!(number.is_finite()),
            Ok(Value::Text(text)) => assert!(!text.is_empty() && text.len() <= ladekern_definition::document::MAX_TEXT),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
