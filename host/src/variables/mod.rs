//! Charging Manager variables and user variables: computed at the end of each cycle, each behind those it needs, and
//! shown as [`crate::site::VariableValues`].

mod engine;
#[cfg(test)]
mod tests;
mod trigger;

use std::sync::{Arc, Mutex, PoisonError};

use ladekern_definition::formula::Name;
use tokio::sync::watch;

use crate::control::PlanView;
use crate::formulas::World;
use crate::site::VariableValues;

pub use engine::Engine;

/// A control cycle has ended: its plan is made and its variables are known. Only [`Variables::follow`] says so, so that
/// whoever waits for one cannot see the variables of the cycle before.
#[derive(Clone, Copy, Debug)]
pub struct CycleEnd(());

/// The variables; cheap to clone.
#[derive(Clone, Debug)]
pub struct Variables {
    world: World,
    engine: Arc<Mutex<Engine>>,
}

impl Variables {
    /// Computes all of them once.
    #[must_use]
    pub fn new(world: World) -> Self {
        let variables = Self { world, engine: Arc::default() };
        variables.recompute();
        variables
    }

    /// Computes them on the present runtime again after each plan, which ends a cycle; what is returned changes when
    /// that is done, and at nothing else. Ends with the control loop.
    pub fn follow(&self, mut plan: watch::Receiver<Arc<PlanView>>) -> watch::Receiver<CycleEnd> {
        let own = self.clone();
        let (ends, cycles) = watch::channel(CycleEnd(()));
        tokio::spawn(async move {
            while plan.changed().await.is_ok() {
                plan.mark_unchanged();
                own.recompute();
                ends.send_replace(CycleEnd(()));
            }
        });
        cycles
    }

    /// Computes all of them now: for whoever has changed the configuration and wants to see what came of it.
    pub fn recompute(&self) {
        self.with(|engine| {
            let mut look = self.world.look();
            engine.cycle(&mut look);
            self.world.publish(Arc::clone(look.variables()));
        });
    }

    /// Gives variables values in the place of what the configuration says, until that changes: what charging rules set.
    /// Everybody sees them at once; what is computed of them follows at the end of the cycle.
    pub fn assign(&self, values: Vec<(Name, f64)>) {
        if values.is_empty() {
            return;
        }
        self.with(|engine| {
            let mut seen = VariableValues::clone(&self.world.variables().borrow());
            values.iter().for_each(|(name, value)| seen.set(name, Some(*value)));
            engine.assign(values);
            self.world.publish(Arc::new(seen));
        });
    }

    fn with(&self, work: impl FnOnce(&mut Engine)) {
        // A panic elsewhere leaves at most an older value.
        work(&mut self.engine.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
