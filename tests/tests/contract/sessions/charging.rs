//! A wallbox that is fed over HTTP, from plug-in to unplug, as a client and the transaction log see it.

use ladekern::site::DeviceId;
use ladekern::store::{Transaction, TransactionFilter};
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::mqtt::Probe;
use ladekern_tests::site::Site;
use ladekern_tests::{SOON, until};
use serde_json::{Value, json};

use super::log::Log;

const SITE: &str = r#"
[[circuit]]
id = "main"
limit_ma = [32000, 32000, 32000]
[[device]]
id = "E1"
name = "Carport"
type = "http-input"
circuit = "main"
phases = "L1L2L3"
"#;
const USER: &str = "[[user]]\nid = \"1111\"\nname = \"Ann\"\ndevices = [\"E1\"]\n[[user.card]]\nid = \"4711\"\n";

fn e1() -> DeviceId {
    "E1".parse().unwrap()
}

/// Feeds E1 until its orders are as they should be.
async fn fed(site: &Site, message: Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let feed = async || site.post("cmd=set_ajax_evse&dev_id=E1", &message.to_string()).await.json();
    until("the orders are as they should be", feed, wanted).await
}

async fn transactions(site: &Site, wanted: impl Fn(&[Transaction]) -> bool) -> Vec<Transaction> {
    let store = site.app.api().sessions.transactions().clone();
    let look = async || store.list(&TransactionFilter::default()).await.unwrap();
    until("the transactions are written", look, |found| wanted(found)).await
}

fn state(state: u8, wh: f64) -> Value {
    json!({ "state": state, "total_energy": wh, "current": [0, 0, 0] })
}

#[tokio::test]
async fn a7_a_transaction_goes_to_the_log_when_it_begins_and_when_it_ends() {
    let broker = Mosquitto::start();
    let log = Log::follow(broker.port()).await;
    let site = Site::start(&format!("[mqtt]\nta_log = \"{}\"\n{SITE}", broker.url())).await;
    fed(&site, state(1, 1_000.0), |_| true).await;
    fed(&site, state(2, 1_000.0), |_| true).await;
    let begin = log.until(1).await.remove(0);
    fed(&site, state(3, 1_400.5), |_| true).await;
    fed(&site, state(1, 1_420.5), |_| true).await;
    let end = log.until(2).await.remove(1);
    let start = &begin["start"];
    assert_eq!(
        begin,
        json!({ "event": "begin", "seq": 1, "id": 1, "dev_id": "E1", "name": "Carport", "start": start, "end": null,
            "energy_wh": 0.0, "meter_start_wh": 1000.0, "meter_end_wh": 1000.0, "rfid": null, "user_id": null,
            "reason": null })
    );
    assert_eq!(
        end,
        json!({ "event": "end", "seq": 2, "id": 1, "dev_id": "E1", "name": "Carport", "start": start,
            "end": end["end"], "energy_wh": 420.5, "meter_start_wh": 1000.0, "meter_end_wh": 1420.5, "rfid": null,
            "user_id": null, "reason": "unplugged" })
    );
    for time in [start, &end["end"]] {
        let text = time.as_str().unwrap();
        assert!(text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text} is no RFC 3339");
    }
    site.stop().await;
}

#[tokio::test]
async fn h5_a_card_lets_a_wallbox_charge_and_h6_an_override_stops_it() {
    let site = Site::start(&format!("{SITE}{USER}")).await;
    let may = |orders: &Value| orders["charging_current"].as_u64().unwrap() >= 6_000;
    let must_not = |orders: &Value| orders["charging_current"] == 0 && orders["paused"] == true;
    let sessions = site.app.api().sessions.clone();
    fed(&site, state(2, 0.0), must_not).await;
    let mut view = sessions.view();
    tokio::time::timeout(SOON, view.wait_for(|view| view[&e1()].needs_auth && view[&e1()].plugged))
        .await
        .unwrap()
        .unwrap();
    let plan = async |reason: &str| {
        let mut plan = site.app.api().source.plan.clone();
        let is = plan.wait_for(|view| view.plan.chargers.get(&e1()).is_some_and(|c| c.reason.to_string() == reason));
        tokio::time::timeout(SOON, is).await.unwrap_or_else(|_| panic!("never \"{reason}\"")).unwrap();
    };
    plan("not allowed to charge").await;
    assert_eq!(site.device("E1").await["pause_reason"], 3);

    assert_eq!(site.get("cmd=enter_rfid&rfid=9999&dev_id=E1").await.status, 403);
    assert_eq!(site.get("cmd=enter_rfid&rfid=4711&dev_id=E1").await.status, 200);
    assert!(!sessions.view().borrow()[&e1()].needs_auth);
    fed(&site, state(2, 0.0), may).await;

    // 6: forbidden, allowed again, limited, limited below the minimum.
    assert_eq!(site.get("cmd=override_device&dev_id=E1&flags=C").await.body, "\"ok\"");
    fed(&site, state(3, 1.0), must_not).await;
    assert_eq!(site.get("cmd=override_device&dev_id=E1&flags=c&mamps=8000.0").await.body, "\"ok\"");
    fed(&site, state(3, 1.0), |orders| orders["charging_current"] == 8_000).await;
    site.get("cmd=override_device&dev_id=E1&mamps=3000").await;
    fed(&site, state(3, 1.0), must_not).await;

    // All of it ends with the car.
    fed(&site, state(1, 5.0), |_| true).await;
    let done = transactions(&site, |found| found.iter().any(|found| found.end.is_some())).await;
    assert_eq!((done[0].rfid.as_deref(), done[0].user_id.as_deref()), (Some("4711"), Some("1111")));
    let session = sessions.view().borrow()[&e1()].clone();
    assert_eq!((session.needs_auth, session.overrides), (true, ladekern::session::Overrides::default()));
    // The next car is known by the card its wallbox reads.
    fed(&site, state(2, 5.0), must_not).await;
    fed(&site, json!({ "state": 2, "total_energy": 5, "rfid": "4711" }), may).await;
    site.stop().await;
}

