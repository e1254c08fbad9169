//! One entry of `devices`, also the payload of `get/<dev_id>`. Fields and units: `cfos-interfaces.md` 1.3.2 to 1.3.4
//! and 7.1; old and new names side by side, because clients of both generations are in use.

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::config::{BrokerRef, DeviceConfig, EndpointUrl, HTTP_INPUT, PhaseMap};
use crate::load::{ChargerPlan, Reason};
use crate::site::{Connector, DeviceKind, DeviceStatus, Health, Info, Moment, Role, quantities};

use super::number::Number;

/// Current in mA above which a phase counts as in use.
const IN_USE_MA: f64 = 500.0;
/// Voltage to compute with where none is measured.
const NOMINAL_V: f64 = 230.0;

/// One device at one moment. Serialises without an intermediate tree.
#[derive(Clone, Copy, Debug)]
pub struct DeviceObject<'a> {
    /// Its entry in the file.
    pub device: &'a DeviceConfig,
    /// Its place in the file, from 1.
    pub number: usize,
    /// `None`: nobody runs it (it is disabled, or just starting).
    pub status: Option<&'a DeviceStatus>,
    /// What the load manager decided; `None` for meters and before the first cycle.
    pub plan: Option<&'a ChargerPlan>,
    /// The present moment.
    pub now: Moment,
}

/// `evse_ajax`, `meter_ajax` for what is fed; else the plugin's id with underscores, `evse_go_e`.
#[must_use]
pub fn dev_type(device: &DeviceConfig) -> String {
    dev_type_of(device.id.kind(), &device.device_type)
}

/// As [`dev_type`], of a `type` of the file.
pub(super) fn dev_type_of(kind: DeviceKind, device_type: &str) -> String {
    let prefix = match kind {
        DeviceKind::Evse => "evse",
        DeviceKind::Meter => "meter",
    };
    let name = if device_type == HTTP_INPUT { "ajax".to_owned() } else { device_type.replace('-', "_") };
    format!("{prefix}_{name}")
}

