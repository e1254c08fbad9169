//! Register map of the Power Brain, what its values mean and how wishes are written. Pure: registers in, readings or writes out.
//!
//! Source: cFos eMobility documentation, "Modbus registers". Holding registers, high word first; addresses are wire addresses.

use ladekern_plugin_sdk::{Connector, Error, Info, Outcome, Registers};

/// A run of registers.
pub type Span = (u16, u16);

/// vendor id, 0xCF05 in one of its two words (which one has changed between versions)
pub const VENDOR: Span = (8000, 2);
/// product version (major and minor byte), build, version of the register map
pub const VERSION: Span = (8004, 3);
/// text
pub const SERIAL: Span = (8008, 8);
/// text
pub const NAME: Span = (8016, 16);
/// Of the attached meter: bit 0 of the first says that it has phase currents; energy u64 Wh, power i32 W (−1 is none), three currents u32 in 0.1 A.
pub const METER: Span = (8057, 13);
/// u32 s without Modbus traffic, then current in 0.1 A. In flash.
pub const FAILSAFE: Span = (8083, 3);
/// Everything about charging in one run: 8086 to 8113. Some firmware may refuse a run with unused registers in it.
pub const CONTROL: Span = (DISCONNECT_CP, 28);
/// state, limit, enabled
pub const STATE: Span = (8092, 3);
/// 0.1 A, 0 is no cable
pub const CABLE: Span = (8090, 1);
/// 0 three phases, 1 one
pub const RELAY: Span = (RELAY_SELECT, 1);
/// text
pub const RFID: Span = (8096, 15);
/// meter attached, feature word
pub const FEATURES: Span = (8112, 2);

const VENDOR_ID: u16 = 0xCF05;
const DISCONNECT_CP: u16 = 8086;
const RELAY_SELECT: u16 = 8087;
const CURRENT_LIMIT: u16 = 8093;
const ENABLED: u16 = 8094;
/// Of the feature word: phases may be switched, also with a vehicle connected.
const PHASE_SWITCH: u16 = 1 << 8;
/// Less is no charging by IEC 61851.
const MIN_MILLIAMPS: u32 = 6000;
/// What a phase carries at least when it is in use.
const PHASE_IN_USE_MILLIAMPS: f64 = 500.0;

/// What one poll has read. Nothing stands for registers that this box does not have.
#[derive(Debug, Default)]
pub struct Raw {
    pub state: Vec<u16>,
    pub cable: Option<Vec<u16>>,
    pub relay: Option<Vec<u16>>,
    pub rfid: Option<Vec<u16>>,
    pub features: Option<Vec<u16>>,
    pub meter: Option<Vec<u16>>,
}

fn view(span: Span, words: Option<&Vec<u16>>) -> Registers<'_> {
    Registers::new(span.0, words.map(Vec::as_slice).unwrap_or_default())
}

impl Raw {
    /// The parts of one run that was read whole; the meter is not in it.
    pub fn from_control(words: &[u16]) -> Self {
        let control = Registers::new(CONTROL.0, words);
        let part = |span: Span| control.words(span.0, usize::from(span.1)).map(<[u16]>::to_vec);
        Self {
            state: part(STATE).unwrap_or_default(),
            cable: part(CABLE),
            relay: part(RELAY),
            rfid: part(RFID),
            features: part(FEATURES),
            meter: None,
        }
    }

    /// A meter is attached; a box without the register may have one.
    pub fn may_have_meter(&self) -> bool {
        view(FEATURES, self.features.as_ref()).u16(FEATURES.0) != Some(0)
    }

    /// Phase switching is configured and allowed; unknown if the box does not say.
    pub fn phase_switch(&self) -> Option<bool> {
        view(FEATURES, self.features.as_ref()).u16(FEATURES.0 + 1).map(|word| word & PHASE_SWITCH != 0)
    }

    /// Lifetime counter in Wh. 0 is what a box says that has just started: unknown.
    pub fn energy(&self) -> Option<f64> {
        let wh = view(METER, self.meter.as_ref()).u64(8058).filter(|wh| *wh != 0 && *wh < 1 << 52)?;
        #[expect(clippy::cast_precision_loss, reason = "below 2^52, where every whole number is a double")]
        Some(wh as f64)
    }

    fn currents(&self) -> [Option<f64>; 3] {
        let meter = view(METER, self.meter.as_ref());
        let has_currents = meter.u16(8057).is_some_and(|flags| flags != 0);
        let deciamps = |address| meter.u32(address).filter(|i| has_currents && *i < 10_000);
        [8064, 8066, 8068].map(|address| deciamps(address).map(|i| f64::from(i) * 100.0))
    }

    /// State of the connector; the high byte of the register is none of it.
    pub fn connector(&self) -> Result<Connector, Error> {
        Ok(match self.pilot()? {
            0 => Connector::Available,
            1 => Connector::Connected,
            2 => Connector::Charging,
            3 => Connector::Ventilation,
            4 => Connector::NoPilot,
            _ => Connector::Fault,
        })
    }

    fn pilot(&self) -> Result<u16, Error> {
        let state = view(STATE, Some(&self.state)).u16(STATE.0);
        state.map(|state| state & 0xFF).ok_or_else(|| Error::protocol("the answer is shorter than what was asked for"))
    }

