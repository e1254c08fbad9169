//! What rules mean, with a site of plain numbers and a clock that is a number.

mod engine;
mod evaluate;
mod house;
mod properties;
mod reading;

use std::collections::BTreeMap;

use ladekern_definition::formula::{Name, Object, Scope};
use serde_json::{Value, json};

use super::*;
use crate::site::{Because, Moment};

/// Values by their names in lower case, `x`, `cm.x`, `m1.soc`.
#[derive(Default)]
pub struct Numbers(pub BTreeMap<String, f64>);

impl Numbers {
    pub fn of(numbers: &[(&str, f64)]) -> Self {
        Self(numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
    }
}

impl Scope for Numbers {
    fn get(&self, name: &Name) -> Option<f64> {
        let object = match name.object {
            Object::Own => String::new(),
            Object::Meter(number) => format!("m{number}."),
            Object::Evse(number) => format!("e{number}."),
            Object::Manager => "cm.".into(),
            Object::Global => "gm.".into(),
            _ => return None,
        };
        self.0.get(&format!("{object}{}", name.member)).copied()
    }
}

/// A rule with `ctype` and `atype` and what else is given.
pub fn rule(ctype: i64, atype: i64, more: Value) -> Value {
    let mut rule = json!({ "ctype": ctype, "atype": atype });
    for (key, value) in more.as_object().unwrap() {
        rule[key] = value.clone();
    }
    rule
}

pub fn always(ma: Value) -> Value {
    rule(51, 0, json!({ "aexpr": ma }))
}

pub fn set(rules: &[Value]) -> RuleSet {
    RuleSet::parse(&Value::Array(rules.to_vec())).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// A wallbox of 6 to 16 A on three phases, and how its rules are run.
pub struct Bench {
    pub numbers: Numbers,
    pub memory: RuleMemory,
    pub second: u64,
    pub local: Option<LocalTime>,
    pub powers: Powers,
    pub phases: u8,
}

impl Default for Bench {
    fn default() -> Self {
        Self {
            numbers: Numbers::default(),
            memory: RuleMemory::default(),
            second: 0,
            // A Monday, 12:00.
            local: Some(LocalTime { weekday: 0, second: 12 * 3_600 }),
            powers: Powers::default(),
            phases: 3,
        }
    }
}

impl Bench {
    pub fn run(&mut self, set: &RuleSet) -> Verdict {
        let context = RuleContext {
            scope: &self.numbers,
            local: self.local,
            now: Moment(1_000 + self.second * 1_000),
            min_ma: 6_000,
            max_ma: 16_000,
            phases: self.phases,
            powers: self.powers,
        };
        evaluate(set, &context, &mut self.memory)
    }

    pub fn ma(&mut self, rules: &[Value]) -> u32 {
        self.run(&set(rules)).ma
    }
}

pub fn ma(rules: &[Value]) -> u32 {
    Bench::default().ma(rules)
}
