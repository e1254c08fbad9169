//! Our own topics below `ladekern/<serial>/` (rule B16, `docs/mqtt-native.md`): values by the names of the register with
//! unit and age; what is not known is absent and never 0. On a connection of their own, because MQTT gives a
//! connection one last will and that of the contract's tree is `get/online`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use super::super::api::Api;
use super::super::{SiteSource, to_json};
use super::publishing::{ticks, wait};
use crate::config::{Config, DeviceConfig, LoadMode};
use crate::control::PlanView;
use crate::site::{Clock, DeviceKind, DeviceStatus, Health, Moment, Unit};
use crate::transport::{BrokerState, BrokerStatus, MqttConnection, Transports};

/// A registry of connections for these topics alone.
pub(super) fn transports(api: &Api) -> Transports {
    let client_id = format!("ladekern-{}-native-1", api.source.serial);
    Transports::new(tokio::runtime::Handle::current(), api.source.clock, None, client_id)
}

/// What says that nobody is there.
const OFFLINE: &str = "{\"online\":false}";

/// `ladekern/<serial>`
pub(super) fn root(serial: &str) -> String {
    format!("ladekern/{serial}")
}

/// The topic of one device.
pub(super) fn device_topic(root: &str, device: &DeviceConfig) -> String {
    format!("{root}/device/{}", device.id)
}

/// Sets the last will, before the connection is first used.
pub(super) fn prepare(connection: &MqttConnection, root: &str) {
    connection.set_last_will(format!("{root}/status"), OFFLINE, true);
}

/// The last will, said by ourselves.
pub(super) fn say_goodbye(connection: &MqttConnection, root: &str) {
    connection.publish_latest(format!("{root}/status"), OFFLINE, true);
}

/// Publishes `status`.
pub(super) async fn publish_status(
    source: SiteSource,
    transports: Transports,
    connection: MqttConnection,
    root: Arc<str>,
) {
    let every = source.config.borrow().mqtt.publish_interval;
    let mut ticks = ticks(every);
    let mut state = connection.state();
    loop {
        if matches!(*state.borrow_and_update(), BrokerState::Connected { .. }) {
            let brokers = transports.brokers();
            let status = Status::of(&source, &brokers);
            connection.publish_latest(format!("{root}/status"), to_json(&status), true);
        }
        tokio::select! {
            _ = ticks.tick() => {}
            changed = state.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// The payload of `status`.
#[derive(Serialize)]
struct Status<'a> {
    online: bool,
    version: &'static str,
    serial: &'a str,
    title: String,
    mode: &'static str,
    /// RFC 3339, UTC; null while the clock is not set.
    time: Option<String>,
    brokers: Vec<Broker<'a>>,
}

#[derive(Serialize)]
struct Broker<'a> {
    /// Without the password.
    url: &'a str,
    connected: bool,
    last_error: Option<&'a str>,
}

impl<'a> Status<'a> {
    fn of(source: &'a SiteSource, brokers: &'a [BrokerStatus]) -> Self {
        let config = source.config.borrow();
        let brokers = brokers.iter().map(|broker| Broker {
            url: &broker.url,
            connected: matches!(broker.state, BrokerState::Connected { .. }),
            last_error: broker.last_error.as_deref(),
        });
        let time = source.clock.unix_ms().map(|ms| std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms));
        Self {
            online: true,
            version: env!("CARGO_PKG_VERSION"),
            serial: &source.serial,
            title: config.site.title.clone(),
            mode: match config.load.mode {
                LoadMode::Manage => "manage",
                LoadMode::Observe => "observe",
            },
            time: time.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
            brokers: brokers.collect(),
        }
    }
}

/// Publishes `device/<dev_id>` of one device: when it changes, and each publish interval, because values age.
#[derive(Clone)]
pub(super) struct NativeDevice {
    pub source: SiteSource,
    pub config: Arc<Config>,
    pub root: Arc<str>,
    pub index: usize,
    pub connection: MqttConnection,
}

