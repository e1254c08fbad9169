//! Cards and overrides over HTTP: 7.2, rows 5 and 6.

use ladekern_tests::site::Site;
use ladekern_tests::until;
use serde_json::{Value, json};

use super::{ADMIN, Calls, SITE};

#[tokio::test]
async fn h5_a_card_is_entered_without_the_password() {
    let site = Site::start(SITE).await;
    site.ok("cmd=change_admin_pwd&new_pwd=1234abcd").await;
    site.with(ADMIN, "cmd=set_ajax_evse&dev_id=E1&state=2&current=0,0,0", "").await;
    site.until("E1", "needs_auth", json!(true)).await;
    // Somebody else's card is no way in; which one it was is not repeated.
    let answer = site.get("cmd=enter_rfid&rfid=99887766&dev_id=E1").await;
    assert_eq!(answer.status, 403, "{}", answer.body);
    assert!(answer.json()["error"].is_string() && !answer.body.contains("99887766"));
    let answer = site.get("cmd=enter_rfid&rfid=5678&dev_id=E1").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    site.until("E1", "needs_auth", json!(false)).await;
    for query in ["cmd=enter_rfid", "cmd=enter_rfid&rfid=", "cmd=enter_rfid&rfid=12-34"] {
        assert_eq!(site.get(query).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn h6_overrides_are_set_shown_and_end_with_the_plug() {
    let site = Site::start(SITE).await;
    let plugged = "cmd=set_ajax_evse&dev_id=E2&state=2&current=0,0,0";
    site.get(plugged).await;
    site.until("E2", "state", json!(2)).await;
    site.ok("cmd=override_device&dev_id=E2&flags=C").await;
    site.until("E2", "overrides", json!(1)).await;
    site.until("E2", "last_set_charging_cur", json!(0)).await;
    site.ok("cmd=override_device&dev_id=E2&flags=cE").await;
    site.until("E2", "overrides", json!(2)).await;
    site.ok("cmd=override_device&dev_id=E2&flags=CU").await;
    site.until("E2", "overrides", json!(7)).await;
    site.ok("cmd=override_device&dev_id=E2&flags=ceu&mamps=8000.0").await;
    site.until("E2", "overrides", json!(0)).await;
    site.until("E2", "ov_cur", json!(8000)).await;
    site.ok("cmd=override_device&dev_id=E2&mamps=0").await;
    site.until("E2", "ov_cur", Value::Null).await;
    site.ok("cmd=override_device&dev_id=E2&flags=C&mamps=10000").await;
    site.until("E2", "ov_cur", json!(10000)).await;
    site.get("cmd=set_ajax_evse&dev_id=E2&state=1&current=0,0,0").await;
    site.until("E2", "overrides", json!(0)).await;
    site.until("E2", "ov_cur", Value::Null).await;
    let answer = site.get("cmd=override_device&dev_id=E77&flags=C").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"unknown device\""));
    for wrong in ["flags=Cc", "flags=X", "mamps=lots", "mamps=-7", ""] {
        let answer = site.get(&format!("cmd=override_device&dev_id=E2&{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.json()["error"].is_string(), "{wrong}");
    }
}

#[tokio::test]
async fn h6_who_may_override_what() {
    let site = Site::start(SITE).await;
    site.ok("cmd=change_admin_pwd&new_pwd=1234abcd").await;
    site.with(ADMIN, "cmd=set_ajax_evse&dev_id=E1&state=2&current=0,0,0", "").await;
    for (query, status) in [
        ("dev_id=E1&flags=C", 401),
        ("dev_id=E1&flags=C&rfid=99", 401),
        ("dev_id=E2&flags=C&rfid=5678", 401),
        ("dev_id=E77&flags=C&rfid=5678", 401),
        ("dev_id=E1&flags=E&rfid=5678", 401),
        ("dev_id=E1&flags=CE&rfid=5678", 401),
        ("dev_id=E1&flags=C&rfid=5678", 200),
        ("dev_id=E1&flags=U&rfid=4711", 200),
        ("dev_id=E1&mamps=7000&rfid=5678", 200),
    ] {
        let answer = site.get(&format!("cmd=override_device&{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
    site.until("E1", "overrides", json!(5)).await;
    assert_eq!(site.with(ADMIN, "cmd=override_device&dev_id=E1&flags=E", "").await.status, 200);
    site.until("E1", "overrides", json!(7)).await;
}

#[tokio::test]
async fn h6_less_than_a_car_can_be_told_is_a_pause() {
    let site = Site::start(SITE).await;
    let feed = async || {
        site.get("cmd=set_ajax_meter&dev_id=M1&current=500,500,500").await;
        site.get("cmd=set_ajax_evse&dev_id=E1&state=1&current=0,0,0").await;
        site.get("cmd=set_ajax_evse&dev_id=E2&state=2&current=0,0,0").await;
    };
    feed().await;
    let told = async || {
        feed().await;
        site.device("E2").await["last_set_charging_cur"].as_i64().unwrap()
    };
    until("E2 is told more than 6 A", told, |ma| *ma > 6_000).await;
    site.ok("cmd=override_device&dev_id=E2&mamps=3000").await;
    until("E2 is told to pause", told, |ma| *ma == 0).await;
    site.until("E2", "ov_cur", json!(3000)).await;
    site.ok("cmd=override_device&dev_id=E2&mamps=-1").await;
    site.until("E2", "ov_cur", Value::Null).await;
}
