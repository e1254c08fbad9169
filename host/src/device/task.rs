//! One device: its driver, when it is polled, what it is told, and what the site gets to know of it. Owns the
//! instance; nothing else calls it. Never decides how much current a wallbox gets.

mod change;
mod command;

use std::time::Duration;

use tokio::sync::oneshot;

use super::arrivals::{Arrivals, polled_stale_after};
use super::guest::{Plugged, Wired};
use super::kept::Kept;
use super::live::{Failure, Live, Polled, measured_at};
use super::mailbox::{Mailbox, Request};
use super::supervision::{Jitter, LONGEST_POLL, Permission, Supervisor};
use super::swap::{self, Newer, Snapshot, Trial};
use super::writes::Writes;
use crate::config::DeviceConfig;
use crate::site::{Clock, DeviceStatus, Health, Moment, Outcome, StatusSender};
use crate::transport::Message;

/// The mailbox of a device task.
pub type DeviceMailbox = Mailbox<Plugged, Rebinding>;

/// A changed entry of the configuration.
#[derive(Clone, Debug)]
pub struct Rebinding {
    /// The new entry.
    pub device: DeviceConfig,
    /// What the entry refers to has changed (the default broker): its connections are to be made anew.
    pub rewire: bool,
}

/// What a task is made of.
pub struct TaskParts {
    /// The binding.
    pub device: DeviceConfig,
    /// The plugin, or why there is none.
    pub plugin: Result<Plugged, String>,
    /// Where the state is published.
    pub status: StatusSender,
    /// The host's clock.
    pub clock: Clock,
    /// Spreads restarts.
    pub jitter: Jitter,
}

/// One device task; [`Task::run`] is its whole life.
pub struct Task {
    mailbox: DeviceMailbox,
    device: DeviceConfig,
    plugin: Option<Plugged>,
    status: StatusSender,
    /// What is shown next.
    draft: DeviceStatus,
    edited: bool,
    clock: Clock,
    supervisor: Supervisor,
    live: Option<Live>,
    wired: Wired,
    trial: Option<Trial>,
    refused: Newer,
    writes: Writes,
    arrivals: Arrivals,
    kept: Kept,
    /// The driver's last wish for the next poll.
    wish: Option<Duration>,
    /// When the next poll or start is due.
    next: Moment,
    /// How the running driver is doing.
    health: Health,
    /// A snapshot for the next start, after going back to an earlier version.
    inherited: Option<Snapshot>,
}

/// What the task does next when nobody asks for anything.
enum Work {
    Start,
    Poll,
    Message(Message),
}

impl Task {
    /// A task that has not begun, and the mailbox it will serve.
    #[must_use]
    pub fn new(parts: TaskParts) -> (Self, DeviceMailbox) {
        let mailbox = DeviceMailbox::default();
        let mut supervisor = Supervisor::new(parts.jitter);
        let plugin = parts.plugin.map_err(|reason| supervisor.missing(reason)).ok();
        let mut task = Self {
            mailbox: mailbox.clone(),
            device: parts.device,
            plugin,
            draft: parts.status.status(),
            edited: true,
            status: parts.status,
            clock: parts.clock,
            supervisor,
            live: None,
            wired: Wired::default(),
            trial: None,
            refused: Newer::default(),
            writes: Writes::default(),
            arrivals: Arrivals::default(),
            kept: Kept::default(),
            wish: None,
            next: Moment(0),
            health: Health::Starting,
            inherited: None,
        };
        task.publish();
        (task, mailbox)
    }

    /// Serves the device until it is asked to stop.
    pub async fn run(mut self) {
        let mailbox = self.mailbox.clone();
        // Also when the task is cancelled: nobody may wait for an answer that cannot come.
        let _closes = CloseOnDrop(mailbox.clone());
        loop {
            let request = tokio::select! {
                biased;
                request = mailbox.recv() => Ok(request),
                work = self.next_work() => Err(work),
            };
            match request {
                Ok(Request::Stop(stopped)) => return self.stop(stopped).await,
                Ok(request) => self.serve(request).await,
                Err(work) => self.work(work).await,
            }
            self.publish();
        }
    }

