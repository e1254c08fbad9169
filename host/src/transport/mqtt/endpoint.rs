//! A device's view of a broker: topics below the prefix it is bound to, and nothing else.

use bytes::Bytes;

use super::{MqttConnection, topic};
use crate::transport::{BoxFuture, Inbox, Mqtt, MqttError, Qos};

/// See the module.
pub(in crate::transport) struct MqttEndpoint {
    pub(in crate::transport) connection: MqttConnection,
    /// The name messages carry.
    pub(in crate::transport) slot: String,
    /// Without a trailing slash; empty: everything.
    pub(in crate::transport) prefix: String,
    pub(in crate::transport) read_only: bool,
}

impl Mqtt for MqttEndpoint {
    fn subscribe(&self, filter: String, qos: Qos, inbox: Inbox) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async move {
            topic::check_relative(&self.prefix, &filter).map_err(MqttError::Denied)?;
            let filter = topic::join(&self.prefix, &filter);
            self.connection.subscribe(&filter, qos, &self.slot, &self.prefix, inbox).await
        })
    }

    fn publish(&self, topic: String, payload: Bytes, qos: Qos, retain: bool) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async move { self.connection.publish(self.whole(&topic)?, payload, qos, retain).await })
    }

    fn deliver(&self, topic: String, payload: Bytes) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async move { self.connection.publish_acknowledged(self.whole(&topic)?, payload, false).await })
    }
}

impl MqttEndpoint {
    /// The topic at the broker of one to publish to.
    fn whole(&self, topic: &str) -> Result<String, MqttError> {
        if self.read_only {
            let slot = &self.slot;
            return Err(MqttError::Denied(format!("the endpoint `{slot}` is read-only; `{topic}` not published")));
        }
        topic::check_relative(&self.prefix, topic).map_err(MqttError::Denied)?;
        Ok(topic::join(&self.prefix, topic))
    }
}
