//! The message of `ctl`: from bytes to what each wallbox is asked (contract A6, rules B9 and B10). Pure: needs the
//! configured devices, and knows no broker and no wallbox. A message is right as a whole or changes nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::config::DeviceConfig;
use crate::site::{Command, DeviceId, DeviceKind};

/// What one wallbox is asked. `None`, and `false` for `wake`: nothing is said about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `cur`: current per phase in mA; 0 or between the wallbox's minimum and maximum.
    pub current: Option<u32>,
    /// `ena`: charging is allowed.
    pub enable: Option<bool>,
    /// `wke`: the car is to be woken up.
    pub wake: bool,
    /// `phs`: 1 or 3 phases.
    pub phases: Option<u8>,
}

/// Something in a good message that is not done as it says, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The wallbox.
    pub device: DeviceId,
    /// What is done instead, and why.
    pub text: String,
}

/// A good message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// By wallbox.
    pub each: BTreeMap<DeviceId, Wish>,
    /// Currents that were changed (rule B10).
    pub notes: Vec<Note>,
}

/// A message that changes nothing: what is wrong and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct BadMessage {
    /// `line 1 column 8`, or the end of the message.
    pub place: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Reads a message, JSON or JSON5.
///
/// # Errors
/// See [`BadMessage`].
pub fn parse(payload: &[u8], devices: &[DeviceConfig]) -> Result<Wishes, BadMessage> {
    let text = std::str::from_utf8(payload).map_err(|error| BadMessage {
        place: format!("byte {}", error.valid_up_to() + 1),
        reason: "no UTF-8 text; expected an object like {\"E1\": {\"cur\": 8000}}".into(),
    })?;
    let mut parser = json5::Deserializer::from_str(text);
    let wishes = Anything(Wallboxes { devices }).deserialize(&mut parser).map_err(|error| bad(&error))?;
    // What stands behind the object is found by a parser that wants nothing in particular of it.
    json5::from_str::<de::IgnoredAny>(text).map_err(|error| bad(&error))?;
    Ok(wishes)
}

/// The parser's words, the position in front. It finds an early end at the bracket that is still open.
fn bad(error: &json5::Error) -> BadMessage {
    let text = error.to_string();
    match error.position() {
        _ if text.starts_with("EOF") => {
            BadMessage { place: "at the end".into(), reason: "the message ends too early".into() }
        }
        None => BadMessage { place: "at the end".into(), reason: text },
        Some(position) => {
            let place = position.to_string();
            let reason = text.strip_suffix(&format!(" at {place}")).unwrap_or(&text).to_owned();
            BadMessage { place, reason }
        }
    }
}

impl Wish {
    /// The commands in the order in which they are safe: phases while nothing is raised yet, and nothing that would
    /// enable a wallbox when the message forbids charging.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        // A current above zero also enables, so with `ena: false` it waits for the message that allows charging.
        let current = self.current.filter(|ma| *ma == 0 || self.enable != Some(false));
        let mut commands = Vec::new();
        commands.extend(self.phases.map(Command::Phases));
        commands.extend(current.map(Command::Current));
        commands.extend(self.enable.map(Command::Enable));
        commands.extend(self.wake.then_some(Command::WakeUp));
        commands
    }

    /// The current that [`Wish::commands`] leaves out because charging is forbidden.
    #[must_use]
    pub fn held_back(&self) -> Option<u32> {
        self.current.filter(|ma| *ma > 0 && self.enable == Some(false))
    }
}

/// Shows whatever stands there to a visitor, which says what is wrong with it.
struct Anything<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Anything<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        from.deserialize_any(self.0)
    }
}

/// Shows a name to a visitor.
struct Text<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Text<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        from.deserialize_str(self.0)
    }
}

/// The whole object.
struct Wallboxes<'a> {
    devices: &'a [DeviceConfig],
}

impl<'de> Visitor<'de> for Wallboxes<'_> {
    type Value = Wishes;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object like {\"E1\": {\"cur\": 8000}}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wishes, A::Error> {
        let mut wishes = Wishes::default();
        while let Some(device) = map.next_key_seed(Text(Wallbox { devices: self.devices, known: &wishes.each }))? {
            let wish = map.next_value_seed(Anything(OneWish { device, notes: &mut wishes.notes }))?;
            wishes.each.insert(device.id.clone(), wish);
        }
        Ok(wishes)
    }
}

/// The id of a wallbox.
struct Wallbox<'a, 'k> {
    devices: &'a [DeviceConfig],
    known: &'k BTreeMap<DeviceId, Wish>,
}

impl<'a> Visitor<'_> for Wallbox<'a, '_> {
    type Value = &'a DeviceConfig;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the id of a wallbox like \"E1\"")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let name = short(name);
        let Some(device) = self.devices.iter().find(|device| device.id.as_str() == name) else {
            return Err(E::custom(format!("there is no device \"{name}\"; expected the id of a wallbox like \"E1\"")));
        };
        if device.id.kind() != DeviceKind::Evse {
            return Err(E::custom(format!("{name} is a meter; only wallboxes are controlled")));
        }
        if !device.enabled {
            return Err(E::custom(format!("{name} is disabled")));
        }
        if self.known.contains_key(&device.id) {
            return Err(E::custom(format!("{name} stands there twice")));
        }
        Ok(device)
    }
}

/// The members for one wallbox.
struct OneWish<'a, 'n> {
    device: &'a DeviceConfig,
    notes: &'n mut Vec<Note>,
}

