//! The pure model of a house: voltages, loads, cars, wallboxes, breakers, and the audit of how a manager treats them.
//!
//! Nothing here opens a socket or reads a clock: time only passes through [`House::step`]. Amperes are effective
//! values with the sign of the active power (positive: from the grid into the house), all loads are resistive.

mod audit;
mod breaker;
mod car;
mod evse;
mod house;
mod noise;
mod script;

pub use audit::{Audit, Episode};
pub use breaker::Breaker;
pub use car::{Car, CarOptions};
pub use evse::{Evse, EvseOptions, Failsafe, Settings, State};
pub use house::{House, HouseOptions, Source};
pub use noise::{Trace, unit, wave};
pub use script::{Action, Event, Script};

/// One value per phase L1, L2, L3.
pub type Phases = [f64; 3];
