//! Which parts run at which broker, for the configuration in force. Feeding and publishing are built anew when it
//! changes; the API, `ctl` and their calls under way go on as long as their broker and topics stay the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::super::api::Api;
use super::super::{ctl, topics};
use super::api::ApiLink;
use super::feeding;
use super::log::LogLink;
use super::native::{self, NativeDevice};
use super::publishing::{DeviceTask, device_topic, keep_online, online_topic, publish_site};
use crate::config::{BrokerRef, BrokerUrl, Config};
use crate::logging::{self, Entries};
use crate::transport::{Inbox, Message, MqttConnection, Overflow, Qos, Transports};

/// Messages of `ctl` that wait; order is kept.
const CTL_INBOX: usize = 256;

/// What the parts are made of.
#[derive(Clone)]
pub(super) struct Links {
    pub api: Api,
    /// Where messages of `ctl` go.
    pub control: mpsc::Sender<Message>,
    /// Connections of our own topics.
    pub native: Transports,
}

/// The broker and the topics a part is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    url: BrokerUrl,
    prefix: String,
}

/// Parts that outlive a changed configuration.
#[derive(Default)]
struct Lasting {
    api: Option<(Place, Option<ApiLink>)>,
    ctl: Option<(Place, JoinSet<()>)>,
    log: Option<(Place, LogLink)>,
    /// The log since the start of the program, for the first that publishes it.
    since_start: Option<Entries>,
    /// Say their last words while the new ones run.
    ending: JoinSet<()>,
}

/// Everything that runs for one configuration. Its tasks end when it is dropped.
struct Generation {
    config: Arc<Config>,
    online: String,
    /// Held so that `online` can be taken back.
    publishing: BTreeMap<BrokerUrl, MqttConnection>,
    devices: Vec<DeviceTask>,
    native: Option<(BrokerUrl, MqttConnection)>,
    /// Topics of devices that the broker keeps.
    kept: BTreeMap<(BrokerUrl, String), MqttConnection>,
    tasks: JoinSet<()>,
}

