//! Simulated meters, wallboxes, cars and a house that speak the real protocols on real loopback sockets.
//!
//! Three layers: [`physics`] is the pure model (no socket, no clock of its own, stepped by hand in tests);
//! [`modbus`], [`http`] and [`net`] are small protocol servers, written independently of the host so that both
//! sides cannot share a mistake; [`power_brain`], [`goe`], [`sdm`] and [`tasmota`] put a device's registers or
//! payloads on top, [`counters`] some that no driver knows. [`home`] ties them to the site of `examples/home`, with a script and a safety oracle.
//!
//! This crate never links the host and never opens anything but loopback sockets and the broker it is told.

pub mod counters;
pub mod goe;
pub mod home;
pub mod http;
pub mod modbus;
pub mod net;
pub mod physics;
pub mod power_brain;
pub mod sdm;
pub mod tasmota;
pub mod world;

pub use net::{Control, Fault};
pub use world::World;
