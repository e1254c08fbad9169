//! What is read of a rule, and what is said about what cannot be.

use super::*;

#[test]
fn a_rule_of_a_client_is_read_whole() {
    let rules = set(&[json!({
        "udur": 300, "id": 7, "cmt": "x", "days": 31, "ctype": 1, "atype": 10, "ena": true, "flags": 19,
        "cexpr": 1200, "aexpr": 0.5, "unheard_of": [1],
    })]);
    let formula = |text: &str| ladekern_definition::Formula::parse(text).unwrap();
    let wanted = Rule {
        id: 7,
        enabled: true,
        days: 31,
        undercut: std::time::Duration::from_secs(300),
        condition: Condition::Surplus(formula("1200")),
        not: true,
        surplus: true,
        end: true,
        action: Action::Flow(Flow::Surplus, formula("0.5")),
    };
    assert_eq!(rules.rules(), [wanted]);
    assert!(rules.is_active() && rules.problems().is_empty());
}

#[test]
fn every_action_and_condition_is_known() {
    let rules = [
        rule(0, 0, json!({"time": 0, "dur": 60, "aexpr": "8000"})),
        rule(1, 1, json!({"cexpr": "1"})),
        rule(50, 2, json!({"cexpr": "1"})),
        rule(51, 3, json!({"name": "CM.x", "aexpr": 1})),
        rule(51, 5, json!({"aexpr": 3})),
        rule(51, 7, json!({"name": "E1.x", "aexpr": 30})),
        rule(51, 8, json!({"name": "m2.x_1", "aexpr": 30})),
        rule(51, 10, json!({})),
        rule(51, 11, json!({})),
        rule(51, 12, json!({})),
        rule(51, 13, json!({"aexpr": null})),
        rule(51, 22, json!({"id": 3, "name": "least current", "aexpr": 6000})),
    ];
    assert_eq!(set(&rules).rules().len(), rules.len());
    assert!(set(&rules).rules().iter().all(|rule| rule.action != Action::Unknown));
}

#[test]
fn unknown_codes_are_kept_and_named_and_have_no_effect() {
    let rules = set(&[rule(4, 0, json!({"aexpr": 16000})), rule(51, 99, json!({})), always(json!(8000))]);
    let told: Vec<String> = rules.problems().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with("rule 0.ctype: 4 is not known here"), "{}", told[0]);
    assert!(told[0].contains("1 (PV surplus)"), "{}", told[0]);
    assert!(told[1].starts_with("rule 1.atype: 99 is not known here"), "{}", told[1]);
    assert_eq!(Bench::default().run(&rules).ma, 8_000);
    // Neither with "not" nor as the first part of "and" does an unknown condition let anything through.
    assert_eq!(ma(&[rule(4, 0, json!({"aexpr": 16000, "flags": 1}))]), 0);
    assert_eq!(ma(&[rule(4, 1, json!({})), always(json!(8000))]), 0);
}

