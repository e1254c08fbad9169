//! The sections of the file: what each key means, its range and its default. Devices are in `device.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::site::{DeviceId, DeviceKind};

use super::device;
use super::error::{ConfigError, ConfigErrors};
use super::reader::{Context, Later, Reader, boolean, number, owned, text, three_phases};
use super::tree::{self, Data, Node, Override, Place};
use super::types::*;

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
    let context = root.context();
    root.finish(|name, _| match name {
        "modbus_server" => Some(Later::Refused("this version has no Modbus server yet; remove the section")),
        _ => None,
    });

    let places = devices.iter().map(|device| (device.item.id.clone(), context.place(device.place))).collect();
    let mut config = Config {
        site,
        http,
        mqtt,
        load,
        circuits: circuits.into_iter().map(|circuit| circuit.item).collect(),
        devices: devices.iter().map(|device| device.item.clone()).collect(),
        places: Places { file: context.file.to_owned(), devices: places },
    };
    default_circuit(&mut config, &devices, context);
    if !broker_given {
        default_broker(&devices, context);
    }
    config
}

fn site(mut table: Reader<'_>) -> SiteConfig {
    let title = table.read("title", owned).unwrap_or_else(|| "Ladekern".into());
    let desc = table.read("desc", owned).unwrap_or_default();
    table.finish(|_, _| None);
    SiteConfig { title, desc }
}

fn http(mut table: Reader<'_>) -> HttpConfig {
    let listen = table.read("listen", listen).unwrap_or((Ipv4Addr::LOCALHOST, 4712).into());
    table.finish(|name, _| match name {
        "admin_password_hash" => Some(Later::Refused(
            "this version has no admin password yet: settings are changed from this machine only; remove the key",
        )),
        "tls_cert" | "tls_key" => Some(Later::Refused("this version has no HTTPS yet; remove the key")),
        _ => None,
    });
    HttpConfig { listen }
}

fn listen(node: &Node) -> Result<SocketAddr, String> {
    let text = text(node)?;
    text.parse().map_err(|_| {
        format!("\"{}\" is no address and port, expected one like 127.0.0.1:4712 or [::]:4712", tree::shorten(text))
    })
}

pub(super) fn broker_ref(node: &Node) -> Result<BrokerRef, String> {
    let broker: BrokerRef = text(node)?.parse().map_err(|error: super::BadUrl| error.to_string())?;
    match &broker {
        BrokerRef::Url(url) => plain_only(url).map(|()| broker),
        _ => Ok(broker),
    }
}

/// Brokers over TLS are understood and refused: falling back to plain text would send passwords in the clear.
pub(super) fn plain_only(url: &BrokerUrl) -> Result<(), String> {
    if url.tls { Err("this version has no TLS for MQTT yet, use mqtt:// or mqtt5://".into()) } else { Ok(()) }
}

/// Also tells whether the file names a default broker, be it a wrong one.
fn mqtt(mut table: Reader<'_>) -> (MqttConfig, bool) {
    let broker = table.read("broker", |node| match text(node)? {
        "" => Ok(None),
        "embedded" => Ok(Some(DefaultBroker::Embedded)),
        "mqtt" => Err("\"mqtt\" means this very key; expected a broker URL or \"embedded\"".into()),
        url => {
            let url: BrokerUrl = url.parse().map_err(|error: super::BadUrl| error.to_string())?;
            plain_only(&url)?;
            Ok(Some(DefaultBroker::Url(url)))
        }
    });
    let publish = table.read("publish", broker_ref).unwrap_or_default();
    let broker_given = table.peek("broker").is_some() && broker != Some(None);
    if publish == BrokerRef::Default && !broker_given {
        table.error("publish", NO_DEFAULT_BROKER);
    }
    let interval = table.read("publish_interval_ms", number(100..=3_600_000)).unwrap_or(3_000);
    let embedded_listen = table.read("embedded_listen", listen).unwrap_or((Ipv4Addr::LOCALHOST, 1883).into());
    let is_off = |node: &Node| match &node.data {
        Data::Text(text) => text.is_empty(),
        Data::Bool(on) => !on,
        _ => false,
    };
    table.finish(|name, node| match name {
        "api" | "control" | "log" | "ta_log" if is_off(node) => Some(Later::IsOff),
        "api" => Some(Later::Refused("this version has no API over MQTT yet; remove the key, or set it to \"\" (off)")),
        "control" => Some(Later::Refused(
            "this version takes no control messages (ctl) over MQTT yet; remove the key, or set it to false",
        )),
        "log" => Some(Later::Refused("this version publishes no log yet; remove the key, or set it to \"\" (off)")),
        "ta_log" => {
            Some(Later::Refused("this version publishes no transactions yet; remove the key, or set it to \"\" (off)"))
        }
        "prefix_with_serial" => Some(Later::Refused("this version publishes below cfos_mqtt only; remove the key")),
        "duplicate_window_ms" | "api_max_response" | "ctl_timeout_s" => Some(Later::Refused(
            "belongs to the API and control over MQTT, which this version does not have yet; remove the key",
        )),
        "tls" => Some(Later::Refused("this version has no TLS for MQTT yet; remove the section")),
        _ => None,
    });
    let publish_interval = Duration::from_millis(interval);
    (MqttConfig { broker: broker.flatten(), publish, publish_interval, embedded_listen }, broker_given)
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
    table.finish(|_, _| None);
    LoadConfig {
        mode: mode.unwrap_or_default(),
        cycle: Duration::from_millis(cycle),
        reserve_ma,
        max_total_cur_prc,
        disable_policy: disable_policy.unwrap_or_default(),
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
    devices
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

const NO_DEFAULT_BROKER: &str = "\"mqtt\" means the default broker, but mqtt.broker is not set; expected \
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
    if table.peek("limit_ma").is_none() {
        table.error("limit_ma", "is missing; expected three numbers in mA for L1, L2, L3, like [35000, 35000, 35000]");
    }
    let meter = table.read("meter", |node| meter(text(node)?, devices));
    let failsafe_base_ma = table.read("failsafe_base_ma", three_phases);
    table.finish(|_, _| None);
    Some(CircuitConfig { id: id?, parent, limit_ma: limit_ma.unwrap_or_default(), meter, failsafe_base_ma })
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
