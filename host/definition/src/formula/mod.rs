//! Formulas (`cfos-interfaces.md` 3.2): parsed once, of bounded cost, without side effects. What is not known is
//! missing (`None`), never 0.
//!
//! **Values** are floating point numbers; a condition holds when it is greater than 0. Numbers are written `230`, `.5`,
//! `1e3`, `0xFF`.
//!
//! **Operators**, the tightest first; those of one line are computed from the left unless it says otherwise. As in C
//! (so `a & 1 == 1` is `a & (1 == 1)`), with the power, which C has not, where mathematics puts it:
//!
//! | | |
//! |---|---|
//! | `x ^ y` | power, from the right: `2^3^2` is 2⁹ and `-2^2` is -4 |
//! | `-x` `+x` `!x` | `!x` is 1 unless x > 0 |
//! | `*` `/` `%` | `%`: the remainder has the sign of the left side |
//! | `+` `-` | |
//! | `<` `<=` `>` `>=` | 1 or 0 |
//! | `==` `!=` | 1 or 0 |
//! | `&` | bitwise, of the whole parts of numbers that fit into 64 bits |
//! | <code>\|</code> | bitwise |
//! | `&&` | 1 if both hold, else 0 |
//! | <code>\|\|</code> | 1 if one holds, else 0 |
//! | `c ? a : b` | from the right: `a ? 1 : b ? 2 : 3` |
//!
//! **Functions**: `min(a, b, …)`, `max(a, b, …)` (one value or more), `abs(x)`, `clamp(x, low, high)` (`high` where
//! `low` is above it), `round(x)` (halves away from 0), `sqrt(x)`, `exists(x)` (1 if x is not missing, else 0),
//! `param(id)`, `min_price(s)`, `max_price(s)`, `min_price_secs(s)`, `max_price_secs(s)`. A name is a function only
//! before a parenthesis.
//!
//! **Names**: letters, digits and underscores, of any case, with a prefix or without: see [`Object`].
//!
//! **Missing values**: whatever needs one is missing, but for `exists()`, `&&` and `||` that the known side decides,
//! and what `c ? a : b` does not choose. A division by zero, the root of a negative number, a bitwise operation on what
//! does not fit into 64 bits and what grows beyond the largest number are missing, too.

mod lex;
mod name;
mod order;
mod parse;
mod program;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use name::{DEVICE_MEMBERS, Name, Object};
pub use order::{Cycle, order};

/// A parsed formula; cheap to clone.
#[derive(Clone)]
pub struct Formula(Arc<Inner>);

struct Inner {
    text: Box<str>,
    parsed: parse::Parsed,
}

/// A text that is no formula.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FormulaError {
    /// Byte of the text.
    pub offset: usize,
    /// What is wrong there and what would be right.
    pub message: String,
}

/// What formulas are evaluated against.
pub trait Scope {
    /// The value of a name; `None`: unknown or missing now. One that is not finite counts as missing.
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
    /// Parses the text: at most 4096 bytes, 1000 values and operators, and 100 of them in one another.
    ///
    /// # Errors
    /// See [`FormulaError`].
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        let parsed = parse::parse(text)?;
        Ok(Self(Arc::new(Inner { text: text.into(), parsed })))
    }

    /// The text it was made of.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The value; `None` if something it needs is missing, or if there is none (a division by zero).
    #[must_use]
    pub fn value(&self, scope: &dyn Scope) -> Option<f64> {
        let parsed = &self.0.parsed;
        program::run(&parsed.steps, &parsed.names, parsed.depth, scope)
    }

    /// As a condition: whether the value is greater than 0; `None` if there is no value.
    #[must_use]
    pub fn holds(&self, scope: &dyn Scope) -> Option<bool> {
        self.value(scope).map(|value| value > 0.0)
    }

    /// Every name it mentions, each once, in the order of the text.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0.parsed.names
    }
}

impl PartialEq for Formula {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Debug for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Formula({})", self.text())
    }
}
