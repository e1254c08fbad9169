//! The schema takes what the parser takes, refuses what the parser refuses, and knows the same keys.

use std::collections::BTreeSet;

use jsonc_parser::ast;
use serde_json::{Map, Value};

use super::robust::{TABLES, VALUES, takes, with_key};
use super::*;

/// A JSON5 text as JSON.
fn json(text: &str) -> Value {
    let parsed = jsonc_parser::parse_to_ast(text, &Default::default(), &Default::default()).unwrap();
    value(parsed.value.as_ref().unwrap())
}

fn value(tree: &ast::Value<'_>) -> Value {
    match tree {
        ast::Value::StringLit(text) => text.value.as_ref().into(),
        ast::Value::NumberLit(number) => match fields::whole(number.value) {
            Some(whole) => whole.into(),
            None => fields::number(number.value).unwrap().into(),
        },
        ast::Value::BooleanLit(flag) => flag.value.into(),
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::Array(array) => array.elements.iter().map(value).collect(),
        ast::Value::Object(object) => {
            let members = object.properties.iter().map(|p| (p.name.as_str().to_owned(), value(&p.value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(&schema()).expect("it is a schema of draft 2020-12")
}

#[test]
fn it_takes_good_files() {
    for text in [MODBUS, HTTP, MQTT] {
        let told: Vec<String> = validator().iter_errors(&json(text)).map(|error| error.to_string()).collect();
        assert_eq!(told, Vec::<String>::new(), "{text}");
    }
}

#[test]
fn it_judges_types_as_the_parser_does() {
    let validator = validator();
    for (table, keys) in TABLES {
        for key in keys {
            // What is no number in JSON, JSON's schema need not refuse.
            for given in VALUES
                .iter()
                .filter(|value| !matches!(**value, "NaN" | "-Infinity" | "1e999" | "-0x99999999999999999999"))
            {
                let (text, path) = with_key(table, key, given);
                // Whether a text is an address, or a list of lists one of numbers, is said deeper down.
                let undecided =
                    matches!((key.name, *given), ("address", "\"?\"") | ("dev_type", _)) || *given == "[[]]";
                let undecided = undecided || matches!((key.name, *given), ("rtu" | "tcp", "{\"?\": 1}"));
                if !undecided {
                    assert_eq!(validator.is_valid(&json(&text)), takes(&key.holds, given), "{path}: {given}");
                }
            }
        }
    }
}

#[test]
fn it_refuses_bad_files() {
    for text in [
        "[]",
        "{}",
        "{\"rtype\": 1}",
        "{\"rtype\": 1, \"dev_type\": \"../d\"}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"power_w\": {}}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"power_w\": {\"adress\": \"/\"}}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"power_w\": {\"address\": \"/\", \"query\": \"a\", \"regex\": \"a\"}}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"power_w\": {\"fixed\": 1, \"expr\": \"1\"}}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"my var\": {\"fixed\": 1}}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"rtu\": {\"silence\": 1}}",
        "{\"rtype\": 1, \"dev_type\": \"d\", \"power_w\": 5}",
    ] {
        assert!(!validator().is_valid(&json(text)), "{text}");
        assert!(parse("f", text).is_err(), "{text}");
    }
}

#[test]
fn it_knows_the_keys_of_the_parser_and_no_others() {
    let schema = schema();
    for (table, keys) in TABLES {
        let place = match table {
            "" => &schema["properties"],
            "v" => &schema["$defs"]["variable"]["properties"],
            "rtu" | "tcp" => &schema["properties"][table]["properties"],
            list => &schema["properties"][list]["items"]["properties"],
        };
        let told: BTreeSet<&str> = place.as_object().unwrap().keys().map(String::as_str).collect();
        let mut known: BTreeSet<&str> = keys.iter().map(|key| key.name).collect();
        if table.is_empty() {
            known.extend(names::known());
        }
        assert_eq!(told, known, "{table}");
        let described = |entry: &Value| entry["description"].as_str().is_some_and(|text| text.len() > 3);
        assert!(place.as_object().unwrap().values().all(described), "{place}");
    }
}
