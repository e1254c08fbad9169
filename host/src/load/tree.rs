//! The circuits as a numbered list of limits: four per circuit, one for each phase and one for their sum, so that
//! filling needs no tree. Finds circuits that do not exist or hang below themselves.

use std::collections::BTreeMap;

use super::{Charger, Circuit, CircuitId, Line, Milliamps, PerPhase, Phase};

/// Limits per circuit in a list of limits: L1, L2, L3, sum.
const LINES: usize = 4;
/// Stands for "no limit on the sum"; far above any real current, far below overflow.
const UNLIMITED: Milliamps = Milliamps(i64::MAX / 1_024);

/// The circuits in the order of their names, each name once.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    pub circuits: Vec<&'a Circuit>,
    index: BTreeMap<&'a CircuitId, usize>,
}

impl<'a> Tree<'a> {
    pub fn new(circuits: &'a [Circuit]) -> Self {
        // Of two circuits with one name neither could be meant; the configuration refuses that, here the first in
        // an order that does not depend on the list's counts.
        let mut sorted: Vec<&Circuit> = circuits.iter().collect();
        sorted.sort_by(|a, b| (&a.id, &a.parent, a.limit.0).cmp(&(&b.id, &b.parent, b.limit.0)));
        sorted.dedup_by(|later, first| later.id == first.id);
        let index = sorted.iter().enumerate().map(|(number, circuit)| (&circuit.id, number)).collect();
        Self { circuits: sorted, index }
    }

    /// Numbers of the circuits from `id` up to its root; `None` if one is missing or the way leads round in a circle.
    pub fn path(&self, id: &CircuitId) -> Option<Vec<usize>> {
        let mut path = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let number = *self.index.get(id)?;
            if path.len() > self.circuits.len() {
                return None;
            }
            path.push(number);
            next = self.circuits.get(number)?.parent.as_ref();
        }
        Some(path)
    }

    /// The number of a circuit.
    pub fn number(&self, id: &CircuitId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// What the limit with this number is called.
    pub fn line(&self, number: usize) -> Option<Line> {
        let circuit = self.circuits.get(number / LINES)?;
        let phase = Phase::ALL.get(number % LINES).copied();
        Some(Line { circuit: circuit.id.clone(), phase })
    }

    /// The limits a wallbox uses with the given way to the root, and how often it counts on each.
    pub fn uses(&self, charger: &Charger, path: &[usize]) -> Vec<(usize, i64)> {
        let phases: Vec<usize> = (0..).zip(Phase::ALL).filter(|(_, p)| charger.uses(*p)).map(|(n, _)| n).collect();
        let mut uses = Vec::with_capacity(path.len() * LINES);
        for &circuit in path {
            uses.extend(phases.iter().map(|phase| (circuit * LINES + phase, 1)));
            if self.circuits.get(circuit).is_some_and(|circuit| circuit.sum_limit.is_some()) {
                uses.push((circuit * LINES + LINES - 1, i64::try_from(phases.len()).unwrap_or(3)));
            }
        }
        uses
    }

    /// The list of limits that belongs to one value per phase and circuit, the sum's last: `limit - load`.
    pub fn slack(&self, limit: &[PerPhase<Milliamps>], load: &[PerPhase<Milliamps>]) -> Vec<i64> {
        let mut slack = Vec::with_capacity(self.circuits.len() * LINES);
        for ((circuit, limit), load) in self.circuits.iter().zip(limit).zip(load) {
            slack.extend(Phase::ALL.map(|phase| (limit[phase] - load[phase]).0));
            let sum: Milliamps = load.0.into_iter().sum();
            slack.push(circuit.sum_limit.map_or(UNLIMITED, |limit| limit - sum).0);
        }
        slack
    }

    /// Takes `more` off the limits of the circuit with this number.
    pub fn lower(&self, slack: &mut [i64], number: usize, more: PerPhase<Milliamps>) {
        let sum: Milliamps = more.0.into_iter().sum();
        let taken = more.0.into_iter().chain([sum]);
        for (left, taken) in slack.iter_mut().skip(number * LINES).take(LINES).zip(taken) {
            *left = left.saturating_sub(taken.0);
        }
    }
}

/// Adds `more` to the circuits on `path`.
pub(super) fn add_along(loads: &mut [PerPhase<Milliamps>], path: &[usize], more: PerPhase<Milliamps>) {
    for &circuit in path {
        if let Some(load) = loads.get_mut(circuit) {
            *load = PerPhase::from_fn(|phase| load[phase] + more[phase]);
        }
    }
}
