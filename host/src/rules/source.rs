//! Where rules come from: `charging_rules` of a wallbox or a user, and rule-set files. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::rule::{Problem, RuleSet};
use crate::config::reader::nearest;

/// Rule sets of the folder `rule-sets/` by `set_id`.
pub type SharedSets = BTreeMap<String, Value>;

/// The rules in force of what stands under `charging_rules`: a list of rules, or `{"rule_set":{"":[…]},"selected_id":""}`,
/// where the empty name is the own set and every other one is of `rule_set` or a file. `written`: by a person.
#[must_use]
pub fn select(text: &str, shared: &SharedSets, written: bool) -> RuleSet {
    let rules: Value = match serde_json::from_str(text) {
        Ok(rules) => rules,
        Err(error) => return RuleSet::broken(format!("expected JSON: {error}")),
    };
    let Value::Object(members) = &rules else { return RuleSet::read_as(&rules, written) };
    if let Some(message) = unknown_member(members, written) {
        return RuleSet::broken(message);
    }
    let selected = match members.get("selected_id") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(id)) => id.clone(),
        // Files number themselves, and a client may write the number as one.
        Some(Value::Number(id)) => id.to_string(),
        Some(_) => return RuleSet::broken("selected_id: expected a text, the set_id of a rule set".into()),
    };
    let own = members.get("rule_set").and_then(|sets| sets.get(&selected));
    match own.or_else(|| shared.get(&selected)) {
        Some(list) if own.is_some() => RuleSet::read_as(list, written),
        Some(list) => RuleSet::read(list),
        None if selected.is_empty() => RuleSet::default(),
        None => RuleSet::broken(format!(
            "selected_id: there is no rule set \"{}\", neither here nor in the folder rule-sets/",
            super::rule::short(&selected)
        )),
    }
}

/// A key that is neither of the two, if that matters: without `rule_set` there are no rules, and nothing is limited.
fn unknown_member(members: &Map<String, Value>, written: bool) -> Option<String> {
    const KEYS: [&str; 2] = ["rule_set", "selected_id"];
    let unknown = members.keys().filter(|key| !KEYS.contains(&key.as_str()));
    let mut told = unknown.filter_map(|key| {
        let near = nearest(key, &KEYS);
        let hint = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if written => "known here are: rule_set, selected_id".to_owned(),
            None => return None,
        };
        Some(format!("unknown key \"{}\", {hint}", super::rule::short(key)))
    });
    told.next()
}

