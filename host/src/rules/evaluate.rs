//! From a rule list and what is known now to what a wallbox is to get: a small program from top to bottom (`cfos-interfaces.md`
//! 3.3). Pure: time is an argument, and what has to be remembered is the caller's. A value that is missing meets no
//! rule, whether "not" stands before it or not.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ladekern_definition::Formula;
use ladekern_definition::formula::{Name, Object, Price, Scope};

use super::local_time::LocalTime;
use super::rule::{Action, Condition, Flow, Rule, RuleSet};
use crate::site::{Because, Moment};

/// Rules that are looked at in one run: who goes round in circles is stopped here.
pub const MOST_STEPS: usize = 1_000;
/// Volt of a phase, to make currents of powers.
const NOMINAL_V: f64 = 230.0;

/// Powers of the site in W; `None`: not known now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Powers {
    /// What would be exported with no car charging, less what went to those who were asked before.
    pub surplus: Option<f64>,
    /// What is generated.
    pub solar: Option<f64>,
    /// What comes from the grid, negative if it goes there.
    pub grid: Option<f64>,
}

/// What is known now.
#[derive(Clone, Copy)]
pub struct RuleContext<'a> {
    /// What names in formulas mean; names without prefix are the wallbox's.
    pub scope: &'a dyn Scope,
    /// `None`: the clock is not set; then no window holds.
    pub local: Option<LocalTime>,
    /// The present moment.
    pub now: Moment,
    /// Smallest current it charges with, mA.
    pub min_ma: u32,
    /// Largest current, mA per phase.
    pub max_ma: u32,
    /// Phases it charges on, or is thought to: 1 to 3.
    pub phases: u8,
    /// What flows.
    pub powers: Powers,
}

/// What a rule set remembers from one run to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleMemory {
    /// When the condition of the rule with this place held last.
    held: BTreeMap<usize, Moment>,
    /// Trigger variables that run, by the place of their rule.
    triggers: BTreeMap<usize, Trigger>,
}

#[derive(Clone, Debug, PartialEq)]
struct Trigger {
    name: Name,
    until: Moment,
    /// It is 0 again and waits until its condition has been without.
    over: bool,
}

/// What a rule set comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// mA per phase: 0 or between minimum and maximum.
    pub ma: u32,
    /// How much of it is taken from the PV surplus; `None`: it takes no part in that.
    pub surplus_ma: Option<u32>,
    /// Why.
    pub because: Because,
    /// Variables of the manager and of devices that were set, in this order.
    pub variables: Vec<(Name, f64)>,
    /// A run was stopped after [`MOST_STEPS`].
    pub endless: bool,
}

/// Runs the rules. What one with a mistake was to decide is not left to the others: then there is nothing.
#[must_use]
pub fn evaluate(set: &RuleSet, context: &RuleContext<'_>, memory: &mut RuleMemory) -> Verdict {
    if set.is_broken() {
        let because = Because::Mistake;
        return Verdict { ma: 0, surplus_ma: None, because, variables: Vec::new(), endless: false };
    }
    let passes = passes(set.rules());
    let locals = RefCell::new(Locals::default());
    let mut run =
        Run { rules: set.rules(), passes: &passes, context, memory, locals: &locals, missing: false, endless: false };
    let has_surplus = passes.contains(&Pass::Surplus);
    let first = if has_surplus { run.pass(Pass::Surplus) } else { Outcome::default() };
    let undercut = locals.borrow().undercut;
    // A value below 0 says that it takes no part; without a rule that is met it takes part with nothing.
    let surplus = (has_surplus && first.value >= 0.0).then(|| context.settle(first.value, undercut));
    locals.borrow_mut().begin_again(surplus.unwrap_or(0));
    let second =
        if passes.iter().any(|pass| *pass != Pass::Surplus) { run.pass(Pass::Normal) } else { Outcome::default() };
    run.expire();
    let (missing, endless) = (run.missing, run.endless);
    let locals = locals.into_inner();
    let value = if second.met { context.settle(second.value, locals.undercut) } else { surplus.unwrap_or(0) };
    let decided = if second.met { &second } else { &first };
    // What undercuts is lifted to the minimum.
    let lifted = decided.met && value > 0 && decided.value < f64::from(context.min_ma);
    let because = match decided.by {
        _ if lifted => Because::Undercut,
        Some(by) if decided.met => by,
        _ if missing => Because::Missing,
        _ => Because::NoRule,
    };
    Verdict {
        ma: value,
        surplus_ma: surplus.map(|surplus| surplus.min(value)),
        because,
        variables: locals.assigned,
        endless,
    }
}

