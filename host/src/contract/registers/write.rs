//! Writes: from words to what is wanted. Nothing is applied here, so a request is right as a whole or nothing of it
//! counts.

use crate::site::{DeviceKind, Moment};

use super::{Access, Held, Register, RegisterError, WakeUp, at};

/// The largest current a register takes, in 0.1 A ("6–63" A in the documentation).
const MOST: u64 = 630;
/// The longest interruption of the control pilot in s.
const LONGEST_WAKE_UP_S: u64 = 600;

/// What one register was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// 8080, in 0.1 A; 0: none.
    DefaultFixed(u16),
    /// 8081, in 0.1 A.
    DefaultLimit(u16),
    /// 8082
    DefaultEnable(bool),
    /// 8083, in s.
    FailSafeDuration(u32),
    /// 8085, in 0.1 A; 0: no charging.
    FailSafeCurrent(u16),
    /// 8086: s, not 0.
    WakeUp(u16),
    /// 8086: 0, nothing is to be interrupted.
    NoWakeUp,
    /// 8087
    OnePhase(bool),
    /// 8091, in 0.1 A; 0: none.
    Fixed(u16),
    /// 8093, in 0.1 A.
    Limit(u16),
    /// 8094
    Enable(bool),
}

/// What writing `words` from `address` on means.
///
/// # Errors
/// [`RegisterError::Address`] and [`RegisterError::Value`], with what would be right.
pub fn check(kind: DeviceKind, address: u16, words: &[u16]) -> Result<Vec<Write>, RegisterError> {
    let mut writes = Vec::new();
    let mut address = address;
    let mut rest = words;
    if rest.is_empty() {
        return Err(RegisterError::Value("there is nothing to write".into()));
    }
    while !rest.is_empty() {
        let register = at(kind, address).filter(|register| register.number == address);
        let Some(register) = register else {
            return Err(RegisterError::Address(format!("no register begins at {address}")));
        };
        let Some((words, more)) = rest.split_at_checked(register.width.into()) else {
            let Register { name, width, .. } = register;
            return Err(RegisterError::Value(format!("{address} ({name}) is written whole, {width} words at once")));
        };
        let value = words.iter().fold(0, |value, word| value << 16 | u64::from(*word));
        writes.push(one(register, value)?);
        (address, rest) = (register.end(), more);
    }
    Ok(writes)
}

fn one(register: &Register, value: u64) -> Result<Write, RegisterError> {
    let Register { number, name, access, .. } = *register;
    match access {
        Access::ReadWrite => {}
        Access::Read => return Err(RegisterError::Address(format!("{number} ({name}) can only be read"))),
        Access::Fixed | Access::Nothing => {
            return Err(RegisterError::Value(format!("{number} ({name}) cannot be set here")));
        }
    }
    let out_of_range =
        |wanted: &str| RegisterError::Value(format!("{number} ({name}): {value} is out of range, expected {wanted}"));
    // Whatever is below 6 A is a pause by IEC 61851, as over MQTT (contract rule B10).
    let current = || u16::try_from(value).ok().filter(|_| value <= MOST).ok_or(out_of_range("0 to 630 (0.1 A)"));
    let switch = || match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(out_of_range("0 or 1")),
    };
    Ok(match number {
        8080 => Write::DefaultFixed(current()?),
        8081 if !(60..=MOST).contains(&value) => return Err(out_of_range("60 to 630 (0.1 A)")),
        8081 => Write::DefaultLimit(current()?),
        8082 => Write::DefaultEnable(switch()?),
        8083 => Write::FailSafeDuration(u32::try_from(value).map_err(|_| out_of_range("seconds"))?),
        8085 => Write::FailSafeCurrent(current()?),
        8086 if value == 0 => Write::NoWakeUp,
        8086 if value > LONGEST_WAKE_UP_S => return Err(out_of_range("0 to 600 (s)")),
        8086 => Write::WakeUp(u16::try_from(value).map_err(|_| out_of_range("0 to 600 (s)"))?),
        8087 => Write::OnePhase(switch()?),
        8091 => Write::Fixed(current()?),
        8093 => Write::Limit(current()?),
        8094 => Write::Enable(switch()?),
        _ => return Err(RegisterError::Value(format!("{number} ({name}) cannot be set here"))),
    })
}

impl Write {
    /// Whether it says how much may be charged, so that its writer is a controller whose silence counts.
    #[must_use]
    pub fn controls(self) -> bool {
        matches!(self, Write::Fixed(_) | Write::Limit(_) | Write::Enable(_))
    }
}

impl Held {
    /// Takes one write over. `pilot` is 8092 now.
    ///
    /// # Errors
    /// [`RegisterError::Value`] if it is not possible now.
    pub fn take(&mut self, write: Write, now: Moment, pilot: u16) -> Result<(), RegisterError> {
        match write {
            Write::DefaultFixed(value) => self.defaults.fixed = value,
            Write::DefaultLimit(value) => self.defaults.limit = Some(value),
            Write::DefaultEnable(value) => self.defaults.enable = value,
            Write::FailSafeDuration(value) => self.defaults.fail_safe_s = value,
            Write::FailSafeCurrent(value) => self.defaults.fail_safe_current = Some(value),
            Write::WakeUp(seconds) => {
                let until = now.after(std::time::Duration::from_secs(seconds.into()));
                self.wake_up = Some(WakeUp { until, pilot });
            }
            Write::NoWakeUp if self.wake_up.is_some_and(|wake_up| wake_up.until > now) => {
                return Err(RegisterError::Value("8086 (disconnect_cp): what has begun cannot be taken back".into()));
            }
            Write::NoWakeUp => {}
            Write::OnePhase(value) => self.one_phase = Some(value),
            Write::Fixed(value) => self.fixed = Some(value),
            Write::Limit(value) => self.limit = Some(value),
            Write::Enable(value) => self.enable = Some(value),
        }
        Ok(())
    }
}
