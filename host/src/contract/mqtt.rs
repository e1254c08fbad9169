//! The contract over MQTT: `set/<dev_id>` feeds the devices of type `http-input`; `get/dev_info`, `get/params` and
//! `get/<dev_id>` show the site, `get/online` whether we live. Keeps no state of its own: all of it is built anew,
//! beside the old, when the configuration changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::{BrokerRef, BrokerUrl, Config, DeviceConfig, HTTP_INPUT};
use crate::device::http_input::Feeds;
use crate::site::{DeviceId, DeviceStatus};
use crate::transport::{BrokerState, Inbox, MqttConnection, Overflow, Qos, Transports};

use super::api::Api;
use super::{DevInfo, DeviceObject, Params, SiteSource, to_json};

/// All topics begin with this.
pub const PREFIX: &str = "cfos_mqtt";
/// The retained topic that tells whether a manager lives.
const ONLINE: &str = "cfos_mqtt/get/online";
/// Topics that may wait to be read; the newest message of each waits.
const INBOX: usize = 1024;
/// One device's wrong messages are logged at most this often.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// The running contract over MQTT.
#[derive(Debug)]
pub struct ContractMqtt {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl ContractMqtt {
    /// Says goodbye (`get/online` is `false`) and ends. The transports send it before they close.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("the contract over MQTT broke down: {error}");
        }
    }
}

impl Drop for ContractMqtt {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts on the present runtime and follows the configuration.
#[must_use]
pub fn spawn(api: Api) -> ContractMqtt {
    let (stop, stopped) = watch::channel(false);
    let Api { source, feeds, transports, .. } = api;
    let links = Links { source, feeds, transports };
    ContractMqtt { stop, task: tokio::spawn(links.run(stopped)) }
}

#[derive(Clone)]
struct Links {
    source: SiteSource,
    feeds: Feeds,
    transports: Transports,
}

/// Everything that runs for one configuration. Its tasks end when it is dropped.
struct Generation {
    config: Arc<Config>,
    /// Held so that `online` can be taken back.
    publishing: BTreeMap<BrokerUrl, MqttConnection>,
    tasks: JoinSet<()>,
}

impl Links {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut configs = self.source.config.clone();
        let first = Arc::clone(&configs.borrow_and_update());
        let mut running = self.start(first).await;
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                changed = configs.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let config = Arc::clone(&configs.borrow_and_update());
                    if same_links(&running.config, &config) {
                        continue;
                    }
                    // The new subscriptions are made before the old ones go, so that no message falls between.
                    let new = self.start(config).await;
                    for (url, connection) in &running.publishing {
                        if !new.publishing.contains_key(url) {
                            connection.publish_latest(ONLINE, "false", true);
                        }
                    }
                    running = new;
                }
            }
        }
        running.tasks.shutdown().await;
        for connection in running.publishing.values() {
            connection.publish_latest(ONLINE, "false", true);
        }
    }

    /// Subscribes and starts to publish.
    async fn start(&self, config: Arc<Config>) -> Generation {
        let mut generation =
            Generation { config: Arc::clone(&config), publishing: BTreeMap::new(), tasks: JoinSet::new() };
        let site = self.broker("mqtt.publish", &config.mqtt.publish);
        let devices: Vec<(usize, Option<MqttConnection>)> = (config.devices.iter().enumerate())
            .map(|(index, device)| match &device.publish {
                None => (index, site.clone()),
                Some(own) => (index, self.broker(&format!("device.{}.publish", device.id), own)),
            })
            .map(|(index, broker)| (index, broker.map(|url| generation.connect(&url, &self.transports))))
            .collect();
        let site = site.map(|url| generation.connect(&url, &self.transports));

        self.subscribe(&config, &mut generation.tasks).await;
        for connection in generation.publishing.values() {
            generation.tasks.spawn(keep_online(connection.clone()));
        }
        if let Some(connection) = site {
            let (source, every) = (self.source.clone(), config.mqtt.publish_interval);
            generation.tasks.spawn(publish_site(source, connection, every));
        }
        for (index, connection) in devices {
            if let Some(connection) = connection {
                let task = DeviceTask { source: self.source.clone(), config: Arc::clone(&config), index, connection };
                generation.tasks.spawn(task.run());
            }
        }
        generation
    }

    /// The broker that is meant; one that cannot be used is logged, and the rest goes on.
    fn broker(&self, key: &str, broker: &BrokerRef) -> Option<BrokerUrl> {
        if *broker == BrokerRef::Off {
            return None;
        }
        self.transports.resolve(broker).inspect_err(|error| tracing::error!("{key}: {error}")).ok()
    }

    /// `set/<dev_id>` of every fed device.
    async fn subscribe(&self, config: &Config, tasks: &mut JoinSet<()>) {
        let inbox = Inbox::new(Overflow::NewestPerTopic, INBOX);
        let mut fed = Vec::new();
        for device in config.devices.iter().filter(|device| device.enabled && device.device_type == HTTP_INPUT) {
            let Some(url) = self.broker(&format!("device.{}.address", device.id), &device.feed) else { continue };
            let connection = self.transports.mqtt(&url);
            let topic = format!("{PREFIX}/set/{}", device.id);
            match connection.subscribe(&topic, Qos::AtLeastOnce, device.id.as_str(), "", inbox.clone()).await {
                // Held by the reader, or the connection would close under it.
                Ok(()) => fed.push(connection),
                Err(error) => tracing::error!("device {}: {topic} cannot be subscribed: {error}", device.id),
            }
        }
        if !fed.is_empty() {
            tasks.spawn(read(inbox, self.feeds.clone(), fed));
        }
    }
}

