//! MQTT connections against a real mosquitto.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod mqtt_support;

use std::time::Duration;

use bytes::Bytes;
use ladekern::config::{BrokerRef, EndpointConfig, EndpointUrl, Timing};
use ladekern::transport::{Endpoint, Inbox, MAX_PAYLOAD, MqttError, Overflow, Qos};
use mqtt_support::{
    DEADLINE, Dislike, Mosquitto, connected, down, next, proxy_without_v5, subscribed, transports, up_again, url,
};

#[tokio::test]
async fn subscriptions_and_unsent_messages_survive_a_broker_that_restarts() {
    for v5 in [false, true] {
        let mut broker = Mosquitto::start().await;
        let (ours, theirs) = (transports("ours"), transports("theirs"));
        let (ours, theirs) = (ours.mqtt(&broker.url(v5)), theirs.mqtt(&broker.url(!v5)));
        let inbox = subscribed(&ours, "set/+", Qos::AtLeastOnce).await;
        let echo = subscribed(&theirs, "get/#", Qos::AtLeastOnce).await;
        assert_eq!(connected(&ours).await, v5);

        broker.kill();
        let reason = down(&ours).await;
        assert!(reason.contains(&broker.port.to_string()), "{reason}");
        for value in 0..50 {
            ours.publish_latest("get/M1", format!("{value}"), false);
        }
        assert!(matches!(ours.publish("get/x", "", Qos::AtMostOnce, false).await, Err(MqttError::Unreachable(_))));
        for value in ["a", "b", "c"] {
            ours.publish("get/ordered", value, Qos::AtLeastOnce, false).await.unwrap();
        }
        down(&theirs).await;
        // `theirs` first, so that it does not miss what `ours` has waiting.
        broker.start_again().await;
        tokio::time::timeout(DEADLINE, theirs.acknowledged()).await.unwrap();
        tokio::time::timeout(DEADLINE, ours.acknowledged()).await.unwrap();
        theirs.publish("set/M1", "1", Qos::AtLeastOnce, false).await.unwrap();
        let message = next(&inbox).await;
        assert_eq!((message.topic.as_str(), &message.payload[..], message.retained), ("set/M1", &b"1"[..], false));

        // Unless `ours` was quicker to come back than `theirs`, all of it arrives, and of the measurement the last.
        ours.publish_latest("get/M1", "49", false);
        ours.publish("get/end", "", Qos::AtLeastOnce, false).await.unwrap();
        let mut values = Vec::new();
        loop {
            let message = next(&echo).await;
            if message.topic == "get/end" {
                break;
            }
            values.push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
        assert!(values.iter().all(|value| ["49", "a", "b", "c"].contains(&value.as_str())), "{values:?}");
    }
}

#[tokio::test]
async fn what_waited_for_the_broker_arrives_in_order() {
    let broker = Mosquitto::start().await;
    let (ours, theirs) = (transports("ours"), transports("theirs"));
    let (ours, theirs) = (ours.mqtt(&broker.url(false)), theirs.mqtt(&broker.url(false)));
    let echo = subscribed(&theirs, "#", Qos::AtLeastOnce).await;
    // Not connected yet: the first use starts the connection.
    for value in 0..500 {
        ours.publish("ordered", format!("{value}"), Qos::AtLeastOnce, false).await.unwrap();
    }
    for value in 0..500 {
        assert_eq!(next(&echo).await.payload, format!("{value}"));
    }
    // Far more than the link takes at once.
    for value in 0..5000 {
        ours.publish("ordered", format!("{value}"), Qos::AtMostOnce, false).await.unwrap();
    }
    for value in 0..5000 {
        assert_eq!(next(&echo).await.payload, format!("{value}"));
    }
}

#[tokio::test]
async fn a_handle_keeps_its_connection_without_the_registry() {
    let broker = Mosquitto::start().await;
    let ours = transports("ours").mqtt(&broker.url(false));
    let inbox = subscribed(&ours, "a", Qos::AtMostOnce).await;
    ours.publish_latest("a", "x", false);
    assert_eq!(next(&inbox).await.payload, "x");
}

#[tokio::test]
async fn retained_messages_say_so_and_a_late_reader_gets_them_too() {
    let broker = Mosquitto::start().await;
    let (ours, theirs) = (transports("ours"), transports("theirs"));
    let (ours, theirs) = (ours.mqtt(&broker.url(true)), theirs.mqtt(&broker.url(false)));
    let witness = subscribed(&theirs, "state/#", Qos::AtMostOnce).await;
    theirs.publish_latest("state/a", "kept", true);
    assert!(!next(&witness).await.retained, "it is new to who was there already");
    let first = subscribed(&ours, "state/#", Qos::AtMostOnce).await;
    assert!(next(&first).await.retained);
    let late = subscribed(&ours, "state/#", Qos::AtMostOnce).await;
    let message = next(&late).await;
    assert_eq!((message.retained, message.payload), (true, Bytes::from("kept")));
    theirs.publish_latest("state/b", "new", false);
    assert!(!next(&late).await.retained);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_dropped_and_the_connection_stays() {
    let broker = Mosquitto::start().await;
    for v5 in [false, true] {
        let registry = transports("ours");
        let ours = registry.mqtt(&broker.url(v5));
        let inbox = subscribed(&ours, "big/#", Qos::AtMostOnce).await;
        let mut options = rumqttc::MqttOptions::new("big", "127.0.0.1", broker.port);
        options.set_max_packet_size(8 << 20, 8 << 20);
        let (client, mut link) = rumqttc::AsyncClient::new(options, 10);
        let polling = tokio::spawn(async move { while link.poll().await.is_ok() {} });
        let qos = rumqttc::QoS::AtLeastOnce;
        client.publish("big/over", qos, false, vec![1u8; MAX_PAYLOAD + 1]).await.unwrap();
        client.publish("big/just", qos, false, vec![2u8; MAX_PAYLOAD]).await.unwrap();
        let message = next(&inbox).await;
        assert_eq!((message.topic.as_str(), message.payload.len()), ("big/just", MAX_PAYLOAD));
        let status = registry.brokers().remove(0);
        assert_eq!((status.too_large, status.lost), (1, 0));
        polling.abort();
        let over = vec![0u8; MAX_PAYLOAD + 1];
        assert!(matches!(ours.publish("x", over, Qos::AtLeastOnce, false).await, Err(MqttError::Limit(_))));
    }
}

#[tokio::test]
async fn a_broker_without_mqtt_5_is_spoken_to_in_3_1_1() {
    let broker = Mosquitto::start().await;
    for dislike in [Dislike::Silent, Dislike::Refusal] {
        let proxy = proxy_without_v5(broker.port, dislike).await;
        let registry = transports("ours");
        let ours = registry.mqtt(&url(proxy, true));
        let inbox = subscribed(&ours, "a", Qos::AtMostOnce).await;
        assert!(!connected(&ours).await);
        ours.publish("a", "x", Qos::AtLeastOnce, false).await.unwrap();
        assert_eq!(next(&inbox).await.payload, "x");
    }
}

#[tokio::test]
async fn the_last_will_is_published_when_the_host_vanishes_and_only_then() {
    let broker = Mosquitto::start().await;
    let registry = transports("witness");
    let witness = registry.mqtt(&broker.url(false));
    let inbox = subscribed(&witness, "will", Qos::AtMostOnce).await;
    for vanish in [false, true] {
        let url = broker.url(vanish);
        let thread = std::thread::spawn(move || {
            let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            io.block_on(async {
                let registry = transports("mortal");
                let ours = registry.mqtt(&url);
                // Connected before the will is set: it must come back with it.
                connected(&ours).await;
                let before = registry.brokers().remove(0).connections;
                ours.set_last_will("will", "gone", false);
                up_again(&registry, before).await;
                if !vanish {
                    let start = tokio::time::Instant::now();
                    registry.shutdown().await;
                    assert!(start.elapsed() < Duration::from_secs(1), "leaving took {:?}", start.elapsed());
                }
            });
            io.shutdown_background();
        });
        thread.join().unwrap();
        witness.publish("will", "end", Qos::AtLeastOnce, false).await.unwrap();
        let first = next(&inbox).await.payload;
        if vanish {
            let second = next(&inbox).await.payload;
            let mut both = [first, second];
            both.sort();
            assert_eq!(both, ["end", "gone"]);
        } else {
            assert_eq!(first, "end");
        }
    }
}

fn endpoint_config(broker: BrokerRef, prefix: &str, read_only: bool) -> EndpointConfig {
    EndpointConfig {
        url: EndpointUrl::Mqtt(broker),
        unit: None,
        timeout: Some(Duration::from_secs(1)),
        min_gap: None,
        read_only,
        topic_prefix: prefix.to_owned(),
        user: None,
        password_file: None,
        timing: Timing::default(),
    }
}

#[tokio::test]
async fn an_endpoint_stays_below_its_prefix() {
    let broker = Mosquitto::start().await;
    let registry = transports("ours");
    let device = "E1".parse().unwrap();
    let bind = |cfg: &EndpointConfig| registry.endpoint(&device, "main", cfg, None, None);
    let by_name = endpoint_config(BrokerRef::Default, "go-e/1", false);
    let error = bind(&by_name).unwrap_err().to_string();
    assert!(error.contains("E1") && error.contains("main") && error.contains("mqtt.broker"), "{error}");

    registry.set_default_broker(Some(broker.url(false)));
    let Endpoint::Mqtt(endpoint) = bind(&by_name).unwrap() else { panic!("no MQTT endpoint") };
    let inbox = Inbox::new(Overflow::NewestPerTopic, 16);
    endpoint.subscribe("+/amp".to_owned(), Qos::AtMostOnce, inbox.clone()).await.unwrap();
    let host = registry.mqtt(&broker.url(false));
    tokio::time::timeout(DEADLINE, host.acknowledged()).await.unwrap();
    assert_eq!(registry.brokers().len(), 1, "the endpoint and the host share the connection");
    endpoint.publish("x/amp".to_owned(), Bytes::from("16"), Qos::AtMostOnce, false).await.unwrap();
    host.publish_latest("go-e/2/amp", "8", false);
    let message = next(&inbox).await;
    assert_eq!((&*message.endpoint, message.topic.as_str()), ("main", "x/amp"));

    for outside in ["/amp", "$SYS/uptime"] {
        let subscribe = endpoint.subscribe(outside.to_owned(), Qos::AtMostOnce, inbox.clone()).await;
        assert!(matches!(subscribe, Err(MqttError::Denied(_))), "{outside}");
        let publish = endpoint.publish(outside.to_owned(), Bytes::new(), Qos::AtMostOnce, false).await;
        assert!(matches!(publish, Err(MqttError::Denied(_))), "{outside}");
    }
    for wildcard in ["#", "a/+"] {
        let publish = endpoint.publish(wildcard.to_owned(), Bytes::new(), Qos::AtMostOnce, false).await;
        assert!(matches!(publish, Err(MqttError::Denied(_))), "{wildcard}");
    }
    let bad = endpoint.subscribe("a/#/b".to_owned(), Qos::AtMostOnce, inbox.clone()).await;
    assert!(matches!(bad, Err(MqttError::Denied(_))));

    let Endpoint::Mqtt(endpoint) = bind(&endpoint_config(BrokerRef::Default, "", true)).unwrap() else { panic!() };
    let publish = endpoint.publish("a".to_owned(), Bytes::new(), Qos::AtMostOnce, false).await;
    assert!(matches!(publish, Err(MqttError::Denied(text)) if text.contains("read-only")));
}

#[tokio::test]
async fn a_refused_login_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 256];
            let _ = client.read(&mut buffer).await;
            // CONNACK of 3.1.1 with code 5, not authorized (3.2.2.3).
            let _ = client.write_all(&[0x20, 2, 0, 5]).await;
        }
    });
    let registry = transports("ours");
    let reason = down(&registry.mqtt(&url(addr, false))).await;
    assert!(reason.contains("user name or the password"), "{reason}");
}
