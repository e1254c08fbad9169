//! Between the generated WIT types and the host's own, with the limits on what a guest may say.
//!
//! A value that is no number and an outcome beyond its size are faults of the driver: they end the instance, so
//! that nothing half true is ever believed.

use std::time::Duration;

use super::bindings::exports::ladekern::device::{decoder, payload_decoder};
use super::bindings::ladekern::device::types;
use super::error::{DriverError, OUTCOME};
use super::limits::{LimitExceeded, NAME_BYTES, PLAN, READINGS, TEXT_BYTES, TEXTS};
use crate::site::{Connector, Info, Outcome, Quantity};
use crate::transport::{Block, Table};

/// One block of a register decoder's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBlock {
    /// The Modbus slot.
    pub endpoint: String,
    /// What is read.
    pub block: Block,
    /// A refused block arrives as none instead of failing the poll.
    pub optional: bool,
}

/// What a payload decoder asks the host for. Slots are those of the manifest, bound or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// MQTT topics.
    pub subscriptions: Vec<Subscription>,
    /// HTTP paths, fetched with GET at each poll.
    pub fetches: Vec<Fetch>,
}

/// A topic filter relative to the prefix of its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Subscription {
    pub endpoint: String,
    pub filter: String,
}

/// A path relative to the base URL of its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Fetch {
    pub endpoint: String,
    pub path: String,
}

fn too_much(what: &str, count: usize, max: usize) -> LimitExceeded {
    LimitExceeded::new(OUTCOME, format!("it gave {count} {what}, {max} are allowed"))
}

fn count(what: &str, count: usize, max: usize) -> Result<(), LimitExceeded> {
    if count > max { Err(too_much(what, count, max)) } else { Ok(()) }
}

fn name(what: &str, text: &str) -> Result<(), LimitExceeded> {
    if text.len() <= NAME_BYTES {
        return Ok(());
    }
    let start: String = text.chars().take(24).collect();
    let len = text.len();
    let reason = format!("the name of the {what} \"{start}…\" has {len} bytes, {NAME_BYTES} are allowed");
    Err(LimitExceeded::new(OUTCOME, reason))
}

fn text(what: &str, text: &str) -> Result<(), LimitExceeded> {
    count(&format!("bytes of {what}"), text.len(), TEXT_BYTES)
}

fn connector(connector: types::Connector) -> Connector {
    match connector {
        types::Connector::Unknown => Connector::Unknown,
        types::Connector::Available => Connector::Available,
        types::Connector::Connected => Connector::Connected,
        types::Connector::Charging => Connector::Charging,
        types::Connector::Ventilation => Connector::Ventilation,
        types::Connector::NoPilot => Connector::NoPilot,
        types::Connector::Fault => Connector::Fault,
    }
}

pub(crate) fn outcome(raw: types::Outcome) -> Result<Outcome, LimitExceeded> {
    count("readings", raw.readings.len(), READINGS)?;
    count("texts", raw.texts.len(), TEXTS)?;
    let mut readings = Vec::with_capacity(raw.readings.len());
    for types::Reading { quantity, value } in raw.readings {
        name("reading", &quantity)?;
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            let reason = format!("the reading \"{quantity}\" is {value}, a reading is a finite number or none");
            return Err(LimitExceeded::new(OUTCOME, reason));
        }
        readings.push((Quantity::from(quantity.as_str()), value));
    }
    let mut texts = Vec::with_capacity(raw.texts.len());
    for types::Text { name: text_name, value } in raw.texts {
        name("text", &text_name)?;
        text("one text", &value)?;
        texts.push((text_name, value));
    }
    Ok(Outcome {
        readings,
        texts,
        connector: raw.connector.map(connector),
        next_poll: raw.next_poll_ms.map(|ms| Duration::from_millis(ms.into())),
        ..Outcome::default()
    })
}

pub(crate) fn info(raw: types::Info) -> Result<Info, LimitExceeded> {
    count("features", raw.features.len(), TEXTS)?;
    for feature in &raw.features {
        name("feature", feature)?;
    }
    for (what, value) in [("model", &raw.model), ("serial", &raw.serial), ("firmware", &raw.firmware)] {
        text(what, value.as_deref().unwrap_or_default())?;
    }
    Ok(Info { model: raw.model, serial: raw.serial, firmware: raw.firmware, features: raw.features, ..Info::default() })
}

