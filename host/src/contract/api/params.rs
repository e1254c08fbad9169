//! `set_params` (`cfos-interfaces.md` 1.4): any subset of the keys of `get_params`. A client may send back what it
//! has read. All or nothing: one wrong key, and nothing changes.
//!
//! Keys of the contract come in four kinds. Settings that this version has are changed. Values that are only shown
//! are ignored, as are keys nobody knows. Settings that this version lacks are taken as long as they say what
//! `get_params` shows, and refused otherwise: "ok" means that it is so.

use serde_json::{Map, Value};

use crate::config::{DisablePolicy, Edit, LoadMode, Volatile};

use super::super::{Params, SiteView};
use super::{Answer, Api, Call, Refusal, bad, devices, values};

/// Settings of the contract that this version lacks.
const NOT_HERE: &[&str] = &[
    "cm_flags",
    "cm_outs",
    "feed_in_tariff",
    "fixed_price",
    "imbalance_add",
    "max_imbalance",
    "max_imbalance_cur",
    "max_total_evse_current",
    "max_total_evse_power",
    "min_pause_time",
    "phase_switch_delay",
    "price_model",
    "reduce_on_com_err",
    "tibber_home_id",
];

/// What a call changes.
#[derive(Default)]
struct Changes {
    edits: Vec<Edit>,
    volatile: Vec<Volatile>,
    reset_overdraft: bool,
}

impl Changes {
    fn set(&mut self, section: &str, key: &str, value: impl Into<toml_edit::Value>) {
        self.edits.push(Edit::Set { key: vec![section.into(), key.into()], value: value.into() });
    }

    fn formula(&mut self, key: Vec<String>, text: String) {
        self.edits.push(if text.is_empty() { Edit::Remove { key } } else { Edit::Set { key, value: text.into() } });
    }
}

pub(super) async fn set(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let body = values::object(&call.body)?;
    let view = api.source.view();
    let shown = serde_json::to_value(Params(&view)).unwrap_or_default();
    let mut changes = Changes::default();
    let mut unknown = 0;
    for (key, value) in &body {
        let at = shown.get(key);
        if at.is_some_and(|at| values::same(at, value)) && !is_overdraft(key) {
            continue;
        }
        let known = of_site(&view, key, value, &mut changes)?
            || of_load(&view, key, value, &mut changes)?
            || refused(key, value, at)?
            || at.is_some();
        unknown += u32::from(!known && key != "devices");
    }
    if let Some(list) = body.get("devices") {
        changes.edits.extend(devices::edits(api, &view, list)?);
    }
    if unknown > 0 {
        tracing::debug!("set_params: {unknown} unknown keys ignored");
    }
    if !changes.edits.is_empty() || !changes.volatile.is_empty() {
        api.settings.change(changes.edits, changes.volatile).await?;
        api.variables.recompute();
    }
    if changes.reset_overdraft {
        api.source.reset_overdraft();
    }
    Ok(Answer::ok())
}

fn is_overdraft(key: &str) -> bool {
    matches!(key, "overdraft_cur" | "max_overdraft_cur")
}

/// Texts and the house connection. Whether the key is one of these.
fn of_site(view: &SiteView, key: &str, value: &Value, changes: &mut Changes) -> Result<bool, Refusal> {
    match key {
        "title" => changes.set("site", "title", values::line(key, value, values::NAME)?),
        "desc" => changes.set("site", "desc", values::lines(key, value, values::DESCRIPTION)?),
        // The number stays the bound, a formula lowers it.
        "max_total_current_expr" => total_expr(view, key, value, changes)?,
        "max_total_current" if values::is_formula(value) => total_expr(view, key, value, changes)?,
        "max_total_current" => {
            let ma = values::whole(key, value, 0..=10_000_000)?;
            // The parents stand before their children, so the first one is the house connection.
            let root = view.config.circuits.first();
            let root = root.ok_or_else(|| bad("max_total_current: the configuration has no [[circuit]] to limit"))?;
            let limits = toml_edit::Array::from_iter([ma; 3]);
            let key = vec!["circuit".into(), root.id.clone(), "limit_ma".into()];
            changes.edits.push(Edit::Set { key, value: limits.into() });
        }
        // Zero forgets the largest overload seen. Anything else is a value that was shown and comes back.
        _ if is_overdraft(key) => changes.reset_overdraft |= value.as_f64() == Some(0.0),
        _ => return Ok(false),
    }
    Ok(true)
}

