//! Compares decoded keys with a fixture's expected ones: tolerances, further accepted values, keys that are not
//! checked because they are missing.

use serde_json::{Map, Value};

/// Everything that differs, one sentence each; empty if all is as expected.
#[must_use]
pub fn differences(expected: &Map<String, Value>, decoded: &Map<String, Value>) -> Vec<String> {
    let meta = expected.get("_meta").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (key, wanted) in expected.iter().filter(|(key, _)| *key != "_meta") {
        let got = decoded.get(key).unwrap_or(&Value::Null);
        let tolerance = meta.get("tolerance").and_then(|t| t.get(key)).and_then(Value::as_f64);
        let tolerance = tolerance.unwrap_or_else(|| default_tolerance(key));
        let accepted = meta.get("accept").and_then(|a| a.get(key)).and_then(Value::as_array);
        let mut all = std::iter::once(wanted).chain(accepted.into_iter().flatten());
        if !all.any(|wanted| same(wanted, got, tolerance)) {
            found.push(format!("{key}: expected {wanted}, decoded {got}"));
        }
    }
    found
}

/// Half of what a device's last digit means to people.
fn default_tolerance(key: &str) -> f64 {
    match key {
        "power_w" | "power_phase_w" => 0.05,
        "voltage" => 0.01,
        "current" | "limit_ma" => 1.0,
        "frequency" => 0.002,
        "import_wh" | "export_wh" | "session_wh" => 0.5,
        _ => 0.0,
    }
}

fn same(wanted: &Value, got: &Value, tolerance: f64) -> bool {
    match (wanted, got) {
        (Value::Array(wanted), Value::Array(got)) => {
            wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| same(wanted, got, tolerance))
        }
        (Value::Number(wanted), Value::Number(got)) => match (wanted.as_f64(), got.as_f64()) {
            (Some(wanted), Some(got)) => (wanted - got).abs() <= tolerance,
            _ => false,
        },
        _ => wanted == got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(expected: Value, decoded: Value, wrong: &[&str]) {
        let (Value::Object(expected), Value::Object(decoded)) = (expected, decoded) else { panic!("objects") };
        let found = differences(&expected, &decoded);
        assert_eq!(found.len(), wrong.len(), "{found:?}");
        for (found, key) in found.iter().zip(wrong) {
            assert!(found.starts_with(key), "{found}");
        }
    }

    #[test]
    fn unknown_is_not_zero_and_missing_is_not_checked() {
        check(json!({"power_w": null}), json!({"power_w": 0}), &["power_w"]);
        check(json!({"power_w": 0}), json!({"power_w": null}), &["power_w"]);
        check(json!({}), json!({"power_w": 1}), &[]);
        check(json!({"soc": null}), json!({}), &[]);
    }

    #[test]
    fn numbers_have_tolerances_and_alternatives() {
        check(json!({"power_w": 1.0}), json!({"power_w": 1.04}), &[]);
        check(json!({"power_w": 1.0}), json!({"power_w": 1.06}), &["power_w"]);
        check(json!({"power_w": 1, "_meta": {"tolerance": {"power_w": 2}}}), json!({"power_w": 3}), &[]);
        check(json!({"state": "F", "_meta": {"accept": {"state": ["E"]}}}), json!({"state": "E"}), &[]);
        check(json!({"current": [1000, null, 0]}), json!({"current": [1001, null, 0]}), &[]);
        check(json!({"current": [1000, null, 0]}), json!({"current": [1000, 0, 0]}), &["current"]);
    }
}
