//! Formulas (`cfos-interfaces.md` 3.2): parsed once, of bounded cost, without side effects. What is not known is
//! missing (`None`), never 0.

use std::fmt;
use std::sync::Arc;

/// A parsed formula; cheap to clone.
#[derive(Clone)]
pub struct Formula(Arc<str>);

/// A text that is no formula.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormulaError {
    /// Byte of the text.
    pub offset: usize,
    /// What is wrong there and what would be right.
    pub message: String,
}

/// What a name in a formula means. Both parts are lower-case: names are case-insensitive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Before the point.
    pub object: Object,
    /// After it, `power_w`.
    pub member: Arc<str>,
}

/// Whose member a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// No prefix: the device the formula belongs to; for a manager variable, another manager variable.
    Own,
    /// `M1.`
    Meter(u16),
    /// `E1.`
    Evse(u16),
    /// `V1.`: vehicles.
    Vehicle(u16),
    /// `GM.`: the global meters.
    Global,
    /// `CM.`: the Charging Manager and its variables.
    Manager,
    /// `PB.`: inputs of the board.
    Board,
    /// `date.`: local time.
    Date,
}

/// What formulas are evaluated against.
pub trait Scope {
    /// The value of a name; `None`: unknown or missing now. Must be finite.
    fn get(&self, name: &Name) -> Option<f64>;

    /// `param(id)`: the parameter of a charging rule.
    fn param(&self, _id: i64) -> Option<f64> {
        None
    }

    /// `min_price(s)`, `max_price(s)` (the lowest and highest price within `seconds`), `min_price_secs(s)`,
    /// `max_price_secs(s)` (how long until then).
    fn price(&self, _what: Price, _seconds: f64) -> Option<f64> {
        None
    }
}

/// A price function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the functions")]
pub enum Price {
    Min,
    Max,
    MinSecs,
    MaxSecs,
}

impl Formula {
    /// Parses the text.
    ///
    /// # Errors
    /// See [`FormulaError`].
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        let wrong = || FormulaError { offset: 0, message: format!("\"{text}\" is no number") };
        text.trim().parse::<f64>().ok().filter(|value| value.is_finite()).ok_or_else(wrong)?;
        Ok(Self(text.into()))
    }

    /// The text it was made of.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The value; `None` if something it needs is missing, or if there is none (a division by zero).
    #[must_use]
    pub fn value(&self, _scope: &dyn Scope) -> Option<f64> {
        self.0.trim().parse().ok()
    }

    /// Every name it mentions, each once.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &[]
    }
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Formula({})", self.0)
    }
}
