//! All devices of the site: starts a task for each, follows the configuration and the plugin folders, and hands
//! commands to the right one. Knows no device's meaning and never waits for one while another wants something.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::guest::Plugged;
use super::http_input::{Feeds, HttpInput};
use super::installed::{Installed, Services};
use super::mailbox::Request;
use super::supervision::random_jitter;
use super::task::{DeviceMailbox, Rebinding, Task, TaskParts};
use crate::config::{BrokerRef, Config, DeviceConfig, EndpointUrl, HTTP_INPUT, LoadMode};
use crate::definition::device::{Described, Parts};
use crate::definition::{self, DefinitionEvent, DefinitionFile, Library};
use crate::formulas::World;
use crate::plugin::{Plugin, PluginError, PluginEvent, Registry};
use crate::site::{Board, Command, CommandError, Commands, DeviceId};

/// How long a device may take to be left in a safe state: the call that is under way, and `close` itself (3 s).
pub const STOP_WITHIN: Duration = Duration::from_secs(4);

/// What devices are made of.
pub struct DevicesParts {
    /// The plugins.
    pub registry: Arc<Registry>,
    /// Where plugins are looked for; named to users whose plugin is not there.
    pub plugin_dirs: Vec<PathBuf>,
    /// What the first look at the plugin folders found unusable.
    pub broken: Vec<PluginError>,
    /// The definitions.
    pub definitions: Library,
    /// Where definitions are looked for; named to users whose definition is not there.
    pub definition_dirs: Vec<PathBuf>,
    /// What formulas of definitions see of the site.
    pub world: World,
    /// Wires, driver state and clock.
    pub services: Services,
    /// Where all devices publish.
    pub board: Board,
    /// Where fed devices are found by whoever owns the wire.
    pub feeds: Feeds,
}

/// All devices; cheap to clone.
#[derive(Clone)]
pub struct Devices {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Arc<Registry>,
    plugin_dirs: Vec<PathBuf>,
    definitions: Library,
    definition_dirs: Vec<PathBuf>,
    world: World,
    /// Where devices without guest code run: a plugin that spins does not delay them.
    io: Handle,
    services: Services,
    board: Board,
    feeds: Feeds,
    entries: Mutex<BTreeMap<DeviceId, Entry>>,
    /// Why plugins that somebody wants cannot be used, by id.
    broken: Mutex<BTreeMap<String, String>>,
    /// What is in force. Held over a whole change: two changes at once would both stop and start.
    applied: tokio::sync::Mutex<Option<Config>>,
}

/// One running device.
struct Entry {
    device: DeviceConfig,
    kind: Kind,
}

enum Kind {
    Driven {
        mailbox: DeviceMailbox,
        task: JoinHandle<()>,
        /// It runs where definitions do, not where guests do.
        described: bool,
    },
    Input(Arc<HttpInput>),
}

/// One device, for whoever wants more than to command it.
#[derive(Clone)]
pub struct DeviceHandle(Reach);

#[derive(Clone)]
enum Reach {
    Driven(DeviceMailbox),
    Input(Arc<HttpInput>),
}

impl Devices {
    /// Starts every device of `config`. None of them can keep this from returning: what cannot work is said on the
    /// board.
    pub async fn start(parts: DevicesParts, config: &Config) -> Self {
        let name = |error: &PluginError| error.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let broken = parts.broken.iter().map(|error| (name(error), error.to_string())).collect();
        let inner = Inner {
            registry: parts.registry,
            plugin_dirs: parts.plugin_dirs,
            definitions: parts.definitions,
            definition_dirs: parts.definition_dirs,
            world: parts.world,
            io: Handle::current(),
            services: parts.services,
            board: parts.board,
            feeds: parts.feeds,
            entries: Mutex::default(),
            broken: Mutex::new(broken),
            applied: tokio::sync::Mutex::default(),
        };
        let devices = Self { inner: Arc::new(inner) };
        devices.apply(config).await;
        devices
    }

