//! `[variables]`: Charging Manager variables and user variables of devices. A value is a number, a formula in quotes, or
//! a table with a formula that triggers.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ladekern_definition::Formula;
use ladekern_definition::formula::{Name, Object, order};

use crate::formulas;
use crate::site::{DeviceId, DeviceKind};

use super::Config;
use super::error::ConfigError;
use super::reader::{Context, Reader, formula, number};
use super::tree::{Data, Node, Place};

/// Longest time of a trigger in seconds: a day.
const LONGEST_TRIGGER_S: i64 = 86_400;

/// A variable.
#[derive(Clone, Debug, PartialEq)]
pub struct VariableConfig {
    /// What it is computed of.
    pub expr: Expr,
    /// It goes to 1 for a time when the formula becomes greater than 0, and is 0 otherwise.
    pub trigger: Option<Trigger>,
    /// It is written as a table, `{ expr = … }`.
    pub table: bool,
}

/// A fixed value or a formula.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Finite.
    Number(f64),
    /// Computed at the end of each cycle.
    Formula(Formula),
}

/// How a trigger variable goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// So long it is 1.
    pub time: Duration,
    /// Whether the time begins anew when the formula becomes greater than 0 once more.
    pub retrigger: bool,
}

impl VariableConfig {
    /// A variable that is no trigger.
    #[must_use]
    pub fn of(expr: Expr) -> Self {
        Self { expr, trigger: None, table: false }
    }
}

impl Expr {
    /// A number, or else a formula.
    ///
    /// # Errors
    /// Where in the text it goes wrong, what is wrong there and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Self::Number(value)),
            Ok(_) => Err(format!("expected a number or a formula, found \"{}\"", super::tree::shorten(text))),
            Err(_) => formula(text).map(Self::Formula),
        }
    }
}

/// As it was written.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => value.fmt(f),
            Self::Formula(formula) => f.write_str(formula.text()),
        }
    }
}

pub(super) fn variables(table: Reader<'_>) -> BTreeMap<String, VariableConfig> {
    let mut variables = BTreeMap::<String, VariableConfig>::new();
    for (name, node) in table.entries() {
        if let Err(why) = variable_name(name) {
            table.error(name, why);
            continue;
        }
        if let Some(other) = variables.keys().find(|other| other.eq_ignore_ascii_case(name)) {
            table.error(name, format!("is the same variable as {other}: formulas do not distinguish case"));
            continue;
        }
        let read = match &node.data {
            Data::Table(entries) => trigger(table.context(), table.key(name), entries, node.place),
            _ => expr(node).map(VariableConfig::of).map_err(|why| table.error(name, why)).ok(),
        };
        if let Some(variable) = read {
            variables.insert(name.clone(), variable);
        }
    }
    variables
}

fn expr(node: &Node) -> Result<Expr, String> {
    match &node.data {
        Data::Float(value) if value.is_finite() => Ok(Expr::Number(*value)),
        #[expect(clippy::cast_precision_loss, reason = "variables are floating point")]
        Data::Integer(value) => Ok(Expr::Number(*value as f64)),
        Data::Text(text) => Expr::parse(text),
        other => Err(format!("expected a number, or a formula in quotes, found {}", other.describe())),
    }
}

/// `{ expr = "…", trigger_s = 30, retrigger = true }`
fn trigger(context: &Context<'_>, path: String, entries: &[(String, Node)], place: Place) -> Option<VariableConfig> {
    let mut table = Reader::new(context, path, "variables", entries, place);
    let given = table.peek("expr").is_some();
    let expr = table.read("expr", expr);
    if !given {
        table.error("expr", "is missing; expected a table like { expr = \"M1.power_w > 5000\", trigger_s = 30 }");
    }
    let time = table.read("trigger_s", number(1..=LONGEST_TRIGGER_S)).map(Duration::from_secs);
    let retrigger = table.read("retrigger", super::reader::boolean);
    if retrigger.is_some() && table.peek("trigger_s").is_none() {
        table.error("retrigger", "belongs to trigger_s, which is missing");
    }
    table.finish();
    let trigger = time.map(|time| Trigger { time, retrigger: retrigger.unwrap_or(false) });
    Some(VariableConfig { expr: expr?, trigger, table: true })
}

/// Whether a variable may be called so: `x`, or `E1.x` for one of a device.
///
/// # Errors
/// The sentence why not.
pub fn variable_name(name: &str) -> Result<(), String> {
    let (device, member) = match name.split_once('.') {
        Some((device, member)) => (Some(device), member),
        None => (None, name),
    };
    let well = (1..=64).contains(&name.len())
        && member.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !member.starts_with(|c: char| c.is_ascii_digit())
        && !member.is_empty()
        && device.is_none_or(|device| object_of(device).is_some());
    if !well {
        return Err("a variable's name is 1 to 64 letters, digits and _, not beginning with a digit; that of a \
                    variable of a device begins with its id, like E1.x"
            .into());
    }
    match device {
        None if formulas::is_of_manager(member) => {
            Err(format!("CM.{member} is computed by the Charging Manager itself; choose another name"))
        }
        Some(device) if formulas::is_of_device(member) => {
            Err(format!("{device}.{member} is what the device itself tells; choose another name"))
        }
        _ => Ok(()),
    }
}

/// What formulas call a variable whose name is well.
#[must_use]
pub fn variable_key(name: &str) -> Name {
    let of_device = name.split_once('.').and_then(|(device, member)| Some((object_of(device)?, member)));
    let (object, member) = of_device.unwrap_or((Object::Manager, name));
    Name::new(object, member)
}

fn object_of(device: &str) -> Option<Object> {
    let id: DeviceId = device.parse().ok()?;
    let number = u16::try_from(id.number()).ok()?;
    Some(match id.kind() {
        DeviceKind::Evse => Object::Evse(number),
        DeviceKind::Meter => Object::Meter(number),
    })
}

/// Every formula that is computed at the end of a cycle, with the name its value has: the surplus, then the variables.
pub(crate) fn computed(config: &Config) -> Vec<(Name, &Formula)> {
    let surplus = config.load.surplus_expr.as_ref().map(|formula| (formulas::surplus_name(), formula));
    let variables = config.variables.iter().filter_map(|(name, variable)| match &variable.expr {
        Expr::Formula(formula) => Some((variable_key(name), formula)),
        Expr::Number(_) => None,
    });
    surplus.into_iter().chain(variables).collect()
}

/// Whether the formulas can be computed one after the other.
///
/// # Errors
/// Those that need one another, by name.
pub(crate) fn check_order(config: &Config) -> Result<(), ConfigError> {
    let Err(cycle) = order(&computed(config)) else { return Ok(()) };
    let first = cycle.names.first();
    let variable = config.variables.keys().find(|name| Some(&variable_key(name)) == first);
    let key = variable.map_or_else(|| "load.surplus_expr".into(), |name| format!("variables.{name}"));
    let message = format!("these formulas need one another, so that none has a value: {cycle}");
    Err(ConfigError { place: config.places.file.clone(), key, message })
}
