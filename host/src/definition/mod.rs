//! Devices that a file describes (`docs/definitions.md`): the folders with definition files, what is in force of them,
//! and a device made of one. What a file means is [`ladekern_definition`]'s; here are folders, wires and clocks.

pub mod device;
mod documents;
mod http;
mod library;
mod modbus;
mod mqtt;
pub mod outputs;
mod readings;
mod tap;
pub mod trial;
mod watch;

pub use device::{Described, Misfit, Parts, binding};
pub use library::{DefinitionEvent, DefinitionFile, Library};
pub(crate) use library::{double_of, sentence};
pub use readings::Readings;
pub(crate) use watch::tell;
pub use watch::{DefinitionWatch, watch};
