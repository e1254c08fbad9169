//! `regex`, alone and beside queries.

use super::*;

fn pattern(text: &str) -> DocumentField {
    field(Extract::Regex(compile_regex(text).unwrap()), NUMBER)
}

#[test]
fn the_documented_subset_works() {
    for (text, payload, expected) in [
        (r"(-?\d+(?:\.\d+)?)", "-1234.5\n", "-1234.5"),
        (r"-?\d+", "P=17W", "17"),
        (r"power (\d+)", "voltage 230\npower 1500\n", "1500"),
        (r"^(\d+)$", "42\r\n", "42"),
        (r"^\s*(\S+)\s", "  12.5 W", "12.5"),
        (r"\D(\d)\D", "12 x3y", "3"),
        (r"W:(\w+)", "W:16", "16"),
        (r"\W(\d+)\W", "a1-23-", "23"),
        (r"a|(\d)", "a1", "regex a|(\\d): is \"a\"; expected a number"),
        (r"(?:import|export)=([0-9.]+)", "export=3.5", "3.5"),
        (r"(a|b)?(\d+)", "77", "77"),
        (r"<td>(.*?)</td>", "<td>5</td><td>6</td>", "5"),
        (r"<td>.+?</td><td>(.+)</td>", "<td>5</td><td>6</td>", "6"),
        (r"x??(\d+?)", "x89", "8"),
        (r"[^:]*: ([^ ]*)", "temp: 21 C", "21"),
        (r"(\d*)x", "x", "missing: regex (\\d*)x: is \"\", there is no value now"),
        (r"power (\d+)", "nothing here", "regex power (\\d+): matches nothing in \"nothing here\""),
    ] {
        assert_eq!(read(&pattern(text), payload), expected, "{text} on {payload}");
    }
    assert_eq!(read(&pattern("."), b"\xff\xfe"), "regex .: the payload is no text, byte 1 of it is not UTF-8");
}

#[test]
fn what_is_no_pattern_is_told_in_a_sentence() {
    let error = |text: &str| compile_regex(text).unwrap_err().message;
    assert_eq!(error(""), r"is empty; expected a pattern, like (-?\d+(?:\.\d+)?)");
    assert_eq!(error("(a"), "is no regular expression: unclosed group");
    assert_eq!(error(r"(a)\1"), "is no regular expression: backreferences are not supported");
    assert!(error("(?=a)").starts_with("is no regular expression: look-around"), "{}", error("(?=a)"));
    assert_eq!(error(&"a".repeat(513)), "is 513 bytes long; expected at most 512");
    assert_eq!(error(r"(\w{1,100}){1,100}"), "is too large when compiled; expected fewer or smaller repetitions");
    assert!(error(&"(".repeat(200)).starts_with("is no regular expression: "));
    assert!(error(&format!("{}a{}", "(".repeat(200), ")".repeat(200))).contains("nest"));
}

#[test]
fn a_hostile_pattern_takes_no_longer_than_the_payload_is_long() {
    // Backtracking engines need 2^n steps here.
    let field = pattern("^(a+)+b$");
    let found = read(&field, "a".repeat(100_000));
    assert!(found.contains("matches nothing in \"aaaa"), "{found}");
}

#[test]
fn fields_of_all_kinds_stand_beside_each_other() {
    let fields = [&query("a"), &pattern(r"(\d+)"), &field(Extract::Whole, Shape::Text)];
    assert_eq!(read_all(&fields, r#"{"a":5}"#), ["5", "5", "the payload: is an object; expected a value"]);
    let mixed = read_all(&fields, "power 7");
    assert_eq!(mixed[0], "a: is no JSON: expected a value at line 1 column 1; it begins with \"power 7\"");
    assert_eq!(mixed[1..], ["7", "\"power 7\""]);
}

#[test]
fn no_fields_are_no_work() {
    assert_eq!(Document::new(&[], &[]).read(b"anything").unwrap(), []);
}
