//! `get_users`, `get_user`, `set_user` and `get_new_user_id`: 7.2, row 17, and what a user may do with the own id.

use serde_json::json;

use super::*;
use crate::config::UserConfig;

impl TestSite {
    async fn set_user(&self, admin: bool, user: Value) -> u16 {
        self.call_as(admin, "cmd=set_user", &user.to_string()).await.status
    }

    fn user(&self, id: &str) -> Option<UserConfig> {
        self.config().users.iter().find(|user| user.id == id).cloned()
    }
}

fn ada() -> Value {
    json!({
        "id": "4711", "name": "Ada", "display": true, "dev_ids": ["E1"], "charging_rules": [],
        "rfids": [{"id": "04AB12", "name": "", "ac_auth": true, "ac_ovch": false, "used_phases": 0}],
    })
}

#[tokio::test]
async fn h17_users_are_read_made_changed_and_removed() {
    let site = TestSite::start(SITE).await;
    assert_eq!(site.read("cmd=get_users").await, json!([ada()]));
    assert_eq!(site.read("cmd=get_user&id=4711").await, ada());
    site.refused("cmd=get_user&id=99", "", &["no such user"]).await;
    site.refused("cmd=get_user", "", &["id is missing"]).await;

    let id = site.read("cmd=get_new_user_id").await.as_str().unwrap().to_owned();
    let bob = json!({
        "id": id, "name": "Bob \"B\"", "display": false, "dev_ids": ["E1", "E2"], "charging_rules": [],
        "rfids": [
            {"id": "AA11", "name": "key", "ac_auth": false, "ac_ovch": true, "used_phases": 3},
            {"id": "0012", "name": "PIN", "ac_auth": true, "ac_ovch": false, "used_phases": 1},
        ],
    });
    site.ok("cmd=set_user", &bob.to_string()).await;
    assert_eq!(site.read("cmd=get_users").await, json!([ada(), bob]));
    let site = site.restart().await;
    assert_eq!(site.read("cmd=get_users").await, json!([ada(), bob]));

    // What is not given stays.
    site.ok("cmd=set_user", &json!({"id": id, "name": "Robert"}).to_string()).await;
    let mut robert = bob.clone();
    robert["name"] = "Robert".into();
    assert_eq!(site.read(&format!("cmd=get_user&id={id}")).await, robert);
    site.ok("cmd=set_user", &json!({"id": id, "rfids": [], "delete": false}).to_string()).await;
    assert_eq!(site.user(&id).unwrap().cards, []);

    // Rules are kept with what nobody here knows, and taken away again.
    let rules = json!([{"ctype": 51, "atype": 0, "aexpr": "8000", "more": [null]}, {"ctype": 33, "atype": 44}]);
    site.ok("cmd=set_user", &json!({"id": id, "charging_rules": rules}).to_string()).await;
    assert_eq!(site.read(&format!("cmd=get_user&id={id}")).await["charging_rules"], rules);
    let site = site.restart().await;
    assert_eq!(site.read(&format!("cmd=get_user&id={id}")).await["charging_rules"], rules);
    site.ok("cmd=set_user", &json!({"id": id, "charging_rules": []}).to_string()).await;
    assert_eq!(site.user(&id).unwrap().charging_rules, None);

    site.ok("cmd=set_user", &json!({"id": id, "delete": true}).to_string()).await;
    assert_eq!(site.read("cmd=get_users").await, json!([ada()]));
    site.refused("cmd=set_user", &json!({"id": id, "delete": true}).to_string(), &["no such user"]).await;
    assert_eq!(site.restart().await.read("cmd=get_users").await, json!([ada()]));
}

#[tokio::test]
async fn h17_what_was_read_can_be_sent_back_and_writes_nothing() {
    let site = TestSite::start(SITE).await;
    let before = site.text();
    let user = site.read("cmd=get_user&id=4711").await;
    site.ok("cmd=set_user", &user.to_string()).await;
    assert_eq!(site.restart().await.text(), before);
}

#[tokio::test]
async fn h17_new_ids_are_digits_and_differ() {
    let site = TestSite::start(SITE).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(site.read("cmd=get_new_user_id").await.as_str().unwrap().to_owned());
    }
    assert!(ids.iter().all(|id| id.len() == 10 && id.bytes().all(|byte| byte.is_ascii_digit())), "{ids:?}");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "random");
}

