//! `get/dev_info`, `get/params`, `get/<dev_id>` and `get/online` (contract A4, rules B4 and B19). Only reads the site.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::super::{DevInfo, DeviceObject, Params, SiteSource, to_json};
use crate::config::{Config, DeviceConfig};
use crate::site::DeviceStatus;
use crate::transport::{BrokerState, MqttConnection};

/// The retained topic that tells whether a manager lives.
pub(super) fn online_topic(prefix: &str) -> String {
    format!("{prefix}/get/online")
}

/// The topic of one device.
pub(super) fn device_topic(prefix: &str, device: &DeviceConfig) -> String {
    format!("{prefix}/get/{}", device.id)
}

/// Tells at each connect that we live; the last will tells when we do not.
pub(super) async fn keep_online(connection: MqttConnection, topic: String) {
    let mut state = connection.state();
    loop {
        if matches!(*state.borrow_and_update(), BrokerState::Connected { .. }) {
            connection.publish_latest(topic.clone(), "true", true);
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// An interval that does not catch up after a stall.
pub(super) fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// `get/dev_info` and `get/params`. Who sees the first one may publish: the subscriptions stand (rule B19).
pub(super) async fn publish_site(source: SiteSource, connection: MqttConnection, prefix: String, every: Duration) {
    connection.acknowledged().await;
    let mut ticks = ticks(every);
    loop {
        ticks.tick().await;
        let view = source.view();
        connection.publish_latest(format!("{prefix}/get/dev_info"), to_json(&DevInfo(&view)), true);
        connection.publish_latest(format!("{prefix}/get/params"), to_json(&Params(&view)), true);
    }
}

/// Publishes `get/<dev_id>` of one device.
#[derive(Clone)]
pub(super) struct DeviceTask {
    pub source: SiteSource,
    pub config: Arc<Config>,
    pub prefix: Arc<str>,
    pub index: usize,
    pub connection: MqttConnection,
}

impl DeviceTask {
    pub async fn run(self) {
        let Some(device) = self.config.devices.get(self.index) else { return };
        let topic = device_topic(&self.prefix, device);
        self.connection.acknowledged().await;
        // What changes without the device saying anything (it falls silent, the load manager has another reason) is
        // looked for at each tick.
        let mut ticks = ticks(self.config.mqtt.publish_interval);
        let mut published = Bytes::new();
        let mut status: Option<watch::Receiver<DeviceStatus>> = None;
        loop {
            if status.as_ref().is_none_or(|status| status.has_changed().is_err()) {
                status = self.source.board.follow(&device.id);
            }
            let payload = self.payload(device, status.as_mut());
            if payload != published {
                published = payload.clone();
                self.connection.publish_latest(topic.clone(), payload, true);
            }
            wait(&mut status, &mut ticks).await;
            // A flood of one device must not keep this worker from the others.
            tokio::task::yield_now().await;
        }
    }

    /// How the host leaves the device. A fed wallbox reads its last order here.
    pub fn publish_last(&self) {
        let Some(device) = self.config.devices.get(self.index) else { return };
        if let Some(mut status) = self.source.board.follow(&device.id) {
            let payload = self.payload(device, Some(&mut status));
            self.connection.publish_latest(device_topic(&self.prefix, device), payload, true);
        }
    }

    fn payload(&self, device: &DeviceConfig, status: Option<&mut watch::Receiver<DeviceStatus>>) -> Bytes {
        let plan = Arc::clone(&self.source.plan.borrow());
        let sessions = Arc::clone(&self.source.sessions.borrow());
        let pinned = device.meter.as_ref().and_then(|meter| self.source.board.device(meter));
        let status = status.map(watch::Receiver::borrow_and_update);
        let object = DeviceObject {
            device,
            number: DeviceObject::number_of(self.index, device),
            status: status.as_deref(),
            plan: plan.plan.chargers.get(&device.id),
            rules_error: plan.rule_mistakes.get(&device.id).map(String::as_str),
            session: sessions.get(&device.id),
            pinned: pinned.as_ref(),
            now: self.source.clock.now(),
        };
        to_json(&object).into()
    }
}

/// Waits for a change of the device or for the next tick.
pub(super) async fn wait(status: &mut Option<watch::Receiver<DeviceStatus>>, ticks: &mut tokio::time::Interval) {
    match status {
        None => _ = ticks.tick().await,
        Some(receiver) => tokio::select! {
            _ = ticks.tick() => {}
            // An error means that the device was registered anew or removed; the next round sees it.
            changed = receiver.changed() => if changed.is_err() {
                *status = None;
                ticks.tick().await;
            },
        },
    }
}
