//! Every form of a broker URL against a Mosquitto, logins and rules of access (A2), the client id (B17).

use std::collections::BTreeMap;

use ladekern::config::BrokerTls;
use ladekern::transport::{EmbeddedBroker, MqttError};
use ladekern_tests::authority::Authority;
use ladekern_tests::bad_broker::{BadBroker, Faults, OnConnect};
use ladekern_tests::mosquitto::{Mosquitto, Setup};

use super::*;

/// A message goes out and comes back.
async fn works(connection: &MqttConnection) -> bool {
    let inbox = subscribe(connection, "there/and/#").await;
    soon("PUBACK", connection.publish_acknowledged("there/and/back", "x", false)).await.unwrap();
    assert_eq!(next(&inbox).await.payload, "x");
    connected(connection).await
}

#[tokio::test]
async fn a2_every_scheme_speaks_its_version_over_its_transport() {
    let authority = Authority::new("test");
    let plain = Mosquitto::start();
    let secure =
        Mosquitto::with(&Setup { tls: Some(authority.server(&["localhost", "127.0.0.1"])), ..Setup::default() });
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let trusted = BrokerTls { ca_file: Some(ca_file), ..BrokerTls::default() };
    let registry = transports();
    let hosts = ["localhost", "127.0.0.1"].map(|host| ((host.to_owned(), secure.port()), trusted.clone()));
    registry.set_broker_tls(BTreeMap::from(hosts));
    for (scheme, port, version_5) in [
        ("", plain.port(), false),
        ("mqtt://", plain.port(), false),
        ("mqtt3://", plain.port(), false),
        ("mqtt5://", plain.port(), true),
        ("mqtts://", secure.port(), false),
        ("mqtts3://", secure.port(), false),
        ("mqtts5://", secure.port(), true),
    ] {
        for host in ["127.0.0.1", "localhost"] {
            let text = format!("{scheme}{host}:{port}");
            assert_eq!(works(&registry.mqtt(&url(&text))).await, version_5, "{text}");
        }
    }
}

#[tokio::test]
async fn a2_the_embedded_broker_takes_both_versions() {
    let broker = EmbeddedBroker::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    for (scheme, version_5) in [("mqtt", false), ("mqtt5", true)] {
        let registry = transports();
        let ours = registry.mqtt(&url(&format!("{scheme}://{}", broker.local_addr())));
        assert_eq!(works(&ours).await, version_5);
        soon("shutdown", registry.shutdown()).await;
    }
    soon("the end", broker.stop()).await;
}

#[tokio::test]
async fn a2_user_and_password_open_the_broker_and_wrong_ones_are_named() {
    let users = vec![("jo@home".to_owned(), "p:/%".to_owned())];
    let broker = Mosquitto::with(&Setup { users, ..Setup::default() });
    for scheme in ["mqtt", "mqtt5"] {
        let right = transports().mqtt(&url(&format!("{scheme}://jo%40home:p%3A%2F%25@127.0.0.1:{}", broker.port())));
        assert_eq!(works(&right).await, scheme == "mqtt5");
        for login in ["jo%40home:wrong-secret@", "nobody:p%3A%2F%25@", ""] {
            let registry = transports();
            let reason = down(&registry.mqtt(&url(&format!("{scheme}://{login}127.0.0.1:{}", broker.port())))).await;
            assert!(reason.contains("user name or the password"), "{scheme} {login}: {reason}");
            assert!(!format!("{:?}", registry.brokers()).contains("secret"));
        }
    }
}

