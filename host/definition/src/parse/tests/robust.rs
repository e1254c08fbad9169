//! Every key with every wrong type, files that end anywhere, and texts that were made to hurt.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::keys::{HEAD, Holds, INPUT, Key, OUTPUT, RTU, TCP, VARIABLE};
use super::*;

/// A value of each type, and numbers that are none.
pub(super) const VALUES: &[&str] = &[
    "null",
    "true",
    "5000000",
    "1.5",
    "\"?\"",
    "[]",
    "[[]]",
    "{}",
    "{\"?\": 1}",
    "NaN",
    "-Infinity",
    "1e999",
    "99999999999999999999",
    "-0x99999999999999999999",
];

/// Every table of keys, and where its objects stand.
pub(super) const TABLES: [(&str, &[Key]); 7] = [
    ("", HEAD),
    ("rtu", RTU),
    ("tcp", TCP),
    ("v", VARIABLE),
    ("inputs", INPUT),
    ("outputs", OUTPUT),
    ("resets", OUTPUT),
];

/// Values of the list above that a key takes, or that are said to be wrong at a key within.
pub(super) fn takes(holds: &Holds, value: &str) -> bool {
    match holds {
        Holds::Text => value.starts_with('"'),
        Holds::Flag => value == "true",
        Holds::Whole { least, most } => value == "5000000" && (*least..=*most).contains(&5_000_000),
        Holds::Factor => matches!(value, "5000000" | "1.5" | "99999999999999999999"),
        Holds::TextOrNumber => matches!(value, "\"?\"" | "5000000" | "1.5" | "99999999999999999999"),
        Holds::Code(_) | Holds::Word(_) | Holds::Address => false,
        Holds::Numbers { .. } | Holds::List { .. } => matches!(value, "[]" | "[[]]"),
        Holds::Object(_) => value.starts_with('{'),
    }
}

/// A file with one key more, which stands in line 2, and the path of that key.
pub(super) fn with_key(table: &str, key: &Key, value: &str) -> (String, String) {
    let name = key.name;
    let entry = format!("\n{name:?}: {value}\n");
    let (path, inner) = match table {
        "" => (name.to_owned(), entry),
        "v" => {
            let address = if matches!(name, "address" | "fixed" | "expr") { "" } else { "\"address\": 1," };
            let number = if name == "type" { "" } else { "\"type\": \"int16\"," };
            (format!("v.{name}"), format!("\"v\": {{{address}{number}{entry}}}"))
        }
        "inputs" | "outputs" | "resets" => {
            let address = if name == "address" { "" } else { "\"address\": \"1\"," };
            (format!("{table}[0].{name}"), format!("\"{table}\": [{{{address}{entry}}}]"))
        }
        _ => (format!("{table}.{name}"), format!("\"{table}\": {{{entry}}}")),
    };
    let rtype = if path == "rtype" { "" } else { "\"rtype\": 0," };
    let dev_type = if path == "dev_type" { "" } else { "\"dev_type\": \"d\"," };
    (format!("{{{rtype}{dev_type}{inner}}}"), path)
}

#[test]
fn every_key_with_every_wrong_type_is_told_with_its_place() {
    let mut refused = 0;
    for (table, keys) in TABLES {
        for key in keys {
            for value in VALUES {
                let (text, path) = with_key(table, key, value);
                let checked = check("f", &text);
                let told = checked.errors.iter().find(|finding| finding.key == path);
                if takes(&key.holds, value) {
                    continue;
                }
                let Some(told) = told else { panic!("{path}: {value} is taken: {:?}", checked.errors) };
                refused += 1;
                assert_eq!((told.line, told.file.as_str()), (2, "f"), "{text}");
                assert!(checked.definition.is_none());
                assert!(told.message.len() > 10, "{told}");
            }
        }
    }
    assert!(refused > 400, "{refused}");
}

#[test]
fn a_variable_of_any_other_type_is_no_variable() {
    for value in VALUES.iter().filter(|value| !value.starts_with('{')) {
        let told = errors(&format!("{{\"rtype\": 0, \"dev_type\": \"d\", \"power_w\": {value}}}"));
        assert!(told.starts_with("f:1:31: power_w: a variable is an object"), "{value}: {told}");
    }
}

#[test]
fn a_file_that_ends_anywhere_is_refused_with_a_place() {
    for whole in [MODBUS, HTTP, MQTT] {
        let end = whole.trim_end().len();
        for at in (0..end).filter(|at| whole.is_char_boundary(*at)) {
            let cut = &whole[..at];
            let checked = check("f", cut);
            assert!(checked.definition.is_none(), "{cut}");
            let first = checked.errors.first().expect("it says why");
            assert!(first.line >= 1 && first.line <= cut.lines().count().max(1), "{first}");
        }
    }
}

