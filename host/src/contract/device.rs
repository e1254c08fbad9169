//! One entry of `devices`, also the payload of `get/<dev_id>`. Fields and units: `cfos-interfaces.md` 1.3.2 to 1.3.4
//! and 7.1; old and new names side by side, because clients of both generations are in use.

mod shape;

use std::collections::BTreeMap;

use crate::config::{BrokerRef, DeviceConfig, EndpointUrl, HTTP_INPUT, PhaseMap};
use crate::formulas;
use crate::load::{ChargerPlan, Reason};
use crate::session::Session;
use crate::site::{Connector, DeviceKind, DeviceStatus, Info, Moment, quantities};

use super::number::Number;

/// Current in mA above which a phase counts as in use.
const IN_USE_MA: f64 = 500.0;
/// Voltage to compute with where none is measured.
const NOMINAL_V: f64 = 230.0;
/// `error.code` of a wallbox whose sensor of residual direct current reports a fault.
const DC_SENSOR: f64 = 9.0;

/// One device at one moment. Serialises without an intermediate tree.
#[derive(Clone, Copy, Debug)]
pub struct DeviceObject<'a> {
    /// Its entry in the file.
    pub device: &'a DeviceConfig,
    /// The number that people know it by: the file's, else its place in the file, from 1.
    pub number: u32,
    /// `None`: nobody runs it (it is disabled, or just starting).
    pub status: Option<&'a DeviceStatus>,
    /// What the load manager decided; `None` for meters and before the first cycle.
    pub plan: Option<&'a ChargerPlan>,
    /// What is wrong with its charging rules or those of its user.
    pub rules_error: Option<&'a str>,
    /// What goes on at it; `None` for meters.
    pub session: Option<&'a Session>,
    /// The meter in front of a wallbox.
    pub pinned: Option<&'a DeviceStatus>,
    /// The present moment.
    pub now: Moment,
}

/// `evse_ajax`, `meter_ajax` for what is fed; else the original's name where clients look for it, `evse_powerbrain`;
/// else the plugin's id or the definition's type with underscores, `evse_go_e`.
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
    let name = match device_type {
        HTTP_INPUT => "ajax".to_owned(),
        // Some clients handle only wallboxes of this type (cfos-interfaces.md 7.1, COBOT).
        "cfos-power-brain" => "powerbrain".to_owned(),
        driver => driver.replace('-', "_"),
    };
    // Definitions for the original bring the prefix along.
    match name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('_')) {
        true => name,
        false => format!("{prefix}_{name}"),
    }
}

impl DeviceObject<'_> {
    /// The number that people know a device by: the file's, else its place in the file, counted from 1.
    #[must_use]
    pub fn number_of(index: usize, device: &DeviceConfig) -> u32 {
        device.number.unwrap_or(u32::try_from(index + 1).unwrap_or(u32::MAX))
    }

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
        formulas::power_w(self.device, |name| self.value(name))
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
        formulas::connector_state(self.connector(), |name| self.value(name))
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

    /// 0 none, 1 current limit, 2 charging rules, 3 forbidden by somebody or not authorised, 5 error.
    fn pause_reason(&self) -> u8 {
        match self.plan.map(|plan| &plan.reason) {
            _ if !self.paused() => 0,
            Some(Reason::Forbidden) => 3,
            _ if self.session.is_some_and(|session| session.overrides.charging_off || session.needs_auth) => 3,
            Some(Reason::Rules(_)) => 2,
            Some(Reason::NotAvailable | Reason::NoCircuit | Reason::NotAccepting) => 5,
            _ => 1,
        }
    }

    fn pause_time_s(&self) -> u64 {
        let since = self.plan.map(|plan| plan.since).or(self.status.and_then(|s| s.commanded).map(|c| c.at));
        if self.paused() { since.map_or(0, |since| self.now.since(since).as_secs()) } else { 0 }
    }

    /// Lifetime energy in Wh: the wallbox's own counter, else that of the meter in front of it, else what is counted for
    /// it.
    fn total_energy(&self) -> f64 {
        let pinned = || self.pinned?.values.get(quantities::ENERGY_IMPORT).map(|measured| measured.value);
        let counted = || self.session.and_then(|session| session.soft_meter_wh);
        self.value(quantities::ENERGY_IMPORT).or_else(pinned).or_else(counted).unwrap_or_default()
    }

    fn connector(&self) -> Connector {
        let connector = self.status.and_then(|status| status.values.connector());
        connector.map(|measured| measured.value).unwrap_or_default()
    }

    /// The wallbox says that its sensor of residual direct current has tripped or failed.
    fn dc_fault(&self) -> bool {
        self.connector() == Connector::Fault && self.value(quantities::ERROR_CODE) == Some(DC_SENSOR)
    }

    fn no_pilot(&self) -> bool {
        self.connector() == Connector::NoPilot
    }

    fn cable(&self) -> &'static str {
        // What is fed tells its own maximum under the name of the cable's.
        let told = self.value(quantities::LIMIT_CABLE).filter(|_| self.device.device_type != HTTP_INPUT);
        let there = told.map_or_else(|| self.connector().plugged(), |ma| ma > 0.0);
        if there { "cable" } else { "no cable" }
    }

    /// The host of a device on the network.
    fn ip_address(&self) -> Option<&str> {
        self.device.endpoints.values().find_map(|endpoint| match &endpoint.url {
            EndpointUrl::ModbusTcp { host, .. } | EndpointUrl::ModbusRtuTcp { host, .. } => Some(host.as_str()),
            EndpointUrl::Http(url) => host(url),
            EndpointUrl::ModbusRtu(_) | EndpointUrl::Mqtt(_) => None,
        })
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

    /// What the device itself says beside its quantities, and its definition wants people to see.
    fn user_info(&self) -> BTreeMap<&str, UserValue<'_>> {
        let Some(status) = self.status else { return BTreeMap::new() };
        let shown = status.info.shown.iter().filter_map(|name| {
            let quantity = format!("{}{}", quantities::VARIABLE, name.to_lowercase());
            let number = status.values.get(&quantity).map(|measured| UserValue::Number(Number(measured.value)));
            let text = || status.values.text(&quantity).map(|text| UserValue::Text(&text.value));
            Some((name.as_str(), number.or_else(text)?))
        });
        shown.collect()
    }

    fn text_of_health(&self) -> String {
        match self.status {
            None => String::new(),
            // Its driver runs, and nothing it says can be used.
            Some(status) if status.health.is_running() && self.com_err() => status.last_error.clone(),
            Some(status) if status.health.is_running() => String::new(),
            Some(status) => status.health.describe(),
        }
    }
}

/// A value of `user_info`.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum UserValue<'a> {
    Number(Number),
    Text(&'a str),
}

fn bits(map: PhaseMap, used: [bool; 3]) -> u8 {
    map.of
        .into_iter()
        .zip(used)
        .filter(|(_, used)| *used)
        .filter_map(|(phase, _)| phase)
        .fold(0, |bits, phase| bits | 1 << phase)
}

/// The host of `http://user@host:port/base`.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map(|(host, _)| host),
        None => host.split(':').next(),
    }
}
