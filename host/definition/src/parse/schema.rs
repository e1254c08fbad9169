//! The format as JSON Schema (draft 2020-12), for editors: written from the tables the parser checks against. It says
//! what each key holds; what keys mean together, only [`parse`](super::parse) knows.

use serde_json::{Map, Value, json};

use super::keys::{HEAD, Holds, Key, VARIABLE};
use super::names;

/// The schema of a definition file.
#[must_use]
pub fn schema() -> Value {
    let mut properties = properties(HEAD);
    for name in names::known() {
        let about = match names::unit(name) {
            Some(unit) => format!("in {unit}"),
            None => "text that says who the device is; read once".to_owned(),
        };
        properties.insert(name.to_owned(), json!({ "$ref": "#/$defs/variable", "description": about }));
    }
    let mut variable = object(VARIABLE);
    if let Some(variable) = variable.as_object_mut() {
        variable.insert(
            "anyOf".into(),
            json!([{ "required": ["address"] }, { "required": ["fixed"] }, { "required": ["expr"] }]),
        );
        variable.insert(
            "not".into(),
            json!({ "anyOf": [
            { "required": ["fixed", "expr"] },
            { "required": ["query", "regex"] },
        ] }),
        );
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Device definition of Ladekern",
        "description": "What a device is read with, and its variables. See docs/definitions.md.",
        "type": "object",
        "required": ["dev_type", "rtype"],
        "properties": properties,
        "propertyNames": { "pattern": r"^(\$schema|(\*|[Cc][Mm]\.)?[A-Za-z_][A-Za-z0-9_]{0,63})$" },
        "additionalProperties": {
            "$ref": "#/$defs/variable",
            "description": "A variable of your own; CM. before its name makes it a manager variable, * shows it to people.",
        },
        "$defs": { "variable": variable },
    })
}

fn properties(keys: &[Key]) -> Map<String, Value> {
    keys.iter().map(|key| (key.name.to_owned(), described(key))).collect()
}

fn object(keys: &[Key]) -> Value {
    json!({ "type": "object", "properties": properties(keys), "additionalProperties": false })
}

fn described(key: &Key) -> Value {
    let mut value = holds(key);
    if let Some(value) = value.as_object_mut() {
        value.insert("description".into(), key.about.into());
    }
    value
}

fn holds(key: &Key) -> Value {
    match &key.holds {
        Holds::Text if key.name == "dev_type" => {
            json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" })
        }
        Holds::Text => json!({ "type": "string" }),
        Holds::Flag => json!({ "type": "boolean" }),
        Holds::Whole { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Holds::Factor => json!({ "type": "number", "not": { "const": 0 } }),
        Holds::Code(codes) => {
            let codes: Vec<i64> = codes.iter().map(|(code, _)| *code).collect();
            json!({ "enum": codes })
        }
        Holds::Word(words) => json!({ "enum": words }),
        Holds::Numbers { most } => json!({ "type": "array", "items": { "type": "number" }, "maxItems": most }),
        Holds::TextOrNumber => json!({ "type": ["string", "number"] }),
        Holds::Address => json!({ "anyOf": [
            { "type": "string" },
            { "type": "integer", "minimum": 0, "maximum": 65535 },
        ] }),
        Holds::Object(keys) => object(keys),
        Holds::List { of, most } => json!({ "type": "array", "items": object(of), "maxItems": most }),
    }
}