impl Links {
    pub async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut configs = self.api.source.config.clone();
        let first = Arc::clone(&configs.borrow_and_update());
        let mut lasting = Lasting { since_start: Some(logging::entries()), ..Lasting::default() };
        let mut running = self.start(first, &mut lasting).await;
        lasting.since_start = None;
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                Some(_) = lasting.ending.join_next() => {}
                changed = configs.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let config = Arc::clone(&configs.borrow_and_update());
                    if same_links(&running.config, &config) {
                        continue;
                    }
                    // The new subscriptions are made before the old ones go, so that no message falls between.
                    let new = self.start(config, &mut lasting).await;
                    running.tasks.shutdown().await;
                    self.retire(&running, &new);
                    running = new;
                }
            }
        }
        lasting.end().await;
        running.tasks.shutdown().await;
        for device in &running.devices {
            device.publish_last();
        }
        for connection in running.publishing.values() {
            connection.publish_latest(running.online.clone(), "false", true);
        }
        if let Some((_, connection)) = &running.native {
            native::say_goodbye(connection, &native::root(&self.api.source.serial));
        }
        self.native.shutdown().await;
    }

    /// Takes back what the new generation does not say any more.
    fn retire(&self, old: &Generation, new: &Generation) {
        for (url, connection) in &old.publishing {
            if old.online != new.online || !new.publishing.contains_key(url) {
                connection.publish_latest(old.online.clone(), "false", true);
            }
        }
        // A device that is gone, or is published elsewhere, must not look alive to who comes later.
        for (place, connection) in &old.kept {
            if !new.kept.contains_key(place) {
                connection.publish_latest(place.1.clone(), "", true);
            }
        }
        let native = |generation: &Generation| generation.native.as_ref().map(|(url, _)| url.clone());
        if let Some((url, connection)) = &old.native
            && native(new).as_ref() != Some(url)
        {
            native::say_goodbye(connection, &native::root(&self.api.source.serial));
        }
    }

    /// Subscribes and starts to publish.
    async fn start(&self, config: Arc<Config>, lasting: &mut Lasting) -> Generation {
        let prefix = topics::prefix(&config.mqtt, &self.api.source.serial);
        let mut generation = Generation {
            config: Arc::clone(&config),
            online: online_topic(&prefix),
            publishing: BTreeMap::new(),
            devices: Vec::new(),
            native: None,
            kept: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        let site = self.broker("mqtt.publish", &config.mqtt.publish);
        let devices: Vec<(usize, Option<MqttConnection>)> = (config.devices.iter().enumerate())
            .map(|(index, device)| match &device.publish {
                None => (index, site.clone()),
                Some(own) => (index, self.broker(&format!("device.{}.publish", device.id), own)),
            })
            .map(|(index, broker)| (index, broker.map(|url| generation.keep(&url, &config, index, &prefix, self))))
            .collect();
        let site = site.map(|url| generation.connect(&url, self));
        self.take_orders(&config, &prefix, &mut generation, lasting).await;
        self.repeat_log(&config, &prefix, lasting);
        if let Some(feeding) = feeding::subscribe(self, &config, &prefix).await {
            generation.tasks.spawn(feeding::read(feeding, self.api.feeds.clone()));
        }
        for connection in generation.publishing.values() {
            generation.tasks.spawn(keep_online(connection.clone(), generation.online.clone()));
        }
        let source = || self.api.source.clone();
        let shared: Arc<str> = prefix.as_str().into();
        for (index, connection) in devices {
            if let Some(connection) = connection {
                let (config, prefix) = (Arc::clone(&config), Arc::clone(&shared));
                let task = DeviceTask { source: source(), config, prefix, index, connection };
                generation.tasks.spawn(task.clone().run());
                generation.devices.push(task);
            }
        }
        if let Some(connection) = site {
            generation.tasks.spawn(publish_site(source(), connection, prefix, config.mqtt.publish_interval));
        }
        self.start_native(&config, &mut generation);
        generation
    }

    /// Our own topics, on connections of their own.
    fn start_native(&self, config: &Arc<Config>, generation: &mut Generation) {
        let Some(url) = self.broker("mqtt.native", &config.mqtt.native) else { return };
        self.native.set_broker_tls(config.mqtt.tls.clone());
        let connection = self.native.mqtt(&url);
        let root: Arc<str> = native::root(&self.api.source.serial).into();
        native::prepare(&connection, &root);
        let (source, others) = (self.api.source.clone(), self.api.transports.clone());
        generation.tasks.spawn(native::publish_status(source, others, connection.clone(), Arc::clone(&root)));
        for (index, device) in config.devices.iter().enumerate() {
            generation.kept.insert((url.clone(), native::device_topic(&root, device)), connection.clone());
            let (source, config) = (self.api.source.clone(), Arc::clone(config));
            let task = NativeDevice { source, config, root: Arc::clone(&root), index, connection: connection.clone() };
            generation.tasks.spawn(task.run());
        }
        generation.native = Some((url, connection));
    }

    /// `log`; entries that are written meanwhile are not lost while its broker stays the same.
    fn repeat_log(&self, config: &Config, prefix: &str, lasting: &mut Lasting) {
        let place = self.broker("mqtt.log", &config.mqtt.log).map(|url| Place { url, prefix: prefix.to_owned() });
        if lasting.log.as_ref().map(|(place, _)| place) == place.as_ref() {
            return;
        }
        let mut entries = || lasting.since_start.take().unwrap_or_else(logging::entries);
        let new = place.map(|place| {
            let connection = self.api.transports.mqtt(&place.url);
            let link = LogLink::start(entries(), connection, format!("{prefix}/log"));
            (place, link)
        });
        if let Some((_, old)) = std::mem::replace(&mut lasting.log, new) {
            lasting.ending.spawn(old.end());
        }
    }

    /// `api` and `ctl`. Whoever calls there sees in `get/online` whether somebody listens.
    async fn take_orders(&self, config: &Config, prefix: &str, generation: &mut Generation, lasting: &mut Lasting) {
        let place = |url: BrokerUrl| Place { url, prefix: prefix.to_owned() };
        let api = self.broker("mqtt.api", &config.mqtt.api).map(place);
        let connection = api.as_ref().map(|place| generation.connect(&place.url, self));
        if lasting.api.as_ref().map(|(place, _)| place) != api.as_ref() {
            // The old one stops taking calls before the new one begins, or one call could run twice.
            if let Some((_, Some(old))) = lasting.api.take() {
                lasting.ending.spawn(old.end());
            }
            if let Some((place, connection)) = api.clone().zip(connection) {
                lasting.api = Some((place, ApiLink::start(self.api.clone(), connection, prefix).await));
            }
        }
        let ctl = ctl::is_configured(config).then(|| match &config.mqtt.api {
            BrokerRef::Off => self.broker("mqtt.control", &BrokerRef::Default).map(place),
            _ => api,
        });
        let ctl = ctl.flatten();
        let connection = ctl.as_ref().map(|place| generation.connect(&place.url, self));
        if lasting.ctl.as_ref().map(|(place, _)| place) != ctl.as_ref() {
            lasting.ctl = None;
            if let Some((place, connection)) = ctl.zip(connection) {
                let reader = self.read_ctl(connection, prefix).await;
                lasting.ctl = Some((place, reader));
            }
        }
    }

    /// Hands messages of `ctl` on. Ends when it is dropped, and with it the subscription.
    async fn read_ctl(&self, connection: MqttConnection, prefix: &str) -> JoinSet<()> {
        let inbox = Inbox::new(Overflow::KeepOrder, CTL_INBOX);
        let topic = format!("{prefix}/ctl");
        let mut reader = JoinSet::new();
        if let Err(error) = connection.subscribe(&topic, Qos::AtLeastOnce, "ctl", "", inbox.clone()).await {
            tracing::error!("mqtt.control: {topic} cannot be subscribed: {error}");
            return reader;
        }
        let control = self.control.clone();
        reader.spawn(async move {
            // Held, or the connection would close.
            let _connection = connection;
            let mut overflowed = 0;
            loop {
                let message = inbox.recv().await;
                let dropped = inbox.dropped();
                if dropped > overflowed {
                    tracing::warn!("{topic}: {} messages came faster than they could be read", dropped - overflowed);
                    overflowed = dropped;
                }
                if control.send(message).await.is_err() {
                    return;
                }
            }
        });
        reader
    }

    /// The broker that is meant; one that cannot be used is logged, and the rest goes on.
    pub fn broker(&self, key: &str, broker: &BrokerRef) -> Option<BrokerUrl> {
        if *broker == BrokerRef::Off {
            return None;
        }
        self.api.transports.resolve(broker).inspect_err(|error| tracing::error!("{key}: {error}")).ok()
    }
}

