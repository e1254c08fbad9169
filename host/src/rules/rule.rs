//! A rule as clients and rule-set files write it (`cfos-interfaces.md` 3.3), and how it is read. What cannot be read is
//! named, and nothing is charged by rules with a mistake until it is mended: the others do not say what the bad one was
//! meant to decide. Codes that are well formed and that nobody here knows are no mistake: such a rule is never met, not
//! even with "not" before it. Pure.

use std::time::Duration;

use ladekern_definition::Formula;
use ladekern_definition::formula::{Name, Object};
use serde_json::{Map, Value};

use crate::config::reader::nearest;

/// Most rules of a set.
pub const MOST_RULES: usize = 200;
/// `days`: every day.
const EVERY_DAY: u8 = 0b111_1111;
/// `flags`
const NOT: i64 = 1;
const SURPLUS: i64 = 1 << 1;
const END: i64 = 1 << 4;
/// What a rule may have.
const KEYS: [&str; 13] =
    ["id", "ena", "cmt", "days", "udur", "ctype", "time", "dur", "cexpr", "atype", "aexpr", "name", "flags"];
/// Keys of the original's older rules that are like others without meaning the same.
const OLDER: [&str; 6] = ["mode", "current", "enabled", "expr", "input", "solar"];

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `id`, 0 for none; what go to, `param()` and the display name.
    pub id: i64,
    /// `ena`
    pub enabled: bool,
    /// `days`: bit 0 Monday to bit 6 Sunday.
    pub days: u8,
    /// `udur`: how long the rule goes on after its condition has lapsed.
    pub undercut: Duration,
    /// `ctype` with what belongs to it.
    pub condition: Condition,
    /// `flags` bit 0: the condition must not hold.
    pub not: bool,
    /// `flags` bit 1: runs with the rules for PV surplus.
    pub surplus: bool,
    /// `flags` bit 4: nothing after it runs when it is met.
    pub end: bool,
    /// `atype` with what belongs to it.
    pub action: Action,
}

/// When a rule is met.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// 0: from this minute of the day for so many minutes.
    Time {
        /// `time`
        start: u32,
        /// `dur`
        minutes: u32,
    },
    /// 1: the PV surplus in mA per phase in use is at least this.
    Surplus(Formula),
    /// 50: the formula is above 0.
    Formula(Formula),
    /// 51
    Always,
    /// Nobody here knows; it is never met.
    Unknown,
}

/// What a rule does when it is met.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// 0: the value becomes this, mA per phase.
    Value(Formula),
    /// 1: the next rule is met only if this one is too.
    And,
    /// 2: the next rule is met also if this one is.
    Or,
    /// 3: sets a variable.
    Set {
        /// `name`
        name: Name,
        /// `aexpr`
        to: Formula,
    },
    /// 5: goes on with the first rule with this id.
    GoTo(Formula),
    /// 7, 8: the variable becomes 1 for so many seconds.
    Trigger {
        /// `name`
        name: Name,
        /// `aexpr`, s
        seconds: Formula,
        /// 8: the time begins anew as long as the condition holds.
        again: bool,
    },
    /// 10 to 13: the value becomes a power, as a current, times a factor.
    Flow(Flow, Formula),
    /// 22: the parameter with the rule's id becomes this.
    Parameter(Formula),
    /// Nobody here knows; nothing is done.
    Unknown,
}

/// A power that rules hand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Flow {
    Surplus,
    Solar,
    Import,
    Export,
}

/// Something wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Place of the rule in the set, from 0; `None`: the set itself.
    pub index: Option<usize>,
    /// The key; empty for the whole rule.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
    /// A code that this version does not know. Clients' sets are kept with it; such a rule has no effect.
    pub unknown_code: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(index) = self.index {
            write!(f, "rule {index}")?;
            if !self.key.is_empty() {
                write!(f, ".{}", self.key)?;
            }
            write!(f, ": ")?;
        }
        f.write_str(&self.message)
    }
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleSet {
    rules: Vec<Rule>,
    problems: Vec<Problem>,
    broken: bool,
}

impl RuleSet {
    /// Reads a list of rules as clients write them, with keys of their own. What is wrong is in [`RuleSet::problems`].
    #[must_use]
    pub fn read(list: &Value) -> Self {
        Self::read_as(list, false)
    }

    /// As [`RuleSet::read`]; with `written` by a person, to whom a key that nobody knows meant something.
    #[must_use]
    pub fn read_as(list: &Value, written: bool) -> Self {
        let Value::Array(list) = list else {
            return Self::broken(format!("expected a list of rules, found {}", describe(list)));
        };
        let mut set = Self::default();
        if list.len() > MOST_RULES {
            let message = format!("{} rules; expected at most {MOST_RULES}", list.len());
            set.problems.push(Problem::of_set(message));
        }
        for (index, rule) in list.iter().take(MOST_RULES).enumerate() {
            let mut reader = Reader { index, written, rule: rule.as_object(), problems: &mut set.problems };
            let rule = match rule {
                Value::Object(_) => reader.rule(),
                other => {
                    reader.wrong("", format!("expected an object, found {}", describe(other)));
                    Rule::nothing()
                }
            };
            set.rules.push(rule);
        }
        let counts = |rule: usize| set.rules.get(rule).is_none_or(|rule| rule.enabled);
        set.broken = set.problems.iter().any(|problem| !problem.unknown_code && problem.index.is_none_or(counts));
        set
    }

