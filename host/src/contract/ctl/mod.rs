//! Direct control of wallboxes over MQTT in mode *observe* (contract A6, rules B5, B6, B9 to B11): messages become
//! commands, and when the controller falls silent `load.disable_policy` applies. Knows no broker: messages come in
//! through a channel.

pub mod message;
mod wallboxes;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::mqtt::complaints::Complaints;
use super::mqtt::repeats::{Fingerprint, Repeats};
use crate::config::{Config, DeviceConfig, DisablePolicy, LoadMode};
use crate::site::{Command, Commands, DeviceId};
use crate::transport::Message;
use wallboxes::Wallboxes;

/// Messages on their way from the broker's inbox; that one is the queue.
const ON_THE_WAY: usize = 8;

/// The running control. Dropping it ends it without another command, as a crash would.
#[derive(Debug)]
pub struct Ctl {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Ctl {
    /// Ends control as `load.disable_policy` says, within three seconds. Nothing is taken afterwards.
    pub async fn end(&mut self) {
        if self.stop.send_replace(true) {
            return;
        }
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("control over ctl broke down: {error}");
        }
    }
}

impl Drop for Ctl {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts on the present runtime. Messages of `ctl` go into the sender.
#[must_use]
pub fn spawn(commands: Arc<dyn Commands>, config: watch::Receiver<Arc<Config>>) -> (Ctl, mpsc::Sender<Message>) {
    let (stop, stopped) = watch::channel(false);
    let (sender, messages) = mpsc::channel(ON_THE_WAY);
    let running = Running {
        config,
        messages,
        wallboxes: Wallboxes::new(commands),
        repeats: Repeats::default(),
        controlled: BTreeMap::new(),
        silent_at: None,
        complaints: Complaints::default(),
    };
    (Ctl { stop, task: tokio::spawn(running.run(stopped)) }, sender)
}

/// Whether the configuration has `ctl` at all, in whatever mode.
#[must_use]
pub fn is_configured(config: &Config) -> bool {
    config.mqtt.control
}

fn is_active(config: &Config) -> bool {
    is_configured(config) && config.load.mode == LoadMode::Observe
}

struct Running {
    config: watch::Receiver<Arc<Config>>,
    messages: mpsc::Receiver<Message>,
    wallboxes: Wallboxes,
    repeats: Repeats<()>,
    controlled: BTreeMap<DeviceId, Controlled>,
    /// When the controller will have been silent for too long.
    silent_at: Option<Instant>,
    complaints: Complaints,
}

/// A wallbox that the controller has commanded.
#[derive(Clone, Copy, Default)]
struct Controlled {
    /// The last current that was sent.
    told: Option<u32>,
    /// A current that waits until charging is allowed.
    held_back: Option<u32>,
}

impl Running {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut config = Arc::clone(&self.config.borrow_and_update());
        loop {
            let silent_at = self.silent_at;
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                changed = self.config.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let newer = Arc::clone(&self.config.borrow_and_update());
                    self.follow(&config, &newer);
                    config = newer;
                }
                () = at(silent_at), if silent_at.is_some() => self.silence(&config),
                Some(message) = self.messages.recv() => self.take(&message, &config),
            }
        }
        if !self.controlled.is_empty() {
            let orders: Vec<(DeviceId, u32)> = self.under_policy(&config).collect();
            tracing::info!("ctl ends with the host: load.disable_policy applies to {}", names(&orders));
            self.wallboxes.finish(orders).await;
        }
    }

    fn take(&mut self, message: &Message, config: &Config) {
        let topic = &message.topic;
        if message.retained {
            self.complaints.say("retained", |more| {
                tracing::warn!("{topic}: a retained message is ignored, it would control again at each connect{more}");
            });
            return;
        }
        if config.load.mode == LoadMode::Manage {
            self.complaints.say("manage", |more| {
                tracing::warn!("{topic}: ignored, because load.mode is \"manage\"; expected \"observe\"{more}");
            });
            return;
        }
        let fingerprint = Fingerprint::of(topic, &message.payload);
        if self.repeats.find(fingerprint, message.at, config.mqtt.duplicate_window).is_some() {
            tracing::debug!("{topic}: the same message again, ignored");
            return;
        }
        match message::parse(&message.payload, &config.devices) {
            Ok(wishes) => {
                self.repeats.remember(fingerprint, message.at, ());
                self.apply(&wishes, config);
            }
            Err(error) => self.complaints.say("bad", |more| {
                tracing::warn!("{topic}: nothing changed: {error}{more}");
            }),
        }
    }

    fn apply(&mut self, wishes: &message::Wishes, config: &Config) {
        for note in &wishes.notes {
            let message::Note { device, text } = note;
            self.complaints
                .say(&format!("{device} {text}"), |more| tracing::warn!(device = %device, "ctl: {text}{more}"));
        }
        for (id, wish) in &wishes.each {
            let mut commands = wish.commands();
            if commands.is_empty() && wish.held_back().is_none() {
                continue;
            }
            let controlled = self.controlled.entry(id.clone()).or_default();
            controlled.held_back = wish.held_back().or(controlled.held_back.filter(|_| wish.current.is_none()));
            if wish.enable == Some(true)
                && let Some(ma) = controlled.held_back.take()
            {
                commands.insert(0, Command::Current(ma));
            }
            for command in &commands {
                if let Command::Current(ma) = command {
                    controlled.told = Some(*ma);
                }
            }
            tracing::debug!(device = %id, "ctl: {commands:?}");
            self.wallboxes.send(id, commands);
        }
        self.silent_at = config.mqtt.ctl_timeout.map(|timeout| Instant::now() + timeout);
    }

    /// The controller has been silent for too long. Applied once; its next message takes control again.
    fn silence(&mut self, config: &Config) {
        let seconds = config.mqtt.ctl_timeout.unwrap_or_default().as_secs();
        let orders: Vec<(DeviceId, u32)> = self.under_policy(config).collect();
        if !orders.is_empty() {
            tracing::warn!("ctl: nothing came for {seconds} s: load.disable_policy applies to {}", names(&orders));
        }
        self.let_go(orders);
    }

    /// Follows a changed configuration.
    fn follow(&mut self, old: &Config, new: &Config) {
        self.controlled.retain(|id, _| wallbox(new, id).is_some());
        if is_active(old) && !is_active(new) {
            let all = self.under_policy(new);
            // The load manager takes over at this moment and may have spoken already: nothing is raised any more.
            let lower = |(id, ma): &(DeviceId, u32)| {
                new.load.mode == LoadMode::Observe
                    || self.controlled.get(id).and_then(|controlled| controlled.told).is_some_and(|told| *ma < told)
            };
            let orders: Vec<(DeviceId, u32)> = all.filter(lower).collect();
            if !self.controlled.is_empty() {
                tracing::info!("ctl ends: load.disable_policy applies to {}", names(&orders));
            }
            self.let_go(orders);
        } else if old.mqtt.ctl_timeout != new.mqtt.ctl_timeout && self.silent_at.is_some() {
            self.silent_at = new.mqtt.ctl_timeout.map(|timeout| Instant::now() + timeout);
        }
    }

    /// What hangs is given up, so that the last word does not wait behind it.
    fn let_go(&mut self, orders: Vec<(DeviceId, u32)>) {
        self.wallboxes.stop();
        for (id, ma) in orders {
            self.wallboxes.send(&id, [Command::Current(ma)]);
        }
        self.controlled.clear();
        self.silent_at = None;
    }

    /// What the policy says for each wallbox that was commanded.
    fn under_policy<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = (DeviceId, u32)> + 'a {
        self.controlled.keys().filter_map(|id| {
            let device = wallbox(config, id)?;
            let ma = match config.load.disable_policy {
                DisablePolicy::Stop => 0,
                DisablePolicy::Minimum => device.min_ma,
                DisablePolicy::Unlimited => device.max_ma,
            };
            Some((id.clone(), ma))
        })
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn wallbox<'a>(config: &'a Config, id: &DeviceId) -> Option<&'a DeviceConfig> {
    config.devices.iter().find(|device| device.id == *id && device.enabled)
}

/// `E1 (6000 mA), E2 (0 mA)`
fn names(orders: &[(DeviceId, u32)]) -> String {
    match orders {
        [] => "no wallbox".to_owned(),
        orders => orders.iter().map(|(id, ma)| format!("{id} ({ma} mA)")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests;