    /// All readings of one poll except those that need memory.
    pub fn outcome(&self) -> Result<Outcome, Error> {
        let mut outcome = Outcome::new();
        let connector = self.connector()?;
        outcome.set_connector(connector);
        let pilot = self.pilot()?;
        // 5 is a fault (over-temperature among them), 9 the residual current sensor, others are not documented.
        outcome.set("error.code", if pilot >= 5 { f64::from(pilot) } else { 0.0 });
        let state = view(STATE, Some(&self.state));
        outcome.set("limit.current", state.u16(CURRENT_LIMIT).map(|limit| f64::from(limit) * 100.0));
        outcome.set("charging.enabled", state.u16(ENABLED).map(|on| f64::from(u8::from(on != 0))));
        let cable = view(CABLE, self.cable.as_ref()).u16(CABLE.0);
        outcome.set_some("limit.cable", cable.map(|cable| f64::from(cable) * 100.0));

        let power = view(METER, self.meter.as_ref()).i32(8062).filter(|watts| *watts != -1);
        outcome.set("power.total", power.map(f64::from));
        let currents = self.currents();
        outcome.set_phases("current", currents);
        outcome.set("energy.import", self.energy());

        outcome.set_some("phases.active", self.phases(connector, currents));
        outcome.set_some("phases.switch", self.phase_switch().map(|on| f64::from(u8::from(on))));
        if let Some(rfid) = &self.rfid {
            // Empty is said too: the last tag is no longer the last tag.
            outcome.set_text("rfid", Registers::new(RFID.0, rfid).text(RFID.0, rfid.len()).unwrap_or_default());
        }
        Ok(outcome)
    }

    /// While charging what the meter sees, else what the relay allows; unknown where there is neither.
    fn phases(&self, connector: Connector, currents: [Option<f64>; 3]) -> Option<f64> {
        let drawn = currents.iter().flatten().filter(|i| **i >= PHASE_IN_USE_MILLIAMPS).count();
        if connector == Connector::Charging && drawn > 0 {
            return u8::try_from(drawn).ok().map(f64::from);
        }
        let relay = view(RELAY, self.relay.as_ref()).u16(RELAY.0).filter(|_| self.phase_switch() == Some(true));
        relay.map(|relay| if relay == 1 { 1.0 } else { 3.0 })
    }
}

/// Whether [`VENDOR`] names the vendor: what is written to another device's registers does nobody any good.
pub fn is_vendor(words: &[u16]) -> bool {
    words.contains(&VENDOR_ID)
}

/// Who the device is, from what of it could be read.
pub fn info(version: Option<&[u16]>, serial: Option<&[u16]>, name: Option<&[u16]>) -> Info {
    let text = |span: Span, words: Option<&[u16]>| Registers::new(span.0, words?).text(span.0, usize::from(span.1));
    let mut info = Info::new();
    info.model = text(NAME, name);
    info.serial = text(SERIAL, serial);
    let version = Registers::new(VERSION.0, version.unwrap_or_default());
    info.firmware = version.u16(8004).zip(version.u16(8005)).map(|(version, build)| {
        let [major, minor] = version.to_be_bytes();
        format!("{major}.{minor}.{build}")
    });
    info
}

/// One register to write. All of these are kept in memory by the box and may be written at any rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    pub address: u16,
    pub value: u16,
}

/// Charging allowed or not; the limit stays.
pub fn enabled(enabled: bool) -> Write {
    Write { address: ENABLED, value: u16::from(enabled) }
}

/// Current per phase, in steps of 0.1 A, rounded down. The box knows no current below 6 A; a pause is `enabled(false)`.
pub fn current(milliamps: u32) -> Result<Write, Error> {
    let value = u16::try_from(milliamps / 100).ok().filter(|_| milliamps >= MIN_MILLIAMPS);
    let value =
        value.ok_or_else(|| Error::unsupported(format!("{milliamps} mA: 6000 mA is the least it can offer")))?;
    Ok(Write { address: CURRENT_LIMIT, value })
}

/// One or three phases.
pub fn phases(phases: u8) -> Result<Write, Error> {
    match phases {
        1 => Ok(Write { address: RELAY_SELECT, value: 1 }),
        3 => Ok(Write { address: RELAY_SELECT, value: 0 }),
        other => Err(Error::unsupported(format!("{other} phases: it can do 1 or 3"))),
    }
}

/// Interrupts the control pilot for some seconds.
pub fn wake_up(seconds: u16) -> Write {
    Write { address: DISCONNECT_CP, value: seconds }
}

/// What has to be written so that the failsafe is as wished, given what [`FAILSAFE`] holds: flash wears out, so nothing if it is so
/// already. Duration as two registers, current as one.
pub fn failsafe(now: &[u16], milliamps: u32, seconds: u32) -> Result<(Option<[u16; 2]>, Option<u16>), Error> {
    let registers = Registers::new(FAILSAFE.0, now);
    let current = match milliamps {
        0 => 0,
        _ => self::current(milliamps)?.value,
    };
    let [a, b, c, d] = seconds.to_be_bytes();
    let duration = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    Ok((
        (registers.u32(FAILSAFE.0) != Some(seconds)).then_some(duration),
        (registers.u16(FAILSAFE.0 + 2) != Some(current)).then_some(current),
    ))
}
