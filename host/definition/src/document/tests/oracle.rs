//! The same answers as a walk over a tree of values, and the same idea of what JSON is, for whatever comes.

use proptest::prelude::*;
use serde_json::Value as Json;

use super::*;
use crate::query::{Scalar, Step};

/// What a query leads to, the slow way. `Err(true)`: there is no value now.
fn walk<'a>(mut value: &'a Json, query: &Query) -> Result<&'a Json, bool> {
    for part in query.parts() {
        let next = match &part.step {
            Step::Member(name) => value.as_object().and_then(|members| members.get(&**name)),
            Step::Element(index) => value.as_array().and_then(|elements| elements.get(*index)),
            Step::Where(members) => value.as_array().and_then(|elements| elements.iter().find(|it| fits(it, members))),
        };
        value = next.ok_or(value.is_null())?;
    }
    Ok(value)
}

fn fits(element: &Json, members: &[(Box<str>, Scalar)]) -> bool {
    members.iter().all(|(name, wanted)| match (wanted, element.get(&**name)) {
        (Scalar::Null, Some(Json::Null)) => true,
        (Scalar::Bool(own), Some(Json::Bool(other))) => own == other,
        (Scalar::Text(own), Some(Json::String(other))) => **own == **other,
        (Scalar::Integer(own), Some(Json::Number(other))) => other.as_f64() == Some(*own as f64),
        (Scalar::Float(own), Some(Json::Number(other))) => other.as_f64() == Some(*own),
        _ => false,
    })
}

/// What reading should say of the oracle's answer, and said of the value.
fn agree(expected: Result<&Json, bool>, found: &Result<Value, FieldError>) -> bool {
    match (expected, found) {
        (Err(missing), Err(error)) => error.is_missing() == missing,
        (Ok(Json::Null), Err(error)) => error.is_missing(),
        (Ok(Json::Array(_) | Json::Object(_)), Err(error)) => error.to_string().ends_with("expected a value"),
        (Ok(Json::Bool(value)), Ok(Value::Number(number))) => *number == f64::from(u8::from(*value)),
        // serde_json may be off by the last bit, depending on its features.
        (Ok(Json::Number(value)), Ok(Value::Number(number))) => {
            value.as_f64().is_some_and(|value| (value - number).abs() <= value.abs() * 1e-15 + f64::MIN_POSITIVE)
        }
        (Ok(Json::String(text)), Err(error)) => {
            error.to_string().contains("expected a number") == text.starts_with('x')
        }
        _ => false,
    }
}

const NAMES: [&str; 5] = ["a", "b", "ä", "\\u0061", "k\\n"];

/// Documents as text, so that members may be there twice and blanks anywhere.
fn document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        (-3_i32..4).prop_map(|value| value.to_string()),
        (-3_i32..4).prop_map(|value| format!("{value}.0")),
        any::<f64>()
            .prop_filter("JSON has no others", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        "x[a-c\u{e4}]{0,3}".prop_map(|text| format!("\"{text}\"")),
        Just(r#""x\ud83d\ude00\"""#.to_owned()),
    ];
    let blank = || prop::sample::select(vec!["", "", " ", "\n\t"]);
    scalar.prop_recursive(4, 40, 5, move |inner| {
        let elements = (prop::collection::vec(inner.clone(), 0..5), blank())
            .prop_map(|(elements, blank)| format!("[{blank}{}{blank}]", elements.join(&format!("{blank},{blank}"))));
        let member = (prop::sample::select(NAMES.to_vec()), inner, blank());
        let member = member.prop_map(|(name, value, blank)| format!("\"{name}\"{blank}:{blank}{value}"));
        let members = (prop::collection::vec(member, 0..5), blank())
            .prop_map(|(members, blank)| format!("{{{blank}{}{blank}}}", members.join(&format!("{blank},"))));
        prop_oneof![elements, members]
    })
}

fn a_query() -> impl Strategy<Value = Query> {
    let scalar = prop::sample::select(vec!["null", "true", "1", "2.0", "\"xa\"", "\"x\""]);
    let name = || prop::sample::select(NAMES.to_vec());
    let step = prop_oneof![
        3 => name().prop_map(|name| format!("[\"{name}\"]")),
        2 => (0_usize..4).prop_map(|index| format!("[{index}]")),
        1 => (name(), scalar).prop_map(|(name, scalar)| format!("[{{\"{name}\":{scalar}}}]")),
    ];
    prop::collection::vec(step, 1..4).prop_map(|steps| Query::parse(&steps.concat()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn reading_is_walking(payload in document(), queries in prop::collection::vec(a_query(), 1..8)) {
        let tree: Json = serde_json::from_str(&payload).unwrap();
        let fields: Vec<DocumentField> = queries.iter().map(|query| field(Extract::Query(query.clone()), NUMBER)).collect();
        let found = Document::new(&fields.iter().collect::<Vec<_>>(), &[]).read(payload.as_bytes()).unwrap();
        for (query, found) in queries.iter().zip(&found) {
            let expected = walk(&tree, query);
            prop_assert!(agree(expected, found), "{query:?} of {payload}: {expected:?}, {found:?}");
        }
    }

    #[test]
    fn json_is_what_serde_json_takes_for_it(payload in document(), at: prop::sample::Index, new in any::<Option<char>>()) {
        // One character of a document becomes another one or is gone.
        let mut text: Vec<char> = payload.chars().collect();
        let at = at.index(text.len());
        match new {
            Some(new) => text[at] = new,
            None => _ = text.remove(at),
        }
        let text: String = text.into_iter().collect();
        let json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(Document::new(&[&query("a.b")], &[]).read(text.as_bytes()).is_ok(), json, "{}", text);
    }

    #[test]
    fn nothing_panics(payload in prop::collection::vec(prop::sample::select(b"{}[]\",:\\u0123456789eE+-.tfn alrsu\xff".to_vec()), 0..60), query in a_query()) {
        let text = field(Extract::Query(query), Shape::Text);
        let _ = Document::new(&[&text, &field(Extract::Whole, NUMBER)], &[1.0]).read(&payload);
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&payload).is_ok();
        prop_assert_eq!(Document::new(&[&text], &[]).read(&payload).is_ok(), json);
    }
}