#[tokio::test]
async fn a2_what_the_rules_of_access_forbid_is_seen() {
    let users = vec![("jo".to_owned(), "secret".to_owned())];
    let acl = Some("user jo\ntopic readwrite allowed/#\n".to_owned());
    let broker = Mosquitto::with(&Setup { users, acl, ..Setup::default() });
    let registry = transports();
    let ours = registry.mqtt(&url(&format!("mqtt5://jo:secret@127.0.0.1:{}", broker.port())));
    soon("PUBACK", ours.publish_acknowledged("allowed/x", "1", false)).await.unwrap();
    let forbidden = soon("PUBACK", ours.publish_acknowledged("forbidden/x", "1", false)).await;
    assert!(matches!(&forbidden, Err(MqttError::Denied(why)) if why.contains("forbidden/x")), "{forbidden:?}");
    ours.publish("forbidden/y", "1", Qos::AtLeastOnce, false).await.unwrap();
    let status = status(&registry, |status| status.refused == 2).await;
    assert!(status.last_error.as_ref().is_some_and(|error| error.contains("forbidden/y")), "{status:?}");
    assert_eq!(status.lost, 0);
}

#[tokio::test]
async fn a2_a_refused_subscription_is_seen_and_holds_nothing_up() {
    for version_5 in [false, true] {
        let faults = Faults { refused_filters: vec!["forbidden/#".to_owned()], ..Faults::default() };
        let broker = BadBroker::start(faults).await;
        let registry = transports();
        let ours = registry.mqtt(&url(&if version_5 { broker.url5() } else { broker.url() }));
        let _forbidden = subscribe(&ours, "forbidden/#").await;
        let allowed = subscribe(&ours, "allowed").await;
        assert_eq!(registry.brokers().remove(0).refused_filters, ["forbidden/#"]);
        broker.deliver(&ladekern_tests::bad_broker::Publish::new("allowed", "x"));
        assert_eq!(next(&allowed).await.payload, "x");
    }
}

#[tokio::test]
async fn b17_the_client_id_is_numbered_per_connection_and_stays() {
    let broker = BadBroker::start(Faults::default()).await;
    let registry = transports();
    let first = registry.mqtt(&url(&broker.url()));
    connected(&first).await;
    let second = registry.mqtt(&url(&format!("mqtt://jo:x@127.0.0.1:{}", broker.port())));
    connected(&second).await;
    let ids = |connects: Vec<ladekern_tests::bad_broker::Connect>| {
        connects.into_iter().map(|connect| connect.client_id).collect::<Vec<_>>()
    };
    assert_eq!(ids(broker.connects()), ["ladekern-1234-1", "ladekern-1234-2"]);
    // Another use of the same broker shares the connection.
    let shared = registry.mqtt(&url(&format!("127.0.0.1:{}", broker.port())));
    connected(&shared).await;
    assert_eq!(broker.connects().len(), 2);
    broker.kick();
    let mut again = ids(broker.connected(4).await).split_off(2);
    again.sort();
    assert_eq!(again, ["ladekern-1234-1", "ladekern-1234-2"]);
    let shown: Vec<_> = registry.brokers().into_iter().map(|status| (status.client_id, status.url)).collect();
    assert!(shown.iter().any(|(id, url)| id == "ladekern-1234-2" && url.contains("jo:***@")), "{shown:?}");
}

#[tokio::test]
async fn a2_a_refusal_because_of_the_login_is_repeated_and_never_blamed_on_the_version() {
    for refusal in [OnConnect::Refuse(4), OnConnect::Refuse(5), OnConnect::Refuse5(0x86), OnConnect::Refuse5(0x87)] {
        let broker = BadBroker::start(Faults { version_5: refusal, ..Faults::default() }).await;
        let ours = transports().mqtt(&url(&broker.url5()));
        let reason = down(&ours).await;
        assert!(reason.contains("user name or the password"), "{refusal:?}: {reason}");
        let versions: Vec<u8> = broker.connected(2).await.iter().map(|connect| connect.version).collect();
        assert_eq!(versions, [5, 5], "{refusal:?}");
        // As soon as the login is good it works.
        broker.set(|faults| faults.version_5 = OnConnect::Accept);
        assert!(connected(&ours).await);
    }
}
