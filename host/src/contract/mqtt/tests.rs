//! Against a real broker: Mosquitto, started on a port of its own.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::runtime::Handle;

use std::time::Duration;

use tokio::time::Instant;

use crate::app::testing::TestSite;
use crate::config::BrokerUrl;
use crate::site::{Clock, Command as Order};
use crate::transport::{Inbox, MqttConnection, Overflow, Qos, Transports};

const SOON: Duration = Duration::from_secs(20);

struct Broker {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Broker {
    async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")).unwrap();
        let program = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let program = program.into_iter().find(|path| std::path::Path::new(path).is_file());
        let program = program.expect("Mosquitto is not installed: apt-get install mosquitto");
        let child =
            Command::new(program).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + SOON;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "Mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { child, port, _folder: folder }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A site and a client of its broker.
struct Host {
    site: TestSite,
    client: MqttConnection,
    outside: Transports,
    inbox: Inbox,
    seen: BTreeMap<String, Vec<u8>>,
}

impl Host {
    async fn start(broker: &Broker, text: &str) -> Self {
        let clock = Clock::start();
        let url: BrokerUrl = broker.url().parse().unwrap();
        // The client subscribes first, or it would see only what is retained.
        let outside = Transports::new(Handle::current(), clock, None, "outside".into());
        let client = outside.mqtt(&url);
        let inbox = Inbox::new(Overflow::KeepOrder, 10_000);
        client.subscribe("cfos_mqtt/get/#", Qos::AtLeastOnce, "", "", inbox.clone()).await.unwrap();
        tokio::time::timeout(SOON, client.acknowledged()).await.unwrap();

        let site = TestSite::start(text).await;
        Self { site, client, outside, inbox, seen: BTreeMap::new() }
    }

    async fn publish(&self, topic: &str, text: &str, retain: bool) {
        self.client.publish(topic, text.to_owned(), Qos::AtLeastOnce, retain).await.unwrap();
    }

    /// Waits until the newest payload of a topic is as wanted.
    async fn wait(&mut self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                let newest = self.seen.get(topic).and_then(|payload| serde_json::from_slice(payload).ok());
                if let Some(value) = newest.filter(|value| wanted(value)) {
                    return value;
                }
                let message = self.inbox.recv().await;
                self.seen.insert(message.topic, message.payload.to_vec());
            }
        };
        match tokio::time::timeout(SOON, found).await {
            Ok(value) => value,
            Err(_) => panic!("{topic} did not come as wanted; seen: {:?}", self.seen.keys()),
        }
    }
}

fn site(broker: &Broker, publish: &str, devices: &str) -> String {
    format!("[mqtt]\nbroker = \"{}\"\npublish = \"{publish}\"\npublish_interval_ms = 200\n{devices}", broker.url())
}

const M3: &str = "[[device]]\nid = \"M3\"\ntype = \"http-input\"\naddress = \"mqtt\"\n";
const E1: &str = "[[device]]\nid = \"E1\"\ntype = \"http-input\"\naddress = \"mqtt\"\n";

#[tokio::test]
async fn the_reference_example_of_the_contract() {
    let broker = Broker::start().await;
    let mut host = Host::start(&broker, &site(&broker, "mqtt", M3)).await;
    // Who sees dev_info may publish.
    host.wait("cfos_mqtt/get/dev_info", |_| true).await;
    host.publish(
        "cfos_mqtt/set/M3",
        r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}"#,
        false,
    )
    .await;
    let meter = host.wait("cfos_mqtt/get/M3", |meter| meter["import"] == 12_345).await;
    assert_eq!((&meter["export"], &meter["voltage_l1"]), (&23_456.into(), &231.into()));
    assert_eq!(
        (&meter["current_l3"], &meter["model"], &meter["com_err"]),
        (&10_003.into(), &"TestModell".into(), &false.into())
    );
    let info = host.wait("cfos_mqtt/get/dev_info", |info| info["devices"][0]["import"] == 12_345).await;
    assert_eq!(info["params"]["version"], "2.0.1");
    assert_eq!(host.wait("cfos_mqtt/get/params", |_| true).await["title"], "Ladekern");
    assert_eq!(host.wait("cfos_mqtt/get/online", |_| true).await, true);
    let Host { site, client, outside, inbox, seen } = host;
    let mut host = Host { site: site.restart().await, client, outside, inbox, seen };
    host.wait("cfos_mqtt/get/online", |online| *online == false).await;
    host.outside.shutdown().await;
}

