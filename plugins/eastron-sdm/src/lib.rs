//! Eastron SDM meters. Glue only: registers and their meaning stand in [`decode`]. It never writes to a meter.

mod decode;

use decode::Meter;
use ladekern_plugin_sdk::{Decoder, Error, Json, Outcome, decoder};

struct Sdm(Meter);

impl Decoder for Sdm {
    fn open(config: &Json<'_>) -> Result<(Self, Vec<decoder::Block>), Error> {
        let meter = Meter::new(config)?;
        let plan = meter.plan();
        Ok((Self(meter), plan))
    }

    fn decode(&mut self, blocks: &[Option<Vec<u16>>]) -> Result<Outcome, Error> {
        self.0.decode(blocks)
    }
}

ladekern_plugin_sdk::export!(Sdm: Decoder);

#[cfg(test)]
mod tests;
