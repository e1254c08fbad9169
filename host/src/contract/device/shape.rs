//! The keys of one device, old and new names side by side. What each holds is listed in `docs/contract-fields.md`.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::{DeviceObject, NOMINAL_V, dev_type};
use crate::contract::number::Number;
use crate::site::{DeviceKind, Role, quantities};

/// What a date says that has never been: clients parse it.
const NEVER: &str = "1970-01-01T00:00:00.000Z";

impl Serialize for DeviceObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.common(&mut map)?;
        match self.device.id.kind() {
            DeviceKind::Evse => {
                self.evse(&mut map)?;
                self.session(&mut map)?;
            }
            DeviceKind::Meter => self.meter(&mut map)?,
        }
        map.end()
    }
}

impl DeviceObject<'_> {
    fn common<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("dev_type", &dev_type(self.device))?;
        map.serialize_entry("device_enabled", &u8::from(self.device.enabled))?;
        map.serialize_entry("name", &self.device.name)?;
        map.serialize_entry("address", &self.address())?;
        if let Some(host) = self.ip_address() {
            map.serialize_entry("ip_address", host)?;
        }
        map.serialize_entry("id", &self.device.unit())?;
        map.serialize_entry("dev_id", self.device.id.as_str())?;
        map.serialize_entry("number", &self.number)?;
        map.serialize_entry("desc", &self.device.desc)?;
        map.serialize_entry("com_err", &self.com_err())?;
        map.serialize_entry("com_err_secs", &self.com_err_secs())?;
        map.serialize_entry("com_errors", &self.status.map_or(0, |status| status.errors))?;
        map.serialize_entry("status", &self.text_of_health())?;
        map.serialize_entry("last_error", self.status.map_or("", |status| &status.last_error))?;
        // Ours: why an edited file is not in force.
        if let Some(reason) = self.status.and_then(|status| status.update_failed.as_ref()) {
            map.serialize_entry("update_error", reason)?;
        }
        map.serialize_entry("is_evse", &(self.device.id.kind() == DeviceKind::Evse))?;
        map.serialize_entry("model", &self.model())?;
        for name in ["current_l1", "current_l2", "current_l3"].into_iter().zip(quantities::CURRENT) {
            map.serialize_entry(name.0, &self.number(name.1))?;
        }
        map.serialize_entry("power_w", &Number(self.power().unwrap_or_default()))?;
        // What this version does not have: inputs and outputs, history, switches of the original's own pages.
        map.serialize_entry("inputs", "")?;
        map.serialize_entry("outputs", "")?;
        for name in ["has_history", "hide_dev", "show_chart_in_dev_info", "show_chart_in_overview", "is_mock"] {
            map.serialize_entry(name, &false)?;
        }
        map.serialize_entry("show_in_overview", &true)?;
        map.serialize_entry("user_info", &self.user_info())
    }

    fn evse<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("used_phases", &self.used_phases())?;
        map.serialize_entry("min_charging_cur", &self.device.min_ma)?;
        map.serialize_entry("max_charging_cur", &self.device.max_ma)?;
        let phases = self.device.phases.map_or(3, |map| map.of.iter().flatten().count());
        let max_power = f64::from(self.device.max_ma) / 1000.0 * NOMINAL_V * if phases == 1 { 1.0 } else { 3.0 };
        map.serialize_entry("max_power", &Number(max_power.round()))?;
        map.serialize_entry("prio", &self.device.priority)?;
        map.serialize_entry("charging_enabled", &self.charging_enabled())?;
        map.serialize_entry("cur_charging_power", &Number(self.power().unwrap_or_default()))?;
        map.serialize_entry("last_set_charging_cur", &self.last_set_ma())?;
        map.serialize_entry("total_energy", &Number(self.total_energy()))?;
        map.serialize_entry("phases", &self.phases())?;
        map.serialize_entry("phase_rotation", &self.phase_rotation())?;
        map.serialize_entry("state", &self.state())?;
        map.serialize_entry("lreason", &0)?;
        map.serialize_entry("paused", &self.paused())?;
        map.serialize_entry("pause_reason", &self.pause_reason())?;
        map.serialize_entry("pause_time", &self.pause_time_s())?;
        map.serialize_entry("pause_min_time", &0)?;
        // Ours, likewise.
        if let Some(mistakes) = self.rules_error {
            map.serialize_entry("rules_error", mistakes)?;
        }
        // Of the first generation.
        map.serialize_entry("ocpp", &serde_json::json!({ "status": "disabled" }))?;
        map.serialize_entry("ucnt", &0)?;
        map.serialize_entry("evse", &self.built_in())
    }

    /// What goes on between plug-in and unplug.
    fn session<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let session = self.session.cloned().unwrap_or_default();
        map.serialize_entry("label", if session.plugged { self.device.label.as_str() } else { "" })?;
        if let Some(meter) = &self.device.meter {
            map.serialize_entry("attach", meter.as_str())?;
        }
        map.serialize_entry("needs_auth", &session.needs_auth)?;
        let overrides = session.overrides;
        let bits = [overrides.charging_off, overrides.rules_off, overrides.user_rules_off];
        let bits = bits.into_iter().rev().fold(0, |bits, on| bits << 1 | u8::from(on));
        map.serialize_entry("overrides", &bits)?;
        if let Some(ma) = overrides.max_ma {
            map.serialize_entry("ov_cur", &ma)?;
        }
        map.serialize_entry("ta_en", &Number(session.energy_wh))?;
        map.serialize_entry("charging_dur", &session.charging_s)
    }

    fn built_in(&self) -> BuiltIn {
        let state = self.state();
        BuiltIn {
            dc_sensor_faults: 0,
            dc_last_test_time: NEVER,
            dc_sensor_fault: self.dc_fault(),
            dc_sensor_glitches: 0,
            cp_state: match state {
                1 => "Standby",
                2 => "Vehicle detected",
                3 | 4 => "Charging",
                5 => "Error",
                _ => "Offline",
            },
            cp_fault: self.no_pilot(),
            pp_state: self.cable(),
            charging: matches!(state, 3 | 4),
            current: self.last_set_ma().max(0),
            enabled: self.charging_enabled(),
        }
    }

    fn meter<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        // A meter's conductors are the circuit's L1, L2, L3.
        map.serialize_entry("used_phases", &7)?;
        map.serialize_entry("factor", &1)?;
        map.serialize_entry("invert", &false)?;
        map.serialize_entry("is_va", &self.is_va())?;
        map.serialize_entry("import", &self.number(quantities::ENERGY_IMPORT))?;
        map.serialize_entry("export", &self.number(quantities::ENERGY_EXPORT))?;
        map.serialize_entry("power", &Number(self.power().unwrap_or_default()))?;
        for name in ["voltage_l1", "voltage_l2", "voltage_l3"].into_iter().zip(quantities::VOLTAGE) {
            map.serialize_entry(name.0, &self.number(name.1))?;
        }
        if let Some(soc) = self.value(quantities::BATTERY_SOC) {
            map.serialize_entry("soc", &Number(soc))?;
        }
        let role = Role::ALL.iter().position(|role| *role == self.device.role).unwrap_or_default();
        map.serialize_entry("role", &role)
    }
}

/// `evse`: an object that only built-in wallboxes have in the original and that clients look for in all.
#[derive(Serialize)]
struct BuiltIn {
    dc_sensor_faults: u8,
    dc_last_test_time: &'static str,
    dc_sensor_fault: bool,
    dc_sensor_glitches: u8,
    cp_state: &'static str,
    cp_fault: bool,
    pp_state: &'static str,
    charging: bool,
    current: i64,
    enabled: bool,
}
