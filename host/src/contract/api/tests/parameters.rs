//! `get_params` and `set_params`: 7.2, rows 1, 3 and 4.

use serde_json::{Value, json};

use super::*;
use crate::config::{DisablePolicy, LoadMode};

const SET: &str = "cmd=set_params";

#[tokio::test]
async fn h3_the_share_is_in_force_and_ends_with_the_process() {
    let site = TestSite::start(SITE).await;
    let before = site.text();
    site.ok(SET, r#"{"max_total_cur_prc":50}"#).await;
    assert_eq!(site.read("cmd=get_params").await["max_total_cur_prc"], 50);
    assert_eq!(site.config().load.max_total_cur_prc, 50);
    for body in [r#"{"max_total_cur_prc":0}"#, r#"{"max_total_cur_prc":99.0}"#, r#"{"max_total_cur_prc":100}"#] {
        site.ok(SET, body).await;
    }
    site.ok(SET, r#"{"max_total_cur_prc":50}"#).await;
    for wrong in ["101", "-1", "50.5", "\"50\"", "null", "[50]", "true", "1e300"] {
        site.refused(
            SET,
            &format!("{{\"max_total_cur_prc\":{wrong}}}"),
            &["max_total_cur_prc", "from 0 to 100", "found"],
        )
        .await;
    }
    assert_eq!(site.text(), before, "never written");
    let site = site.restart().await;
    assert_eq!(site.text(), before, "not at the end either");
    assert_eq!(site.read("cmd=get_params").await["max_total_cur_prc"], 100);
}

#[tokio::test]
async fn h4_settings_are_changed_and_kept() {
    let site = TestSite::start(SITE).await;
    let body = json!({
        "title": "Haus \"Nord\" #1", "desc": "zwei\nZeilen", "lb_enabled": false, "disable_policy": -1,
        "reserve_current": 2000.0, "max_total_current": 25000, "unknown_key": [1], "time": 1,
    });
    site.ok(SET, &body.to_string()).await;
    let check = |config: &Config| {
        assert_eq!((config.site.title.as_str(), config.site.desc.as_str()), ("Haus \"Nord\" #1", "zwei\nZeilen"));
        assert_eq!((config.load.mode, config.load.disable_policy), (LoadMode::Observe, DisablePolicy::Unlimited));
        assert_eq!((config.load.reserve_ma, config.circuits[0].limit_ma), (2000, [25000; 3]));
    };
    check(&site.config());
    let shown = site.read("cmd=get_params").await;
    for key in ["title", "desc", "lb_enabled", "disable_policy", "max_total_current"] {
        assert_eq!(shown[key], body[key], "{key}");
    }
    let site = site.restart().await;
    check(&site.config());
    let text = site.text();
    assert!(text.starts_with("# written by hand") && text.contains("# for the oven"), "comments stay: {text}");
}

#[tokio::test]
async fn h4_what_was_read_can_be_sent_back_and_writes_nothing() {
    let site = TestSite::start(SITE).await;
    let (before, config) = (site.text(), site.config());
    let params = site.read("cmd=get_params").await;
    site.ok(SET, &params.to_string()).await;
    // The three limits differ and only the smallest is shown: it must not be laid over the others.
    assert_eq!(*config, *site.config());
    let site = site.restart().await;
    assert_eq!(site.text(), before);
}

#[tokio::test]
async fn h4_what_this_version_cannot_do_is_refused_by_name() {
    let site = TestSite::start(SITE).await;
    for (body, key) in [
        (json!({"price_model": 4}), "price_model"),
        (json!({"feed_in_tariff": 8.2}), "feed_in_tariff"),
        (json!({"min_pause_time": 77}), "min_pause_time"),
        (json!({"reduce_on_com_err": false}), "reduce_on_com_err"),
        (json!({"ocpp_srv_port": 19999}), "ocpp_srv_port"),
        (json!({"max_total_power": 1}), "max_total_current"),
        (json!({"cm_vars": {"vars": [{"name": "x", "expr": 1}]}}), "set_cm_vars"),
    ] {
        site.refused(SET, &body.to_string(), &[key, "this version"]).await;
    }
    site.ok(
        SET,
        r#"{"price_model":0,"surplus_expr":"","feed_in_tariff":0,"tibber_home_id":null,"ocpp_srv_tls_mode":"off"}"#,
    )
    .await;
}

#[tokio::test]
async fn h4_formulas_are_kept_and_wrong_ones_refused_with_their_place() {
    let site = TestSite::start(SITE).await;
    let body = json!({"surplus_expr": "CM._org_surplus - 500", "max_total_current": "CM.x * 1000"});
    site.ok(SET, &body.to_string()).await;
    let shown = site.read("cmd=get_params").await;
    // The number stays, and stays a number.
    assert_eq!((&shown["surplus_expr"], &shown["max_total_current"]), (&body["surplus_expr"], &json!(32_000)));
    assert_eq!(shown["max_total_current_expr"], body["max_total_current"]);
    for (body, parts) in [
        (json!({"surplus_expr": "1 +"}), vec!["surplus_expr", "character 4"]),
        (json!({"surplus_expr": 5}), vec!["surplus_expr", "expected a formula as text, found 5"]),
        (json!({"surplus_expr": "GM.surplus"}), vec!["load.surplus_expr", "CM._org_surplus"]),
        (json!({"max_total_current": "(1"}), vec!["max_total_current", "character 3"]),
    ] {
        site.refused(SET, &body.to_string(), &parts).await;
    }
    let answer = site.set_device(json!({"dev_id": "E1", "max_charging_cur": "M1.power_w / 3"})).await;
    assert_eq!(answer.status, 200);
    let full = site.full("E1").await;
    assert_eq!((&full["max_charging_cur"], &full["max_charging_cur_expr"]), (&json!(16_000), &json!("M1.power_w / 3")));
    let site = site.restart().await;
    assert!(site.text().contains("surplus_expr = \"CM._org_surplus - 500\"\n"), "{}", site.text());
    site.ok(SET, r#"{"surplus_expr": "", "max_total_current": ""}"#).await;
    site.set_device(json!({"dev_id": "E1", "max_charging_cur_expr": ""})).await;
    let config = site.config();
    assert_eq!((&config.load.surplus_expr, &config.circuits[0].limit_ma_expr), (&None, &None));
    assert_eq!(site.device("E1").max_ma_expr, None);
}

#[tokio::test]
async fn h4_it_is_all_or_nothing() {
    let site = TestSite::start(SITE).await;
    let sound = [("title", json!("new")), ("reserve_current", json!(5)), ("max_total_cur_prc", json!(10))];
    for (wrong, value, part) in [
        ("title", json!(5), "expected a text, found 5"),
        ("title", json!("a\u{7}b"), "control character at position 1"),
        ("title", json!("x".repeat(201)), "at most 200"),
        ("lb_enabled", json!("yes"), "expected true or false, found \"yes\""),
        ("disable_policy", json!(2), "from -1 to 1"),
        ("reserve_current", json!(-1), "from 0 to 10000000"),
        ("max_total_current", json!({}), "found an object"),
        ("devices", json!([]), "a list of one device"),
        ("devices", json!([{"dev_id": "E9"}]), "there is no device E9"),
        ("devices", json!([{"dev_id": "E1", "max_charging_cur": 1}]), "max_charging_cur"),
    ] {
        let mut body: serde_json::Map<String, Value> =
            sound.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        body.insert(wrong.to_owned(), value);
        let key = if wrong == "devices" { "" } else { wrong };
        site.refused(SET, &Value::Object(body).to_string(), &[key, part]).await;
    }
    assert_eq!(site.config().load.max_total_cur_prc, 100);
}

#[tokio::test]
async fn h4_the_older_form_changes_a_device() {
    let site = TestSite::start(SITE).await;
    site.ok(SET, r#"{"title":"T","devices":[{"dev_id":"E1","max_charging_cur":10000,"prio":3}]}"#).await;
    let device = site.device("E1");
    assert_eq!((device.max_ma, device.priority, site.config().site.title.as_str()), (10_000, 3, "T"));
}

#[tokio::test]
async fn h4_zero_forgets_the_largest_overload() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_ajax_meter&dev_id=M1", r#"{"current":[40000,0,0]}"#).await;
    let wait = tokio::time::timeout(SOON, async {
        while site.read("cmd=get_params").await["max_overdraft_cur"] == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    wait.await.unwrap();
    site.ok("cmd=set_ajax_meter&dev_id=M1", r#"{"current":[0,0,0]}"#).await;
    let calm = tokio::time::timeout(SOON, async {
        while site.read("cmd=get_params").await["cur_overdraft"] != 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    calm.await.unwrap();
    site.ok(SET, r#"{"max_overdraft_cur":4999}"#).await;
    assert_ne!(site.read("cmd=get_params").await["max_overdraft_cur"], 0, "only 0 resets");
    site.ok(SET, r#"{"overdraft_cur":0}"#).await;
    assert_eq!(site.read("cmd=get_params").await["max_overdraft_cur"], 0);
}

#[tokio::test]
async fn h4_without_a_circuit_there_is_no_limit_to_set() {
    let site = TestSite::start("[[device]]\nid = \"E1\"\ntype = \"http-input\"\n").await;
    site.refused(SET, r#"{"max_total_current":10000}"#, &["max_total_current", "no [[circuit]]"]).await;
}

#[tokio::test]
async fn h1_the_parameters_have_what_the_first_clients_need() {
    let site = TestSite::start(SITE).await;
    let params = site.call_as(false, "cmd=get_params", "").await.json();
    assert_eq!(params["version"], "2.0.1");
    assert!(params["max_total_evse_power"].is_number() && params["vsn"]["serialno"].is_string(), "{params}");
    let types = site.call_as(false, "cmd=get_dev_types", "").await.json();
    assert_eq!(params["dev_meta"], types, "both tell the same");
}