    /// Goes over to another configuration: what did not change is left alone, what is gone is closed, what is new is
    /// started, and a changed binding restarts that device only. The transports must know the new default broker
    /// before.
    pub async fn apply(&self, config: &Config) {
        let mut applied = self.inner.applied.lock().await;
        let other_broker = applied.as_ref().is_some_and(|old| old.mqtt.broker != config.mqtt.broker);
        let wanted: BTreeMap<&DeviceId, &DeviceConfig> =
            config.devices.iter().filter(|device| device.enabled).map(|device| (&device.id, device)).collect();
        self.inner.registry.allow_wasi_sizes(wanted.values().any(|device| device.wasi));
        // First all that end, so that no new device competes with an old one for a line.
        let ending = {
            let mut entries = self.inner.entries();
            let gone: Vec<DeviceId> = entries
                .iter()
                .filter(|(id, entry)| wanted.get(id).is_none_or(|device| !entry.can_become(device)))
                .map(|(id, _)| id.clone())
                .collect();
            gone.into_iter().filter_map(|id| Some((id.clone(), entries.remove(&id)?))).collect()
        };
        self.stop_all(ending).await;
        let mut entries = self.inner.entries();
        for (id, device) in wanted {
            match entries.get_mut(id) {
                Some(entry) => entry.change(device, other_broker && uses_default_broker(device)),
                None => {
                    entries.insert(id.clone(), self.inner.begin(device, config));
                }
            }
        }
        drop(entries);
        *applied = Some(config.clone());
    }

    /// Tells the devices concerned what happened in the plugin folders. A definition of the same name goes before.
    pub fn plugin_event(&self, event: &PluginEvent) {
        let inner = &self.inner;
        match event {
            PluginEvent::Loaded(plugin) => {
                inner.broken().remove(plugin.id());
                let plugged = inner.plug(Arc::clone(plugin));
                inner.tell(plugin.id(), false, |mailbox| mailbox.push(Request::Swap(Arc::clone(&plugged))));
                self.rehouse(plugin.id());
            }
            PluginEvent::Broken { id, error } => {
                inner.broken().insert(id.clone(), error.to_string());
                inner.tell(id, false, |mailbox| mailbox.push(Request::Spoiled(error.to_string())));
            }
            PluginEvent::Removed { id } => {
                inner.broken().remove(id);
                let reason = inner.missing(id);
                inner.tell(id, false, |mailbox| mailbox.push(Request::Lose(reason.clone())));
            }
        }
    }

    /// Tells the devices concerned what happened in the definition folders.
    pub fn definition_event(&self, event: &DefinitionEvent) {
        let inner = &self.inner;
        match event {
            DefinitionEvent::Loaded(file) => {
                let plugged = inner.describe(Arc::clone(file));
                let dev_type = &file.definition.dev_type;
                inner.tell(dev_type, true, |mailbox| mailbox.push(Request::Swap(Arc::clone(&plugged))));
                self.rehouse(dev_type);
            }
            DefinitionEvent::Broken { dev_type: Some(dev_type), findings, .. } => {
                let reason = definition::sentence(findings);
                inner.tell(dev_type, true, |mailbox| mailbox.push(Request::Spoiled(reason.clone())));
                if inner.registry.get(dev_type).is_none() {
                    // It waits for a driver of this name: now it is known what keeps it waiting.
                    inner.tell(dev_type, false, |mailbox| mailbox.push(Request::Spoiled(reason.clone())));
                }
            }
            // No device knows of a file that does not say what it describes.
            DefinitionEvent::Broken { dev_type: None, .. } => {}
            DefinitionEvent::Removed { dev_type } => {
                if inner.registry.get(dev_type).is_some() {
                    self.rehouse(dev_type);
                } else {
                    let reason = inner.missing(dev_type);
                    inner.tell(dev_type, true, |mailbox| mailbox.push(Request::Lose(reason.clone())));
                }
            }
        }
    }

    /// Starts devices anew that run where guests do and now have a definition, and the other way round.
    fn rehouse(&self, dev_type: &str) {
        if self.inner.misplaced(dev_type).is_empty() {
            return;
        }
        let (devices, dev_type) = (self.clone(), dev_type.to_owned());
        self.inner.io.spawn(async move {
            // After a change of the configuration that is under way.
            let applied = devices.inner.applied.lock().await;
            let Some(config) = &*applied else { return };
            let misplaced = devices.inner.misplaced(&dev_type);
            let ending = {
                let mut entries = devices.inner.entries();
                misplaced.into_iter().filter_map(|id| Some((id.clone(), entries.remove(&id)?))).collect::<Vec<_>>()
            };
            let ids: Vec<DeviceId> = ending.iter().map(|(id, _)| id.clone()).collect();
            devices.stop_all(ending).await;
            for device in config.devices.iter().filter(|device| ids.contains(&device.id)) {
                let entry = devices.inner.begin(device, config);
                devices.inner.entries().insert(device.id.clone(), entry);
            }
        });
    }

