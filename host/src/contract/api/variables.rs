//! `set_cm_vars`, `set_cm_var` and `get_cm_vars` (`cfos-interfaces.md` 1.10 and 7.2, rows 7 to 10). A value is a number
//! or a formula.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::{Edit, Expr, VariableConfig, Volatile, variable_name};

use super::super::variables as shape;
use super::{Answer, Api, Call, Refusal, args, bad, body, required, values};

/// More than anybody has, and few enough for every client and cycle.
const MOST: usize = 1_000;

/// The only variable that is a setting as well.
const SHARE: &str = "_max_total_current_prc";

pub(super) fn get(api: &Api) -> Answer {
    Answer::of(&shape(&api.source.config.borrow(), &api.source.variables()))
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

async fn change(api: &Api, wanted: BTreeMap<String, Expr>, clear: bool, tmp: bool) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let now = api.source.config.borrow().variables.clone();
    let mut volatile = Vec::new();
    let mut edits = Vec::new();
    if clear {
        // First of all: what is set below comes after it.
        volatile.push(Volatile::ClearVariables);
    }
    let (aliases, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(name, _)| is_share(name));
    volatile.extend(aliases.iter().map(|(_, expr)| share(expr)).collect::<Result<Vec<_>, _>>()?);
    // Names are the same whatever their case: a variable keeps the name it has.
    let known = |name: String| now.keys().find(|known| known.eq_ignore_ascii_case(&name)).cloned().unwrap_or(name);
    let wanted: BTreeMap<String, Expr> = wanted.into_iter().map(|(name, expr)| (known(name), expr)).collect();
    let new = wanted.keys().filter(|name| !now.contains_key(*name)).count();
    if new > 0 && !clear && now.len() + new > MOST || wanted.len() > MOST {
        return Err(bad(format!("there would be more than {MOST} variables; clear=1 removes all others")));
    }
    if clear {
        let others = now.keys().filter(|name| !tmp && !wanted.contains_key(*name));
        edits.extend(others.map(|name| Edit::Remove { key: vec!["variables".into(), name.clone()] }));
    }
    for (name, expr) in wanted {
        if tmp {
            volatile.push(Volatile::Variable { name, value: Some(expr) });
        } else {
            // A temporary value would hide the one of the file. A value that the file has already is no write.
            volatile.push(Volatile::Variable { name: name.clone(), value: None });
            edits.push(edit(name, &expr, &now));
        }
    }
    api.settings.change(edits, volatile).await?;
    // Who reads now sees what came of it.
    api.variables.recompute();
    Ok(Answer::ok())
}

/// `_max_total_current_prc` is another name of `max_total_cur_prc`.
fn is_share(name: &str) -> bool {
    name.eq_ignore_ascii_case(SHARE)
}

fn share(expr: &Expr) -> Result<Volatile, Refusal> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    match expr {
        Expr::Number(value) if (0.0..=100.0).contains(value) && value.fract() == 0.0 => {
            Ok(Volatile::MaxTotalCurPrc(*value as u8))
        }
        _ => Err(bad(format!("{SHARE}: expected a whole number from 0 to 100, found {expr}"))),
    }
}

/// One that is written as a table keeps what else stands there.
fn edit(name: String, expr: &Expr, now: &BTreeMap<String, VariableConfig>) -> Edit {
    let table = now.get(&name).is_some_and(|variable| variable.table);
    let mut key = vec!["variables".into(), name];
    key.extend(table.then(|| "expr".into()));
    Edit::Set { key, value: toml(expr) }
}

/// Whole numbers without a point.
#[expect(clippy::cast_possible_truncation, reason = "only what is whole and fits")]
fn toml(expr: &Expr) -> toml_edit::Value {
    match expr {
        Expr::Number(value) if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 => (*value as i64).into(),
        Expr::Number(value) => (*value).into(),
        Expr::Formula(formula) => formula.text().into(),
    }
}

fn of_args(call: &Call) -> Result<BTreeMap<String, Expr>, Refusal> {
    let name = required(call, "name", "x")?;
    let value = call.args.get("val").or_else(|| call.args.get("expr"));
    let value = value.ok_or_else(|| bad("val is missing, like val=1"))?;
    Ok(BTreeMap::from([(named(name)?, expression("val", value)?)]))
}

fn of_body(body: &[u8]) -> Result<BTreeMap<String, Expr>, Refusal> {
    let body = values::object(body)?;
    let vars = body.get("vars").ok_or_else(|| bad("vars is missing, like {\"vars\":[{\"name\":\"x\",\"expr\":1}]}"))?;
    let mut wanted = BTreeMap::<String, Expr>::new();
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
            Some(Value::String(text)) => expression(&format!("{key}.expr"), text)?,
            Some(Value::Number(value)) => value
                .as_f64()
                .filter(|value| value.is_finite())
                .map(Expr::Number)
                .ok_or_else(|| bad(format!("{key}.expr: expected a finite number")))?,
            Some(other) => {
                let found = values::describe(other);
                return Err(bad(format!("{key}.expr: expected a number or a formula, found {found}")));
            }
            None => return Err(bad(format!("{key}.expr is missing; expected a number or a formula"))),
        };
        if wanted.keys().any(|other| other.eq_ignore_ascii_case(&name)) {
            return Err(bad(format!("{key}.name: {name} is given twice")));
        }
        wanted.insert(name, value);
    }
    Ok(wanted)
}

/// `CM.x` is `x`.
fn named(name: &str) -> Result<String, Refusal> {
    let name = match name.split_at_checked(3) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("CM.") => rest,
        _ => name,
    };
    if !is_share(name) {
        variable_name(name).map_err(|why| bad(format!("name: {why}; found \"{}\"", args::short(name))))?;
    }
    Ok(name.to_owned())
}

/// A number or a formula.
fn expression(key: &str, text: &str) -> Result<Expr, Refusal> {
    Expr::parse(text).map_err(|why| bad(format!("{key}: {why}")))
}
