//! Whether a plugin fits a device's binding: the slots, the configuration, the limits, the pinned digest. Every
//! mistake has its own sentence, and all are told together.

use std::collections::BTreeMap;
use std::time::Duration;

use super::manifest::{Manifest, Slot, SlotKind};
use super::plugin::Plugin;
use crate::config::{DeviceConfig, EndpointConfig, EndpointUrl};
use crate::runtime::Limits;

/// What a device's binding gives to its plugin, checked and completed.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The bound slots by their names in the manifest; ports and units are filled in.
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// The plugin's configuration with the schema's defaults.
    pub config: serde_json::Value,
    /// What the instance may use.
    pub limits: Limits,
    /// How often it is polled: the binding's wish, but not more often than the author allows.
    pub poll: Duration,
    /// How often a value may be written at most.
    pub min_write_interval: Option<Duration>,
}

/// A mistake in a device's binding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct BindingProblem {
    /// Key below the device, `endpoint.main`, `sha256`.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl BindingProblem {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

/// Port of Modbus TCP (Modbus messaging on TCP/IP 1.0b, 3.1.3).
const MODBUS_PORT: u16 = 502;
/// Unit of a device that is alone on its wire.
const MODBUS_UNIT: u8 = 1;

/// Checks a device's binding against its plugin.
///
/// # Errors
/// All problems together.
pub fn check(plugin: &Plugin, device: &DeviceConfig) -> Result<Binding, Vec<BindingProblem>> {
    let manifest = plugin.manifest();
    let mut problems = Vec::new();
    if let Some(pinned) = device.sha256.as_ref().filter(|pinned| !pinned.eq_ignore_ascii_case(plugin.digest())) {
        let message = format!("pinned is {pinned}, the file has {}: it was replaced", plugin.digest());
        problems.push(BindingProblem::new("sha256", message));
    }
    if plugin.needs_wasi() && !device.wasi {
        problems.push(BindingProblem::new("wasi", plugin.wasi_refusal()));
    }
    let endpoints = bind(manifest, device, &mut problems);
    let config = manifest.complete_config(&device.config).unwrap_or_else(|errors| {
        problems.extend(errors.into_iter().map(|error| match error.split_once(": ") {
            Some((key, message)) => BindingProblem::new(key, message),
            None => BindingProblem::new("config", error),
        }));
        serde_json::Value::Null
    });
    let limits = Limits::resolve(&device.limits, manifest.memory, device.wasi).unwrap_or_else(|errors| {
        problems.extend(errors.into_iter().map(|error| match error.split_once(' ') {
            Some((key, message)) => BindingProblem::new(key, message),
            None => BindingProblem::new("limits", error),
        }));
        Limits::default()
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let poll = device.poll.unwrap_or(DeviceConfig::DEFAULT_POLL).max(manifest.min_poll.unwrap_or_default());
    Ok(Binding { endpoints, config, limits, poll, min_write_interval: manifest.min_write_interval })
}

/// What is spoken at an address.
fn kind_of(url: &EndpointUrl) -> SlotKind {
    match url {
        EndpointUrl::ModbusTcp { .. } | EndpointUrl::ModbusRtuTcp { .. } | EndpointUrl::ModbusRtu(_) => {
            SlotKind::Modbus
        }
        EndpointUrl::Http(_) => SlotKind::Http,
        EndpointUrl::Mqtt(_) => SlotKind::Mqtt,
    }
}

fn bind(
    manifest: &Manifest,
    device: &DeviceConfig,
    problems: &mut Vec<BindingProblem>,
) -> BTreeMap<String, EndpointConfig> {
    let mut bound = BTreeMap::new();
    for (given, endpoint) in &device.endpoints {
        let (name, key) = if given == DeviceConfig::ADDRESS_SLOT {
            match slot_of_address(manifest, endpoint) {
                Ok(name) => (name, "address".to_owned()),
                Err(message) => {
                    problems.push(BindingProblem::new("address", message));
                    // Without it every required slot would be reported as missing as well.
                    return bound;
                }
            }
        } else {
            (given.as_str(), format!("endpoint.{given}"))
        };
        let Some(slot) = manifest.slots.get(name) else {
            problems
                .push(BindingProblem::new(key, format!("{} has no such slot, {}", manifest.id, slot_list(manifest))));
            continue;
        };
        let spoken = kind_of(&endpoint.url);
        if spoken != slot.kind {
            let message = format!("slot \"{name}\" of {} is {}, this address speaks {spoken}", manifest.id, slot.kind);
            problems.push(BindingProblem::new(key, message));
        }
        bound.insert(name.to_owned(), completed(endpoint, slot));
    }
    for (name, slot) in manifest.slots.iter().filter(|(name, slot)| !slot.optional && !bound.contains_key(*name)) {
        let about = if slot.about.is_empty() { String::new() } else { format!(" ({})", slot.about) };
        let message = format!("is missing: {} needs a {} address here{about}", manifest.id, slot.kind);
        problems.push(BindingProblem::new(format!("endpoint.{name}"), message));
    }
    let nothing_bound = bound.is_empty() && !manifest.slots.is_empty();
    if nothing_bound && manifest.slots.values().all(|slot| slot.optional) {
        let message = format!("is missing: {} needs at least one connection, {}", manifest.id, slot_list(manifest));
        problems.push(BindingProblem::new("address", message));
    }
    bound
}

/// The slot that a single `address` binds: the only required one, else the only one that speaks what it names.
fn slot_of_address<'a>(manifest: &'a Manifest, endpoint: &EndpointConfig) -> Result<&'a str, String> {
    let only = |wanted: &dyn Fn(&Slot) -> bool| {
        let mut names = manifest.slots.iter().filter(|(_, slot)| wanted(slot)).map(|(name, _)| name.as_str());
        names.next().filter(|_| names.next().is_none())
    };
    let kind = kind_of(&endpoint.url);
    only(&|slot| !slot.optional).or_else(|| only(&|_| true)).or_else(|| only(&|slot| slot.kind == kind)).ok_or_else(
        || match manifest.slots.is_empty() {
            true => format!("{} talks to nothing, remove the address", manifest.id),
            false => format!(
                "does not tell which slot of {} is meant: write endpoint.<slot>, {}",
                manifest.id,
                slot_list(manifest)
            ),
        },
    )
}

fn slot_list(manifest: &Manifest) -> String {
    let names: Vec<String> = manifest.slots.iter().map(|(name, slot)| format!("{name} ({})", slot.kind)).collect();
    if names.is_empty() { "it has none".into() } else { format!("its slots are {}", names.join(", ")) }
}

/// The binding, then the manifest's defaults, then those of the protocol.
fn completed(endpoint: &EndpointConfig, slot: &Slot) -> EndpointConfig {
    let mut endpoint = endpoint.clone();
    match &mut endpoint.url {
        EndpointUrl::ModbusTcp { port, .. } | EndpointUrl::ModbusRtuTcp { port, .. } => {
            *port = port.or(slot.default_port).or(Some(MODBUS_PORT));
        }
        EndpointUrl::ModbusRtu(_) | EndpointUrl::Http(_) | EndpointUrl::Mqtt(_) => {}
    }
    if slot.kind == SlotKind::Modbus {
        endpoint.unit = endpoint.unit.or(slot.default_unit).or(Some(MODBUS_UNIT));
    }
    endpoint
}
