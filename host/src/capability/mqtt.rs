//! `ladekern:mqtt/client`: publish and subscribe below the topic prefix that the user bound. What arrives goes into
//! the device's inbox and comes back as `push.on-message`, between two other calls.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::runtime::Guest;
use crate::runtime::bindings::ladekern::mqtt::client::{Error, Host, HostEndpoint, Qos as GuestQos};
use crate::transport::{Endpoint, Mqtt, MqttError, Qos};

/// An open MQTT slot of a guest.
pub struct MqttSlot {
    name: String,
    wire: Arc<dyn Mqtt>,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Guest {
    fn mqtt_error(&self, slot: &str, error: MqttError) -> Error {
        match error {
            MqttError::Denied(why) => Error::Denied(self.refused(slot, &why)),
            MqttError::Unreachable(why) => Error::Unreachable(why),
            MqttError::Limit(why) => Error::Limit(why),
        }
    }
}

fn qos(qos: GuestQos) -> Qos {
    match qos {
        GuestQos::AtMostOnce => Qos::AtMostOnce,
        GuestQos::AtLeastOnce => Qos::AtLeastOnce,
        GuestQos::ExactlyOnce => Qos::ExactlyOnce,
    }
}

impl Host for Guest {}

impl HostEndpoint for Guest {
    async fn open(&mut self, name: String) -> Answer<Resource<MqttSlot>> {
        self.host_call();
        let wire = match self.bound(&name) {
            Ok(Endpoint::Mqtt(wire)) => wire.clone(),
            Ok(other) => return Ok(Err(Error::Denied(self.wrong_kind(&name, other, "mqtt")))),
            Err(why) => return Ok(Err(Error::Denied(why))),
        };
        Ok(Ok(self.hand_out(MqttSlot { name, wire })?))
    }

    async fn subscribe(&mut self, slot: Resource<MqttSlot>, filter: String, level: GuestQos) -> Answer<()> {
        self.host_call();
        let slot = self.table.get(&slot)?;
        let inbox = self.context.inbox.clone();
        let answer = slot.wire.subscribe(filter, qos(level), inbox).await.map_err(|e| self.mqtt_error(&slot.name, e));
        self.host_call();
        Ok(answer)
    }

    async fn publish(
        &mut self,
        slot: Resource<MqttSlot>,
        topic: String,
        payload: Vec<u8>,
        level: GuestQos,
        retain: bool,
    ) -> Answer<()> {
        self.host_call();
        let slot = self.table.get(&slot)?;
        let answer = slot.wire.publish(topic, payload.into(), qos(level), retain).await;
        let answer = answer.map_err(|error| self.mqtt_error(&slot.name, error));
        self.host_call();
        Ok(answer)
    }

    async fn drop(&mut self, slot: Resource<MqttSlot>) -> wasmtime::Result<()> {
        self.table.delete(slot)?;
        Ok(())
    }
}
