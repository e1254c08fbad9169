//! What is taken, and what is refused with its place.

use proptest::prelude::*;

use super::*;
use crate::config;

const SITE: &str = "[[device]]\nid = \"E1\"\ntype = \"http-input\"\n\
    [[device]]\nid = \"E2\"\ntype = \"http-input\"\nmin_ma = 8000\nmax_ma = 20000\n\
    [[device]]\nid = \"E3\"\ntype = \"http-input\"\nenabled = false\n\
    [[device]]\nid = \"M1\"\ntype = \"http-input\"\n";

fn read(text: &str) -> Result<Wishes, BadMessage> {
    parse(text.as_bytes(), &config::parse("test", SITE, &[]).unwrap().devices)
}

fn wish(text: &str, id: &str) -> Wish {
    read(text).unwrap().each[&id.parse::<DeviceId>().unwrap()]
}

fn error(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn a6_the_published_example() {
    let wishes = read("{\"E1\": {cur: 8000, ena: true, wke: true}, \"E2\": {cur: 10000, phs: 3}}").unwrap();
    let all: Vec<(&str, Wish)> = wishes.each.iter().map(|(id, wish)| (id.as_str(), *wish)).collect();
    assert_eq!(
        all,
        [
            ("E1", Wish { current: Some(8_000), enable: Some(true), wake: true, phases: None }),
            ("E2", Wish { current: Some(10_000), enable: None, wake: false, phases: Some(3) }),
        ]
    );
    assert!(wishes.notes.is_empty());
}

#[test]
fn b9_json5_is_taken() {
    let text = "// night\n{E1: {cur: 0x1F40, /* and */ ena: false,}, 'E2': {phs: 1, wke: false,},}\n";
    assert_eq!(wish(text, "E1"), Wish { current: Some(8_000), enable: Some(false), ..Wish::default() });
    assert_eq!(wish(text, "E2"), Wish { phases: Some(1), ..Wish::default() });
    assert_eq!(wish("{\"E1\":{\"cur\":8000.0}}", "E1").current, Some(8_000));
    assert_eq!(wish("{E1: {cur: +8e3}}", "E1").current, Some(8_000));
    assert_eq!(read("{}").unwrap(), Wishes::default());
    assert_eq!(wish("{E1: {}}", "E1"), Wish::default());
}

#[test]
fn b9_what_is_wrong_is_named_with_its_place() {
    for (text, place, words) in [
        ("", "at the end", "too early"),
        ("{E1: {cur: 8000}", "at the end", "too early"),
        ("{E1: {cur", "at the end", "too early"),
        ("{E1: {cur: 8000}} x", "line 1 column 19", "trailing"),
        ("{E1: {cur: 8000}}{}", "line 1 column 18", "trailing"),
        ("[1]", "line 1 column 1", "expected an object like"),
        ("null", "line 1 column 1", "expected an object like"),
        ("{E9: {cur: 8000}}", "line 1 column 2", "no device \"E9\""),
        ("{\"E1 \": {}}", "line 1 column 2", "no device \"E1 \""),
        ("{M1: {cur: 8000}}", "line 1 column 2", "M1 is a meter"),
        ("{E3: {cur: 8000}}", "line 1 column 2", "E3 is disabled"),
        ("{E1: {},\n E1: {}}", "line 2 column 2", "E1 stands there twice"),
        ("{E1: 8000}", "line 1 column 6", "expected an object with cur"),
        ("{E1: {current: 8000}}", "line 1 column 7", "no member \"current\""),
        ("{E1: {cur: 1, cur: 2}}", "line 1 column 15", "cur stands there twice"),
        ("{E1: {cur: \"8000\"}}", "line 1 column 12", "whole milliamps"),
        ("{E1: {cur: null}}", "line 1 column 12", "whole milliamps"),
        ("{E1: {cur: true}}", "line 1 column 12", "whole milliamps"),
        ("{E1: {cur: -1}}", "line 1 column 12", "negative"),
        ("{E1: {cur: -0.5}}", "line 1 column 12", "negative"),
        ("{E1: {cur: 8000.5}}", "line 1 column 12", "fraction"),
        ("{E1: {cur: NaN}}", "line 1 column 12", "finite"),
        ("{E1: {cur: -Infinity}}", "line 1 column 12", "finite"),
        ("{E1: {cur: 1e999}}", "line 1 column 12", "finite"),
        ("{E1: {ena: 1}}", "line 1 column 12", "true or false"),
        ("{E1: {wke: \"true\"}}", "line 1 column 12", "true or false"),
        ("{E1: {phs: 2}}", "line 1 column 12", "expected 1 or 3"),
        ("{E1: {phs: -3}}", "line 1 column 12", "expected 1 or 3"),
        ("{E1: {phs: 1.5}}", "line 1 column 12", "phs 1 or 3"),
        ("{E1: {cur: [8000]}}", "line 1 column 12", "whole milliamps"),
    ] {
        let error = error(text);
        assert!(error.starts_with(&format!("{place}: ")) && error.contains(words), "{text}: {error}");
    }
    let not_text = parse(b"{E1: {\xff}}", &[]).unwrap_err();
    assert_eq!(not_text.place, "byte 7");
}

#[test]
fn b10_currents_are_brought_into_the_wallbox_range() {
    for (id, cur, taken, note) in [
        ("E1", 0, 0, ""),
        ("E1", 1, 0, "paused"),
        ("E1", 5_999, 0, "paused"),
        ("E1", 6_000, 6_000, ""),
        ("E1", 16_000, 16_000, ""),
        ("E1", 16_001, 16_000, "16000 mA"),
        ("E2", 7_999, 0, "minimum of 8000"),
        ("E2", 20_001, 20_000, "20000 mA"),
        ("E2", 99_999_999_999_u64, 20_000, "20000 mA"),
    ] {
        let wishes = read(&format!("{{{id}: {{cur: {cur}}}}}")).unwrap();
        let id: DeviceId = id.parse().unwrap();
        assert_eq!(wishes.each[&id].current, Some(taken), "{cur}");
        let notes: Vec<String> = wishes.notes.iter().map(|note| note.text.clone()).collect();
        assert_eq!(notes.len(), usize::from(!note.is_empty()), "{cur}: {notes:?}");
        assert!(notes.iter().all(|text| text.contains(note)), "{cur}: {notes:?}");
    }
}

#[test]
fn commands_go_in_an_order_that_never_enables_what_is_forbidden() {
    use Command::{Current, Enable, Phases, WakeUp};
    let commands = |text: &str| wish(&format!("{{E1: {text}}}"), "E1").commands();
    assert_eq!(
        commands("{wke: true, ena: true, cur: 8000, phs: 1}"),
        [Phases(1), Current(8_000), Enable(true), WakeUp]
    );
    assert_eq!(commands("{ena: false, cur: 8000}"), [Enable(false)]);
    assert_eq!(wish("{E1: {ena: false, cur: 8000}}", "E1").held_back(), Some(8_000));
    assert_eq!(commands("{ena: false, cur: 0}"), [Current(0), Enable(false)]);
    assert_eq!(commands("{wke: false}"), []);
}

#[test]
fn brackets_without_end_are_only_an_error() {
    for open in ["[", "{E1:", "{a:[", "/*", "{E1:{cur:"] {
        assert!(read(&open.repeat(100_000)).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_breaks_it(text in "\\PC{0,60}") {
        let _ = read(&text);
    }

    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = parse(&bytes, &config::parse("test", SITE, &[]).unwrap().devices);
    }

    #[test]
    fn near_messages_stay_in_range(cur in "[-+]?(0x)?[0-9a-fA-F]{0,9}(\\.[0-9]{0,3})?(e[0-9]{1,3})?", phs in 0u8..5) {
        if let Ok(wishes) = read(&format!("{{E1: {{cur: {cur}, phs: {phs}}}}}")) {
            for wish in wishes.each.values() {
                let ma = wish.current.unwrap();
                prop_assert!(ma == 0 || (6_000..=16_000).contains(&ma));
                prop_assert!(matches!(wish.phases, Some(1 | 3)));
            }
        }
    }
}
