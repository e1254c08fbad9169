//! What the registers show of a device. Values nobody has measured are 0; the state of the control pilot says that
//! the wallbox is silent.

use std::collections::BTreeMap;

use crate::config::{DeviceConfig, HTTP_INPUT};
use crate::contract::{DeviceObject, SiteView};
use crate::site::{Connector, DeviceId, DeviceKind, quantities};

use super::{Access, Held, MAX_READ, REGISTERS, Register, RegisterError, Shape, at};

/// Volts to tell whether a phase is there at all.
const LIVE_V: f64 = 50.0;
/// 8092 of a wallbox that does not answer: none of the documented states, which clients take for an error.
const PILOT_SILENT: u16 = 6;
/// 8113: phases may be switched, also with a car plugged in.
const PHASE_SWITCH: u16 = 1 << 8;

/// One device as the map shows it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    view: &'a SiteView,
    object: DeviceObject<'a>,
    /// Whose readings the meter's registers show.
    meter: Option<DeviceObject<'a>>,
    held: &'a Held,
    unit: u8,
}

/// What stands in one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// As wide as the register.
    Number(i64),
    /// Without padding.
    Text(String),
}

impl<'a> Shown<'a> {
    /// `None`: there is no such device. `unit` is what register 8040 says.
    #[must_use]
    pub fn new(view: &'a SiteView, id: &DeviceId, held: &'a Held, unit: u8) -> Option<Self> {
        let object = view.device(id)?;
        let own = [quantities::POWER_TOTAL, quantities::ENERGY_IMPORT].into_iter().chain(quantities::CURRENT);
        let measures = own.into_iter().any(|name| object.value(name).is_some());
        let meter = match &object.device.meter {
            Some(pinned) if !measures => view.device(pinned),
            _ => (measures || id.kind() == DeviceKind::Meter).then_some(object),
        };
        Some(Self { view, object, meter, held, unit })
    }

