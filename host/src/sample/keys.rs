//! Decoded values under the keys of the `.expected.json` files: `power_w`, `voltage`, `current` (mA), `state` …
//! What the device does not know is `null`.

use serde_json::{Map, Value, json};

use crate::site::{Info, Values, quantities as q};

/// Every key a payload's expected values may name. Numbers that are whole print as integers.
#[must_use]
pub fn expected_keys(values: &Values, info: &Info, kind: crate::site::DeviceKind) -> Map<String, Value> {
    let number = |name: &str| values.get(name).map_or(Value::Null, |m| plain(m.value));
    let phases = |names: [&str; 3]| Value::Array(names.iter().map(|name| number(name)).collect());
    let flag = |name: &str| values.get(name).map_or(Value::Null, |m| json!(m.value != 0.0));
    let mut keys = Map::new();
    let mut put = |key: &str, value: Value| keys.insert(key.to_owned(), value);
    put("power_w", number(q::POWER_TOTAL));
    put("power_phase_w", phases(q::POWER));
    put("voltage", phases(q::VOLTAGE));
    put("current", phases(q::CURRENT));
    put("frequency", number(q::FREQUENCY));
    put("import_wh", number(q::ENERGY_IMPORT));
    put("export_wh", number(q::ENERGY_EXPORT));
    if kind == crate::site::DeviceKind::Evse {
        let state = values.connector().and_then(|c| c.value.letter());
        put("state", state.map_or(Value::Null, |letter| json!(letter.to_string())));
        put("session_wh", number(q::ENERGY_SESSION));
        put("enabled", flag(q::CHARGING_ENABLED));
        put("limit_ma", number(q::LIMIT_CURRENT));
        put("phases", number(q::PHASES_ACTIVE));
        let rfid = values.text("rfid").filter(|m| !m.value.is_empty());
        put("rfid", rfid.map_or(Value::Null, |m| json!(m.value)));
        put("error", number(q::ERROR_CODE));
        let switches = info.features.iter().any(|feature| feature == "phases.switch");
        put("phase_switch", json!(switches));
    } else {
        put("soc", number(q::BATTERY_SOC));
    }
    keys
}

fn plain(value: f64) -> Value {
    // Whole numbers up to 2^53 are exact in a double and read better without ".0".
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53 by the line above")]
        let whole = value as i64;
        json!(whole)
    } else {
        json!(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{DeviceKind, Moment, Outcome};

    #[test]
    fn unknown_is_null_and_whole_is_an_integer() {
        let mut outcome = Outcome::default();
        outcome.push(q::POWER_TOTAL, 1658.0);
        outcome.push(q::FREQUENCY, 49.98);
        outcome.push(q::ENERGY_EXPORT, None);
        let mut values = Values::default();
        values.merge(outcome, Moment(1));
        let keys = expected_keys(&values, &Info::default(), DeviceKind::Meter);
        assert_eq!(keys["power_w"], json!(1658));
        assert_eq!(keys["frequency"], json!(49.98));
        assert_eq!(keys["export_wh"], Value::Null);
        assert_eq!(keys["voltage"], json!([null, null, null]));
        assert!(!keys.contains_key("state"), "a meter has no connector");
    }
}
