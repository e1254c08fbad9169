//! `CM.`: what the Charging Manager knows itself, and its variables.

use std::collections::HashMap;

use ladekern_definition::formula::{Name, Object};

use super::look::Look;
use super::names::{is_of_manager, surplus_name};
use crate::config::{Config, DeviceConfig};
use crate::site::{Board, DeviceKind, DeviceStatus, Moment, Role, quantities};

/// A member; `name` has the object [`Object::Manager`].
pub(super) fn member(look: &Look, name: &Name) -> Option<f64> {
    let member = &*name.member;
    match built_in(look, member) {
        Some(value) => value,
        None => variable(look, name),
    }
}

/// A variable of the configuration, else one that a device sets. A flag that nobody sets is off.
fn variable(look: &Look, name: &Name) -> Option<f64> {
    let value = look.parts.variables.get(name).or_else(|| look.set_by_devices().get(&*name.member).copied());
    value.or_else(|| flag(&name.member).map(|_| 0.0))
}

/// The number of `_flag1` to `_flag32`.
pub(super) fn flag(member: &str) -> Option<u32> {
    let number = member.strip_prefix("_flag").filter(|digits| !digits.starts_with('0'))?;
    number.parse().ok().filter(|number| (1..=32).contains(number))
}

/// Surplus in W after `surplus_expr`.
pub(super) fn surplus(look: &Look) -> Option<f64> {
    if look.parts.config.load.surplus_expr.is_none() {
        return look.flows().surplus.power_w;
    }
    look.parts.variables.get(&surplus_name())
}

/// `None`: no name of the Charging Manager's own.
fn built_in(look: &Look, member: &str) -> Option<Option<f64>> {
    if !member.starts_with('_') {
        return None;
    }
    let set = |member: &str| variable(look, &Name::new(Object::Manager, member));
    let config = &look.parts.config;
    Some(match member {
        "_num_charging" => Some(look.charging()),
        "_surplus" => surplus(look),
        "_org_surplus" => look.flows().surplus.power_w,
        "_max_total_current" => {
            config.circuits.first().and_then(|root| root.limit_ma.iter().min()).map(|ma| f64::from(*ma))
        }
        "_max_total_current_prc" => Some(config.load.max_total_cur_prc.into()),
        "_price" => set("_set_price"),
        "_price_level" => set("_set_price_level"),
        "_storage_home_soc" => soc(look, Role::StorageHome),
        "_storage_all_soc" => soc(look, Role::StorageAll),
        "_dt" => Some(config.load.cycle.as_secs_f64()),
        _ if is_of_manager(member) => None,
        _ => return None,
    })
}

/// How many wallboxes charge now.
pub(super) fn charging(look: &Look) -> f64 {
    let evse = |device: &&DeviceConfig| device.enabled && device.id.kind() == DeviceKind::Evse;
    let charges = |device: &&DeviceConfig| {
        let state = super::device::member(look, DeviceKind::Evse, device.id.number(), "state");
        state.is_some_and(|state| state == 3.0 || state == 4.0)
    };
    let count = look.parts.config.devices.iter().filter(evse).filter(charges).count();
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

/// The mean of the batteries of a role; without one of them there is none.
fn soc(look: &Look, role: Role) -> Option<f64> {
    let batteries = look.parts.config.devices.iter().filter(|device| device.enabled && device.role == role);
    let (mut sum, mut count) = (0.0, 0.0);
    for device in batteries {
        let fresh =
            |status: &DeviceStatus| status.values.fresh(quantities::BATTERY_SOC, status.not_before(look.parts.at));
        sum += look.parts.board.with(&device.id, fresh).flatten()?;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

/// The variables that definitions of devices set; of several devices, the first one of the configuration that says it now.
pub(super) fn set_by_devices(config: &Config, board: &Board, now: Moment) -> HashMap<String, f64> {
    let mut values = HashMap::new();
    for device in config.devices.iter().filter(|device| device.enabled) {
        board.with(&device.id, |status| {
            for (name, value) in status.values.fresh_below(quantities::MANAGER, status.not_before(now)) {
                values.entry(name.to_owned()).or_insert(value);
            }
        });
    }
    values
}
