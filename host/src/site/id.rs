//! Device ids as the contract writes them: wallboxes `E<n>`, meters `M<n>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// `E1`, `M3`: unique in a site, the name in topics and in the HTTP API. Orders by letter, then by number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeviceId {
    text: Arc<str>,
    number: u32,
}

/// Whether a device charges cars or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// A wallbox (EVSE), id `E<n>`.
    Evse,
    /// A meter, inverter or battery, id `M<n>`.
    Meter,
}

/// What a meter measures; decides how the load manager and the contract use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Shown, used for nothing.
    #[default]
    Display,
    /// Consumption of the house.
    Consumption,
    /// Generation.
    Generation,
    /// The grid connection, positive is import.
    Grid,
    /// Consumption of wallboxes.
    Ev,
    /// A battery that serves the house only.
    StorageHome,
    /// A battery whose discharge may charge cars.
    StorageAll,
}

impl Role {
    /// All roles in the order of their numbers in the contract (0 display … 6 storage-all).
    pub const ALL: [Role; 7] =
        [Role::Display, Role::Consumption, Role::Generation, Role::Grid, Role::Ev, Role::StorageHome, Role::StorageAll];

    /// The word of the configuration file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Display => "display",
            Role::Consumption => "consumption",
            Role::Generation => "generation",
            Role::Grid => "grid",
            Role::Ev => "ev",
            Role::StorageHome => "storage-home",
            Role::StorageAll => "storage-all",
        }
    }

    /// The role with this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A text that is no device id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no device id: wallboxes are E1, E2, …, meters M1, M2, …")]
pub struct BadDeviceId(pub String);

impl DeviceId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Wallbox or meter.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        if self.text.starts_with('E') { DeviceKind::Evse } else { DeviceKind::Meter }
    }

    /// The number behind the letter.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl FromStr for DeviceId {
    type Err = BadDeviceId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadDeviceId(text.to_owned());
        let digits = text.strip_prefix(['E', 'M']).ok_or_else(bad)?;
        // Leading zeros would give one device two names.
        if digits.is_empty() || digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let number = digits.parse().map_err(|_| bad())?;
        Ok(Self { text: text.into(), number })
    }
}

impl PartialOrd for DeviceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DeviceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.kind(), self.number).cmp(&(other.kind(), other.number))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_letter_and_number_make_an_id() {
        for good in ["E1", "M3", "E4294967295"] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
        for bad in ["", "E", "e1", "E0", "E01", "X1", "M-1", "E1 ", "M4294967296", "E١"] {
            assert_eq!(bad.parse::<DeviceId>(), Err(BadDeviceId(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn ids_order_by_kind_then_number() {
        let mut ids: Vec<DeviceId> = ["M1", "E10", "E2"].iter().map(|s| s.parse().unwrap()).collect();
        ids.sort();
        assert_eq!(format!("{ids:?}"), "[E2, E10, M1]");
    }
}
