//! `[mqtt]`: the brokers and what is read and published there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::parse::{NO_DEFAULT_BROKER, broker_ref, listen};
use super::reader::{Reader, boolean, number, size, text};
use super::tree::{Data, Node, shorten};
use super::types::*;

/// Also tells whether the file names a default broker, be it a wrong one.
pub(super) fn mqtt(mut table: Reader<'_>) -> (MqttConfig, bool) {
    let broker = table.read("broker", default_broker);
    let broker_given = table.peek("broker").is_some() && broker != Some(None);
    let [publish, api, log, ta_log, native] = ["publish", "api", "log", "ta_log", "native"].map(|key| {
        let broker = table.read(key, broker_ref).unwrap_or_default();
        if broker == BrokerRef::Default && !broker_given {
            table.error(key, NO_DEFAULT_BROKER);
        }
        broker
    });
    let control = table.read("control", boolean).unwrap_or(false);
    if control && api == BrokerRef::Off && !broker_given {
        table.error("control", "control messages need a broker; expected mqtt.api or mqtt.broker beside it");
    }
    let interval = table.read("publish_interval_ms", number(100..=3_600_000)).unwrap_or(3_000);
    let embedded_listen = table.read("embedded_listen", listen).unwrap_or((Ipv4Addr::LOCALHOST, 1883).into());
    let ctl_timeout = table.read("ctl_timeout_s", number(0..=86_400)).unwrap_or(60);
    let window = table.read("duplicate_window_ms", number(0..=60_000)).unwrap_or(500);
    let most = table.read("api_max_response", size(256..=1 << 20)).unwrap_or(64 << 10);
    let prefix_with_serial = table.read("prefix_with_serial", boolean).unwrap_or(false);
    let tls = tls(table.table("tls"));
    table.finish();
    let config = MqttConfig {
        broker: broker.flatten(),
        publish,
        publish_interval: Duration::from_millis(interval),
        embedded_listen,
        api,
        control,
        ctl_timeout: (ctl_timeout > 0).then(|| Duration::from_secs(ctl_timeout)),
        duplicate_window: Duration::from_millis(window),
        api_max_response: usize::try_from(most).unwrap_or(usize::MAX),
        log,
        ta_log,
        native,
        prefix_with_serial,
        tls,
    };
    (config, broker_given)
}

fn default_broker(node: &Node) -> Result<Option<DefaultBroker>, String> {
    match text(node)? {
        "" => Ok(None),
        "embedded" => Ok(Some(DefaultBroker::Embedded)),
        "mqtt" => Err("\"mqtt\" means this very key; expected a broker URL or \"embedded\"".into()),
        url => {
            let url: BrokerUrl = url.parse().map_err(|error: super::BadUrl| error.to_string())?;
            Ok(Some(DefaultBroker::Url(url)))
        }
    }
}

/// One table per broker, its name a URL with TLS.
fn tls(table: Reader<'_>) -> BTreeMap<(String, u16), BrokerTls> {
    let mut brokers = BTreeMap::new();
    for (name, node) in table.entries() {
        // The name is what somebody took for a URL, and may have a password in it.
        let key = table.key(&shorten(name));
        let error = |message: String| table.context().error(node.place, key.clone(), message);
        let url: BrokerUrl = match name.parse() {
            Ok(url) => url,
            Err(why) => {
                let why: super::BadUrl = why;
                error(why.to_string());
                continue;
            }
        };
        if !url.tls || url.login.is_some() {
            error("expected a broker with TLS and without a login, like \"mqtts://host:8883\"".into());
        }
        let Data::Table(entries) = &node.data else {
            error(format!("expected a table like {{ ca_file = \"ca.pem\" }}, found {}", node.data.describe()));
            continue;
        };
        let reader = Reader::new(table.context(), key.clone(), "mqtt.tls.<url>", entries, node.place);
        if brokers.insert((url.host, url.port), broker_tls(reader)).is_some() {
            error("there is an earlier table for this host and port; expected one for each".into());
        }
    }
    brokers
}

fn broker_tls(mut table: Reader<'_>) -> BrokerTls {
    let ca_file = table.path("ca_file");
    let cert = table.path("client_cert");
    let key = table.path("client_key");
    table.together("client_cert", "client_key");
    let verify = table.read("verify", boolean).unwrap_or(true);
    table.finish();
    BrokerTls { ca_file, client: cert.zip(key), verify }
}
