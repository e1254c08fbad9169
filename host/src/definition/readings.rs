//! What the variables of one device hold, and what the site gets to know of it: the same for all transports. Pure: the
//! transports say what they decoded and when, formulas are worked out from that.

use std::collections::HashMap;
use std::sync::Arc;

use ladekern_definition::formula::{Formula, Name, Object, Scope};
use ladekern_definition::{Definition, Identity, Source, Target, Value};

use crate::formulas::{Look, World};
use crate::site::{DeviceId, Info, Measured, Moment, Outcome, Quantity, quantities};

/// See the module. Variables and inputs are named by their place in the definition.
#[derive(Debug)]
pub struct Readings {
    definition: Arc<Definition>,
    variables: Vec<Variable>,
    /// Of the variables with a formula, so that each comes after those it needs.
    order: Vec<usize>,
    /// Lower-case names that formulas know variables by.
    names: HashMap<String, usize>,
    /// The value of each entry of `inputs`, and the number of its first bit, counted from 1.
    inputs: Vec<(Option<Measured<u64>>, u32)>,
    told: Option<Info>,
    /// The board's sign of power is the other one.
    turned: bool,
    /// What formulas see beside the device itself.
    site: Option<(World, DeviceId)>,
    /// What the entries since the last outcome change.
    edited: Edited,
}

#[derive(Debug, Default)]
struct Edited {
    variables: Vec<usize>,
    inputs: Vec<usize>,
}

#[derive(Debug)]
struct Variable {
    /// Name on the board; `None` for identity.
    quantity: Option<Quantity>,
    /// Does not age: a fixed value, or one that is read once.
    constant: bool,
    held: Option<Measured<Value>>,
}

/// Formulas of one definition that need each other's values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the formulas of {} need each other's values; at least one has to do without", .0.join(", "))]
pub struct Circle(pub Vec<String>);

impl Readings {
    /// Nothing is known yet but what is fixed.
    ///
    /// # Errors
    /// If formulas need each other.
    pub fn new(definition: Arc<Definition>) -> Result<Self, Circle> {
        let mut names = HashMap::new();
        let mut variables = Vec::with_capacity(definition.variables.len());
        for (at, variable) in definition.variables.iter().enumerate() {
            let own = |name: &str| name.to_lowercase();
            let (quantity, name) = match &variable.target {
                Target::Identity(_) => (None, Some(own(&variable.name))),
                Target::Quantity(name) => (Some((*name).into()), Some(own(&variable.name))),
                Target::Manager(name) => (Some(named(quantities::MANAGER, name)), None),
                Target::User { name, .. } => (Some(named(quantities::VARIABLE, name)), Some(own(name))),
            };
            if let Some(name) = name {
                names.entry(name).or_insert(at);
            }
            let fixed = match &variable.source {
                Source::Fixed(text) => Some(Measured { value: fixed(&variable.target, text), at: Moment(0) }),
                Source::Expr(_) | Source::Modbus(_) | Source::Document(_) => None,
            };
            let constant = fixed.is_some() || variable.once || matches!(variable.target, Target::Identity(_));
            variables.push(Variable { quantity, constant, held: fixed });
        }
        let order = order(&definition, &names)?;
        let mut first = 1;
        let mut inputs = Vec::with_capacity(definition.inputs.len());
        for input in &definition.inputs {
            inputs.push((None, first));
            first += u32::from(input.count);
        }
        Ok(Self {
            definition,
            variables,
            order,
            names,
            inputs,
            told: None,
            turned: false,
            site: None,
            edited: Edited::default(),
        })
    }

    /// Formulas see the site as well, `own` being the device.
    #[must_use]
    pub fn within(self, world: World, own: DeviceId) -> Self {
        Self { site: Some((world, own)), ..self }
    }

    /// The device is a battery: in definitions its charging is positive, on the board its discharging is
    /// (`docs/quantities.md`). Only the board's power is turned: formulas see it as the definition gives it.
    #[must_use]
    pub fn turned(self, turned: bool) -> Self {
        Self { turned, ..self }
    }

    /// What it is about.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Whether the variable needs no more reading: it is read once, and has been.
    #[must_use]
    pub fn is_settled(&self, variable: usize) -> bool {
        self.variables.get(variable).is_some_and(|variable| variable.constant && variable.held.is_some())
    }

    /// A variable was read. What is read once keeps its first value, and what a broker had stored does not take the
    /// place of what came after it.
    pub fn set(&mut self, variable: usize, value: Value, at: Moment) {
        if self.is_settled(variable) {
            return;
        }
        if let Some(known) = self.variables.get_mut(variable)
            && known.held.as_ref().is_none_or(|held| held.at <= at)
        {
            known.held = Some(Measured { value, at });
            self.edited.variables.push(variable);
        }
    }