    /// One running device.
    #[must_use]
    pub fn handle(&self, id: &DeviceId) -> Option<DeviceHandle> {
        self.inner.entries().get(id).map(|entry| {
            DeviceHandle(match &entry.kind {
                Kind::Driven { mailbox, .. } => Reach::Driven(mailbox.clone()),
                Kind::Input(input) => Reach::Input(Arc::clone(input)),
            })
        })
    }

    /// The plugins that are loaded.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.inner.registry.all()
    }

    /// The definitions that are in force.
    #[must_use]
    pub fn definitions(&self) -> &Library {
        &self.inner.definitions
    }

    /// The devices that are fed.
    #[must_use]
    pub fn feeds(&self) -> &Feeds {
        &self.inner.feeds
    }

    /// Closes all devices at the same time and waits for them, each at most [`STOP_WITHIN`]. They leave the board.
    pub async fn shutdown(&self) {
        let _applied = self.inner.applied.lock().await;
        let ending = std::mem::take(&mut *self.inner.entries()).into_iter().collect();
        self.stop_all(ending).await;
    }

    async fn stop_all(&self, ending: Vec<(DeviceId, Entry)>) {
        let mut stopping = JoinSet::new();
        for (id, entry) in ending {
            match entry.kind {
                Kind::Input(_) => self.inner.feeds.remove(&id),
                Kind::Driven { mailbox, task, .. } => {
                    stopping.spawn(stop(id, mailbox, task));
                }
            }
        }
        while let Some(stopped) = stopping.join_next().await {
            if let Err(error) = stopped {
                tracing::error!(%error, "a device broke down while it was closed");
            }
        }
    }
}

impl Commands for Devices {
    fn command<'a>(
        &'a self,
        device: &'a DeviceId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
        Box::pin(async move {
            match self.handle(device) {
                Some(handle) => handle.command(command).await,
                None => Err(CommandError::NotRunning(format!("there is no enabled device {device}"))),
            }
        })
    }
}

impl DeviceHandle {
    /// Hands in a command and waits for its answer. Cancel-safe: the command is carried out all the same.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        match &self.0 {
            Reach::Driven(mailbox) => mailbox.command(command).await,
            Reach::Input(input) => input.command(command),
        }
    }

    /// Polls it now, beside its interval.
    pub fn poll(&self) {
        if let Reach::Driven(mailbox) = &self.0 {
            mailbox.push(Request::Poll);
        }
    }

    /// Starts its driver again, also out of quarantine.
    pub fn retry(&self) {
        if let Reach::Driven(mailbox) = &self.0 {
            mailbox.push(Request::Retry);
        }
    }
}

impl Inner {
    fn begin(&self, device: &DeviceConfig, config: &Config) -> Entry {
        let status = self.board.register(device.id.clone());
        let clock = self.services.clock;
        let kind = if device.device_type == HTTP_INPUT {
            let managed = config.load.mode == LoadMode::Manage && device.circuit.is_some();
            let input = Arc::new(HttpInput::new(status, clock, device, managed));
            self.feeds.insert(Arc::clone(&input));
            Kind::Input(input)
        } else {
            let dev_type = &device.device_type;
            let (plugin, described) = match (self.definitions.get(dev_type), self.registry.get(dev_type)) {
                (Some(file), _) => (Ok(self.describe(file)), true),
                (None, Some(plugin)) => (Ok(self.plug(plugin)), false),
                (None, None) => (Err(self.missing(dev_type)), false),
            };
            // What is in force now is not what its file says since.
            let refused =
                if described { self.definitions.broken(dev_type) } else { self.broken().get(dev_type).cloned() };
            status.update(|status| status.update_failed = refused.filter(|_| plugin.is_ok()));
            let parts = TaskParts { device: device.clone(), plugin, status, clock, jitter: random_jitter() };
            let (task, mailbox) = Task::new(parts);
            let runtime = if described { &self.io } else { self.registry.runtime().guests() };
            Kind::Driven { mailbox, task: runtime.spawn(task.run()), described }
        };
        Entry { device: device.clone(), kind }
    }

