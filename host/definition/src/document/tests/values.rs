//! From what stands there to a value.

use super::*;

const TEXT: Shape = Shape::Text;

fn number(number: Number, factor: f64) -> Shape {
    Shape::Number { number, factor }
}

#[test]
fn numbers_and_what_is_read_as_one() {
    for (json, expected) in [
        ("16", "16"),
        ("-1.5e2", "-150"),
        ("0.1", "0.1"),
        ("1E+2", "100"),
        (r#""16""#, "16"),
        (r#"" 231.5 ""#, "231.5"),
        (r#""-.5""#, "-0.5"),
        (r#""+3""#, "3"),
        (r#""1.2e3""#, "1200"),
        (r#""\u0031\u0036""#, "16"),
        ("true", "1"),
        ("false", "0"),
        (r#""ON""#, "1"),
        (r#""off""#, "0"),
        (r#""True""#, "1"),
        (r#""false""#, "0"),
        ("-0", "0"),
        // Rounded to the nearest that there is, and not cut.
        ("9007199254740993", "9007199254740992"),
        ("9007199254740995", "9007199254740996"),
        ("18446744073709551615", "18446744073709552000"),
        ("123456789012345678901234567890", "123456789012345680000000000000"),
        ("1e-400", "0"),
    ] {
        let payload = format!(r#"{{"a":{json}}}"#);
        for kind in [Number::Float, Number::Int16, Number::Uint64] {
            assert_eq!(read(&shaped("a", number(kind, 1.0)), &payload), expected, "{json}");
        }
    }
}

#[test]
fn what_is_no_number_is_told() {
    for (json, expected) in [
        (r#""231,5""#, r#"a: is "231,5"; expected a number with a decimal point, not a comma"#),
        (r#""1,234.5""#, r#"a: is "1,234.5"; expected a number with a decimal point, not a comma"#),
        (r#""231 V""#, r#"a: is "231 V"; expected a number"#),
        (r#""0x10""#, r#"a: is "0x10"; expected a number"#),
        (r#""1.2.3""#, r#"a: is "1.2.3"; expected a number"#),
        (r#""-""#, r#"a: is "-"; expected a number"#),
        (r#"",""#, r#"a: is ","; expected a number"#),
        (r#""yes""#, r#"a: is "yes"; expected a number"#),
        (r#""nan""#, r#"a: is "nan", which is no finite number that can be calculated with"#),
        (r#""-Infinity""#, r#"a: is "-Infinity", which is no finite number that can be calculated with"#),
        ("1e400", r#"a: is "1e400", which is no finite number that can be calculated with"#),
        (r#""1e400""#, r#"a: is "1e400", which is no finite number that can be calculated with"#),
    ] {
        assert_eq!(read(&query("a"), format!(r#"{{"a":{json}}}"#)), expected, "{json}");
    }
    // One of them does not cost the others.
    assert_eq!(read_all(&[&query("a"), &query("b")], r#"{"a":1e999,"b":2}"#)[1], "2");
}

#[test]
fn a_long_text_is_shown_with_its_beginning() {
    let error = read(&query("a"), format!(r#"{{"a":"{}"}}"#, "ä".repeat(1000)));
    assert_eq!(error, format!("a: is \"{}…\"; expected a number", "ä".repeat(40)));
}

#[test]
fn no_value_now_is_no_fault() {
    for json in ["null", r#""unavailable""#, r#""unknown""#, r#""None""#, r#""""#, r#"" ""#] {
        for shape in [NUMBER, TEXT] {
            let found = read(&shaped("a", shape), format!(r#"{{"a":{json}}}"#));
            assert!(
                found.starts_with("missing: a: is ") && found.ends_with(", there is no value now"),
                "{json}: {found}"
            );
        }
    }
}

#[test]
fn a_type_does_not_limit_what_a_document_says_in_full() {
    assert_eq!(read(&shaped("a", number(Number::Int16, 1.0)), r#"{"a":70000}"#), "70000");
    assert_eq!(read(&shaped("a", number(Number::Uint32, 1.0)), r#"{"a":-1.5}"#), "-1.5");
}

#[test]
fn resolution_multiplies_and_reserved_values_are_zero() {
    assert_eq!(read(&shaped("a", number(Number::Float, 1000.0)), r#"{"a":"1.5"}"#), "1500");
    assert_eq!(read(&shaped("a", number(Number::Float, -1.0)), r#"{"a":20}"#), "-20");
    assert_eq!(read(&shaped("a", number(Number::Float, -1.0)), r#"{"a":0}"#), "0", "and not -0");
    let error = read(&shaped("a", number(Number::Float, 1e10)), r#"{"a":1e305}"#);
    assert_eq!(error, r#"a: is "1e305", which is no finite number that can be calculated with"#);
    let field = shaped("a", number(Number::Int16, 0.1));
    let document = Document::new(&[&field], &[65535.0, -32768.0]);
    for (payload, expected) in [(r#"{"a":65535}"#, 0.0), (r#"{"a":"-32768"}"#, 0.0), (r#"{"a":6553}"#, 655.3)] {
        assert_eq!(document.read(payload.as_bytes()).unwrap(), [Ok(Value::Number(expected))], "{payload}");
    }
}

#[test]
fn a_number_can_mean_that_there_is_no_value_now() {
    let field = shaped("a", number(Number::Int16, 0.1));
    let document = Document::new(&[&field], &[0.0]).unavailable(&[-32768.0, 32767.0]);
    for payload in [r#"{"a":-32768}"#, r#"{"a":"32767"}"#, r#"{"a":3.2767e4}"#] {
        let found = document.read(payload.as_bytes()).unwrap().remove(0);
        assert!(found.as_ref().is_err_and(FieldError::is_missing), "{payload}: {found:?}");
    }
    assert_eq!(document.read(br#"{"a":32766}"#).unwrap(), [Ok(Value::Number(3276.6))]);
}

#[test]
fn texts_are_taken_as_written() {
    for (json, expected) in [
        (r#""ABC 1""#, r#""ABC 1""#),
        (r#"" a\tb\u00e4 ""#, r#""a\tbä""#),
        ("12345678901234567890123", r#""12345678901234567890123""#),
        ("1.50", r#""1.50""#),
        ("true", r#""true""#),
        ("[1]", "a: is an array; expected a value"),
    ] {
        assert_eq!(read(&shaped("a", TEXT), format!(r#"{{"a":{json}}}"#)), expected, "{json}");
    }
    let long = |length| read(&shaped("a", TEXT), format!(r#"{{"a":"{}"}}"#, "x".repeat(length)));
    assert_eq!(long(MAX_TEXT).len(), MAX_TEXT + 2);
    assert_eq!(long(MAX_TEXT + 1), "a: is 257 bytes long; expected at most 256");
}

#[test]
fn versions_get_their_dots() {
    let dotted = |number, parts, json: &str| {
        let read = read(&shaped("a", Shape::Dotted { number, parts }), format!(r#"{{"a":{json}}}"#));
        read.trim_matches('"').to_owned()
    };
    assert_eq!(dotted(Number::Uint16, 2, "258"), "1.2");
    assert_eq!(dotted(Number::Int32, 2, "65538"), "1.2");
    assert_eq!(dotted(Number::Uint32, 4, "\"16909060\""), "1.2.3.4");
    assert_eq!(dotted(Number::Uint64, 2, "4294967298"), "1.2");
    assert_eq!(dotted(Number::Uint64, 4, "281483566841860"), "1.2.3.4");
    assert_eq!(dotted(Number::Int16, 2, "-1"), "255.255");
    // Whoever writes dots or more than fits has a version already.
    assert_eq!(dotted(Number::Int32, 2, "\"1.2.3-beta\""), "1.2.3-beta");
    assert_eq!(dotted(Number::Int16, 2, "65536"), "65536");
    assert_eq!(dotted(Number::Int16, 2, "1.5"), "1.5");
}

#[test]
fn a_whole_payload_is_one_value() {
    let whole = |shape| field(Extract::Whole, shape);
    for (payload, expected) in [
        ("21.5", "21.5"),
        (" 21.5\r\n", "21.5"),
        ("\"21.5\"", "21.5"),
        ("ON", "1"),
        ("true", "1"),
        ("null", "missing: the payload: is null, there is no value now"),
        ("", "missing: the payload: is \"\", there is no value now"),
        ("unavailable", "missing: the payload: is \"unavailable\", there is no value now"),
        ("21,5", "the payload: is \"21,5\"; expected a number with a decimal point, not a comma"),
        ("{\"a\":1}", "the payload: is an object; expected a value"),
        ("[1,2]", "the payload: is an array; expected a value"),
        ("{\"a\":1", "the payload: is \"{\"a\":1\"; expected a number"),
    ] {
        assert_eq!(read(&whole(NUMBER), payload), expected, "{payload}");
    }
    for (payload, expected) in
        [("v1.2\n", r#""v1.2""#), (r#""v\"1""#, r#""v\"1""#), ("0012", r#""0012""#), ("[x] y", r#""[x] y""#)]
    {
        assert_eq!(read(&whole(TEXT), payload), expected, "{payload}");
    }
    let error = read(&whole(TEXT), b"ab\xff");
    assert_eq!(error, "the payload: the payload is no text, byte 3 of it is not UTF-8");
}
