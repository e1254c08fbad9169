//! Brokers as they are in the field (A2, B1, B2, B13, B17, B18): Mosquitto in all its settings, and one that misbehaves.
