//! `[[device]]`: one device of the file. Knows which keys belong to wallboxes, to meters, to plugins and to the
//! built-in type, and refuses the others: a setting without effect is a mistake nobody sees.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::site::{DeviceId, DeviceKind, Role};

use super::Timing;
use super::parse::{broker_ref, enabled};
use super::reader::{Context, Reader, boolean, json, number, optional_formula, owned, size, text};
use super::tree::{Data, Node, Place, shorten};
use super::types::*;

/// Smallest current a vehicle can be told (IEC 61851-1), in mA.
const LEAST_MA: i64 = 6_000;
/// Largest current the pilot signal can tell (IEC 61851-1), in mA.
const MOST_MA: i64 = 80_000;

/// Reads one device. `None`: it has no usable id; everything else wrong is reported and replaced by a default.
pub(super) fn read(context: &Context<'_>, entries: &[(String, Node)], place: Place) -> Option<DeviceConfig> {
    let mut table = Reader::new(context, "device", "device", entries, place);
    let id = table.read("id", |node| text(node)?.parse::<DeviceId>().map_err(|error| error.to_string()));
    match &id {
        Some(id) => table.rename(format!("device.{id}")),
        None if table.peek("id").is_none() => {
            table.error("id", "is missing; wallboxes are E1, E2, …, meters M1, M2, …")
        }
        None => {}
    }
    // A device without an id is read all the same, so that its other mistakes are told now and not one by one.
    let nameless = id.is_none();
    let id = id.or_else(|| "M1".parse().ok())?;
    let device_type = table.read("type", |node| match text(node)? {
        "" => Err("is empty; expected \"http-input\" or the id of a plugin".into()),
        name => Ok(name.to_owned()),
    });
    if table.peek("type").is_none() {
        table.error("type", "is missing; expected \"http-input\" or the id of a plugin");
    }
    let built_in = device_type.as_deref() == Some(HTTP_INPUT);
    let mut device = DeviceConfig {
        name: table.read("name", owned).unwrap_or_else(|| id.to_string()),
        desc: table.read("desc", owned).unwrap_or_default(),
        device_type: device_type.unwrap_or_default(),
        role: Role::Display,
        enabled: enabled(&mut table),
        endpoints: BTreeMap::new(),
        feed: BrokerRef::Off,
        publish: table.read("publish", broker_ref),
        number: table.read("number", number(0..=1_000_000)),
        config: serde_json::Value::Object(serde_json::Map::new()),
        timeout: table.read("timeout_s", number(1..=86_400)).map(Duration::from_secs),
        poll: None,
        circuit: None,
        phases: None,
        min_ma: 6_000,
        max_ma: 16_000,
        max_ma_expr: None,
        priority: 1,
        failsafe: None,
        sha256: None,
        wasi: false,
        limits: LimitsConfig::default(),
        label: String::new(),
        meter: None,
        fixed_rfid: None,
        charging_rules: None,
        id,
    };
    kind_keys(&mut table, &mut device, nameless);
    driver_keys(&mut table, &mut device, built_in);
    addresses(&mut table, &mut device, built_in);
    table.finish();
    if nameless { None } else { Some(device) }
}

/// Keys that only wallboxes or only meters have.
fn kind_keys(table: &mut Reader<'_>, device: &mut DeviceConfig, nameless: bool) {
    let role = table.read("role", |node| {
        let name = text(node)?;
        Role::from_name(name).ok_or_else(|| {
            let names: Vec<&str> = Role::ALL.iter().map(|role| role.name()).collect();
            format!("unknown role \"{}\", known are: {}", shorten(name), names.join(", "))
        })
    });
    device.role = role.unwrap_or_default();
    device.circuit = table.read("circuit", owned);
    device.phases = table.read("phases", phase_map);
    let min_ma = table.read("min_ma", number(LEAST_MA..=MOST_MA));
    let max_ma = table.read("max_ma", number(LEAST_MA..=MOST_MA));
    device.max_ma_expr = table.read("max_ma_expr", optional_formula).flatten();
    let priority = table.read("priority", number(i64::from(i32::MIN)..=i64::from(i32::MAX)));
    device.failsafe = failsafe(table);
    device.label = table.read("label", owned).unwrap_or_default();
    device.meter = table.read("meter", |node| {
        let id: DeviceId = text(node)?.parse().map_err(|error: crate::site::BadDeviceId| error.to_string())?;
        let is_meter = id.kind() == DeviceKind::Meter;
        if is_meter { Ok(id) } else { Err(format!("{id} is a wallbox; expected a meter, M1, M2, …")) }
    });
    device.fixed_rfid = table.read("fixed_rfid", super::services::card_number);
    device.charging_rules = charging_rules(table);

    device.min_ma = min_ma.unwrap_or(device.min_ma);
    device.max_ma = max_ma.unwrap_or_else(|| device.max_ma.max(device.min_ma));
    device.priority = priority.unwrap_or(device.priority);
    if device.max_ma < device.min_ma {
        table.error("max_ma", format!("{} is below min_ma, which is {}", device.max_ma, device.min_ma));
    }
    if nameless {
        return;
    }
    let (foreign, owner): (&[&str], &str) = match device.id.kind() {
        DeviceKind::Evse => (&["role"], "meters (M1, M2, …)"),
        DeviceKind::Meter => {
            const KEYS: &[&str] = &[
                "circuit",
                "phases",
                "min_ma",
                "max_ma",
                "max_ma_expr",
                "priority",
                "failsafe",
                "label",
                "meter",
                "fixed_rfid",
                "charging_rules",
            ];
            (KEYS, "wallboxes (E1, E2, …)")
        }
    };
    for key in foreign.iter().filter(|key| table.peek(key).is_some()) {
        table.error(key, format!("only {owner} have this key; remove it"));
    }
}