#[tokio::test]
async fn b23_transactions_are_recorded_while_only_observing() {
    let site = Site::start(&format!("[load]\nmode = \"observe\"\n{SITE}{USER}")).await;
    // Nobody is commanded: who is not authorised is recorded and shown, not stopped.
    fed(&site, state(3, 100.0), |orders| orders["charging_current"] == 16_000).await;
    let mut view = site.app.api().sessions.view();
    tokio::time::timeout(SOON, view.wait_for(|view| view[&e1()].needs_auth && view[&e1()].plugged))
        .await
        .unwrap()
        .unwrap();
    fed(&site, state(3, 150.0), |orders| orders["charging_current"] == 16_000).await;
    fed(&site, state(1, 150.0), |_| true).await;
    let done = transactions(&site, |found| found.iter().any(|found| found.end.is_some())).await;
    assert_eq!((done.len(), done[0].energy_wh), (1, 50.0));
    site.stop().await;
}

#[tokio::test]
async fn b23_a_broker_that_goes_away_interrupts_nothing() {
    let broker = Mosquitto::start();
    let port = broker.port();
    let fed = "type = \"http-input\"\naddress = \"mqtt\"\ntimeout_s = 1";
    let text = SITE.replace("type = \"http-input\"", fed);
    let site = Site::start(&format!("[mqtt]\nbroker = \"{}\"\npublish = \"mqtt\"\n{text}", broker.url())).await;
    let probe = Probe::connect(port, "cfos_mqtt/get/#").await;
    // Who sees it may publish: the subscriptions stand.
    probe.wait("cfos_mqtt/get/dev_info", |_| true).await;
    probe.publish("cfos_mqtt/set/E1", state(3, 1_000.0).to_string(), false).await;
    let mut view = site.app.api().sessions.view();
    tokio::time::timeout(SOON, view.wait_for(|view| view[&e1()].plugged)).await.unwrap().unwrap();
    drop(broker);
    until("silent without its broker", async || site.device("E1").await, |device| device["com_err"] == true).await;
    let _broker = Mosquitto::start_on(port);
    // Again and again: the first ones may come before the subscription stands.
    let counted = async || {
        probe.publish("cfos_mqtt/set/E1", state(3, 1_500.0).to_string(), false).await;
        site.app.api().sessions.view().borrow()[&e1()].energy_wh
    };
    until("it goes on counting", counted, |energy_wh| *energy_wh == 500.0).await;
    probe.publish("cfos_mqtt/set/E1", state(1, 1_600.0).to_string(), false).await;
    let done = transactions(&site, |found| found.iter().any(|found| found.end.is_some())).await;
    assert_eq!((done.len(), done[0].energy_wh), (1, 600.0));
    site.stop().await;
}

#[tokio::test]
async fn h15_soft_meter_answers_the_reading_before() {
    let site = Site::start(SITE).await;
    fed(&site, json!({ "state": 2 }), |_| true).await;
    assert_eq!(site.get("cmd=soft_meter&dev_id=E1&val=5").await.body, "0");
    assert_eq!(site.get("cmd=soft_meter&dev_id=E1&val=7.5").await.body, "5");
    let folder = site.stop().await;
    let site = Site::start_in(folder).await;
    assert_eq!(site.get("cmd=soft_meter&dev_id=E1").await.body, "7.5");
    site.stop().await;
}