#[test]
fn broken_texts_are_told_in_a_sentence() {
    for (text, said) in [
        ("", "f:1:1: the file is empty; a definition is an object: { \"dev_type\": …, \"rtype\": …, … }\n"),
        ("// nothing", "f:1:1: the file is empty; a definition is an object: { \"dev_type\": …, \"rtype\": …, … }\n"),
        ("[1]", "f:1:1: a definition is an object: { \"dev_type\": …, \"rtype\": …, … }\n"),
        ("{\n  \"a\": {\n    \"b\": 1", "f:2:8: a: this { is never closed; the file ends too early\n"),
        ("{ \"inputs\": [{}", "f:1:13: inputs: this [ is never closed; the file ends too early\n"),
        ("{\"power_w\": {\"type\": float}}", "f:1:22: power_w.type: \"float\" must stand in quotes\n"),
        ("{\"a\": {\"once\": True}}", "f:1:16: a.once: True is no JSON; write true, false or null\n"),
        ("{CM._set_price: {}}", "f:1:2: \"CM._set_price\" must stand in quotes\n"),
        ("{\"a\" 1}", "f:1:6: expected a colon between key and value\n"),
        ("{\"a\": }", "f:1:7: a: unexpected \"}\"; expected a key, a value or the end of the object\n"),
        ("{\"a\": 1}}", "f:1:9: the file goes on after its object; it must hold one object { … }\n"),
        ("{\"a\": 0x}", "f:1:9: a: this is no number; numbers look like 12, -0.1 or 0x1F\n"),
        ("{ /* x", "f:1:3: this comment is never closed; expected */\n"),
        ("{\"a\": \"\\u12\"}", "f:1:8: a: this text has a \\ that JSON5 does not know; a backslash is written \\\\\n"),
        (
            "{\"name\": \"x,\n \"rtype\": 1}",
            "f:1:10: name: this text is not closed on its line; the closing quote is missing\n",
        ),
    ] {
        assert_eq!(errors(text), said, "{text}");
    }
}

#[test]
fn missing_commas_are_all_told_and_the_rest_is_read() {
    let text = "{\"rtype\": 7\n \"dev_type\": \"d\"\n \"soc\": {\"fixed\": 1 \"type\": 2}}";
    assert_eq!(
        errors(text),
        "f:1:11: rtype: must be 0 (Modbus (TCP, RTU over TCP, RTU)) or 1 (HTTP) or 2 (MQTT), is 7
f:2:2: rtype: expected a comma before \"\\\"dev_type\\\"\"
f:3:2: dev_type: expected a comma before \"\\\"soc\\\"\"
f:3:21: soc.fixed: expected a comma before \"\\\"type\\\"\"
f:3:29: soc.type: must be one of the texts int16, uint16, int32, uint32, int64, uint64, float, double, string, is 2
"
    );
}

#[test]
fn texts_that_were_made_to_hurt_end_soon() {
    let start = Instant::now();
    for text in [
        "[".repeat(1 << 20),
        "[".repeat(200_000),
        "{\"a\":".repeat(40_000),
        format!("{{\"reserved\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{{}}}", "\"a\" 1 ".repeat(20_000)),
        format!("{{{}}}", "\"aaaaaaaaaaaaaaaaaaaa\": 1, ".repeat(9_000)),
        format!("{{{}}}", (0..15_000).map(|n| format!("\"k{n}\": {{}},")).collect::<String>()),
        format!("{{\"{}\": 1}}", "k".repeat(200_000)),
        format!(
            "{{\"rtype\": 1, \"dev_type\": \"d\", \"a\": {{\"expr\": \"{}1{}\"}}}}",
            "(".repeat(10_000),
            ")".repeat(10_000)
        ),
        format!(
            "{{\"rtype\": 1, \"dev_type\": \"d\", \"a\": {{\"address\": \"/\", \"regex\": \"{}\"}}}}",
            "(".repeat(10_000)
        ),
        "{\"".repeat(100_000),
        "\u{feff}".repeat(80_000),
    ] {
        let checked = check("f", &text);
        assert!(!checked.errors.is_empty());
        assert!(checked.errors.iter().all(|finding| finding.message.len() < 1000 && finding.key.len() < 1000));
    }
    // Generous: tests run unoptimised beside others.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn a_file_of_more_than_256_kib_is_refused_and_one_of_256_is_read() {
    let file = |size: usize| format!("{{\"rtype\": 1, \"dev_type\": \"d\"}}{}", " ".repeat(size - 29));
    assert_eq!(file(100).len(), 100);
    assert_eq!(errors(&file(262_144)), "");
    assert_eq!(errors(&file(262_145)), "f:1:1: the file has 262145 bytes, a definition may have at most 262144\n");
}

#[test]
fn a_file_of_more_than_a_thousand_variables_is_refused() {
    let file = |count: usize| {
        let variables: String = (0..count).map(|n| format!("\n\"k{n}\": {{\"fixed\": 1}},")).collect();
        errors(&format!("{{\"rtype\": 1, \"dev_type\": \"d\",{variables}}}"))
    };
    assert_eq!(file(1000), "");
    assert_eq!(file(1002), "f:1002:1: k1000: a definition has at most 1000 variables, this one has 1002\n");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_do_not_matter() {
    let text = format!("\u{feff}{}", MODBUS.replace('\n', "\r\n"));
    assert_eq!(good(&text).variables.len(), good(MODBUS).variables.len());
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = check("f", &text);
    }

    #[test]
    fn no_change_of_a_byte_panics(at in 0..MODBUS.len(), byte in any::<char>()) {
        if let (Some(before), Some(after)) = (MODBUS.get(..at), MODBUS.get(at + 1..)) {
            let checked = check("f", &format!("{before}{byte}{after}"));
            prop_assert_eq!(checked.definition.is_none(), !checked.errors.is_empty());
        }
    }

    #[test]
    fn findings_are_in_the_order_of_the_file(at in 0..MODBUS.len(), length in 0..40_usize) {
        if let (Some(before), Some(after)) = (MODBUS.get(..at), MODBUS.get(at + length..)) {
            let places = |findings: &[Finding]| findings.iter().map(|f| (f.line, f.column)).collect::<Vec<_>>();
            let checked = check("f", &format!("{before}{after}"));
            prop_assert!(places(&checked.errors).is_sorted() && places(&checked.warnings).is_sorted());
        }
    }
}