#[tokio::test]
async fn orders_of_a_wallbox_are_read_from_its_topic() {
    let broker = Broker::start().await;
    let mut host = Host::start(&broker, &site(&broker, "", &format!("{E1}publish = \"mqtt\"\n{M3}"))).await;
    host.wait("cfos_mqtt/get/E1", |_| true).await;
    host.publish("cfos_mqtt/set/E1", "{state: 2, current: [0, 0, 0]}", false).await;
    host.wait("cfos_mqtt/get/E1", |e| e["state"] == 2 && e["last_set_charging_cur"] == -1).await;
    let wallbox = host.site.api.feeds.get(&"E1".parse().unwrap()).unwrap();
    wallbox.command(Order::Current(8_000)).unwrap();
    host.wait("cfos_mqtt/get/E1", |e| e["last_set_charging_cur"] == 8_000 && e["paused"] == false).await;
    wallbox.command(Order::Current(0)).unwrap();
    wallbox.command(Order::Enable(false)).unwrap();
    host.wait("cfos_mqtt/get/E1", |e| e["paused"] == true && e["charging_enabled"] == false).await;
    // Only E1 is switched on.
    assert!(!host.seen.contains_key("cfos_mqtt/get/M3") && !host.seen.contains_key("cfos_mqtt/get/dev_info"));
}

#[tokio::test]
async fn a_retained_message_is_shown_and_not_used() {
    let broker = Broker::start().await;
    let text = site(&broker, "mqtt", M3);
    let mut host = Host::start(&broker, &site(&broker, "", "")).await;
    host.publish("cfos_mqtt/set/M3", "{\"power_w\": 7}", true).await;
    tokio::time::timeout(SOON, host.client.acknowledged()).await.unwrap();
    // The broker has the retained message before the device subscribes: it acknowledged this later one.
    host.publish("cfos_mqtt/get/x", "1", false).await;
    host.wait("cfos_mqtt/get/x", |_| true).await;
    let mut later = Host::start(&broker, &text).await;
    let meter = later.wait("cfos_mqtt/get/M3", |meter| meter["power_w"] == 7).await;
    assert_eq!(meter["com_err"], true);
    later.publish("cfos_mqtt/set/M3", "{\"power_w\": 8}", false).await;
    later.wait("cfos_mqtt/get/M3", |meter| meter["power_w"] == 8 && meter["com_err"] == false).await;
}

#[tokio::test]
async fn a_changed_configuration_changes_what_is_read_and_published() {
    let broker = Broker::start().await;
    let mut host = Host::start(&broker, &site(&broker, "mqtt", &format!("{M3}publish = \"\"\n{E1}"))).await;
    host.wait("cfos_mqtt/get/dev_info", |info| info["devices"].as_array().unwrap().len() == 2).await;
    host.publish("cfos_mqtt/set/M3", "{\"power_w\": 1}", false).await;
    host.wait("cfos_mqtt/get/dev_info", |info| info["devices"][0]["power_w"] == 1).await;
    assert!(!host.seen.contains_key("cfos_mqtt/get/M3"), "switched off for this device");

    std::fs::write(host.site.file(), site(&broker, "mqtt", M3)).unwrap();
    host.wait("cfos_mqtt/get/M3", |meter| meter["power_w"] == 1).await;
    host.publish("cfos_mqtt/set/M3", "{\"power_w\": 2}", false).await;
    host.wait("cfos_mqtt/get/M3", |meter| meter["power_w"] == 2).await;

    std::fs::write(host.site.file(), site(&broker, "", M3)).unwrap();
    host.wait("cfos_mqtt/get/online", |online| *online == false).await;
}

#[tokio::test]
async fn a_wrong_message_is_no_end_and_silence_is_published() {
    let broker = Broker::start().await;
    let mut host = Host::start(&broker, &site(&broker, "mqtt", &format!("{M3}timeout_s = 1\n"))).await;
    host.wait("cfos_mqtt/get/M3", |_| true).await;
    host.publish("cfos_mqtt/set/M3", "{\"power_w\": \"lots\"}", false).await;
    let broken = host.wait("cfos_mqtt/get/M3", |meter| meter["com_errors"] == 1).await;
    assert!(broken["last_error"].as_str().unwrap().contains("lots"), "{broken}");
    host.publish("cfos_mqtt/set/M3", "{\"power_w\": 5}", false).await;
    host.wait("cfos_mqtt/get/M3", |meter| meter["power_w"] == 5 && meter["com_err"] == false).await;
    // Nothing more is fed: the device itself says nothing, and yet its topic tells.
    host.wait("cfos_mqtt/get/M3", |meter| meter["power_w"] == 5 && meter["com_err"] == true).await;
}
