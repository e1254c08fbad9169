//! The names of the contract's topics (MQTT contract A1).

use crate::config::MqttConfig;

/// What all topics of the contract begin with: `cfos_mqtt`, or `cfos_mqtt_<serial>` so that several managers can
/// share a broker.
#[must_use]
pub fn prefix(mqtt: &MqttConfig, serial: &str) -> String {
    if mqtt.prefix_with_serial { format!("cfos_mqtt_{serial}") } else { "cfos_mqtt".to_owned() }
}
