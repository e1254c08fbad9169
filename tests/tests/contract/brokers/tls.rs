//! TLS towards a broker (B18): whom we trust, who we are, and what is said when it fails.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ladekern::config::BrokerTls;
use ladekern_tests::authority::Authority;
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::{Mosquitto, Setup};

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }
}

fn ca(file: &Path) -> BrokerTls {
    BrokerTls { ca_file: Some(file.to_owned()), ..BrokerTls::default() }
}

fn apply(registry: &Transports, broker: &Mosquitto, settings: BrokerTls) {
    let host = broker.addr().ip().to_string();
    registry.set_broker_tls(BTreeMap::from([((host, broker.port()), settings)]));
}

/// The only connection of a new registry, and the registry.
fn secure(broker: &Mosquitto, settings: BrokerTls) -> (Transports, MqttConnection) {
    let registry = transports();
    apply(&registry, broker, settings);
    let ours = registry.mqtt(&url(&format!("mqtts5://{}", broker.addr())));
    (registry, ours)
}

#[tokio::test]
async fn b18_only_a_certificate_of_the_trusted_authority_for_the_right_name_and_time_is_taken() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let files = Files::new();
    let (trusted, other) = (files.write("ca.pem", &authority.pem()), files.write("other.pem", &stranger.pem()));
    for (identity, file, expected) in [
        (authority.server(&["127.0.0.1"]), &trusted, None),
        (authority.server(&["127.0.0.1"]), &other, Some("unknown authority")),
        (stranger.server(&["127.0.0.1"]), &trusted, Some("unknown authority")),
        (authority.server(&["broker.example"]), &trusted, Some("for another name")),
        (authority.expired_server(&["127.0.0.1"]), &trusted, Some("has expired")),
    ] {
        let broker = Mosquitto::with(&Setup { tls: Some(identity), ..Setup::default() });
        let (registry, ours) = secure(&broker, ca(file));
        match expected {
            None => assert!(connected(&ours).await),
            Some(words) => {
                let reason = down(&ours).await;
                assert!(reason.contains(words) && reason.contains(&broker.port().to_string()), "{words}: {reason}");
                let status = registry.brokers().remove(0);
                assert!(status.last_error.unwrap().contains(words) && status.next_attempt.is_some());
            }
        }
        // Switched off, any certificate is taken.
        let unverified = BrokerTls { verify: false, ..BrokerTls::default() };
        assert!(connected(&secure(&broker, unverified).1).await);
    }
}

#[tokio::test]
async fn b18_a_broker_that_asks_for_a_certificate_gets_ours() {
    let (servers, clients, stranger) = (Authority::new("servers"), Authority::new("clients"), Authority::new("x"));
    let setup =
        Setup { tls: Some(servers.server(&["127.0.0.1"])), client_authority: Some(clients.pem()), ..Setup::default() };
    let broker = Mosquitto::with(&setup);
    let files = Files::new();
    let trusted = files.write("ca.pem", &servers.pem());
    let identity = |name: &str, authority: &Authority| {
        let identity = authority.client("ladekern");
        let cert = files.write(&format!("{name}.pem"), &identity.certificate);
        (cert, files.write(&format!("{name}.key"), &identity.key))
    };
    let (ours, theirs) = (identity("ours", &clients), identity("theirs", &stranger));
    let with = |client: Option<(PathBuf, PathBuf)>| BrokerTls { client, ..ca(&trusted) };

    assert!(connected(&secure(&broker, with(Some(ours.clone()))).1).await);
    for wrong in [None, Some(theirs.clone())] {
        let reason = down(&secure(&broker, with(wrong)).1).await;
        assert!(reason.contains("does not accept our certificate") && reason.contains("client_cert"), "{reason}");
    }
    let mixed = down(&secure(&broker, with(Some((ours.0, theirs.1)))).1).await;
    assert!(mixed.contains("do not belong together"), "{mixed}");
}

#[tokio::test]
async fn b18_a_file_that_cannot_be_used_is_named_and_tried_again() {
    let authority = Authority::new("ours");
    let broker = Mosquitto::with(&Setup { tls: Some(authority.server(&["127.0.0.1"])), ..Setup::default() });
    let files = Files::new();
    let (registry, ours) = secure(&broker, ca(&files.path("ca.pem")));
    let reason = down(&ours).await;
    assert!(reason.contains("ca.pem") && reason.contains("No such file"), "{reason}");

    files.write("ca.pem", "no certificate");
    status(&registry, |status| status.last_error.as_ref().is_some_and(|error| error.contains("expected PEM"))).await;
    files.write("ca.pem", &authority.pem());
    assert!(connected(&ours).await);

    let keyless = (files.path("ca.pem"), files.path("ca.pem"));
    let reason = down(&secure(&broker, BrokerTls { client: Some(keyless), ..ca(&files.path("ca.pem")) }).1).await;
    assert!(reason.contains("private key") && reason.contains("ca.pem"), "{reason}");
}

