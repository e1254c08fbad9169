//! Hot reload: the configuration file and the folders of plugins and definitions are watched, and what changed, in the file or by a
//! command, is passed on. A file that is not well changes nothing but the log.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::applier::Applier;
use super::keeper::Keeper;
use super::writer::{Arrivals, Follow, Waiting, Writer};
use super::{Options, check};
use crate::config::file::ConfigFile;
use crate::config::{self, Config, ConfigWatch, DefaultBroker, Requests};
use crate::definition::{self, DefinitionWatch};
use crate::device::manager::Devices;
use crate::plugin::{self, PluginEvent, PluginWatch, Registry};
use crate::transport::Transports;

/// Plugin changes that wait to be passed on. More than one is rare: the watch collects what comes together.
const WAITING: usize = 8;

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
    _definitions: Option<DefinitionWatch>,
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

/// Starts all watches; the one over the plugin folders also loads what is there. Where the system cannot watch (no
/// such folder, too many watches), that is said once and the daemon goes on without hot reload. `text` is what the
/// running configuration was read from.
pub(super) async fn start(
    options: &Options,
    [plugin_dirs, definition_dirs]: [&[PathBuf]; 2],
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
    let definition_watch = watch_definitions(definition_dirs, followers.devices.clone())
        .inspect_err(|error| tracing::warn!("the definition folders are not watched for changes: {error}"))
        .ok();
    let file = options.config.display().to_string();
    let running = Config::clone(&followers.config.borrow());
    let keeper = Keeper::new(file.clone(), options.overrides.clone(), text, running);
    let disk = Arc::new(ConfigFile(options.config.clone()));
    let followers = Following { applier: Applier::start(followers.devices.clone()), followers };
    let writer = Writer::new(file, keeper, disk, requests.writes, followers);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(writer.run(Arrivals { looks, plugins, requests: requests.requests, stopped }));
    let (_config, _plugins, _definitions) = (config_watch, plugin_watch, definition_watch);
    Reload { _config, _plugins, _definitions, stop: Some(stop), task }
}

/// Ends with the watch.
fn watch_definitions(dirs: &[PathBuf], devices: Devices) -> Result<DefinitionWatch, notify::Error> {
    let (sender, mut events) = mpsc::channel(WAITING);
    let watch = definition::watch(devices.definitions().clone(), dirs, sender)?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            devices.definition_event(&event);
        }
    });
    Ok(watch)
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
            for error in check::unknown_types(config, &self.registry, self.devices.definitions()) {
                tracing::error!("{error}");
            }
        }
        // Limits first: a lowered one counts at once, whatever the devices still have to do.
        self.config.send_replace(Arc::clone(config));
    }
}

/// The followers at work.
struct Following {
    followers: Followers,
    applier: Applier,
}

impl Follow for Following {
    fn running(&self) -> Arc<Config> {
        Arc::clone(&self.followers.config.borrow())
    }

    fn follow(&self, running: &Config, config: Arc<Config>, waiting: Option<Waiting>) {
        self.followers.tell(running, &config);
        if concerns_devices(running, &config) {
            self.applier.apply(config, waiting);
        } else {
            // Whoever has gone does not want to know.
            waiting.into_iter().for_each(|waiting| _ = waiting.send(Ok(())));
        }
    }

    fn plugin_event(&self, event: &PluginEvent) {
        self.followers.devices.plugin_event(event);
    }

    async fn stop(self) {
        self.applier.stop().await;
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
