//! A cFos Power Brain on Modbus TCP: identification, attached meter and control block of the wallbox.
//!
//! Register map after the vendor's documentation (port 4701, unit 1, functions 3, 6 and 16, high word first);
//! the S0 meters on ports 4702 and 4703 are not there. Registers between the documented ones answer with
//! exception 2. Never decides anything: settings go to the house's wallbox.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::modbus::{self, Answer, Bus, Framing, Table, Unit, exception};
use crate::net::{Control, Server};
use crate::physics::{Evse, EvseOptions, Failsafe, House, Settings, State};
use crate::world::World;

/// How the box is built.
#[derive(Debug, Clone)]
pub struct PowerBrainOptions {
    /// Where to listen; port 0 takes a free one, a real box uses 4701.
    pub address: SocketAddr,
    /// Unit id, 1 on a real box.
    pub unit: u8,
    /// Serial number, up to 16 characters.
    pub serial: String,
    /// A meter is attached (8112, and 8057..8069 can be read).
    pub has_meter: bool,
    /// Phase switching is configured (bit 8 of 8113).
    pub phase_switch: bool,
}

impl Default for PowerBrainOptions {
    fn default() -> Self {
        Self {
            address: crate::home::loopback(0),
            unit: 1,
            serial: "SIM-PB-0001".into(),
            has_meter: true,
            phase_switch: true,
        }
    }
}

/// The electrical side of an 11 kW box: 16 A, enabled, fail-safe 300 s to 6 A.
#[must_use]
pub fn evse_options(id: &str, wiring: &[usize]) -> EvseOptions {
    EvseOptions {
        id: id.into(),
        wiring: wiring.to_vec(),
        max_a: 16.0,
        initial: Settings { limit_a: 6.0, enabled: false, one_phase: false },
        logic_period_s: 0.0,
        failsafe: Failsafe { after_s: 300.0, limit_a: 6.0 },
    }
}

/// A running box.
pub struct PowerBrain {
    server: Server,
    registers: Arc<Registers>,
}

