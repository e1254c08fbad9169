//! An Eastron SDM630 or SDM72 (first version) on Modbus TCP or RTU over TCP: float32 input registers, high word first.
//!
//! What lies beyond the model's map answers with exception 2 for the whole block; settings are there to read only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::modbus::{self, Answer, Bus, Framing, Table, Unit, exception};
use crate::net::{Control, Server};
use crate::physics::{House, Source};
use crate::world::World;

/// Which device of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// Three phases, everything.
    Sdm630,
    /// Totals only: power and the energy counters.
    Sdm72V1,
}

/// How the meter is built in.
#[derive(Debug, Clone)]
pub struct SdmOptions {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Modbus TCP, or raw RTU frames through a gateway.
    pub framing: Framing,
    /// Unit id, 1 from the factory.
    pub unit: u8,
    /// Which device.
    pub model: Model,
    /// What it measures; positive is the positive direction of [`Source`].
    pub source: Source,
    /// Mounted upside down: every sign flips and the counters swap.
    pub inverted: bool,
    /// Its values are what the manager judges the main fuse by.
    pub is_grid_meter: bool,
}

impl Default for SdmOptions {
    fn default() -> Self {
        Self {
            address: crate::home::loopback(0),
            framing: Framing::Rtu,
            unit: 1,
            model: Model::Sdm630,
            source: Source::Pv,
            inverted: false,
            is_grid_meter: false,
        }
    }
}

/// A running meter.
pub struct Sdm {
    server: Server,
    framing: Framing,
    registers: Arc<Registers>,
}

impl Sdm {
    /// Starts the meter.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(world: Arc<World>, options: SdmOptions) -> anyhow::Result<Self> {
        let (address, unit, framing) = (options.address, options.unit, options.framing);
        let registers = Arc::new(Registers { world, options, ten_times_hertz: AtomicBool::new(false) });
        let bus = Bus::new().with(unit, registers.clone());
        let server = modbus::serve(address, framing, bus, Control::default()).await?;
        Ok(Self { server, framing, registers })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `tcp://…` or `rtutcp://…`, by its framing.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.framing == Framing::Tcp { "tcp" } else { "rtutcp" };
        format!("{scheme}://{}", self.address())
    }

    /// Its switches and counters.
    #[must_use]
    pub fn control(&self) -> &Control {
        self.server.control()
    }

    /// Reports the frequency ten times too high, as some firmware does.
    pub fn spoil_frequency(&self, spoil: bool) {
        self.registers.ten_times_hertz.store(spoil, Ordering::Relaxed);
    }

    /// Closes the port.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

struct Registers {
    world: Arc<World>,
    options: SdmOptions,
    ten_times_hertz: AtomicBool,
}

/// Largest read: 40 values.
const MOST: u16 = 80;

impl Registers {
    /// The value at an even address; none beyond the model's map, 0 in its gaps.
    fn value(&self, at: u16, house: &House) -> Option<f64> {
        let sign = if self.options.inverted { -1.0 } else { 1.0 };
        let volts = house.volts();
        let amps = house.amps(self.options.source).map(|a| a * sign);
        let watts = [0, 1, 2].map(|n: usize| volts.get(n).zip(amps.get(n)).map_or(0.0, |(v, a)| v * a));
        let total: f64 = watts.iter().sum();
        let (forward, back) = house.energy_wh(self.options.source);
        let (import, export) = if self.options.inverted { (back, forward) } else { (forward, back) };
        let phase = |first: u16| usize::from((at - first) / 2);
        let of = |values: [f64; 3], n: usize| values.get(n).copied().unwrap_or(0.0);
        let totals = match at {
            0x34 => Some(total),
            0x48 => Some(import / 1000.0),
            0x4A => Some(export / 1000.0),
            0x156 => Some((import + export) / 1000.0),
            _ => None,
        };
        if totals.is_some() || self.options.model == Model::Sdm72V1 {
            return totals;
        }
        Some(match at {
            0x00..=0x05 => of(volts, phase(0)),
            0x06..=0x0B => of(amps, phase(6)).abs(),
            0x0C..=0x11 => of(watts, phase(0x0C)),
            // No reactive power here: apparent power is the magnitude of the active one and the factor has its sign.
            0x12..=0x17 => of(watts, phase(0x12)).abs(),
            0x1E..=0x23 => of(watts, phase(0x1E)).signum(),
            0x2A => volts.iter().sum::<f64>() / 3.0,
            0x2E => amps.iter().map(|a| a.abs()).sum::<f64>() / 3.0,
            0x30 => amps.iter().map(|a| a.abs()).sum(),
            0x38 => watts.iter().map(|w| w.abs()).sum(),
            0x3E => total.signum(),
            0x46 if self.ten_times_hertz.load(Ordering::Relaxed) => house.hertz() * 10.0,
            0x46 => house.hertz(),
            0xC8..=0xCD => of(volts, phase(0xC8)) * 3f64.sqrt(),
            0x15A..=0x15F => import / 3000.0,
            0x160..=0x165 => export / 3000.0,
            0x166..=0x16B => (import + export) / 3000.0,
            0x00..=0x6B | 0xCE..=0x10F | 0x14E..=0x17D => 0.0,
            _ => return None,
        })
    }

    /// Settings that can be read: parity, unit and baud code as float32, the serial number as a 32-bit integer.
    fn setting(&self, at: u16) -> Option<u32> {
        match at {
            0x12 | 0x1C => Some(2f32.to_bits()),
            0x14 => Some(f32::from(self.options.unit).to_bits()),
            0xFC00 => Some(20_261_122),
            _ => None,
        }
    }
}

impl Unit for Registers {
    fn read_words(&self, table: Table, address: u16, count: u16) -> Answer<Vec<u16>> {
        if count > MOST {
            return Err(exception::VALUE);
        }
        if !address.is_multiple_of(2) || !count.is_multiple_of(2) {
            return Err(exception::ADDRESS);
        }
        let at = (0..count).step_by(2).map(|n| address.wrapping_add(n));
        let bits: Option<Vec<u32>> = match table {
            Table::Input => {
                self.world.with(|house| at.map(|at| self.value(at, house).map(|v| (v as f32).to_bits())).collect())
            }
            Table::Holding => at.map(|at| self.setting(at)).collect(),
            _ => return Err(exception::FUNCTION),
        };
        let bits = bits.ok_or(exception::ADDRESS)?;
        Ok(bits.into_iter().flat_map(|bits| [(bits >> 16) as u16, bits as u16]).collect())
    }

    fn answered(&self, table: Table, address: u16, count: u16) {
        // A manager has measured when it has received the currents or, from the small model, the power.
        let currents = match self.options.model {
            Model::Sdm630 => 0x06..0x0C,
            Model::Sdm72V1 => 0x34..0x36,
        };
        let read = table == Table::Input && address <= currents.start && address + count >= currents.end;
        if read && self.options.is_grid_meter {
            self.world.with(|house| {
                let amps = house.amps(Source::Grid);
                house.delivered(&amps);
            });
        }
    }
}