impl Generation {
    /// A connection that is published on, with its last will set before it is first used.
    fn connect(&mut self, url: &BrokerUrl, transports: &Transports) -> MqttConnection {
        let connect = || {
            let connection = transports.mqtt(url);
            connection.set_last_will(ONLINE, "false", true);
            connection
        };
        self.publishing.entry(url.clone()).or_insert_with(connect).clone()
    }
}

/// Whether two configurations ask for the same subscriptions and publications, in the same words.
fn same_links(old: &Config, new: &Config) -> bool {
    // What is published of a device comes from its entry, so a changed entry is a changed publication.
    old.mqtt == new.mqtt && old.devices == new.devices
}

/// Hands messages to their devices. `_connections` stay open as long as somebody reads.
async fn read(inbox: Inbox, feeds: Feeds, _connections: Vec<MqttConnection>) {
    let mut complained: HashMap<DeviceId, Instant> = HashMap::new();
    loop {
        let message = inbox.recv().await;
        let Some(input) = message.endpoint.parse().ok().and_then(|id: DeviceId| feeds.get(&id)) else {
            continue;
        };
        if let Err(error) = input.feed(&message.payload, message.retained) {
            let last = complained.get(input.id());
            if last.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY) {
                tracing::warn!("device {}: message on {} not taken: {error}", input.id(), message.topic);
                complained.insert(input.id().clone(), Instant::now());
            }
        }
    }
}

/// Tells at each connect that we live; the last will tells when we do not.
async fn keep_online(connection: MqttConnection) {
    let mut state = connection.state();
    loop {
        if matches!(*state.borrow_and_update(), BrokerState::Connected { .. }) {
            connection.publish_latest(ONLINE, "true", true);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// `get/dev_info` and `get/params`. Who sees the first one may publish: the subscriptions stand (rule B19).
async fn publish_site(source: SiteSource, connection: MqttConnection, every: Duration) {
    connection.acknowledged().await;
    let mut ticks = ticks(every);
    loop {
        ticks.tick().await;
        let view = source.view();
        connection.publish_latest(format!("{PREFIX}/get/dev_info"), to_json(&DevInfo(&view)), true);
        connection.publish_latest(format!("{PREFIX}/get/params"), to_json(&Params(&view)), true);
    }
}

/// Publishes `get/<dev_id>` of one device.
struct DeviceTask {
    source: SiteSource,
    config: Arc<Config>,
    index: usize,
    connection: MqttConnection,
}

impl DeviceTask {
    async fn run(self) {
        let Some(device) = self.config.devices.get(self.index) else { return };
        let topic = format!("{PREFIX}/get/{}", device.id);
        self.connection.acknowledged().await;
        // What changes without the device saying anything (it falls silent, the load manager has another reason) is
        // looked for at each tick.
        let mut ticks = ticks(self.config.mqtt.publish_interval);
        let mut published: Vec<u8> = Vec::new();
        let mut status: Option<watch::Receiver<DeviceStatus>> = None;
        loop {
            if status.as_ref().is_none_or(|status| status.has_changed().is_err()) {
                status = self.source.board.follow(&device.id);
            }
            let payload = self.payload(device, status.as_mut());
            if payload != published {
                published.clone_from(&payload);
                self.connection.publish_latest(topic.clone(), payload, true);
            }
            match &mut status {
                None => _ = ticks.tick().await,
                Some(receiver) => tokio::select! {
                    _ = ticks.tick() => {}
                    // An error means that the device was registered anew or removed; the next round sees it.
                    changed = receiver.changed() => if changed.is_err() {
                        status = None;
                        ticks.tick().await;
                    },
                },
            }
            // A flood of one device must not keep this worker from the others.
            tokio::task::yield_now().await;
        }
    }

    fn payload(&self, device: &DeviceConfig, status: Option<&mut watch::Receiver<DeviceStatus>>) -> Vec<u8> {
        let plan = Arc::clone(&self.source.plan.borrow());
        let status = status.map(watch::Receiver::borrow_and_update);
        to_json(&DeviceObject {
            device,
            number: self.index + 1,
            status: status.as_deref(),
            plan: plan.plan.chargers.get(&device.id),
            now: self.source.clock.now(),
        })
    }
}

#[cfg(test)]
mod tests;
