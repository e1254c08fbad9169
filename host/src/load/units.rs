//! Numbers of the load manager: integers only. A floating-point value is turned into one of these where readings
//! enter (`control::inputs`), which is also where a non-finite one is refused.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Index, IndexMut, Sub};

/// A current in mA. Signed, because a meter sees export; 64 bits, because sums of 32-bit inputs must not wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Milliamps(pub i64);

impl Milliamps {
    /// No current.
    pub const ZERO: Self = Self(0);

    /// The larger of this and 0.
    #[must_use]
    pub fn at_least_zero(self) -> Self {
        Self(self.0.max(0))
    }
}

impl From<u32> for Milliamps {
    fn from(ma: u32) -> Self {
        Self(i64::from(ma))
    }
}

impl Add for Milliamps {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Milliamps {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for Milliamps {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

/// In ampere with one decimal, as people say it: `16.0 A`.
impl fmt::Display for Milliamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.unsigned_abs().saturating_add(50) / 100;
        let sign = if self.0 < 0 && tenths > 0 { "-" } else { "" };
        write!(f, "{sign}{}.{} A", tenths / 10, tenths % 10)
    }
}

/// A phase of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the phases")]
pub enum Phase {
    L1,
    L2,
    L3,
}

impl Phase {
    /// All three.
    pub const ALL: [Phase; 3] = [Phase::L1, Phase::L2, Phase::L3];

    /// The phase with this number, 0 to 2.
    #[must_use]
    pub fn from_index(index: u8) -> Option<Phase> {
        Self::ALL.get(usize::from(index)).copied()
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One value for each phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PerPhase<T>(pub [T; 3]);

impl<T: Copy> PerPhase<T> {
    /// The same value on all phases.
    #[must_use]
    pub fn all(value: T) -> Self {
        Self([value; 3])
    }

    /// Applies `f` to each phase's value.
    #[must_use]
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> PerPhase<U> {
        PerPhase(self.0.map(f))
    }

    /// Builds one from a function of the phase.
    #[must_use]
    pub fn from_fn(f: impl FnMut(Phase) -> T) -> Self {
        Self(Phase::ALL.map(f))
    }
}

impl PerPhase<Milliamps> {
    /// The highest of the three.
    #[must_use]
    pub fn highest(self) -> Milliamps {
        let [l1, l2, l3] = self.0;
        l1.max(l2).max(l3)
    }

    /// The lowest of the three.
    #[must_use]
    pub fn lowest(self) -> Milliamps {
        let [l1, l2, l3] = self.0;
        l1.min(l2).min(l3)
    }
}

impl<T> Index<Phase> for PerPhase<T> {
    type Output = T;
    fn index(&self, phase: Phase) -> &T {
        let [l1, l2, l3] = &self.0;
        match phase {
            Phase::L1 => l1,
            Phase::L2 => l2,
            Phase::L3 => l3,
        }
    }
}

impl<T> IndexMut<Phase> for PerPhase<T> {
    fn index_mut(&mut self, phase: Phase) -> &mut T {
        let [l1, l2, l3] = &mut self.0;
        match phase {
            Phase::L1 => l1,
            Phase::L2 => l2,
            Phase::L3 => l3,
        }
    }
}
