//! One sender per wallbox: at most one command under way, the newest waiting. A wallbox that hangs holds up its own
//! commands and nobody else's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::load::Order;
use crate::site::{Command, CommandError, Commands, DeviceId};

/// After so long a command counts as lost and the newest one is tried. Longer than any device's own time-out, so that
/// only a stuck driver is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Senders {
    commands: Arc<dyn Commands>,
    each: BTreeMap<DeviceId, Sender>,
}

struct Sender {
    newest: watch::Sender<Option<u32>>,
    task: JoinHandle<()>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Senders {
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands, each: BTreeMap::new() }
    }

    /// Hands a command to its wallbox's sender and returns at once.
    pub fn send(&mut self, order: &Order) {
        let ma = u32::try_from(order.current.0).unwrap_or(0);
        let id = &order.device;
        let sender = self.each.entry(id.clone()).or_insert_with(|| start(Arc::clone(&self.commands), id.clone()));
        sender.newest.send_replace(Some(ma));
    }

    /// Stops the senders of wallboxes that are gone.
    pub fn retain(&mut self, keep: impl Fn(&DeviceId) -> bool) {
        self.each.retain(|id, _| keep(id));
    }

    /// Stops all; a command under way is dropped.
    pub fn stop(&mut self) {
        self.each.clear();
    }
}

fn start(commands: Arc<dyn Commands>, id: DeviceId) -> Sender {
    let (newest, mut wanted) = watch::channel(None);
    let task = tokio::spawn(async move {
        let mut failing = false;
        while wanted.changed().await.is_ok() {
            let Some(ma) = *wanted.borrow_and_update() else { continue };
            let answer = deliver(commands.as_ref(), &id, ma, PATIENCE).await;
            // The same failure every few seconds is one message.
            match answer {
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(device = %id, "cannot set {ma} mA: {error}");
                }
                Err(error) => tracing::debug!(device = %id, "cannot set {ma} mA: {error}"),
                Ok(()) => failing = false,
            }
        }
    });
    Sender { newest, task }
}

/// Sends one current and waits for the answer, not longer than `patience`. A refusal for being too early is no
/// failure: the next plan repeats what still stands.
pub(super) async fn deliver(
    commands: &dyn Commands,
    id: &DeviceId,
    ma: u32,
    patience: Duration,
) -> Result<(), CommandError> {
    let answer = tokio::time::timeout(patience, commands.command(id, Command::Current(ma))).await;
    match answer {
        Err(_) => Err(CommandError::Offline(format!("no answer within {} s", patience.as_secs()))),
        Ok(Err(CommandError::NotYet(_))) => Ok(()),
        Ok(answer) => answer,
    }
}
