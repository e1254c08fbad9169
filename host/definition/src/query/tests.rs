//! What is a query, and what is none.

use proptest::prelude::*;

use super::*;

fn member(name: &str) -> Step {
    Step::Member(name.into())
}

fn steps(text: &str) -> Vec<Step> {
    let query = Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error} at {}", error.offset));
    assert_eq!(query.text(), text);
    query.parts().iter().map(|part| part.step.clone()).collect()
}

#[test]
fn queries_have_these_steps() {
    let search = |members: &[(&str, Scalar)]| {
        Step::Where(members.iter().map(|(name, scalar)| ((*name).into(), scalar.clone())).collect())
    };
    for (text, expected) in [
        ("a", vec![member("a")]),
        ("a.b", vec![member("a"), member("b")]),
        ("a[3]", vec![member("a"), Step::Element(3)]),
        ("a[007]", vec![member("a"), Step::Element(7)]),
        (r#"a["x"]"#, vec![member("a"), member("x")]),
        (r#"a[ "x.]\"[" ]"#, vec![member("a"), member("x.]\"[")]),
        (r#"a["\u00e4"]"#, vec![member("a"), member("ä")]),
        ("a[name]", vec![member("a"), member("name")]),
        ("a[ my name ]", vec![member("a"), member("my name")]),
        ("a[3em]", vec![member("a"), member("3em")]),
        ("3.14", vec![member("3"), member("14")]),
        ("tuple[0][1]", vec![member("tuple"), Step::Element(0), Step::Element(1)]),
        ("[0].x", vec![Step::Element(0), member("x")]),
        ("StatusSNS.ENERGY.Power[0]", vec![member("StatusSNS"), member("ENERGY"), member("Power"), Step::Element(0)]),
        ("switch:0.apower", vec![member("switch:0"), member("apower")]),
        ("ä-b_c*{}\"'", vec![member("ä-b_c*{}\"'")]),
        (
            r#"arr[{"el1":"v1","el2":3}].value"#,
            vec![
                member("arr"),
                search(&[("el1", Scalar::Text("v1".into())), ("el2", Scalar::Integer(3))]),
                member("value"),
            ],
        ),
        (
            r#"[{ "a" : null, "b]}" : true, "c": -1.5 }]"#,
            vec![search(&[("a", Scalar::Null), ("b]}", Scalar::Bool(true)), ("c", Scalar::Float(-1.5))])],
        ),
    ] {
        assert_eq!(steps(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_query_is_told_with_its_byte() {
    for (text, offset, message) in [
        ("", 0, "is empty; expected a member, like power"),
        (".a", 0, "a member name is missing before the ."),
        ("a.", 2, "ends with a point; expected a member name after it"),
        ("a..b", 2, "a member name is missing before the ."),
        ("a.[0]", 2, "a member name is missing before the ["),
        ("a]", 1, "a ] that no [ opens"),
        ("]", 0, "a ] that no [ opens"),
        ("a[0]]", 4, "a ] that no [ opens"),
        ("ä[0]b", 5, "expected a . or a [ after the ]"),
        ("a[", 1, "a [ that is not closed; expected a ] after the index"),
        ("a[0", 1, "a [ that is not closed; expected a ] after the index"),
        ("a[b[0]]", 3, "expected ], found ["),
        ("a[]", 2, "nothing in the brackets; expected an index, like [0]"),
        ("a[ ]", 3, "nothing in the brackets; expected an index, like [0]"),
        ("a[-1]", 2, "a negative index; expected one that counts from the beginning, like [0]"),
        ("a[4294967296]", 2, "a larger index than any array has; expected at most 4294967295"),
        ("a[99999999999999999999]", 2, "a larger index than any array has; expected at most 4294967295"),
        ("a.*", 2, "a query has no wildcards; expected a name or an index (a member of that name is [\"*\"])"),
        ("a[*]", 2, "a query has no wildcards; expected a name or an index (a member of that name is [\"*\"])"),
        ("$.a", 0, "a query does not begin with $; expected the first member, like power"),
        ("a[1.8.0]", 3, "a point inside of [ ]; expected the name in quotes, like [\"1.8.0\"]"),
        ("a['x']", 2, "single quotes; expected double ones, like [\"power\"]"),
        ("a[?(@.x==1)]", 2, "expected the members to look for, like [{\"name\":\"value\"}]"),
        (r#"a["x]"#, 2, "a quote that is not closed; expected another \" after the name"),
        (r#"a["x"y]"#, 5, "expected ], found y"),
        (r#"a["\x"]"#, 4, "an escape that JSON does not know, or a control character"),
        (r#"a[{"x":1]"#, 8, "no JSON object; expected one like {\"name\":\"value\",\"phase\":1}"),
        (r#"a[{"x":1"#, 2, "a { that is not closed; expected a } after the last member"),
        (r#"a[{x:1}]"#, 3, "no JSON object; expected one like {\"name\":\"value\",\"phase\":1}"),
        ("a[{}]", 2, "no members to look for; expected some, like {\"name\":\"value\"}"),
        (
            r#"a[{"x":[1]}]"#,
            2,
            "the member \"x\" is to equal a list or an object; expected a text, a number, true, false or null",
        ),
        (" a", 0, "a blank beside the name; expected a or, if it is part of it, [\" a\"]"),
        ("a. b", 2, "a blank beside the name; expected b or, if it is part of it, [\" b\"]"),
    ] {
        let error = Query::parse(text).expect_err(text);
        assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
    }
}

#[test]
fn length_and_steps_are_limited() {
    assert!(Query::parse(&"a".repeat(MAX_LENGTH)).is_ok());
    let error = Query::parse(&"a".repeat(MAX_LENGTH + 1)).unwrap_err();
    assert_eq!((error.offset, error.message.as_str()), (1024, "is 1025 bytes long; expected at most 1024"));
    assert_eq!(steps(&"[0]".repeat(MAX_STEPS)).len(), MAX_STEPS);
    let error = Query::parse(&"[0]".repeat(MAX_STEPS + 1)).unwrap_err();
    assert_eq!((error.offset, error.message.as_str()), (96, "has more than 32 steps"));
    let deep = format!("a[{{\"x\":{}", "[".repeat(1000));
    assert_eq!(
        Query::parse(&deep).unwrap_err().message,
        "no JSON object; expected one like {\"name\":\"value\",\"phase\":1}"
    );
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_a_mistake_inside_of_it(text in "[a-c.\\[\\]{}\":0-9*$ \\\\ä-]{0,20}") {
        match Query::parse(&text) {
            Ok(query) => prop_assert_eq!(query.parts().last().map(|part| part.end), Some(text.len())),
            Err(error) => prop_assert!(error.offset <= text.len() && !error.message.is_empty()),
        }
    }

    #[test]
    fn any_name_can_be_written_in_quotes(name in "\\PC{0,20}") {
        let text = format!("[{}]", serde_json::Value::from(name.as_str()));
        prop_assert_eq!(steps(&text), [member(&name)]);
    }
}
