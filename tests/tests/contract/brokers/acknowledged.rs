//! Publishing that resolves with the broker's acknowledgement, on which a durable outbox rests (B3), and answers to
//! requests of MQTT 5 (B7).

use ladekern::transport::{Acknowledgement, MqttError, ReplyTo};
use ladekern_tests::bad_broker::{Acks, BadBroker, Faults, Publish};

use super::*;

/// Fails if the acknowledgement has come.
async fn still_waits(future: &mut Acknowledgement) {
    tokio::select! {
        biased;
        result = future => panic!("resolved without an acknowledgement: {result:?}"),
        () = std::future::ready(()) => {}
    }
}

fn texts(received: &[Publish]) -> Vec<String> {
    received.iter().map(Publish::text).collect()
}

fn with_acks(acks: Acks) -> Faults {
    Faults { acks, ..Faults::default() }
}

#[tokio::test]
async fn b3_a_publish_resolves_with_its_acknowledgement_and_not_before() {
    for version_5 in [false, true] {
        let broker = BadBroker::start(with_acks(Acks::Held)).await;
        let ours = transports().mqtt(&url(&if version_5 { broker.url5() } else { broker.url() }));
        let mut all: Vec<_> = (1..=3).map(|n| ours.publish_acknowledged("ta_log", n.to_string(), true)).collect();
        let received = broker.wait(|received| received.len() == 3).await;
        assert_eq!(texts(&received), ["1", "2", "3"]);
        assert!(received.iter().all(|publish| publish.qos == 1 && publish.retain && !publish.dup));
        for future in &mut all {
            still_waits(future).await;
        }
        broker.release_acks();
        for future in all {
            assert_eq!(soon("PUBACK", future).await, Ok(()));
        }
    }
}

#[tokio::test]
async fn b3_what_was_not_acknowledged_is_sent_again_in_order_after_a_lost_connection() {
    for version_5 in [false, true] {
        let broker = BadBroker::start(with_acks(Acks::Held)).await;
        let ours = transports().mqtt(&url(&if version_5 { broker.url5() } else { broker.url() }));
        let mut all: Vec<_> = (1..=3).map(|n| ours.publish_acknowledged("ta_log", n.to_string(), false)).collect();
        broker.wait(|received| received.len() == 3).await;
        broker.set(|faults| faults.acks = Acks::Never);
        broker.kick();
        all.push(ours.publish_acknowledged("ta_log", "4", false));
        let received = broker.wait(|received| received.len() == 7).await;
        assert_eq!(texts(&received), ["1", "2", "3", "1", "2", "3", "4"]);
        for future in &mut all {
            still_waits(future).await;
        }
        broker.set(|faults| faults.acks = Acks::Prompt);
        broker.kick();
        for future in all {
            assert_eq!(soon("PUBACK", future).await, Ok(()));
        }
        assert_eq!(texts(&broker.received()), ["1", "2", "3", "1", "2", "3", "4", "1", "2", "3", "4"]);
    }
}

#[tokio::test]
async fn b3_acknowledgements_that_come_twice_or_of_unknown_messages_harm_nothing() {
    for acks in [Acks::Twice, Acks::Unknown] {
        let broker = BadBroker::start(with_acks(acks)).await;
        let registry = transports();
        let ours = registry.mqtt(&url(&broker.url()));
        for n in 0..50 {
            assert_eq!(soon("PUBACK", ours.publish_acknowledged("x", n.to_string(), false)).await, Ok(()));
        }
        // Had an acknowledgement of before met a later message, this would resolve.
        broker.set(|faults| faults.acks = Acks::Never);
        let mut last = ours.publish_acknowledged("x", "last", false);
        broker.wait(|received| received.len() == 51).await;
        still_waits(&mut last).await;
        let status = registry.brokers().remove(0);
        assert_eq!((status.connections, status.lost, status.sent), (1, 0, 51));
    }
}

#[tokio::test]
async fn b3_a_large_batch_keeps_its_order_through_restarts_of_the_broker() {
    let broker = BadBroker::start(Faults { close_after: Some(100), ..Faults::default() }).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url()));
    let all: Vec<_> = (0..300).map(|n| ours.publish_acknowledged("ta_log", n.to_string(), false)).collect();
    for future in all {
        assert_eq!(soon("PUBACK", future).await, Ok(()));
    }
    // Some came more than once; the first arrivals are in order and complete.
    let mut next = 0;
    for text in texts(&broker.received()) {
        let number: usize = text.parse().unwrap();
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
    }
    assert_eq!(next, 300);
    assert!(registry.brokers().remove(0).lost >= 2);
}

