//! Names in formulas: `M1.power_w`, `CM._price`, `soc`.

use std::fmt;
use std::sync::Arc;

/// What a name in a formula means. Both parts are lower-case: names are case-insensitive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Before the point.
    pub object: Object,
    /// After it, `power_w`. May hold further points: `grid_demand.power_w` of `GM`.
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

/// Members that every device has in formulas (`cfos-interfaces.md` 3.2) and that no file can set.
pub const DEVICE_MEMBERS: &[&str] = &[
    "current",
    "offered",
    "dt",
    "id",
    "txn_duration",
    "charging_dur",
    "txn_energy",
    "min_current",
    "max_current",
    "state",
    "cphases",
    "pphases",
    "lb_cur",
    "lb_cur_l1",
    "lb_cur_l2",
    "lb_cur_l3",
    "surplus_pcur",
    "surplus_wanted",
    "budget",
    "budget_amount",
    "budget_used",
    "com_err",
    "com_err2",
    "reactive_power",
    "departure",
    "req_energy",
    "plugin_start",
    "plugin_energy",
];

impl Name {
    /// A name of any case.
    #[must_use]
    pub fn new(object: Object, member: &str) -> Self {
        Self { object, member: member.to_lowercase().into() }
    }

    /// Reads `M1.power_w` or `soc`.
    ///
    /// # Errors
    /// Says which part is no object or no member.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let Some((object, member)) = text.split_once('.') else { return Ok(Self::new(Object::Own, text)) };
        let found = Object::read(object).ok_or_else(|| {
            format!("\"{object}\" is no object; there are M1, E1, V1 (and so on), GM, CM, PB and date")
        })?;
        if member.is_empty() || member.split('.').any(str::is_empty) {
            return Err(format!("\"{text}\" lacks a member behind the point, like {object}.power_w"));
        }
        Ok(Self::new(found, member))
    }
}

impl Object {
    /// The object with this prefix, of any case.
    fn read(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let known = match text.as_str() {
            "gm" => Some(Self::Global),
            "cm" => Some(Self::Manager),
            "pb" => Some(Self::Board),
            "date" => Some(Self::Date),
            _ => None,
        };
        known.or_else(|| {
            let mut rest = text.chars();
            let make = match rest.next()? {
                'm' => Self::Meter,
                'e' => Self::Evse,
                'v' => Self::Vehicle,
                _ => return None,
            };
            let digits = rest.as_str();
            // Leading zeros would give one device two names; a sign is none of ours.
            (digits.starts_with(|first: char| matches!(first, '1'..='9'))).then(|| digits.parse().ok().map(make))?
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.object {
            Object::Own => f.write_str(&self.member),
            object => write!(f, "{object}.{}", self.member),
        }
    }
}

/// The prefix without its point; nothing for [`Object::Own`].
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => Ok(()),
            Self::Meter(number) => write!(f, "M{number}"),
            Self::Evse(number) => write!(f, "E{number}"),
            Self::Vehicle(number) => write!(f, "V{number}"),
            Self::Global => f.write_str("GM"),
            Self::Manager => f.write_str("CM"),
            Self::Board => f.write_str("PB"),
            Self::Date => f.write_str("date"),
        }
    }
}