/// The formula of the house connection; an empty text removes it.
fn total_expr(view: &SiteView, key: &str, value: &Value, changes: &mut Changes) -> Result<(), Refusal> {
    let formula = values::formula(key, value)?;
    let root = view.config.circuits.first();
    let root = root.ok_or_else(|| bad(format!("{key}: the configuration has no [[circuit]] to limit")))?;
    changes.formula(vec!["circuit".into(), root.id.clone(), "limit_ma_expr".into()], formula);
    Ok(())
}

/// How the load manager works. Whether the key is one of these.
fn of_load(view: &SiteView, key: &str, value: &Value, changes: &mut Changes) -> Result<bool, Refusal> {
    let load = &view.config.load;
    match key {
        "lb_enabled" => {
            let (mode, word) =
                if values::flag(key, value)? { (LoadMode::Manage, "manage") } else { (LoadMode::Observe, "observe") };
            if mode != load.mode {
                changes.set("load", "mode", word);
            }
        }
        "disable_policy" => {
            let number = values::whole(key, value, -1..=1)?;
            let policy = match number {
                0 => DisablePolicy::Stop,
                1 => DisablePolicy::Minimum,
                _ => DisablePolicy::Unlimited,
            };
            if policy != load.disable_policy {
                changes.set("load", "disable_policy", number);
            }
        }
        "surplus_expr" => {
            let formula = values::formula(key, value)?;
            changes.formula(vec!["load".into(), "surplus_expr".into()], formula);
        }
        "reserve_current" => changes.set("load", "reserve_ma", values::whole(key, value, 0..=10_000_000)?),
        "max_total_cur_prc" => {
            let percent = u8::try_from(values::whole(key, value, 0..=100)?).unwrap_or(100);
            changes.volatile.push(Volatile::MaxTotalCurPrc(percent));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// What is a setting of the contract and none of this version. `shown` is what `get_params` says.
fn refused(key: &str, value: &Value, shown: Option<&Value>) -> Result<bool, Refusal> {
    let instead = match key {
        "max_total_power" => "; set max_total_current in mA",
        "power_reserve" => "; set reserve_current in mA",
        "cm_vars" => "; variables are set with set_cm_vars",
        _ if NOT_HERE.contains(&key) || key.starts_with("ocpp_") => "",
        _ => return Ok(false),
    };
    let expected = match shown {
        None if values::is_nothing(value) => return Ok(true),
        Some(shown) if value.is_null() && values::is_nothing(shown) => return Ok(true),
        None => "0, false or empty".to_owned(),
        Some(shown) => values::describe(shown),
    };
    let found = values::describe(value);
    Err(bad(format!("{key}: this version cannot do that, it is always {expected}; found {found}{instead}")))
}

/// The object of `get/params` and `dev_meta`, which the first generation of clients reads here.
pub(super) fn get(api: &Api) -> Answer {
    let view = api.source.view();
    let mut params = serde_json::to_value(Params(&view)).unwrap_or_default();
    if let Value::Object(params) = &mut params {
        let types = super::super::dev_types(&view.config, api.devices.definitions());
        let types: Map<String, Value> = types.into_iter().map(|(name, label)| (name, Value::String(label))).collect();
        params.insert("dev_meta".into(), Value::Object(types));
    }
    Answer::of(&params)
}