#[tokio::test]
async fn h17_a_user_changes_what_is_the_user_s_own() {
    let site = TestSite::start(SITE).await;
    let own = json!({"id": "4711", "name": "Ada L.", "display": false, "dev_ids": ["E1"], "rfids": [{"id": "BB22"}]});
    assert_eq!(site.set_user(false, own).await, 200);
    let user = site.user("4711").unwrap();
    assert_eq!((user.name.as_str(), user.display, user.devices.len()), ("Ada L.", false, 1));
    assert_eq!((user.cards.len(), user.cards[0].id.as_str(), user.cards[0].authorises), (1, "BB22", true));
}

#[tokio::test]
async fn h17_a_user_gets_no_more_than_the_admin_gave() {
    let site = TestSite::start(&format!("{SITE}[[user]]\nid = \"22\"\ndevices = [\"E2\"]\n")).await;
    let before = site.config();
    for user in [
        json!({"id": "4711", "dev_ids": ["E1", "E2"]}),
        json!({"id": "4711", "dev_ids": ["E2"]}),
        json!({"id": "4711", "dev_ids": [], "name": "free for all"}),
        json!({"id": "4711", "delete": true}),
        json!({"id": "99", "name": "made up", "dev_ids": ["E1"]}),
        json!({"id": "04AB12", "name": "a card is no id"}),
    ] {
        let status = site.set_user(false, user.clone()).await;
        assert!(status == 401 || (status == 400 && user["id"] == "04AB12"), "{user}: {status}");
    }
    // Somebody else's card or id would let one user charge at another one's expense.
    for taken in ["22", "04AB12", "04ab12"] {
        let id = if taken == "22" { "4711" } else { "22" };
        assert_eq!(site.set_user(false, json!({"id": id, "rfids": [{"id": taken}]})).await, 403);
    }
    assert_eq!(*before, *site.config());
}

#[tokio::test]
async fn h17_wrong_users_are_refused_and_ids_are_not_repeated() {
    let site = TestSite::start(SITE).await;
    for (user, parts) in [
        (json!({"name": "x"}), vec!["id is missing", "get_new_user_id"]),
        (json!({"id": "12a4"}), vec!["id", "1 to 32 digits"]),
        (json!({"id": ""}), vec!["id", "1 to 32 digits"]),
        (json!({"id": "1".repeat(33)}), vec!["id", "1 to 32 digits"]),
        (json!({"id": -5}), vec!["id", "1 to 32 digits"]),
        (json!({"id": "77", "name": "a\u{0}b"}), vec!["name", "control character"]),
        (json!({"id": "77", "display": "x"}), vec!["display", "true or false"]),
        (json!({"id": "77", "dev_ids": "E1"}), vec!["dev_ids", "expected a list"]),
        (json!({"id": "77", "dev_ids": ["E1", "E9"]}), vec!["dev_ids[1]", "no wallbox E9"]),
        (json!({"id": "77", "dev_ids": ["M1"]}), vec!["dev_ids[0]", "M1 is a meter"]),
        (json!({"id": "77", "dev_ids": ["box"]}), vec!["dev_ids[0]", "no device id"]),
        (json!({"id": "77", "charging_rules": [{}]}), vec!["charging_rules", "rule 0.ctype: is missing"]),
        (json!({"id": "77", "charging_rules": {"a": 1}}), vec!["charging_rules", "expected a list"]),
        (json!({"id": "77", "rfids": {}}), vec!["rfids", "expected a list"]),
        (json!({"id": "77", "rfids": [{"name": "x"}]}), vec!["rfids[0].id is missing"]),
        (json!({"id": "77", "rfids": [{"id": "12-34"}]}), vec!["rfids[0].id", "letters and digits"]),
        (
            json!({"id": "77", "rfids": [{"id": "1", "used_phases": 2}]}),
            vec!["rfids[0].used_phases", "0 (leave them), 1 or 3"],
        ),
        (json!({"id": "77", "rfids": [{"id": "1", "ac_auth": 3}]}), vec!["rfids[0].ac_auth", "true or false"]),
        (json!({"id": "77", "rfids": [{"id": "1"}, {"id": "1"}]}), vec!["rfids[1].id", "taken already"]),
        (json!({"id": "77", "rfids": [{"id": "04aB12"}]}), vec!["rfids[0].id", "taken already"]),
        (json!({"id": "77", "rfids": [{"id": "ab"}, {"id": "AB"}]}), vec!["rfids[1].id", "taken already"]),
        (json!({"id": "77", "rfids": [{"id": "4711"}]}), vec!["rfids[0].id", "taken already"]),
    ] {
        site.refused("cmd=set_user", &user.to_string(), &parts).await;
        let answer = site.call("cmd=set_user", &user.to_string()).await;
        for secret in ["12a4", "12-34", "04AB12"] {
            assert!(!text(&answer).contains(secret), "{}", text(&answer));
        }
    }
}
