//! `get_devices`, `set_device`, `del_device` and `reset_device` (`cfos-interfaces.md` 1.10). A client reads a whole
//! device, changes a key and sends it back; what is as it was is not written.

use serde_json::{Value, json};

use crate::config::{DeviceConfig, Edit};
use crate::site::DeviceKind;

use super::super::SiteView;
use super::super::number::Number;
use super::device_change::{self, Target};
use super::{Answer, Api, Call, Refusal, UNKNOWN_DEVICE, bad, rules, values};

/// Every device with everything about it. No password is among it.
pub(super) fn all(api: &Api) -> Answer {
    let view = api.source.view();
    Answer::of(&view.config.devices.iter().map(|device| full(&view, device)).collect::<Vec<_>>())
}

/// `{"devices":[<one full configuration>]}`
pub(super) async fn set(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let body = values::object(&call.body)?;
    let list =
        body.get("devices").ok_or_else(|| bad("devices is missing, like {\"devices\":[{\"dev_id\":\"E1\"}]}"))?;
    let edits = edits(api, &api.source.view(), list)?;
    if !edits.is_empty() {
        api.settings.change(edits, Vec::new()).await?;
    }
    Ok(Answer::ok())
}

/// What `devices` of a body changes; for `set_params` too, where clients sent it before `set_device` was there.
pub(super) fn edits(api: &Api, view: &SiteView, list: &Value) -> Result<Vec<Edit>, Refusal> {
    let [device] = values::list("devices", list)?.as_slice() else {
        return Err(bad("devices: expected a list of one device"));
    };
    let wanted = values::inner("devices[0]", device)?;
    let id = match wanted.get("dev_id") {
        Some(Value::String(id)) => values::device(id).map_err(|error| bad(format!("dev_id: {error}")))?,
        Some(other) => {
            return Err(bad(format!("dev_id: expected a text like E1, found {}", values::describe(other))));
        }
        None => return Err(bad("dev_id is missing, like E1")),
    };
    let plugins = api.devices.plugins();
    let present = view.config.devices.iter().find(|device| device.id == id);
    let shown = present.map(|device| full(view, device)).unwrap_or_default();
    let definitions = api.devices.definitions();
    device_change::edits(&Target { view, plugins: &plugins, definitions, id: &id, present, shown: &shown }, wanted)
}

/// The device as `get_devices` shows it.
fn full(view: &SiteView, device: &DeviceConfig) -> Value {
    let mut shown = view.device(&device.id).and_then(|object| serde_json::to_value(object).ok()).unwrap_or_default();
    let Some(members) = shown.as_object_mut() else { return shown };
    if device.id.kind() == DeviceKind::Meter {
        return shown;
    }
    let users = view.config.users.iter().filter(|user| user.devices.contains(&device.id));
    members.insert("users".into(), users.map(|user| user.id.as_str()).collect());
    members.insert("label".into(), device.label.as_str().into());
    members.insert("fixed_rfid".into(), device.fixed_rfid.as_deref().unwrap_or_default().into());
    let sets = rules::sets(device.charging_rules.as_deref());
    members.insert("charging_rules".into(), rules::own(&sets));
    members.insert("crule_set".into(), sets);
    if let Some(formula) = &device.max_ma_expr {
        members.insert("max_charging_cur_expr".into(), formula.text().into());
    }
    if let Some(meter) = &device.meter {
        members.insert("attach".into(), meter.as_str().into());
    }
    let counted = view.sessions.get(&device.id).and_then(|session| session.soft_meter_wh);
    if let Some(counted) = counted {
        members.insert("soft_meter".into(), json!(Number(counted)));
    }
    for (key, neutral) in device_change::NOT_HERE {
        members.entry(*key).or_insert_with(|| serde_json::from_str(neutral).unwrap_or_default());
    }
    shown
}

/// Refused while a circuit, a wallbox, a user or the Modbus server names the device: the configuration would be wrong.
pub(super) async fn delete(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let id = values::device_arg(call, "E1")?;
    if !api.source.config.borrow().devices.iter().any(|device| device.id == id) {
        return Err(Refusal::Exact(UNKNOWN_DEVICE));
    }
    let edit = Edit::RemoveEntry { list: "device", id: id.to_string() };
    api.settings.change(vec![edit], Vec::new()).await?;
    Ok(Answer::ok())
}

/// Starts the device's driver again. What is fed has no driver: there is nothing to start, and that is fine.
pub(super) fn reset(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let id = values::device_arg(call, "E1")?;
    let enabled = {
        let config = api.source.config.borrow();
        config.devices.iter().find(|device| device.id == id).map(|device| device.enabled)
    };
    match (enabled, api.devices.handle(&id)) {
        (None, _) => Err(Refusal::Exact(UNKNOWN_DEVICE)),
        (Some(false), _) => Err(bad(format!("{id} is disabled"))),
        (Some(true), None) => Err(Refusal::NotNow(format!("{id} is just being started"))),
        (Some(true), Some(handle)) => {
            handle.retry();
            Ok(Answer::ok())
        }
    }
}
