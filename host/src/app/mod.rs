//! The daemon: puts the parts together in the order in which they need each other, keeps them in step with the
//! configuration file and the plugin folders, and takes them apart again. Decides nothing else.

mod applier;
mod check;
mod files;
mod keeper;
mod reload;
mod schedule;
#[cfg(test)]
pub(crate) mod testing;
mod writer;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use check::{Report, check};
use files::rule_sets;
pub use files::{StateDir, definition_folders, plugin_folders};

use crate::config::{self, BrokerUrl, Config, DefaultBroker, Override, Settings};
use crate::contract::api::Api;
use crate::contract::mqtt::{self, ContractMqtt};
use crate::contract::ta_log::{self, TaLog};
use crate::contract::{SiteSource, SiteView};
use crate::control::{self, ControlHandle};
use crate::definition::outputs::{self, Failures, OutputParts, Outputs};
use crate::definition::{self, DefinitionEvent, Library};
use crate::device::http_input::Feeds;
use crate::device::installed::Services;
use crate::device::manager::{Devices, DevicesParts};
use crate::formulas::World;
use crate::modbus_server::{ModbusServer, RegisterParts, Registers};
use crate::plugin::Registry;
use crate::rules::{Assign, LiveRules, RuleFolder};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::session::{SessionParts, Sessions};
use crate::site::{Board, Clock};
use crate::store::{DriverState, Transactions, serial};
use crate::transport::{BrokerStatus, BusStatus, EmbeddedBroker, Transports};
use crate::variables::Variables;
use crate::web::{self, Tls, TlsError, WebState};

/// Exit code of a program whose configuration cannot be used (`EX_USAGE` of sysexits).
pub const EXIT_CONFIG: u8 = 64;

/// Where a site's files are, and what the command line lays over its configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `ladekern.toml`.
    pub config: PathBuf,
    /// `None`: `state/` beside the configuration.
    pub state: Option<PathBuf>,
    /// In force for this run, also across reloads of the file.
    pub overrides: Vec<Override>,
    /// Further plugin folders, after `plugins/` beside the configuration.
    pub plugins: Vec<PathBuf>,
    /// Further definition folders, after `definitions/` beside the configuration.
    pub definitions: Vec<PathBuf>,
}

/// A running daemon. [`App::stop`] leaves every device in a safe state; dropping it does not.
pub struct App {
    address: SocketAddr,
    plugin_dirs: Vec<PathBuf>,
    definition_dirs: Vec<PathBuf>,
    source: SiteSource,
    api: Api,
    transports: Transports,
    devices: Devices,
    control: ControlHandle,
    outputs: Outputs,
    contract: ContractMqtt,
    sessions: Sessions,
    ta_log: TaLog,
    modbus_server: ModbusServer,
    web: Web,
    // The folder is followed as long as this lives.
    _rule_folder: RuleFolder,
    reload: reload::Reload,
    broker: Option<EmbeddedBroker>,
    // Guests run as long as this lives.
    _runtime: Arc<Runtime>,
}