    /// Stands for rules that cannot be found or read: nothing is charged until they can.
    #[must_use]
    pub fn broken(message: String) -> Self {
        Self { rules: vec![Rule::nothing()], problems: vec![Problem::of_set(message)], broken: true }
    }

    /// As [`RuleSet::read`], for what somebody writes now.
    ///
    /// # Errors
    /// Everything that is wrong; codes that nobody here knows are not among it.
    pub fn parse(list: &Value) -> Result<Self, Vec<Problem>> {
        let set = Self::read(list);
        let wrong: Vec<Problem> = set.problems.iter().filter(|problem| !problem.unknown_code).cloned().collect();
        if wrong.is_empty() { Ok(set) } else { Err(wrong) }
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What is wrong, also with rules that are switched off, and codes that nobody here knows.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Whether there is a mistake in it or in a rule that is switched on: nothing is charged then.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether any rule is switched on: without one, nothing is limited.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.rules.iter().any(|rule| rule.enabled)
    }
}

impl Problem {
    fn of_set(message: String) -> Self {
        Self { index: None, key: "", message, unknown_code: false }
    }
}

impl Rule {
    /// Stands for a rule that is none.
    fn nothing() -> Self {
        Self {
            id: 0,
            enabled: true,
            days: EVERY_DAY,
            undercut: Duration::ZERO,
            condition: Condition::Unknown,
            not: false,
            surplus: false,
            end: false,
            action: Action::Unknown,
        }
    }
}

