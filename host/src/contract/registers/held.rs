//! What a controller has written and what came of it: the registers that are no reading of the device.

use serde::{Deserialize, Serialize};

use crate::config::DeviceConfig;
use crate::session::OutsideWish;
use crate::site::Moment;

/// Registers that outlive a restart, as in the original's flash. Currents in 0.1 A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Defaults {
    /// 8080; 0: none.
    pub fixed: u16,
    /// 8081; `None`: the wallbox's maximum.
    pub limit: Option<u16>,
    /// 8082
    pub enable: bool,
    /// 8083, in s; 0: no failsafe.
    pub fail_safe_s: u32,
    /// 8085; 0: no charging; `None`: the wallbox's minimum.
    pub fail_safe_current: Option<u16>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { fixed: 0, limit: None, enable: true, fail_safe_s: 300, fail_safe_current: None }
    }
}

/// An attempt to wake the car up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeUp {
    /// Its end.
    pub until: Moment,
    /// 8092 until then.
    pub pilot: u16,
}

/// The written registers of one wallbox. Currents in 0.1 A, as they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// What outlives a restart.
    pub defaults: Defaults,
    /// 8091; `None`: not written since the start.
    pub fixed: Option<u16>,
    /// 8093
    pub limit: Option<u16>,
    /// 8094
    pub enable: Option<bool>,
    /// 8087
    pub one_phase: Option<bool>,
    /// 8086
    pub wake_up: Option<WakeUp>,
    /// The controller has been silent for too long.
    pub silent: bool,
    /// The card that was seen last, to count the next one.
    pub card: String,
    /// 8111
    pub cards: u16,
}

impl Held {
    /// The most current per phase in mA that may flow by these registers; `None`: they say nothing. The failsafe
    /// never raises what was written.
    #[must_use]
    pub fn limit_ma(&self, device: &DeviceConfig) -> Option<u32> {
        let fixed = Some(self.fixed.unwrap_or(self.defaults.fixed)).filter(|fixed| *fixed != 0).map(milliamps);
        let limit = self.limit.or(self.defaults.limit).map(milliamps);
        let fail_safe =
            self.silent.then(|| self.defaults.fail_safe_current.map_or(device.min_ma, milliamps).min(device.max_ma));
        [fixed, limit, fail_safe].into_iter().flatten().min()
    }

    /// Whether charging is allowed by these registers; `None`: they say nothing.
    #[must_use]
    pub fn enabled(&self) -> Option<bool> {
        self.enable.or((!self.defaults.enable).then_some(false))
    }

    /// What these registers want of the load manager; `None`: nothing. A current below the wallbox's minimum is a
    /// pause: IEC 61851 knows none below 6 A.
    #[must_use]
    pub fn wish(&self, device: &DeviceConfig) -> Option<OutsideWish> {
        let (limit, enabled) = (self.limit_ma(device), self.enabled());
        if limit.is_none() && enabled.is_none() {
            return None;
        }
        let pause = limit.is_some_and(|ma| ma < device.min_ma);
        let forbidden = pause || enabled == Some(false);
        Some(OutsideWish { forbidden, max_ma: limit.filter(|_| !pause) })
    }

    /// Takes back what a controller that is gone has written; the defaults stay.
    pub fn release(&mut self) {
        (self.fixed, self.limit, self.enable, self.silent) = (None, None, None, false);
    }
}

/// 0.1 A as mA.
fn milliamps(deciamps: u16) -> u32 {
    u32::from(deciamps) * 100
}
