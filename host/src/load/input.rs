//! What the load manager is told in each tick: the circuits with their meters, the wallboxes, and what of it is
//! fresh. Everything is plain data; nothing in here is older than it says.

use std::fmt;
use std::sync::Arc;

use super::{Milliamps, PerPhase, Phase, Tuning};
use crate::site::{Because, Connector, DeviceId, Measured, Moment, Request};

/// Name of a circuit, unique in a site.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CircuitId(Arc<str>);

impl CircuitId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CircuitId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CircuitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether wallboxes are commanded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Share the current and command the wallboxes.
    #[default]
    Manage,
    /// Compute and explain, command nobody.
    Observe,
}

/// The inputs of one tick. The order of the lists does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    /// Whether wallboxes are commanded.
    pub mode: Mode,
    /// The tree of circuits.
    pub circuits: Vec<Circuit>,
    /// The wallboxes that share the circuits' current.
    pub chargers: Vec<Charger>,
    /// Times and factors.
    pub tuning: Tuning,
}

/// A circuit: everything behind one set of fuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Its name.
    pub id: CircuitId,
    /// The circuit this one hangs below, none for a root.
    pub parent: Option<CircuitId>,
    /// What each phase may carry, reserves already taken off.
    pub limit: PerPhase<Milliamps>,
    /// What all phases may carry together, for limits that are given as a power.
    pub sum_limit: Option<Milliamps>,
    /// What measures it.
    pub metering: Metering,
}

/// How the load of a circuit that is no wallbox becomes known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Metering {
    /// By nothing: this much is assumed on each phase.
    Unmetered {
        /// The assumed load.
        fixed: PerPhase<Milliamps>,
    },
    /// By a meter.
    Metered {
        /// The newest sample, `None` if there never was one.
        sample: Option<Sample>,
        /// Samples older than this are not used.
        stale_after_ms: u64,
        /// The load assumed while the meter is silent.
        failsafe: PerPhase<Milliamps>,
    },
}

/// Currents that were measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Current per phase, positive towards the consumers; `None` where nothing is measured.
    pub current: PerPhase<Option<Milliamps>>,
    /// When.
    pub at: Moment,
}

/// A wallbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charger {
    /// Its id.
    pub id: DeviceId,
    /// The circuit it hangs on.
    pub circuit: CircuitId,
    /// The phases of the circuit it uses; `None`: unknown, then it counts on all three. Where a wallbox with three
    /// phases charges on one, the caller says so here.
    pub phases: Option<PerPhase<bool>>,
    /// Smallest current it charges with. Less than 6 A does not exist (IEC 61851-1).
    pub min: Milliamps,
    /// Largest current per phase.
    pub max: Milliamps,
    /// Currents are multiples of this.
    pub step: Milliamps,
    /// What the plugged cable carries, if the wallbox tells.
    pub cable: Option<Milliamps>,
    /// The most that people, cards and outside controllers allow it; 0: it must not charge. `None`: no restriction.
    pub allowed: Option<Milliamps>,
    /// What its charging rules and those of its user come to; `None`: it has none.
    pub rules: Option<Request>,
    /// Whether it answers. What it said before it fell silent must not be repeated here.
    pub reachable: bool,
    /// State of the connector, [`Connector::Unknown`] while unreachable.
    pub connector: Connector,
    /// What it measures itself, on the circuit's phases (where [`Charger::phases`] is unknown, in the order of its own
    /// conductors); `None`: it measures nothing, or nothing fresh.
    pub measured: Option<Sample>,
    /// The last current it accepted from us, 0 is a pause.
    pub accepted: Option<Measured<Milliamps>>,
    /// The limit it says it follows now, 0 if it says that charging is not allowed.
    pub follows: Option<Milliamps>,
    /// What it falls back to by itself when it hears nothing, if that is armed.
    pub failsafe: Option<Milliamps>,
    /// Larger is served first.
    pub priority: i32,
    /// Its claim to be admitted when not all fit: energy is divided by this. 0 counts as 1.
    pub weight: u32,
    /// What it has got lately: who got less is admitted first among equals.
    pub energy_wh: u64,
}