impl Lasting {
    async fn end(mut self) {
        self.ctl = None;
        if let Some((_, Some(api))) = self.api.take() {
            api.end().await;
        }
        if let Some((_, log)) = self.log.take() {
            log.end().await;
        }
        while self.ending.join_next().await.is_some() {}
    }
}

impl Generation {
    /// A connection that is published on, with its last will set before it is first used.
    fn connect(&mut self, url: &BrokerUrl, links: &Links) -> MqttConnection {
        let online = self.online.clone();
        let connect = || {
            let connection = links.api.transports.mqtt(url);
            connection.set_last_will(online, "false", true);
            connection
        };
        self.publishing.entry(url.clone()).or_insert_with(connect).clone()
    }

    /// The same for `get/<dev_id>` of one device.
    fn keep(&mut self, url: &BrokerUrl, config: &Config, index: usize, prefix: &str, links: &Links) -> MqttConnection {
        let connection = self.connect(url, links);
        if let Some(device) = config.devices.get(index) {
            self.kept.insert((url.clone(), device_topic(prefix, device)), connection.clone());
        }
        connection
    }
}

/// Whether two configurations ask for the same subscriptions and publications, in the same words.
fn same_links(old: &Config, new: &Config) -> bool {
    // What is published of a device comes from its entry, so a changed entry is a changed publication.
    old.mqtt == new.mqtt && old.devices == new.devices
}
