//! One moment of the site, and the scope a formula is evaluated in.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use jiff::Zoned;
use ladekern_definition::formula::{Name, Object, Scope};

use super::flow::{Flow, Flows, Silent};
use super::{Wall, date, device, manager};
use crate::config::{Config, DeviceConfig};
use crate::control::PlanView;
use crate::session::SessionView;
use crate::site::{Board, DeviceId, DeviceKind, Moment, VariableValues};

/// What a look is made of.
pub(super) struct Parts {
    pub board: Board,
    pub at: Moment,
    pub config: Arc<Config>,
    pub plan: Arc<PlanView>,
    pub sessions: Arc<SessionView>,
    pub variables: Arc<VariableValues>,
    pub wall: Wall,
}

/// One moment: the configuration, plan, sessions and variables as they were then, the devices as they are when they are
/// asked for. What several formulas need is computed once. For use at once, not to be kept.
pub struct Look {
    pub(super) parts: Parts,
    now: OnceLock<Option<Zoned>>,
    flows: OnceLock<Flows>,
    /// Places of the devices in the configuration.
    index: OnceLock<HashMap<(DeviceKind, u32), usize>>,
    charging: OnceLock<f64>,
    set_by_devices: OnceLock<HashMap<String, f64>>,
}

impl Look {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            now: OnceLock::new(),
            flows: OnceLock::new(),
            index: OnceLock::new(),
            charging: OnceLock::new(),
            set_by_devices: OnceLock::new(),
        }
    }

    /// When it was taken.
    #[must_use]
    pub fn at(&self) -> Moment {
        self.parts.at
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.parts.config
    }

    /// The variables as formulas see them in this look.
    #[must_use]
    pub fn variables(&self) -> &Arc<VariableValues> {
        &self.parts.variables
    }

    /// The variables, for whoever computes them one after the other.
    pub(crate) fn variables_mut(&mut self) -> &mut VariableValues {
        Arc::make_mut(&mut self.parts.variables)
    }

    /// Local time; `None` while the system's clock is not set.
    #[must_use]
    pub fn local_time(&self) -> Option<&Zoned> {
        self.now.get_or_init(|| (self.parts.wall)()).as_ref()
    }

    /// What flows where; a sum that a silent device is missing from has no value.
    #[must_use]
    pub fn flows(&self) -> &Flows {
        self.flows.get_or_init(|| Flows::of(&self.parts.config, &self.parts.board, self.parts.at, Silent::Missing))
    }

    /// For the formulas of a device; `None`: for those of the Charging Manager, where a name without prefix is a
    /// variable.
    #[must_use]
    pub fn scope<'a>(&'a self, own: Option<&'a DeviceId>) -> SiteScope<'a> {
        SiteScope { look: self, own, extra: None }
    }

    /// As [`Look::scope`]; `extra` is asked first for names without prefix, which it gets in lower case.
    #[must_use]
    pub fn scope_with<'a>(&'a self, own: Option<&'a DeviceId>, extra: Extra<'a>) -> SiteScope<'a> {
        SiteScope { look: self, own, extra: Some(extra) }
    }

    /// How many wallboxes charge.
    pub(super) fn charging(&self) -> f64 {
        *self.charging.get_or_init(|| manager::charging(self))
    }

    /// Charging Manager variables that definitions of devices set, by their names.
    pub(super) fn set_by_devices(&self) -> &HashMap<String, f64> {
        let Parts { config, board, at, .. } = &self.parts;
        self.set_by_devices.get_or_init(|| manager::set_by_devices(config, board, *at))
    }

    /// A device of the configuration with its place there.
    pub(super) fn device(&self, kind: DeviceKind, number: u32) -> Option<(usize, &DeviceConfig)> {
        let devices = &self.parts.config.devices;
        let index = self.index.get_or_init(|| {
            devices.iter().enumerate().map(|(index, device)| ((device.id.kind(), device.id.number()), index)).collect()
        });
        let index = *index.get(&(kind, number))?;
        Some((index, devices.get(index)?))
    }

    fn value(&self, own: Option<&DeviceId>, name: &Name) -> Option<f64> {
        match name.object {
            Object::Own => {
                let object = own.map_or(Some(Object::Manager), object_of)?;
                self.value(None, &Name { object, member: Arc::clone(&name.member) })
            }
            Object::Meter(number) => self.of_device(DeviceKind::Meter, number, name),
            Object::Evse(number) => self.of_device(DeviceKind::Evse, number, name),
            Object::Manager => manager::member(self, name),
            Object::Global => self.global(&name.member),
            Object::Date => date::member(self.local_time()?, &name.member),
            // There are no vehicles with an account and no board with inputs of its own.
            Object::Vehicle(_) | Object::Board => None,
        }
    }

    fn of_device(&self, kind: DeviceKind, number: u16, name: &Name) -> Option<f64> {
        // User variables of the configuration are never called as what the device tells.
        let variable = self.parts.variables.get(name);
        variable.or_else(|| device::member(self, kind, number.into(), &name.member))
    }

    /// `GM.surplus.power_w`; `GM.surplus` alone is the power.
    fn global(&self, member: &str) -> Option<f64> {
        let (meter, member) = member.split_once('.').unwrap_or((member, "power_w"));
        let flows = self.flows();
        let flow: &Flow = match meter {
            "grid_demand" => &flows.grid,
            "consumed" => &flows.consumption,
            "produced" => &flows.generation,
            "consumed_evse" => &flows.evse,
            "available_evse" => &flows.available,
            "surplus" if self.parts.config.load.surplus_expr.is_some() => {
                return (member == "power_w").then(|| manager::surplus(self)).flatten();
            }
            "surplus" => &flows.surplus,
            "storage_home" => &flows.storage_home,
            "storage_all" => &flows.storage_all,
            "error" => &flows.unanswered,
            _ => return None,
        };
        flow.member(member)
    }
}

/// What formulas call a device; `None`: its number is too large for them.
fn object_of(id: &DeviceId) -> Option<Object> {
    let number = u16::try_from(id.number()).ok()?;
    Some(match id.kind() {
        DeviceKind::Evse => Object::Evse(number),
        DeviceKind::Meter => Object::Meter(number),
    })
}

/// Tells the values of names without prefix before anybody else does.
pub type Extra<'a> = &'a dyn Fn(&str) -> Option<f64>;

/// What a formula of one device, or of the Charging Manager, sees.
#[derive(Clone, Copy)]
pub struct SiteScope<'a> {
    look: &'a Look,
    own: Option<&'a DeviceId>,
    extra: Option<Extra<'a>>,
}

impl Scope for SiteScope<'_> {
    fn get(&self, name: &Name) -> Option<f64> {
        let extra = || self.extra.filter(|_| name.object == Object::Own).and_then(|extra| extra(&name.member));
        extra().or_else(|| self.look.value(self.own, name)).filter(|value| value.is_finite())
    }
}
