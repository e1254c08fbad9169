//! Devices that publish over MQTT (`rtype` 2): each topic is subscribed once, whatever number of variables it holds, and
//! each variable is as old as the last message of its topic.

use std::collections::HashMap;

use ladekern_definition::Address;

use super::documents::{Page, pages};
use super::readings::Readings;
use crate::config::DeviceConfig;
use crate::device::guest::{Guest, Opened};
use crate::device::live::measured_at;
use crate::runtime::{CallError, DriverError, Subscription, Wants};
use crate::site::Outcome;
use crate::transport::{BoxFuture, Message};

/// See the module.
pub(super) struct MqttGuest {
    readings: Readings,
    /// By topic.
    pages: HashMap<String, Page>,
}

impl MqttGuest {
    pub fn new(readings: Readings) -> Self {
        let by_topic = pages(readings.definition()).into_iter().filter_map(|page| match &page.address {
            Address::Mqtt { topic } => Some((topic.clone(), page)),
            Address::Http { .. } => None,
        });
        let pages = by_topic.collect();
        Self { readings, pages }
    }

    fn take(&mut self, message: &Message) -> Result<Option<Outcome>, CallError> {
        let Some(page) = self.pages.get(&message.topic) else { return Ok(None) };
        let at = measured_at(message);
        let named = |trouble: String| format!("topic {}: {trouble}", message.topic);
        let taken = page
            .take(&message.payload, at, &mut self.readings)
            .map_err(|trouble| DriverError::Protocol(named(trouble)))?;
        let mut outcome = self.readings.outcome(at);
        outcome.trouble = taken.trouble.map(named);
        Ok(Some(outcome))
    }
}

impl Guest for MqttGuest {
    fn open<'a>(&'a mut self, _config: &'a str) -> BoxFuture<'a, Result<Opened, CallError>> {
        let endpoint = DeviceConfig::ADDRESS_SLOT;
        let subscriptions =
            self.pages.keys().map(|topic| Subscription { endpoint: endpoint.to_owned(), filter: topic.clone() });
        let subscriptions = subscriptions.collect();
        Box::pin(std::future::ready(Ok(Opened::Payload(Wants { subscriptions, fetches: Vec::new() }))))
    }

    fn decode_message<'a>(&'a mut self, message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(std::future::ready(self.take(message)))
    }
}