    /// The device says itself that it does not know the variable now.
    pub fn set_unknown(&mut self, variable: usize) {
        if let Some(known) = self.variables.get_mut(variable).filter(|known| !known.constant) {
            known.held = None;
            self.edited.variables.push(variable);
        }
    }

    /// The bits of an entry of `inputs` were read, as a number.
    ///
    /// # Errors
    /// A sentence about a value that is no number of bits.
    pub fn set_input(&mut self, input: usize, value: &Value, at: Moment) -> Result<(), String> {
        let bits = match value {
            // Inverted or signed words keep their bits.
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0 => {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and smaller than 2^53")]
                let whole = *number as i64;
                whole.cast_unsigned()
            }
            other => return Err(format!("expected a whole number of bits, found {}", described(other))),
        };
        if let Some((known, _)) = self.inputs.get_mut(input)
            && known.is_none_or(|known| known.at <= at)
        {
            *known = Some(Measured { value: bits, at });
            self.edited.inputs.push(input);
        }
        Ok(())
    }

    /// A value of the device itself as formulas see it, by its lower-case name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        let Some(variable) = self.names.get(name) else { return Some(self.input(name)?.value) };
        let held = self.variables.get(*variable)?.held.as_ref()?;
        match &held.value {
            Value::Number(number) => Some(*number),
            Value::Text(_) => None,
        }
    }

    /// `input3`: the third bit of all inputs.
    fn input(&self, name: &str) -> Option<Measured<f64>> {
        let number: u32 = name.strip_prefix("input")?.parse().ok()?;
        self.inputs.iter().zip(&self.definition.inputs).find_map(|((bits, first), input)| {
            let bit = number.checked_sub(*first).filter(|bit| *bit < u32::from(input.count))?;
            let Measured { value, at } = (*bits)?;
            Some(Measured { value: if value >> bit & 1 == 1 { 1.0 } else { 0.0 }, at })
        })
    }

    /// What has been set since the last call, and every formula worked out anew. `at` is now, or [`Moment(0)`](Moment)
    /// for what a broker had stored; a formula's value is as old as the oldest value in it.
    pub fn outcome(&mut self, at: Moment) -> Outcome {
        let mut outcome = Outcome::default();
        let Edited { variables, inputs } = std::mem::take(&mut self.edited);
        let identity = |at: &usize| self.variables.get(*at).is_some_and(|variable| variable.quantity.is_none());
        let named = self.told.is_none() || variables.iter().chain(&self.order).any(identity);
        for variable in variables {
            self.tell(variable, at, &mut outcome);
            self.tell_unknown(variable, &mut outcome);
        }
        for input in inputs {
            self.tell_input(input, &mut outcome);
        }
        for variable in 0..self.variables.len() {
            if self.variables.get(variable).is_some_and(|variable| variable.constant && variable.quantity.is_some()) {
                self.tell(variable, at, &mut outcome);
            }
        }
        if !self.order.is_empty() {
            let look = self.site.as_ref().map(|(world, own)| (world.look(), own.clone()));
            for place in 0..self.order.len() {
                let Some(variable) = self.order.get(place).copied() else { continue };
                let had = self.variables.get(variable).is_some_and(|variable| variable.held.is_some());
                self.work_out(variable, at, look.as_ref());
                self.tell(variable, at, &mut outcome);
                if had {
                    self.tell_unknown(variable, &mut outcome);
                }
            }
        }
        if named {
            let info = self.info();
            if self.told.as_ref() != Some(&info) {
                outcome.info = Some(info.clone());
                self.told = Some(info);
            }
        }
        outcome
    }

    /// Who the device is, as far as it is known.
    #[must_use]
    pub fn info(&self) -> Info {
        let text = |wanted: Identity| {
            let mut all = self.definition.variables.iter().zip(&self.variables);
            let (_, variable) = all.find(|(variable, _)| variable.target == Target::Identity(wanted))?;
            match &variable.held.as_ref()?.value {
                Value::Text(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
            }
        };
        // The contract shows the parts of a model separated by commas.
        let part = |text: &str| text.replace(',', " ").trim().to_owned();
        let Definition { name, manufacturer, .. } = &*self.definition;
        let kind = text(Identity::TypeDesignation).unwrap_or_else(|| name.clone());
        let version = text(Identity::Version).unwrap_or_default();
        let shown = self.definition.variables.iter().filter_map(|variable| match &variable.target {
            Target::User { name, shown: true } => Some(name.clone()),
            _ => None,
        });
        Info {
            model: Some(format!("{},{},{}", part(manufacturer), part(&kind), part(&version))),
            serial: text(Identity::Serial),
            firmware: text(Identity::FirmwareVersion),
            features: Vec::new(),
            shown: shown.collect(),
        }
    }

    /// That a variable is unknown now, if it is.
    fn tell_unknown(&self, variable: usize, outcome: &mut Outcome) {
        if let Some(Variable { quantity: Some(quantity), held: None, .. }) = self.variables.get(variable) {
            outcome.readings.push((quantity.clone(), None));
        }
    }

    fn tell(&self, variable: usize, now: Moment, outcome: &mut Outcome) {
        let Some(Variable { quantity: Some(quantity), constant, held: Some(held) }) = self.variables.get(variable)
        else {
            return;
        };
        let turned = |number: f64| match self.turned && quantity.as_str().starts_with("power.") {
            true => -number,
            false => number,
        };
        match &held.value {
            Value::Number(number) if *constant || held.at == now => {
                outcome.readings.push((quantity.clone(), Some(turned(*number))));
            }
            Value::Number(number) => outcome.aged.push((quantity.clone(), Some(turned(*number)), held.at)),
            Value::Text(text) => outcome.texts.push((quantity.to_string(), text.clone())),
        }
    }

    fn tell_input(&self, input: usize, outcome: &mut Outcome) {
        let Some((Some(bits), first)) = self.inputs.get(input) else { return };
        let count = self.definition.inputs.get(input).map_or(0, |input| input.count);
        for bit in 0..u32::from(count).min(64) {
            let quantity = format!("{}{}", quantities::INPUT, first + bit);
            outcome.push(&quantity, if bits.value >> bit & 1 == 1 { 1.0 } else { 0.0 });
        }
    }

    fn work_out(&mut self, variable: usize, now: Moment, look: Option<&(Look, DeviceId)>) {
        let Some(Source::Expr(formula)) = self.definition.variables.get(variable).map(|variable| &variable.source)
        else {
            return;
        };
        let own = |name: &str| self.value(name);
        let value = match look {
            Some((look, device)) => formula.value(&look.scope_with(Some(device), &own)),
            None => formula.value(&Alone(self)),
        };
        let at = self.oldest(formula).unwrap_or(now);
        if let Some(known) = self.variables.get_mut(variable) {
            // Without a value there is none: something it needs is known to be unknown.
            known.held = value.map(|number| Measured { value: Value::Number(number), at });
        }
    }

    /// When the oldest value of the device itself in a formula was measured.
    fn oldest(&self, formula: &Formula) -> Option<Moment> {
        let own = formula.names().iter().filter(|name| name.object == Object::Own);
        own.filter_map(|name| {
            let Some(variable) = self.names.get(&*name.member) else { return Some(self.input(&name.member)?.at) };
            let variable = self.variables.get(*variable)?;
            let held = variable.held.as_ref()?;
            (!variable.constant).then_some(held.at)
        })
        .min()
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => format!("\"{text}\""),
    }
}