    fn plug(&self, plugin: Arc<Plugin>) -> Plugged {
        Arc::new(Installed::new(plugin, self.services.clone()))
    }

    fn describe(&self, file: Arc<DefinitionFile>) -> Plugged {
        let Services { wires, clock, .. } = &self.services;
        Arc::new(Described::new(file, Parts { wires: Arc::clone(wires), clock: *clock, world: self.world.clone() }))
    }

    /// Why there is neither a definition nor a plugin of this name.
    fn missing(&self, id: &str) -> String {
        let broken = self.definitions.broken(id).or_else(|| self.broken().get(id).cloned());
        broken.unwrap_or_else(|| {
            let list = |dirs: &[PathBuf]| match dirs {
                [] => "any folder".to_owned(),
                dirs => dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "),
            };
            let (plugins, definitions) = (list(&self.plugin_dirs), list(&self.definition_dirs));
            format!("no plugin \"{id}\" in {plugins}, and no definition of \"{id}\" in {definitions}")
        })
    }

    /// Devices of a type that a definition describes now and that do not run where definitions do, and the other way
    /// round. One that waits for either may wait anywhere.
    fn misplaced(&self, dev_type: &str) -> Vec<DeviceId> {
        let definition = self.definitions.get(dev_type).is_some();
        let plugin = self.registry.get(dev_type).is_some();
        let entries = self.entries();
        let misplaced = entries.iter().filter(|(_, entry)| match entry.kind {
            Kind::Driven { described, .. } if entry.device.device_type == dev_type => {
                if described {
                    !definition && plugin
                } else {
                    definition
                }
            }
            _ => false,
        });
        misplaced.map(|(id, _)| id.clone()).collect()
    }

    fn tell(&self, driver: &str, definitions: bool, say: impl Fn(&DeviceMailbox) -> bool) {
        for entry in self.entries().values().filter(|entry| entry.device.device_type == driver) {
            if let Kind::Driven { mailbox, described, .. } = &entry.kind
                && *described == definitions
            {
                say(mailbox);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Entry>> {
        // Each change of the map is complete before anything could panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever forgets to shut down leaves no task behind that talks to a device nobody knows of.
        for entry in self.entries().values() {
            if let Kind::Driven { task, .. } = &entry.kind {
                task.abort();
            }
        }
    }
}

impl Entry {
    /// Whether the running device can take over the changed entry, or has to make way for another one.
    fn can_become(&self, device: &DeviceConfig) -> bool {
        let same_type = self.device.device_type == device.device_type;
        match self.kind {
            Kind::Driven { .. } => same_type,
            // A fed device has nothing to lose but its values, and no way to change.
            Kind::Input(_) => same_type && self.device.timeout == device.timeout && self.device.max_ma == device.max_ma,
        }
    }

    fn change(&mut self, device: &DeviceConfig, rewire: bool) {
        if self.device == *device && !rewire {
            return;
        }
        self.device = device.clone();
        if let Kind::Driven { mailbox, .. } = &self.kind {
            mailbox.push(Request::Reconfigure(Rebinding { device: device.clone(), rewire }));
        }
    }
}

fn uses_default_broker(device: &DeviceConfig) -> bool {
    device.endpoints.values().any(|endpoint| endpoint.url == EndpointUrl::Mqtt(BrokerRef::Default))
}

async fn stop(id: DeviceId, mailbox: DeviceMailbox, mut task: JoinHandle<()>) {
    let (stopped, closed) = oneshot::channel();
    mailbox.push(Request::Stop(stopped));
    let ended = tokio::time::timeout(STOP_WITHIN, async {
        // An error means that the task ended without serving the request, which is an end as well.
        let _ = closed.await;
        (&mut task).await
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(device = %id, %error, "the device's task broke down"),
        Err(_elapsed) => {
            tracing::warn!(device = %id, "not closed within {} s, given up", STOP_WITHIN.as_secs());
            task.abort();
            // Its place on the board must be free before another one takes it.
            let _ = task.await;
        }
    }
}
