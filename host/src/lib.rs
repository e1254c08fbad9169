//! Ladekern: the host. It owns every wire, every clock and the load manager; what a device means is known to
//! plugins and definitions alone. The flow of a reading and of a command is drawn in `docs/ARCHITECTURE.md`.

pub mod app;
pub mod capability;
pub mod cli;
pub mod config;
pub mod contract;
pub mod control;
pub mod decode;
pub mod definition;
pub mod device;
pub mod folders;
pub mod formulas;
pub mod load;
pub mod logging;
pub mod modbus_server;
pub mod password;
pub mod plugin;
pub mod rules;
pub mod runtime;
pub mod sample;
pub mod session;
pub mod site;
pub mod store;
pub mod transport;
pub mod variables;
pub mod web;