impl RuleContext<'_> {
    /// A value as a current that can be told: 0, or between minimum and maximum.
    fn settle(&self, value: f64, undercut: bool) -> u32 {
        let (min, max) = (self.min_ma, self.max_ma.max(self.min_ma));
        if value.is_finite() && value >= f64::from(min) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between min and max")]
            return value.min(f64::from(max)) as u32;
        }
        if undercut { min } else { 0 }
    }

    /// A power as a current on the phases in use, mA.
    fn as_ma(&self, watts: f64) -> f64 {
        watts * 1_000.0 / (NOMINAL_V * f64::from(self.phases.clamp(1, 3)))
    }

    fn flow(&self, flow: Flow) -> Option<f64> {
        let watts = match flow {
            Flow::Surplus => self.powers.surplus?.max(0.0),
            Flow::Solar => self.powers.solar?.max(0.0),
            Flow::Import => self.powers.grid?.max(0.0),
            Flow::Export => (-self.powers.grid?).max(0.0),
        };
        Some(self.as_ma(watts))
    }
}

/// Which run a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Surplus,
    Normal,
    /// A parameter: in both, as both may ask for it.
    Both,
}

/// A rule that is linked to the next one runs where that one runs.
fn passes(rules: &[Rule]) -> Vec<Pass> {
    let mut next = Pass::Normal;
    let mut passes: Vec<Pass> = rules
        .iter()
        .rev()
        .map(|rule| {
            let linked = matches!(rule.action, Action::And | Action::Or);
            if rule.enabled && !linked {
                next = match (&rule.action, rule.surplus) {
                    (Action::Parameter(_), _) => Pass::Both,
                    (_, true) => Pass::Surplus,
                    (_, false) => Pass::Normal,
                };
            }
            next
        })
        .collect();
    passes.reverse();
    passes
}

/// What formulas of rules see beside the site.
#[derive(Clone, Debug, Default)]
struct Locals {
    value: f64,
    rule_id: f64,
    rule_min: Option<f64>,
    undercut: bool,
    /// What the rules for surplus came to.
    before: u32,
    parameters: BTreeMap<i64, f64>,
    assigned: Vec<(Name, f64)>,
}

impl Locals {
    fn begin_again(&mut self, before: u32) {
        self.value = 0.0;
        self.undercut = false;
        self.before = before;
    }

    fn assign(&mut self, name: &Name, value: f64) {
        match (name.object, &*name.member) {
            (Object::Own, "_rule_val") => self.value = value,
            (Object::Own, "_rule_id") => self.rule_id = value,
            (Object::Own, "_rule_min") => self.rule_min = Some(value),
            (Object::Own, "_undercut") => self.undercut = value > 0.0,
            _ => self.assigned.push((name.clone(), value)),
        }
    }
}

struct View<'a> {
    context: &'a RuleContext<'a>,
    locals: &'a RefCell<Locals>,
}