impl PowerBrain {
    /// Starts the box for wallbox `evse` of the world's house.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(world: Arc<World>, evse: usize, options: PowerBrainOptions) -> anyhow::Result<Self> {
        let (address, unit) = (options.address, options.unit);
        let registers = Arc::new(Registers { world, evse, options, state: Mutex::default() });
        let bus = Bus::new().with(unit, registers.clone());
        let server = modbus::serve(address, Framing::Tcp, bus, Control::default()).await?;
        Ok(Self { server, registers })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `tcp://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address())
    }

    /// Its switches and counters.
    #[must_use]
    pub fn control(&self) -> &Control {
        self.server.control()
    }

    /// Writes to registers that live in flash; a driver must not do that again and again.
    #[must_use]
    pub fn flash_writes(&self) -> u64 {
        self.registers.state().flash_writes
    }

    /// Every accepted write in order: address and value, one entry per register.
    #[must_use]
    pub fn writes(&self) -> Vec<(u16, u16)> {
        self.registers.state().writes.clone()
    }

    /// Somebody holds a card to the reader; `tag` is hex text of up to 30 characters.
    pub fn tap_rfid(&self, tag: &str) {
        let mut state = self.registers.state();
        state.rfid = tag.to_owned();
        state.taps = state.taps.wrapping_add(1);
    }

    /// The next so many reads of the energy register give 0, as after a start.
    pub fn forget_energy(&self, reads: u32) {
        self.registers.state().zero_energy_reads = reads;
    }

    /// Closes the port.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

#[derive(Default)]
struct Store {
    words: BTreeMap<u16, u16>,
    writes: Vec<(u16, u16)>,
    flash_writes: u64,
    rfid: String,
    taps: u16,
    frozen_state: u16,
    zero_energy_reads: u32,
}

struct Registers {
    world: Arc<World>,
    evse: usize,
    options: PowerBrainOptions,
    state: Mutex<Store>,
}

impl Registers {
    fn state(&self) -> MutexGuard<'_, Store> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn word(&self, at: u16, store: &Store, house: &House, evse: &Evse) -> Option<u16> {
        let meter = self.options.has_meter;
        Some(match at {
            // Vendor id in two words, product, device, version 1.2, map version 1.0; 8005 is the build number.
            8000 => 0,
            8001 => 0xCF05,
            8002 => 1,
            8003 => 0x0100,
            8004 => 0x0102,
            8005 => 42,
            8006 => 0x0100,
            8007 => 0,
            8008..=8015 => text(&self.options.serial, at - 8008),
            8016..=8031 => text("cFos Power Brain", at - 8016),
            8040 => u16::from(self.options.unit),
            8057 if meter => 1,
            8058..=8061 if meter => {
                let wh = if store.zero_energy_reads > 0 { 0 } else { evse.energy_wh().round() as u64 };
                part(wh, 8061 - at)
            }
            8062..=8063 if meter => part(power(house, evse).round() as u64, 8063 - at),
            8064..=8069 if meter => {
                let amps = evse.conductor_currents();
                let amps = amps.get(usize::from(at - 8064) / 2).copied().unwrap_or(0.0);
                part((amps * 10.0).round() as u64, (at + 1) % 2)
            }
            8083..=8084 => part(evse.failsafe.after_s as u64, 8084 - at),
            8085 => (evse.failsafe.limit_a * 10.0).round() as u16,
            8086 => (evse.interruption_left_s() - 1e-6).ceil() as u16,
            8087 => u16::from(evse.wanted().one_phase),
            8090 => u16::from(evse.is_plugged()) * 320,
            8092 if evse.interruption_left_s() > 0.0 => store.frozen_state,
            8092 => pilot(evse),
            8093 => (evse.wanted().limit_a * 10.0).round() as u16,
            8094 => u16::from(evse.wanted().enabled),
            8095 => (evse.offer() * 10.0).round() as u16,
            8096..=8110 => text(&store.rfid, at - 8096),
            8111 => store.taps,
            8112 => u16::from(meter),
            8113 => u16::from(self.options.phase_switch) << 8,
            8080..=8082 | 8088 | 8091 | 8120..=8121 => {
                let default = if at == 8081 { (evse.max_a() * 10.0) as u16 } else { 0 };
                store.words.get(&at).copied().unwrap_or(default)
            }
            _ => return None,
        })
    }

    /// Says whether `value` may be written to `at`, and refuses with the right exception.
    fn check(&self, at: u16, value: u16, max_a: f64) -> Answer<()> {
        let most = (max_a * 10.0) as u16;
        let fine = match at {
            8093 => (60..=most).contains(&value),
            8094 | 8088 | 8082 => value <= 1,
            8087 => value <= 1 && self.options.phase_switch,
            8085 | 8091 | 8080 => value == 0 || (60..=most).contains(&value),
            8081 => (60..=630).contains(&value),
            8086 | 8083 | 8084 | 8120 | 8121 => true,
            8040 => (1..=247).contains(&value),
            _ => return Err(exception::ADDRESS),
        };
        if fine { Ok(()) } else { Err(exception::VALUE) }
    }

    fn write(&self, at: u16, value: u16, store: &mut Store, house: &mut House) {
        let Some(evse) = house.evse_mut(self.evse) else { return };
        let mut settings = evse.wanted();
        match at {
            8093 => settings.limit_a = f64::from(value) / 10.0,
            8094 => settings.enabled = value == 1,
            8087 => settings.one_phase = value == 1,
            8086 => {
                store.frozen_state = pilot(evse);
                evse.interrupt_pilot(f64::from(value));
            }
            8083 => evse.failsafe.after_s = f64::from(value) * 65536.0 + evse.failsafe.after_s % 65536.0,
            8084 => evse.failsafe.after_s = (evse.failsafe.after_s / 65536.0).floor() * 65536.0 + f64::from(value),
            8085 => evse.failsafe.limit_a = f64::from(value) / 10.0,
            _ => {
                store.words.insert(at, value);
            }
        }
        // The vendor keeps exactly these in memory; every other register wears the flash out.
        if !matches!(at, 8086 | 8087 | 8088 | 8091 | 8093 | 8094) {
            store.flash_writes += 1;
        }
        store.writes.push((at, value));
        if matches!(at, 8087 | 8093 | 8094) {
            house.command(self.evse, settings);
        }
    }
}

impl Unit for Registers {
    fn read_words(&self, table: Table, address: u16, count: u16) -> Answer<Vec<u16>> {
        if table != Table::Holding {
            return Err(exception::FUNCTION);
        }
        let mut store = self.state();
        let words = self.world.with(|house| {
            let evse = house.evses().get(self.evse).ok_or(exception::FAILURE)?;
            let words = (address..address.saturating_add(count)).map(|at| self.word(at, &store, house, evse));
            words.collect::<Option<Vec<u16>>>().ok_or(exception::ADDRESS)
        })?;
        if (address..address.saturating_add(count)).contains(&8061) {
            store.zero_energy_reads = store.zero_energy_reads.saturating_sub(1);
        }
        Ok(words)
    }

    fn write_words(&self, address: u16, values: &[u16]) -> Answer<()> {
        let mut store = self.state();
        self.world.with(|house| {
            let max_a = house.evses().get(self.evse).ok_or(exception::FAILURE)?.max_a();
            for (at, value) in (address..).zip(values) {
                self.check(at, *value, max_a)?;
            }
            for (at, value) in (address..).zip(values) {
                self.write(at, *value, &mut store, house);
            }
            Ok(())
        })
    }

    fn heard(&self) {
        self.world.with(|house| {
            if let Some(evse) = house.evse_mut(self.evse) {
                evse.touch();
            }
        });
    }
}

fn pilot(evse: &Evse) -> u16 {
    match evse.state() {
        State::A => 0,
        State::B => 1,
        State::C => 2,
        State::F => 5,
    }
}

fn power(house: &House, evse: &Evse) -> f64 {
    evse.currents().iter().zip(house.volts()).map(|(amps, volts)| amps * volts).sum()
}

/// Word `from_low` of `value`, counted from the lowest.
fn part(value: u64, from_low: u16) -> u16 {
    (value >> (16 * u32::from(from_low))) as u16
}

/// Two characters of `text`, NUL padded.
fn text(text: &str, word: u16) -> u16 {
    let mut bytes = text.bytes().skip(usize::from(word) * 2);
    let high = bytes.next().unwrap_or(0);
    u16::from_be_bytes([high, bytes.next().unwrap_or(0)])
}
