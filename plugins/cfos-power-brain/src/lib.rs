//! The cFos Power Brain wallbox over Modbus: reads, current, pause, phases, wake-up and failsafe. What registers mean stands in [`decode`];
//! here is the order in which they are read and written. It never writes a register periodically, and one that is kept
//! in flash only if it has to change.

mod decode;
mod session;

use decode::{Raw, Span, Write};
use ladekern_plugin_sdk::{
    ChargeControl, Device, Error, Failsafe, Handover, Info, Json, ModbusPort, Outcome, PhaseControl, modbus,
};
use session::Session;

/// One box behind its endpoint.
struct PowerBrain<P> {
    port: P,
    /// The box answers all of its control registers in one request.
    whole: bool,
    /// Registers that this box has refused: it is not asked again.
    refused: Vec<Span>,
    session: Session,
    wake_up_seconds: u16,
}

impl<P: ModbusPort> PowerBrain<P> {
    fn start(port: P, config: &Json<'_>) -> Result<(Self, Info), Error> {
        let seconds = config.get("wake_up_s").and_then(Json::integer).and_then(|s| u16::try_from(s).ok());
        let wake_up_seconds = seconds.unwrap_or(5);
        let mut driver = Self { port, whole: false, refused: Vec::new(), session: Session::default(), wake_up_seconds };
        if driver.optional(decode::VENDOR)?.is_some_and(|words| !decode::is_vendor(&words)) {
            return Err(Error::protocol("the vendor id (register 8000) is not that of a cFos device"));
        }
        // Then what every box has: one that is not there or is no Power Brain is told from an old firmware.
        let raw = driver.read_parts()?;
        raw.connector()?;
        let (version, serial) = (driver.optional(decode::VERSION)?, driver.optional(decode::SERIAL)?);
        let name = driver.optional(decode::NAME)?;
        let mut info = decode::info(version.as_deref(), serial.as_deref(), name.as_deref());
        info.feature("current.milliamp");
        info.feature("wake-up");
        if raw.phase_switch() == Some(true) {
            info.feature("phases.switch");
        }
        if raw.may_have_meter() && raw.meter.is_some() {
            info.feature("energy.meter");
        }
        // Whatever goes wrong with this one, the parts work.
        driver.whole = driver.read(decode::CONTROL).is_ok_and(|words| words.len() == usize::from(decode::CONTROL.1));
        Ok((driver, info))
    }

    fn read(&self, (address, count): Span) -> Result<Vec<u16>, modbus::Error> {
        self.port.read_holding(address, count)
    }

    /// Registers that not every box has. Only an exception says that it has not; silence is an error like any other.
    fn optional(&mut self, span: Span) -> Result<Option<Vec<u16>>, Error> {
        if self.refused.contains(&span) {
            return Ok(None);
        }
        match self.read(span) {
            Ok(words) => Ok(Some(words)),
            Err(modbus::Error::Exception(1..=3)) => {
                self.refused.push(span);
                Ok(None)
            }
            Err(modbus::Error::Exception(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn read_parts(&mut self) -> Result<Raw, Error> {
        let mut raw = Raw { state: self.read(decode::STATE)?, ..Raw::default() };
        raw.features = self.optional(decode::FEATURES)?;
        if raw.phase_switch() == Some(true) {
            raw.relay = self.optional(decode::RELAY)?;
        }
        raw.cable = self.optional(decode::CABLE)?;
        raw.rfid = self.optional(decode::RFID)?;
        self.read_meter(&mut raw)?;
        Ok(raw)
    }

    fn read_whole(&mut self) -> Result<Raw, Error> {
        let mut raw = Raw::from_control(&self.read(decode::CONTROL)?);
        self.read_meter(&mut raw)?;
        Ok(raw)
    }

    fn read_meter(&mut self, raw: &mut Raw) -> Result<(), Error> {
        // A meter can be attached later, so its refusal is not remembered.
        if !raw.may_have_meter() {
            return Ok(());
        }
        for _ in 0..2 {
            raw.meter = match self.read(decode::METER) {
                Ok(words) => Some(words),
                Err(modbus::Error::Exception(_)) => None,
                Err(error) => return Err(error.into()),
            };
            // Shortly after its start a box says 0 Wh: asked again once, then unknown.
            if raw.meter.is_none() || raw.energy().is_some() {
                break;
            }
        }
        Ok(())
    }

    fn read_all(&mut self) -> Result<Outcome, Error> {
        let raw = if self.whole { self.read_whole()? } else { self.read_parts()? };
        let mut outcome = raw.outcome()?;
        outcome.set("energy.session", self.session.update(raw.connector()?, raw.energy()));
        Ok(outcome)
    }

    fn write(&self, write: Write) -> Result<(), Error> {
        Ok(self.port.write_register(write.address, write.value)?)
    }

    fn switch_phases(&mut self, phases: u8) -> Result<(), Error> {
        let write = decode::phases(phases)?;
        let features = Raw { features: self.optional(decode::FEATURES)?, ..Raw::default() };
        if features.phase_switch() != Some(true) {
            return Err(Error::unsupported("phase switching is not configured in this box (register 8113, bit 8)"));
        }
        self.write(write)
    }

    fn arm_failsafe(&mut self, milliamps: u32, seconds: u32) -> Result<(), Error> {
        let Some(now) = self.optional(decode::FAILSAFE)? else {
            return Err(Error::unsupported("this box has no failsafe registers (8083 to 8085)"));
        };
        let (duration, current) = decode::failsafe(&now, milliamps, seconds)?;
        if let Some(current) = current {
            self.port.write_register(decode::FAILSAFE.0 + 2, current)?;
        }
        if let Some(duration) = duration {
            self.port.write_registers(decode::FAILSAFE.0, &duration)?;
        }
        Ok(())
    }
}

// === What the component exports ===

type Driver = PowerBrain<modbus::Endpoint>;

impl Device for Driver {
    fn open(config: &Json<'_>) -> Result<(Self, Info), Error> {
        Self::start(modbus::Endpoint::open("main")?, config)
    }

    fn poll(&mut self) -> Result<Outcome, Error> {
        self.read_all()
    }
    // Nothing to undo at the end: the limit stays as it is, and the box has its own failsafe.
}

impl ChargeControl for Driver {
    fn set_enabled(&mut self, enabled: bool) -> Result<(), Error> {
        self.write(decode::enabled(enabled))
    }

    fn set_current_limit(&mut self, milliamps: u32) -> Result<(), Error> {
        self.write(decode::current(milliamps)?)
    }

    fn wake_up(&mut self) -> Result<(), Error> {
        self.write(decode::wake_up(self.wake_up_seconds))
    }
}

impl PhaseControl for Driver {
    fn set_phases(&mut self, phases: u8) -> Result<(), Error> {
        self.switch_phases(phases)
    }
}

impl Failsafe for Driver {
    fn arm(&mut self, milliamps: u32, timeout_seconds: u32) -> Result<(), Error> {
        self.arm_failsafe(milliamps, timeout_seconds)
    }
}

impl Handover for Driver {
    fn save(&mut self) -> Vec<u8> {
        self.session.save().into_bytes()
    }

    fn restore(&mut self, _version: &str, snapshot: &[u8]) -> bool {
        Session::restore(snapshot).map(|session| self.session = session).is_some()
    }
}

ladekern_plugin_sdk::export!(Driver: Device, ChargeControl, PhaseControl, Failsafe, Handover);

#[cfg(test)]
mod tests;
