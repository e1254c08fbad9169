//! The variables as clients read them: the answer to `get_cm_vars` and `cm_vars` of the `params` object
//! (`cfos-interfaces.md` 1.10). Which key holds the value is unknown, so it stands under both names in use.

use serde_json::{Value, json};

use crate::config::{Config, Expr, VariableConfig, variable_key};
use crate::site::VariableValues;

use super::number::Number;

/// `{"vars":[{"name","expr","val","value"}]}`, by name; temporary variables among them. `expr` is as written, a number
/// or a formula; a formula that has no value now shows 0.
#[must_use]
pub fn variables(config: &Config, values: &VariableValues) -> Value {
    let one = |(name, variable): (&String, &VariableConfig)| {
        let expr = match &variable.expr {
            Expr::Number(value) => json!(Number(*value)),
            Expr::Formula(formula) => json!(formula.text()),
        };
        let fixed = match variable {
            VariableConfig { expr: Expr::Number(value), trigger: None, .. } => Some(*value),
            _ => None,
        };
        let value = Number(values.get(&variable_key(name)).or(fixed).unwrap_or_default());
        json!({ "name": name, "expr": expr, "val": value, "value": value })
    };
    json!({ "vars": config.variables.iter().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_has_its_value_under_every_name() {
        let text = "[variables]\nb = 1.5\na = -2\nc = \"a * 2\"\nd = \"M1.power_w\"";
        let config = crate::config::parse("f", text, &[]).unwrap();
        let mut values = VariableValues::default();
        for (name, value) in [("a", -2.0), ("b", 1.5), ("c", -4.0)] {
            values.set(&variable_key(name), Some(value));
        }
        let wanted = json!({"vars": [
            {"name": "a", "expr": -2, "val": -2, "value": -2},
            {"name": "b", "expr": 1.5, "val": 1.5, "value": 1.5},
            {"name": "c", "expr": "a * 2", "val": -4, "value": -4},
            {"name": "d", "expr": "M1.power_w", "val": 0, "value": 0},
        ]});
        assert_eq!(variables(&config, &values), wanted);
    }
}
