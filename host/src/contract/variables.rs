//! The Charging Manager variables as clients read them: the answer to `get_cm_vars` and `cm_vars` of the `params`
//! object (`cfos-interfaces.md` 1.10). Which key holds the value is unknown, so it stands under both names in use.

use serde_json::{Value, json};

use crate::config::Config;

use super::number::Number;

/// `{"vars":[{"name","expr","val","value"}]}`, by name; temporary variables among them.
#[must_use]
pub fn variables(config: &Config) -> Value {
    let variable = |(name, value): (&String, &f64)| {
        let value = Number(*value);
        json!({ "name": name, "expr": value, "val": value, "value": value })
    };
    json!({ "vars": config.variables.iter().map(variable).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variable_has_its_value_under_every_name() {
        let config = crate::config::parse("f", "[variables]\nb = 1.5\na = -2", &[]).unwrap();
        let wanted = json!({"vars": [
            {"name": "a", "expr": -2, "val": -2, "value": -2},
            {"name": "b", "expr": 1.5, "val": 1.5, "value": 1.5},
        ]});
        assert_eq!(variables(&config), wanted);
    }
}
