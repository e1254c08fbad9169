//! What comes out: the table on the terminal and `target/bench/summary.json`.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// What a number should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// One measured number.
#[derive(Clone, Debug)]
pub struct Number {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// `None`: shown beside another one for comparison.
    pub target: Option<Target>,
}

impl Number {
    pub fn at_most(name: &'static str, value: f64, unit: &'static str, target: f64) -> Self {
        Self { name, value, unit, target: Some(Target::AtMost(target)) }
    }

    pub fn at_least(name: &'static str, value: f64, unit: &'static str, target: f64) -> Self {
        Self { name, value, unit, target: Some(Target::AtLeast(target)) }
    }

    pub fn beside(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { name, value, unit, target: None }
    }

    /// Whether the target is met; without one there is nothing to miss.
    pub fn ok(&self) -> bool {
        match self.target {
            Some(Target::AtMost(most)) => self.value <= most,
            Some(Target::AtLeast(least)) => self.value >= least,
            None => true,
        }
    }
}

/// One line for each number.
pub fn table(numbers: &[Number]) -> String {
    let mut text = String::new();
    for number in numbers {
        let (target, verdict) = match number.target {
            Some(Target::AtMost(most)) => (format!("≤ {most}"), if number.ok() { "ok" } else { "MISSED" }),
            Some(Target::AtLeast(least)) => (format!("≥ {least}"), if number.ok() { "ok" } else { "MISSED" }),
            None => (String::new(), ""),
        };
        let Number { name, unit, .. } = number;
        let value = rounded(number.value);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<30} {value:>12} {unit:<7} {target:>8}  {verdict}");
    }
    text
}

/// Writes `target/bench/summary.json`: name → value, unit, target, ok.
pub fn save(numbers: &[Number]) -> anyhow::Result<()> {
    let target = |number: &Number| match number.target {
        Some(Target::AtMost(target) | Target::AtLeast(target)) => json!(target),
        None => Value::Null,
    };
    let entry = |number: &Number| {
        let body = json!({ "value": number.value, "unit": number.unit, "target": target(number), "ok": number.ok() });
        (number.name.to_owned(), body)
    };
    let summary: Map<String, Value> = numbers.iter().map(entry).collect();
    let folder = ladekern_tests::root().join("target/bench");
    let file = folder.join("summary.json");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, format!("{:#}\n", Value::Object(summary))))
        .with_context(|| file.display().to_string())
}

/// Three digits are more than any of these measurements is good for.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