impl Scope for View<'_> {
    fn get(&self, name: &Name) -> Option<f64> {
        let locals = self.locals.borrow();
        let own = match (name.object, &*name.member) {
            (Object::Own, "_rule_val") => Some(locals.value),
            (Object::Own, "_rule_id") => Some(locals.rule_id),
            (Object::Own, "_rule_min") => return locals.rule_min,
            (Object::Own, "_undercut") => Some(if locals.undercut { 1.0 } else { 0.0 }),
            (Object::Own, "lb_cur" | "lb_cur_l1" | "lb_cur_l2" | "lb_cur_l3") => Some(f64::from(locals.before)),
            (Object::Own, "surplus_pcur") => return self.context.flow(Flow::Surplus),
            _ => locals.assigned.iter().rev().find(|(assigned, _)| assigned == name).map(|(_, value)| *value),
        };
        drop(locals);
        own.or_else(|| self.context.scope.get(name)).filter(|value| value.is_finite())
    }

    fn param(&self, id: i64) -> Option<f64> {
        self.locals.borrow().parameters.get(&id).copied()
    }

    fn price(&self, what: Price, seconds: f64) -> Option<f64> {
        self.context.scope.price(what, seconds)
    }
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    value: f64,
    /// A rule that gives a value was met.
    met: bool,
    by: Option<Because>,
}

struct Run<'a> {
    rules: &'a [Rule],
    passes: &'a [Pass],
    context: &'a RuleContext<'a>,
    memory: &'a mut RuleMemory,
    locals: &'a RefCell<Locals>,
    /// A rule was not met because a value was missing.
    missing: bool,
    endless: bool,
}