    /// Waits for whatever is due first. Cancel-safe: takes nothing before it returns. The future must not borrow the
    /// task, whose instance cannot be shared between threads.
    fn next_work(&self) -> impl Future<Output = Work> + Send + use<> {
        let clock = self.clock;
        let start = match self.supervisor.permission(clock.now()) {
            Permission::Run => Some(self.next),
            Permission::WaitUntil(at) => Some(at),
            Permission::Never => None,
        };
        let inbox = self.live.as_ref().map(|live| live.inbox.clone());
        let poll = self.live.as_ref().is_some_and(Live::is_polled).then_some(self.next);
        async move {
            let Some(inbox) = inbox else {
                sleep_until(clock, start).await;
                return Work::Start;
            };
            tokio::select! {
                () = sleep_until(clock, poll) => Work::Poll,
                message = inbox.recv() => Work::Message(message),
            }
        }
    }

    async fn work(&mut self, work: Work) {
        match work {
            Work::Start => self.start().await,
            Work::Poll => self.poll().await,
            Work::Message(message) => self.take_message(message).await,
        }
    }

    async fn serve(&mut self, request: Request<Plugged, Rebinding>) {
        match request {
            Request::Poll => {
                // Polling faster than the plugin allows is left to nobody; a device in quarantine stays there.
                if self.live.as_ref().is_some_and(Live::is_polled) {
                    self.poll().await;
                }
            }
            Request::Command(command, answers) => {
                let result = self.command(command).await;
                // Who got the answer may look at the board.
                self.publish();
                for answer in answers {
                    // The asker may have gone; the command was carried out all the same.
                    let _ = answer.send(result.clone());
                }
            }
            Request::Swap(plugin) => self.swap(plugin).await,
            Request::Lose(reason) => self.lose(reason).await,
            Request::Spoiled(reason) => self.spoiled(reason),
            Request::Reconfigure(rebinding) => self.reconfigure(rebinding).await,
            Request::Retry => {
                if self.live.is_none() && self.plugin.is_some() {
                    self.supervisor.reset();
                    self.health = Health::Starting;
                    self.next = self.clock.now();
                }
            }
            // Taken out by `run`.
            Request::Stop(_) => {}
        }
    }

    // === Starting, polling, messages ===

    async fn start(&mut self) {
        let Some(plugin) = self.plugin.clone() else { return };
        self.writes.forget();
        let snapshot = self.inherited.take();
        let started = match Live::start(&plugin, &self.device, &self.wired, self.clock).await {
            Ok(mut live) => swap::hand_over(&mut live, snapshot.as_ref()).await.map(|()| live),
            Err(failure) => Err(failure),
        };
        match started {
            Ok(live) => {
                self.take_into_use(live).await;
                if let Some(newer) = self.refused.take() {
                    self.swap(newer).await;
                }
            }
            Err(failure) => {
                // The binding may have been changed for the newer one.
                if matches!(failure, Failure::Misconfigured(_))
                    && let Some(newer) = self.refused.take()
                {
                    return self.start_with(newer);
                }
                self.next = self.aligned(self.supervisor.stretched(self.interval()));
                self.failed(failure);
            }
        }
    }

    /// A freshly opened instance takes over.
    async fn take_into_use(&mut self, live: Live) {
        let info = live.info.clone();
        self.wired = live.wired.clone();
        self.health = if live.is_polled() { Health::Starting } else { Health::Running };
        self.live = Some(live);
        self.next = self.clock.now();
        self.wish = None;
        self.edit(|status| status.info = info);
        self.arm_failsafe().await;
    }

