//! Rules B5 and B6 at a broker that misbehaves: it delivers everything twice, marks what is new as stored, or loses
//! payloads.

use ladekern_tests::bad_broker::{BadBroker, Faults, Publish, Twice};
use ladekern_tests::site::Site;
use serde_json::Value;

use super::{M3, WALLBOXES};

async fn site(broker: &BadBroker, rest: &str) -> Site {
    let mqtt = "publish = \"mqtt\"\npublish_interval_ms = 200\napi = \"mqtt\"\ncontrol = true\n";
    let site = Site::start(&format!("[mqtt]\nbroker = \"{}\"\n{mqtt}{rest}{M3}", broker.url())).await;
    broker.subscribed("cfos_mqtt/api/#").await;
    broker.wait(|all| all.iter().any(|sent| sent.topic == "cfos_mqtt/get/dev_info")).await;
    site
}

fn answers(all: &[Publish], topic: &str) -> Vec<Value> {
    let of = all.iter().filter(|sent| sent.topic == topic);
    of.map(|sent| serde_json::from_slice(&sent.payload).unwrap()).collect()
}

/// Wrong messages are counted by the device, so it tells how often the call ran.
const COUNTED: &str = "cfos_mqtt/api/cmd=set_ajax_meter&dev_id=M3";

#[tokio::test]
async fn b6_a_broker_that_delivers_everything_twice_runs_nothing_twice() {
    for twice in [Twice::Plain, Twice::WithDup] {
        let broker = BadBroker::start(Faults { twice, ..Faults::default() }).await;
        let site = site(&broker, "").await;
        broker.deliver(&Publish::new(COUNTED, "{\"power_w\": \"x\"}"));
        let all = broker.wait(|all| !answers(all, "cfos_mqtt/api_res").is_empty()).await;
        assert!(answers(&all, "cfos_mqtt/api_res")[0]["error"].is_string());
        // A later call has been looked at after both deliveries of the first one.
        broker.deliver(&Publish::new("cfos_mqtt/api/cmd=get_params&_rid=later", ""));
        broker.wait(|all| !answers(all, "cfos_mqtt/api_res/later").is_empty()).await;
        assert_eq!(site.device("M3").await["com_errors"], 1, "{twice:?}");
        if twice == Twice::Plain {
            // Who asked twice is answered twice, with the same answer.
            let all = broker.wait(|all| answers(all, "cfos_mqtt/api_res").len() == 2).await;
            let both = answers(&all, "cfos_mqtt/api_res");
            assert_eq!(both[0], both[1]);
        }
        site.stop().await;
    }
}

#[tokio::test]
async fn b6_ctl_twice_is_ctl_once_and_still_in_order() {
    let broker = BadBroker::start(Faults { twice: Twice::Plain, ..Faults::default() }).await;
    let site = site(&broker, &format!("[load]\nmode = \"observe\"\n{WALLBOXES}")).await;
    for ma in [8_000, 9_000, 10_000] {
        broker.deliver(&Publish::new("cfos_mqtt/ctl", format!("{{E1: {{cur: {ma}}}}}")));
    }
    broker.wait(|all| answers(all, "cfos_mqtt/get/E1").iter().any(|e| e["last_set_charging_cur"] == 10_000)).await;
    site.stop().await;
}

#[tokio::test]
async fn b5_what_a_broker_marks_as_stored_runs_nothing() {
    let broker = BadBroker::start(Faults::default()).await;
    let site = site(&broker, &format!("[load]\nmode = \"observe\"\n{WALLBOXES}")).await;
    broker.set(|faults| faults.retain_flag = true);
    broker.deliver(&Publish::new(COUNTED, "{\"power_w\": \"x\"}"));
    broker.deliver(&Publish::new("cfos_mqtt/ctl", "{E1: {cur: 8000}}"));
    broker.set(|faults| faults.retain_flag = false);
    broker.deliver(&Publish::new("cfos_mqtt/ctl", "{E2: {cur: 9000}}"));
    broker.deliver(&Publish::new("cfos_mqtt/api/cmd=get_params&_rid=later", ""));
    broker.wait(|all| !answers(all, "cfos_mqtt/api_res/later").is_empty()).await;
    broker.wait(|all| answers(all, "cfos_mqtt/get/E2").iter().any(|e| e["last_set_charging_cur"] == 9_000)).await;
    assert_eq!(site.device("M3").await["com_errors"], 0);
    assert_ne!(site.device("E1").await["last_set_charging_cur"], 8_000);
    assert!(answers(&broker.received(), "cfos_mqtt/api_res").is_empty(), "and is not answered");
    site.stop().await;
}

#[tokio::test]
async fn b21_a_call_that_lost_its_payload_is_answered() {
    let broker = BadBroker::start(Faults { empty_payloads: true, ..Faults::default() }).await;
    let site = site(&broker, "").await;
    broker.deliver(&Publish::new("cfos_mqtt/api/cmd=set_params", "{\"max_total_cur_prc\": 50}"));
    let all = broker.wait(|all| !answers(all, "cfos_mqtt/api_res").is_empty()).await;
    assert!(answers(&all, "cfos_mqtt/api_res")[0]["error"].is_string());
    site.stop().await;
}
