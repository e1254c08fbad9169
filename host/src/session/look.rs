//! What a wallbox says now that a session needs: only what is fresh, nothing made up. Pure.

use super::energy::Meters;
use crate::config::{DeviceConfig, HTTP_INPUT};
use crate::site::quantities::{CURRENT, ENERGY_IMPORT, ENERGY_SESSION, POWER, POWER_TOTAL, VOLTAGE};
use crate::site::{Connector, DeviceStatus, Measured, Moment};

/// Voltage assumed where none is measured.
const NOMINAL_V: f64 = 230.0;
/// A measured voltage outside of this is a missing wire or a wrong register.
const PLAUSIBLE_V: std::ops::RangeInclusive<f64> = 100.0..=280.0;
/// The highest voltage of a phase, for what a car can draw at most.
const HIGHEST_V: f64 = 260.0;
/// The name under which devices tell a card.
const RFID: &str = "rfid";

/// One wallbox at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// The state of the connector and when it was measured.
    pub connector: Option<Measured<Connector>>,
    /// What there is to count with.
    pub meters: Meters,
    /// It has a lifetime counter of its own, whether that is fresh or not.
    pub counts: bool,
    /// The card that lies before the reader now, or that the device names as the last one.
    pub card: Option<String>,
    /// The device names a card as long as nobody shows another one; a fed one only while it is shown.
    pub keeps_card: bool,
}

/// What the meter in front of a wallbox says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pinned {
    wh: Option<f64>,
    power_w: Option<f64>,
}

impl Pinned {
    /// At `now`.
    pub fn of(meter: &DeviceStatus, now: Moment) -> Self {
        Self { wh: meter.values.fresh(ENERGY_IMPORT, meter.not_before(now)), power_w: power_w(meter, now) }
    }
}

impl Look {
    /// What this wallbox says at `now`; `None`: nobody runs it.
    pub fn of(device: &DeviceConfig, status: Option<&DeviceStatus>, pinned: Pinned, now: Moment) -> Self {
        let most_w = f64::from(device.max_ma) / 1_000.0 * HIGHEST_V * 3.0;
        let keeps_card = device.device_type != HTTP_INPUT;
        let Some(status) = status else {
            let meters = Meters { pinned_wh: pinned.wh, power_w: pinned.power_w, most_w, ..Meters::default() };
            return Self { meters, keeps_card, ..Self::default() };
        };
        let not_before = status.not_before(now);
        let meters = Meters {
            own_wh: status.values.fresh(ENERGY_IMPORT, not_before),
            session_wh: status.values.fresh(ENERGY_SESSION, not_before),
            pinned_wh: pinned.wh,
            power_w: power_w(status, now).or(pinned.power_w),
            most_w,
        };
        let newest = status.values.newest();
        let shown = status.values.text(RFID).filter(|text| text.at >= not_before && !text.value.trim().is_empty());
        let shown = shown.filter(|text| keeps_card || Some(text.at) == newest);
        Self {
            connector: status.values.connector().filter(|connector| connector.at >= not_before),
            meters,
            counts: status.values.get(ENERGY_IMPORT).is_some(),
            card: shown.map(|text| text.value.trim().to_owned()),
            keeps_card,
        }
    }
}

/// Power as measured, else of the phases, else from the currents.
fn power_w(status: &DeviceStatus, now: Moment) -> Option<f64> {
    let not_before = status.not_before(now);
    let fresh = |name: &str| status.values.fresh(name, not_before).filter(|value| value.is_finite());
    let sum = |values: [Option<f64>; 3]| {
        values.iter().any(Option::is_some).then(|| values.into_iter().flatten().sum::<f64>())
    };
    let by_phase = || sum(POWER.map(fresh));
    let by_current = || {
        let [l1, l2, l3] = CURRENT.map(fresh);
        let [v1, v2, v3] = VOLTAGE.map(|name| fresh(name).filter(|volt| PLAUSIBLE_V.contains(volt)));
        let watts = |(ma, volt): (Option<f64>, Option<f64>)| Some(ma?.abs() / 1_000.0 * volt.unwrap_or(NOMINAL_V));
        sum([(l1, v1), (l2, v2), (l3, v3)].map(watts))
    };
    fresh(POWER_TOTAL).or_else(by_phase).or_else(by_current)
}