/// Checks what a client or a human writes under `charging_rules`.
///
/// # Errors
/// A sentence per mistake, with the rule's place and key.
pub fn check(rules: &Value) -> Result<(), Vec<String>> {
    let of = |name: &str, list: &Value| {
        let problems = RuleSet::parse(list).err().unwrap_or_default();
        let named =
            |problem: Problem| if name.is_empty() { problem.to_string() } else { format!("set \"{name}\", {problem}") };
        problems.into_iter().map(named).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = match rules {
        Value::Array(_) => of("", rules),
        Value::Object(members) => match (unknown_member(members, false), members.get("rule_set")) {
            (Some(unknown), _) => vec![unknown],
            (None, None) => Vec::new(),
            (None, Some(Value::Object(sets))) => sets.iter().flat_map(|(name, list)| of(name, list)).collect(),
            (None, Some(_)) => vec!["rule_set: expected an object with a list of rules per set".into()],
        },
        _ => vec!["expected a list of rules, or an object with rule_set and selected_id".into()],
    };
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// Reads a rule-set file, `{"name","set_id","charging_rules":[…]}`.
///
/// # Errors
/// What is wrong and where.
pub fn read_file(text: &str) -> Result<(String, Value), String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let id = match file.get("set_id") {
        Some(Value::String(id)) if !id.is_empty() => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        Some(_) => return Err("set_id: expected a text that is not empty".into()),
        None => return Err("set_id is missing; expected {\"name\":…,\"set_id\":…,\"charging_rules\":[…]}".into()),
    };
    let rules = file.get("charging_rules").ok_or("charging_rules is missing; expected a list of rules")?;
    RuleSet::parse(rules).map_err(|problems| {
        problems.iter().map(|problem| format!("charging_rules: {problem}")).collect::<Vec<_>>().join("; ")
    })?;
    Ok((id, rules.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(ma: u32) -> Value {
        json!([{"ctype": 51, "atype": 0, "aexpr": ma}])
    }

    #[test]
    fn the_selected_set_counts() {
        let shared = SharedSets::from([("sun".to_owned(), rules(7_000)), ("7".to_owned(), rules(8_000))]);
        let of = |source: Value| select(&source.to_string(), &shared, false);
        assert_eq!(of(rules(9_000)), RuleSet::read(&rules(9_000)), "a bare list");
        let sets = json!({"": rules(1), "mine": rules(2), "sun": rules(3)});
        let pick = |id: Value| of(json!({"rule_set": sets, "selected_id": id, "more": 1}));
        assert_eq!(pick(json!("")), RuleSet::read(&rules(1)));
        assert_eq!(pick(json!("mine")), RuleSet::read(&rules(2)));
        assert_eq!(pick(json!("sun")), RuleSet::read(&rules(3)), "the device's own beats a file");
        assert_eq!(pick(json!("7")), RuleSet::read(&rules(8_000)));
        assert_eq!(pick(json!(7)), RuleSet::read(&rules(8_000)));
        assert_eq!(of(json!({"rule_set": sets})), RuleSet::read(&rules(1)));
        assert_eq!(of(json!({"selected_id": "sun"})), RuleSet::read(&rules(7_000)));
        assert!(!of(json!({"rule_set": {"": []}, "selected_id": ""})).is_active());
        assert!(!of(json!({})).is_active());
    }

    #[test]
    fn a_set_that_is_not_there_gives_nothing_and_is_named() {
        for (source, wanted) in [
            (json!({"rule_set": {"": rules(16_000)}, "selected_id": "gone"}).to_string(), "no rule set \"gone\""),
            (json!({"rule_set": {"": rules(16_000)}, "selected_id": []}).to_string(), "selected_id: expected a text"),
            (json!({"rule_set": {"": "x"}}).to_string(), "expected a list of rules"),
            ("{".to_owned(), "expected JSON"),
        ] {
            let set = select(&source, &SharedSets::new(), false);
            assert!(set.is_active() && set.is_broken(), "{source}: it pauses");
            assert!(set.problems().iter().any(|problem| problem.to_string().contains(wanted)), "{source}: {set:?}");
        }
    }

    #[test]
    fn without_the_right_key_there_would_be_no_rules_and_no_limit() {
        let told = |key: &str, written: bool| {
            let set = select(&json!({ key: {"": rules(8_000)} }).to_string(), &SharedSets::new(), written);
            assert_eq!(set.is_broken(), !set.problems().is_empty(), "{key}");
            set.problems().first().map(ToString::to_string).unwrap_or_default()
        };
        for written in [false, true] {
            assert_eq!(told("rule_sets", written), "unknown key \"rule_sets\", did you mean \"rule_set\"?");
            assert_eq!(told("rule_set", written), "");
        }
        assert_eq!(told("more", true), "unknown key \"more\", known here are: rule_set, selected_id");
        assert_eq!(told("more", false), "", "clients have keys of their own");
        assert!(check(&json!({"rule_sets": {}})).is_err() && check(&json!({"more": {}})).is_ok());
        let own = json!({"rule_set": {"": [{"ctype": 51, "aexpr": 1, "only_at": 3}]}}).to_string();
        assert!(
            select(&own, &SharedSets::new(), true).is_broken() && !select(&own, &SharedSets::new(), false).is_broken()
        );
    }

    #[test]
    fn mistakes_name_set_rule_and_key() {
        let wrong = json!([{"ctype": 51, "atype": 0, "aexpr": "("}]);
        let told = check(&json!({"rule_set": {"": rules(1), "night": wrong}})).unwrap_err();
        assert!(told[0].starts_with("set \"night\", rule 0.aexpr: "), "{told:?}");
        assert!(check(&wrong).unwrap_err()[0].starts_with("rule 0.aexpr: "));
        assert!(check(&json!("x")).is_err() && check(&json!({"rule_set": []})).is_err());
        assert_eq!(check(&json!({"rule_set": {"": rules(1)}, "selected_id": "not yet there"})), Ok(()));
        assert_eq!(check(&json!([{"ctype": 33, "atype": 44}])), Ok(()), "codes nobody here knows are kept");
    }

    #[test]
    fn a_file_has_an_id_and_good_rules() {
        let (id, list) =
            read_file(r#"{"name": "Sun", "set_id": "1", "charging_rules": [{"ctype":51,"atype":0,"aexpr":1}]}"#)
                .unwrap();
        assert_eq!((id.as_str(), list), ("1", rules(1)));
        let wrong = |text: &str| read_file(text).unwrap_err();
        assert!(wrong("{\n \"set_id\": 1,\n}").contains("line 3"), "{}", wrong("{\n \"set_id\": 1,\n}"));
        assert!(wrong(r#"{"charging_rules": []}"#).starts_with("set_id is missing"));
        assert!(wrong(r#"{"set_id": ""}"#).starts_with("set_id: expected"));
        assert!(wrong(r#"{"set_id": "1"}"#).starts_with("charging_rules is missing"));
        assert!(
            wrong(r#"{"set_id": "1", "charging_rules": [{}]}"#).starts_with("charging_rules: rule 0.ctype: is missing")
        );
    }
}
