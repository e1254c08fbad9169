//! What a Ladekern plugin is written with.
//!
//! A plugin implements one of three traits and names what it exports in one line:
//!
//! * [`Decoder`]: a meter that is read by registers. Pure: no imports at all.
//! * [`PayloadDecoder`]: a device whose values come in messages (MQTT, HTTP). Pure as well.
//! * [`Device`], with [`ChargeControl`], [`PhaseControl`], [`Failsafe`], [`Push`] and [`Handover`] where it has them: straight-line
//!   code that reads and writes through endpoints the user has bound.
//!
//! ```
//! use ladekern_plugin_sdk::{Decoder, Error, Json, Outcome, decoder};
//!
//! struct Meter;
//!
//! impl Decoder for Meter {
//!     fn open(_config: &Json<'_>) -> Result<(Self, Vec<decoder::Block>), Error> {
//!         Ok((Self, vec![decoder::Block::input("main", 0x0034, 2)]))
//!     }
//!     fn decode(&mut self, blocks: &[Option<Vec<u16>>]) -> Result<Outcome, Error> {
//!         let registers = decoder::registers(blocks, 0, 0x0034);
//!         let mut outcome = Outcome::new();
//!         outcome.set("power.total", registers.f32(0x0034));
//!         Ok(outcome)
//!     }
//! }
//!
//! ladekern_plugin_sdk::export!(Meter: Decoder);
//! # fn main() {}
//! ```
//!
//! The crate knows no device and does no input or output of its own: what a plugin may reach is what it imports, and
//! it imports what it calls. It runs natively too, so that a plugin's decoding is tested with plain `cargo test`
//! ([`fixtures`]); only calling an import needs a host.

// The generated bindings name the crate by its name.
extern crate self as ladekern_plugin_sdk;

#[doc(hidden)]
pub use wit_bindgen as __wit_bindgen;

#[allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    reason = "generated: this is where the foreign memory is read and written"
)]
#[allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "generated")]
#[allow(clippy::allow_attributes_without_reason, reason = "generated")]
#[doc(hidden)]
pub mod bindings;

mod export;
pub mod json;
mod outcome;
mod ports;
mod registers;

#[cfg(not(target_arch = "wasm32"))]
pub mod fixtures;

pub use bindings::imports::ladekern::device::types::{Connector, Error, Info, Outcome, Reading, Text};
#[doc(hidden)]
pub use export::open as __open;
pub use export::{
    ChargeControl, Decoder, Device, Failsafe, Handover, PayloadDecoder, PhaseControl, Push, install_panic_hook, with,
};
pub use json::Json;
pub use outcome::{PHASES, with_sign_of};
pub use ports::{HttpPort, ModbusPort, MqttPort, clock, http, log, modbus, mqtt, state};
pub use registers::Registers;

/// The records of a [`Decoder`]: what it wants to read.
pub mod decoder {
    pub use crate::bindings::decoder::exports::ladekern::device::decoder::{Block, Table};
    use crate::registers::Registers;

    impl Block {
        /// Holding registers (function code 3) that the device must have.
        #[must_use]
        pub fn holding(endpoint: &str, address: u16, count: u16) -> Self {
            Self { endpoint: endpoint.into(), table: Table::Holding, address, count, optional: false }
        }

        /// Input registers (function code 4) that the device must have.
        #[must_use]
        pub fn input(endpoint: &str, address: u16, count: u16) -> Self {
            Self { endpoint: endpoint.into(), table: Table::Input, address, count, optional: false }
        }

        /// The same block, but a device that refuses it is read without.
        #[must_use]
        pub fn optional(mut self) -> Self {
            self.optional = true;
            self
        }
    }

    /// Block `index` of an answer as registers from wire address `start`; a block that is missing reads as empty, so
    /// that each of its values is unknown.
    #[must_use]
    pub fn registers(blocks: &[Option<Vec<u16>>], index: usize, start: u16) -> Registers<'_> {
        Registers::new(start, blocks.get(index).and_then(Option::as_deref).unwrap_or_default())
    }
}