impl Run<'_> {
    fn pass(&mut self, pass: Pass) -> Outcome {
        let mut outcome = Outcome::default();
        let mut link: Option<(bool, Option<bool>)> = None;
        let mut at = 0;
        let mut steps = 0;
        while let (Some(rule), Some(of)) = (self.rules.get(at), self.passes.get(at)) {
            let place = at;
            at += 1;
            steps += 1;
            if steps > MOST_STEPS {
                self.endless = true;
                return Outcome::default();
            }
            if !rule.enabled || (*of != pass && *of != Pass::Both) {
                continue;
            }
            let own = self.holds(place, rule);
            let held = match link.take() {
                None => own,
                Some((true, before)) => and(before, own),
                Some((false, before)) => or(before, own),
            };
            if matches!(rule.action, Action::And | Action::Or) {
                link = Some((rule.action == Action::And, held));
                continue;
            }
            self.missing |= held.is_none();
            let met = held == Some(true);
            if let Action::Trigger { name, seconds, again } = &rule.action {
                self.trigger(place, met, name, seconds, *again);
            }
            if !met {
                continue;
            }
            if rule.id != 0 {
                #[expect(clippy::cast_precision_loss, reason = "ids are small")]
                let id = rule.id as f64;
                self.locals.borrow_mut().rule_id = id;
            }
            match self.act(rule, &mut outcome) {
                Some(Some(next)) => at = next,
                Some(None) => {}
                // What it needs for its action is missing: as if it were not met.
                None => {
                    self.missing = true;
                    continue;
                }
            }
            if rule.end {
                break;
            }
        }
        outcome.value = self.locals.borrow().value;
        outcome
    }

    /// Whether the condition holds, "not", days and undercutting included.
    fn holds(&mut self, place: usize, rule: &Rule) -> Option<bool> {
        let context = self.context;
        if let (Condition::Time { start, minutes }, false) = (&rule.condition, rule.not) {
            let held = context.local.map(|local| local.is_within(*start, *minutes, rule.days));
            return self.undercut(place, rule, held);
        }
        // On other days the rule is not met, whatever its condition says.
        let every_day = rule.days & 0b111_1111 == 0b111_1111;
        match context.local {
            _ if every_day => {}
            Some(local) if local.is_on(rule.days) => {}
            Some(_) => return Some(false),
            None => return None,
        }
        let held = match &rule.condition {
            Condition::Time { start, minutes } => context.local.map(|local| local.is_within(*start, *minutes, 127)),
            Condition::Surplus(least) => {
                let surplus = context.powers.surplus.map(|watts| context.as_ma(watts));
                surplus.zip(self.value(least)).map(|(surplus, least)| surplus >= least)
            }
            Condition::Formula(formula) => self.value(formula).map(|value| value > 0.0),
            Condition::Always => Some(true),
            Condition::Unknown => None,
        };
        let held = held.map(|held| held != rule.not);
        self.undercut(place, rule, held)
    }

    /// A condition that has lapsed goes on for a while; one of which nothing is known does not.
    fn undercut(&mut self, place: usize, rule: &Rule, held: Option<bool>) -> Option<bool> {
        let now = self.context.now;
        match held {
            Some(true) => {
                if !rule.undercut.is_zero() {
                    self.memory.held.insert(place, now);
                }
                Some(true)
            }
            Some(false) => {
                let recently = self.memory.held.get(&place).is_some_and(|held| now < held.after(rule.undercut));
                if recently {
                    self.locals.borrow_mut().undercut = true;
                }
                Some(recently)
            }
            None => None,
        }
    }

    fn value(&self, formula: &Formula) -> Option<f64> {
        let view = View { context: self.context, locals: self.locals };
        formula.value(&view).filter(|value| value.is_finite())
    }

    /// Does what the rule does. `None`: a value for it is missing; `Some(Some(_))`: where to go on.
    fn act(&mut self, rule: &Rule, outcome: &mut Outcome) -> Option<Option<usize>> {
        match &rule.action {
            Action::Value(formula) => {
                let value = self.value(formula)?;
                self.give(value, Because::Rule(rule.id), outcome);
            }
            Action::Flow(flow, factor) => {
                let value = self.context.flow(*flow)? * self.value(factor)?;
                let because = if *flow == Flow::Surplus { Because::Surplus } else { Because::Rule(rule.id) };
                self.give(value, because, outcome);
            }
            Action::Set { name, to } => {
                let value = self.value(to)?;
                self.locals.borrow_mut().assign(name, value);
                if name.object == Object::Own && &*name.member == "_rule_val" {
                    (outcome.met, outcome.by) = (true, Some(Because::Rule(rule.id)));
                }
            }
            Action::Parameter(formula) => {
                let value = self.value(formula)?;
                self.locals.borrow_mut().parameters.insert(rule.id, value);
            }
            Action::GoTo(formula) => {
                let wanted = self.value(formula)?;
                #[expect(clippy::cast_precision_loss, reason = "ids are small")]
                let found = self.rules.iter().position(|rule| rule.enabled && rule.id as f64 == wanted);
                return Some(found);
            }
            Action::And | Action::Or | Action::Trigger { .. } | Action::Unknown => {}
        }
        Some(None)
    }

    fn give(&mut self, value: f64, because: Because, outcome: &mut Outcome) {
        self.locals.borrow_mut().value = value;
        (outcome.met, outcome.by) = (true, Some(because));
    }

    /// A pulse: one that is not again to be triggered needs its condition to lapse first.
    fn trigger(&mut self, place: usize, met: bool, name: &Name, seconds: &Formula, again: bool) {
        let now = self.context.now;
        let running = self.memory.triggers.get(&place);
        if !met {
            if running.is_some_and(|trigger| trigger.over) {
                self.memory.triggers.remove(&place);
            }
            return;
        }
        if running.is_some() && !again {
            return;
        }
        let Some(seconds) = self.value(seconds) else { return };
        let until = now.after(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 31_536_000.0)));
        self.memory.triggers.insert(place, Trigger { name: name.clone(), until, over: false });
        self.locals.borrow_mut().assign(name, 1.0);
    }

    /// Sets back the trigger variables whose time is over.
    fn expire(&mut self) {
        let now = self.context.now;
        for trigger in self.memory.triggers.values_mut().filter(|trigger| !trigger.over && now >= trigger.until) {
            trigger.over = true;
            self.locals.borrow_mut().assign(&trigger.name, 0.0);
        }
    }
}

/// Of three values: what is surely false needs nothing else.
fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn or(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}
