//! The computation of all variables of one cycle. Pure but for the log.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ladekern_definition::Formula;
use ladekern_definition::formula::{Name, Object, order};

use super::trigger::Pulse;
use crate::config::{self, Config, Expr, Trigger, VariableConfig};
use crate::formulas::Look;
use crate::site::{DeviceId, DeviceKind};

/// What is kept between two cycles.
#[derive(Debug, Default)]
pub struct Engine {
    /// What the steps were made of.
    config: Option<Arc<Config>>,
    /// They have to be made anew all the same.
    outdated: bool,
    steps: Vec<Step>,
    pulses: HashMap<Name, Pulse>,
    /// Values that others gave.
    assigned: HashMap<Name, f64>,
    /// What the log has been told.
    cycles: Vec<String>,
}

/// One variable, in the order in which they are computed.
#[derive(Debug)]
struct Step {
    name: Name,
    what: What,
    trigger: Option<Trigger>,
}

#[derive(Debug)]
enum What {
    Number(f64),
    /// With the device it belongs to.
    Formula(Formula, Option<DeviceId>),
}

impl Engine {
    /// Gives variables values in the place of what the configuration says, until that changes for them.
    pub fn assign(&mut self, values: impl IntoIterator<Item = (Name, f64)>) {
        for (name, value) in values.into_iter().filter(|(_, value)| value.is_finite()) {
            self.outdated |= self.assigned.insert(name, value).is_none();
        }
    }

    /// Computes every variable; afterwards the look shows the values. One that needs what is missing has none; its
    /// trigger does not fire.
    pub fn cycle(&mut self, look: &mut Look) {
        let same = self.config.as_ref().is_some_and(|config| Arc::ptr_eq(config, look.config()));
        if !same || std::mem::take(&mut self.outdated) {
            self.take_up(look);
        }
        let now = look.at();
        for step in &self.steps {
            let value = match (self.assigned.get(&step.name), &step.what) {
                (Some(value), _) => Some(*value),
                (None, What::Number(value)) => Some(*value),
                (None, What::Formula(formula, own)) => formula.value(&look.scope(own.as_ref())),
            };
            let value = match step.trigger {
                None => value,
                Some(trigger) => {
                    let pulse = self.pulses.entry(step.name.clone()).or_default();
                    let holds = value.is_some_and(|value| value > 0.0);
                    Some(f64::from(u8::from(pulse.step(trigger, holds, now))))
                }
            };
            look.variables_mut().set(&step.name, value);
        }
    }

    /// The configuration has changed.
    fn take_up(&mut self, look: &mut Look) {
        let config = Arc::clone(look.config());
        let order = self.order(&config);
        let entries = entries(&config);
        if let Some(before) = &self.config {
            // Who writes a variable means it to be so from now on.
            let before = self::entries(before);
            self.assigned.retain(|name, _| before.get(name) == entries.get(name));
        }
        let own = |name: &Name| config.devices.iter().map(|device| &device.id).find(|id| is(id, name)).cloned();
        let number = |(name, variable): (&Name, &&VariableConfig)| match variable.expr {
            Expr::Number(value) => {
                Some(Step { name: name.clone(), what: What::Number(value), trigger: variable.trigger })
            }
            Expr::Formula(_) => None,
        };
        let formula = |(name, formula): (Name, Formula)| {
            let trigger = entries.get(&name).and_then(|variable| variable.trigger);
            let own = own(&name);
            Step { name, what: What::Formula(formula, own), trigger }
        };
        let numbers = entries.iter().filter_map(number);
        let mut steps: Vec<Step> = numbers.chain(order.into_iter().map(formula)).collect();
        // What nobody configured and somebody assigned.
        let known: HashSet<Name> = steps.iter().map(|step| step.name.clone()).collect();
        let others = self.assigned.keys().filter(|name| !known.contains(name)).cloned();
        steps.extend(others.map(|name| Step { name, what: What::Number(0.0), trigger: None }));
        self.pulses.retain(|name, _| known.contains(name));
        look.variables_mut().retain(|name| known.contains(name) || self.assigned.contains_key(name));
        self.steps = steps;
        self.config = Some(config);
    }

    /// The formulas, each behind those it needs; those of a cycle are left out and have no value.
    fn order(&mut self, config: &Config) -> Vec<(Name, Formula)> {
        let mut formulas = config::computed(config);
        let mut cycles = Vec::new();
        let order = loop {
            match order(&formulas) {
                Ok(order) => break order,
                Err(cycle) => {
                    // The file has none; temporary variables and a changed file may make one together.
                    formulas.retain(|(name, _)| !cycle.names.contains(name));
                    cycles.push(cycle.to_string());
                }
            }
        };
        for cycle in cycles.iter().filter(|cycle| !self.cycles.contains(cycle)) {
            tracing::warn!("these variables need one another and have no value: {cycle}");
        }
        self.cycles = cycles;
        let formulas = order.into_iter().filter_map(|at| formulas.get(at));
        formulas.map(|(name, formula)| (name.clone(), (*formula).clone())).collect()
    }
}

/// The variables of the configuration by the names formulas call them.
fn entries(config: &Config) -> HashMap<Name, &VariableConfig> {
    config.variables.iter().map(|(name, variable)| (config::variable_key(name), variable)).collect()
}

fn is(id: &DeviceId, name: &Name) -> bool {
    match name.object {
        Object::Evse(number) => id.kind() == DeviceKind::Evse && id.number() == u32::from(number),
        Object::Meter(number) => id.kind() == DeviceKind::Meter && id.number() == u32::from(number),
        _ => false,
    }
}
