//! The cFos contract: the shapes in which existing installations read a charging manager, over HTTP and MQTT.
//! Only reads the site. The one place where a missing value becomes the 0 that old clients need, beside `com_err`,
//! and where signs are turned to the contract's convention. Sources: `docs/contract.md`.

pub mod api;
mod cached;
pub mod ctl;
mod device;
mod machine;
pub mod mqtt;
mod number;
mod params;
pub mod registers;
mod source;
pub mod ta_log;
pub mod topics;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use ladekern_definition::{Definition, Kind};
use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use crate::config::{Config, DeviceConfig, LoadMode};
use crate::control::PlanView;
use crate::definition::Library;
use crate::session::SessionView;
use crate::site::{DeviceId, DeviceKind, DeviceStatus, Snapshot, VariableValues};

pub use device::{DeviceObject, dev_type};
pub use machine::Machine;
pub use params::Params;
pub use source::SiteSource;
pub use variables::variables;

/// The level of the interface that is emulated: from `1.20` on, clients read the new names of the fields.
pub const VERSION: &str = "2.0.1";

/// Everything the contract shows, at one moment.
#[derive(Clone, Debug)]
pub struct SiteView {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// All devices; its moment is "now".
    pub snapshot: Snapshot,
    /// The newest plan; empty before the first cycle.
    pub plan: Arc<PlanView>,
    /// What goes on at each wallbox.
    pub sessions: Arc<SessionView>,
    /// The variables as of the newest cycle.
    pub variables: Arc<VariableValues>,
    /// Serial number of this installation.
    pub serial: Arc<str>,
    /// Unix time in seconds; 0 while the clock is not set.
    pub unix_s: u64,
    /// The largest overload of the house connection seen since the start, in mA.
    pub max_overdraft_ma: u32,
    /// How busy the machine is.
    pub machine: Machine,
}

impl SiteView {
    fn status(&self, id: &DeviceId) -> Option<&DeviceStatus> {
        self.snapshot.devices.get(id)
    }

    /// One device as the contract shows it; `None`: no such device.
    #[must_use]
    pub fn device(&self, id: &DeviceId) -> Option<DeviceObject<'_>> {
        let index = self.config.devices.iter().position(|device| device.id == *id)?;
        self.config.devices.get(index).map(|device| self.object(index, device))
    }

    fn object<'a>(&'a self, index: usize, device: &'a DeviceConfig) -> DeviceObject<'a> {
        DeviceObject {
            device,
            number: DeviceObject::number_of(index, device),
            status: self.status(&device.id),
            plan: self.plan.plan.chargers.get(&device.id),
            rules_error: self.plan.rule_mistakes.get(&device.id).map(String::as_str),
            session: self.sessions.get(&device.id),
            pinned: device.meter.as_ref().and_then(|meter| self.status(meter)),
            now: self.snapshot.at,
        }
    }
}

/// The answer to `get_dev_info`, the payload of `get/dev_info`. Serialises without an intermediate tree.
#[derive(Clone, Copy, Debug)]
pub struct DevInfo<'a>(pub &'a SiteView);

impl Serialize for DevInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("params", &Params(self.0))?;
        // Cars that wait for a card.
        let waiting = self.0.sessions.values().filter(|session| session.plugged && session.needs_auth).count();
        map.serialize_entry("auth_cnt", &waiting)?;
        map.serialize_entry("loadmgr_disabled", &(self.0.config.load.mode == LoadMode::Observe))?;
        map.serialize_entry("devices", &Devices(self.0))?;
        map.end()
    }
}

struct Devices<'a>(&'a SiteView);

impl Serialize for Devices<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let devices = &self.0.config.devices;
        let mut seq = serializer.serialize_seq(Some(devices.len()))?;
        for (index, device) in devices.iter().enumerate() {
            seq.serialize_element(&self.0.object(index, device))?;
        }
        seq.end()
    }
}

/// The answer to `get_dev_types`: the label of every type a device of this site has, of the built-in ones and of what
/// definitions describe.
#[must_use]
pub fn dev_types(config: &Config, definitions: &Library) -> BTreeMap<String, String> {
    let built_in = [("evse_ajax", "HTTP input"), ("meter_ajax", "HTTP input")];
    let mut types: BTreeMap<String, String> =
        built_in.into_iter().map(|(name, label)| (name.to_owned(), label.to_owned())).collect();
    for file in definitions.all() {
        let Definition { dev_type, name, kind, .. } = &file.definition;
        let kind = match kind {
            Kind::Other => "",
            Kind::Meter => " (meter)",
            Kind::Inverter => " (inverter)",
            Kind::Battery => " (battery)",
        };
        types.insert(device::dev_type_of(DeviceKind::Meter, dev_type), format!("{name}{kind}"));
    }
    for device in &config.devices {
        types.entry(dev_type(device)).or_insert_with(|| device.device_type.clone());
    }
    types
}

/// As JSON bytes. The shapes of this module hold nothing that JSON cannot.
pub fn to_json(shape: &impl Serialize) -> Vec<u8> {
    // As large as a device mostly is.
    let mut text = Vec::with_capacity(1_024);
    match serde_json::to_writer(&mut text, shape) {
        Ok(()) => text,
        Err(_) => b"null".to_vec(),
    }
}

#[cfg(test)]
mod tests;
