//! One sender per wallbox: commands of a wallbox keep their order, and one that hangs holds up nobody else. What
//! waits is bounded: of each kind of command the newest.

use std::collections::{BTreeMap, VecDeque};
use std::mem::discriminant;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use crate::site::{Command, CommandError, Commands, DeviceId};

/// After so long a command counts as lost. Longer than any device's own time-out.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the end of the host may take, as in `control`.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Wallboxes {
    commands: Arc<dyn Commands>,
    each: BTreeMap<DeviceId, Sender>,
}

struct Sender {
    waiting: Arc<Waiting>,
    task: JoinHandle<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Waiting {
    commands: Mutex<VecDeque<Command>>,
    arrived: Notify,
}

impl Wallboxes {
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands, each: BTreeMap::new() }
    }

    /// Hands commands to their wallbox's sender and returns at once.
    pub fn send(&mut self, id: &DeviceId, commands: impl IntoIterator<Item = Command>) {
        let sender = self.each.entry(id.clone()).or_insert_with(|| start(Arc::clone(&self.commands), id.clone()));
        let mut waiting = sender.waiting.lock();
        for command in commands {
            waiting.retain(|older| discriminant(older) != discriminant(&command));
            waiting.push_back(command);
        }
        drop(waiting);
        sender.waiting.arrived.notify_one();
    }

    /// Drops what waits or is under way, of all wallboxes.
    pub fn stop(&mut self) {
        self.each.clear();
    }

    /// The last commands before the host ends: all at once, and waits for the answers.
    pub async fn finish(&mut self, orders: Vec<(DeviceId, u32)>) {
        self.stop();
        let mut sending = JoinSet::new();
        for (id, ma) in orders {
            let commands = Arc::clone(&self.commands);
            sending.spawn(async move {
                if let Err(error) = deliver(commands.as_ref(), &id, Command::Current(ma), LAST_PATIENCE).await {
                    tracing::warn!(device = %id, "ctl ends, and {ma} mA did not arrive: {error}");
                }
            });
        }
        while sending.join_next().await.is_some() {}
    }
}

impl Waiting {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Command>> {
        // Every change of the queue is complete before anything could panic.
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Command {
        loop {
            let arrived = self.arrived.notified();
            if let Some(command) = self.lock().pop_front() {
                return command;
            }
            arrived.await;
        }
    }

    /// Waits before a raise is tried again; `false`: another command of its kind has come, which says more.
    async fn still_wanted(&self, command: Command, wait: Duration) -> bool {
        let newer = async {
            loop {
                let arrived = self.arrived.notified();
                if self.lock().iter().any(|other| discriminant(other) == discriminant(&command)) {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(wait, newer).await.is_err()
    }
}

fn start(commands: Arc<dyn Commands>, id: DeviceId) -> Sender {
    let waiting = Arc::new(Waiting::default());
    let task = tokio::spawn(serve(commands, id, Arc::clone(&waiting)));
    Sender { waiting, task }
}

async fn serve(commands: Arc<dyn Commands>, id: DeviceId, waiting: Arc<Waiting>) {
    let mut failed: Vec<(Command, CommandError)> = Vec::new();
    loop {
        let command = waiting.next().await;
        let mut answer = deliver(commands.as_ref(), &id, command, PATIENCE).await;
        while let Err(CommandError::NotYet(wait)) = answer {
            if !waiting.still_wanted(command, wait).await {
                answer = Ok(());
                break;
            }
            answer = deliver(commands.as_ref(), &id, command, PATIENCE).await;
        }
        let before = failed.iter().position(|(other, _)| discriminant(other) == discriminant(&command));
        let before = before.map(|at| failed.swap_remove(at).1);
        if let Err(error) = answer {
            // A controller repeats itself, and so would its failures.
            if before.as_ref() == Some(&error) {
                tracing::debug!(device = %id, "ctl: {} not done: {error}", describe(command));
            } else {
                tracing::warn!(device = %id, "ctl: {} not done: {error}", describe(command));
            }
            failed.push((command, error));
        }
    }
}

async fn deliver(
    commands: &dyn Commands,
    id: &DeviceId,
    command: Command,
    patience: Duration,
) -> Result<(), CommandError> {
    let late = || CommandError::Offline(format!("no answer within {} s", patience.as_secs()));
    tokio::time::timeout(patience, commands.command(id, command)).await.unwrap_or_else(|_| Err(late()))
}

/// As the message of `ctl` says it.
fn describe(command: Command) -> String {
    match command {
        Command::Current(ma) => format!("cur {ma}"),
        Command::Enable(on) => format!("ena {on}"),
        Command::Phases(phases) => format!("phs {phases}"),
        Command::WakeUp => "wke".to_owned(),
    }
}
