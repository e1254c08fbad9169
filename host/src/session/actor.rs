//! The one task that owns all sessions: follows the board, the configuration and the callers, shows what came out and
//! has it written. Waits for no disk and no device.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::core::Core;
use super::journal::Journal;
use super::{Now, OutsideWish, OverrideChange, SessionError, SessionParts, SessionView};
use crate::config::{BrokerRef, Config};
use crate::site::{Command, DeviceId, Restrictions};

/// Counters and waiting cards are looked at this often, whatever the devices say.
const TICK: Duration = Duration::from_secs(1);
/// Changes of the board that come closer together than this are one look: a flood of readings costs twenty looks a
/// second. Nobody plugs in and out faster.
const BREATH: Duration = Duration::from_millis(50);
/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a caller wants.
pub enum Request {
    Enter { card: String, device: Option<DeviceId>, done: oneshot::Sender<Result<DeviceId, SessionError>> },
    Change { device: DeviceId, change: OverrideChange, done: oneshot::Sender<Result<(), SessionError>> },
    SoftMeter { device: DeviceId, set: Option<f64>, done: oneshot::Sender<Result<f64, SessionError>> },
    Outside { device: DeviceId, wish: Option<OutsideWish>, done: oneshot::Sender<()> },
    Stop { done: oneshot::Sender<()> },
}

/// The task.
pub struct Actor {
    pub core: Core,
    pub parts: SessionParts,
    pub requests: mpsc::Receiver<Request>,
    pub view: watch::Sender<Arc<SessionView>>,
    pub restrictions: watch::Sender<Arc<Restrictions>>,
}

impl Actor {
    pub async fn run(mut self) {
        let mut journal = Journal::new(self.parts.transactions.clone());
        let mut changes = self.parts.board.changes();
        let mut config = self.parts.config.clone();
        let mut config_alive = true;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut dirty, mut looked) = (true, Instant::now());
        loop {
            journal.start(self.queues());
            tokio::select! {
                // Without a bias a flood of changes could take turns with the callers.
                biased;
                request = self.requests.recv() => {
                    let Some(request) = request else { return };
                    // Who calls knows what the devices have said before.
                    self.look();
                    (dirty, looked) = (false, Instant::now());
                    if let Some(done) = self.serve(request) {
                        self.finish(&mut journal).await;
                        let _ = done.send(());
                        return;
                    }
                }
                () = journal.progress() => {}
                changed = config.changed(), if config_alive => {
                    config_alive = changed.is_ok();
                    config.borrow_and_update();
                    dirty = true;
                }
                () = tokio::time::sleep_until(looked + BREATH), if dirty => {
                    self.look();
                    (dirty, looked) = (false, Instant::now());
                }
                Ok(()) = changes.changed(), if !dirty => dirty = true,
                _ = tick.tick() => dirty = true,
            }
            journal.push(self.core.take_changes());
        }
    }

    fn now(&self) -> Now {
        Now { at: self.parts.clock.now(), unix_s: self.parts.clock.unix_ms().map(|ms| ms / 1_000) }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.parts.config.borrow())
    }

    /// Whether events are for a broker.
    fn queues(&self) -> bool {
        self.parts.config.borrow().mqtt.ta_log != BrokerRef::Off
    }

    fn look(&mut self) {
        let (config, now) = (self.config(), self.now());
        self.core.look(&config, &self.parts.board, now);
        self.show(&config);
    }

    /// Tells everybody who follows, if something has changed, and sends wishes for phases on their way.
    fn show(&mut self, config: &Config) {
        let view = self.core.view(config);
        self.view.send_if_modified(|shown| replace(shown, view));
        let restrictions = self.core.restrictions(config);
        self.restrictions.send_if_modified(|shown| replace(shown, restrictions));
        for (device, phases) in self.core.take_phases() {
            let commands = Arc::clone(&self.parts.commands);
            tokio::spawn(async move {
                if let Err(error) = commands.command(&device, Command::Phases(phases)).await {
                    tracing::warn!(device = %device, "a card asks for {phases} phases: {error}");
                }
            });
        }
    }

    /// The answer to [`Request::Stop`] is left to the caller.
    fn serve(&mut self, request: Request) -> Option<oneshot::Sender<()>> {
        let (config, now) = (self.config(), self.now());
        // Everything is shown before the caller hears that it is done. Who has gone away needs no answer.
        match request {
            Request::Enter { card, device, done } => {
                let answer = self.core.enter(&config, &card, device.as_ref(), now);
                self.show(&config);
                let _ = done.send(answer);
            }
            Request::Change { device, change, done } => {
                let answer = self.core.change(&config, &device, change, now);
                self.show(&config);
                let _ = done.send(answer);
            }
            Request::SoftMeter { device, set, done } => {
                let answer = self.core.soft_meter(&config, &device, set, now);
                self.show(&config);
                let _ = done.send(answer);
            }
            Request::Outside { device, wish, done } => {
                self.core.outside(&device, wish);
                self.show(&config);
                let _ = done.send(());
            }
            Request::Stop { done } => return Some(done),
        }
        None
    }

    async fn finish(&mut self, journal: &mut Journal) {
        let now = self.now();
        self.core.finish(now);
        journal.push(self.core.take_changes());
        let queue = self.queues();
        if tokio::time::timeout(FAREWELL, journal.flush(queue)).await.is_err() {
            tracing::error!("the last energy of running transactions could not be written in time");
        }
    }
}

/// Whether it is another one.
fn replace<T: PartialEq>(shown: &mut Arc<T>, new: T) -> bool {
    let other = **shown != new;
    if other {
        *shown = Arc::new(new);
    }
    other
}
