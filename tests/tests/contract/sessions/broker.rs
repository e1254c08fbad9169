//! The transaction log across outages of the broker and with brokers that acknowledge badly.

use std::sync::Arc;

use ladekern::store::{Change, Record, Transactions};
use ladekern_tests::SOON;
use ladekern_tests::bad_broker::{Acks, BadBroker, Faults};
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::site::Site;
use serde_json::Value;

use super::log::{Log, Wire, without_doubles};

const TOPIC: &str = "cfos_mqtt/ta_log";

fn config(broker: &str) -> String {
    format!("[mqtt]\nbroker = \"{broker}\"\nta_log = \"mqtt\"\n[[device]]\nid = \"E1\"\ntype = \"http-input\"\n")
}

fn store(site: &Site) -> Transactions {
    site.app.api().sessions.transactions().clone()
}

/// Records so many finished transactions, two events each, in commits of fifty.
async fn record(store: &Transactions, count: u64) {
    let mut changes = Vec::new();
    for number in 0..count {
        let record = Record {
            device: "E9".parse().unwrap(),
            name: "Yard".into(),
            start_s: 1_800_000_000 + 100 * number,
            end_s: Some(1_800_000_050 + 100 * number),
            energy_wh: 10.0,
            meter_start_wh: None,
            meter_end_wh: None,
            rfid: Some("04AB".into()),
            user_id: None,
            reason: Some("unplugged".into()),
        };
        changes.extend([Change::Begin(record.clone()), Change::End(record)]);
        if changes.len() == 100 || number + 1 == count {
            store.write(Arc::new(std::mem::take(&mut changes)), true).await.unwrap();
        }
    }
}

/// Waits until the broker has acknowledged everything.
async fn emptied(store: &Transactions) {
    let empty = async {
        while !store.waiting(1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, empty).await.expect("the outbox is emptied");
}

fn numbers(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn b3_a_day_without_a_broker_loses_nothing_and_keeps_the_order() {
    let broker = Mosquitto::start();
    let port = broker.port();
    let wire = Wire::to(broker.addr()).await;
    let site = Site::start(&config(&wire.url())).await;
    let log = Log::follow(port).await;
    record(&store(&site), 1).await;
    log.until(2).await;
    // The broker goes, and another one comes in its place a day later.
    wire.cut();
    drop(broker);
    record(&store(&site), 1_500).await;
    let _broker = Mosquitto::start_on(port);
    log.subscribed(2).await;
    wire.mend();
    // Meanwhile the connection breaks again and again: what was on its way comes twice, and nothing is missing.
    for seq in [100, 700, 1_500, 2_400] {
        log.until(seq).await;
        wire.cut();
        wire.mend();
    }
    let events = without_doubles(&log.until(3_002).await);
    assert_eq!(numbers(&events), (1..=3_002).collect::<Vec<_>>());
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert!(kinds.chunks(2).all(|pair| pair == ["begin", "end"]));
    emptied(&store(&site)).await;
    site.stop().await;
}

#[tokio::test]
async fn b3_what_was_not_acknowledged_is_sent_by_the_next_process() {
    let broker = BadBroker::start(Faults { acks: Acks::Never, ..Faults::default() }).await;
    let site = Site::start(&config(&broker.url())).await;
    record(&store(&site), 2).await;
    broker.wait(|sent| sent.iter().filter(|sent| sent.topic == TOPIC).count() >= 4).await;
    let folder = site.stop().await;
    broker.set(|faults| faults.acks = Acks::Prompt);
    let before = broker.received().len();
    let site = Site::start_in(folder).await;
    record(&store(&site), 1).await;
    let sent = broker.wait(|sent| sent[before..].iter().any(|sent| sent.text().contains("\"seq\":6,"))).await;
    let log = sent.iter().filter(|sent| sent.topic == TOPIC);
    let events: Vec<Value> = log.map(|sent| serde_json::from_slice(&sent.payload).unwrap()).collect();
    assert_eq!(numbers(&without_doubles(&events)), [1, 2, 3, 4, 5, 6]);
    assert!(numbers(&events).len() >= 10, "the first four come again");
    emptied(&store(&site)).await;
    site.stop().await;
}

#[tokio::test]
async fn b3_an_event_leaves_the_disk_only_when_it_is_acknowledged() {
    let broker = BadBroker::start(Faults { acks: Acks::Held, ..Faults::default() }).await;
    let site = Site::start(&config(&broker.url5())).await;
    let store = store(&site);
    record(&store, 3).await;
    let sent = broker.wait(|sent| sent.iter().filter(|sent| sent.topic == TOPIC).count() >= 6).await;
    assert!(sent.iter().filter(|sent| sent.topic == TOPIC).all(|sent| sent.qos == 1 && !sent.retain));
    assert_eq!(store.waiting(10).await.unwrap().len(), 6);
    // Late acknowledgements, then double ones, then such of packets that were never sent.
    broker.release_acks();
    emptied(&store).await;
    for acks in [Acks::Twice, Acks::Unknown, Acks::Prompt] {
        broker.set(|faults| faults.acks = acks);
        record(&store, 2).await;
        emptied(&store).await;
    }
    let log = broker.received().into_iter().filter(|sent| sent.topic == TOPIC);
    let events: Vec<Value> = log.map(|sent| serde_json::from_slice(&sent.payload).unwrap()).collect();
    assert_eq!(numbers(&without_doubles(&events)), (1..=18).collect::<Vec<_>>());
    site.stop().await;
}

#[tokio::test]
async fn b3_an_acknowledgement_that_never_comes_is_not_waited_for_forever() {
    let broker = BadBroker::start(Faults { acks: Acks::Never, ..Faults::default() }).await;
    let site = Site::start(&config(&broker.url())).await;
    record(&store(&site), 1).await;
    let count = |sent: &[ladekern_tests::bad_broker::Publish]| sent.iter().filter(|sent| sent.topic == TOPIC).count();
    broker.wait(|sent| count(sent) == 2).await;
    broker.set(|faults| faults.acks = Acks::Prompt);
    // The connection lives; only the acknowledgement was lost.
    broker.wait(|sent| count(sent) >= 4).await;
    emptied(&store(&site)).await;
    site.stop().await;
}

#[tokio::test]
async fn b15_without_a_broker_for_the_log_events_are_numbered_and_not_kept_for_one() {
    let text = "[[device]]\nid = \"E1\"\ntype = \"http-input\"\n";
    let site = Site::start(text).await;
    let store = store(&site);
    for state in [2, 1, 2] {
        let plugged = state == 2;
        site.post("cmd=set_ajax_evse&dev_id=E1", &format!("{{\"state\":{state},\"total_energy\":5}}")).await;
        let mut view = site.app.api().sessions.view();
        let seen = view.wait_for(|view| view[&"E1".parse().unwrap()].plugged == plugged);
        tokio::time::timeout(SOON, seen).await.unwrap().unwrap();
    }
    let folder = site.stop().await;
    assert!(store.waiting(10).await.unwrap().is_empty());
    drop(store);
    // Once it is on, its first event tells that there were three before.
    let broker = Mosquitto::start();
    let log = Log::follow(broker.port()).await;
    std::fs::write(folder.path().join("ladekern.toml"), config(&broker.url())).unwrap();
    let site = Site::start_in(folder).await;
    site.post("cmd=set_ajax_evse&dev_id=E1", "{\"state\":1,\"total_energy\":5}").await;
    let events = log.until(4).await;
    assert_eq!((numbers(&events), events[0]["event"].as_str()), (vec![4], Some("end")));
    site.stop().await;
}
