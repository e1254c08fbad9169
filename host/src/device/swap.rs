//! Changing to another version of a plugin while the device runs. The new instance is built, opened and polled on
//! the same slots before the old one goes; if anything about it is wrong the old one never notices.

use std::sync::Arc;
use std::time::Duration;

use super::guest::{Artefact, Wired};
use super::live::{Failure, Live, Polled, measured_at};
use crate::config::DeviceConfig;
use crate::site::{Clock, Moment, Outcome};
use crate::transport::Message;

/// How long a new version is on trial.
pub const TRIAL: Duration = Duration::from_secs(300);
/// Faults on trial after which the host goes back.
pub const TRIAL_FAULTS: u32 = 3;

/// A version that replaced a working one a short while ago, and the way back.
pub struct Trial {
    previous: Arc<dyn Artefact>,
    snapshot: Option<Snapshot>,
    since: Moment,
    faults: u32,
}

/// What a version saved for its successor.
#[derive(Clone, Debug)]
pub struct Snapshot {
    version: String,
    bytes: Vec<u8>,
}

/// A swap that worked.
pub struct Swapped {
    /// The new instance.
    pub live: Live,
    /// What its canary brought.
    pub canary: Canary,
    /// The way back.
    pub trial: Trial,
}

/// What the first poll of a new instance brought.
#[derive(Debug, Default)]
pub struct Canary {
    /// Readings with their age.
    pub outcomes: Vec<(Outcome, Moment)>,
    /// What it does not get out of an older message.
    pub trouble: Option<String>,
    /// The device does not answer just now, which is not the plugin's fault.
    pub offline: Option<String>,
}

/// A swap that did not work.
pub struct Refused {
    /// What was wrong with the new version.
    pub reason: String,
    /// The new version got no answer when it opened the device: no verdict about it if the old one gets none either.
    pub offline: bool,
    /// The old instance died while it saved its state, so it cannot go on.
    pub old_died: Option<String>,
}

/// A newer version that the device did not get along with, while an older one goes on.
#[derive(Default)]
pub struct Newer {
    /// `None`: there is none.
    pub plugin: Option<Arc<dyn Artefact>>,
    /// The binding has changed since, so that it may be right now.
    pub again: bool,
}

impl Newer {
    /// The version, if it is to be tried again.
    pub fn take(&mut self) -> Option<Arc<dyn Artefact>> {
        if std::mem::take(&mut self.again) { self.plugin.take() } else { None }
    }
}

impl Trial {
    /// Notes a fault; gives the version to go back to when it was one too many.
    pub fn fault(&mut self, now: Moment) -> Option<(Arc<dyn Artefact>, Option<Snapshot>)> {
        if now.since(self.since) >= TRIAL {
            return None;
        }
        self.faults += 1;
        (self.faults >= TRIAL_FAULTS).then(|| (Arc::clone(&self.previous), self.snapshot.take()))
    }
}

/// Replaces `old` by an instance of `new` (design rule 5.8, step 4). The caller drops `old` afterwards, without
/// closing it: that would put the device into its safe state. `messages` are what the old version has understood, the
/// newest at the end.
pub async fn swap(
    old: &mut Live,
    new: &Arc<dyn Artefact>,
    device: &DeviceConfig,
    messages: &[Message],
    clock: Clock,
) -> Result<Swapped, Refused> {
    let (snapshot, old_died) = match old.save().await {
        Ok(bytes) => (bytes.map(|bytes| Snapshot { version: old.artefact.version().to_owned(), bytes }), None),
        Err(failure) => (None, Some(failure.to_string())),
    };
    match start_and_try(new, device, &old.wired, snapshot.as_ref(), messages, clock).await {
        Ok((live, canary)) => {
            let trial = Trial { previous: Arc::clone(&old.artefact), snapshot, since: clock.now(), faults: 0 };
            Ok(Swapped { live, canary, trial })
        }
        Err(failure) => {
            let offline = matches!(failure, Failure::Offline(_));
            Err(Refused { reason: format!("{}: {failure}", new.label()), offline, old_died })
        }
    }
}

async fn start_and_try(
    new: &Arc<dyn Artefact>,
    device: &DeviceConfig,
    wired: &Wired,
    snapshot: Option<&Snapshot>,
    messages: &[Message],
    clock: Clock,
) -> Result<(Live, Canary), Failure> {
    let mut live = Live::start(new, device, wired, clock).await?;
    hand_over(&mut live, snapshot).await?;
    let canary = try_out(&mut live, messages, clock).await?;
    Ok((live, canary))
}

/// Gives an opened instance what its predecessor saved.
pub async fn hand_over(live: &mut Live, snapshot: Option<&Snapshot>) -> Result<(), Failure> {
    match snapshot {
        Some(Snapshot { version, bytes }) => live.restore(version, bytes).await,
        None => Ok(()),
    }
}

/// The canary: one poll, or for a decoder of messages the last one that the old version understood. Older ones say what
/// their topics said; what cannot be made of them is no reason against the new version.
async fn try_out(live: &mut Live, messages: &[Message], clock: Clock) -> Result<Canary, Failure> {
    let mut canary = Canary::default();
    if live.is_polled() {
        let Polled { outcomes, failure } = live.poll().await;
        let at = clock.now();
        canary.outcomes.extend(outcomes.into_iter().map(|outcome| (outcome, at)));
        match failure {
            None => {}
            Some(Failure::Offline(reason)) => canary.offline = Some(reason),
            Some(failure) => return Err(failure),
        }
    }
    for (index, message) in messages.iter().enumerate() {
        match live.message(message).await {
            Ok(outcome) => canary.outcomes.extend(outcome.map(|outcome| (outcome, measured_at(message)))),
            Err(Failure::Protocol(reason)) if index + 1 < messages.len() => canary.trouble = Some(reason),
            Err(failure) => return Err(failure),
        }
    }
    Ok(canary)
}
