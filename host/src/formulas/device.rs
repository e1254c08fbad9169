//! `E1.`, `M1.` and names without prefix: members of a device. Only what is fresh.

use super::facts::{IN_USE_MA, NOMINAL_V, connector_state, power_w, turned};
use super::flow::largest;
use super::look::Look;
use super::manager::surplus;
use crate::config::DeviceConfig;
use crate::load::ChargerPlan;
use crate::site::quantities::{self, CURRENT};
use crate::site::{DeviceKind, DeviceStatus, Moment};

/// How long a device may be silent before `com_err2`, in ms.
const LONG_SILENCE_MS: u64 = 12_000;

/// A member by its lower-case name.
pub(super) fn member(look: &Look, kind: DeviceKind, number: u32, member: &str) -> Option<f64> {
    let (_, device) = look.device(kind, number)?;
    configured(device, member)
        .or_else(|| decided(look, device, member))
        .or_else(|| look.parts.board.with(&device.id, |status| measured(device, status, look.parts.at, member))?)
        .or_else(|| silence_of_nobody(look, device, member))
}

/// What the configuration says.
fn configured(device: &DeviceConfig, member: &str) -> Option<f64> {
    let is_evse = device.id.kind() == DeviceKind::Evse;
    let phases = || device.phases.map_or(3, |map| map.of.iter().flatten().count());
    match member {
        "id" => Some(device.unit().into()),
        "min_current" if is_evse => Some(device.min_ma.into()),
        "max_current" if is_evse => Some(device.max_ma.into()),
        "pphases" if is_evse => u8::try_from(phases()).ok().map(f64::from),
        _ => None,
    }
}

/// What the load manager and the session say about a wallbox.
fn decided(look: &Look, device: &DeviceConfig, member: &str) -> Option<f64> {
    let plan = || look.parts.plan.plan.chargers.get(&device.id);
    let session = || look.parts.sessions.get(&device.id);
    #[expect(clippy::cast_precision_loss, reason = "currents and durations are far below 2^53")]
    match member {
        "dt" => Some(look.parts.config.load.cycle.as_secs_f64()),
        "surplus_pcur" if device.id.kind() == DeviceKind::Evse => {
            let phases = device.phases.map_or(3, |map| map.of.iter().flatten().count());
            surplus(look).map(|watts| watts * 1_000.0 / NOMINAL_V / if phases == 1 { 1.0 } else { 3.0 })
        }
        "offered" => plan().map(|plan| plan.granted.0 as f64),
        "lb_cur" => plan().map(|plan: &ChargerPlan| plan.share.0 as f64),
        "lb_cur_l1" | "lb_cur_l2" | "lb_cur_l3" => {
            let phase = match member {
                "lb_cur_l1" => 0,
                "lb_cur_l2" => 1,
                _ => 2,
            };
            let connected = device.phases.is_none_or(|map| map.of.into_iter().flatten().any(|used| used == phase));
            plan().map(|plan| if connected { plan.share.0 as f64 } else { 0.0 })
        }
        "txn_energy" => session().map(|session| session.energy_wh),
        "charging_dur" => session().map(|session| session.charging_s as f64),
        "txn_duration" => {
            let session = session()?;
            if !session.plugged {
                return Some(0.0);
            }
            let start = i64::try_from(session.start_unix_s?).ok()?;
            Some((look.local_time()?.timestamp().as_second() - start).max(0) as f64)
        }
        _ => None,
    }
}

/// What the device says.
fn measured(device: &DeviceConfig, status: &DeviceStatus, now: Moment, member: &str) -> Option<f64> {
    let not_before = status.not_before(now);
    let fresh = |name: &str| status.values.fresh(name, not_before);
    let is_evse = device.id.kind() == DeviceKind::Evse;
    let [l1, l2, l3] = CURRENT;
    match member {
        "current_l1" => fresh(l1),
        "current_l2" => fresh(l2),
        "current_l3" => fresh(l3),
        "current" => largest(CURRENT.map(fresh)),
        "power_w" => power_w(device, fresh),
        "reactive_power" => fresh(quantities::POWER_REACTIVE),
        "import_wh" => fresh(quantities::ENERGY_IMPORT),
        "export_wh" => fresh(quantities::ENERGY_EXPORT),
        "soc" => fresh(quantities::BATTERY_SOC),
        "com_err" => Some(f64::from(status.com_err(now))),
        "com_err2" => {
            let silent = status.values.newest().is_none_or(|at| now.0.saturating_sub(at.0) > LONG_SILENCE_MS);
            Some(f64::from(status.com_err(now) && silent))
        }
        "state" if is_evse => {
            if status.com_err(now) || !device.enabled {
                return Some(6.0);
            }
            let connector = status.values.connector().map(|connector| connector.value).unwrap_or_default();
            Some(connector_state(connector, fresh).into())
        }
        "cphases" if is_evse => {
            let currents = CURRENT.map(fresh);
            if currents.iter().all(Option::is_none) {
                return fresh(quantities::PHASES_ACTIVE);
            }
            let used = currents.into_iter().flatten().filter(|ma| ma.abs() >= IN_USE_MA).count();
            u8::try_from(used).ok().map(f64::from)
        }
        _ => {
            let variable = fresh(&format!("{}{member}", quantities::VARIABLE));
            let input = || fresh(&format!("{}{}", quantities::INPUT, member.strip_prefix("input")?));
            variable.or_else(input).or_else(|| of_definitions(device, member, fresh))
        }
    }
}

/// What definition files know by name beside the original's members, so that their outputs see what their formulas see. A
/// variable of the same name comes before.
fn of_definitions(device: &DeviceConfig, member: &str, fresh: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let ([v1, v2, v3], [w1, w2, w3]) = (quantities::VOLTAGE, quantities::POWER);
    let power = |name: &str| fresh(name).map(|power| if turned(device) { -power } else { power });
    match member {
        "voltage_l1" => fresh(v1),
        "voltage_l2" => fresh(v2),
        "voltage_l3" => fresh(v3),
        "power_w_l1" => power(w1),
        "power_w_l2" => power(w2),
        "power_w_l3" => power(w3),
        "power_va" => power(quantities::POWER_APPARENT),
        "power_var" => power(quantities::POWER_REACTIVE),
        "frequency" => fresh(quantities::FREQUENCY),
        _ => None,
    }
}

/// A device nobody runs says nothing, and that can be said.
fn silence_of_nobody(look: &Look, device: &DeviceConfig, member: &str) -> Option<f64> {
    let runs = look.parts.board.with(&device.id, |_| ()).is_some();
    match member {
        "com_err" | "com_err2" if !runs => Some(f64::from(device.enabled)),
        "state" if !runs && device.id.kind() == DeviceKind::Evse => Some(6.0),
        _ => None,
    }
}
