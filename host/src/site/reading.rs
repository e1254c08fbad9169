//! What a device said, and when. A value that nobody measured is absent, never 0.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::{Moment, Quantity};

/// A value with the moment it was measured (received, for a device that does not tell).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured<T> {
    /// The value.
    pub value: T,
    /// When it was measured.
    pub at: Moment,
}

/// State of a charging connector after IEC 61851-1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connector {
    /// The device does not say.
    #[default]
    Unknown,
    /// A: no vehicle.
    Available,
    /// B: a vehicle is connected and does not draw.
    Connected,
    /// C: charging.
    Charging,
    /// D: charging with ventilation.
    Ventilation,
    /// E: no pilot.
    NoPilot,
    /// F: fault or not available.
    Fault,
}

impl Connector {
    /// The letter of IEC 61851-1, `None` for [`Connector::Unknown`].
    #[must_use]
    pub fn letter(self) -> Option<char> {
        match self {
            Connector::Unknown => None,
            Connector::Available => Some('A'),
            Connector::Connected => Some('B'),
            Connector::Charging => Some('C'),
            Connector::Ventilation => Some('D'),
            Connector::NoPilot => Some('E'),
            Connector::Fault => Some('F'),
        }
    }

    /// Whether a vehicle is plugged in.
    #[must_use]
    pub fn plugged(self) -> bool {
        matches!(self, Connector::Connected | Connector::Charging | Connector::Ventilation)
    }
}

/// Who the device is, known once it has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Info {
    pub model: Option<String>,
    pub serial: Option<String>,
    pub firmware: Option<String>,
    /// Registered feature names: `current.milliamp`, `phases.switch`, `wake-up`, `energy.meter`.
    pub features: Vec<String>,
    /// Names of the readings `var.…` that people want to see, as they are written.
    pub shown: Arc<[String]>,
}

/// The result of one poll or one message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// `None` as a value: the device says itself that it does not know this now.
    pub readings: Vec<(Quantity, Option<f64>)>,
    /// Readings that are older than the rest, with when they were measured.
    pub aged: Vec<(Quantity, Option<f64>, Moment)>,
    /// Texts by registered name: `rfid`, `status`, `fault`.
    pub texts: Vec<(String, String)>,
    /// `None` for devices without a connector, and for messages that do not mention it.
    pub connector: Option<Connector>,
    /// When the driver wants the next poll.
    pub next_poll: Option<Duration>,
    /// Who the device is, if it tells so with its readings.
    pub info: Option<Info>,
    /// Why something that belongs to it is missing.
    pub trouble: Option<String>,
}

impl Outcome {
    /// Adds a reading.
    pub fn push(&mut self, quantity: &str, value: impl Into<Option<f64>>) {
        self.readings.push((quantity.into(), value.into()));
    }
}

/// The newest value of everything a device has said, each with its own age.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    readings: BTreeMap<Quantity, Measured<Option<f64>>>,
    texts: BTreeMap<String, Measured<String>>,
    connector: Option<Measured<Connector>>,
}

impl Values {
    /// Takes over what `outcome` holds; what it does not mention stays as it was, and ages. Nothing replaces what was
    /// measured later: a retained message of unknown age (`Moment(0)`) comes again at each reconnect.
    pub fn merge(&mut self, outcome: Outcome, at: Moment) {
        let readings = outcome.readings.into_iter().map(|(quantity, value)| (quantity, value, at));
        for (quantity, value, at) in readings.chain(outcome.aged) {
            if self.readings.get(&quantity).is_none_or(|known| known.at <= at) {
                self.readings.insert(quantity, Measured { value, at });
            }
        }
        for (name, value) in outcome.texts {
            if self.texts.get(&name).is_none_or(|known| known.at <= at) {
                self.texts.insert(name, Measured { value, at });
            }
        }
        if let Some(value) = outcome.connector
            && self.connector.is_none_or(|known| known.at <= at)
        {
            self.connector = Some(Measured { value, at });
        }
    }

    /// The newest known value, however old. `None`: never measured, or the device says that it does not know.
    #[must_use]
    pub fn get(&self, quantity: &str) -> Option<Measured<f64>> {
        let reading = self.readings.get(quantity)?;
        Some(Measured { value: reading.value?, at: reading.at })
    }

    /// The newest value, if it was measured at or after `not_before`.
    #[must_use]
    pub fn fresh(&self, quantity: &str, not_before: Moment) -> Option<f64> {
        self.get(quantity).filter(|m| m.at >= not_before).map(|m| m.value)
    }

    /// The fresh readings whose names begin with `prefix`, with the rest of the name.
    pub fn fresh_below<'a>(&'a self, prefix: &'a str, not_before: Moment) -> impl Iterator<Item = (&'a str, f64)> {
        let from = self.readings.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let below = from.map_while(move |(name, reading)| Some((name.as_str().strip_prefix(prefix)?, reading)));
        below
            .filter(move |(_, reading)| reading.at >= not_before)
            .filter_map(|(rest, reading)| Some((rest, reading.value?)))
    }

    /// All three phases of a quantity, or `None` where one is missing or older than `not_before`.
    #[must_use]
    pub fn fresh_phases(&self, names: [&str; 3], not_before: Moment) -> [Option<f64>; 3] {
        names.map(|name| self.fresh(name, not_before))
    }

    /// The newest text of this name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&Measured<String>> {
        self.texts.get(name)
    }

    /// The newest state of the connector.
    #[must_use]
    pub fn connector(&self) -> Option<Measured<Connector>> {
        self.connector
    }

    /// All readings in the order of their names, the ones the device says it does not know included.
    pub fn readings(&self) -> impl Iterator<Item = (&Quantity, &Measured<Option<f64>>)> {
        self.readings.iter()
    }

    /// All texts in the order of their names.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &Measured<String>)> {
        self.texts.iter().map(|(name, text)| (name.as_str(), text))
    }

    /// When anything was measured last.
    #[must_use]
    pub fn newest(&self) -> Option<Moment> {
        let readings = self.readings.values().map(|m| m.at);
        readings.chain(self.texts.values().map(|m| m.at)).chain(self.connector.map(|m| m.at)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_never_replaces_what_is_newer() {
        let outcome = |watts: f64, state| Outcome {
            readings: vec![("power.total".into(), Some(watts))],
            texts: vec![("status".into(), format!("{watts}"))],
            connector: Some(state),
            ..Outcome::default()
        };
        let mut values = Values::default();
        values.merge(outcome(1.0, Connector::Available), Moment(0));
        values.merge(outcome(2.0, Connector::Charging), Moment(5_000));
        let live = values.clone();
        values.merge(outcome(1.0, Connector::Available), Moment(0));
        assert_eq!(values, live);
        assert_eq!(values.get("power.total"), Some(Measured { value: 2.0, at: Moment(5_000) }));
    }
}
