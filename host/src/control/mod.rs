//! The loop: snapshot → plan → commands, once per cycle and at once when a meter shows an overload or the
//! configuration changes. Owns the load manager's memory. Waits for no device: each has a sender of its own.

mod ending;
mod inputs;
mod limits;
mod send;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::config::{Config, LoadMode};
use crate::formulas::World;
use crate::load::{self, Plan};
use crate::site::{Board, Clock, Commands, DeviceId, Moment, Requests, Restrictions, Snapshot};

pub use inputs::inputs;
pub(crate) use inputs::signed_currents;

/// The newest decision, for everybody who shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanView {
    /// Whether wallboxes are commanded.
    pub mode: LoadMode,
    /// What each wallbox gets and why, how each circuit stands, what is wrong. Empty before the first cycle.
    pub plan: Plan,
    /// What is wrong with the charging rules that count at a wallbox; who is not in it has none that are wrong.
    pub rule_mistakes: BTreeMap<DeviceId, String>,
}

/// Who says before each plan how much each wallbox wants: the charging rules. Asked in the loop itself, so that what
/// follows from a measurement is in the plan that is made of the same measurement.
pub trait Advice: Send {
    /// `before` is the plan of the last cycle. Takes no time: nothing in it waits.
    fn requests(&mut self, snapshot: &Snapshot, config: &Config, before: &Plan) -> Requests;

    /// What was wrong with the rules when they were asked last.
    fn mistakes(&self) -> BTreeMap<DeviceId, String> {
        BTreeMap::new()
    }
}

/// Nobody wants anything: every wallbox may get all there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAdvice;

impl Advice for NoAdvice {
    fn requests(&mut self, _: &Snapshot, _: &Config, _: &Plan) -> Requests {
        Requests::new()
    }
}

/// The running loop. Dropping it ends control without another command, as a crash would.
#[derive(Debug)]
pub struct ControlHandle {
    plan: watch::Receiver<Arc<PlanView>>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl ControlHandle {
    /// Follows the newest decision.
    #[must_use]
    pub fn plan(&self) -> watch::Receiver<Arc<PlanView>> {
        self.plan.clone()
    }

    /// Ends control: tells each wallbox what `load.disable_policy` says and waits until that has arrived, at most
    /// three seconds.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the loop has ended already; then there is nothing to wait for either.
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("the control loop broke down: {error}");
        }
    }
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts the loop on the present runtime.
#[must_use]
pub fn spawn(
    board: Board,
    commands: Arc<dyn Commands>,
    clock: Clock,
    config: watch::Receiver<Arc<Config>>,
    restrictions: watch::Receiver<Arc<Restrictions>>,
    advice: Box<dyn Advice>,
    world: World,
) -> ControlHandle {
    let (view, plan) = watch::channel(Arc::default());
    let (stop, stopped) = oneshot::channel();
    let senders = send::Senders::new(Arc::clone(&commands));
    let control = Control {
        board,
        commands,
        clock,
        config,
        restrictions,
        advice,
        world,
        view,
        senders,
        state: load::State::default(),
        seen: None,
    };
    ControlHandle { plan, stop: Some(stop), task: tokio::spawn(control.run(stopped)) }
}

struct Control {
    board: Board,
    commands: Arc<dyn Commands>,
    clock: Clock,
    config: watch::Receiver<Arc<Config>>,
    /// What people and cards allow.
    restrictions: watch::Receiver<Arc<Restrictions>>,
    /// What the wallboxes' rules want.
    advice: Box<dyn Advice>,
    /// For limits that are formulas.
    world: World,
    view: watch::Sender<Arc<PlanView>>,
    senders: send::Senders,
    state: load::State,
    /// The newest overload that has been planned for, so that one measurement causes one plan.
    seen: Option<Moment>,
}

impl Control {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut config = Arc::clone(&self.config.borrow_and_update());
        let mut changes = self.board.changes();
        let mut cycle = cycle_of(&config);
        let (mut config_alive, mut restrictions_alive) = (true, true);
        loop {
            tokio::select! {
                // Without a bias a flood of changes could take turns with the stop.
                biased;
                _ = &mut stopped => break,
                changed = self.config.changed(), if config_alive => {
                    config_alive = changed.is_ok();
                    let newer = Arc::clone(&self.config.borrow_and_update());
                    if newer.load.cycle != config.load.cycle {
                        cycle = cycle_of(&newer);
                    }
                    if config.load.mode == LoadMode::Manage && newer.load.mode == LoadMode::Observe {
                        self.let_go(&config).await;
                    }
                    config = newer;
                    self.tick(&config);
                }
                changed = self.restrictions.changed(), if restrictions_alive => {
                    restrictions_alive = changed.is_ok();
                    self.tick(&config);
                }
                _ = cycle.tick() => self.tick(&config),
                Ok(()) = changes.changed() => {
                    if self.new_overload(&config) {
                        self.tick(&config);
                    }
                }
            }
        }
        if config.load.mode == LoadMode::Manage {
            self.let_go(&config).await;
        }
    }

    /// One round. Takes no time: nothing in it waits.
    fn tick(&mut self, config: &Config) {
        let now = self.clock.now();
        let snapshot = self.board.snapshot(now);
        let requests = self.advice.requests(&snapshot, config, &self.view.borrow().plan);
        let mut site = inputs(&snapshot, config, &Arc::clone(&self.restrictions.borrow_and_update()), &requests);
        limits::lower(&mut site, config, &self.world);
        let plan = load::plan(&mut self.state, &site, now);
        self.seen = inputs::newest_overload(&site).or(self.seen);
        self.senders.retain(|id| plan.chargers.contains_key(id));
        for order in &plan.commands {
            self.senders.send(order);
        }
        report(&self.view.borrow().plan, &plan);
        self.view.send_replace(Arc::new(PlanView {
            mode: config.load.mode,
            plan,
            rule_mistakes: self.advice.mistakes(),
        }));
    }

    /// Whether a meter shows an overload that no plan has seen yet.
    fn new_overload(&self, config: &Config) -> bool {
        let now = self.clock.now();
        // Only the circuits matter here, and only their meters are asked: this runs at every change of any device.
        let overload = inputs::newest_overload(&inputs::circuits_only(&self.board, config, now));
        overload.is_some_and(|at| self.seen.is_none_or(|seen| at > seen))
    }

    /// Ends control as the configuration wants it.
    async fn let_go(&mut self, config: &Config) {
        self.senders.stop();
        let now = self.clock.now();
        // Nobody runs the rules any more: what stays is what people allow and `load.disable_policy` says.
        let site = inputs(&self.board.snapshot(now), config, &self.restrictions.borrow(), &Requests::new());
        let orders = ending::orders(config.load.disable_policy, &self.state, &site, now);
        ending::send(&self.commands, orders).await;
    }
}

fn cycle_of(config: &Config) -> tokio::time::Interval {
    // A cycle of zero would be a busy loop; the configuration refuses it, and an interval panics on it.
    let mut cycle = tokio::time::interval(config.load.cycle.max(std::time::Duration::from_millis(10)));
    // After a stall one round is enough: each plans everything anew.
    cycle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    cycle
}

/// Logs what has become wrong or right since the last round.
fn report(before: &Plan, after: &Plan) {
    for alarm in after.alarms.iter().filter(|alarm| !before.alarms.contains(alarm)) {
        tracing::warn!("load manager: {alarm}");
    }
    for alarm in before.alarms.iter().filter(|alarm| !after.alarms.contains(alarm)) {
        tracing::info!("load manager: over: {alarm}");
    }
}

#[cfg(test)]
mod tests;
