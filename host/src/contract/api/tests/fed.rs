//! `set_ajax_meter` and `set_ajax_evse`: 7.2, rows 11 and 12.

use serde_json::json;

use super::*;

impl TestSite {
    async fn seen(&self, id: &str) -> Value {
        let info = self.read("cmd=get_dev_info").await;
        info["devices"].as_array().unwrap().iter().find(|device| device["dev_id"] == id).unwrap().clone()
    }
}

#[tokio::test]
async fn h11_a_meter_takes_every_client_s_form() {
    let site = TestSite::start(SITE).await;
    let post = r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}"#;
    site.ok("cmd=set_ajax_meter&dev_id=M1", post).await;
    let meter = site.seen("M1").await;
    for (key, value) in
        [("import", 12345), ("export", 23456), ("voltage_l1", 231), ("current_l1", 10001), ("current_l3", 10003)]
    {
        assert_eq!(meter[key], value, "{key}");
    }
    assert_eq!((&meter["model"], &meter["com_err"]), (&json!("TestModell"), &json!(false)));
    site.ok(
        "cmd=set_ajax_meter&dev_id=M2&import_vah=10.50&voltage=230,231,232&current=1,2,3&is_va=true&power_va=7",
        "",
    )
    .await;
    let meter = site.seen("M2").await;
    assert_eq!((&meter["import"], &meter["voltage_l2"], &meter["current_l3"]), (&json!(10.5), &json!(231), &json!(3)));
    assert_eq!((&meter["is_va"], &meter["power_w"]), (&json!(true), &json!(7)));
    site.ok("cmd=set_ajax_meter&dev_id=M1&power_w=-500", "").await;
    assert_eq!(site.seen("M1").await["power_w"], -500);
    for wrong in [r#"{"power_w":"much"}"#, r#"{"voltage":[1,2,3,4]}"#, "[]", "{"] {
        site.refused("cmd=set_ajax_meter&dev_id=M1", wrong, &[]).await;
    }
    assert_eq!(site.seen("M1").await["power_w"], -500, "what is wrong changes nothing");
}

#[tokio::test]
async fn h12_a_wallbox_gets_its_orders() {
    let site = TestSite::start(&SITE.replace("reserve_ma", "mode = \"observe\"\nreserve_ma")).await;
    let body =
        r#"{"state":2,"max_charging_current":16000,"current":[0,0,0],"total_energy":1,"model":"m","rfid":"4711"}"#;
    let wanted = json!({"device_enabled": true, "charging_enabled": true, "paused": false, "charging_current": 16000});
    let answer = site.call("cmd=set_ajax_evse&dev_id=E2", body).await;
    assert_eq!((answer.status, answer.json()), (200, wanted.clone()));
    let get = "cmd=set_ajax_evse&dev_id=E2&state=2&max_charging_current=16000&current=0,0,0&total_energy=1&model=m";
    assert_eq!(site.call(get, "").await.json(), wanted);
    let seen = site.seen("E2").await;
    assert_eq!((&seen["state"], &seen["total_energy"], &seen["model"]), (&json!(2), &json!(1), &json!("m")));
}

#[tokio::test]
async fn h12_a_disabled_wallbox_is_told_so() {
    let site = TestSite::start(&SITE.replace("id = \"E2\"", "id = \"E2\"\nenabled = false")).await;
    let answer = site.call("cmd=set_ajax_evse&dev_id=E2", r#"{"state":2}"#).await;
    let wanted = json!({"device_enabled": false, "charging_enabled": false, "paused": false, "charging_current": 0});
    assert_eq!((answer.status, answer.json()), (200, wanted));
    site.refused("cmd=set_ajax_evse&dev_id=E2", r#"{"state":9}"#, &["from 1 to 5"]).await;
}

#[tokio::test]
async fn what_cannot_be_fed_says_why() {
    let site = TestSite::start(SITE).await;
    for (query, part) in [
        ("cmd=set_ajax_meter", "dev_id is missing"),
        ("cmd=set_ajax_meter&dev_id=E1", "not for E1"),
        ("cmd=set_ajax_evse&dev_id=M1", "not for M1"),
        ("cmd=set_ajax_evse&dev_id=E9", "no device E9"),
        ("cmd=set_ajax_evse&dev_id=box", "no device id"),
    ] {
        site.refused(query, "{}", &[part]).await;
    }
}
