//! What flows where in the site (`cfos-interfaces.md` 3.1 and 3.2, `GM`): the sums of the meters by their roles, and what
//! follows from them. One computation for formulas and for the contract's `params`. Pure.

use std::ops::{Add, Sub};

use super::facts::{NOMINAL_V, power_w, turned};
use crate::config::{Config, DeviceConfig};
use crate::control::signed_currents;
use crate::site::{DeviceId, DeviceKind, DeviceStatus, Moment, Role, Statuses, quantities};

/// One of the global meters. What is not known is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// W, in the contract's sign.
    pub power_w: Option<f64>,
    /// mA on the circuit's L1, L2, L3, with the sign of the power.
    pub current: [Option<f64>; 3],
    /// Lifetime counters in Wh, of what is measured directly.
    pub import_wh: Option<f64>,
    /// Likewise.
    pub export_wh: Option<f64>,
}

/// What becomes of a sum that a silent device belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// It is not known: for whoever decides something with it.
    Missing,
    /// It is made of those that answer: for display.
    Skipped,
}

/// All of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flows {
    /// The grid connection, import positive.
    pub grid: Flow,
    /// The house without wallboxes.
    pub consumption: Flow,
    /// Generation.
    pub generation: Flow,
    /// The wallboxes that answer.
    pub evse: Flow,
    /// What the house connection leaves for wallboxes.
    pub available: Flow,
    /// What would be exported if no car charged, never negative; before `surplus_expr`.
    pub surplus: Flow,
    /// Batteries that serve the house only; charging positive.
    pub storage_home: Flow,
    /// Batteries that may charge cars; charging positive.
    pub storage_all: Flow,
    /// The most that wallboxes that do not answer may draw.
    pub unanswered: Flow,
}

impl Flow {
    const ZERO: Self = Self { power_w: Some(0.0), current: [Some(0.0); 3], import_wh: None, export_wh: None };

    /// A member by its name in formulas. `current` is that of the phase with the most.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<f64> {
        let [l1, l2, l3] = self.current;
        match name {
            "power_w" => self.power_w,
            "current_l1" => l1,
            "current_l2" => l2,
            "current_l3" => l3,
            "current" => largest(self.current),
            "import_wh" => self.import_wh,
            "export_wh" => self.export_wh,
            _ => None,
        }
    }

    fn with(self, other: Self, each: impl Fn(f64, f64) -> f64) -> Self {
        let both = |a: Option<f64>, b: Option<f64>| Some(each(a?, b?));
        let ([a1, a2, a3], [b1, b2, b3]) = (self.current, other.current);
        Self {
            power_w: both(self.power_w, other.power_w),
            current: [both(a1, b1), both(a2, b2), both(a3, b3)],
            import_wh: both(self.import_wh, other.import_wh),
            export_wh: both(self.export_wh, other.export_wh),
        }
    }

    /// Power and currents without the counters, each made of one number.
    fn map(self, each: impl Fn(f64) -> f64) -> Self {
        Self { power_w: self.power_w.map(&each), current: self.current.map(|ma| ma.map(&each)), ..Self::default() }
    }
}

impl Add for Flow {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
}

impl Sub for Flow {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        // Counters of a difference count nothing.
        Self { import_wh: None, export_wh: None, ..self.with(other, |a, b| a - b) }
    }
}

/// The current of the phase that carries the most, whatever its sign; `None` if none is known.
pub(super) fn largest(current: [Option<f64>; 3]) -> Option<f64> {
    current.into_iter().flatten().max_by(|a, b| a.abs().total_cmp(&b.abs()))
}

impl Flows {
    /// At `now`.
    #[must_use]
    pub fn of(config: &Config, statuses: &impl Statuses, now: Moment, silent: Silent) -> Self {
        let sum = |wanted: &dyn Fn(&DeviceConfig) -> bool, silent| {
            let mut sum: Option<Flow> = None;
            for device in config.devices.iter().filter(|device| device.enabled && wanted(device)) {
                let flow = statuses.with(&device.id, |status| flow(device, status, now)).flatten();
                if let Some(flow) = flow.or((silent == Silent::Missing).then(Flow::default)) {
                    sum = Some(sum.map_or(flow, |sum| sum + flow));
                }
            }
            sum
        };
        let role = |role| sum(&|device| device.id.kind() == DeviceKind::Meter && device.role == role, silent);
        // Those that do not answer stand beside it, with the most they may draw.
        let evse = wallboxes(config, statuses, now);
        let generation = role(Role::Generation);
        let generated = generation.unwrap_or(Flow::ZERO);
        // Without one of the two meters the other one and the wallboxes tell what it would show (3.1).
        let (grid, consumption) = match (role(Role::Grid), role(Role::Consumption)) {
            (Some(grid), Some(consumption)) => (grid, consumption),
            (Some(grid), None) => (grid, grid + generated - evse),
            (None, Some(consumption)) => (consumption - generated + evse, consumption),
            (None, None) if silent == Silent::Missing => <(Flow, Flow)>::default(),
            (None, None) => (evse - generated, Flow::ZERO),
        };
        let (none, storage_home) = (Flow::default(), role(Role::StorageHome));
        Self {
            grid,
            consumption,
            generation: generation.unwrap_or(none),
            evse,
            available: available(config, consumption),
            surplus: surplus(evse - grid, storage_home),
            storage_home: storage_home.unwrap_or(none),
            storage_all: role(Role::StorageAll).unwrap_or(none),
            unanswered: Flow { power_w: Some(unanswered_w(config, statuses, now)), ..none },
        }
    }
}

