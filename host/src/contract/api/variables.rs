//! `set_cm_vars`, `set_cm_var` and `get_cm_vars` (`cfos-interfaces.md` 1.10 and 7.2, rows 7 to 10). Values are
//! numbers; formulas are not in this version and are refused.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::{Edit, Volatile, variable_name};

use super::super::variables as shape;
use super::{Answer, Api, Call, Refusal, args, bad, body, required, values};

/// More than anybody has, and few enough for every client and cycle.
const MOST: usize = 1_000;

pub(super) fn get(api: &Api) -> Answer {
    Answer::of(&shape(&api.source.config.borrow()))
}

/// GET `name=x&val=1`, or a body `{"vars":[{"name":"x","expr":1}]}`. `tmp=1`: in force until the next start and never
/// written. `clear=1`: no other variable stays; with `tmp=1` those of the file do, because nothing is written then.
pub(super) async fn set(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let clear = values::flag_arg(call, "clear")?;
    let wanted = if !body(call).is_empty() {
        of_body(&call.body)?
    } else if clear && call.args.get("name").is_none() {
        BTreeMap::new()
    } else {
        of_args(call)?
    };
    change(api, wanted, clear, values::flag_arg(call, "tmp")?).await
}

/// GET `name=x&val=0/1`.
pub(super) async fn set_one(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    change(api, of_args(call)?, false, values::flag_arg(call, "tmp")?).await
}

async fn change(api: &Api, wanted: BTreeMap<String, f64>, clear: bool, tmp: bool) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let now = api.source.config.borrow().variables.clone();
    let new = wanted.keys().filter(|name| !now.contains_key(*name)).count();
    if new > 0 && !clear && now.len() + new > MOST || wanted.len() > MOST {
        return Err(bad(format!("there would be more than {MOST} variables; clear=1 removes all others")));
    }
    let mut edits = Vec::new();
    let mut volatile = Vec::new();
    if clear {
        // First of all: what is set below comes after it.
        volatile.push(Volatile::ClearVariables);
        let others = now.keys().filter(|name| !tmp && !wanted.contains_key(*name));
        edits.extend(others.map(|name| Edit::Remove { key: vec!["variables".into(), name.clone()] }));
    }
    for (name, value) in wanted {
        if tmp {
            volatile.push(Volatile::Variable { name, value: Some(value) });
        } else {
            // A temporary value would hide the one of the file. A value that the file has already is no write.
            volatile.push(Volatile::Variable { name: name.clone(), value: None });
            edits.push(Edit::Set { key: vec!["variables".into(), name], value: toml(value) });
        }
    }
    api.settings.change(edits, volatile).await?;
    Ok(Answer::ok())
}

/// Whole numbers without a point.
#[expect(clippy::cast_possible_truncation, reason = "only what is whole and fits")]
fn toml(value: f64) -> toml_edit::Value {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 { (value as i64).into() } else { value.into() }
}

fn of_args(call: &Call) -> Result<BTreeMap<String, f64>, Refusal> {
    let name = required(call, "name", "x")?;
    let value = call.args.get("val").or_else(|| call.args.get("expr"));
    let value = value.ok_or_else(|| bad("val is missing, like val=1"))?;
    Ok(BTreeMap::from([(named(name)?, number("val", value)?)]))
}

fn of_body(body: &[u8]) -> Result<BTreeMap<String, f64>, Refusal> {
    let body = values::object(body)?;
    let vars = body.get("vars").ok_or_else(|| bad("vars is missing, like {\"vars\":[{\"name\":\"x\",\"expr\":1}]}"))?;
    let mut wanted = BTreeMap::new();
    for (index, entry) in values::list("vars", vars)?.iter().enumerate() {
        let key = format!("vars[{index}]");
        let entry = values::inner(&key, entry)?;
        let name = match entry.get("name") {
            Some(Value::String(name)) => named(name)?,
            Some(other) => return Err(bad(format!("{key}.name: expected a text, found {}", values::describe(other)))),
            None => return Err(bad(format!("{key}.name is missing"))),
        };
        // What get_cm_vars shows can be sent back.
        let value = ["expr", "val", "value"].iter().find_map(|key| entry.get(*key));
        let value = match value {
            Some(Value::String(text)) => number(&format!("{key}.expr"), text)?,
            Some(Value::Number(value)) => value
                .as_f64()
                .filter(|value| value.is_finite())
                .ok_or_else(|| bad(format!("{key}.expr: expected a finite number")))?,
            Some(other) => {
                return Err(bad(format!("{key}.expr: expected a number, found {}", values::describe(other))));
            }
            None => return Err(bad(format!("{key}.expr is missing; expected a number"))),
        };
        if wanted.insert(name.clone(), value).is_some() {
            return Err(bad(format!("{key}.name: {name} is given twice")));
        }
    }
    Ok(wanted)
}

fn named(name: &str) -> Result<String, Refusal> {
    variable_name(name).map_err(|why| bad(format!("name: {why}; found \"{}\"", args::short(name))))?;
    Ok(name.to_owned())
}

/// Text that is a number.
fn number(key: &str, text: &str) -> Result<f64, Refusal> {
    values::number_arg(key, text).map_err(|_| {
        let text = args::short(text);
        bad(format!("{key}: expected a number, found \"{text}\"; formulas are not in this version"))
    })
}
