//! `CM.`: what the Charging Manager knows itself, and its variables.

use std::sync::Arc;

use ladekern_definition::formula::{Name, Object};

use super::look::Look;
use crate::config::DeviceConfig;
use crate::site::{DeviceKind, quantities};

/// A member; `name` has the object [`Object::Manager`].
pub(super) fn member(look: &Look, name: &Name) -> Option<f64> {
    let member = &*name.member;
    match built_in(look, member) {
        Some(value) => value,
        None => look.parts.variables.get(name).or_else(|| by_device(look, member)),
    }
}

/// Surplus in W after `surplus_expr`.
pub(super) fn surplus(look: &Look) -> Option<f64> {
    if look.parts.config.load.surplus_expr.is_none() {
        return look.flows().surplus.power_w;
    }
    look.parts.variables.get(&Name { object: Object::Manager, member: Arc::from("_surplus") })
}

/// `None`: no name of the Charging Manager's own.
fn built_in(look: &Look, member: &str) -> Option<Option<f64>> {
    let config = &look.parts.config;
    Some(match member {
        "_num_charging" => Some(charging(look)),
        "_surplus" => surplus(look),
        "_org_surplus" => look.flows().surplus.power_w,
        "_max_total_current" => {
            config.circuits.first().and_then(|root| root.limit_ma.iter().min()).map(|ma| f64::from(*ma))
        }
        "_max_total_current_prc" => Some(config.load.max_total_cur_prc.into()),
        "_dt" => Some(config.load.cycle.as_secs_f64()),
        _ => return None,
    })
}

/// Wallboxes that charge now.
fn charging(look: &Look) -> f64 {
    let evse = |device: &&DeviceConfig| device.enabled && device.id.kind() == DeviceKind::Evse;
    let charges = |device: &&DeviceConfig| {
        let state = super::device::member(look, DeviceKind::Evse, device.id.number(), "state");
        state.is_some_and(|state| state == 3.0 || state == 4.0)
    };
    let count = look.parts.config.devices.iter().filter(evse).filter(charges).count();
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

/// A variable that a device's definition sets; of several, the first device of the configuration that says it now.
fn by_device(look: &Look, member: &str) -> Option<f64> {
    let name = format!("{}{member}", quantities::MANAGER);
    let now = look.parts.at;
    let fresh = |device: &DeviceConfig| {
        look.parts.board.with(&device.id, |status| status.values.fresh(&name, status.not_before(now))).flatten()
    };
    look.parts.config.devices.iter().filter(|device| device.enabled).find_map(fresh)
}
