//! What queries find in which documents.

use super::*;

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
        (r#"[{"id":2}].x[1]"#, r#"[7,{"id":1,"x":[1,2]},{"x":[3,4],"id":2},{"id":2,"x":[5,6]}]"#, "4"),
        (r#"["1-0:1.8.0*255"]"#, r#"{"1-0:1.8.0*255":1}"#, "1"),
        (r#"["a.b"].c"#, r#"{"a":{"b":{"c":1}},"a.b":{"c":2}}"#, "2"),
        ("a b", r#"{"a b":1}"#, "1"),
        ("switch:0.apower", r#"{"switch:0":{"apower":25.4}}"#, "25.4"),
        ("Zähler.W", r#"{"Z\u00e4hler":{"W":8}}"#, "8"),
        (r#"["say \"hi\""]"#, r#"{"say \"hi\"":8}"#, "8"),
        (r#"[""]"#, r#"{"":8}"#, "8"),
    ] {
        assert_eq!(read(&query(text), payload), expected, "{text} of {payload}");
    }
}

#[test]
fn a_search_compares_values_and_kinds() {
    let find = |filter: &str, element: &str| {
        read(&query(&format!("a[{filter}].v")), format!(r#"{{"a":[1,"x",null,[],{{"v":0}},{element},{{"v":2}}]}}"#))
    };
    for (filter, element) in [
        (r#"{"k":3}"#, r#"{"k":3.0,"v":1}"#),
        (r#"{"k":3.0}"#, r#"{"k":3,"v":1}"#),
        (r#"{"k":-0.5}"#, r#"{"v":1,"k":-5e-1}"#),
        (r#"{"k":18446744073709551615}"#, r#"{"k":18446744073709551615,"v":1}"#),
        (r#"{"k":true,"l":null}"#, r#"{"k":true,"l":null,"v":1}"#),
        (r#"{"k":"ä\n"}"#, r#"{"k":"\u00e4\n","v":1}"#),
        (r#"{"k\u00e4":"x"}"#, r#"{"k\u00e4":"x","v":1}"#),
        // The last of two members of a name counts.
        (r#"{"k":"x"}"#, r#"{"k":"y","k":"x","v":1}"#),
    ] {
        assert_eq!(find(filter, element), "1", "{filter} {element}");
    }
    for (filter, element) in [
        (r#"{"k":3}"#, r#"{"k":"3","v":1}"#),
        (r#"{"k":"3"}"#, r#"{"k":3,"v":1}"#),
        (r#"{"k":1}"#, r#"{"k":true,"v":1}"#),
        (r#"{"k":null}"#, r#"{"v":1}"#),
        (r#"{"k":"x"}"#, r#"{"k":"x","k":"y","v":1}"#),
        (r#"{"k":"x","l":1}"#, r#"{"k":"x","v":1}"#),
        (r#"{"k":18446744073709551615}"#, r#"{"k":18446744073709551614,"v":1}"#),
        (r#"{"k":"x"}"#, r#"{"k":["x"],"v":1}"#),
    ] {
        let error = find(filter, element);
        assert!(error.ends_with("there is no element with these members in a"), "{filter} {element}: {error}");
    }
}

#[test]
fn the_first_element_that_fits_counts_even_if_a_later_one_has_the_value() {
    let document = r#"{"a":[{"k":1},{"k":1,"v":5}]}"#;
    assert_eq!(read(&query(r#"a[{"k":1}].v"#), document), r#"a[{"k":1}].v: there is no member "v" in a[{"k":1}]"#);
}

#[test]
fn many_fields_share_one_pass() {
    let texts = [
        "a",
        "a.b",
        "a.c[1]",
        "a.c[0]",
        r#"a.d[{"n":"x"}].v"#,
        r#"a.d[{"n":"y"}].v"#,
        r#"a.d[{"n":"y"}].v"#,
        r#"a.d[{"m":1,"n":"y"}].w"#,
        "a.d[1].v",
        "e",
    ];
    let fields: Vec<DocumentField> = texts.into_iter().map(query).collect();
    let payload = r#" { "e" : "5" , "a" : { "d" : [ {"n":"y","v":1} , {"n":"x","v":2} , {"n":"y","m":1,"w":3} ] ,
        "c" : [ 10 , 11 ] , "b" : 12 , "unasked" : { "a" : [ { } , [ ] , "\u00e4\"" , true , false , null , -1.5E+3 ] } } } "#;
    let expected = ["a: is an object; expected a value", "12", "11", "10", "2", "1", "1", "3", "2", "5"];
    assert_eq!(read_all(&fields.iter().collect::<Vec<_>>(), payload), expected);
}

#[test]
fn more_members_than_are_searched_one_by_one() {
    let names: Vec<String> = (0..100).map(|index| format!("m{index}")).collect();
    let fields: Vec<DocumentField> = names.iter().map(|name| query(name)).collect();
    let members: Vec<String> =
        names.iter().rev().enumerate().map(|(at, name)| format!("\"{name}\":{at},\"x{at}\":0")).collect();
    let values = read_all(&fields.iter().collect::<Vec<_>>(), format!("{{{}}}", members.join(",")));
    assert_eq!(values, (0..100).rev().map(|value: u32| value.to_string()).collect::<Vec<_>>());
}

#[test]
fn what_is_not_there_is_told_with_the_step_that_fails() {
    for (text, payload, expected) in [
        ("power", "{}", r#"power: there is no member "power" in the document"#),
        ("a.b.c", r#"{"a":{"x":1}}"#, r#"a.b.c: there is no member "b" in a"#),
        ("a.b[2].d", r#"{"a":{"b":[1,2]}}"#, "a.b[2].d: there is no element 2 in a.b"),
        ("a.b", r#"{"a":[1]}"#, r#"a.b: a is an array; member "b" needs an object"#),
        ("a[0]", r#"{"a":{"0":1}}"#, "a[0]: a is an object; element 0 needs an array"),
        (
            r#"a[{"x":1}]"#,
            r#"{"a":7}"#,
            r#"a[{"x":1}]: a is a single value; element with these members needs an array"#,
        ),
        ("a", "17", r#"a: the document is a single value; member "a" needs an object"#),
        ("a", r#"{"a":{}}"#, "a: is an object; expected a value"),
        ("a", r#"{"a":[1]}"#, "a: is an array; expected a value"),
        ("a.b", r#"{"a":null}"#, "missing: a.b: is null, there is no value now"),
        ("a", "null", "missing: a: is null, there is no value now"),
    ] {
        assert_eq!(read(&query(text), payload), expected, "{text} of {payload}");
    }
}

#[test]
fn of_a_member_that_is_there_twice_the_last_one_counts() {
    assert_eq!(read(&query("a"), r#"{"a":1,"a":2}"#), "2");
    assert_eq!(read(&query("a.b"), r#"{"a":{"b":1},"a":{"b":2}}"#), "2");
    assert_eq!(read(&query(r#"a[{"k":1}].v"#), r#"{"a":[{"k":1,"v":1}],"a":[{"k":1,"v":2}]}"#), "2");
    // What the last one does not have is not there, whatever the first one had.
    assert_eq!(read(&query("a.b"), r#"{"a":{"b":1},"a":{}}"#), r#"a.b: there is no member "b" in a"#);
    assert_eq!(
        read(&query("a.b"), r#"{"a":{"b":1},"a":3}"#),
        r#"a.b: a is a single value; member "b" needs an object"#
    );
}

#[test]
fn a_document_that_is_cut_anywhere_is_refused_as_a_whole() {
    let payload = r#"{"a":1.5,"b":"x\u00e4\n","c":[{"k":true,"v":-1e3},null],"d":{"e":false}}"#;
    let fields = [query("a"), query(r#"c[{"k":true}].v"#), query("d.e")];
    let document = Document::new(&fields.each_ref(), &[]);
    assert!(document.read(payload.as_bytes()).unwrap().iter().all(Result::is_ok));
    for end in 0..payload.len() {
        let error = document.read(&payload.as_bytes()[..end]).expect_err(&payload[..end]);
        let told = if end == 0 { "is empty" } else { "is no JSON: expected " };
        assert!(error.message.starts_with(told), "{}: {error}", &payload[..end]);
    }
}

#[test]
fn what_is_no_json_is_told_with_its_place() {
    for (payload, expected) in [
        ("", "is empty; expected a JSON document"),
        (" \n", "is empty; expected a JSON document"),
        (
            "{\"a\":1}\n x",
            "is no JSON: expected nothing behind the document at line 2 column 2; it begins with \"{\"a\":1}\\n x\"",
        ),
        (
            "{\"a\":1}{}",
            "is no JSON: expected nothing behind the document at line 1 column 8; it begins with \"{\"a\":1}{}\"",
        ),
        ("<html>\n", "is no JSON: expected a value at line 1 column 1; it begins with \"<html>\""),
        ("{\"a\":nan}", "is no JSON: expected true, false or null at line 1 column 6; it begins with \"{\"a\":nan}\""),
        (
            "{\"a\":1",
            "is no JSON: expected a comma or } at line 1 column 7, where it ends; it begins with \"{\"a\":1\"",
        ),
        (
            "{\"a\":1,}",
            "is no JSON: expected a member name in double quotes at line 1 column 8; it begins with \"{\"a\":1,}\"",
        ),
        ("{a:1}", "is no JSON: expected a member name in double quotes at line 1 column 2; it begins with \"{a:1}\""),
        ("{\"b\":[1 2]}", "is no JSON: expected a comma or ] at line 1 column 9; it begins with \"{\"b\":[1 2]}\""),
        (
            "{\"b\":01}",
            "is no JSON: expected a number as JSON writes it at line 1 column 7; it begins with \"{\"b\":01}\"",
        ),
        (
            "{\"b\":1,5}",
            "is no JSON: expected a member name in double quotes at line 1 column 8; it begins with \"{\"b\":1,5}\"",
        ),
        (
            "{\"b\":\"\t\"}",
            "is no JSON: expected a control character to be written as an escape, like \\n at line 1 column 7; it begins with \"{\"b\":\"\\t\"}\"",
        ),
        (
            "{\"b\":\"\\x\"}",
            "is no JSON: expected an escape of JSON, like \\n or \\u00e9 at line 1 column 8; it begins with \"{\"b\":\"\\\\x\"}\"",
        ),
    ] {
        assert_eq!(read(&query("a"), payload), format!("document: {expected}"), "{payload}");
    }
}

#[test]
fn a_mebibyte_of_brackets_is_refused_wherever_it_stands() {
    let brackets = "[".repeat(1 << 20);
    let objects = r#"{"a":"#.repeat(200_000);
    for text in ["a", "[0]", "[0][0][0]", r#"[{"a":1}]"#, r#"a[{"b":1}].c"#, "b"] {
        for payload in [brackets.clone(), objects.clone(), format!(r#"{{"a":{brackets}"#), format!("[{objects}")] {
            let error = read(&query(text), payload);
            assert!(error.contains("expected at most 128 arrays and objects within each other"), "{text}: {error}");
        }
    }
    let deep = |depth: usize| format!(r#"{{"x":{}{},"a":1}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(read(&query("a"), deep(127)), "1");
    assert!(read(&query("a"), deep(128)).starts_with("document:"));
}

#[test]
fn only_what_is_asked_for_has_to_be_utf8() {
    let payload = b"{\"unit\":\"\xb0C\",\"\xb0\":1,\"a\":5}";
    assert_eq!(read(&query("a"), payload), "5");
    assert_eq!(
        read(&query("unit"), payload),
        "unit: is \"\"\u{fffd}C\"\", which is not UTF-8 or has escapes that are no characters"
    );
    assert_eq!(read(&query("a"), "\u{feff}{\"a\":5}"), "5");
    assert_eq!(
        read(&shaped("a", Shape::Text), r#"{"a":"\ud800"}"#),
        r#"a: is "\\ud800", which is not UTF-8 or has escapes that are no characters"#
    );
    assert_eq!(read(&query("a"), r#"{"\ud800":1,"a":5}"#), "5");
}