impl DeviceObject<'_> {
    /// Whether what the device says is missing or too old. A disabled device is not expected to say anything.
    #[must_use]
    pub fn com_err(&self) -> bool {
        self.device.enabled && self.status.is_none_or(|status| status.com_err(self.now))
    }

    /// The newest value, however old; `com_err` stands beside it.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.status?.values.get(name).map(|measured| measured.value)
    }

    fn number(&self, name: &str) -> Number {
        Number(self.value(name).unwrap_or_default())
    }

    /// Power in the contract's sign, in W or VA: as measured, else from currents and voltages.
    pub(super) fn power(&self) -> Option<f64> {
        let measured = self.value(quantities::POWER_TOTAL).or_else(|| self.value(quantities::POWER_APPARENT));
        let power = measured.or_else(|| self.computed_power())?;
        // Inside, a battery's discharge is positive; in the contract its charging is. What is fed to us speaks the
        // contract already and goes out as it came in.
        let turned =
            matches!(self.device.role, Role::StorageHome | Role::StorageAll) && self.device.device_type != HTTP_INPUT;
        Some(if turned { -power } else { power })
    }

    /// A meter's voltage has to be measured; a wallbox's may be assumed, its power is shown to people only.
    fn computed_power(&self) -> Option<f64> {
        let is_evse = self.device.id.kind() == DeviceKind::Evse;
        let mut power = None;
        for (current, voltage) in quantities::CURRENT.into_iter().zip(quantities::VOLTAGE) {
            let Some(current) = self.value(current) else { continue };
            let voltage = self.value(voltage).or(is_evse.then_some(NOMINAL_V))?;
            power = Some(power.unwrap_or_default() + current / 1000.0 * voltage);
        }
        power.map(f64::round)
    }

    /// Whether the power is an apparent one.
    fn is_va(&self) -> bool {
        self.value(quantities::POWER_TOTAL).is_none() && self.value(quantities::POWER_APPARENT).is_some()
    }

    fn com_err_secs(&self) -> u64 {
        if !self.com_err() {
            return 0;
        }
        let since = self.status.and_then(|status| {
            let silent = status.values.newest().map(|at| at.after(status.stale_after));
            status.failing_since.into_iter().chain(silent).min()
        });
        // What never said anything has been silent since the start, at 1 000 ms.
        self.now.since(since.unwrap_or(Moment(1_000))).as_secs()
    }

    /// Bits of the circuit's phases the device is connected to; 0: not known.
    fn used_phases(&self) -> u8 {
        self.device.phases.map_or(0, |map| bits(map, [true; 3]))
    }

    /// Bits of the circuit's phases in use now.
    fn phases(&self) -> u8 {
        let map = self.device.phases.unwrap_or(PhaseMap { of: [Some(0), Some(1), Some(2)] });
        let currents = quantities::CURRENT.map(|name| self.value(name));
        if currents.iter().any(Option::is_some) {
            return bits(map, currents.map(|current| current.is_some_and(|current| current.abs() >= IN_USE_MA)));
        }
        let active = self.value(quantities::PHASES_ACTIVE).unwrap_or_default();
        if self.state() == 3 { bits(map, [active >= 1.0, active >= 2.0, active >= 3.0]) } else { 0 }
    }

    /// 0, 1, 2 for 0, 120, 240 degrees.
    fn phase_rotation(&self) -> u8 {
        self.device.phases.and_then(|map| map.of.first().copied().flatten()).unwrap_or(0)
    }

    /// 1 waiting, 2 car present, 3 charging, 4 charging with ventilation, 5 error, 6 offline.
    pub(super) fn state(&self) -> u8 {
        if self.com_err() || !self.device.enabled {
            return 6;
        }
        let connector = self.status.and_then(|status| status.values.connector()).map(|measured| measured.value);
        match connector.unwrap_or_default() {
            Connector::Available => 1,
            Connector::Connected => 2,
            Connector::Charging => 3,
            Connector::Ventilation => 4,
            Connector::NoPilot | Connector::Fault => 5,
            // The device does not tell; where current flows, a car charges.
            Connector::Unknown => {
                let flows = |name| self.value(name).is_some_and(|current| current >= IN_USE_MA);
                if quantities::CURRENT.into_iter().any(flows) { 3 } else { 1 }
            }
        }
    }

    fn last_set_ma(&self) -> i64 {
        self.status.and_then(|status| status.commanded).map_or(-1, |commanded| commanded.value.into())
    }

    pub(super) fn charging_enabled(&self) -> bool {
        let reported = self.value(quantities::CHARGING_ENABLED).map(|enabled| enabled != 0.0);
        reported.or(self.status.and_then(|status| status.enable_ordered)).unwrap_or(true)
    }

    /// The current it was told last, in mA.
    pub(super) fn told_ma(&self) -> Option<f64> {
        self.status.and_then(|status| status.commanded).map(|commanded| commanded.value.into())
    }

    /// Told not to charge although a car may be there.
    fn paused(&self) -> bool {
        self.last_set_ma() == 0 && self.state() != 1
    }

    /// 0 none, 1 current limit, 3 forbidden by somebody or not authorised, 5 error.
    fn pause_reason(&self) -> u8 {
        match self.plan.map(|plan| &plan.reason) {
            _ if !self.paused() => 0,
            Some(Reason::Forbidden) => 3,
            Some(Reason::NotAvailable | Reason::NoCircuit | Reason::NotAccepting) => 5,
            _ => 1,
        }
    }

    fn pause_time_s(&self) -> u64 {
        let since = self.plan.map(|plan| plan.since).or(self.status.and_then(|s| s.commanded).map(|c| c.at));
        if self.paused() { since.map_or(0, |since| self.now.since(since).as_secs()) } else { 0 }
    }

    /// `Manufacturer,device,device version,firmware,serial`; of what is fed, the text it gives.
    fn model(&self) -> String {
        let Some(Info { model, serial, firmware, .. }) = self.status.map(|status| &status.info) else {
            return String::new();
        };
        let model = model.as_deref().unwrap_or_default();
        if self.device.device_type == HTTP_INPUT {
            return model.to_owned();
        }
        let part = |text: &Option<String>| text.as_deref().unwrap_or_default().replace(',', " ");
        let parts: Vec<&str> = model.split(',').collect();
        let (maker, name, version) = match parts.as_slice() {
            [_, _, _, _, _] => return model.to_owned(),
            [""] if serial.is_none() && firmware.is_none() => return String::new(),
            [maker, name, version] => (*maker, *name, *version),
            [maker, name] => (*maker, *name, ""),
            _ => return format!(",{},,{},{}", model.replace(',', " "), part(firmware), part(serial)),
        };
        format!("{maker},{name},{version},{},{}", part(firmware), part(serial))
    }

    /// As configured, without credentials.
    fn address(&self) -> String {
        if self.device.feed != BrokerRef::Off {
            return self.device.feed.to_string();
        }
        self.device.endpoints.values().next().map(|endpoint| endpoint.url.to_string()).unwrap_or_default()
    }

    /// The Modbus unit, 1 for everything else.
    fn id(&self) -> u8 {
        let endpoints = self.device.endpoints.values();
        let mut modbus =
            endpoints.filter(|endpoint| !matches!(endpoint.url, EndpointUrl::Http(_) | EndpointUrl::Mqtt(_)));
        modbus.next().and_then(|endpoint| endpoint.unit).unwrap_or(1)
    }

    fn text_of_health(&self) -> String {
        match self.status.map(|status| &status.health) {
            None | Some(Health::Running) => String::new(),
            Some(health) => health.describe(),
        }
    }

    fn common<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("dev_type", &dev_type(self.device))?;
        map.serialize_entry("device_enabled", &u8::from(self.device.enabled))?;
        map.serialize_entry("name", &self.device.name)?;
        map.serialize_entry("address", &self.address())?;
        map.serialize_entry("id", &self.id())?;
        map.serialize_entry("dev_id", self.device.id.as_str())?;
        map.serialize_entry("number", &self.number)?;
        map.serialize_entry("desc", &self.device.desc)?;
        map.serialize_entry("com_err", &self.com_err())?;
        map.serialize_entry("com_err_secs", &self.com_err_secs())?;
        map.serialize_entry("com_errors", &self.status.map_or(0, |status| status.errors))?;
        map.serialize_entry("status", &self.text_of_health())?;
        map.serialize_entry("last_error", self.status.map_or("", |status| &status.last_error))?;
        map.serialize_entry("is_evse", &(self.device.id.kind() == DeviceKind::Evse))?;
        map.serialize_entry("model", &self.model())?;
        for name in ["current_l1", "current_l2", "current_l3"].into_iter().zip(quantities::CURRENT) {
            map.serialize_entry(name.0, &self.number(name.1))?;
        }
        map.serialize_entry("power_w", &Number(self.power().unwrap_or_default()))
    }

    fn evse<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let state = self.state();
        map.serialize_entry("used_phases", &self.used_phases())?;
        map.serialize_entry("label", "")?;
        map.serialize_entry("min_charging_cur", &self.device.min_ma)?;
        map.serialize_entry("max_charging_cur", &self.device.max_ma)?;
        let phases = self.device.phases.map_or(3, |map| map.of.iter().flatten().count());
        let max_power = f64::from(self.device.max_ma) / 1000.0 * NOMINAL_V * if phases == 1 { 1.0 } else { 3.0 };
        map.serialize_entry("max_power", &Number(max_power.round()))?;
        map.serialize_entry("prio", &self.device.priority)?;
        map.serialize_entry("charging_enabled", &self.charging_enabled())?;
        map.serialize_entry("cur_charging_power", &Number(self.power().unwrap_or_default()))?;
        map.serialize_entry("last_set_charging_cur", &self.last_set_ma())?;
        map.serialize_entry("total_energy", &self.number(quantities::ENERGY_IMPORT))?;
        map.serialize_entry("ta_en", &self.number(quantities::ENERGY_SESSION))?;
        map.serialize_entry("charging_dur", &0)?;
        map.serialize_entry("phases", &self.phases())?;
        map.serialize_entry("phase_rotation", &self.phase_rotation())?;
        map.serialize_entry("state", &state)?;
        map.serialize_entry("lreason", &0)?;
        map.serialize_entry("paused", &self.paused())?;
        map.serialize_entry("pause_reason", &self.pause_reason())?;
        map.serialize_entry("pause_time", &self.pause_time_s())?;
        map.serialize_entry("pause_min_time", &0)?;
        map.serialize_entry("needs_auth", &false)?;
        map.serialize_entry("overrides", &0)?;
        map.serialize_entry(
            "evse",
            &BuiltIn {
                cp_state: match state {
                    1 => "Standby",
                    2 => "Vehicle detected",
                    3 | 4 => "Charging",
                    5 => "Error",
                    _ => "Offline",
                },
                pp_state: "no cable",
                charging: matches!(state, 3 | 4),
                current: self.last_set_ma().max(0),
                enabled: self.charging_enabled(),
            },
        )
    }

    fn meter<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        // A meter's conductors are the circuit's L1, L2, L3.
        map.serialize_entry("used_phases", &7)?;
        map.serialize_entry("factor", &1)?;
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
    cp_state: &'static str,
    pp_state: &'static str,
    charging: bool,
    current: i64,
    enabled: bool,
}

impl Serialize for DeviceObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.common(&mut map)?;
        match self.device.id.kind() {
            DeviceKind::Evse => self.evse(&mut map)?,
            DeviceKind::Meter => self.meter(&mut map)?,
        }
        map.end()
    }
}

fn bits(map: PhaseMap, used: [bool; 3]) -> u8 {
    map.of
        .into_iter()
        .zip(used)
        .filter(|(_, used)| *used)
        .filter_map(|(phase, _)| phase)
        .fold(0, |bits, phase| bits | 1 << phase)
}
