//! The register map of a Power Brain wallbox and of its meters: which registers there are and how wide, what they
//! show of one of our devices, and what a write means. Pure. Source: `cfos-interfaces.md` 4.1 and 7.5.
//!
//! On the wire any run of registers can be read that touches at least one the device has; registers between the
//! documented ones read 0, because some clients read across them. A run beside the map, or of gaps only, does not
//! exist. A write has to cover whole registers, and is checked to its end before any of it counts.

mod content;
mod held;
mod write;

use crate::site::DeviceKind;

pub use content::{Content, Shown};
pub use held::{Defaults, Held, WakeUp};
pub use write::{Write, check};

/// The largest run one request may read (Modbus application protocol 1.1b3, 6.3).
pub const MAX_READ: u16 = 125;

/// What stands in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A number, high word first; two and four words are signed.
    Number,
    /// Two characters per word, high byte first, padded with NUL.
    Text,
}

/// What may be done with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    ReadWrite,
    /// The original lets it be written; here nothing stands behind it. It reads as a neutral value.
    Fixed,
    /// Writing only, in the original; here nothing stands behind it.
    Nothing,
}

/// One entry of the map, of one or more words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Wire address of its first word.
    pub number: u16,
    /// Words.
    pub width: u16,
    /// Number or text.
    pub shape: Shape,
    /// What may be done with it.
    pub access: Access,
    /// The wallbox has it.
    pub evse: bool,
    /// Meters have it.
    pub meter: bool,
    /// The documentation's name.
    pub name: &'static str,
}

const fn row(number: u16, width: u16, devices: &str, access: Access, name: &'static str) -> Register {
    let (evse, meter) = match devices.as_bytes() {
        b"evse" => (true, false),
        b"meter" => (false, true),
        _ => (true, true),
    };
    Register { number, width, shape: Shape::Number, access, evse, meter, name }
}

const fn text(number: u16, width: u16, devices: &str, name: &'static str) -> Register {
    let mut register = row(number, width, devices, Access::Read, name);
    register.shape = Shape::Text;
    register
}

/// The whole map in the order of its numbers.
pub const REGISTERS: &[Register] = {
    use Access::{Fixed, Nothing, Read, ReadWrite};
    &[
        row(8000, 2, "both", Read, "vendor_id"),
        row(8002, 1, "both", Read, "product_id"),
        row(8003, 1, "both", Read, "device_id"),
        row(8004, 1, "both", Read, "product_version"),
        row(8005, 1, "both", Read, "product_build"),
        row(8006, 1, "both", Read, "mapping_version"),
        row(8007, 1, "both", Read, "reserved"),
        text(8008, 8, "both", "serial_no"),
        text(8016, 16, "both", "name"),
        row(8040, 1, "both", Fixed, "slave_id"),
        row(8041, 1, "meter", Read, "input"),
        row(8042, 2, "meter", Fixed, "pulsesperkwh"),
        row(8044, 1, "meter", Fixed, "phases"),
        row(8045, 1, "meter", Fixed, "voltage_l1"),
        row(8046, 1, "meter", Fixed, "voltage_l2"),
        row(8047, 1, "meter", Fixed, "voltage_l3"),
        row(8050, 4, "meter", Fixed, "pulses"),
        row(8054, 2, "meter", Read, "timeperpulse"),
        row(8056, 1, "meter", Read, "level"),
        row(8057, 1, "both", Read, "meter_flags"),
        row(8058, 4, "both", Fixed, "energy"),
        row(8062, 2, "both", Read, "power"),
        row(8064, 2, "both", Read, "current_l1"),
        row(8066, 2, "both", Read, "current_l2"),
        row(8068, 2, "both", Read, "current_l3"),
        row(8070, 1, "meter", Nothing, "reset_pulses"),
        row(8071, 1, "meter", Nothing, "reset_energy"),
        row(8080, 1, "evse", ReadWrite, "def_fixed_current"),
        row(8081, 1, "evse", ReadWrite, "def_charg_cur_limit"),
        row(8082, 1, "evse", ReadWrite, "def_charging_enable"),
        row(8083, 2, "evse", ReadWrite, "fail_safe_duration"),
        row(8085, 1, "evse", ReadWrite, "fail_safe_current"),
        row(8086, 1, "evse", ReadWrite, "disconnect_cp"),
        row(8087, 1, "evse", ReadWrite, "relay_select"),
        row(8088, 1, "evse", Fixed, "relay2"),
        row(8090, 1, "evse", Read, "cable_current"),
        row(8091, 1, "evse", ReadWrite, "fixed_current"),
        row(8092, 1, "evse", Read, "charge_pilot_state"),
        row(8093, 1, "evse", ReadWrite, "charging_cur_limit"),
        row(8094, 1, "evse", ReadWrite, "charging_enable"),
        row(8095, 1, "evse", Read, "charging_current"),
        text(8096, 15, "evse", "last_rfid"),
        row(8111, 1, "evse", Read, "detected_rfids"),
        row(8112, 1, "evse", Read, "has_meter"),
        row(8113, 1, "evse", Read, "s0_inputs"),
        row(8120, 2, "evse", Fixed, "count_restart"),
    ]
};

impl Register {
    /// Whether devices of this kind have it.
    #[must_use]
    pub fn is_on(&self, kind: DeviceKind) -> bool {
        match kind {
            DeviceKind::Evse => self.evse,
            DeviceKind::Meter => self.meter,
        }
    }

    /// The address behind its last word.
    #[must_use]
    pub fn end(&self) -> u16 {
        self.number + self.width
    }

    /// Part of the meter's block, which a wallbox shows only if a meter measures it.
    #[must_use]
    pub fn of_pinned_meter(&self) -> bool {
        (8057..8070).contains(&self.number)
    }
}

/// The register of this kind of device that has a word at `address`.
#[must_use]
pub fn at(kind: DeviceKind, address: u16) -> Option<&'static Register> {
    REGISTERS.iter().find(|register| register.is_on(kind) && (register.number..register.end()).contains(&address))
}

/// Why a register was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// No such register, or it is not to be written.
    #[error("{0}")]
    Address(String),
    /// Not with this value, or not with this width.
    #[error("{0}")]
    Value(String),
    /// The device did not take it.
    #[error("{0}")]
    Device(String),
    /// The device may be asked again in a moment.
    #[error("{0}")]
    Busy(String),
}

#[cfg(test)]
mod tests;
