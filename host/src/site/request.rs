//! What the charging rules of a wallbox and of its user come to, beside what people allow and the load manager has.

use std::collections::BTreeMap;
use std::fmt;

use super::DeviceId;

/// Why charging rules give what they give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// No rule is met: pause.
    NoRule,
    /// The rule with this id decided; 0: one without an id.
    Rule(i64),
    /// A rule takes what is left of the PV surplus.
    Surplus,
    /// The condition has lapsed, and the rule goes on for a while with the minimum current.
    Undercut,
    /// A value that a rule needs is missing or too old.
    Missing,
    /// The rules have a mistake: nobody knows what they are meant to say, so nothing is charged.
    Mistake,
    /// Charging has just begun and lasts its shortest time.
    ShortestRun,
    /// Charging has just been paused and the pause lasts its shortest time.
    ShortestPause,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::NoRule => write!(f, "no charging rule is met"),
            Because::Rule(0) => write!(f, "charging rules"),
            Because::Rule(id) => write!(f, "charging rule {id}"),
            Because::Surplus => write!(f, "charging rules: PV surplus"),
            Because::Undercut => write!(f, "charging rules: goes on for a while with the minimum"),
            Because::Missing => write!(f, "charging rules: a value is missing"),
            Because::Mistake => write!(f, "charging rules: there is a mistake in them"),
            Because::ShortestRun => write!(f, "charging rules: charges at least for a while"),
            Because::ShortestPause => write!(f, "charging rules: pauses at least for a while"),
        }
    }
}

/// What charging rules want for one wallbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The most it is to get, in mA per phase: 0 (pause) or at least its minimum.
    pub max_ma: u32,
    /// Why.
    pub because: Because,
}

/// By wallbox; who is not in it has no rules and is not limited by any.
pub type Requests = BTreeMap<DeviceId, Request>;
