//! Where the contract's shapes come from: the live parts of the host, brought together into a [`SiteView`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use crate::config::Config;
use crate::control::PlanView;
use crate::load::CircuitId;
use crate::session::SessionView;
use crate::site::{Board, Clock, DeviceId, Snapshot, VariableValues};

use super::cached::Cache;
use super::{SiteView, machine};

/// The live site; cheap to clone.
#[derive(Clone, Debug)]
pub struct SiteSource {
    /// The devices.
    pub board: Board,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// The load manager's newest decision.
    pub plan: watch::Receiver<Arc<PlanView>>,
    /// What goes on at each wallbox.
    pub sessions: watch::Receiver<Arc<SessionView>>,
    /// The host's clock.
    pub clock: Clock,
    /// Serial number of this installation.
    pub serial: Arc<str>,
    variables: watch::Receiver<Arc<VariableValues>>,
    max_overdraft_ma: Arc<AtomicU32>,
    pub(super) cache: Cache,
    machine: Arc<machine::Watch>,
}

impl SiteSource {
    /// Also starts to follow the plans on the present runtime, to remember the largest overload.
    #[must_use]
    pub fn new(
        board: Board,
        config: watch::Receiver<Arc<Config>>,
        plan: watch::Receiver<Arc<PlanView>>,
        sessions: watch::Receiver<Arc<SessionView>>,
        clock: Clock,
        serial: Arc<str>,
        variables: watch::Receiver<Arc<VariableValues>>,
    ) -> Self {
        let max_overdraft_ma = Arc::default();
        tokio::spawn(remember_overdraft(config.clone(), plan.clone(), Arc::clone(&max_overdraft_ma)));
        let (cache, machine) = (Cache::default(), Arc::default());
        Self { board, config, plan, sessions, clock, serial, variables, max_overdraft_ma, cache, machine }
    }

    /// Everything at this moment.
    #[must_use]
    pub fn view(&self) -> SiteView {
        self.with(self.board.snapshot(self.clock.now()))
    }

    /// Everything at this moment but all devices except one and the meter in front of it: for who asks often.
    #[must_use]
    pub fn view_of(&self, id: &DeviceId) -> SiteView {
        let at = self.clock.now();
        let meter = {
            let config = self.config.borrow();
            config.devices.iter().find(|device| device.id == *id).and_then(|device| device.meter.clone())
        };
        let wanted = std::iter::once(id.clone()).chain(meter);
        let devices = wanted.filter_map(|id| self.board.device(&id).map(|status| (id, status))).collect();
        self.with(Snapshot { at, devices })
    }

    /// Everything at this moment but the devices.
    pub(super) fn empty_view(&self) -> SiteView {
        self.with(Snapshot { at: self.clock.now(), ..Snapshot::default() })
    }

    fn with(&self, snapshot: Snapshot) -> SiteView {
        SiteView {
            config: Arc::clone(&self.config.borrow()),
            snapshot,
            plan: Arc::clone(&self.plan.borrow()),
            sessions: Arc::clone(&self.sessions.borrow()),
            variables: self.variables(),
            serial: Arc::clone(&self.serial),
            unix_s: self.clock.unix_ms().map_or(0, |ms| ms / 1000),
            max_overdraft_ma: self.max_overdraft_ma.load(Ordering::Relaxed),
            machine: self.machine.look(self.clock.now()),
        }
    }

    /// The variables as of the newest cycle.
    #[must_use]
    pub fn variables(&self) -> Arc<VariableValues> {
        Arc::clone(&self.variables.borrow())
    }

    /// Forgets the largest overload seen; an overload that lasts is seen again in the next cycle.
    pub fn reset_overdraft(&self) {
        self.max_overdraft_ma.store(0, Ordering::Relaxed);
    }
}

/// Ends with the control loop.
async fn remember_overdraft(
    config: watch::Receiver<Arc<Config>>,
    mut plan: watch::Receiver<Arc<PlanView>>,
    max_overdraft_ma: Arc<AtomicU32>,
) {
    while plan.changed().await.is_ok() {
        let now = overdraft_ma(&config.borrow(), &plan.borrow_and_update());
        max_overdraft_ma.fetch_max(now, Ordering::Relaxed);
    }
}

/// How far the house connection is over its limit, in mA; 0 while nobody knows.
pub(super) fn overdraft_ma(config: &Config, view: &PlanView) -> u32 {
    let Some(root) = config.circuits.first() else { return 0 };
    let circuit = view.plan.circuits.get(&CircuitId::from(root.id.as_str()));
    let measured = circuit.map(|circuit| circuit.measured.0).unwrap_or_default();
    let over = measured.into_iter().zip(root.limit_ma).filter_map(|(ma, limit)| Some(ma?.0 - i64::from(limit)));
    over.max().and_then(|over| u32::try_from(over).ok()).unwrap_or(0)
}