impl NativeDevice {
    pub async fn run(self) {
        let Some(device) = self.config.devices.get(self.index) else { return };
        let topic = device_topic(&self.root, device);
        let mut ticks = ticks(self.config.mqtt.publish_interval);
        let mut status: Option<watch::Receiver<DeviceStatus>> = None;
        loop {
            if status.as_ref().is_none_or(|status| status.has_changed().is_err()) {
                status = self.source.board.follow(&device.id);
            }
            let payload = self.payload(device, status.as_mut());
            self.connection.publish_latest(topic.clone(), payload, true);
            wait(&mut status, &mut ticks).await;
            // A flood of one device must not keep this worker from the others.
            tokio::task::yield_now().await;
        }
    }

    fn payload(&self, device: &DeviceConfig, status: Option<&mut watch::Receiver<DeviceStatus>>) -> Vec<u8> {
        let plan = Arc::clone(&self.source.plan.borrow());
        let status = status.map(watch::Receiver::borrow_and_update);
        to_json(&Device::of(device, status.as_deref(), &plan, self.source.clock))
    }
}

/// The payload of `device/<dev_id>`.
#[derive(Serialize)]
struct Device<'a> {
    id: &'a str,
    name: &'a str,
    kind: &'static str,
    #[serde(rename = "type")]
    device_type: &'a str,
    role: Option<&'static str>,
    health: &'static str,
    problem: Option<String>,
    /// Why the newest file of its driver is not in force.
    update_error: Option<&'a str>,
    /// What is wrong with the charging rules.
    rules_error: Option<&'a str>,
    /// Whether the device can be believed now.
    silent: bool,
    connector: Option<Connector>,
    values: BTreeMap<&'a str, Value>,
    setpoint: Option<Setpoint>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Connector {
    state: char,
    age_ms: Option<u64>,
}

#[derive(Serialize)]
struct Value {
    value: f64,
    unit: Option<&'static str>,
    age_ms: Option<u64>,
}

#[derive(Serialize)]
struct Setpoint {
    ma: u32,
    age_ms: Option<u64>,
}

impl<'a> Device<'a> {
    fn of(device: &'a DeviceConfig, status: Option<&'a DeviceStatus>, plan: &'a PlanView, clock: Clock) -> Self {
        let now = clock.now();
        let is_meter = device.id.kind() == DeviceKind::Meter;
        let (health, problem) = match status.map(|status| &status.health) {
            None if !device.enabled => ("disabled", None),
            None => ("starting", None),
            Some(health) => health_of(health),
        };
        let values = status.into_iter().flat_map(|status| status.values.readings());
        let values = values.filter_map(|(quantity, measured)| {
            let unit = quantity.unit().and_then(Unit::symbol);
            Some((quantity.as_str(), Value { value: measured.value?, unit, age_ms: age(measured.at, now) }))
        });
        let connector = status.and_then(|status| status.values.connector());
        let setpoint = status.and_then(|status| status.commanded).filter(|_| !is_meter);
        Self {
            id: device.id.as_str(),
            name: &device.name,
            kind: if is_meter { "meter" } else { "wallbox" },
            device_type: &device.device_type,
            role: is_meter.then(|| device.role.name()),
            health,
            problem,
            update_error: status.and_then(|status| status.update_failed.as_deref()),
            rules_error: plan.rule_mistakes.get(&device.id).map(String::as_str),
            silent: status.is_none_or(|status| status.com_err(now)),
            connector: connector.and_then(|connector| {
                Some(Connector { state: connector.value.letter()?, age_ms: age(connector.at, now) })
            }),
            values: values.collect(),
            setpoint: setpoint.map(|setpoint| Setpoint { ma: setpoint.value, age_ms: age(setpoint.at, now) }),
            reason: plan.plan.chargers.get(&device.id).map(|plan| plan.reason.to_string()),
        }
    }
}

fn health_of(health: &Health) -> (&'static str, Option<String>) {
    match health {
        Health::Starting => ("starting", None),
        Health::Running => ("running", None),
        Health::Offline(why) => ("offline", Some(why.clone())),
        Health::Faulted { reason, .. } => ("faulted", Some(reason.clone())),
        Health::Quarantined(why) => ("quarantined", Some(why.clone())),
        Health::Misconfigured(why) => ("misconfigured", Some(why.clone())),
        Health::MissingDriver(why) => ("missing driver", Some(why.clone())),
    }
}

/// `None`: nobody knows, a broker had kept the message.
fn age(at: Moment, now: Moment) -> Option<u64> {
    (at != Moment(0)).then(|| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX))
}
