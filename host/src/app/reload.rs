//! The configuration while the program runs: the file and the plugin folders are watched, changes by commands are
//! made and written, and what changed is passed on. A file that is not well changes nothing but the log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::applier::{Applier, Waiting};
use super::keeper::{Found, Keeper};
use super::schedule::Schedule;
use super::{Options, check};
use crate::config::file::{ConfigFile, Disk, Replaced};
use crate::config::{self, Config, ConfigWatch, DefaultBroker, Request, Requests, SettingsError, Writes};
use crate::device::manager::Devices;
use crate::plugin::{self, PluginEvent, PluginWatch, Registry};
use crate::transport::Transports;

/// Plugin changes that wait to be passed on. More than one is rare: the watch collects what comes together.
const WAITING: usize = 8;
/// How long the last write may take, for disks that answer no more.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// The parts that follow a change.
pub(super) struct Followers {
    pub registry: Arc<Registry>,
    pub transports: Transports,
    pub devices: Devices,
    pub config: watch::Sender<Arc<Config>>,
}

/// The running watches, and who writes the file.
pub(super) struct Reload {
    _config: Option<ConfigWatch>,
    _plugins: Option<PluginWatch>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Reload {
    /// Takes no more changes, and returns when those there were are in the file.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // It breaks down only with the runtime.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts both watches; the one over the plugin folders also loads what is there. Where the system cannot watch (no
/// such folder, too many watches), that is said once and the daemon goes on without hot reload. `text` is what the
/// running configuration was read from.
pub(super) async fn start(
    options: &Options,
    plugin_dirs: &[PathBuf],
    followers: Followers,
    text: String,
    requests: Requests,
) -> Reload {
    let (plugin_sender, plugins) = mpsc::channel(WAITING);
    let looks = Arc::new(Notify::new());
    let config_watch = config::watch(&options.config, Arc::clone(&looks))
        .inspect_err(|error| tracing::warn!("{} is not watched for changes: {error}", options.config.display()))
        .ok();
    let plugin_watch = match plugin::watch(Arc::clone(&followers.registry), plugin_dirs, plugin_sender) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!("the plugin folders are not watched for changes: {error}");
            followers.load_once(plugin_dirs).await;
            None
        }
    };
    let file = options.config.display().to_string();
    let running = Config::clone(&followers.config.borrow());
    let actor = Actor {
        applier: Applier::start(followers.devices.clone()),
        followers,
        keeper: Arc::new(Mutex::new(Keeper::new(file.clone(), options.overrides.clone(), text, running))),
        file,
        disk: Arc::new(ConfigFile(options.config.clone())),
        schedule: Schedule::default(),
        writes: requests.writes,
        look: false,
        complaint: None,
    };
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(actor.run(Arrivals { looks, plugins, requests: requests.requests, stopped }));
    Reload { _config: config_watch, _plugins: plugin_watch, stop: Some(stop), task }
}

/// Where the actor's work comes from.
struct Arrivals {
    looks: Arc<Notify>,
    plugins: mpsc::Receiver<PluginEvent>,
    requests: mpsc::Receiver<Request>,
    stopped: oneshot::Receiver<()>,
}

/// What was done with the disk.
enum Done {
    Read(Result<String, String>),
    Written { text: String, outcome: Result<Replaced, String> },
}

struct Actor {
    followers: Followers,
    applier: Applier,
    keeper: Arc<Mutex<Keeper>>,
    file: String,
    disk: Arc<dyn Disk>,
    schedule: Schedule,
    writes: Writes,
    /// The file is to be read again.
    look: bool,
    /// Why the last attempt to write failed.
    complaint: Option<String>,
}

