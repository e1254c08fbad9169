//! Charging rules as clients read and write them: `crule_set` of `get_devices` and `set_device`, and the list under
//! `charging_rules` of devices and users (`cfos-interfaces.md` 1.10 and 3.3). Pure.

use serde_json::{Map, Value, json};

use crate::rules;

use super::{Refusal, bad};

/// Largest set of charging rules that is kept, as text.
const MOST: usize = 64 << 10;
/// Mistakes that are told at once.
const MOST_MISTAKES: usize = 5;

/// `{"rule_set":{"":[…]},"selected_id":""}` of what is stored: what is missing in it is added, nothing is taken away.
pub(super) fn sets(stored: Option<&str>) -> Value {
    let stored = stored.and_then(|rules| serde_json::from_str(rules).ok());
    let mut sets = match stored {
        Some(Value::Object(sets)) => sets,
        Some(list @ Value::Array(_)) => Map::from_iter([("rule_set".to_owned(), json!({ "": list }))]),
        _ => Map::new(),
    };
    sets.entry("rule_set").or_insert_with(|| json!({ "": [] }));
    sets.entry("selected_id").or_insert_with(|| "".into());
    Value::Object(sets)
}

/// The list of the own rule set.
pub(super) fn own(sets: &Value) -> Value {
    let own = sets.get("rule_set").and_then(|sets| sets.get(""));
    own.cloned().unwrap_or_else(|| Value::Array(Vec::new()))
}

/// The text to be kept of rules that are all right; codes that nobody here knows are kept.
pub(super) fn text(key: &str, value: &Value) -> Result<String, Refusal> {
    let text = value.to_string();
    if text.len() > MOST {
        return Err(bad(format!("{key}: {} bytes; expected at most {MOST}", text.len())));
    }
    rules::check(value).map_err(|mistakes| {
        let more = if mistakes.len() > MOST_MISTAKES { "; and more" } else { "" };
        let told: Vec<&str> = mistakes.iter().take(MOST_MISTAKES).map(String::as_str).collect();
        bad(format!("{key}: {}{more}", told.join("; ")))
    })?;
    Ok(text)
}
