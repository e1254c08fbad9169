//! Register map of the SDM family and what the values mean. Pure: registers in, readings out.
//!
//! Every value is a float of two input registers, high word first (function code 4). The main block is the same on all models; smaller ones
//! leave registers out and refuse a request that touches one.
//! Source: Eastron's protocol papers of SDM630, SDM72D-M, SDM120 and SDM230.

use ladekern_plugin_sdk::decoder::{self, Block};
use ladekern_plugin_sdk::{Error, Json, Outcome};

/// V, one register pair per phase.
const VOLTAGE: [u16; 3] = [0x0000, 0x0002, 0x0004];
/// A, a magnitude.
const CURRENT: [u16; 3] = [0x0006, 0x0008, 0x000A];
/// W, signed.
const POWER: [u16; 3] = [0x000C, 0x000E, 0x0010];
/// W, signed.
const POWER_TOTAL: u16 = 0x0034;
/// VA
const APPARENT: u16 = 0x0038;
/// var
const REACTIVE: u16 = 0x003C;
/// Hz
const FREQUENCY: u16 = 0x0046;
/// kWh. The register of import and export added up, 0x0156, is never used: nobody can tell the two apart in it.
const IMPORT: u16 = 0x0048;
/// kWh
const EXPORT: u16 = 0x004A;

const SLOT: &str = "main";

/// One meter with its plan.
pub struct Meter {
    inverted: bool,
    /// Address, number of registers, may be refused.
    plan: Vec<(u16, u16, bool)>,
}

impl Meter {
    /// Reads a configuration that passed the schema; what is missing has the schema's default.
    pub fn new(config: &Json<'_>) -> Result<Self, Error> {
        let model = config.get("model").and_then(Json::text).unwrap_or("auto");
        let plan = match model {
            // The whole main block, one request.
            "three-phase" => vec![(VOLTAGE[0], EXPORT + 2 - VOLTAGE[0], false)],
            "one-phase" => vec![
                (VOLTAGE[0], 2, false),
                (CURRENT[0], 2, false),
                (POWER[0], 2, false),
                (FREQUENCY, 2, true),
                (IMPORT, 4, false),
            ],
            "sdm72-v1" => vec![(POWER_TOTAL, 2, false), (IMPORT, 4, false)],
            // Single values that lie side by side: the host reads neighbours together as long as the meter has them all.
            "auto" => {
                let phases = [VOLTAGE, CURRENT, POWER].into_iter().flatten();
                let totals = [POWER_TOTAL, APPARENT, REACTIVE, FREQUENCY];
                let optional = phases.chain(totals).map(|address| (address, 2, true));
                optional.chain([(IMPORT, 4, false)]).collect()
            }
            other => return Err(Error::config(format!("there is no model \"{other}\""))),
        };
        let inverted = config.get("inverted").and_then(Json::flag).unwrap_or(false);
        Ok(Self { inverted, plan })
    }

    /// What to read at each poll.
    pub fn plan(&self) -> Vec<Block> {
        let block = |&(address, count, optional): &(u16, u16, bool)| {
            let block = Block::input(SLOT, address, count);
            if optional { block.optional() } else { block }
        };
        self.plan.iter().map(block).collect()
    }

    /// The readings of one poll. A value that is no number is unknown, a register the meter does not have is not mentioned.
    pub fn decode(&self, blocks: &[Option<Vec<u16>>]) -> Result<Outcome, Error> {
        let sign = if self.inverted { -1.0 } else { 1.0 };
        let read = |address| Value::read(self, blocks, address);
        let powers = POWER.map(|address| read(address).scaled(sign));
        let total = match read(POWER_TOTAL).scaled(sign) {
            // A one-phase meter without the register of the total has one power.
            Value::Absent if powers[1] == Value::Absent => powers[0],
            Value::Absent => Value::sum(powers),
            total => total,
        };

        let mut outcome = Outcome::new();
        total.put(&mut outcome, "power.total");
        read(APPARENT).put(&mut outcome, "power.apparent");
        read(REACTIVE).scaled(sign).put(&mut outcome, "power.reactive");
        for (phase, name) in ["power.l1", "power.l2", "power.l3"].into_iter().enumerate() {
            powers.get(phase).copied().unwrap_or(Value::Absent).put(&mut outcome, name);
        }
        for (address, name) in VOLTAGE.into_iter().zip(["voltage.l1", "voltage.l2", "voltage.l3"]) {
            read(address).put(&mut outcome, name);
        }
        let currents = CURRENT.into_iter().zip(["current.l1", "current.l2", "current.l3"]);
        for ((address, name), power) in currents.zip(powers) {
            read(address).directed(power).scaled(1000.0).put(&mut outcome, name);
        }
        // Some firmware says 500 where others say 50.0.
        read(FREQUENCY).map(|hertz| if hertz > 100.0 { hertz / 10.0 } else { hertz }).put(&mut outcome, "frequency");
        let (import, export) = if self.inverted { (EXPORT, IMPORT) } else { (IMPORT, EXPORT) };
        for (address, name) in [(import, "energy.import"), (export, "energy.export")] {
            read(address).scaled(1000.0).filter(|wh| wh >= 0.0).map(f64::round).put(&mut outcome, name);
        }
        if outcome.readings.iter().all(|reading| reading.value.is_none()) {
            return Err(Error::protocol("none of the registers holds a number: is it an SDM meter?"));
        }
        Ok(outcome)
    }
}

/// What stands in a register.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    /// The meter does not have it, or was not asked.
    Absent,
    /// It has it and does not know.
    Unknown,
    Known(f64),
}

impl Value {
    fn read(meter: &Meter, blocks: &[Option<Vec<u16>>], address: u16) -> Self {
        let covers = |&(start, count, _): &(u16, u16, bool)| start <= address && address < start + count;
        let Some(index) = meter.plan.iter().position(covers) else { return Self::Absent };
        let Some(&(start, ..)) = meter.plan.get(index) else { return Self::Absent };
        let registers = decoder::registers(blocks, index, start);
        if registers.is_empty() {
            return Self::Absent;
        }
        registers.f32(address).map_or(Self::Unknown, Self::Known)
    }

    fn map(self, change: impl FnOnce(f64) -> f64) -> Self {
        match self {
            Self::Known(value) => Self::Known(change(value)),
            other => other,
        }
    }

    fn scaled(self, factor: f64) -> Self {
        self.map(|value| value * factor)
    }

    fn filter(self, keep: impl FnOnce(f64) -> bool) -> Self {
        match self {
            Self::Known(value) if !keep(value) => Self::Unknown,
            other => other,
        }
    }

    /// The magnitude with the sign of `power`, where that is known.
    fn directed(self, power: Self) -> Self {
        match power {
            Self::Known(power) if power < 0.0 => self.map(|value| -value.abs()),
            Self::Known(_) => self.map(f64::abs),
            _ => self,
        }
    }

    fn sum(values: [Self; 3]) -> Self {
        values.into_iter().fold(Self::Known(0.0), |total, value| match (total, value) {
            (Self::Known(total), Self::Known(value)) => Self::Known(total + value),
            (Self::Absent, _) | (_, Self::Absent) => Self::Absent,
            _ => Self::Unknown,
        })
    }

    fn put(self, outcome: &mut Outcome, name: &str) {
        match self {
            Self::Absent => {}
            Self::Unknown => outcome.set(name, None),
            // A float of 32 bits has seven digits; what follows is the noise of its binary form.
            Self::Known(value) => outcome.set(name, (value * 1000.0).round() / 1000.0),
        }
    }
}
