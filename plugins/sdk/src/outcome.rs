//! Building an outcome value by value. It knows units and signs only by what the names promise (docs/quantities.md);
//! it never invents a value: what is not set is not said.

use crate::{Connector, Error, Info, Outcome, Reading, Text};

/// Suffixes of the three phases in the names of quantities.
pub const PHASES: [&str; 3] = ["l1", "l2", "l3"];

/// A current without a sign, with the sign of its phase's power: what the names `current.l1` to `current.l3` promise where the
/// device tells the power. Unchanged while the power is unknown.
#[must_use]
pub fn with_sign_of(power: Option<f64>, current: Option<f64>) -> Option<f64> {
    match power {
        Some(power) if power < 0.0 => current.map(|current| -current.abs()),
        Some(_) => current.map(f64::abs),
        None => current,
    }
}

impl Outcome {
    /// Says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { readings: Vec::with_capacity(16), texts: Vec::new(), connector: None, next_poll_ms: None }
    }

    /// One value; `None` says that the device itself does not know it now. What is not a finite number is unknown too.
    pub fn set(&mut self, quantity: &str, value: impl Into<Option<f64>>) {
        let value = value.into().filter(|v: &f64| v.is_finite());
        self.readings.push(Reading { quantity: quantity.into(), value });
    }

    /// One value if there is one; otherwise the device did not mention it.
    pub fn set_some(&mut self, quantity: &str, value: Option<f64>) {
        if value.is_some() {
            self.set(quantity, value);
        }
    }

    /// Three values, `<quantity>.l1` to `<quantity>.l3`.
    pub fn set_phases(&mut self, quantity: &str, values: [Option<f64>; 3]) {
        for (phase, value) in PHASES.iter().zip(values) {
            let mut name = String::with_capacity(quantity.len() + 3);
            name.push_str(quantity);
            name.push('.');
            name.push_str(phase);
            self.readings.push(Reading { quantity: name, value: value.filter(|v| v.is_finite()) });
        }
    }

    /// One text under a name of the register.
    pub fn set_text(&mut self, name: &str, value: impl Into<String>) {
        self.texts.push(Text { name: name.into(), value: value.into() });
    }

    /// State of the charging connector.
    pub fn set_connector(&mut self, connector: Connector) {
        self.connector = Some(connector);
    }

    /// The value under `quantity`: outer none if it was not mentioned, inner none if it is unknown.
    #[must_use]
    pub fn value(&self, quantity: &str) -> Option<Option<f64>> {
        self.readings.iter().rev().find(|r| r.quantity == quantity).map(|r| r.value)
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self::new()
    }
}

impl Info {
    /// A device of which nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        Self { model: None, serial: None, firmware: None, features: Vec::new() }
    }

    /// Adds a feature by its registered name.
    pub fn feature(&mut self, name: &str) {
        self.features.push(name.into());
    }
}

impl Default for Info {
    fn default() -> Self {
        Self::new()
    }
}

impl Error {
    /// The device answered nonsense.
    pub fn protocol(text: impl Into<String>) -> Self {
        Self::Protocol(text.into())
    }

    /// The configuration is wrong; retrying cannot help.
    pub fn config(text: impl Into<String>) -> Self {
        Self::Config(text.into())
    }

    /// This device cannot do that.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::Unsupported(text.into())
    }
}
