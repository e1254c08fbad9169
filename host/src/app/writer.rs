//! Serves changes of the configuration: makes them, passes them on, writes them, and follows what others write into the
//! file. Everything in one task, so that each change is made to the result of the one before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::keeper::{Found, Keeper};
use super::schedule::Schedule;
use crate::config::file::{Disk, Replaced};
use crate::config::{Config, Request, SettingsError, Writes};
use crate::plugin::PluginEvent;

/// How long the last write may take, for disks that answer no more.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// A file that says something new is believed when it still says so after this time: many editors empty a file before
/// they write it, and half a file may be a whole configuration with half the devices.
const SETTLE: Duration = Duration::from_millis(250);

/// Who waits for a change.
pub(super) type Waiting = oneshot::Sender<Result<(), SettingsError>>;

/// Whom changes are passed on to.
pub(super) trait Follow: Send + 'static {
    /// The configuration that was passed on last.
    fn running(&self) -> Arc<Config>;
    /// Passes on another one; `waiting` is told when everybody has gone over to it. Never blocks.
    fn follow(&self, running: &Config, config: Arc<Config>, waiting: Option<Waiting>);
    /// Passes on what happened in the plugin folders.
    fn plugin_event(&self, event: &PluginEvent);
    /// Ends what is under way.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// Where the work comes from.
pub(super) struct Arrivals {
    /// Told when somebody may have changed the file.
    pub looks: Arc<Notify>,
    pub plugins: mpsc::Receiver<PluginEvent>,
    pub requests: mpsc::Receiver<Request>,
    /// Closed when the host stops.
    pub stopped: oneshot::Receiver<()>,
}

/// What was done with the disk.
enum Done {
    Read(Result<String, String>),
    Written { text: String, outcome: Result<Replaced, String> },
}

pub(super) struct Writer<F> {
    followers: F,
    keeper: Arc<Mutex<Keeper>>,
    /// Its name, for messages.
    file: String,
    disk: Arc<dyn Disk>,
    schedule: Schedule,
    writes: Writes,
    /// When the file is to be read again.
    look: Option<Instant>,
    /// What it said last, if that was something new.
    seen: Option<Result<String, String>>,
    /// Why the last attempt to write failed.
    complaint: Option<String>,
}

impl<F: Follow> Writer<F> {
    pub fn new(file: String, keeper: Keeper, disk: Arc<dyn Disk>, writes: Writes, followers: F) -> Self {
        Self {
            followers,
            keeper: Arc::new(Mutex::new(keeper)),
            file,
            disk,
            schedule: Schedule::default(),
            writes,
            look: None,
            seen: None,
            complaint: None,
        }
    }

    pub async fn run(mut self, mut from: Arrivals) {
        // One thing at a time with the disk, so that what is read is never older than what was written.
        let mut io: Option<JoinHandle<Done>> = None;
        let mut plugins_open = true;
        loop {
            if io.is_none() {
                io = self.next_io();
            }
            let due = self.due().filter(|_| io.is_none());
            let until_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let until_done = async {
                match io.as_mut() {
                    Some(io) => io.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut from.stopped => break,
                () = from.looks.notified() => self.look_soon(),
                () = until_due => {}
                done = until_done => {
                    io = None;
                    // The runtime is shutting down.
                    let Ok(done) = done else { return };
                    self.done(done).await;
                }
                event = from.plugins.recv(), if plugins_open => match event {
                    Some(event) => self.followers.plugin_event(&event),
                    // That watch could not be started; the other one goes on.
                    None => plugins_open = false,
                },
                Some(request) = from.requests.recv() => self.request(request).await,
            }
        }
        // What arrives from now on is refused, and so is what has not been looked at.
        drop(from);
        if tokio::time::timeout(LAST_WRITE, self.finish(io)).await.is_err() {
            tracing::error!("{}: the disk does not answer; the last changes of settings are lost", self.file);
        }
        self.followers.stop().await;
    }

    /// When there is something for the disk to do. What it says is known before anything is written.
    fn due(&self) -> Option<Instant> {
        self.look.or_else(|| self.schedule.due())
    }

    /// Reads the file, unless it is about to be read anyway.
    fn look_soon(&mut self) {
        self.look.get_or_insert_with(Instant::now);
    }

    /// What the disk is to do next, if anything.
    fn next_io(&mut self) -> Option<JoinHandle<Done>> {
        let disk = Arc::clone(&self.disk);
        if self.due().is_none_or(|due| due > Instant::now()) {
            return None;
        }
        if self.look.take().is_some() {
            return Some(tokio::task::spawn_blocking(move || Done::Read(disk.read())));
        }
        let Some((expected, text)) = self.keeper().to_write() else {
            self.schedule.set(false, Instant::now());
            return None;
        };
        Some(tokio::task::spawn_blocking(move || {
            let outcome = disk.replace(&expected, &text);
            Done::Written { text, outcome }
        }))
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Read(disk) if self.is_settled(&disk) => self.found(disk).await,
            Done::Read(disk) => {
                self.seen = Some(disk);
                self.look = Some(Instant::now() + SETTLE);
            }
            Done::Written { text, outcome: Ok(Replaced::Yes) } => {
                self.writes.count();
                self.keeper().written(text);
                self.schedule.written(Instant::now());
                if self.complaint.take().is_some() {
                    tracing::info!("{}: the changes of settings are written now", self.file);
                }
            }
            // Somebody changed the file: look at it first.
            Done::Written { outcome: Ok(Replaced::Not), .. } => self.look_soon(),
            Done::Written { outcome: Err(why), .. } => {
                self.writes.count_failed();
                let wait = self.schedule.failed(Instant::now()).as_secs();
                if self.complaint.as_ref() != Some(&why) {
                    tracing::error!(
                        "{}: {why}. The changed settings are in force, but lost at a restart until this is \
                         mended; the next attempt is in {wait} s",
                        self.file
                    );
                    self.complaint = Some(why);
                }
            }
        }
        self.reschedule();
    }