    async fn arm_failsafe(&mut self) {
        let Some(failsafe) = self.device.failsafe else { return };
        let Some(live) = &mut self.live else { return };
        if !live.artefact.traits().failsafe {
            let driver = live.artefact.label();
            tracing::warn!(device = %self.device.id, %driver, "failsafe is configured, but the driver cannot arm one");
            return;
        }
        if let Err(failure) = live.arm(failsafe.ma, failsafe.timeout_s).await {
            tracing::warn!(device = %self.device.id, %failure, "arming the failsafe failed");
            self.failed(failure);
        }
    }

    async fn poll(&mut self) {
        let Some(live) = &mut self.live else { return };
        let Polled { outcomes, failure } = live.poll().await;
        let at = self.clock.now();
        let mut trouble = None;
        for mut outcome in outcomes {
            trouble = outcome.trouble.take().or(trouble);
            self.take_outcome(outcome, at);
        }
        match failure {
            None => self.succeeded(),
            Some(failure) => self.failed(failure),
        }
        self.note_trouble(trouble);
        self.next = self.aligned(self.supervisor.stretched(self.interval()));
    }

    async fn take_message(&mut self, message: Message) {
        let Some(live) = &mut self.live else { return };
        match live.message(&message).await {
            Ok(None) => {}
            Ok(Some(mut outcome)) => {
                let measures = !outcome.readings.is_empty();
                let trouble = outcome.trouble.take();
                self.take_outcome(outcome, measured_at(&message));
                if measures && !message.retained {
                    self.arrivals.note(&format!("{}/{}", message.endpoint, message.topic), message.at);
                }
                self.kept.note(message);
                self.succeeded();
                self.note_trouble(trouble);
            }
            Err(failure @ (Failure::Fault(_) | Failure::Misconfigured(_))) => self.failed(failure),
            // One bad message says nothing about the device; what it said before ages by itself.
            Err(failure) => self.note_error(&failure.to_string()),
        }
    }

    fn take_outcome(&mut self, mut outcome: Outcome, at: Moment) {
        if let Some(wish) = outcome.next_poll {
            self.wish = Some(wish);
        }
        self.writes.saw(&outcome);
        let info = outcome.info.take();
        self.edit(|status| {
            status.values.merge(outcome, at);
            status.info = info.unwrap_or_else(|| std::mem::take(&mut status.info));
        });
    }

    fn succeeded(&mut self) {
        self.supervisor.success(self.clock.now());
        self.health = Health::Running;
        self.edit(|status| {
            status.successes = status.successes.saturating_add(1);
            status.failing_since = None;
        });
    }

    fn failed(&mut self, failure: Failure) {
        self.note_error(&failure.to_string());
        match failure {
            // What it said before ages by itself, and the reason is told then.
            Failure::Protocol(_) if self.tolerates() => self.supervisor.unanswered(),
            Failure::Offline(reason) | Failure::Protocol(reason) => {
                self.supervisor.unanswered();
                self.health = Health::Offline(reason);
            }
            Failure::Misconfigured(reason) => {
                self.live = None;
                self.supervisor.misconfigured(reason);
            }
            Failure::Fault(reason) => self.retire(reason),
        }
    }

    /// The instance is dead or must not be used any more.
    fn retire(&mut self, reason: String) {
        let now = self.clock.now();
        self.live = None;
        tracing::warn!(device = %self.device.id, driver = %self.driver_label(), %reason, "driver fault");
        match self.trial.as_mut().and_then(|trial| trial.fault(now)) {
            Some((previous, snapshot)) => {
                let text = format!(
                    "{} faulted {} times in its first five minutes, back to {}: {reason}",
                    self.driver_label(),
                    swap::TRIAL_FAULTS,
                    previous.version()
                );
                tracing::warn!(device = %self.device.id, "{text}");
                self.trial = None;
                self.inherited = snapshot;
                self.plugin = Some(previous);
                self.supervisor.reset();
                self.health = Health::Starting;
                self.next = now;
                self.edit(|status| status.update_failed = Some(text));
            }
            None => self.supervisor.fault(now, reason),
        }
    }

