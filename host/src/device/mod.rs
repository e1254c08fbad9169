//! One task per device: what it does with its plugin, how it is supervised and how it changes to a newer version
//! while it runs. Commands come in and status goes out; nothing here knows the load manager.

pub mod arrivals;
pub mod guest;
pub mod http_input;
pub mod installed;
mod kept;
pub mod live;
pub mod mailbox;
pub mod manager;
pub mod supervision;
mod swap;
pub mod task;
mod writes;

pub use installed::{Services, Wires};
pub use manager::{DeviceHandle, Devices, DevicesParts};

#[cfg(test)]
mod tests;
