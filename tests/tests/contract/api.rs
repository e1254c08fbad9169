//! The calls of cfos-interfaces.md 7.2, over HTTP and over MQTT.