/// Charging rules: JSON in quotes, as clients write them, or the same as TOML. What a rule says is read where rules run:
/// one that is wrong must not keep the host from starting.
pub(super) fn charging_rules(table: &mut Reader<'_>) -> Option<String> {
    if let Some(node) = table.peek("charging_rules") {
        let context = table.context();
        let list: &[Node] = if let Data::List(rules) = &node.data { rules } else { &[] };
        let places = RulePlaces {
            key: context.place(node.place),
            rules: list.iter().map(|rule| context.place(rule.place)).collect(),
            written: !matches!(node.data, Data::Text(_)),
        };
        context.note_rules(table.key("charging_rules"), places);
    }
    table.read("charging_rules", rules_text)
}

fn rules_text(node: &Node) -> Result<String, String> {
    let rules = match &node.data {
        Data::Text(rules) => serde_json::from_str(rules)
            .map_err(|error| format!("expected charging rules as JSON or TOML, docs/charging-rules.md: {error}"))?,
        _ => json(node)?,
    };
    match &rules {
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => Ok(rules.to_string()),
        _ => Err("expected a list of rules, or a table with rule_set and selected_id; docs/charging-rules.md".into()),
    }
}

fn failsafe(table: &mut Reader<'_>) -> Option<FailsafeConfig> {
    let given = table.peek("failsafe").is_some();
    let mut inner = table.table("failsafe");
    let ma = inner.read("ma", |node| match number(0..=MOST_MA)(node)? {
        ma if ma == 0 || i64::from(ma) >= LEAST_MA => Ok(ma),
        _ => Err(format!(
            "expected 0 (stop charging) or {LEAST_MA} to {MOST_MA}, a vehicle cannot be told less than 6 A"
        )),
    });
    let timeout_s = inner.read("timeout_s", number(1..=65_535));
    for key in ["ma", "timeout_s"] {
        if given && inner.peek(key).is_none() {
            inner.error(key, "is missing; expected failsafe = { ma = 6000, timeout_s = 60 }");
        }
    }
    inner.finish();
    Some(FailsafeConfig { ma: ma?, timeout_s: timeout_s? })
}

/// `L1L2L3`: the circuit's phases at the device's L1, L2, L3.
fn phase_map(node: &Node) -> Result<PhaseMap, String> {
    let name = text(node)?;
    let wrong = || {
        format!(
            "expected the circuit's phases at the device's L1, L2, L3, like \"L1L2L3\", \"L2L3L1\" or \"L2\", each once, found \"{}\"",
            shorten(name)
        )
    };
    let mut of = [None; 3];
    let mut rest = name;
    for slot in &mut of {
        if rest.is_empty() {
            break;
        }
        let (phase, after) = match rest.split_at_checked(2) {
            Some(("L1", after)) => (0, after),
            Some(("L2", after)) => (1, after),
            Some(("L3", after)) => (2, after),
            _ => return Err(wrong()),
        };
        *slot = Some(phase);
        rest = after;
    }
    let used: Vec<u8> = of.iter().flatten().copied().collect();
    let twice =
        (1..used.len()).any(|at| used.get(at).is_some_and(|phase| used.iter().take(at).any(|other| other == phase)));
    if used.is_empty() || !rest.is_empty() || twice { Err(wrong()) } else { Ok(PhaseMap { of }) }
}

/// Keys of devices that have a plugin.
fn driver_keys(table: &mut Reader<'_>, device: &mut DeviceConfig, built_in: bool) {
    if let Some(config) = table.read("config", |node| match &node.data {
        Data::Table(_) => json(node),
        other => Err(format!("expected a table like {{ max_current = 16 }}, found {}", other.describe())),
    }) {
        device.config = config;
    }
    if let Some(poll) = table.read("poll_ms", number(100..=3_600_000)) {
        device.poll = Some(Duration::from_millis(poll));
    }
    device.sha256 = table.read("sha256", |node| {
        let digest = text(node)?;
        if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(digest.to_ascii_lowercase())
        } else {
            Err("expected 64 hexadecimal digits".into())
        }
    });
    device.wasi = table.read("wasi", boolean).unwrap_or(false);
    device.limits = limits(table.table("limits"));
    if built_in {
        for key in ["config", "poll_ms", "sha256", "wasi", "limits"] {
            if table.peek(key).is_some() {
                table.error(key, "only plugins have this key, http-input is built in; remove it");
            }
        }
    }
}

