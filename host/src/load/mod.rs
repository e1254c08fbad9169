//! The load manager: a function from what is known of a site to what each wallbox is told. Pure: no I/O, no clock, no
//! log, integers only, so that the daemon, the simulator and the property tests run the same code and a recorded
//! trace replays bit by bit. Readings become a [`Site`] in `control`, which also sends what [`plan`] decides.
//!
//! The rules, in the order of a tick: observe the wallboxes (`charger`) and the circuits (`circuit`), share what
//! the circuits carry (`fill`), lead each wallbox towards its share without ever counting on current that is not
//! yet free (`commit`), explain (`explain`). Not in here yet, and where it will go: rotation among waiting cars
//! (before admission), phase imbalance (between filling rounds), minimum on and off times and phase switching
//! (before commit), charging from surplus (one more source of `requested`).

mod charger;
mod circuit;
mod commit;
mod explain;
mod fill;
mod input;
mod output;
mod plan;
mod tree;
mod tuning;
mod units;

pub use input::{Charger, Circuit, CircuitId, Metering, Mode, Sample, Site};
pub use output::{Alarm, ChargerPlan, CircuitPlan, Line, Order, OrderKind, Plan, Reason};
pub use plan::{State, minimums, plan};
pub use tuning::Tuning;
pub use units::{Milliamps, PerPhase, Phase};

#[cfg(test)]
mod tests;