/// The records of a [`PayloadDecoder`]: what it wants to hear and what it heard.
pub mod payload {
    pub use crate::bindings::payload_decoder::exports::ladekern::device::payload_decoder::{
        Fetch, Message, Payload, Subscription, Wants,
    };

    impl Wants {
        /// Nothing yet.
        #[must_use]
        pub fn new() -> Self {
            Self { subscriptions: Vec::new(), fetches: Vec::new() }
        }

        /// Also the topics that match `filter`, relative to the prefix the user bound to the MQTT slot `endpoint`.
        #[must_use]
        pub fn subscribe(mut self, endpoint: &str, filter: &str) -> Self {
            self.subscriptions.push(Subscription { endpoint: endpoint.into(), filter: filter.into() });
            self
        }

        /// Also the body of `path`, relative to the base URL the user bound to the HTTP slot `endpoint`.
        #[must_use]
        pub fn fetch(mut self, endpoint: &str, path: &str) -> Self {
            self.fetches.push(Fetch { endpoint: endpoint.into(), path: path.into() });
            self
        }
    }

    impl Default for Wants {
        fn default() -> Self {
            Self::new()
        }
    }

    impl Message {
        /// The payload as text; none if it is not UTF-8.
        #[must_use]
        pub fn text(&self) -> Option<&str> {
            match &self.payload {
                Payload::Text(text) => Some(text),
                Payload::Binary(bytes) => core::str::from_utf8(bytes).ok(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The digest that plugins/bindgen wrote beside the bindings, over the texts as they are now.
    #[test]
    fn bindings_belong_to_the_wit_packages() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for package in ["host", "modbus", "http", "mqtt", "device"] {
            let mut files: Vec<_> = std::fs::read_dir(wit.join(package)).unwrap().map(|f| f.unwrap().path()).collect();
            files.sort();
            for byte in files.iter().flat_map(|file| std::fs::read(file).unwrap()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!(
            hash,
            super::bindings::WIT_DIGEST,
            "wit/ has changed: cargo run --manifest-path plugins/bindgen/Cargo.toml, and commit what it writes"
        );
    }

    /// The table that plugin authors read and the one that the host works with are one.
    #[test]
    fn the_documented_register_is_the_hosts() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let document = std::fs::read_to_string(root.join("docs/quantities.md")).unwrap();
        let host = std::fs::read_to_string(root.join("host/src/site/quantity.rs")).unwrap();
        let (_, register) = host.split_once("pub const REGISTER").unwrap();
        let (register, _) = register.split_once("\n];").unwrap();
        let entries = register.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.strip_suffix("\"),"));
        let entries: Vec<(&str, &str)> = entries.map(|entry| entry.split_once("\", Unit::").unwrap()).collect();
        assert!(entries.len() > 20, "the register is read by its layout: {entries:?}");
        let (_, readings) = document.split_once("## Readings").unwrap();
        let (readings, _) = readings.split_once("\n## ").unwrap();
        let rows: Vec<&str> = readings.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), entries.len());
        for ((name, rest), row) in entries.into_iter().zip(rows) {
            let (unit, meaning) = rest.split_once(", \"").unwrap();
            let unit = match unit {
                "Watt" => "W",
                "VoltAmpere" => "VA",
                "Var" => "var",
                "Volt" => "V",
                "Milliampere" => "mA",
                "WattHour" => "Wh",
                "Hertz" => "Hz",
                "Percent" => "%",
                "Second" => "s",
                "Celsius" => "°C",
                other => {
                    assert_eq!(other, "One");
                    "–"
                }
            };
            let expected = format!("| `{name}` | {unit} | {meaning} |");
            assert!(row.starts_with(&expected), "docs/quantities.md: expected {expected}, found {row}");
        }
    }
}