    /// The device is known to run, and what it said last may still be used.
    fn tolerates(&self) -> bool {
        let described = self.live.as_ref().is_some_and(|live| live.artefact.traits().described);
        described && self.health.is_running() && !self.draft.com_err(self.clock.now())
    }

    /// Something is missing in an exchange that succeeded.
    fn note_trouble(&mut self, trouble: Option<String>) {
        let Some(trouble) = trouble else { return };
        tracing::debug!(device = %self.device.id, error = trouble, "something is missing");
        self.edit(|status| {
            status.errors = status.errors.saturating_add(1);
            status.last_error = trouble;
        });
    }

    fn note_error(&mut self, text: &str) {
        let now = self.clock.now();
        tracing::debug!(device = %self.device.id, error = text, "exchange failed");
        self.edit(|status| {
            status.errors = status.errors.saturating_add(1);
            status.last_error = text.to_owned();
            status.failing_since.get_or_insert(now);
        });
    }

    // === The end ===

    async fn stop(mut self, stopped: oneshot::Sender<()>) {
        self.close_live().await;
        // The asker may have given up waiting.
        let _ = stopped.send(());
    }

    async fn close_live(&mut self) {
        if let Some(mut live) = self.live.take()
            && let Err(failure) = live.close().await
        {
            tracing::warn!(device = %self.device.id, %failure, "closing the device failed");
        }
    }

    // === Pace and status ===

    /// The normal poll interval: the binding's, else the artefact's, not faster than it allows, slower if the driver
    /// wishes so.
    fn interval(&self) -> Duration {
        let traits = self.plugin.as_ref().map(|plugin| plugin.traits()).unwrap_or_default();
        let poll = self.device.poll.or(traits.poll).unwrap_or(DeviceConfig::DEFAULT_POLL);
        let base = poll.max(traits.min_poll).max(Duration::from_millis(1));
        self.wish.map_or(base, |wish| wish.clamp(base, LONGEST_POLL.max(base)))
    }

    /// The next multiple of `interval`: devices with one interval are polled together, in step with the control
    /// cycle.
    fn aligned(&self, interval: Duration) -> Moment {
        let step = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let now = self.clock.now().0;
        Moment((now / step).saturating_add(1).saturating_mul(step))
    }

    fn stale_after(&self) -> Duration {
        let fed = self.live.as_ref().is_some_and(Live::is_fed);
        self.device.timeout.unwrap_or_else(|| match fed {
            true => self.arrivals.stale_after(),
            false => polled_stale_after(self.interval()),
        })
    }

    fn present_health(&self) -> Health {
        match (&self.live, self.supervisor.health()) {
            (None, Some(down)) => down,
            _ => self.health.clone(),
        }
    }

    fn driver_label(&self) -> String {
        self.plugin.as_ref().map(|plugin| plugin.label()).unwrap_or_default()
    }

    fn edit(&mut self, change: impl FnOnce(&mut DeviceStatus)) {
        change(&mut self.draft);
        self.edited = true;
    }

    /// Shows what happened, all of it at once: no reader sees a reading without its success.
    fn publish(&mut self) {
        let (health, driver, stale_after) = (self.present_health(), self.driver_label(), self.stale_after());
        let draft = &mut self.draft;
        // Readers are woken by a change only.
        if self.edited || draft.health != health || draft.driver != driver || draft.stale_after != stale_after {
            (draft.health, draft.driver, draft.stale_after) = (health, driver, stale_after);
            self.status.update(|status| status.clone_from(draft));
            self.edited = false;
        }
    }
}

/// Waits for a moment; for ever, if there is none.
async fn sleep_until(clock: Clock, at: Option<Moment>) {
    let Some(at) = at else { return std::future::pending().await };
    let wait = at.since(clock.now());
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
}

struct CloseOnDrop(DeviceMailbox);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
