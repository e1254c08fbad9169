//! Hot reload: the configuration file and the plugin folders are watched, and what changed is passed on. A file that
//! is not well changes nothing but the log.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Options, check};
use crate::config::{self, Config, ConfigEvent, ConfigWatch, DefaultBroker, Request, SettingsError};
use crate::device::manager::Devices;
use crate::plugin::{self, PluginEvent, PluginWatch, Registry};
use crate::transport::Transports;

/// Changes that wait to be taken over. More than one is rare: both watches collect what comes together.
const WAITING: usize = 8;

/// The parts that follow a change.
pub(super) struct Followers {
    pub registry: Arc<Registry>,
    pub transports: Transports,
    pub devices: Devices,
    pub config: watch::Sender<Arc<Config>>,
}

/// The running watches; end when dropped.
pub(super) struct Reload {
    _config: Option<ConfigWatch>,
    _plugins: Option<PluginWatch>,
    task: JoinHandle<()>,
}

impl Drop for Reload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts both watches; the one over the plugin folders also loads what is there. Where the system cannot watch (no
/// such folder, too many watches), that is said once and the daemon goes on without hot reload.
pub(super) async fn start(
    options: &Options,
    plugin_dirs: &[PathBuf],
    followers: Followers,
    requests: mpsc::Receiver<Request>,
) -> Reload {
    let (config_sender, config_events) = mpsc::channel(WAITING);
    let (plugin_sender, plugin_events) = mpsc::channel(WAITING);
    let current = Config::clone(&followers.config.borrow());
    let config = config::watch(&options.config, options.overrides.clone(), current, config_sender)
        .inspect_err(|error| tracing::warn!("{} is not watched for changes: {error}", options.config.display()))
        .ok();
    let plugins = match plugin::watch(Arc::clone(&followers.registry), plugin_dirs, plugin_sender) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!("the plugin folders are not watched for changes: {error}");
            followers.load_once(plugin_dirs).await;
            None
        }
    };
    let task = tokio::spawn(follow(followers, config_events, plugin_events, requests));
    Reload { _config: config, _plugins: plugins, task }
}

async fn follow(
    followers: Followers,
    mut config: mpsc::Receiver<ConfigEvent>,
    mut plugins: mpsc::Receiver<PluginEvent>,
    mut requests: mpsc::Receiver<Request>,
) {
    loop {
        // A watch that could not be started has closed its channel; the other one goes on.
        tokio::select! {
            Some(event) = config.recv() => followers.config_event(event).await,
            Some(event) = plugins.recv() => followers.devices.plugin_event(&event),
            Some(request) = requests.recv() => {
                let _ = request.done.send(Err(SettingsError::Cannot("not yet".into())));
            }
            else => return,
        }
    }
}

impl Followers {
    async fn config_event(&self, event: ConfigEvent) {
        match event {
            ConfigEvent::Changed(config) => self.take_over(*config).await,
            ConfigEvent::Broken(errors) => {
                for error in &errors.0 {
                    tracing::error!("{error}");
                }
                tracing::error!("the configuration was not taken over; the one before stays in force");
            }
        }
    }

    /// Loads what is there now.
    async fn load_once(&self, plugin_dirs: &[PathBuf]) {
        for error in self.registry.scan(plugin_dirs).await {
            tracing::error!("{error}");
        }
        for plugin in self.registry.all() {
            self.devices.plugin_event(&PluginEvent::Loaded(plugin));
        }
    }

    async fn take_over(&self, config: Config) {
        let running = Arc::clone(&self.config.borrow());
        for key in needs_restart(&running, &config) {
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
        for error in check::unknown_types(&config, &self.registry) {
            tracing::error!("{error}");
        }
        let config = Arc::new(config);
        // Limits first: a lowered one counts at once, whatever the devices still have to do.
        self.config.send_replace(Arc::clone(&config));
        self.devices.apply(&config).await;
        tracing::info!("the changed configuration is in force");
    }
}

/// Keys whose change cannot be followed while the program runs: what listens on a port stays there.
fn needs_restart(running: &Config, changed: &Config) -> Vec<&'static str> {
    let embedded = |config: &Config| config.mqtt.broker == Some(DefaultBroker::Embedded);
    let mut keys = Vec::new();
    if running.http.listen != changed.http.listen {
        keys.push("http.listen");
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
    fn only_ports_need_a_restart() {
        let running = config("[mqtt]\nbroker = \"embedded\"");
        let check = |text: &str, keys: &[&str]| assert_eq!(needs_restart(&running, &config(text)), keys, "{text}");
        check("[mqtt]\nbroker = \"embedded\"\n[site]\ntitle = \"x\"\n[load]\nmode = \"observe\"", &[]);
        check("[mqtt]\nbroker = \"embedded\"\nembedded_listen = \"127.0.0.1:9\"", &["mqtt.embedded_listen"]);
        check("[http]\nlisten = \"127.0.0.1:9\"\n[mqtt]\nbroker = \"embedded\"", &["http.listen"]);
        check("[mqtt]\nbroker = \"mqtt://x\"", &["mqtt.broker = \"embedded\""]);
    }
}
