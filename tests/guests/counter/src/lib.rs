//! Counts its polls in memory and hands the count over to its next version: a lost instance, a missed poll and a
//! `close` that nobody asked for can all be seen from outside. It is no example of how a driver is written.

use ladekern_plugin_sdk::modbus::Endpoint;
use ladekern_plugin_sdk::{
    ChargeControl, Connector, Device, Error, Failsafe, Handover, Info, Json, ModbusPort, Outcome,
};

struct Counter {
    main: Endpoint,
    behave: String,
    count: u32,
    /// Polls of this instance.
    own: u32,
}

impl Device for Counter {
    fn open(config: &Json<'_>) -> Result<(Self, Info), Error> {
        let behave = config.get("behave").and_then(Json::text).unwrap_or("well").to_owned();
        let mut info = Info::new();
        info.model = Some("Counter".into());
        Ok((Self { main: Endpoint::open("main")?, behave, count: 0, own: 0 }, info))
    }

    fn poll(&mut self) -> Result<Outcome, Error> {
        let watts = ModbusPort::read_holding(&self.main, 0, 1)?;
        self.own += 1;
        match self.behave.as_str() {
            "trap" => trap(),
            "trap-later" if self.own > 1 => trap(),
            "garbage" => return Err(Error::Protocol("garbage".into())),
            _ => {}
        }
        self.count += 1;
        let mut outcome = Outcome::new();
        outcome.set("energy.import", f64::from(self.count));
        outcome.set("power.total", watts.first().map(|watts| f64::from(*watts)));
        outcome.set_connector(Connector::Charging);
        Ok(outcome)
    }

    fn close(&mut self) {
        // The instance ends either way.
        let _ = self.main.write_register(3, 1);
    }
}

impl ChargeControl for Counter {
    fn set_enabled(&mut self, enabled: bool) -> Result<(), Error> {
        Ok(self.main.write_register(2, u16::from(enabled))?)
    }

    fn set_current_limit(&mut self, milliamps: u32) -> Result<(), Error> {
        Ok(self.main.write_register(1, u16::try_from(milliamps / 100).unwrap_or(u16::MAX))?)
    }
}

impl Failsafe for Counter {
    fn arm(&mut self, milliamps: u32, timeout_seconds: u32) -> Result<(), Error> {
        let tenths = u16::try_from(milliamps / 100).unwrap_or(u16::MAX);
        let seconds = u16::try_from(timeout_seconds).unwrap_or(u16::MAX);
        Ok(ModbusPort::write_registers(&self.main, 4, &[tenths, seconds])?)
    }
}

impl Handover for Counter {
    fn save(&mut self) -> Vec<u8> {
        self.count.to_le_bytes().to_vec()
    }

    fn restore(&mut self, _version: &str, snapshot: &[u8]) -> bool {
        match snapshot.try_into() {
            Ok(bytes) => {
                self.count = u32::from_le_bytes(bytes);
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn trap() {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() {}

ladekern_plugin_sdk::export!(Counter: Device, ChargeControl, Failsafe, Handover);
