//! Brokers that do not know MQTT 5 (B2).

use ladekern_tests::bad_broker::{BadBroker, Faults, OnConnect};

use super::*;

async fn versions(broker: &BadBroker, times: usize) -> Vec<u8> {
    broker.connected(times).await.iter().map(|connect| connect.version).collect()
}

async fn fallback(refusal: OnConnect) {
    let broker = BadBroker::start(Faults { version_5: refusal, ..Faults::default() }).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url5()));
    let inbox = subscribe(&ours, "a").await;
    assert!(!connected(&ours).await, "{refusal:?}");
    soon("PUBACK", ours.publish_acknowledged("a", "x", false)).await.unwrap();
    assert_eq!(next(&inbox).await.payload, "x");
    assert_eq!(versions(&broker, 2).await, [5, 4], "{refusal:?}");
    // Remembered, also where the broker has learned version 5 meanwhile.
    broker.set(|faults| faults.version_5 = OnConnect::Accept);
    broker.kick();
    assert_eq!(versions(&broker, 3).await, [5, 4, 4], "{refusal:?}");
    // Another URL is another question.
    let changed = registry.mqtt(&url(&format!("mqtt5://jo:x@127.0.0.1:{}", broker.port())));
    assert!(connected(&changed).await);
}

#[tokio::test]
async fn b2_a_refusal_in_either_shape_and_a_silent_close_lead_to_3_1_1_which_is_remembered() {
    for refusal in [OnConnect::Refuse(1), OnConnect::Refuse5(0x84), OnConnect::Refuse5(0x80), OnConnect::Close] {
        fallback(refusal).await;
    }
}

#[tokio::test]
async fn b2_no_answer_to_connect_leads_to_3_1_1() {
    fallback(OnConnect::Hang).await;
}

#[tokio::test]
async fn b2_a_broker_that_takes_neither_version_is_asked_for_both_again() {
    let broker = BadBroker::start(Faults { connect: OnConnect::Close, ..Faults::default() }).await;
    let registry = transports();
    let ours = registry.mqtt(&url(&broker.url5()));
    let _used = ours.state();
    assert_eq!(versions(&broker, 4).await, [5, 4, 5, 4]);
    assert!(down(&ours).await.contains("closed the connection after CONNECT"));
    // What was wrong is over: version 5 is used, for it was never the reason.
    broker.set(|faults| faults.connect = OnConnect::Accept);
    connected(&ours).await;
}

#[tokio::test]
async fn b2_a_version_5_that_has_worked_is_not_given_up() {
    let broker = BadBroker::start(Faults::default()).await;
    let ours = transports().mqtt(&url(&broker.url5()));
    assert!(connected(&ours).await);
    broker.set(|faults| faults.version_5 = OnConnect::Close);
    broker.kick();
    assert_eq!(versions(&broker, 3).await, [5, 5, 5]);
    broker.set(|faults| faults.version_5 = OnConnect::Accept);
    assert!(connected(&ours).await);
}

#[tokio::test]
async fn b2_a_broker_that_is_busy_is_not_asked_for_another_version() {
    for refusal in [OnConnect::Refuse(3), OnConnect::Refuse5(0x88), OnConnect::Refuse5(0x89)] {
        let broker = BadBroker::start(Faults { version_5: refusal, ..Faults::default() }).await;
        let ours = transports().mqtt(&url(&broker.url5()));
        down(&ours).await;
        assert_eq!(versions(&broker, 2).await, [5, 5], "{refusal:?}");
    }
}