/// Ranges: plugin platform 5.6.
fn limits(mut table: Reader<'_>) -> LimitsConfig {
    let limits = LimitsConfig {
        memory: table.read("memory", size(65_536..=256 << 20)),
        tables: table.read("tables", number(0..=131_072)),
        cpu: table.read("cpu_ms", number(1..=2_000)).map(Duration::from_millis),
        call_timeout: table.read("call_timeout_ms", number(1..=60_000)).map(Duration::from_millis),
        log: table.read("log", number(0..=1_000)),
        state: table.read("state", size(0..=1 << 20)),
        http_body: table.read("http_body", size(0..=4 << 20)),
    };
    table.finish();
    limits
}

fn addresses(table: &mut Reader<'_>, device: &mut DeviceConfig, built_in: bool) {
    let slots = table.table("endpoint");
    if built_in {
        let feed = table.read("address", |node| {
            let broker = broker_ref(node).map_err(|why| {
                format!("{why}. An http-input is fed: over HTTP, and over MQTT if address is \"mqtt\" or a broker URL")
            })?;
            Ok(broker)
        });
        device.feed = feed.unwrap_or_default();
        if table.peek("endpoint").is_some() {
            table.error("endpoint", "an http-input has no endpoints; expected address = \"mqtt\" or a broker URL");
        }
        return;
    }
    let address = table.read("address", endpoint_url);
    if address.is_some() && table.peek("endpoint").is_some() {
        table.error("address", "stands beside endpoint; a device has one or the other");
    }
    if let Some(url) = address {
        device.endpoints.insert(DeviceConfig::ADDRESS_SLOT.into(), plain(url));
    }
    for (slot, node) in slots.entries() {
        let key = slots.key(slot);
        let endpoint = match &node.data {
            Data::Table(entries) => endpoint(Reader::new(slots.context(), key, "device.endpoint", entries, node.place)),
            _ => {
                let message = format!(
                    "expected a table like {{ url = \"tcp://192.168.1.20:502\", unit = 1 }}, found {}",
                    node.data.describe()
                );
                slots.error(slot, message);
                None
            }
        };
        if let Some(endpoint) = endpoint {
            device.endpoints.insert(slot.clone(), endpoint);
        }
    }
}

fn endpoint_url(node: &Node) -> Result<EndpointUrl, String> {
    text(node)?.parse().map_err(|error: super::BadUrl| error.to_string())
}

/// An endpoint of which only the address is known.
fn plain(url: EndpointUrl) -> EndpointConfig {
    EndpointConfig {
        url,
        unit: None,
        timeout: None,
        min_gap: None,
        read_only: false,
        topic_prefix: String::new(),
        user: None,
        password_file: None,
        timing: Timing::default(),
    }
}

fn endpoint(mut table: Reader<'_>) -> Option<EndpointConfig> {
    let url = table.read("url", endpoint_url);
    if table.peek("url").is_none() {
        table.error("url", "is missing; expected an address like tcp://192.168.1.20:502");
    }
    let unit = table.read("unit", number(0..=255));
    let timeout = table.read("timeout_ms", number(10..=60_000)).map(Duration::from_millis);
    let min_gap = table.read("min_gap_ms", number(0..=10_000)).map(Duration::from_millis);
    let read_only = table.read("access", |node| match text(node)? {
        "read-only" => Ok(true),
        "read-write" => Ok(false),
        other => Err(format!("expected \"read-write\" or \"read-only\", found \"{}\"", shorten(other))),
    });
    let topic_prefix = table.read("topic_prefix", |node| {
        let prefix = text(node)?.trim_end_matches('/');
        if prefix.contains(['+', '#', '\0']) { Err("a prefix has no wildcards".into()) } else { Ok(prefix.to_owned()) }
    });
    let user = table.read("user", owned);
    let password_file = table.path("password_file");

    let (kind, foreign): (&str, &[&str]) = match &url {
        None => ("", &[]),
        Some(EndpointUrl::Http(_)) => ("HTTP", &["unit", "min_gap_ms", "topic_prefix"]),
        Some(EndpointUrl::Mqtt(_)) => ("MQTT", &["unit", "timeout_ms", "min_gap_ms", "user", "password_file"]),
        Some(_) => ("Modbus", &["topic_prefix", "user", "password_file"]),
    };
    for key in foreign.iter().filter(|key| table.peek(key).is_some()) {
        table.error(key, format!("does not belong to an {kind} address; remove it"));
    }
    if !foreign.contains(&"user") {
        table.together("user", "password_file");
    }
    table.finish();
    let defaults = plain(url?);
    Some(EndpointConfig {
        unit,
        timeout,
        min_gap,
        read_only: read_only.unwrap_or(false),
        topic_prefix: topic_prefix.unwrap_or_default(),
        user,
        password_file,
        ..defaults
    })
}
