//! What a full device configuration of a client changes in the file: only keys that differ from what `get_devices`
//! shows, so that a device that comes back as it went out writes nothing. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};
use toml_edit::Table;

use crate::config::{DeviceConfig, Edit, EndpointUrl, HTTP_INPUT, is_card_number};
use crate::definition::Library;
use crate::plugin::Plugin;
use crate::site::{DeviceId, DeviceKind, Role};

use super::super::SiteView;
use super::super::device::dev_type_of;
use super::rules::{self, text as rules_text};
use super::{Refusal, bad, users, values};

/// Settings of a wallbox that this version lacks, with what they always are.
pub(super) const NOT_HERE: &[(&str, &str)] = &[
    ("allow_ph_sw", "false"),
    ("battery_save_threshold", "0"),
    ("enable_snooze", "false"),
    ("enable_wakeup", "false"),
    ("group", "0"),
    ("ocpp_gateway_client_id", "\"\""),
];

/// The device that is to change, or to be made.
pub(super) struct Target<'a> {
    pub view: &'a SiteView,
    pub plugins: &'a [Arc<Plugin>],
    pub definitions: &'a Library,
    pub id: &'a DeviceId,
    /// `None`: it is new.
    pub present: Option<&'a DeviceConfig>,
    /// As `get_devices` shows it; null for a new one.
    pub shown: &'a Value,
}

/// Everything that differs.
pub(super) fn edits(target: &Target<'_>, wanted: &Map<String, Value>) -> Result<Vec<Edit>, Refusal> {
    let device_type = target.device_type(wanted)?;
    let mut edits = Vec::new();
    if target.present.is_none() {
        edits.push(target.entry(&device_type));
        // With several circuits a wallbox has to name its own; the contract knows the house connection only.
        if let (DeviceKind::Evse, [root, _, ..]) = (target.id.kind(), target.view.config.circuits.as_slice()) {
            edits.push(target.set("circuit", root.id.as_str()));
        }
    }
    let differs = |key: &str| {
        let value = wanted.get(key)?;
        let same = target.shown.get(key).is_some_and(|shown| values::same(shown, value));
        (!same).then_some(value)
    };
    for key in wanted.keys() {
        if let Some(value) = differs(key) {
            edits.extend(target.simple(key, value)?);
            target.refused(key, value)?;
        }
    }
    if differs("crule_set").is_some() && differs("charging_rules").is_some() {
        return Err(bad("charging_rules: the list is in crule_set.rule_set too, and there it says something else"));
    }
    target.currents(wanted)?;
    edits.extend(target.phases(differs("used_phases"), differs("phase_rotation"))?);
    edits.extend(target.wire(&device_type, differs("address"), differs("id"))?);
    if let Some(value) = differs("users") {
        edits.extend(target.users(value)?);
    }
    Ok(edits)
}