impl<'de> Visitor<'de> for OneWish<'_, '_> {
    type Value = Wish;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "an object with cur, ena, wke or phs for {}", self.device.id)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wish, A::Error> {
        let id = &self.device.id;
        let mut wish = Wish::default();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key_seed(Text(Name { device: id, seen: &seen }))? {
            match name {
                Member::Cur => wish.current = Some(map.next_value_seed(Anything(Current(self.device, self.notes)))?),
                Member::Ena => wish.enable = Some(map.next_value_seed(Anything(Switch(id, "ena")))?),
                Member::Wke => wish.wake = map.next_value_seed(Anything(Switch(id, "wke")))?,
                Member::Phs => wish.phases = Some(map.next_value_seed(Anything(Phases(id)))?),
            }
            seen.push(name);
        }
        Ok(wish)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Cur,
    Ena,
    Wke,
    Phs,
}

/// The name of a member.
struct Name<'a> {
    device: &'a DeviceId,
    seen: &'a [Member],
}

impl Visitor<'_> for Name<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("cur, ena, wke or phs")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Member, E> {
        let member = match name {
            "cur" => Member::Cur,
            "ena" => Member::Ena,
            "wke" => Member::Wke,
            "phs" => Member::Phs,
            other => {
                let (id, other) = (self.device, short(other));
                return Err(E::custom(format!("{id} has no member \"{other}\"; expected cur, ena, wke or phs")));
            }
        };
        if self.seen.contains(&member) {
            return Err(E::custom(format!("{}: {name} stands there twice", self.device)));
        }
        Ok(member)
    }
}

/// `cur`
struct Current<'a, 'n>(&'a DeviceConfig, &'n mut Vec<Note>);

impl Current<'_, '_> {
    /// Rule B10. Nobody charges with 1 mA up to the minimum (IEC 61851), and nothing goes above the maximum.
    fn within(self, ma: u64) -> u32 {
        let Current(device, notes) = self;
        let (id, min, max) = (&device.id, device.min_ma, device.max_ma);
        let (allowed, text) = match u32::try_from(ma).unwrap_or(u32::MAX) {
            0 => return 0,
            below if below < min => (0, format!("cur {ma} is below the minimum of {min} mA: paused")),
            above if above > max => (max, format!("cur {ma} is above the maximum: {max} mA")),
            allowed => return allowed,
        };
        notes.push(Note { device: id.clone(), text });
        allowed
    }
}

impl Visitor<'_> for Current<'_, '_> {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: cur as whole milliamps, 0 or more", self.0.id)
    }

    fn visit_u64<E: de::Error>(self, ma: u64) -> Result<u32, E> {
        Ok(self.within(ma))
    }

    fn visit_u128<E: de::Error>(self, ma: u128) -> Result<u32, E> {
        Ok(self.within(u64::try_from(ma).unwrap_or(u64::MAX)))
    }

    fn visit_i64<E: de::Error>(self, ma: i64) -> Result<u32, E> {
        match u64::try_from(ma) {
            Ok(ma) => Ok(self.within(ma)),
            Err(_) => Err(E::custom(format!("{}: cur {ma} is negative; 0 pauses", self.0.id))),
        }
    }

    fn visit_i128<E: de::Error>(self, ma: i128) -> Result<u32, E> {
        match u128::try_from(ma) {
            Ok(ma) => self.visit_u128(ma),
            Err(_) => Err(E::custom(format!("{}: cur {ma} is negative; 0 pauses", self.0.id))),
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "finite, not negative; casts saturate")]
    fn visit_f64<E: de::Error>(self, ma: f64) -> Result<u32, E> {
        let id = &self.0.id;
        if !ma.is_finite() {
            return Err(E::custom(format!("{id}: cur is no finite number")));
        }
        if ma < 0.0 {
            return Err(E::custom(format!("{id}: cur {ma} is negative; 0 pauses")));
        }
        if ma.fract() != 0.0 {
            return Err(E::custom(format!("{id}: cur {ma} has a fraction; expected whole milliamps")));
        }
        Ok(self.within(ma as u64))
    }
}

/// `ena`, `wke`
struct Switch<'a>(&'a DeviceId, &'static str);

impl Visitor<'_> for Switch<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {} as true or false", self.0, self.1)
    }

    fn visit_bool<E: de::Error>(self, on: bool) -> Result<bool, E> {
        Ok(on)
    }
}

/// `phs`
struct Phases<'a>(&'a DeviceId);

impl Visitor<'_> for Phases<'_> {
    type Value = u8;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: phs 1 or 3", self.0)
    }

    fn visit_u64<E: de::Error>(self, phases: u64) -> Result<u8, E> {
        match phases {
            1 => Ok(1),
            3 => Ok(3),
            other => Err(E::custom(format!("{}: phs {other}; expected 1 or 3", self.0))),
        }
    }

    fn visit_i64<E: de::Error>(self, phases: i64) -> Result<u8, E> {
        match u64::try_from(phases) {
            Ok(phases) => self.visit_u64(phases),
            Err(_) => Err(E::custom(format!("{}: phs {phases}; expected 1 or 3", self.0))),
        }
    }
}

/// A name from outside, for a message.
fn short(text: &str) -> String {
    crate::config::tree::shorten(text)
}

#[cfg(test)]
#[path = "message/tests.rs"]
mod tests;