/// Errors are shown to people and kept; a long one is cut, not punished.
pub(crate) fn error(raw: types::Error) -> DriverError {
    let cut = |mut text: String| {
        if text.len() > TEXT_BYTES {
            let end = (0..=TEXT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    };
    match raw {
        types::Error::Offline(text) => DriverError::Offline(cut(text)),
        types::Error::Protocol(text) => DriverError::Protocol(cut(text)),
        types::Error::Config(text) => DriverError::Config(cut(text)),
        types::Error::Unsupported(text) => DriverError::Unsupported(cut(text)),
        types::Error::Other(text) => DriverError::Other(cut(text)),
    }
}

pub(crate) fn plan(raw: Vec<decoder::Block>) -> Result<Vec<PlannedBlock>, LimitExceeded> {
    count("blocks", raw.len(), PLAN)?;
    raw.into_iter()
        .map(|block| {
            name("endpoint", &block.endpoint)?;
            let table = match block.table {
                decoder::Table::Coils => Table::Coils,
                decoder::Table::Discrete => Table::Discrete,
                decoder::Table::Holding => Table::Holding,
                decoder::Table::Input => Table::Input,
            };
            let max = table.max_count();
            if block.count == 0 || block.count > max || u32::from(block.address) + u32::from(block.count) > 0x1_0000 {
                let reason = format!(
                    "its plan asks for {} values from address {}, a block has 1 to {max} and ends at 65535",
                    block.count, block.address
                );
                return Err(LimitExceeded::new(OUTCOME, reason));
            }
            let wire = Block { table, address: block.address, count: block.count };
            Ok(PlannedBlock { endpoint: block.endpoint, block: wire, optional: block.optional })
        })
        .collect()
}

pub(crate) fn wants(raw: payload_decoder::Wants) -> Result<Wants, LimitExceeded> {
    count("subscriptions", raw.subscriptions.len(), PLAN)?;
    count("fetches", raw.fetches.len(), PLAN)?;
    let mut wants = Wants::default();
    for payload_decoder::Subscription { endpoint, filter } in raw.subscriptions {
        name("endpoint", &endpoint)?;
        text("a topic filter", &filter)?;
        wants.subscriptions.push(Subscription { endpoint, filter });
    }
    for payload_decoder::Fetch { endpoint, path } in raw.fetches {
        name("endpoint", &endpoint)?;
        text("a path", &path)?;
        wants.fetches.push(Fetch { endpoint, path });
    }
    Ok(wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(quantity: &str, value: f64) -> types::Reading {
        types::Reading { quantity: quantity.into(), value: Some(value) }
    }

    fn outcome_of(readings: Vec<types::Reading>) -> Result<Outcome, LimitExceeded> {
        outcome(types::Outcome { readings, texts: vec![], connector: None, next_poll_ms: None })
    }

    #[test]
    fn only_finite_values_of_known_size_pass() {
        assert_eq!(
            outcome_of(vec![reading("power.total", -0.5)]).unwrap().readings,
            [("power.total".into(), Some(-0.5))]
        );
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = outcome_of(vec![reading("power.total", bad)]).unwrap_err();
            assert!(error.reason.contains("power.total"), "{error}");
        }
        outcome_of(vec![reading(&"x".repeat(NAME_BYTES), 1.0)]).unwrap();
        outcome_of(vec![reading(&"x".repeat(NAME_BYTES + 1), 1.0)]).unwrap_err();
        outcome_of((0..READINGS).map(|_| reading("a", 1.0)).collect()).unwrap();
        let error = outcome_of((0..=READINGS).map(|_| reading("a", 1.0)).collect()).unwrap_err();
        assert_eq!(error.reason, "it gave 257 readings, 256 are allowed");
    }

    #[test]
    fn long_error_texts_are_cut() {
        let DriverError::Other(text) = error(types::Error::Other("ä".repeat(2000))) else { panic!() };
        assert!(text.len() < TEXT_BYTES + 4 && text.ends_with('…'));
    }

    #[test]
    fn blocks_that_no_request_can_read_are_refused() {
        let block = |address, count| decoder::Block {
            endpoint: "main".into(),
            table: decoder::Table::Input,
            address,
            count,
            optional: false,
        };
        plan(vec![block(0, 125), block(65_411, 125)]).unwrap();
        for (address, count) in [(0, 0), (0, 126), (65_412, 125)] {
            plan(vec![block(address, count)]).unwrap_err();
        }
    }
}
