//! Messages that come twice, too large or too many (B6, B13).

use ladekern::transport::MAX_PAYLOAD;
use ladekern_tests::bad_broker::{BadBroker, Faults, Publish, Twice};
use ladekern_tests::mosquitto::Mosquitto;

use super::*;

fn texts(inbox: &Inbox) -> Vec<String> {
    std::iter::from_fn(|| inbox.try_recv()).map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect()
}

#[tokio::test]
async fn b6_dup_a_repeated_message_is_dropped_counted_and_acknowledged() {
    for version_5 in [false, true] {
        let broker = BadBroker::start(Faults { twice: Twice::WithDup, ..Faults::default() }).await;
        let registry = transports();
        let ours = registry.mqtt(&url(&if version_5 { broker.url5() } else { broker.url() }));
        let inbox = subscribe(&ours, "api/#").await;
        for text in ["1", "2", "3"] {
            broker.deliver(&Publish::new("api/cmd=x", text));
        }
        broker.wait_acknowledged(6).await;
        assert_eq!(texts(&inbox), ["1", "2", "3"]);
        let status = registry.brokers().remove(0);
        assert_eq!((status.duplicates, status.received, status.lost), (3, 3, 0));
    }
}

#[tokio::test]
async fn b6_dup_a_repetition_after_a_reconnect_is_dropped_and_a_reused_packet_id_is_not() {
    let broker = BadBroker::start(Faults::default()).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url()));
    let inbox = subscribe(&ours, "api/#").await;
    let message = |text: &str, dup| Publish { id: 77, dup, ..Publish::new("api/cmd=x", text) };
    broker.deliver(&message("1", false));
    broker.wait_acknowledged(1).await;
    broker.kick();
    broker.connected(2).await;
    broker.subscribed("api/#").await;
    broker.deliver(&message("1", true));
    broker.deliver(&message("2", true));
    broker.deliver(&message("2", false));
    broker.wait_acknowledged(4).await;
    assert_eq!(texts(&inbox), ["1", "2", "2"], "only the second \"1\" was a repetition");
    assert_eq!(registry.brokers().remove(0).duplicates, 1);
}

#[tokio::test]
async fn b6_a_message_that_matches_several_filters_comes_once_to_each_reader() {
    let mosquitto = Mosquitto::start();
    for scheme in ["mqtt", "mqtt5"] {
        let registry = transports();
        let ours = registry.mqtt(&url(&format!("{scheme}://{}", mosquitto.addr())));
        let (wide, narrow) = (subscribe(&ours, "api/#").await, subscribe(&ours, "api/+").await);
        let same = subscribe(&ours, "api/x").await;
        for text in ["1", "2", "3", "end"] {
            soon("PUBACK", ours.publish_acknowledged("api/x", text, false)).await.unwrap();
        }
        for inbox in [&wide, &narrow, &same] {
            for text in ["1", "2", "3", "end"] {
                assert_eq!(next(inbox).await.payload, text, "{scheme}");
            }
        }
        // Whatever copies there were, they came before this.
        soon("PUBACK", ours.publish_acknowledged("api/y", "last", false)).await.unwrap();
        assert_eq!(next(&wide).await.payload, "last", "{scheme}");
        assert_eq!((texts(&wide), texts(&same)), (Vec::new(), Vec::new()), "{scheme}");
    }
}

#[tokio::test]
async fn b13_a_message_that_is_too_large_is_dropped_and_acknowledged_and_the_connection_stays() {
    for version_5 in [false, true] {
        let broker = BadBroker::start(Faults::default()).await;
        let registry = transports();
        let ours = registry.mqtt(&url(&if version_5 { broker.url5() } else { broker.url() }));
        let inbox = subscribe(&ours, "big").await;
        for size in [MAX_PAYLOAD + 1, 2 * MAX_PAYLOAD, 20 * MAX_PAYLOAD, MAX_PAYLOAD] {
            broker.deliver(&Publish::new("big", vec![b'x'; size]));
        }
        assert_eq!(next(&inbox).await.payload.len(), MAX_PAYLOAD);
        broker.wait_acknowledged(4).await;
        let status = registry.brokers().remove(0);
        assert_eq!((status.too_large, status.received, status.lost), (3, 1, 0));
    }
}

#[tokio::test]
async fn b13_a_flood_costs_its_own_topic_only_and_a_bounded_memory() {
    let broker = BadBroker::start(Faults::default()).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url()));
    let newest = Inbox::new(Overflow::NewestPerTopic, 16);
    let orders = Inbox::new(Overflow::KeepOrder, 16);
    ours.subscribe("set/+", Qos::AtMostOnce, "main", "", newest.clone()).await.unwrap();
    ours.subscribe("ctl", Qos::AtLeastOnce, "main", "", orders.clone()).await.unwrap();
    soon("SUBACK", ours.acknowledged()).await;
    broker.deliver(&Publish::new("set/M2", "calm"));
    broker.flood("set/M1", 50_000);
    broker.deliver(&Publish::new("ctl", "order"));
    assert_eq!(next(&orders).await.payload, "order");
    let seen: Vec<_> = std::iter::from_fn(|| newest.try_recv()).map(|m| (m.topic, m.payload)).collect();
    assert_eq!(seen, [("set/M2".to_owned(), "calm".into()), ("set/M1".to_owned(), "49999".into())]);
    assert_eq!(newest.dropped(), 49_999);

    broker.flood("ctl", 1_000);
    broker.deliver(&Publish::new("set/M1", "after"));
    assert_eq!(next(&newest).await.payload, "after");
    assert_eq!(texts(&orders), (0..16).map(|n| n.to_string()).collect::<Vec<_>>(), "the order is kept");
    assert_eq!(orders.dropped(), 984);
    assert_eq!(registry.brokers().remove(0).lost, 0);
}