#[tokio::test]
async fn b18_changed_settings_make_a_new_connection() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let broker = Mosquitto::with(&Setup { tls: Some(authority.server(&["127.0.0.1"])), ..Setup::default() });
    let files = Files::new();
    let (right, wrong) = (files.write("ca.pem", &authority.pem()), files.write("other.pem", &stranger.pem()));
    let (registry, ours) = secure(&broker, ca(&right));
    let inbox = subscribe(&ours, "a").await;
    apply(&registry, &broker, ca(&wrong));
    assert!(down(&ours).await.contains("unknown authority"));
    apply(&registry, &broker, ca(&right));
    assert!(connected(&ours).await);
    soon("PUBACK", ours.publish_acknowledged("a", "back", false)).await.unwrap();
    soon("SUBACK", ours.acknowledged()).await;
    soon("PUBACK", ours.publish_acknowledged("a", "again", false)).await.unwrap();
    while next(&inbox).await.payload != "again" {}
}

#[tokio::test]
async fn b18_an_address_of_version_6_is_verified_too() {
    let authority = Authority::new("ours");
    let address = std::net::Ipv6Addr::LOCALHOST.into();
    let setup = Setup { address, tls: Some(authority.server(&["::1"])), ..Setup::default() };
    let broker = Mosquitto::with(&setup);
    let files = Files::new();
    let (_registry, ours) = secure(&broker, ca(&files.write("ca.pem", &authority.pem())));
    assert!(connected(&ours).await);
}

#[tokio::test]
async fn b18_tls_and_plain_ports_that_are_mixed_up_say_so() {
    let authority = Authority::new("ours");
    let plain = Mosquitto::start();
    let files = Files::new();
    let (_registry, ours) = secure(&plain, ca(&files.write("ca.pem", &authority.pem())));
    let reason = down(&ours).await;
    assert!(reason.contains("TLS"), "{reason}");
    let secure = Mosquitto::with(&Setup { tls: Some(authority.server(&["127.0.0.1"])), ..Setup::default() });
    down(&transports().mqtt(&url(&secure.url()))).await;
}

fn site(broker: &Mosquitto, tls: &str) -> String {
    format!("[mqtt]\nbroker = \"mqtts://127.0.0.1:{port}\"\napi = \"mqtt\"\n{tls}", port = broker.port())
}

fn daemon(file: &Path, roots: &Path) -> Daemon {
    let folder = file.parent().unwrap().join("state");
    let arguments = ["run", "--config", file.to_str().unwrap(), "--state", folder.to_str().unwrap()];
    let arguments = arguments.into_iter().chain(["--set", "http.listen=127.0.0.1:0"]);
    Daemon::start_with(arguments, &[("SSL_CERT_FILE", roots.to_str().unwrap()), ("SSL_CERT_DIR", "/nowhere")])
}

#[tokio::test]
async fn b18_the_daemon_trusts_the_authorities_of_the_system_unless_the_configuration_says_otherwise() {
    let authority = Authority::new("ours");
    let broker = Mosquitto::with(&Setup { tls: Some(authority.server(&["127.0.0.1"])), ..Setup::default() });
    let files = Files::new();
    let system = files.write("system.pem", &authority.pem());
    let file = files.write("ladekern.toml", &site(&broker, ""));
    let running = daemon(&file, &system);
    running.line_with("connected to the broker").await;
    // The file is followed while the daemon runs.
    let stranger = files.write("stranger.pem", &Authority::new("stranger").pem());
    let tls = format!("tls.\"mqtts://127.0.0.1:{}\".ca_file = {stranger:?}\n", broker.port());
    files.write("ladekern.toml", &site(&broker, &tls));
    running.line_with("unknown authority").await;
    drop(running);

    let file = files.write("ladekern.toml", &site(&broker, ""));
    let running = daemon(&file, &files.write("empty.pem", ""));
    running.line_with("no certificate authorities to trust").await;
    drop(running);

    let tls = format!("tls.\"mqtts://127.0.0.1:{}\".verify = false\n", broker.port());
    let file = files.write("ladekern.toml", &site(&broker, &tls));
    let running = daemon(&file, &files.write("empty.pem", ""));
    running.line_with("TLS without verification").await;
    running.line_with("connected to the broker").await;
}