    /// Its entry in the file.
    #[must_use]
    pub fn device(&self) -> &'a DeviceConfig {
        self.object.device
    }

    /// Whether the wallbox may charge, by its own word.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.object.charging_enabled()
    }

    /// The limit the wallbox follows although nobody has written one, in mA.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range just before")]
    pub fn limit_ma(&self) -> u32 {
        (self.limit() * 100.0).clamp(0.0, f64::from(self.object.device.max_ma)) as u32
    }

    fn kind(&self) -> DeviceKind {
        self.object.device.id.kind()
    }

    /// The registers this device has now.
    pub fn registers(&self) -> impl Iterator<Item = &'static Register> + use<'a> {
        let (kind, has_meter) = (self.kind(), self.meter.is_some());
        REGISTERS.iter().filter(move |register| register.is_on(kind) && (has_meter || !register.of_pinned_meter()))
    }

    /// The register with a word at `address`, if the device has it now.
    #[must_use]
    pub fn at(&self, address: u16) -> Option<&'static Register> {
        at(self.kind(), address).filter(|register| self.meter.is_some() || !register.of_pinned_meter())
    }

    /// A run of words as one request reads them.
    ///
    /// # Errors
    /// [`RegisterError::Address`] beside the map or between its registers, [`RegisterError::Value`] for no words or
    /// too many.
    pub fn read(&self, address: u16, count: u16) -> Result<Vec<u16>, RegisterError> {
        if !(1..=MAX_READ).contains(&count) {
            return Err(RegisterError::Value(format!("{count} registers; one request reads 1 to {MAX_READ}")));
        }
        let end = u32::from(address) + u32::from(count);
        let last = self.registers().map(Register::end).max().unwrap_or_default();
        let first = self.registers().map(|register| register.number).min().unwrap_or(u16::MAX);
        if address < first || end > u32::from(last) {
            return Err(RegisterError::Address(format!(
                "{count} registers from {address} are not within {first} to {}",
                last.saturating_sub(1)
            )));
        }
        let mut words: BTreeMap<u16, u16> = BTreeMap::new();
        for register in self.registers() {
            if u32::from(register.number) < end && register.end() > address {
                words.extend((register.number..).zip(self.words(register)));
            }
        }
        let run: Vec<Option<u16>> = (address..).take(count.into()).map(|at| words.get(&at).copied()).collect();
        if run.iter().all(Option::is_none) {
            return Err(RegisterError::Address(format!("there is no register at {address}")));
        }
        let mut asked =
            self.registers().filter(|register| u32::from(register.number) < end && register.end() > address);
        if let Some(silent) = asked.find_map(|register| self.silent(register)) {
            return Err(RegisterError::Device(silent));
        }
        Ok(run.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Why there is nothing to read although there is such a register: a measurement that has become old would pass
    /// for a new one, because beside it stands nothing that says so.
    #[must_use]
    pub fn silent(&self, register: &Register) -> Option<String> {
        let meter = self.meter.filter(|_| (8044..8070).contains(&register.number))?;
        meter.com_err().then(|| format!("{} does not answer, {} is not known", meter.device.id, register.name))
    }

    /// The words of one register.
    #[must_use]
    pub fn words(&self, register: &Register) -> Vec<u16> {
        match self.content(register) {
            Content::Number(number) => {
                let words = (0..register.width).rev();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one word after the other")]
                words.map(|word| (number >> (16 * u32::from(word))) as u16).collect()
            }
            Content::Text(text) => {
                let mut bytes = text.bytes().chain(std::iter::repeat(0));
                let mut byte = || bytes.next().unwrap_or_default();
                (0..register.width).map(|_| u16::from_be_bytes([byte(), byte()])).collect()
            }
        }
    }

    /// What stands in one register.
    #[must_use]
    pub fn content(&self, register: &Register) -> Content {
        match register.shape {
            Shape::Text => Content::Text(self.text(register)),
            Shape::Number if register.access == Access::Nothing => Content::Number(0),
            Shape::Number => Content::Number(fit(self.number(register.number), register.width)),
        }
    }

    fn text(&self, register: &Register) -> String {
        let text = match register.number {
            8008 => self.object.status.and_then(|status| status.info.serial.clone()),
            // The word by which clients of the original know the box.
            8016 => Some("cFos Power Brain".to_owned()),
            _ => self.card().map(str::to_owned),
        };
        let text =
            text.unwrap_or_else(|| if register.number == 8008 { self.view.serial.to_string() } else { String::new() });
        // Two ASCII characters per word.
        text.chars()
            .take(usize::from(register.width) * 2)
            .map(|c| if c.is_ascii() && !c.is_ascii_control() { c } else { '?' })
            .collect()
    }

    /// The card that the wallbox has read last.
    #[must_use]
    pub fn card(&self) -> Option<&'a str> {
        let card = self.object.status?.values.text("rfid")?;
        Some(card.value.as_str()).filter(|card| !card.is_empty())
    }

    fn number(&self, register: u16) -> f64 {
        match register {
            8000 => f64::from(0xCF05_0000_u32),
            8002 => 1.0,
            8003 => f64::from(0x0100),
            // The emulated level, 2.0.1.
            8004 => f64::from(0x0200),
            8005 => 1.0,
            8006 => f64::from(0x0100),
            8040 => f64::from(self.unit),
            8044..=8068 => self.metered(register),
            8080..=8095 => self.charging(register),
            8111 => f64::from(self.held.cards),
            8112 => f64::from(u8::from(self.meter.is_some())),
            8113 if self.switches_phases() => f64::from(PHASE_SWITCH),
            _ => 0.0,
        }
    }

    /// The meter's block.
    fn metered(&self, register: u16) -> f64 {
        let Some(meter) = &self.meter else { return 0.0 };
        let value = |name: &str| meter.value(name);
        let phase = |first: u16, step: u16| usize::from((register - first) / step);
        match register {
            8044 => {
                let live = quantities::VOLTAGE.map(|name| value(name).is_some_and(|volts| volts >= LIVE_V));
                f64::from(live.into_iter().rev().fold(0_u8, |bits, live| bits << 1 | u8::from(live)))
            }
            8045..=8047 => quantities::VOLTAGE.get(phase(8045, 1)).and_then(|name| value(name)).unwrap_or_default(),
            // 0 says that current flows.
            8056 => f64::from(u8::from(meter.power().is_none_or(|watts| watts == 0.0))),
            8057 => f64::from(u8::from(quantities::CURRENT.into_iter().any(|name| value(name).is_some()))),
            8058 => value(quantities::ENERGY_IMPORT).or_else(|| self.soft_meter()).unwrap_or_default(),
            8062 => meter.power().unwrap_or_default(),
            // Without a sign, as the original's meters count: the power has one.
            8064 | 8066 | 8068 => {
                let amps = quantities::CURRENT.get(phase(8064, 2)).and_then(|name| value(name)).unwrap_or_default();
                amps.abs() / 100.0
            }
            _ => 0.0,
        }
    }

    /// The counter that is kept for a wallbox that counts nothing itself.
    fn soft_meter(&self) -> Option<f64> {
        self.view.sessions.get(&self.object.device.id)?.soft_meter_wh
    }

    fn charging(&self, register: u16) -> f64 {
        let (held, device) = (self.held, self.object.device);
        match register {
            8080 => f64::from(held.defaults.fixed),
            8081 => held.defaults.limit.map_or(f64::from(device.max_ma) / 100.0, f64::from),
            8082 => f64::from(u8::from(held.defaults.enable)),
            8083 => f64::from(held.defaults.fail_safe_s),
            8085 => held.defaults.fail_safe_current.map_or(f64::from(device.min_ma) / 100.0, f64::from),
            8086 => {
                let left = self.wake_up().map(|wake_up| wake_up.until.since(self.view.snapshot.at));
                left.map_or(0.0, |left| left.as_secs_f64().ceil())
            }
            8087 => f64::from(u8::from(held.one_phase.unwrap_or_else(|| self.one_phase()))),
            8090 => self.object.value(quantities::LIMIT_CABLE).unwrap_or_default() / 100.0,
            8091 => f64::from(held.fixed.unwrap_or(held.defaults.fixed)),
            8092 => f64::from(self.pilot()),
            8093 => held.limit.or(held.defaults.limit).map_or_else(|| self.limit(), f64::from),
            8094 => f64::from(u8::from(held.enabled().unwrap_or_else(|| self.object.charging_enabled()))),
            8095 => {
                let told = self.object.told_ma().or_else(|| self.object.value(quantities::LIMIT_CURRENT));
                let allowed = self.object.charging_enabled() && !self.object.com_err();
                if allowed { told.unwrap_or_default() / 100.0 } else { 0.0 }
            }
            _ => 0.0,
        }
    }

    fn wake_up(&self) -> Option<super::WakeUp> {
        self.held.wake_up.filter(|wake_up| wake_up.until > self.view.snapshot.at)
    }

    /// The limit of a wallbox that nobody has written one to, in 0.1 A.
    fn limit(&self) -> f64 {
        let reported = self.object.value(quantities::LIMIT_CURRENT);
        let told = self.object.told_ma().filter(|ma| *ma > 0.0);
        reported.or(told).unwrap_or(f64::from(self.object.device.max_ma)) / 100.0
    }

    fn one_phase(&self) -> bool {
        self.object.value(quantities::PHASES_ACTIVE) == Some(1.0)
    }

    fn switches_phases(&self) -> bool {
        let says = self.object.value("phases.switch").map(|on| on != 0.0);
        let feature = || {
            let info = self.object.status.map(|status| &status.info);
            info.is_some_and(|info| info.features.iter().any(|feature| feature == "phases.switch"))
        };
        self.object.device.device_type != HTTP_INPUT && says.unwrap_or_else(feature)
    }

    /// 8092, which stands still while the car is woken up.
    #[must_use]
    pub fn pilot(&self) -> u16 {
        if self.object.com_err() || !self.object.device.enabled {
            return PILOT_SILENT;
        }
        if let Some(wake_up) = self.wake_up() {
            return wake_up.pilot;
        }
        let connector = self.object.status.and_then(|status| status.values.connector());
        match connector.map(|connector| connector.value).unwrap_or_default() {
            Connector::Available => 0,
            Connector::Connected => 1,
            Connector::Charging => 2,
            Connector::Ventilation => 3,
            Connector::NoPilot => 4,
            // The original's code for the sensor of residual direct current.
            Connector::Fault if self.object.value(quantities::ERROR_CODE) == Some(9.0) => 9,
            Connector::Fault => 5,
            // Where it does not say, current shows it.
            Connector::Unknown if self.object.state() == 3 => 2,
            Connector::Unknown => 0,
        }
    }
}

/// The nearest whole number that `width` words hold. One word is unsigned, the others are signed, except the vendor's
/// id, which fills its two words.
#[expect(clippy::cast_possible_truncation, reason = "clamped to the range just before")]
fn fit(value: f64, width: u16) -> i64 {
    let (least, most) = match width {
        1 => (0.0, f64::from(u16::MAX)),
        2 => (f64::from(i32::MIN), f64::from(u32::MAX)),
        _ => (-9.0e15, 9.0e15),
    };
    if value.is_finite() { value.round().clamp(least, most) as i64 } else { 0 }
}
