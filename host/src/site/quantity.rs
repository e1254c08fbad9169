//! The published register of quantity names. Plugins name what they measured with these; an unknown name is kept
//! as telemetry and used for nothing. The same table stands in `docs/quantities.md`.

use std::fmt;
use std::sync::Arc;

/// Name of a measured quantity, `power.total`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(Arc<str>);

/// Unit of a quantity of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the units")]
pub enum Unit {
    Watt,
    VoltAmpere,
    Var,
    Volt,
    Milliampere,
    WattHour,
    Hertz,
    Percent,
    Second,
    Celsius,
    /// Counts, codes and booleans (0 or 1).
    One,
}

impl Unit {
    /// As people write it; `None` for counts and codes.
    #[must_use]
    pub fn symbol(self) -> Option<&'static str> {
        Some(match self {
            Self::Watt => "W",
            Self::VoltAmpere => "VA",
            Self::Var => "var",
            Self::Volt => "V",
            Self::Milliampere => "mA",
            Self::WattHour => "Wh",
            Self::Hertz => "Hz",
            Self::Percent => "%",
            Self::Second => "s",
            Self::Celsius => "°C",
            Self::One => return None,
        })
    }
}

/// The names every part of the host knows.
pub mod quantities {
    #![allow(missing_docs, reason = "the register below says what each name means")]
    pub const POWER_TOTAL: &str = "power.total";
    pub const POWER: [&str; 3] = ["power.l1", "power.l2", "power.l3"];
    pub const POWER_APPARENT: &str = "power.apparent";
    pub const POWER_REACTIVE: &str = "power.reactive";
    pub const VOLTAGE: [&str; 3] = ["voltage.l1", "voltage.l2", "voltage.l3"];
    pub const CURRENT: [&str; 3] = ["current.l1", "current.l2", "current.l3"];
    pub const FREQUENCY: &str = "frequency";
    pub const ENERGY_IMPORT: &str = "energy.import";
    pub const ENERGY_EXPORT: &str = "energy.export";
    pub const ENERGY_SESSION: &str = "energy.session";
    pub const BATTERY_SOC: &str = "battery.soc";
    pub const LIMIT_CURRENT: &str = "limit.current";
    pub const LIMIT_CABLE: &str = "limit.cable";
    pub const CHARGING_ENABLED: &str = "charging.enabled";
    pub const PHASES_ACTIVE: &str = "phases.active";
    pub const ERROR_CODE: &str = "error.code";
    /// Before the lower-case name of a user variable of a device's definition: `var.temperature`.
    pub const VARIABLE: &str = "var.";
    /// Before the lower-case name of a Charging Manager variable that a device sets: `cm._set_price`.
    pub const MANAGER: &str = "cm.";
    /// Before the number of an input of a device, counted from 1: `input.1`.
    pub const INPUT: &str = "input.";
}

/// Every registered name with its unit and meaning.
pub const REGISTER: &[(&str, Unit, &str)] = &[
    ("power.total", Unit::Watt, "active power, all phases, signed"),
    ("power.l1", Unit::Watt, "active power of phase L1, signed"),
    ("power.l2", Unit::Watt, "active power of phase L2, signed"),
    ("power.l3", Unit::Watt, "active power of phase L3, signed"),
    ("power.apparent", Unit::VoltAmpere, "apparent power, all phases"),
    ("power.reactive", Unit::Var, "reactive power, all phases"),
    ("voltage.l1", Unit::Volt, "voltage L1 to N"),
    ("voltage.l2", Unit::Volt, "voltage L2 to N"),
    ("voltage.l3", Unit::Volt, "voltage L3 to N"),
    ("current.l1", Unit::Milliampere, "current of L1, with the sign of the phase's power if the device tells one"),
    ("current.l2", Unit::Milliampere, "current of L2, likewise"),
    ("current.l3", Unit::Milliampere, "current of L3, likewise"),
    ("frequency", Unit::Hertz, "grid frequency"),
    ("energy.import", Unit::WattHour, "lifetime counter of imported (wallbox: charged, inverter: consumed) energy"),
    ("energy.export", Unit::WattHour, "lifetime counter of exported (inverter: generated) energy"),
    ("energy.session", Unit::WattHour, "energy since the vehicle was plugged in"),
    ("battery.soc", Unit::Percent, "state of charge, 0 to 100"),
    ("limit.current", Unit::Milliampere, "current limit per phase that the wallbox follows now"),
    ("limit.cable", Unit::Milliampere, "what the plugged cable may carry, 0 is no cable"),
    ("charging.enabled", Unit::One, "1 if charging is allowed, 0 if not"),
    ("phases.active", Unit::One, "number of phases in use"),
    ("phases.switch", Unit::One, "1 if phase switching is configured and allowed, 0 if not"),
    ("error.code", Unit::One, "the device's own error code, 0 is none"),
    ("temperature", Unit::Celsius, "temperature inside the device"),
];

impl Quantity {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit, if the name is registered.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        REGISTER.iter().find(|(name, ..)| *name == self.as_str()).map(|(_, unit, _)| *unit)
    }
}

impl From<&str> for Quantity {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl std::borrow::Borrow<str> for Quantity {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
