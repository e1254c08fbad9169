//! The live site as formulas see it: the objects and members of `cfos-interfaces.md` 3.2, described with their units in
//! `docs/formulas.md`. What is missing or stale has no value and is never 0.

mod date;
mod device;
mod facts;
mod flow;
mod look;
mod manager;
mod names;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

use jiff::{Timestamp, Zoned, tz::TimeZone};
use tokio::sync::watch;

use crate::config::Config;
use crate::control::PlanView;
use crate::session::SessionView;
use crate::site::{Board, Clock, VariableValues};

pub(crate) use facts::{connector_state, power_of_phases, power_w};
pub use flow::{Flow, Flows, Silent};
pub use look::{Extra, Look, SiteScope};
pub(crate) use names::{is_of_device, is_of_manager, surplus_name};

/// Tells the local time; `None` while the system's clock is not set.
pub type Wall = Arc<dyn Fn() -> Option<Zoned> + Send + Sync>;

/// Where formulas look; cheap to clone. Lives as long as the site.
#[derive(Clone)]
pub struct World(Arc<Parts>);

type Decided = (watch::Receiver<Arc<PlanView>>, watch::Receiver<Arc<SessionView>>);

struct Parts {
    board: Board,
    config: watch::Receiver<Arc<Config>>,
    clock: Clock,
    wall: Wall,
    /// What is made after the devices, which need a `World` themselves.
    decided: OnceLock<Decided>,
    values: watch::Sender<Arc<VariableValues>>,
}

impl World {
    /// With the time of the system in its time zone.
    #[must_use]
    pub fn new(board: Board, config: watch::Receiver<Arc<Config>>, clock: Clock) -> Self {
        let wall = move || {
            let at = Timestamp::from_millisecond(i64::try_from(clock.unix_ms()?).ok()?).ok()?;
            Some(at.to_zoned(TimeZone::system()))
        };
        Self::with_wall(board, config, clock, Arc::new(wall))
    }

    /// For a device that is read beside the daemon: it sees the configuration and the time, and no other device.
    #[must_use]
    pub fn alone(config: Config, clock: Clock) -> Self {
        let (_, config) = watch::channel(Arc::new(config));
        Self::new(Board::default(), config, clock)
    }

    /// With a time of day of its own.
    #[must_use]
    pub fn with_wall(board: Board, config: watch::Receiver<Arc<Config>>, clock: Clock, wall: Wall) -> Self {
        let values = watch::Sender::default();
        Self(Arc::new(Parts { board, config, clock, wall, decided: OnceLock::new(), values }))
    }

    /// Also shows what the load manager decides and what goes on at the wallboxes. Before, that is missing; a second
    /// call changes nothing.
    pub fn connect(&self, plan: watch::Receiver<Arc<PlanView>>, sessions: watch::Receiver<Arc<SessionView>>) {
        // The first one stays.
        let _ = self.0.decided.set((plan, sessions));
    }

    /// The values of the variables, new after each cycle.
    #[must_use]
    pub fn variables(&self) -> watch::Receiver<Arc<VariableValues>> {
        self.0.values.subscribe()
    }

    /// The newest values of the variables, from whoever computes them.
    pub(crate) fn publish(&self, values: Arc<VariableValues>) {
        self.0.values.send_replace(values);
    }

    /// This moment.
    #[must_use]
    pub fn look(&self) -> Look {
        let (plan, sessions) = match self.0.decided.get() {
            Some((plan, sessions)) => (Arc::clone(&plan.borrow()), Arc::clone(&sessions.borrow())),
            None => Default::default(),
        };
        let parts = look::Parts {
            board: self.0.board.clone(),
            at: self.0.clock.now(),
            config: Arc::clone(&self.0.config.borrow()),
            plan,
            sessions,
            variables: Arc::clone(&self.0.values.borrow()),
            wall: Arc::clone(&self.0.wall),
        };
        Look::new(parts)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}
