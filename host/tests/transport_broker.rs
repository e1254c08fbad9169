//! The embedded broker: retained messages, QoS 1, both protocol versions, large payloads, and an end that leaves
//! nothing behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod mqtt_support;

use std::net::SocketAddr;
use std::time::Duration;

use ladekern::transport::{EmbeddedBroker, MAX_PAYLOAD, Qos};
use mqtt_support::{connected, down, next, subscribed, transports, url};
use tokio::time::Instant;

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn clients_of_both_versions_meet_on_one_port() {
    let broker = EmbeddedBroker::start(anywhere()).await.unwrap();
    let (old, new) = (transports("old"), transports("new"));
    let (old, new) = (old.mqtt(&url(broker.local_addr(), false)), new.mqtt(&url(broker.local_addr(), true)));
    let old_inbox = subscribed(&old, "a/+/c", Qos::AtLeastOnce).await;
    let new_inbox = subscribed(&new, "a/#", Qos::AtLeastOnce).await;
    assert_eq!((connected(&old).await, connected(&new).await), (false, true));
    for (sender, payload) in [(&old, "from 3.1.1"), (&new, "from 5")] {
        sender.publish("a/b/c", payload, Qos::AtLeastOnce, false).await.unwrap();
        assert_eq!(next(&old_inbox).await.payload, payload);
        assert_eq!(next(&new_inbox).await.payload, payload);
    }
    broker.stop().await;
}

#[tokio::test]
async fn retained_messages_are_kept_and_removed() {
    let broker = EmbeddedBroker::start(anywhere()).await.unwrap();
    let registry = transports("one");
    let one = registry.mqtt(&broker.url());
    one.publish("kept", "old", Qos::AtLeastOnce, true).await.unwrap();
    one.publish("kept", "new", Qos::AtLeastOnce, true).await.unwrap();
    one.publish("removed", "x", Qos::AtLeastOnce, true).await.unwrap();
    one.publish("removed", "", Qos::AtLeastOnce, true).await.unwrap();
    let barrier = subscribed(&one, "barrier", Qos::AtLeastOnce).await;
    one.publish("barrier", "", Qos::AtLeastOnce, false).await.unwrap();
    next(&barrier).await;
    for v5 in [false, true] {
        let late = transports("late");
        let late = late.mqtt(&url(broker.local_addr(), v5));
        let inbox = subscribed(&late, "#", Qos::AtMostOnce).await;
        let message = next(&inbox).await;
        assert_eq!((message.topic.as_str(), message.retained), ("kept", true));
        assert_eq!(message.payload, "new");
        late.publish("end", "", Qos::AtLeastOnce, false).await.unwrap();
        assert_eq!(next(&inbox).await.topic, "end");
    }
    broker.stop().await;
}

#[tokio::test]
async fn many_messages_of_qos_1_arrive_in_order() {
    let broker = EmbeddedBroker::start(anywhere()).await.unwrap();
    let registry = transports("one");
    let one = registry.mqtt(&broker.url());
    let inbox = subscribed(&one, "n", Qos::AtLeastOnce).await;
    for n in 0..2000 {
        one.publish("n", format!("{n}"), Qos::AtLeastOnce, false).await.unwrap();
    }
    for n in 0..2000 {
        assert_eq!(next(&inbox).await.payload, format!("{n}"));
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_payload_of_a_mebibyte_passes() {
    let broker = EmbeddedBroker::start(anywhere()).await.unwrap();
    for v5 in [false, true] {
        let registry = transports("one");
        let one = registry.mqtt(&url(broker.local_addr(), v5));
        let inbox = subscribed(&one, "big", Qos::AtLeastOnce).await;
        one.publish("big", vec![7u8; MAX_PAYLOAD], Qos::AtLeastOnce, false).await.unwrap();
        let message = next(&inbox).await;
        assert_eq!(message.payload.len(), MAX_PAYLOAD);
        assert!(message.payload.iter().all(|byte| *byte == 7));
    }
    broker.stop().await;
}

#[tokio::test]
async fn stopping_frees_the_port() {
    let broker = EmbeddedBroker::start(anywhere()).await.unwrap();
    let listen = broker.local_addr();
    let registry = transports("one");
    let one = registry.mqtt(&broker.url());
    let inbox = subscribed(&one, "a", Qos::AtMostOnce).await;

    let busy = EmbeddedBroker::start(listen).await.unwrap_err().to_string();
    assert!(busy.contains(&listen.to_string()) && busy.contains("mqtt.embedded_listen"), "{busy}");

    let start = Instant::now();
    // Returns when the thread has ended.
    broker.stop().await;
    assert!(start.elapsed() < Duration::from_secs(2), "stopping took {:?}", start.elapsed());
    down(&one).await;

    let again = EmbeddedBroker::start(listen).await.unwrap();
    assert_eq!(again.local_addr(), listen);
    connected(&one).await;
    tokio::time::timeout(Duration::from_secs(20), one.acknowledged()).await.unwrap();
    one.publish("a", "again", Qos::AtLeastOnce, false).await.unwrap();
    assert_eq!(next(&inbox).await.payload, "again");
    drop(again);
}