/// What the wallboxes draw that answer. One that measures nothing is measured by the meter in front of it; without one
/// it is a part of the house, as far as anybody can tell.
fn wallboxes(config: &Config, statuses: &impl Statuses, now: Moment) -> Flow {
    let of = |device: &DeviceConfig| statuses.with(&device.id, |status| flow(device, status, now)).flatten();
    let measured = |flow: &Flow| flow.power_w.is_some() || flow.current.iter().any(Option::is_some);
    let pinned = |device: &DeviceConfig| {
        let meter = config.devices.iter().find(|meter| device.meter.as_ref() == Some(&meter.id) && meter.enabled)?;
        of(meter)
    };
    let evse = config.devices.iter().filter(|device| device.enabled && device.id.kind() == DeviceKind::Evse);
    let each = evse.filter_map(|device| of(device).filter(measured).or_else(|| pinned(device).filter(measured)));
    each.reduce(|sum, flow| sum + flow).unwrap_or(Flow::ZERO)
}

/// What would be exported with no car charging. What a battery of the house gives is none: cars would empty it (3.1).
fn surplus(rest: Flow, storage_home: Option<Flow>) -> Flow {
    let mut surplus = rest.map(|value| value.max(0.0));
    if let Some(storage) = storage_home {
        // In the contract's sign a battery that gives is negative.
        surplus.power_w = rest.power_w.zip(storage.power_w).map(|(rest, storage)| (rest + storage.min(0.0)).max(0.0));
    }
    surplus
}

/// What a device measures now; `None`: it is silent.
fn flow(device: &DeviceConfig, status: &DeviceStatus, now: Moment) -> Option<Flow> {
    if status.com_err(now) {
        return None;
    }
    let not_before = status.not_before(now);
    let fresh = |name: &str| status.values.fresh(name, not_before).filter(|value| value.is_finite());
    let sign = if turned(device) { -1.0 } else { 1.0 };
    let measured = signed_currents(status, not_before).map(|ma| ma.map(|ma| ma * sign));
    let mut current = measured;
    if let Some(map) = device.phases {
        // What is not connected carries nothing.
        current = [Some(0.0); 3];
        for (ma, phase) in measured.into_iter().zip(map.of) {
            if let Some(slot) = phase.and_then(|phase| current.get_mut(usize::from(phase))) {
                *slot = ma;
            }
        }
    }
    if device.id.kind() == DeviceKind::Evse {
        // A wallbox draws; signs here are only wiring.
        current = current.map(|ma| ma.map(f64::abs));
    }
    Some(Flow {
        power_w: power_w(device, fresh),
        current,
        import_wh: fresh(quantities::ENERGY_IMPORT),
        export_wh: fresh(quantities::ENERGY_EXPORT),
    })
}

/// What the house connection leaves for wallboxes.
fn available(config: &Config, consumption: Flow) -> Flow {
    let load = &config.load;
    let limits = config.circuits.first().map_or([0; 3], |root| root.limit_ma);
    let usable = limits.map(|limit| {
        (f64::from(limit) * f64::from(load.max_total_cur_prc) / 100.0 - f64::from(load.reserve_ma)).max(0.0)
    });
    let watts: f64 = usable.into_iter().map(watts).sum();
    let mut current = [None; 3];
    for ((slot, usable), used) in current.iter_mut().zip(usable).zip(consumption.current) {
        *slot = used.map(|used| (usable - used.max(0.0)).max(0.0));
    }
    let power_w = consumption.power_w.map(|used| (watts - used.max(0.0)).max(0.0));
    Flow { power_w, current, ..Flow::default() }
}

/// Wallboxes that do not answer count with the most they may draw, in W.
fn unanswered_w(config: &Config, statuses: &impl Statuses, now: Moment) -> f64 {
    let evse = |device: &&DeviceConfig| device.enabled && device.id.kind() == DeviceKind::Evse;
    let told = |id: &DeviceId| statuses.with(id, |status| (status.com_err(now), status.commanded));
    let mut sum = 0.0;
    for device in config.devices.iter().filter(evse) {
        // What nobody runs yet is silent too.
        let (silent, told) = told(&device.id).unwrap_or((true, None));
        if silent {
            let ma = told.map_or(device.max_ma, |told| told.value);
            let phases = device.phases.map_or(3, |map| map.of.iter().flatten().count());
            sum += watts(f64::from(ma)) * if phases == 1 { 1.0 } else { 3.0 };
        }
    }
    sum
}

fn watts(milliamps: f64) -> f64 {
    milliamps / 1000.0 * NOMINAL_V
}