impl Charger {
    /// A reachable wallbox with a waiting car on all phases, which tests and callers then adjust.
    #[must_use]
    pub fn new(id: DeviceId, circuit: CircuitId, max: Milliamps) -> Self {
        Self {
            id,
            circuit,
            phases: Some(PerPhase::all(true)),
            min: Milliamps(6_000),
            max,
            step: Milliamps(1),
            cable: None,
            allowed: None,
            rules: None,
            reachable: true,
            connector: Connector::Connected,
            measured: None,
            accepted: None,
            follows: None,
            failsafe: None,
            priority: 1,
            weight: 1,
            energy_wh: 0,
        }
    }

    /// Whether it uses this phase of its circuit as far as anybody knows.
    #[must_use]
    pub fn uses(&self, phase: Phase) -> bool {
        match self.phases {
            // A map without any phase cannot be right: a wallbox that charges uses at least one.
            Some(phases) if phases.0.contains(&true) => phases[phase],
            _ => true,
        }
    }

    /// What it draws at most on each phase by its own measurement: where the order of its conductors is unknown, the
    /// highest may be on any phase.
    #[must_use]
    pub fn draws(&self) -> PerPhase<Milliamps> {
        let Some(sample) = self.measured else { return PerPhase::default() };
        let drawn = sample.current.map(|current| current.unwrap_or_default().at_least_zero());
        if self.phases.is_some() { drawn } else { PerPhase::all(drawn.highest()) }
    }

    /// What it draws at least on each phase by its own measurement: where the order of its conductors is unknown,
    /// only the lowest is certainly on each.
    #[must_use]
    pub fn surely_draws(&self) -> PerPhase<Milliamps> {
        let Some(sample) = self.measured else { return PerPhase::default() };
        let drawn = sample.current.map(|current| current.unwrap_or_default().at_least_zero());
        if self.phases.is_some() { drawn } else { PerPhase::all(drawn.lowest()) }
    }

    /// Smallest current on the step grid that it charges with.
    #[must_use]
    pub fn least(&self) -> Milliamps {
        let step = self.step.0.max(1);
        let min = self.min.0.clamp(6_000, 1_000_000);
        Milliamps(min.saturating_add(step - 1) / step * step)
    }

    /// `current` rounded down to the step grid; 0 if that is less than the wallbox charges with.
    #[must_use]
    pub fn on_grid(&self, current: Milliamps) -> Milliamps {
        let step = self.step.0.max(1);
        let rounded = Milliamps(current.0.max(0) / step * step);
        if rounded < self.least() { Milliamps::ZERO } else { rounded }
    }

    /// The most it can be told: its own maximum, the cable, what it is allowed and what its rules say, on the grid; 0
    /// if they leave less than the minimum. What it may *draw* is counted without regard to permissions and rules.
    #[must_use]
    pub fn cap(&self) -> Milliamps {
        let cable = self.cable.filter(|cable| cable.0 > 0);
        self.on_grid([cable, self.allowed, self.ruled()].into_iter().flatten().fold(self.max, Milliamps::min))
    }

    /// The most that its rules want.
    #[must_use]
    pub fn ruled(&self) -> Option<Milliamps> {
        self.rules.map(|request| request.max_ma.into())
    }

    /// Why its rules pause it, if they do.
    #[must_use]
    pub fn ruled_out(&self) -> Option<Because> {
        let request = self.rules.filter(|request| self.on_grid(request.max_ma.into()).0 == 0)?;
        Some(request.because)
    }

    /// Whether it must not charge: forbidden, or allowed less than it can charge with.
    #[must_use]
    pub fn forbidden(&self) -> bool {
        self.allowed.is_some_and(|allowed| self.on_grid(allowed).0 == 0)
    }
}
