//! Tests of the load manager as a whole, and what they share.

mod golden;
mod properties;
mod rules;
mod sequences;

use super::{Charger, Circuit, CircuitId, Metering, Milliamps, PerPhase, Phase, Site};
use crate::site::DeviceId;

/// `E<n>`.
fn evse(number: usize) -> DeviceId {
    format!("E{number}").parse().unwrap()
}

/// An unmetered circuit with the same limit on each phase, in ampere.
fn circuit(name: &str, parent: Option<&str>, ampere: i64) -> Circuit {
    Circuit {
        id: name.into(),
        parent: parent.map(CircuitId::from),
        limit: PerPhase::all(Milliamps(ampere * 1_000)),
        sum_limit: None,
        metering: Metering::Unmetered { fixed: PerPhase::default() },
    }
}

/// A waiting car on these phases, with a cap in ampere.
fn waiting(number: usize, circuit: &str, phases: &[Phase], ampere: i64) -> Charger {
    let mut charger = Charger::new(evse(number), circuit.into(), Milliamps(ampere * 1_000));
    charger.phases = Some(PerPhase::from_fn(|phase| phases.contains(&phase)));
    charger
}

fn site(circuits: Vec<Circuit>, chargers: Vec<Charger>) -> Site {
    Site { circuits, chargers, ..Site::default() }
}