#[test]
fn what_is_wrong_names_rule_and_key() {
    let check = |rule: Value, wanted: &str| {
        let problems = RuleSet::parse(&json!([always(json!(8000)), rule])).unwrap_err();
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|told| told.contains(wanted)), "{wanted} not in {told:?}");
        // Nobody knows what it was to decide: the others are not left alone with it.
        let kept = RuleSet::read(&json!([always(json!(8000)), rule]));
        assert!(kept.is_broken() && kept.is_active(), "{rule}");
        let Verdict { ma, because, .. } = Bench::default().run(&kept);
        assert_eq!((ma, because), (0, Because::Mistake), "{rule}");
    };
    check(json!("x"), "rule 1: expected an object, found \"x\"");
    check(json!({}), "rule 1.ctype: is missing");
    check(json!({"ctype": 51}), "rule 1.aexpr: is missing");
    check(rule(51, 0, json!({})), "rule 1.aexpr: is missing; expected a number or a formula");
    check(json!({"ctype": "51", "atype": 1}), "rule 1.ctype: expected a whole number");
    check(json!({"ctype": 51.5, "atype": 0, "aexpr": 9000}), "rule 1.ctype: expected a whole number");
    check(json!({"ctype": 51, "atype": [], "aexpr": 9000}), "rule 1.atype: expected a whole number");
    check(rule(0, 0, json!({"dur": 1440, "aexpr": 9000})), "rule 1.time: is missing");
    check(rule(0, 0, json!({"time": 0, "dur": -1, "aexpr": 9000})), "rule 1.dur: expected a whole number from 0");
    check(rule(1, 0, json!({"cexpr": {}, "aexpr": 9000})), "rule 1.cexpr: expected a number or a formula");
    check(rule(50, 0, json!({"cexpr": "(1", "aexpr": 9000})), "rule 1.cexpr: ");
    check(rule(51, 0, json!({"aexpr": "1 +"})), "rule 1.aexpr: ");
    check(rule(51, 3, json!({"name": "x y", "aexpr": 1})), "rule 1.name: expected a variable like CM.x");
    check(rule(51, 3, json!({"aexpr": 1})), "rule 1.name: is missing");
    for name in ["CM.x + 1", "x", "GM.x", "CM.x.y", "date.hour", "_rule"] {
        check(rule(51, 3, json!({"name": name, "aexpr": 1})), "rule 1.name: expected a variable");
    }
    check(rule(51, 7, json!({"name": "CM.x"})), "rule 1.aexpr: is missing");
    check(rule(1, 2, json!({"cexpr": 1, "udur": -5})), "rule 1.udur: expected a number from 0");
    check(rule(1, 2, json!({"cexpr": 1, "flags": "x"})), "rule 1.flags: expected a whole number");
    check(rule(1, 2, json!({"cexpr": 1, "ena": 7})), "rule 1.ena: expected true or false");
    check(rule(1, 2, json!({"cexpr": 1, "days": 256})), "rule 1.days: expected a whole number");
}

#[test]
fn a_mistake_in_a_rule_that_is_switched_off_stops_nothing() {
    let off = rule(51, 0, json!({"aexpr": "1 +", "ena": false}));
    let rules = RuleSet::read(&json!([off, always(json!(8000))]));
    assert!(!rules.is_broken() && rules.problems().len() == 1, "{:?}", rules.problems());
    assert_eq!(Bench::default().run(&rules).ma, 8_000);
}

#[test]
fn a_key_that_nobody_knows_is_a_mistake_of_people_and_an_addition_of_clients() {
    let told = |key: &str, written: bool| {
        let mut rule = always(json!(8000));
        rule[key] = json!(1);
        let set = RuleSet::read_as(&json!([rule]), written);
        assert_eq!(set.is_broken(), !set.problems().is_empty());
        set.problems().first().map(ToString::to_string)
    };
    let meant = |key: &str, near: &str| Some(format!("rule 0: unknown key \"{key}\", did you mean \"{near}\"?"));
    for written in [false, true] {
        assert_eq!(told("dasy", written), meant("dasy", "days"));
        assert_eq!(told("Flags", written), meant("Flags", "flags"));
        assert_eq!(told("udur", written), None);
    }
    assert_eq!(told("uid", true), meant("uid", "id"));
    assert_eq!(told("uid", false), None, "short ones resemble each other");
    assert!(told("only_at", true).unwrap().contains("known here are: id, ena, cmt, days"));
    assert_eq!((told("only_at", false), told("expr", false)), (None, None));
    // What belongs to a condition that nobody here knows is not known either.
    let other = RuleSet::read_as(&json!([rule(4, 0, json!({"aexpr": 1, "dasy": 1}))]), true);
    assert!(!other.is_broken(), "{:?}", other.problems());
}

#[test]
fn a_list_that_is_none_or_too_long_is_said() {
    let told = |list: Value| RuleSet::parse(&list).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(json!({"": []})), ["expected a list of rules, found an object"]);
    let many = vec![always(json!(8000)); MOST_RULES + 1];
    assert_eq!(told(Value::Array(many)), ["201 rules; expected at most 200"]);
    assert!(!RuleSet::default().is_active());
    assert!(!set(&[rule(51, 0, json!({"aexpr": 1, "ena": false}))]).is_active());
}
