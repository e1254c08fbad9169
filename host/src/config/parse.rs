//! The sections of the file: what each key means, its range and its default. Devices are in `device.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ladekern_definition::Formula;
use ladekern_definition::formula::{Name, Object};

use crate::site::{DeviceId, DeviceKind};

use super::device;
use super::error::{ConfigError, ConfigErrors};
use super::mqtt::mqtt;
use super::reader::{Context, Reader, boolean, number, optional_formula, owned, text, three_phases};
use super::services::{http, modbus_server, users};
use super::tree::{self, Data, Node, Override, Place};
use super::types::*;
use super::variables::{check_order, variables};

/// Checks a text as if it were the file `file`, with `overrides` laid over it.
///
/// # Errors
/// All mistakes together, in the order of the file.
pub fn parse(file: &str, text: &str, overrides: &[Override]) -> Result<Config, ConfigErrors> {
    parse_recording(file, text, overrides).0
}

/// As [`parse`]; also tells every key that was asked for, `device.max_ma`.
pub(super) fn parse_recording(
    file: &str,
    text: &str,
    overrides: &[Override],
) -> (Result<Config, ConfigErrors>, BTreeSet<String>) {
    let context = Context::new(file, overrides);
    let mut root = match tree::parse(text) {
        Ok(root) => root,
        Err(syntax) => {
            let place = format!("{file}:{}", syntax.line);
            let error = ConfigError { place, key: String::new(), message: format!("no TOML: {}", syntax.message) };
            return (Err(ConfigErrors(vec![error])), BTreeSet::new());
        }
    };
    for (index, with) in overrides.iter().enumerate() {
        if let Err(why) = tree::apply(&mut root, with, index) {
            context.error(Place::Set(index), "", why);
        }
    }
    let config = root_table(Reader::new(&context, "", "", &root, Place::Line(1)));
    let (errors, asked) = context.into_parts();
    (if errors.is_empty() { Ok(config) } else { Err(ConfigErrors(errors)) }, asked)
}

/// A checked entry and how it is written.
struct Written<'a, T> {
    item: T,
    entries: &'a [(String, Node)],
    place: Place,
}

impl<T> Written<'_, T> {
    /// Where a key of this entry is written, or the entry if it is not.
    fn place_of(&self, key: &str) -> Place {
        self.entries.iter().find(|(name, _)| name == key).map_or(self.place, |(_, node)| node.place)
    }
}

fn root_table(mut root: Reader<'_>) -> Config {
    let site = site(root.table("site"));
    let http = http(root.table("http"));
    let (mqtt, broker_given) = mqtt(root.table("mqtt"));
    let load = load(root.table("load"));
    let devices = devices(&mut root);
    let circuits = circuits(&mut root, &devices);
    let ids: Vec<&DeviceId> = devices.iter().map(|device| &device.item.id).collect();
    let modbus_server = modbus_server(root.table("modbus_server"), &ids);
    let users = users(&mut root, &ids);
    let written = root.peek("variables").map(|node| node.place);
    let variables = variables(root.table("variables"));
    let context = root.context();
    root.finish();

    let places = devices.iter().map(|device| (device.item.id.clone(), context.place(device.place))).collect();
    let mut config = Config {
        site,
        http,
        mqtt,
        load,
        circuits: circuits.into_iter().map(|circuit| circuit.item).collect(),
        devices: devices.iter().map(|device| device.item.clone()).collect(),
        modbus_server,
        users,
        variables,
        places: Places { file: context.file.to_owned(), devices: places, rules: context.rules() },
    };
    default_circuit(&mut config, &devices, context);
    if let Err(error) = check_order(&config) {
        context.error(written.unwrap_or(Place::Line(1)), error.key, error.message);
    }
    if !broker_given {
        default_broker(&devices, context);
    }
    config
}

fn site(mut table: Reader<'_>) -> SiteConfig {
    let title = table.read("title", owned).unwrap_or_else(|| "Ladekern".into());
    let desc = table.read("desc", owned).unwrap_or_default();
    table.finish();
    SiteConfig { title, desc }
}

pub(super) fn listen(node: &Node) -> Result<SocketAddr, String> {
    let text = text(node)?;
    text.parse().map_err(|_| {
        format!("\"{}\" is no address and port, expected one like 127.0.0.1:4712 or [::]:4712", tree::shorten(text))
    })
}

pub(super) fn broker_ref(node: &Node) -> Result<BrokerRef, String> {
    text(node)?.parse().map_err(|error: super::BadUrl| error.to_string())
}

