//! What a device's readings mean in the contract's terms. `value` tells the readings: the fresh ones for formulas, the
//! newest ones for what is shown to people. Pure.

use crate::config::{DeviceConfig, HTTP_INPUT};
use crate::site::{Connector, DeviceKind, Role, quantities};

/// Current in mA above which a phase counts as in use.
pub(super) const IN_USE_MA: f64 = 500.0;
/// Voltage to compute with where none is measured.
pub(super) const NOMINAL_V: f64 = 230.0;

/// Whether the contract's sign is the other one. Inside, a battery's discharge is positive; in the contract its charging
/// is. What is fed to us speaks the contract already.
pub(super) fn turned(device: &DeviceConfig) -> bool {
    matches!(device.role, Role::StorageHome | Role::StorageAll) && device.device_type != HTTP_INPUT
}

/// Power in the contract's sign, in W or VA: as measured, else of the phases, else the apparent one, else from currents
/// and voltages.
pub(crate) fn power_w(device: &DeviceConfig, value: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let measured = value(quantities::POWER_TOTAL).or_else(|| power_of_phases(&value));
    let power = measured.or_else(|| value(quantities::POWER_APPARENT)).or_else(|| computed_power(device, value))?;
    Some(if turned(device) { -power } else { power })
}

/// The sum of the phases' powers; none if a phase that is measured has none.
pub(crate) fn power_of_phases(value: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let mut power = None;
    for (phase, current) in quantities::POWER.into_iter().zip(quantities::CURRENT) {
        match value(phase) {
            Some(watts) => power = Some(power.unwrap_or_default() + watts),
            None if value(current).is_some() => return None,
            None => {}
        }
    }
    power
}

/// A meter's voltage has to be measured; a wallbox's may be assumed.
fn computed_power(device: &DeviceConfig, value: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let is_evse = device.id.kind() == DeviceKind::Evse;
    let mut power = None;
    for (current, voltage) in quantities::CURRENT.into_iter().zip(quantities::VOLTAGE) {
        let Some(current) = value(current) else { continue };
        let voltage = value(voltage).or(is_evse.then_some(NOMINAL_V))?;
        power = Some(power.unwrap_or_default() + current / 1000.0 * voltage);
    }
    power.map(f64::round)
}

/// 1 waiting, 2 car present, 3 charging, 4 charging with ventilation, 5 error. One that does not tell charges where
/// current flows.
pub(crate) fn connector_state(connector: Connector, value: impl Fn(&str) -> Option<f64>) -> u8 {
    match connector {
        Connector::Available => 1,
        Connector::Connected => 2,
        Connector::Charging => 3,
        Connector::Ventilation => 4,
        Connector::NoPilot | Connector::Fault => 5,
        Connector::Unknown => {
            let flows = |name| value(name).is_some_and(|current| current >= IN_USE_MA);
            if quantities::CURRENT.into_iter().any(flows) { 3 } else { 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_phases_make_the_power_unless_one_is_missing() {
        let sum = |known: &[(&str, f64)]| {
            power_of_phases(|name| known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        assert_eq!(sum(&[("power.l1", -500.0), ("power.l2", 200.0), ("power.l3", 1.5)]), Some(-298.5));
        assert_eq!(sum(&[("power.l1", 700.0), ("current.l1", 3_000.0)]), Some(700.0), "one phase");
        assert_eq!(sum(&[("power.l1", 700.0), ("current.l1", 3_000.0), ("current.l2", 100.0)]), None);
        assert_eq!(sum(&[("current.l1", 3_000.0)]), None);
    }
}
