//! What the load manager decides in each tick, and why.

use std::collections::BTreeMap;
use std::fmt;

use super::{CircuitId, Milliamps, PerPhase, Phase};
use crate::site::{Because, DeviceId, Moment};

/// The decisions of one tick.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// When it was made.
    pub at: Moment,
    /// Each wallbox.
    pub chargers: BTreeMap<DeviceId, ChargerPlan>,
    /// Each circuit.
    pub circuits: BTreeMap<CircuitId, CircuitPlan>,
    /// What is to be sent now, reductions first.
    pub commands: Vec<Order>,
    /// What a person should look at.
    pub alarms: Vec<Alarm>,
}

/// A current to be sent to a wallbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// To whom.
    pub device: DeviceId,
    /// Current per phase, 0 pauses.
    pub current: Milliamps,
    /// Whether it frees current, repeats, or takes more.
    pub kind: OrderKind,
}

/// In the order in which they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderKind {
    /// Less than before.
    Reduce,
    /// The same again, so that the wallbox knows that somebody is there.
    Refresh,
    /// More than before.
    Raise,
}

/// What a wallbox gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargerPlan {
    /// What it would like to have.
    pub requested: Milliamps,
    /// Its share of what the circuits carry now; it is led there by [`ChargerPlan::granted`].
    pub share: Milliamps,
    /// What it is told; 0 is a pause, anything else lies between its minimum and maximum. For an unreachable one
    /// what it was told last.
    pub granted: Milliamps,
    /// What it may still draw at most as far as anybody can know: the basis for giving current to others.
    pub counted: PerPhase<Milliamps>,
    /// What it measures, `None` if nothing fresh.
    pub measured: Option<PerPhase<Option<Milliamps>>>,
    /// Why it gets no more.
    pub reason: Reason,
    /// Since when current and reason are so.
    pub since: Moment,
}

/// A limit that can be reached: one phase of a circuit or all together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// The circuit.
    pub circuit: CircuitId,
    /// The phase; `None` is the sum of all.
    pub phase: Option<Phase>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phase {
            Some(phase) => write!(f, "{} {phase}", self.circuit),
            None => write!(f, "{} (all phases)", self.circuit),
        }
    }
}

/// Why a wallbox gets no more than it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No vehicle is plugged in.
    NoVehicle,
    /// The wallbox reports a fault or no pilot.
    NotAvailable,
    /// It gets its own maximum.
    OwnMaximum,
    /// It gets what the cable carries.
    Cable,
    /// It must not charge: a card is missing, or somebody has switched it off, or allows less than its minimum.
    Forbidden,
    /// Somebody allows it no more.
    Restricted,
    /// Its charging rules pause it or want no more.
    Rules(Because),
    /// The car draws less than it may; it gets what it draws and a margin.
    TakesLess,
    /// The share of this limit is used up.
    Limit(Line),
    /// What is left of this limit is less than the wallbox's minimum.
    NotAdmitted(Line),
    /// The circuit's meter is silent, so its load is assumed to be high.
    MeterStale(CircuitId),
    /// A measured current is above its limit.
    Emergency(Line),
    /// It waits until others have really gone down or until the load has been low for a while.
    WaitsForRelease(Line),
    /// It goes up step by step.
    Ramp,
    /// An input has just been lost; nobody is raised in that tick.
    InputLost,
    /// It does not answer and counts with the most it may draw.
    Unreachable,
    /// The car draws more than it was told.
    NotFollowing,
    /// The wallbox does not accept commands.
    NotAccepting,
    /// The mode is "observe": nobody is commanded.
    Observe,
    /// Its circuit does not exist or hangs below itself.
    NoCircuit,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoVehicle => write!(f, "no vehicle"),
            Reason::NotAvailable => write!(f, "the wallbox reports a fault"),
            Reason::OwnMaximum => write!(f, "maximum of the wallbox"),
            Reason::Cable => write!(f, "maximum of the cable"),
            Reason::Forbidden => write!(f, "not allowed to charge"),
            Reason::Restricted => write!(f, "allowed no more"),
            Reason::Rules(because) => because.fmt(f),
            Reason::TakesLess => write!(f, "the car takes less"),
            Reason::Limit(line) => write!(f, "limit of {line}"),
            Reason::NotAdmitted(line) => write!(f, "waits: too little left on {line}"),
            Reason::MeterStale(circuit) => write!(f, "the meter of {circuit} is silent"),
            Reason::Emergency(line) => write!(f, "overload on {line}"),
            Reason::WaitsForRelease(line) => write!(f, "waits for others to go down on {line}"),
            Reason::Ramp => write!(f, "going up step by step"),
            Reason::InputLost => write!(f, "a meter or wallbox has just fallen silent"),
            Reason::Unreachable => write!(f, "the wallbox does not answer"),
            Reason::NotFollowing => write!(f, "the car draws more than it was told"),
            Reason::NotAccepting => write!(f, "the wallbox does not accept commands"),
            Reason::Observe => write!(f, "observing only"),
            Reason::NoCircuit => write!(f, "its circuit does not exist"),
        }
    }
}

/// How a circuit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitPlan {
    /// What each phase may carry now.
    pub limit: PerPhase<Milliamps>,
    /// What its meter shows, if that is fresh.
    pub measured: PerPhase<Option<Milliamps>>,
    /// The load that is no wallbox, for sharing among those who charge.
    pub base: PerPhase<Milliamps>,
    /// The highest such load of the last while, for raising.
    pub base_high: PerPhase<Milliamps>,
    /// Current that is not ours to give: silent wallboxes, reductions nobody has confirmed, cars that take more.
    pub ledger: PerPhase<Milliamps>,
    /// What the wallboxes under it are told, together.
    pub granted: PerPhase<Milliamps>,
    /// The meter is silent.
    pub stale: bool,
    /// Phases whose measured current is above the limit now.
    pub over: PerPhase<bool>,
}

/// Something a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// More flows than the limit allows, and pausing every wallbox does not help.
    Overload(Line),
    /// The meter of this circuit is silent.
    MeterStale(CircuitId),
    /// An overload lasted so long that a breaker may trip; the limit is lowered for a while.
    NearTrip(Line),
    /// This wallbox does not answer.
    Unreachable(DeviceId),
    /// This car draws more than it was told.
    NotFollowing(DeviceId),
    /// This wallbox does not accept commands.
    NotAccepting(DeviceId),
    /// This wallbox's circuit does not exist or hangs below itself.
    NoCircuit(DeviceId),
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Alarm::Overload(line) => write!(f, "overload on {line}, and no wallbox is left to pause"),
            Alarm::MeterStale(circuit) => write!(f, "the meter of circuit {circuit} is silent"),
            Alarm::NearTrip(line) => write!(f, "long overload on {line}: its limit is lowered for some minutes"),
            Alarm::Unreachable(id) => write!(f, "{id} does not answer and counts with the most it may draw"),
            Alarm::NotFollowing(id) => write!(f, "{id} draws more than it was told"),
            Alarm::NotAccepting(id) => write!(f, "{id} does not accept commands"),
            Alarm::NoCircuit(id) => write!(f, "{id} hangs on a circuit that does not exist or hangs below itself"),
        }
    }
}