fn load(mut table: Reader<'_>) -> LoadConfig {
    let mode = table.read("mode", |node| match text(node)? {
        "manage" => Ok(LoadMode::Manage),
        "observe" => Ok(LoadMode::Observe),
        other => Err(format!("expected \"manage\" or \"observe\", found \"{}\"", tree::shorten(other))),
    });
    let cycle = table.read("cycle_ms", number(100..=10_000)).unwrap_or(1_000);
    let reserve_ma = table.read("reserve_ma", number(0..=10_000_000)).unwrap_or(0);
    let max_total_cur_prc = table.read("max_total_cur_prc", number(0..=100)).unwrap_or(100);
    let disable_policy = table.read("disable_policy", |node| match &node.data {
        Data::Integer(0) => Ok(DisablePolicy::Stop),
        Data::Integer(1) => Ok(DisablePolicy::Minimum),
        Data::Integer(-1) => Ok(DisablePolicy::Unlimited),
        other => {
            Err(format!("expected 0 (stop charging), 1 (minimum current) or -1 (no limit), found {}", other.describe()))
        }
    });
    let surplus_expr = table.read("surplus_expr", surplus_expr).flatten();
    table.finish();
    LoadConfig {
        surplus_expr,
        mode: mode.unwrap_or_default(),
        cycle: Duration::from_millis(cycle),
        reserve_ma,
        max_total_cur_prc,
        disable_policy: disable_policy.unwrap_or_default(),
    }
}

fn surplus_expr(node: &Node) -> Result<Option<Formula>, String> {
    let formula = optional_formula(node)?;
    let itself = |name: &Name| name.object == Object::Global && name.member.split('.').next() == Some("surplus");
    match formula.as_ref().and_then(|formula| formula.names().iter().find(|name| itself(name))) {
        Some(name) => Err(format!("{name} is what this formula computes; the surplus before is CM._org_surplus")),
        None => Ok(formula),
    }
}

fn devices<'a>(root: &mut Reader<'a>) -> Vec<Written<'a, DeviceConfig>> {
    let mut devices: Vec<Written<'a, DeviceConfig>> = Vec::new();
    let context = root.context();
    for (place, entries) in root.tables("device") {
        let Some(device) = device::read(context, entries, place) else { continue };
        match devices.iter().find(|other| other.item.id == device.id) {
            Some(first) => {
                let first = context.place(first.place);
                let message = format!("there is a second device with this id, the first is at {first}; ids are unique");
                context.error(place, format!("device.{}.id", device.id), message);
            }
            None => devices.push(Written { item: device, entries, place }),
        }
    }
    meters_of_wallboxes(&devices, context);
    devices
}

