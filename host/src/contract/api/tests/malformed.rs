//! Whatever comes in is answered, and what is refused changes nothing.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use serde_json::json;

use super::*;
use crate::contract::api::{Args, COMMANDS, Call, Caller};

fn bodies() -> [(&'static str, String); 5] {
    [
        ("cmd=set_params", json!({"title": "ä\n\"x\"", "max_total_cur_prc": 50, "lb_enabled": false}).to_string()),
        (
            "cmd=set_device",
            json!({"devices": [{"dev_id": "E1", "name": "x", "crule_set": {"rule_set": {"": [{"id": 1}]}}}]})
                .to_string(),
        ),
        ("cmd=set_user", json!({"id": "99", "name": "x", "dev_ids": ["E1"], "rfids": [{"id": "AB"}]}).to_string()),
        ("cmd=set_cm_vars", json!({"vars": [{"name": "a", "expr": 1.5}]}).to_string()),
        ("cmd=set_ajax_meter&dev_id=M1", json!({"power_w": 1, "voltage": [230, 231, 232]}).to_string()),
    ]
}

#[tokio::test]
async fn a_body_that_is_cut_off_anywhere_is_refused_and_changes_nothing() {
    let site = TestSite::start(SITE).await;
    let (before, text_before) = (site.config(), site.text());
    for (query, body) in bodies() {
        for at in 0..body.len() {
            // Without a body set_ajax_meter reads its arguments, and there are none: it is told nothing.
            if at == 0 && query.starts_with("cmd=set_ajax") {
                continue;
            }
            let call = Call {
                args: Args::parse(query).unwrap(),
                body: body.as_bytes()[..at].to_vec().into(),
                caller: Caller { admin: true, address: None },
            };
            let answer = site.api.call(&call).await;
            assert_eq!(answer.status, 400, "{query} cut at {at}: {}", text(&answer));
            assert!(!answer.json()["error"].as_str().unwrap().is_empty());
        }
    }
    assert_eq!(*before, *site.config());
    assert_eq!(text_before, site.restart().await.text());
}

#[tokio::test]
async fn a_broken_body_is_told_with_its_place() {
    let site = TestSite::start(SITE).await;
    site.refused("cmd=set_params", "{\"title\":\n  oops}", &["no JSON", "line 2 column 3"]).await;
    site.refused("cmd=set_device", "[1]", &["a list of 1", "expected a JSON object"]).await;
    site.refused("cmd=set_user", "\"ok\"", &["\"ok\"", "expected a JSON object"]).await;
    site.refused("cmd=set_params", &"[".repeat(100_000), &["no JSON", "line 1"]).await;
    site.refused("cmd=set_params", "{} {}", &["no JSON", "line 1 column 4"]).await;
}

fn name() -> impl Strategy<Value = String> {
    let known = [
        "dev_id", "flags", "mamps", "rfid", "val", "name", "id", "tmp", "clear", "enable", "acc", "old_pwd", "device",
        "read", "write",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "[a-z%&=]{0,6}"]
}

fn value() -> impl Strategy<Value = String> {
    let known =
        ["E1", "M1", "E9", "1", "0", "-1", "16000.0", "C", "Cc", "x", "4711", "04AB12", "nan", "1e999", "8092", "all"];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,20}", 1 => "%[0-9a-fA-F]{2}"]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-20_i64..20_000).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        value().prop_map(Value::from),
    ];
    let keys = [
        "devices",
        "dev_id",
        "name",
        "title",
        "vars",
        "expr",
        "id",
        "rfids",
        "dev_ids",
        "crule_set",
        "rule_set",
        "used_phases",
        "phase_rotation",
        "address",
        "users",
        "attach",
        "max_charging_cur",
        "max_total_cur_prc",
        "max_total_current",
        "lb_enabled",
        "delete",
        "dev_type",
        "power_w",
        "role",
        "number",
    ];
    leaf.prop_recursive(4, 24, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => prop::collection::vec((prop::sample::select(keys.to_vec()), inner), 0..5)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

#[test]
fn no_call_breaks_anything_and_a_refused_one_changes_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let site = runtime.block_on(TestSite::start(SITE));
    let commands: Vec<&str> =
        COMMANDS.iter().map(|command| command.name).filter(|name| *name != "set_diag_logging").collect();
    let query = (prop::sample::select(commands), prop::collection::vec((name(), value()), 0..5));
    let body = prop_oneof![
        2 => Just(Vec::new()),
        6 => json_value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let seen = RefCell::new((0, 0));
    let runs = Runs { cases: 1_500, failure_persistence: None, ..Runs::default() };
    let result = TestRunner::new(runs).run(&(query, body, any::<bool>()), |((cmd, args), body, admin)| {
        let args: String = args.iter().map(|(name, value)| format!("&{name}={value}")).collect();
        let query = format!("cmd={cmd}{args}");
        let Ok(args) = Args::parse(&query) else { return Ok(()) };
        let call = Call { args, body: body.into(), caller: Caller { admin, address: None } };
        let before = site.config();
        let answer = runtime.block_on(async { tokio::time::timeout(SOON, site.api.call(&call)).await.unwrap() });
        let json: Result<Value, _> = serde_json::from_slice(&answer.body);
        prop_assert!(json.is_ok(), "{query}");
        if answer.status == 200 {
            seen.borrow_mut().0 += 1;
        } else {
            seen.borrow_mut().1 += 1;
            prop_assert!([400, 401, 403, 503].contains(&answer.status), "{query}: {}", answer.status);
            prop_assert_eq!(&*before, &*site.config(), "{}", query);
            prop_assert!(json.is_ok_and(|json| json["error"].is_string()));
        }
        Ok(())
    });
    result.unwrap();
    let (taken, refused) = seen.into_inner();
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
}
