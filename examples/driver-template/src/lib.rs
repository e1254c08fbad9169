//! Janitza UMG power analysers: a register decoder, complete in one file. It never writes to a meter.
//!
//! Every value is a float of two holding registers, high word first. Source: Janitza's Modbus address lists.

use ladekern_plugin_sdk::{Decoder, Error, Json, Outcome, PHASES, decoder, with_sign_of};

/// First register of the block and how many are read: everything below in one request.
const START: u16 = 19_000;
const COUNT: u16 = 78;

/// V, A and W of the three phases.
const VOLTAGE: [u16; 3] = [19_000, 19_002, 19_004];
const CURRENT: [u16; 3] = [19_012, 19_014, 19_016];
const POWER: [u16; 3] = [19_020, 19_022, 19_024];
/// W
const POWER_TOTAL: u16 = 19_026;
/// Hz
const FREQUENCY: u16 = 19_050;
/// Wh
const CONSUMED: u16 = 19_068;
/// Wh
const DELIVERED: u16 = 19_076;

struct Umg {
    /// The current transformers look the other way.
    inverted: bool,
}

impl Decoder for Umg {
    /// `config` has passed the schema in `driver.toml`, defaults included.
    fn open(config: &Json<'_>) -> Result<(Self, Vec<decoder::Block>), Error> {
        let inverted = config.get("inverted").and_then(Json::flag).unwrap_or(false);
        Ok((Self { inverted }, vec![decoder::Block::holding("main", START, COUNT)]))
    }

    /// One poll. `f32` gives `None` for NaN and for what was not read, and `set` passes it on: unknown is never 0.
    fn decode(&mut self, blocks: &[Option<Vec<u16>>]) -> Result<Outcome, Error> {
        let registers = decoder::registers(blocks, 0, START);
        let sign = if self.inverted { -1.0 } else { 1.0 };
        let signed = |address| registers.f32(address).map(|value| value * sign);
        let (import, export) = if self.inverted { (DELIVERED, CONSUMED) } else { (CONSUMED, DELIVERED) };

        let mut outcome = Outcome::new();
        outcome.set("power.total", signed(POWER_TOTAL));
        outcome.set_phases("power", POWER.map(signed));
        outcome.set_phases("voltage", VOLTAGE.map(|address| registers.f32(address)));
        for ((phase, address), power) in PHASES.iter().zip(CURRENT).zip(POWER) {
            let milliamperes = registers.f32(address).map(|amperes| amperes * 1000.0);
            outcome.set(&format!("current.{phase}"), with_sign_of(signed(power), milliamperes));
        }
        outcome.set("frequency", registers.f32(FREQUENCY));
        outcome.set("energy.import", registers.f32(import));
        outcome.set("energy.export", registers.f32(export));
        Ok(outcome)
    }
}

ladekern_plugin_sdk::export!(Umg: Decoder);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_registers() {
        let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
        ladekern_plugin_sdk::fixtures::check_decoder::<Umg>(cases).unwrap();
    }

    #[test]
    fn a_short_answer_is_unknown() {
        let outcome = Umg { inverted: false }.decode(&[Some(vec![0x4366; 3])]).unwrap();
        assert_eq!(outcome.value("power.total"), Some(None));
    }
}
