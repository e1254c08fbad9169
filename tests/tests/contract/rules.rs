//! Charging rules of a whole daemon: from a rule-set file, from a client and switched off by an override, to the order that
//! a wallbox reads.

use ladekern_tests::site::Site;
use ladekern_tests::until;
use serde_json::{Value, json};

const SITE: &str = r#"
[[circuit]]
id = "main"
limit_ma = [32000, 32000, 32000]
[[device]]
id = "E1"
type = "http-input"
circuit = "main"
phases = "L1L2L3"
charging_rules = { selected_id = "least" }
"#;

/// Feeds E1 with a waiting car until its orders are as they should be.
async fn orders(site: &Site, what: &str, wanted: impl Fn(u64) -> bool) {
    let message = json!({ "state": 2, "current": [0, 0, 0] }).to_string();
    let feed = async || site.post("cmd=set_ajax_evse&dev_id=E1", &message).await.json();
    until(what, feed, |orders: &Value| orders["charging_current"].as_u64().is_some_and(&wanted)).await;
}

async fn ok(site: &Site, query: &str, body: &str) {
    let answer = site.post(query, body).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.json());
}

#[tokio::test]
async fn h16_rules_decide_what_a_wallbox_is_told() {
    let site = Site::start(SITE).await;
    // The chosen set is not there: nothing is charged, and the wallbox shows that rules are the reason.
    orders(&site, "E1 pauses", |ma| ma == 0).await;
    let paused = async || site.device("E1").await;
    until("E1 names the rules", paused, |device| device["pause_reason"] == 2).await;

    let folder = site.file().parent().unwrap().join("rule-sets");
    std::fs::create_dir(&folder).unwrap();
    let rules = json!([{ "ctype": 51, "atype": 0, "aexpr": "3000 * 2" }]);
    let file = json!({ "name": "Least", "set_id": "least", "charging_rules": rules }).to_string();
    std::fs::write(folder.join("least.json"), file).unwrap();
    orders(&site, "the rule-set file is in force", |ma| ma == 6_000).await;

    ok(&site, "cmd=override_device&dev_id=E1&flags=E", "").await;
    orders(&site, "without rules it gets more", |ma| ma >= 7_000).await;
    ok(&site, "cmd=override_device&dev_id=E1&flags=e", "").await;
    orders(&site, "with them again 6 A", |ma| ma == 6_000).await;

    // A client's own set in the place of the file.
    let own = json!([{ "ctype": 50, "cexpr": "1 - 1", "atype": 0, "aexpr": 16000 }]);
    let sets = json!({ "rule_set": { "": own }, "selected_id": "" });
    let body = json!({ "devices": [{ "dev_id": "E1", "crule_set": sets }] }).to_string();
    ok(&site, "cmd=set_device", &body).await;
    orders(&site, "a rule that is not met pauses", |ma| ma == 0).await;
    site.stop().await;
}

#[tokio::test]
async fn rules_with_a_mistake_give_nothing_and_the_wallbox_says_what_is_wrong() {
    // The last rule would let it charge; what the one before was to forbid, nobody knows.
    let rules = |cexpr: &str| {
        let list = format!(
            "charging_rules = [\n    {{ ctype = 50, cexpr = \"{cexpr}\", aexpr = 0, flags = 16 }},\n    \
             {{ ctype = 51, aexpr = 8000 }},\n]"
        );
        SITE.replace("charging_rules = { selected_id = \"least\" }", &list)
    };
    let site = Site::start(&rules("CM.x >")).await;
    orders(&site, "E1 pauses", |ma| ma == 0).await;
    let told = |device: &Value| device["pause_reason"] == 2 && device["rules_error"].is_string();
    let device = until("E1 says why", async || site.device("E1").await, told).await;
    let why = device["rules_error"].as_str().unwrap();
    let place = format!("{}:11: device.E1.charging_rules: rule 0.cexpr: ", site.file().display());
    assert!(why.starts_with(&place) && why.contains("CM.x >"), "{why}");
    let page = ladekern_tests::http::get(site.http(), "/").await.unwrap().body;
    assert!(page.contains("rule 0.cexpr"), "{page}");

    std::fs::write(site.file(), rules("1 > 2")).unwrap();
    orders(&site, "mended, the last rule counts", |ma| ma == 8_000).await;
    until("nothing is wrong", async || site.device("E1").await, |device| device.get("rules_error").is_none()).await;
    // A client cannot write such rules at all.
    let bad = json!([{ "ctype": 51, "atype": 0, "aexpr": "(" }]);
    let body = json!({ "devices": [{ "dev_id": "E1", "charging_rules": bad }] }).to_string();
    assert_eq!(site.post("cmd=set_device", &body).await.status, 400);
    site.stop().await;
}