/// The meter in front of a wallbox has to be there.
fn meters_of_wallboxes(devices: &[Written<'_, DeviceConfig>], context: &Context<'_>) {
    for written in devices {
        let Some(meter) = &written.item.meter else { continue };
        if !devices.iter().any(|other| other.item.id == *meter) {
            let key = format!("device.{}.meter", written.item.id);
            context.error(written.place_of("meter"), key, format!("there is no device {meter}"));
        }
    }
}

/// A wallbox that names no circuit hangs on the only one there is.
fn default_circuit(config: &mut Config, places: &[Written<'_, DeviceConfig>], context: &Context<'_>) {
    let ids: Vec<&str> = config.circuits.iter().map(|circuit| circuit.id.as_str()).collect();
    for (device, written) in config.devices.iter_mut().zip(places) {
        let place = written.place_of("circuit");
        if device.id.kind() != DeviceKind::Evse {
            continue;
        }
        let key = || format!("device.{}.circuit", device.id);
        match (&device.circuit, ids.as_slice()) {
            (None, []) => {}
            (None, [only]) => device.circuit = Some((*only).to_owned()),
            (None, all) => {
                let all = all.join(", ");
                context.error(place, key(), format!("is missing: name the circuit the wallbox hangs on, one of {all}"));
            }
            (Some(named), all) if !all.contains(&named.as_str()) => {
                let known = if all.is_empty() {
                    "there is no [[circuit]]".into()
                } else {
                    format!("known are: {}", all.join(", "))
                };
                context.error(place, key(), format!("there is no circuit \"{}\", {known}", tree::shorten(named)));
            }
            (Some(_), _) => {}
        }
    }
}

pub(super) const NO_DEFAULT_BROKER: &str = "\"mqtt\" means the default broker, but mqtt.broker is not set; expected \
     mqtt.broker = \"mqtt://host\" or \"embedded\"";

/// The word `mqtt` needs a default broker.
fn default_broker(devices: &[Written<'_, DeviceConfig>], context: &Context<'_>) {
    for written in devices {
        let device = &written.item;
        let slots = device.endpoints.iter();
        let mut slots = slots.filter(|(_, endpoint)| endpoint.url == EndpointUrl::Mqtt(BrokerRef::Default));
        let slot = slots.next().map(|(slot, _)| if slot.is_empty() { "address" } else { "endpoint" });
        let feed = (device.feed == BrokerRef::Default).then_some("address");
        let publish = (device.publish == Some(BrokerRef::Default)).then_some("publish");
        for key in [slot, feed, publish].into_iter().flatten() {
            context.error(written.place_of(key), format!("device.{}.{key}", device.id), NO_DEFAULT_BROKER);
        }
    }
}

fn circuits<'a>(root: &mut Reader<'a>, devices: &[Written<'_, DeviceConfig>]) -> Vec<Written<'a, CircuitConfig>> {
    let mut circuits: Vec<Written<'a, CircuitConfig>> = Vec::new();
    let context = root.context();
    for (place, entries) in root.tables("circuit") {
        let Some(circuit) = circuit(context, entries, place, devices) else { continue };
        match circuits.iter().find(|other| other.item.id == circuit.id) {
            Some(first) => {
                let first = context.place(first.place);
                let message =
                    format!("there is a second circuit with this id, the first is at {first}; ids are unique");
                context.error(place, format!("circuit.{}.id", circuit.id), message);
            }
            None => circuits.push(Written { item: circuit, entries, place }),
        }
    }
    parents_first(circuits, context)
}

fn circuit(
    context: &Context<'_>,
    entries: &[(String, Node)],
    place: Place,
    devices: &[Written<'_, DeviceConfig>],
) -> Option<CircuitConfig> {
    let mut table = Reader::new(context, "circuit", "circuit", entries, place);
    let id = table.read("id", |node| match text(node)? {
        "" => Err("is empty; expected a name like \"main\"".into()),
        id => Ok(id.to_owned()),
    });
    match &id {
        Some(id) => table.rename(format!("circuit.{id}")),
        None if table.peek("id").is_none() => table.error("id", "is missing; expected a name like \"main\""),
        None => {}
    }
    let parent = table.read("parent", owned);
    let limit_ma = table.read("limit_ma", three_phases);
    let limit_ma_expr = table.read("limit_ma_expr", optional_formula).flatten();
    if table.peek("limit_ma").is_none() {
        table.error("limit_ma", "is missing; expected three numbers in mA for L1, L2, L3, like [35000, 35000, 35000]");
    }
    let meter = table.read("meter", |node| meter(text(node)?, devices));
    let failsafe_base_ma = table.read("failsafe_base_ma", three_phases);
    table.finish();
    Some(CircuitConfig {
        id: id?,
        parent,
        limit_ma: limit_ma.unwrap_or_default(),
        limit_ma_expr,
        meter,
        failsafe_base_ma,
    })
}

fn meter(text: &str, devices: &[Written<'_, DeviceConfig>]) -> Result<DeviceId, String> {
    let id: DeviceId = text.parse().map_err(|error: crate::site::BadDeviceId| error.to_string())?;
    if id.kind() != DeviceKind::Meter {
        return Err(format!("{id} is a wallbox; expected a meter, M1, M2, …"));
    }
    if devices.iter().any(|device| device.item.id == id) { Ok(id) } else { Err(format!("there is no device {id}")) }
}

/// Orders the circuits so that each parent comes before its children; reports what makes them no tree.
fn parents_first<'a>(
    circuits: Vec<Written<'a, CircuitConfig>>,
    context: &Context<'_>,
) -> Vec<Written<'a, CircuitConfig>> {
    let parents: BTreeMap<String, Option<String>> =
        circuits.iter().map(|circuit| (circuit.item.id.clone(), circuit.item.parent.clone())).collect();
    let mut root: Option<&str> = None;
    for written in &circuits {
        let (circuit, place) = (&written.item, written.place_of("parent"));
        let key = format!("circuit.{}.parent", circuit.id);
        match &circuit.parent {
            None => match root {
                Some(first) => {
                    let message =
                        format!("is missing: only one circuit is the house connection, and that is \"{first}\"");
                    context.error(place, key, message);
                }
                None => root = Some(&circuit.id),
            },
            Some(parent) if !parents.contains_key(parent) => {
                context.error(place, key, format!("there is no circuit \"{}\"", tree::shorten(parent)));
            }
            Some(_) if depth(&circuit.id, &parents).is_none() => {
                context.error(
                    place,
                    key,
                    "the parents form a ring; one circuit has to be the house connection, without a parent",
                );
            }
            Some(_) => {}
        }
    }
    let mut ordered = circuits;
    ordered.sort_by_key(|circuit| depth(&circuit.item.id, &parents).unwrap_or(usize::MAX));
    ordered
}

/// Number of circuits above `id`; `None` in a ring.
fn depth(id: &str, parents: &BTreeMap<String, Option<String>>) -> Option<usize> {
    let mut at = id;
    for depth in 0..=parents.len() {
        match parents.get(at).and_then(Option::as_deref) {
            Some(parent) => at = parent,
            None => return Some(depth),
        }
    }
    None
}

/// Whether a device takes part; shared with `device.rs`.
pub(super) fn enabled(table: &mut Reader<'_>) -> bool {
    table.read("enabled", boolean).unwrap_or(true)
}
