//! The contract end to end: one test per row of `docs/contract.md`, against real brokers and real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod api;
mod brokers;
mod definitions;
mod fields;
mod modbus;
mod mqtt;
mod outputs;
mod published;
mod rules;
mod saving;
mod sessions;
mod web;
