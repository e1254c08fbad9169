//! The site as rows of the live table: what each device says, what it was told, and why.

use super::table::Row;
use crate::config::DeviceConfig;
use crate::contract::SiteView;
use crate::load::CircuitId;
use crate::site::{DeviceKind, DeviceStatus, Health, Moment, quantities};

/// One row a device, and one a circuit.
#[must_use]
pub fn of(view: &SiteView) -> Vec<Row> {
    let devices = view.config.devices.iter().map(|device| {
        let status = view.snapshot.devices.get(&device.id).cloned().unwrap_or_default();
        device_row(view, device, &status)
    });
    devices.chain(view.config.circuits.iter().filter_map(|circuit| circuit_row(view, &circuit.id))).collect()
}

fn device_row(view: &SiteView, device: &DeviceConfig, status: &DeviceStatus) -> Row {
    let now = view.snapshot.at;
    let plan = view.plan.plan.chargers.get(&device.id);
    let why = match (&status.health, plan) {
        (Health::Running, Some(plan)) => plan.reason.to_string(),
        (Health::Running, None) => String::new(),
        (health, _) => health.describe(),
    };
    Row {
        device: format!("{} {}", device.id, device.name),
        state: state(device.id.kind(), status, now),
        current_ma: status
            .values
            .fresh_phases(quantities::CURRENT, status.not_before(now))
            .map(|current| current.map(|ma| ma.round() as i64)),
        limit_ma: plan.and_then(|plan| u32::try_from(plan.granted.0).ok()),
        why,
    }
}

fn state(kind: DeviceKind, status: &DeviceStatus, now: Moment) -> String {
    let word = if status.com_err(now) {
        if status.health.is_running() { "silent" } else { "offline" }
    } else if kind == DeviceKind::Meter {
        "online"
    } else {
        match status.values.connector().map(|connector| connector.value) {
            Some(connector) => match connector.letter() {
                Some('A') => "no car",
                Some('B') => "connected",
                Some('C' | 'D') => "charging",
                Some(_) => "fault",
                None => "unknown",
            },
            None => "unknown",
        }
    };
    word.to_owned()
}

fn circuit_row(view: &SiteView, id: &str) -> Option<Row> {
    let plan = view.plan.plan.circuits.get(&CircuitId::from(id))?;
    Some(Row {
        device: format!("circuit {id}"),
        state: if plan.stale { "meter silent" } else { "measured" }.to_owned(),
        current_ma: plan.measured.0.map(|ma| ma.map(|ma| ma.0)),
        limit_ma: u32::try_from(plan.limit.lowest().0).ok(),
        why: view.plan.plan.alarms.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    })
}