#[tokio::test]
async fn b3_a_refused_message_is_an_error_that_is_seen() {
    let broker = BadBroker::start(with_acks(Acks::Refuse(0x87))).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url5()));
    let refused = soon("PUBACK", ours.publish_acknowledged("secret/x", "1", false)).await;
    assert!(
        matches!(&refused, Err(MqttError::Denied(why)) if why.contains("secret/x") && why.contains("not authorized"))
    );
    let status = registry.brokers().remove(0);
    assert_eq!((status.refused, status.lost), (1, 0));
    assert!(status.last_error.unwrap().contains("secret/x"));

    let bad = soon("an error", ours.publish_acknowledged("a/#", "1", false)).await;
    assert!(matches!(bad, Err(MqttError::Denied(_))));
    let large = soon("an error", ours.publish_acknowledged("a", vec![0; (1 << 20) + 1], false)).await;
    assert!(matches!(large, Err(MqttError::Limit(_))));
}

#[tokio::test]
async fn b3_a_dropped_future_withdraws_its_message_while_the_broker_is_away() {
    let broker = BadBroker::start(Faults::default()).await;
    let ours = transports().mqtt(&url(&broker.url()));
    connected(&ours).await;
    broker.stop().await;
    down(&ours).await;
    let kept = ours.publish_acknowledged("x", "kept", false);
    drop(ours.publish_acknowledged("x", "dropped", false));
    let after = ours.publish_acknowledged("x", "after", false);
    broker.start_again().await;
    assert_eq!(soon("PUBACK", kept).await, Ok(()));
    assert_eq!(soon("PUBACK", after).await, Ok(()));
    assert_eq!(texts(&broker.received()), ["kept", "after"]);
}

#[tokio::test]
async fn b3_a_closed_connection_says_that_no_acknowledgement_will_come() {
    let broker = BadBroker::start(with_acks(Acks::Never)).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url()));
    let waiting = ours.publish_acknowledged("x", "1", false);
    broker.wait(|received| received.len() == 1).await;
    soon("shutdown", registry.shutdown()).await;
    assert!(matches!(soon("an end", waiting).await, Err(MqttError::Unreachable(_))));
    let late = soon("an end", ours.publish_acknowledged("x", "2", false)).await;
    assert!(matches!(late, Err(MqttError::Unreachable(_))));
}

#[tokio::test]
async fn b7_a_request_of_mqtt_5_is_answered_where_it_wants_with_its_correlation_data() {
    let broker = BadBroker::start(Faults::default()).await;
    let ours = transports().mqtt(&url(&broker.url5()));
    let inbox = subscribe(&ours, "api/#").await;
    let request = Publish {
        response_topic: Some("clients/7/answers".to_owned()),
        correlation: Some(vec![0, 255, 42]),
        ..Publish::new("api/cmd=x", "{}")
    };
    broker.deliver(&request);
    let to = next(&inbox).await.reply_to.unwrap();
    assert_eq!(to.topic, "clients/7/answers");
    ours.reply(&to, "{\"ok\":true}").await.unwrap();
    let answer = broker.wait(|received| !received.is_empty()).await.remove(0);
    assert_eq!((answer.topic.as_str(), answer.text().as_str()), ("clients/7/answers", "{\"ok\":true}"));
    assert_eq!((answer.correlation, answer.qos, answer.retain), (Some(vec![0, 255, 42]), 0, false));

    for unusable in ["", "clients/#", "clients/+/x"] {
        broker.deliver(&Publish { response_topic: Some(unusable.to_owned()), ..request.clone() });
        assert_eq!(next(&inbox).await.reply_to, None, "{unusable:?}");
    }
}

#[tokio::test]
async fn b7_an_answer_over_3_1_1_has_no_properties_and_without_a_connection_it_is_refused() {
    let broker = BadBroker::start(Faults::default()).await;
    let ours = transports().mqtt(&url(&broker.url()));
    connected(&ours).await;
    let to = ReplyTo { topic: "answers".to_owned(), correlation: Some("1".into()) };
    ours.reply(&to, "yes").await.unwrap();
    let answer = broker.wait(|received| !received.is_empty()).await.remove(0);
    assert_eq!((answer.text().as_str(), answer.correlation), ("yes", None));
    broker.stop().await;
    down(&ours).await;
    assert!(matches!(ours.reply(&to, "no").await, Err(MqttError::Unreachable(_))));
}