impl App {
    /// Starts everything. Returns as soon as the HTTP server listens and the devices have been told to start; no
    /// device, broker or plugin can keep it from returning. Plugins are compiled meanwhile.
    ///
    /// # Errors
    /// [`config::ConfigErrors`] (downcast it for the exit code), a state directory or a port that cannot be used.
    pub async fn start(options: &Options) -> anyhow::Result<App> {
        let (text, config) = config::load_text(&options.config, &options.overrides)?;
        let listen = config.http.listen;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("http.listen: cannot listen on {listen}"))?;
        let address = listener.local_addr()?;
        let broker = start_broker(&config).await?;
        let state = StateDir::open(options)?;
        let tls = Tls::load(&config, state.path()).map_err(|error| match error {
            TlsError::Named(error) => anyhow::Error::new(config::ConfigErrors(vec![error])),
            other => other.into(),
        })?;
        let clock = Clock::start();
        let serial: Arc<str> =
            serial(state.path()).with_context(|| format!("the serial number in {}", state.path().display()))?.into();
        let default_broker = default_broker(&config, broker.as_ref());
        let io = tokio::runtime::Handle::current();
        let transports = Transports::new(io, clock, default_broker, format!("ladekern-{serial}"));
        transports.set_broker_tls(config.mqtt.tls.clone());
        let runtime = Runtime::new(&RuntimeOptions { cache_dir: Some(state.cache()), ..RuntimeOptions::default() })?;
        let registry = Arc::new(Registry::new(Arc::clone(&runtime)));
        let plugin_dirs = plugin_folders(Some(&options.config), &options.plugins);
        let definition_dirs = definition_folders(Some(&options.config), &options.definitions);
        let definitions = open_definitions(&definition_dirs).await?;
        let board = Board::default();
        let feeds = Feeds::default();
        let driver_state = DriverState::open(state.path())?;
        let wires = Arc::new(transports.clone());
        let services = Services { wires, state: driver_state.clone(), clock, log_tap: None };
        let first = Arc::new(config);
        let (config_sender, config) = watch::channel(Arc::clone(&first));
        let world = World::new(board.clone(), config.clone(), clock);
        let parts = DevicesParts {
            registry: Arc::clone(&registry),
            plugin_dirs: plugin_dirs.clone(),
            broken: Vec::new(),
            definitions,
            definition_dirs: definition_dirs.clone(),
            world: world.clone(),
            services,
            board: board.clone(),
            feeds: feeds.clone(),
        };
        let devices = Devices::start(parts, &first).await;
        let commands = Arc::new(devices.clone());
        let session_parts = SessionParts {
            board: board.clone(),
            config: config.clone(),
            commands: commands.clone(),
            clock,
            transactions: Transactions::open(state.path())?,
        };
        let sessions = Sessions::start(session_parts);
        let restrictions = sessions.restrictions();
        let variables = Variables::new(world.clone());
        let assign: Assign = Box::new({
            let variables = variables.clone();
            move |assigned| variables.assign(assigned)
        });
        let rule_folder = RuleFolder::follow(rule_sets(&options.config)).await;
        let control = control::spawn(
            board.clone(),
            commands.clone(),
            clock,
            config.clone(),
            restrictions,
            Box::new(LiveRules::new(world.clone(), sessions.view(), rule_folder.sets(), assign)),
            world.clone(),
        );
        world.connect(control.plan(), sessions.view());
        let cycles = variables.follow(control.plan());
        let source = SiteSource::new(board, config, control.plan(), sessions.view(), clock, serial, world.variables());
        let register_parts =
            RegisterParts { source: source.clone(), sessions: sessions.clone(), commands, state: driver_state };
        let registers = Registers::start(register_parts);
        let (settings, requests) = Settings::channel();
        let output_failures = Failures::default();
        let api = Api {
            source: source.clone(),
            feeds,
            settings,
            sessions: sessions.clone(),
            devices: devices.clone(),
            transports: transports.clone(),
            changes: Arc::default(),
            registers: registers.clone(),
            variables,
            output_failures: output_failures.clone(),
        };
        let definitions = devices.definitions().clone();
        let output_parts = OutputParts {
            world,
            config: source.config.clone(),
            definitions: Arc::new(move |dev_type| definitions.get(dev_type)),
            transports: transports.clone(),
            manager: Arc::new(api.clone()),
            failures: output_failures,
        };
        let outputs = outputs::spawn(output_parts, cycles);
        let web = Web::start(listener, WebState { api: api.clone(), tls });
        let contract = mqtt::spawn(api.clone());
        let (transactions, serial) = (sessions.transactions().clone(), Arc::clone(&source.serial));
        let ta_log = ta_log::spawn(transactions, source.config.clone(), transports.clone(), serial);
        let modbus_server = ModbusServer::start(registers);
        let followers = reload::Followers {
            registry,
            transports: transports.clone(),
            devices: devices.clone(),
            config: config_sender,
        };
        let reload = reload::start(options, [&plugin_dirs, &definition_dirs], followers, text, requests).await;
        Ok(App {
            address,
            plugin_dirs,
            definition_dirs,
            source,
            api,
            transports,
            devices,
            control,
            outputs,
            contract,
            sessions,
            ta_log,
            modbus_server,
            web,
            _rule_folder: rule_folder,
            reload,
            broker,
            _runtime: runtime,
        })
    }

    /// Where the HTTP server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The embedded broker, if one runs.
    #[must_use]
    pub fn embedded_broker(&self) -> Option<BrokerUrl> {
        self.broker.as_ref().map(EmbeddedBroker::url)
    }

    /// The folders that are searched for plugins and watched.
    pub fn plugin_dirs(&self) -> impl Iterator<Item = &Path> {
        self.plugin_dirs.iter().map(PathBuf::as_path)
    }

    /// The folders that are searched for definitions and watched.
    pub fn definition_dirs(&self) -> impl Iterator<Item = &Path> {
        self.definition_dirs.iter().map(PathBuf::as_path)
    }

    /// Configuration, devices and plan at this moment.
    #[must_use]
    pub fn view(&self) -> SiteView {
        self.source.view()
    }

    /// The commands of the contract, as HTTP and MQTT call them.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api.clone()
    }

    /// All devices.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The Modbus buses in use.
    #[must_use]
    pub fn buses(&self) -> Vec<BusStatus> {
        self.transports.buses()
    }

    /// Where the Modbus server listens: for the wallbox and for the two meters.
    #[must_use]
    pub fn modbus_addresses(&self) -> watch::Receiver<[Option<SocketAddr>; 3]> {
        self.modbus_server.addresses()
    }

    /// The brokers in use.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerStatus> {
        self.transports.brokers()
    }

    /// Writes what has changed, ends control as `load.disable_policy` says, closes the devices, says goodbye to
    /// brokers and clients.
    pub async fn stop(self) {
        self.reload.stop().await;
        drop(self.modbus_server);
        self.control.shutdown().await;
        // While the devices and the API they may go through are still there.
        self.outputs.shutdown().await;
        // Ends control over `ctl`, and fed wallboxes read their last order from what it publishes.
        self.contract.shutdown().await;
        self.sessions.shutdown().await;
        self.devices.shutdown().await;
        // What the broker has not acknowledged by now is sent at the next start.
        drop(self.ta_log);
        self.web.stop().await;
        self.transports.shutdown().await;
        if let Some(broker) = self.broker {
            broker.stop().await;
        }
    }
}