struct Reader<'a> {
    index: usize,
    /// By a person.
    written: bool,
    rule: Option<&'a Map<String, Value>>,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn rule(&mut self) -> Rule {
        let flags = self.whole("flags", 0..=i64::from(u32::MAX)).unwrap_or(0);
        let undercut = self.number("udur", 0.0, 604_800.0).unwrap_or(0.0);
        let days = self.whole("days", 0..=255).and_then(|days| u8::try_from(days).ok());
        let rule = Rule {
            id: self.whole("id", -1_000_000_000..=1_000_000_000).unwrap_or(0),
            enabled: self.flag("ena").unwrap_or(true),
            days: days.unwrap_or(EVERY_DAY) & EVERY_DAY,
            undercut: Duration::from_secs_f64(undercut),
            condition: self.condition(),
            not: flags & NOT != 0,
            surplus: flags & SURPLUS != 0,
            end: flags & END != 0,
            action: self.action(),
        };
        self.keys();
        rule
    }

    /// What nobody asked for. A condition or action that is not known here may have keys of its own.
    fn keys(&mut self) {
        let (index, Some(rule)) = (self.index, self.rule) else { return };
        if self.problems.iter().any(|problem| problem.index == Some(index) && problem.unknown_code) {
            return;
        }
        for key in rule.keys().map(String::as_str).filter(|key| !KEYS.contains(key)) {
            let near = nearest(key, &KEYS);
            let meant = near.filter(|_| key.len() > 3 && !OLDER.contains(&key));
            let hint = match near {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("known here are: {}", KEYS.join(", ")),
            };
            if self.written || meant.is_some() {
                self.wrong("", format!("unknown key \"{}\", {hint}", short(key)));
            }
        }
    }

    fn condition(&mut self) -> Condition {
        const KNOWN: &str = "0 (time), 1 (PV surplus), 50 (formula) and 51 (always)";
        let Some(code) = self.code("ctype", KNOWN) else { return Condition::Unknown };
        let formula = |reader: &mut Self, make: fn(Formula) -> Condition| {
            reader.formula("cexpr", None).map_or(Condition::Unknown, make)
        };
        match code {
            0 => {
                let minute = |number: i64| u32::try_from(number).unwrap_or(0);
                let start = self.needed("time").and_then(|reader| reader.whole("time", 0..=1_440));
                let minutes = self.needed("dur").and_then(|reader| reader.whole("dur", 0..=10_080));
                match (start, minutes) {
                    (Some(start), Some(minutes)) => Condition::Time { start: minute(start), minutes: minute(minutes) },
                    _ => Condition::Unknown,
                }
            }
            1 => formula(self, Condition::Surplus),
            50 => formula(self, Condition::Formula),
            51 => Condition::Always,
            other => {
                self.unknown("ctype", other, KNOWN);
                Condition::Unknown
            }
        }
    }

    fn action(&mut self) -> Action {
        const KNOWN: &str = "0, 1, 2, 3, 5, 7, 8, 10, 11, 12, 13 and 22";
        // One that names no action and has a value is meant to give it.
        let code = if self.get("atype").is_none() { Some(0) } else { self.code("atype", KNOWN) };
        let Some(code) = code else { return Action::Unknown };
        let value = |reader: &mut Self, make: fn(Formula) -> Action| {
            reader.formula("aexpr", None).map_or(Action::Unknown, make)
        };
        match code {
            0 => value(self, Action::Value),
            1 => Action::And,
            2 => Action::Or,
            3 => match (self.variable(), self.formula("aexpr", None)) {
                (Some(name), Some(to)) => Action::Set { name, to },
                _ => Action::Unknown,
            },
            5 => value(self, Action::GoTo),
            7 | 8 => match (self.variable(), self.formula("aexpr", None)) {
                (Some(name), Some(seconds)) => Action::Trigger { name, seconds, again: code == 8 },
                _ => Action::Unknown,
            },
            10..=13 => {
                let flow = match code {
                    10 => Flow::Surplus,
                    11 => Flow::Solar,
                    12 => Flow::Import,
                    _ => Flow::Export,
                };
                self.formula("aexpr", Some("1")).map_or(Action::Unknown, |factor| Action::Flow(flow, factor))
            }
            22 => value(self, Action::Parameter),
            other => {
                self.unknown("atype", other, KNOWN);
                Action::Unknown
            }
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.rule.and_then(|rule| rule.get(key)).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, key: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.problems.push(Problem { index: Some(self.index), key, message, unknown_code: false });
    }

    fn unknown(&mut self, key: &'static str, code: i64, known: &str) {
        let message = format!("{code} is not known here; the rule is kept and has no effect. Known are {known}");
        self.problems.push(Problem { index: Some(self.index), key, message, unknown_code: true });
    }

    fn needed(&mut self, key: &'static str) -> Option<&mut Self> {
        if self.get(key).is_none() {
            self.wrong(key, "is missing");
            return None;
        }
        Some(self)
    }

    fn code(&mut self, key: &'static str, known: &str) -> Option<i64> {
        if self.get(key).is_none() {
            self.wrong(key, format!("is missing; known are {known}"));
            return None;
        }
        self.whole(key, -1_000_000..=1_000_000)
    }

    fn number(&mut self, key: &'static str, least: f64, most: f64) -> Option<f64> {
        let value = self.get(key)?;
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let message = format!("expected a number from {least} to {most}, found {}", describe(value));
            self.wrong(key, message);
        }
        number
    }

    fn whole(&mut self, key: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.get(key)?;
        #[expect(clippy::cast_possible_truncation, reason = "only what is whole and small; `as` saturates")]
        let whole = |number: f64| (number.fract() == 0.0).then_some(number as i64);
        let number = value.as_i64().or_else(|| value.as_f64().and_then(whole)).filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            let message = format!("expected a whole number from {least} to {most}, found {}", describe(value));
            self.wrong(key, message);
        }
        number
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        let flag = match (value, value.as_f64()) {
            (Value::Bool(flag), _) => Some(*flag),
            (_, Some(0.0)) => Some(false),
            (_, Some(1.0)) => Some(true),
            _ => None,
        };
        if flag.is_none() {
            let message = format!("expected true or false, found {}", describe(value));
            self.wrong(key, message);
        }
        flag
    }

    fn variable(&mut self) -> Option<Name> {
        let text = self.needed("name")?.get("name")?.clone();
        let name = text.as_str().and_then(variable);
        if name.is_none() {
            let message = format!("expected a variable like CM.x, E1.x or _rule_id, found {}", describe(&text));
            self.wrong("name", message);
        }
        name
    }

    fn formula(&mut self, key: &'static str, default: Option<&str>) -> Option<Formula> {
        let text = match (self.get(key), default) {
            (Some(Value::Number(number)), _) => match number.as_f64() {
                // `{}` of a number never writes an exponent.
                Some(number) => format!("{number}"),
                None => number.to_string(),
            },
            (Some(Value::String(text)), _) => text.clone(),
            (Some(other), _) => {
                let message = format!("expected a number or a formula, found {}", describe(other));
                self.wrong(key, message);
                return None;
            }
            (None, Some(default)) => default.to_owned(),
            (None, None) => {
                self.wrong(key, "is missing; expected a number or a formula");
                return None;
            }
        };
        let parsed = Formula::parse(&text);
        parsed.inspect_err(|error| self.wrong(key, format!("{error}; in \"{}\"", short(&text)))).ok()
    }
}

/// The names that belong to a run of the rules and may be set.
const LOCAL: [&str; 4] = ["_rule_val", "_rule_id", "_rule_min", "_undercut"];

/// `CM.x`, `E1.x`, `M2.x` and the names that belong to a run.
fn variable(text: &str) -> Option<Name> {
    let formula = Formula::parse(text).ok()?;
    // The name and nothing else.
    let [name] = formula.names() else { return None };
    let alone = text.trim().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    let may = match name.object {
        Object::Own => LOCAL.contains(&&*name.member),
        Object::Manager | Object::Evse(_) | Object::Meter(_) => !name.member.contains('.'),
        _ => false,
    };
    (alone && may).then(|| name.clone())
}
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("\"{}\"", short(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".into(),
    }
}

/// Long texts are cut: messages end up in logs.
pub(super) fn short(text: &str) -> String {
    let cut: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}