impl Actor {
    async fn run(mut self, mut from: Arrivals) {
        // One thing at a time with the disk, so that what is read is never older than what was written.
        let mut io: Option<JoinHandle<Done>> = None;
        let mut plugins_open = true;
        loop {
            if io.is_none() {
                io = self.next_io();
            }
            let due = self.schedule.due().filter(|_| io.is_none());
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
                () = from.looks.notified() => self.look = true,
                () = until_due => {}
                done = until_done => {
                    io = None;
                    // The runtime is shutting down.
                    let Ok(done) = done else { return };
                    self.done(done).await;
                }
                event = from.plugins.recv(), if plugins_open => match event {
                    Some(event) => self.followers.devices.plugin_event(&event),
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
        self.applier.stop().await;
    }

    /// What the disk is to do next, if anything.
    fn next_io(&mut self) -> Option<JoinHandle<Done>> {
        let disk = Arc::clone(&self.disk);
        if std::mem::take(&mut self.look) {
            return Some(tokio::task::spawn_blocking(move || Done::Read(disk.read())));
        }
        if self.schedule.due().is_none_or(|due| due > Instant::now()) {
            return None;
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
            Done::Read(disk) => self.found(disk).await,
            Done::Written { text, outcome: Ok(Replaced::Yes) } => {
                self.writes.count();
                self.keeper().written(text);
                self.schedule.written(Instant::now());
                if self.complaint.take().is_some() {
                    tracing::info!("{}: the changes of settings are written now", self.file);
                }
            }
            // Somebody changed the file: look at it first.
            Done::Written { outcome: Ok(Replaced::Not), .. } => self.look = true,
            Done::Written { outcome: Err(why), .. } => {
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
                Err(why) => return tracing::error!("{}: {why}; the last changes of settings are lost", self.file),
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
        let running = Arc::clone(&self.followers.config.borrow());
        if config == *running {
            waiting.into_iter().for_each(|waiting| _ = waiting.send(Ok(())));
            return false;
        }
        let config = Arc::new(config);
        self.followers.tell(&running, &config);
        if concerns_devices(&running, &config) {
            self.applier.apply(config, waiting);
        } else {
            waiting.into_iter().for_each(|waiting| _ = waiting.send(Ok(())));
        }
        true
    }
}

impl Followers {
    /// Loads what is there now.
    async fn load_once(&self, plugin_dirs: &[PathBuf]) {
        for error in self.registry.scan(plugin_dirs).await {
            tracing::error!("{error}");
        }
        for plugin in self.registry.all() {
            self.devices.plugin_event(&PluginEvent::Loaded(plugin));
        }
    }

    /// Tells everybody but the devices.
    fn tell(&self, running: &Config, config: &Arc<Config>) {
        for key in needs_restart(running, config) {
            tracing::warn!("{key} has changed; it takes effect at the next start");
        }
        if config.mqtt.broker != running.mqtt.broker
            && let Some(DefaultBroker::Url(url)) = &config.mqtt.broker
        {
            self.transports.set_default_broker(Some(url.clone()));
        }
        if config.mqtt.tls != running.mqtt.tls {
            self.transports.set_broker_tls(config.mqtt.tls.clone());
        }
        if config.devices != running.devices {
            for error in check::unknown_types(config, &self.registry) {
                tracing::error!("{error}");
            }
        }
        // Limits first: a lowered one counts at once, whatever the devices still have to do.
        self.config.send_replace(Arc::clone(config));
    }
}

/// Whether the devices have to be taken over.
fn concerns_devices(running: &Config, changed: &Config) -> bool {
    running.devices != changed.devices || running.mqtt != changed.mqtt || running.load.mode != changed.load.mode
}

/// Keys whose change cannot be followed while the program runs: what listens on a port stays there.
fn needs_restart(running: &Config, changed: &Config) -> Vec<&'static str> {
    let embedded = |config: &Config| config.mqtt.broker == Some(DefaultBroker::Embedded);
    let mut keys = Vec::new();
    if running.http.listen != changed.http.listen {
        keys.push("http.listen");
    }
    if running.http.tls != changed.http.tls {
        keys.push("http.tls_cert, http.tls_key");
    }
    if embedded(running) != embedded(changed) {
        keys.push("mqtt.broker = \"embedded\"");
    } else if embedded(running) && running.mqtt.embedded_listen != changed.mqtt.embedded_listen {
        keys.push("mqtt.embedded_listen");
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        config::parse("test", text, &[]).unwrap()
    }

    #[test]
    fn only_ports_and_certificates_need_a_restart() {
        let running = config("[mqtt]\nbroker = \"embedded\"");
        let check = |text: &str, keys: &[&str]| assert_eq!(needs_restart(&running, &config(text)), keys, "{text}");
        check("[mqtt]\nbroker = \"embedded\"\n[site]\ntitle = \"x\"\n[load]\nmode = \"observe\"", &[]);
        check("[mqtt]\nbroker = \"embedded\"\nembedded_listen = \"127.0.0.1:9\"", &["mqtt.embedded_listen"]);
        check("[http]\nlisten = \"127.0.0.1:9\"\n[mqtt]\nbroker = \"embedded\"", &["http.listen"]);
        let tls = "[http]\ntls_cert = \"a\"\ntls_key = \"b\"\n[mqtt]\nbroker = \"embedded\"";
        check(tls, &["http.tls_cert, http.tls_key"]);
        check("[mqtt]\nbroker = \"mqtt://x\"", &["mqtt.broker = \"embedded\""]);
    }
}
