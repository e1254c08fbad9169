//! What a device task does when its plugin or its binding changes while it runs.

use super::{Rebinding, Task};
use crate::device::arrivals::Arrivals;
use crate::device::guest::{Plugged, Wired};
use crate::device::kept::Kept;
use crate::device::live::{Failure, Live};
use crate::device::swap::{self, Newer, Refused, Swapped};
use crate::site::Health;
use crate::transport::Message;

impl Task {
    pub(super) async fn swap(&mut self, plugin: Plugged) {
        self.refused = Newer::default();
        let Some(old) = &mut self.live else { return self.start_with(plugin) };
        if old.artefact.fingerprint() == plugin.fingerprint() {
            // The file that runs was put back in the place of a bad one.
            self.edit(|status| status.update_failed = None);
            return;
        }
        let (described, noun) = (plugin.traits().described, noun(&plugin));
        let messages = self.kept.trial(described && old.artefact.traits().described);
        match swap::swap(old, &plugin, &self.device, &messages, self.clock).await {
            Ok(swapped) => self.complete_swap(plugin, swapped).await,
            Err(Refused { offline: true, .. }) if matches!(self.health, Health::Offline(_)) => {
                // Neither version gets an answer: nothing speaks against the new one, and it is started like any.
                self.live = None;
                self.start_with(plugin);
            }
            Err(Refused { reason, old_died, .. }) => {
                tracing::warn!(device = %self.device.id, %reason, "the new {noun} was not taken into use");
                self.edit(|status| status.update_failed = Some(reason));
                self.refused.plugin = Some(plugin);
                if let Some(died) = old_died {
                    self.failed(Failure::Fault(died));
                }
            }
        }
    }

    /// Nothing runs that could be handed over.
    pub(super) fn start_with(&mut self, plugin: Plugged) {
        self.plugin = Some(plugin);
        self.trial = None;
        self.inherited = None;
        self.supervisor.reset();
        self.health = Health::Starting;
        self.next = self.clock.now();
        self.edit(|status| status.update_failed = None);
    }

    /// A plugin that runs goes on; one that never ran at least says why.
    pub(super) fn spoiled(&mut self, reason: String) {
        self.refused = Newer::default();
        if self.plugin.is_none() {
            self.supervisor.missing(reason);
        } else {
            self.edit(|status| status.update_failed = Some(reason));
        }
    }

    async fn complete_swap(&mut self, plugin: Plugged, swapped: Swapped) {
        let Swapped { live, canary, trial } = swapped;
        let missed = self.live.as_ref().map(|old| drain_missed(old, &live)).unwrap_or_default();
        let (from, noun) = (self.driver_label(), noun(&plugin));
        tracing::info!(device = %self.device.id, %from, to = %plugin.label(), "{noun} replaced");
        self.plugin = Some(plugin);
        self.take_into_use(live).await;
        // The old instance fell just now, without `close`. Its faults are not those of the new one.
        self.supervisor.reset();
        self.trial = Some(trial);
        self.edit(|status| status.update_failed = None);
        let mut trouble = canary.trouble;
        for (mut outcome, at) in canary.outcomes {
            trouble = outcome.trouble.take().or(trouble);
            self.take_outcome(outcome, at);
        }
        self.note_trouble(trouble);
        match canary.offline {
            None => self.succeeded(),
            Some(reason) => self.failed(Failure::Offline(reason)),
        }
        self.next = self.aligned(self.supervisor.stretched(self.interval()));
        for message in missed {
            self.take_message(message).await;
        }
    }

    pub(super) async fn lose(&mut self, reason: String) {
        self.close_live().await;
        self.plugin = None;
        self.trial = None;
        self.refused = Newer::default();
        self.inherited = None;
        self.wired = Wired::default();
        self.supervisor.reset();
        self.supervisor.missing(reason);
        // Nothing goes on beside which a newer one could be refused.
        self.edit(|status| status.update_failed = None);
    }

    pub(super) async fn reconfigure(&mut self, Rebinding { device, rewire }: Rebinding) {
        let old = std::mem::replace(&mut self.device, device);
        let new = &self.device;
        let moved = rewire || old.endpoints != new.endpoints;
        let rebound = moved
            || old.config != new.config
            || old.limits != new.limits
            || old.wasi != new.wasi
            || old.sha256 != new.sha256
            || (old.role != new.role && self.plugin.as_ref().is_some_and(|plugin| plugin.traits().described));
        let rearmed = old.failsafe != new.failsafe;
        if moved {
            // Nobody will talk to the device at the old address any more.
            self.close_live().await;
            self.wired = Wired::default();
            self.kept = Kept::default();
            self.arrivals = Arrivals::default();
            self.edit(|status| {
                status.values = crate::site::Values::default();
                status.commanded = None;
            });
        }
        if rebound {
            self.live = None;
            self.trial = None;
            self.inherited = None;
            self.wish = None;
            self.refused.again = true;
            if self.plugin.is_some() {
                self.supervisor.reset();
                self.health = Health::Starting;
                self.next = self.clock.now();
            }
        } else {
            if rearmed {
                self.arm_failsafe().await;
            }
            self.next = self.next.min(self.aligned(self.supervisor.stretched(self.interval())));
        }
    }
}

/// What people call it.
fn noun(plugin: &Plugged) -> &'static str {
    if plugin.traits().described { "definition" } else { "plugin" }
}

/// What the old instance received and has not decoded: it would be lost with it. What the new one received too is
/// left to the new one.
fn drain_missed(old: &Live, new: &Live) -> Vec<Message> {
    let arrived: Vec<Message> = std::iter::from_fn(|| new.inbox.try_recv()).collect();
    let mut missed: Vec<Message> = std::iter::from_fn(|| old.inbox.try_recv()).collect();
    missed.retain(|message| !arrived.contains(message));
    missed.extend(arrived);
    missed
}