/// The running HTTP server.
struct Web {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Web {
    fn start(listener: TcpListener, state: WebState) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            // An error means that the app has gone without a word; then there is nothing left to show.
            let shutdown = async move { drop(stopped.await) };
            if let Err(error) = web::serve(listener, state, shutdown).await {
                tracing::error!("the HTTP server broke down: {error}");
            }
        });
        Self { stop, task }
    }

    async fn stop(self) {
        // An error means that the server has ended already.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// All definitions there are; the log says how many, and what is wrong with a file.
async fn open_definitions(dirs: &[PathBuf]) -> anyhow::Result<Library> {
    let dirs = dirs.to_vec();
    let (library, events) = tokio::task::spawn_blocking(move || Library::open(&dirs)).await?;
    let (loaded, others): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| matches!(event, DefinitionEvent::Loaded(_)));
    if !loaded.is_empty() {
        tracing::info!("{} definitions of devices", loaded.len());
    }
    others.into_iter().for_each(definition::tell);
    Ok(library)
}

async fn start_broker(config: &Config) -> anyhow::Result<Option<EmbeddedBroker>> {
    if config.mqtt.broker != Some(DefaultBroker::Embedded) {
        return Ok(None);
    }
    let broker = EmbeddedBroker::start(config.mqtt.embedded_listen).await.context("mqtt.embedded_listen")?;
    Ok(Some(broker))
}

fn default_broker(config: &Config, embedded: Option<&EmbeddedBroker>) -> Option<BrokerUrl> {
    match &config.mqtt.broker {
        Some(DefaultBroker::Url(url)) => Some(url.clone()),
        Some(DefaultBroker::Embedded) => embedded.map(EmbeddedBroker::url),
        None => None,
    }
}