impl Target<'_> {
    fn key(&self, key: &str) -> Vec<String> {
        ["device", self.id.as_str()].into_iter().chain(key.split('.')).map(str::to_owned).collect()
    }

    fn set(&self, key: &str, value: impl Into<toml_edit::Value>) -> Edit {
        Edit::Set { key: self.key(key), value: value.into() }
    }

    fn remove(&self, key: &str) -> Edit {
        Edit::Remove { key: self.key(key) }
    }

    fn entry(&self, device_type: &str) -> Edit {
        let mut entry = Table::new();
        entry.insert("id", toml_edit::value(self.id.as_str()));
        entry.insert("type", toml_edit::value(device_type));
        Edit::Entry { list: "device", entry }
    }

    /// The `type` of the file: of the present device, or the one that `dev_type` of a new one means.
    fn device_type(&self, wanted: &Map<String, Value>) -> Result<String, Refusal> {
        let given = wanted.get("dev_type");
        let kind = self.id.kind();
        if let Some(device) = self.present {
            let shown = dev_type_of(kind, &device.device_type);
            return match given {
                Some(given) if *given != Value::String(shown.clone()) => {
                    let given = values::describe(given);
                    Err(bad(format!("dev_type: {} is {shown}, found {given}; delete it and make a new one", self.id)))
                }
                _ => Ok(device.device_type.clone()),
            };
        }
        let files = match kind {
            DeviceKind::Meter => self.definitions.all(),
            // Definitions describe meters.
            DeviceKind::Evse => Vec::new(),
        };
        let types = [HTTP_INPUT].into_iter().chain(self.plugins.iter().map(|plugin| plugin.id()));
        let types = types.chain(files.iter().map(|file| file.definition.dev_type.as_str()));
        let mut types: Vec<(String, &str)> = types.map(|name| (dev_type_of(kind, name), name)).collect();
        types.sort();
        let found = types.iter().find(|(dev_type, _)| given.and_then(Value::as_str) == Some(dev_type));
        found.map(|(_, name)| (*name).to_owned()).ok_or_else(|| {
            let known: Vec<&str> = types.iter().map(|(dev_type, _)| dev_type.as_str()).collect();
            let given = given.map_or_else(|| "none".into(), values::describe);
            let known = known.join(", ");
            bad(format!("dev_type: there is no device {} yet, and a new one is one of {known}; found {given}", self.id))
        })
    }

    /// Keys that stand for themselves.
    fn simple(&self, key: &str, value: &Value) -> Result<Option<Edit>, Refusal> {
        let text = |name: &str| values::line(key, value, values::NAME).map(|text| self.set(name, text));
        let number = |name: &str, range| values::whole(key, value, range).map(|number| self.set(name, number));
        // A number as text is one.
        let current = |name: &str| match value.as_str().map(str::parse::<f64>) {
            None => number(name, 6_000..=80_000),
            Some(Ok(ma)) => values::whole(key, &ma.into(), 6_000..=80_000).map(|ma| self.set(name, ma)),
            Some(Err(_)) => Err(bad(format!("{key}: expected a number in mA, found {}", values::describe(value)))),
        };
        let formula = |name: &str| match values::formula(key, value)?.as_str() {
            "" => Ok(self.remove(name)),
            text => Ok::<_, Refusal>(self.set(name, text)),
        };
        Ok(Some(match key {
            "name" => text("name")?,
            "label" => text("label")?,
            "desc" => self.set("desc", values::lines(key, value, values::DESCRIPTION)?),
            "number" => number("number", 0..=1_000_000)?,
            "device_enabled" => self.set("enabled", values::flag(key, value)?),
            "min_charging_cur" => current("min_ma")?,
            // The number stays the bound, a formula lowers it.
            "max_charging_cur" if values::is_formula(value) => formula("max_ma_expr")?,
            "max_charging_cur_expr" => formula("max_ma_expr")?,
            "max_charging_cur" => current("max_ma")?,
            "prio" => number("priority", i64::from(i32::MIN)..=i64::from(i32::MAX))?,
            "role" => {
                let role = usize::try_from(values::whole(key, value, 0..=6)?).ok();
                let role = role.and_then(|role| Role::ALL.get(role)).copied().unwrap_or_default();
                self.set("role", role.name())
            }
            "attach" => match value {
                Value::Null => self.remove("meter"),
                Value::String(none) if none.is_empty() => self.remove("meter"),
                _ => {
                    let text = values::line(key, value, values::NAME)?;
                    let meter = values::device(&text).map_err(|error| bad(format!("attach: {error}")))?;
                    if !self.view.config.devices.iter().any(|device| device.id == meter) {
                        return Err(bad(format!("attach: there is no device {meter}")));
                    }
                    self.set("meter", meter.as_str())
                }
            },
            "fixed_rfid" => match value {
                Value::Null => self.remove("fixed_rfid"),
                Value::String(none) if none.is_empty() => self.remove("fixed_rfid"),
                Value::String(card) if is_card_number(card) => self.set("fixed_rfid", card.as_str()),
                _ => return Err(bad("fixed_rfid: expected 1 to 64 letters and digits, or nothing")),
            },
            "crule_set" => self.rule_sets(value)?,
            "charging_rules" => self.own_rules(value)?,
            _ => return Ok(None),
        }))
    }

    /// A maximum that is nowhere written follows a larger minimum in the file; a client never raises it by that.
    fn currents(&self, wanted: &Map<String, Value>) -> Result<(), Refusal> {
        let present = self.present.map_or((6_000, 16_000), |device| (device.min_ma, device.max_ma));
        let milliamps = |key: &str, present: u32| {
            let given = wanted.get(key).and_then(|value| match value {
                Value::String(text) => text.parse().ok(),
                value => value.as_f64(),
            });
            given.unwrap_or_else(|| present.into())
        };
        let (min, max) = (milliamps("min_charging_cur", present.0), milliamps("max_charging_cur", present.1));
        if min <= max {
            return Ok(());
        }
        Err(bad(format!("min_charging_cur: {min} is above max_charging_cur, which is {max}")))
    }

    /// All rule sets. Kept as they are, keys and codes nobody here knows included.
    fn rule_sets(&self, value: &Value) -> Result<Edit, Refusal> {
        let set = values::inner("crule_set", value)?;
        let rules = set.get("rule_set").ok_or_else(|| bad("crule_set.rule_set is missing"))?;
        values::inner("crule_set.rule_set", rules)?;
        Ok(self.set("charging_rules", rules_text("crule_set", value)?))
    }

    /// The list of the own rule set, under the name that clients used before there were several.
    fn own_rules(&self, value: &Value) -> Result<Edit, Refusal> {
        let none = Value::Array(Vec::new());
        let list = if values::is_nothing(value) { &none } else { value };
        values::list("charging_rules", list)?;
        rules_text("charging_rules", list)?;
        let mut sets =
            self.present.map_or_else(|| rules::sets(None), |device| rules::sets(device.charging_rules.as_deref()));
        if let Some(own) = sets.get_mut("rule_set").and_then(Value::as_object_mut) {
            own.insert(String::new(), list.clone());
        }
        Ok(self.set("charging_rules", rules_text("crule_set", &sets)?))
    }

    /// Settings that this version lacks.
    fn refused(&self, key: &str, value: &Value) -> Result<(), Refusal> {
        let is_meter = self.id.kind() == DeviceKind::Meter;
        let always = match (key, is_meter) {
            ("factor", true) => Some("1"),
            ("used_phases", true) => Some("7"),
            ("hide_dev" | "show_chart_in_dev_info" | "show_chart_in_overview", _) => Some("false"),
            ("show_in_overview", _) => Some("true"),
            _ => NOT_HERE.iter().find(|(name, _)| *name == key).map(|(_, always)| *always),
        };
        let Some(always) = always else { return Ok(()) };
        let is = serde_json::from_str(always).is_ok_and(|always| values::same(&always, value));
        if is || value.is_null() {
            return Ok(());
        }
        let found = values::describe(value);
        Err(bad(format!("{key}: this version cannot do that, it is always {always}; found {found}")))
    }

    /// `used_phases`, a bit field of the building's phases, and `phase_rotation`, the building's phase at L1, make one
    /// map. `None`: as it is.
    fn phases(&self, used: Option<&Value>, rotation: Option<&Value>) -> Result<Option<Edit>, Refusal> {
        if self.id.kind() == DeviceKind::Meter || (used.is_none() && rotation.is_none()) {
            return Ok(None);
        }
        let now = |key: &str| self.shown.get(key).and_then(Value::as_i64).unwrap_or(0);
        let turned = rotation.map(|value| match values::whole("phase_rotation", value, 0..=240) {
            // The coding is not documented; degrees are what the original's dialog shows.
            Ok(number @ 0..=2) => Ok(number),
            Ok(120) => Ok(1),
            Ok(240) => Ok(2),
            _ => Err(bad(format!(
                "phase_rotation: expected 0, 1 or 2 (or 0, 120, 240 degrees), found {}",
                values::describe(value)
            ))),
        });
        let turned = turned.transpose()?;
        let wanted = used.map(|value| values::whole("used_phases", value, 0..=7)).transpose()?;
        let first = turned.unwrap_or_else(|| now("phase_rotation"));
        let bits = wanted.unwrap_or_else(|| now("used_phases"));
        if bits == 0 {
            // Nobody says which phases are there; a rotation says how all three are connected.
            return Ok(Some(match first {
                0 => self.remove("phases"),
                _ => self.set("phases", names(7, first)),
            }));
        }
        if bits & (1 << first) == 0 {
            match (wanted.is_some(), turned) {
                // One of the two was not given, or says nothing: the other one counts.
                (true, None | Some(0)) => {
                    return Ok(Some(self.set("phases", names(bits, i64::from(bits.trailing_zeros())))));
                }
                (false, Some(first)) if bits.count_ones() == 1 => {
                    return Ok(Some(self.set("phases", names(1 << first, first))));
                }
                _ => {
                    return Err(bad(format!(
                        "phase_rotation: L{} is not among used_phases, which is {bits}",
                        first + 1
                    )));
                }
            }
        }
        Ok(Some(self.set("phases", names(bits, first))))
    }

    /// `address` and `id`, the Modbus unit.
    fn wire(&self, device_type: &str, address: Option<&Value>, unit: Option<&Value>) -> Result<Vec<Edit>, Refusal> {
        let address = address.map(|value| values::line("address", value, 1_000)).transpose()?;
        let unit = unit.map(|value| values::whole("id", value, 0..=255)).transpose()?;
        if address.as_deref().is_some_and(|address| address.contains("***")) {
            return Err(bad("address: *** stands for a password that is not shown; expected the password itself"));
        }
        if device_type == HTTP_INPUT {
            if let Some(unit) = unit.filter(|unit| *unit != 1) {
                return Err(bad(format!("id: {} has no Modbus unit; expected 1, found {unit}", self.id)));
            }
            return Ok(address.map(|address| self.address(&address)).into_iter().collect());
        }
        let slots = self.present.map(|device| &device.endpoints).into_iter().flatten().collect::<Vec<_>>();
        let slot = match slots.as_slice() {
            _ if address.is_none() && unit.is_none() => return Ok(Vec::new()),
            [_, _, ..] => {
                return Err(bad(format!("address: {} has several; change them in the configuration file", self.id)));
            }
            [(slot, _)] if !slot.is_empty() => slot.as_str(),
            _ => "",
        };
        let mut edits = Vec::new();
        match unit {
            // A new device with the unit that it has anyway needs no slot.
            None => edits.extend(address.map(|address| match slot {
                "" => self.address(&address),
                slot => self.set(&format!("endpoint.{slot}.url"), address),
            })),
            Some(1) if slots.is_empty() => edits.extend(address.map(|address| self.address(&address))),
            Some(unit) => {
                let present = slots.first().map(|(_, endpoint)| &endpoint.url);
                let name = if slot.is_empty() { self.only_slot(device_type)? } else { slot.to_owned() };
                let address = match (address, present) {
                    (Some(address), _) => Some(address),
                    // A broker's password is not shown, and a broker has no unit.
                    (None, Some(url)) if slot.is_empty() && !matches!(url, EndpointUrl::Mqtt(_)) => {
                        Some(url.to_string())
                    }
                    (None, Some(_)) if !slot.is_empty() => None,
                    _ => return Err(bad(format!("id: {} has no address with a Modbus unit", self.id))),
                };
                if slot.is_empty() {
                    edits.push(self.remove("address"));
                }
                edits.extend(address.map(|address| self.set(&format!("endpoint.{name}.url"), address)));
                edits.push(self.set(&format!("endpoint.{name}.unit"), unit));
            }
        }
        Ok(edits)
    }

    fn address(&self, address: &str) -> Edit {
        if address.is_empty() { self.remove("address") } else { self.set("address", address) }
    }

    /// A unit stands beside a named slot; the name is the plugin's.
    fn only_slot(&self, device_type: &str) -> Result<String, Refusal> {
        if self.definitions.get(device_type).is_some() {
            // A definition has one address, under whatever name.
            return Ok("main".to_owned());
        }
        let plugin = self.plugins.iter().find(|plugin| plugin.id() == device_type);
        let slots: Vec<&String> = plugin.map(|plugin| plugin.manifest().slots.keys().collect()).unwrap_or_default();
        match slots.as_slice() {
            [only] => Ok((*only).clone()),
            _ => Err(bad(format!("id: give {} its unit in the configuration file, under endpoint", self.id))),
        }
    }

    /// Who is assigned stands with the users.
    fn users(&self, value: &Value) -> Result<Vec<Edit>, Refusal> {
        if self.id.kind() == DeviceKind::Meter {
            return if values::is_nothing(value) { Ok(Vec::new()) } else { Err(bad("users: a meter has none")) };
        }
        let known = &self.view.config.users;
        let mut wanted = Vec::new();
        for (index, id) in values::list("users", value)?.iter().enumerate() {
            let user = known.iter().find(|user| id.as_str() == Some(&user.id));
            // The id is a PIN and is not repeated.
            wanted.push(user.ok_or_else(|| bad(format!("users[{index}]: there is no such user")))?.id.as_str());
        }
        let changed = known.iter().filter_map(|user| {
            let (is, shall) = (user.devices.contains(self.id), wanted.contains(&user.id.as_str()));
            let mut user = user.clone();
            match (is, shall) {
                (false, true) => user.devices.push(self.id.clone()),
                (true, false) => user.devices.retain(|id| id != self.id),
                _ => return None,
            }
            Some(Edit::Entry { list: "user", entry: users::entry(&user) })
        });
        Ok(changed.collect())
    }
}

/// `L2L3L1` of bits and the first phase.
fn names(bits: i64, first: i64) -> String {
    let order = (0..3).map(|step| (first + step) % 3);
    order.filter(|phase| bits & (1 << phase) != 0).map(|phase| format!("L{}", phase + 1)).collect()
}
