//! Brokers that go away and come back (B1).

use ladekern_tests::bad_broker::{BadBroker, Faults, Publish};
use ladekern_tests::mosquitto::Mosquitto;

use super::*;

#[tokio::test]
async fn b1_subscriptions_are_back_after_a_restart_of_the_broker_and_the_state_is_seen() {
    for scheme in ["mqtt", "mqtt5"] {
        let mut broker = Mosquitto::start();
        let registry = transports();
        let ours = registry.mqtt(&url(&format!("{scheme}://{}", broker.addr())));
        let (first, second) = (subscribe(&ours, "set/+").await, subscribe(&ours, "api/#").await);
        let up = registry.brokers().remove(0);
        assert_eq!(up.state, BrokerState::Connected { v5: scheme == "mqtt5" });
        assert!(up.connected_since.is_some() && up.next_attempt.is_none() && up.last_error.is_none());

        broker.stop();
        let reason = down(&ours).await;
        assert!(reason.contains(&broker.port().to_string()), "{reason}");
        let gone = status(&registry, |status| status.next_attempt.is_some()).await;
        assert!(gone.connected_since.is_none() && gone.lost == 1 && gone.last_error.is_some());

        broker.start_again();
        assert_eq!(connected(&ours).await, scheme == "mqtt5");
        soon("SUBACK", ours.acknowledged()).await;
        let back = registry.brokers().remove(0);
        assert!(back.connected_since > up.connected_since && back.next_attempt.is_none() && back.connections == 2);
        for (inbox, topic) in [(&first, "set/M1"), (&second, "api/cmd=x")] {
            soon("PUBACK", ours.publish_acknowledged(topic, "x", false)).await.unwrap();
            assert_eq!(next(inbox).await.topic, topic);
        }
    }
}

#[tokio::test]
async fn b1_a_broker_that_appears_late_or_loses_its_clients_again_and_again_is_found_each_time() {
    let broker = BadBroker::start(Faults::default()).await;
    broker.stop().await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url()));
    let inbox = Inbox::new(Overflow::KeepOrder, 100);
    ours.subscribe("a", Qos::AtLeastOnce, "main", "", inbox.clone()).await.unwrap();
    assert!(down(&ours).await.contains("refused"));
    broker.start_again().await;
    for round in 0..4 {
        broker.subscribed("a").await;
        broker.deliver(&Publish::new("a", round.to_string()));
        assert_eq!(next(&inbox).await.payload, round.to_string());
        broker.kick();
    }
}

#[tokio::test]
async fn b1_what_is_no_mqtt_costs_the_connection_and_nothing_else() {
    for version_5 in [false, true] {
        for garbage in [
            &[0xFF; 64][..],
            // A PUBLISH whose topic is longer than the packet, an empty one, one without its packet id.
            &[0x30, 3, 0, 9, b'a'],
            &[0x30, 0],
            &[0x32, 3, 0, 1, b'a'],
            // An empty PUBACK, a SUBACK that is cut off, a CONNECT, a length of five bytes.
            &[0x40, 0],
            &[0x90, 1, 0],
            &[0x10, 2, 0, 0],
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
        ] {
            // One each, because who is dropped again and again waits ever longer.
            let broker = BadBroker::start(Faults::default()).await;
            let registry = transports();
            let ours = registry.mqtt(&url(&if version_5 { broker.url5() } else { broker.url() }));
            let inbox = subscribe(&ours, "a").await;
            broker.send_raw(garbage);
            broker.connected(2).await;
            broker.subscribed("a").await;
            broker.deliver(&Publish::new("a", "x"));
            assert_eq!(next(&inbox).await.payload, "x", "{garbage:?}");
            assert_eq!(registry.brokers().remove(0).lost, 1, "{garbage:?}");
        }
    }
}
