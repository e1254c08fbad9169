//! `set/<dev_id>`: messages for the devices of type `http-input` (contract A3). A flood of one device costs that
//! device's older messages and delays nobody.

use crate::config::{Config, HTTP_INPUT};
use crate::device::http_input::Feeds;
use crate::site::DeviceId;
use crate::transport::{Inbox, MqttConnection, Overflow, Qos};

use super::complaints::Complaints;
use super::links::Links;

/// Topics that may wait to be read; the newest message of each waits.
const INBOX: usize = 1024;

/// What is subscribed. The connections are held by the reader, or they would close under it.
pub(super) struct Feeding {
    inbox: Inbox,
    connections: Vec<MqttConnection>,
}

/// Subscribes for every fed device; `None` if there is none.
pub(super) async fn subscribe(links: &Links, config: &Config, prefix: &str) -> Option<Feeding> {
    let inbox = Inbox::new(Overflow::NewestPerTopic, INBOX);
    let mut connections = Vec::new();
    for device in config.devices.iter().filter(|device| device.enabled && device.device_type == HTTP_INPUT) {
        let Some(url) = links.broker(&format!("device.{}.address", device.id), &device.feed) else { continue };
        let connection = links.api.transports.mqtt(&url);
        let topic = format!("{prefix}/set/{}", device.id);
        match connection.subscribe(&topic, Qos::AtLeastOnce, device.id.as_str(), "", inbox.clone()).await {
            Ok(()) => connections.push(connection),
            Err(error) => tracing::error!(device = %device.id, "{topic} cannot be subscribed: {error}"),
        }
    }
    (!connections.is_empty()).then_some(Feeding { inbox, connections })
}

/// Hands messages to their devices.
pub(super) async fn read(feeding: Feeding, feeds: Feeds) {
    let Feeding { inbox, connections: _held } = feeding;
    let mut complaints = Complaints::default();
    loop {
        let message = inbox.recv().await;
        let Some(input) = message.endpoint.parse().ok().and_then(|id: DeviceId| feeds.get(&id)) else {
            continue;
        };
        if let Err(error) = input.feed(&message.payload, message.retained) {
            complaints.say(input.id().as_str(), |more| {
                tracing::warn!(device = %input.id(), "message on {} not taken: {error}{more}", message.topic);
            });
        }
    }
}