    /// Whether the file says what it said before, or at the last look.
    fn is_settled(&mut self, disk: &Result<String, String>) -> bool {
        let seen = self.seen.take();
        seen.as_ref() == Some(disk) || self.keeper().is_on_disk(disk)
    }

    /// Brings everything to the disk that is not there yet.
    async fn finish(&mut self, io: Option<JoinHandle<Done>>) {
        if let Some(io) = io {
            let Ok(done) = io.await else { return };
            self.done(done).await;
        }
        // More than once only if somebody changes the file at this very moment.
        for _ in 0..3 {
            let disk = Arc::clone(&self.disk);
            let Some((expected, text)) = self.keeper().to_write() else { return };
            let written = tokio::task::spawn_blocking(move || (disk.replace(&expected, &text), text, disk.read()));
            let Ok((outcome, text, now)) = written.await else { return };
            match outcome {
                Ok(Replaced::Yes) => {
                    self.writes.count();
                    return self.keeper().written(text);
                }
                Ok(Replaced::Not) => self.found(now).await,
                Err(why) => {
                    self.writes.count_failed();
                    return tracing::error!("{}: {why}; the last changes of settings are lost", self.file);
                }
            }
        }
        tracing::error!("{}: does not stay the same; the last changes of settings are lost", self.file);
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        // Each of its methods changes it at its end only.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that takes as long as reading a large file may.
    async fn think<T: Send + 'static>(&self, what: impl FnOnce(&mut Keeper) -> T + Send + 'static) -> Option<T> {
        let keeper = Arc::clone(&self.keeper);
        let task =
            tokio::task::spawn_blocking(move || what(&mut keeper.lock().unwrap_or_else(PoisonError::into_inner)));
        task.await.ok()
    }

    fn reschedule(&mut self) {
        let dirty = self.keeper().to_write().is_some();
        self.schedule.set(dirty, Instant::now());
    }

    async fn request(&mut self, request: Request) {
        let Request { edits, volatile, done } = request;
        let result = if edits.is_empty() {
            self.keeper().change(&[], &volatile)
        } else {
            let result = self.think(move |keeper| keeper.change(&edits, &volatile)).await;
            result.unwrap_or_else(|| Err(SettingsError::Cannot("the host is stopping".into())))
        };
        match result {
            Ok(()) => {
                self.reschedule();
                self.publish(Some(done));
            }
            // Whoever has gone does not want to know.
            Err(error) => _ = done.send(Err(error)),
        }
    }

    async fn found(&mut self, disk: Result<String, String>) {
        let Some(found) = self.think(move |keeper| keeper.found(disk)).await else { return };
        match found {
            Found::Same => {}
            Found::Changed { lost } => {
                for lost in lost {
                    tracing::error!("{}: a change of settings that was not yet written is lost: {lost}", self.file);
                }
                if self.publish(None) {
                    tracing::info!("the changed configuration is in force");
                }
            }
            Found::Broken(errors) => {
                for error in &errors.0 {
                    tracing::error!("{error}");
                }
                tracing::error!("the configuration was not taken over; the one before stays in force");
            }
        }
        self.reschedule();
    }

    /// Passes on the configuration in force if it is another one than before.
    fn publish(&self, waiting: Option<Waiting>) -> bool {
        let config = self.keeper().in_force();
        let running = self.followers.running();
        if config == *running {
            waiting.into_iter().for_each(|waiting| _ = waiting.send(Ok(())));
            return false;
        }
        self.followers.follow(&running, Arc::new(config), waiting);
        true
    }
}

#[cfg(test)]
mod tests;