/// The device's own values and nothing else.
struct Alone<'a>(&'a Readings);

impl Scope for Alone<'_> {
    fn get(&self, name: &Name) -> Option<f64> {
        if name.object == Object::Own { self.0.value(&name.member) } else { None }
    }
}

fn named(prefix: &str, name: &str) -> Quantity {
    format!("{prefix}{}", name.to_lowercase()).as_str().into()
}

/// A fixed text is a number where one is wanted.
fn fixed(target: &Target, text: &str) -> Value {
    let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match (target, number) {
        (Target::Identity(_), _) | (_, None) => Value::Text(text.to_owned()),
        (_, Some(number)) => Value::Number(number),
    }
}

/// The formulas, each after those whose values it needs.
fn order(definition: &Definition, names: &HashMap<String, usize>) -> Result<Vec<usize>, Circle> {
    let formula = |at: usize| match definition.variables.get(at).map(|variable| &variable.source) {
        Some(Source::Expr(formula)) => Some(formula),
        _ => None,
    };
    let mut waiting: Vec<usize> = (0..definition.variables.len()).filter(|at| formula(*at).is_some()).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let needs = |at: usize| {
            let own = formula(at).map(Formula::names).unwrap_or_default();
            let own = own.iter().filter(|name| name.object == Object::Own);
            own.filter_map(|name| names.get(&*name.member)).any(|needed| waiting.contains(needed))
        };
        let (stuck, ready): (Vec<usize>, Vec<usize>) = waiting.iter().partition(|at| needs(**at));
        if ready.is_empty() {
            let name = |at: &usize| definition.variables.get(*at).map(|variable| variable.name.clone());
            return Err(Circle(stuck.iter().filter_map(name).collect()));
        }
        order.extend(ready);
        waiting = stuck;
    }
    Ok(order)
}

#[cfg(test)]
mod tests;
