//! `[http]`, `[modbus_server]` and `[[user]]`: what others reach us by, and who may charge.

use std::net::{IpAddr, Ipv4Addr};

use crate::site::{DeviceId, DeviceKind};

use super::parse::listen;
use super::reader::{Reader, boolean, number, owned, text};
use super::tree::{Data, Node, shorten};
use super::types::*;

pub(super) fn http(mut table: Reader<'_>) -> HttpConfig {
    let listen = table.read("listen", listen).unwrap_or((Ipv4Addr::LOCALHOST, 4712).into());
    let admin_password = table.read("admin_password_hash", password_hash).flatten();
    let localhost_is_admin = table.read("localhost_is_admin", boolean).unwrap_or(false);
    let cert = table.read("tls_cert", text);
    let key = table.read("tls_key", text);
    table.together("tls_cert", "tls_key");
    table.finish();
    let tls = cert.zip(key).map(|(cert, key)| (cert.into(), key.into()));
    HttpConfig { listen, admin_password, localhost_is_admin, tls }
}

/// Empty: no password.
fn password_hash(node: &Node) -> Result<Option<PasswordHash>, String> {
    let hash = text(node)?;
    if hash.is_empty() {
        return Ok(None);
    }
    let wanted = "expected a hash like $argon2id$v=19$…, as `ladekern password` prints it";
    match argon2::PasswordHash::new(hash) {
        Ok(parsed) if parsed.algorithm == argon2::ARGON2ID_IDENT && parsed.hash.is_some() => {
            Ok(Some(PasswordHash(hash.to_owned())))
        }
        // The text is not repeated: somebody may have written the password itself.
        _ => Err(wanted.into()),
    }
}

pub(super) fn modbus_server(mut table: Reader<'_>, devices: &[&DeviceId]) -> ModbusServerConfig {
    let enabled = table.read("enabled", boolean).unwrap_or(false);
    let listen = table.read("listen", |node| {
        let text = text(node)?;
        text.parse().map_err(|_| format!("\"{}\" is no address, expected one like 127.0.0.1", shorten(text)))
    });
    let ports = table.read("ports", |node| {
        let wanted = "expected three different ports, of the wallbox and of two meters, like [4701, 4702, 4703]";
        let Data::List(items) = &node.data else { return Err(format!("{wanted}, found {}", node.data.describe())) };
        let ports: Result<Vec<u16>, String> = items.iter().map(number(0..=65_535)).collect();
        let ports = <[u16; 3]>::try_from(ports.map_err(|why| format!("{wanted}; {why}"))?);
        let [a, b, c] = ports.map_err(|ports| format!("{wanted}, found {}", ports.len()))?;
        // 0 lets the system choose, which tests do.
        let same = |a: u16, b: u16| a == b && a != 0;
        if same(a, b) || same(b, c) || same(a, c) { Err(wanted.into()) } else { Ok([a, b, c]) }
    });
    let mut shown = |key, kind| {
        table.read(key, |node| {
            let id: DeviceId = text(node)?.parse().map_err(|error: crate::site::BadDeviceId| error.to_string())?;
            if id.kind() != kind {
                return Err(format!("{id} is none; wallboxes are E1, E2, …, meters M1, M2, …"));
            }
            if devices.contains(&&id) { Ok(id) } else { Err(format!("there is no device {id}")) }
        })
    };
    let evse = shown("evse", DeviceKind::Evse);
    let meters = [shown("meter1", DeviceKind::Meter), shown("meter2", DeviceKind::Meter)];
    table.finish();
    ModbusServerConfig {
        enabled,
        listen: listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ports: ports.unwrap_or([4701, 4702, 4703]),
        evse,
        meters,
    }
}

pub(super) fn users(root: &mut Reader<'_>, devices: &[&DeviceId]) -> Vec<UserConfig> {
    let mut users: Vec<UserConfig> = Vec::new();
    let context = root.context();
    for (index, (place, entries)) in root.tables("user").into_iter().enumerate() {
        // Ids are PINs and do not belong into messages.
        let table = Reader::new(context, format!("user {}", index + 1), "user", entries, place);
        let Some(user) = user(table, devices) else { continue };
        if users.iter().any(|other| other.id == user.id) {
            let message = "there is an earlier user with this id; ids are unique";
            context.error(place, format!("user {}.id", index + 1), message);
            continue;
        }
        users.push(user);
    }
    users
}

fn user(mut table: Reader<'_>, devices: &[&DeviceId]) -> Option<UserConfig> {
    let id = table.read("id", |node| {
        let id = text(node)?;
        let digits = !id.is_empty() && id.len() <= 32 && id.bytes().all(|byte| byte.is_ascii_digit());
        if digits { Ok(id.to_owned()) } else { Err("expected 1 to 32 digits in quotes".into()) }
    });
    if table.peek("id").is_none() {
        table.error("id", "is missing; expected digits, like \"4711\"");
    }
    let name = table.read("name", owned).unwrap_or_default();
    let display = table.read("display", boolean).unwrap_or(true);
    let devices = table.read("devices", |node| wallboxes(node, devices)).unwrap_or_default();
    let mut cards = Vec::new();
    for (place, entries) in table.tables("card") {
        let card = Reader::new(table.context(), table.key("card"), "user.card", entries, place);
        cards.extend(self::card(card));
    }
    let charging_rules = super::device::charging_rules(&mut table);
    table.finish();
    Some(UserConfig { id: id?, name, display, devices, cards, charging_rules })
}

fn wallboxes(node: &Node, devices: &[&DeviceId]) -> Result<Vec<DeviceId>, String> {
    let wanted = "expected a list of wallboxes, like [\"E1\", \"E2\"]";
    let Data::List(items) = &node.data else { return Err(format!("{wanted}, found {}", node.data.describe())) };
    let one = |node: &Node| -> Result<DeviceId, String> {
        let id: DeviceId = text(node)?.parse().map_err(|error: crate::site::BadDeviceId| error.to_string())?;
        match devices.contains(&&id) {
            _ if id.kind() != DeviceKind::Evse => Err(format!("{id} is a meter; {wanted}")),
            true => Ok(id),
            false => Err(format!("there is no device {id}")),
        }
    };
    items.iter().map(one).collect()
}

fn card(mut table: Reader<'_>) -> Option<CardConfig> {
    let id = table.read("id", card_number);
    if table.peek("id").is_none() {
        table.error("id", "is missing; expected the card's number in quotes");
    }
    let name = table.read("name", owned).unwrap_or_default();
    let authorises = table.read("authorises", boolean).unwrap_or(true);
    let toggles = table.read("toggles", boolean).unwrap_or(false);
    let phases = table.read("phases", |node| match number(0..=3)(node)? {
        2 => Err("expected 0 (leave them), 1 or 3".into()),
        phases => Ok(phases),
    });
    table.finish();
    Some(CardConfig { id: id?, name, authorises, toggles, phases: phases.unwrap_or(0) })
}

/// The number of an RFID card, or a PIN.
pub(super) fn card_number(node: &Node) -> Result<String, String> {
    let id = text(node)?;
    // The text is not repeated: messages end up in logs.
    if is_card_number(id) { Ok(id.to_owned()) } else { Err("expected 1 to 64 letters and digits in quotes".into()) }
}

/// Whether a card number could be one; the number itself is not in the message.
pub fn is_card_number(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
