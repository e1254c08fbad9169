//! WebAssembly: the engine, the limits, and the one place where guest code runs ([`Instance`]).
//!
//! One device is one instance in one store. Whatever ends badly ends the store: after a trap, a time-out, a broken
//! limit or an abandoned call the instance is dead, and the device's supervisor starts another one. What the guest
//! may ask for while it runs is in [`crate::capability`].

pub mod bindings;
mod convert;
mod engine;
pub mod error;
mod guest;
mod instance;
pub mod limits;
mod linked;
mod wasi;

pub use convert::{Fetch, PlannedBlock, Subscription, Wants};
pub use engine::{Runtime, RuntimeError, RuntimeOptions};
pub use error::{CallError, DriverError};
pub use guest::{DeviceContext, Guest};
pub use instance::{Instance, Usage};
pub use limits::Limits;
pub use linked::{Export, Exports, Linked};
