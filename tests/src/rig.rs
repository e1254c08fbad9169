//! Everything of the host between plugin folders and the board, without the daemon around it: registry, watch,
//! transports, devices. And a wallbox for the counting guest, which sees what really reaches the wire.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed unwrap is a failed assertion")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ladekern::config;
use ladekern::definition::{self, DefinitionWatch, Library};
use ladekern::device::http_input::Feeds;
use ladekern::device::{Devices, DevicesParts, Services};
use ladekern::formulas::World;
use ladekern::plugin::{self, COMPONENT_FILE, MANIFEST_FILE, PluginWatch, Registry};
use ladekern::runtime::{Runtime, RuntimeOptions};
use ladekern::site::{Board, Clock, DeviceId, DeviceStatus};
use ladekern::store::DriverState;
use ladekern::transport::Transports;
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve};
use ladekern_sim::net::{Control, Server};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::SOON;
use crate::guests::guest_dir;

/// A host with its devices, in this process.
pub struct Rig {
    /// Below it lie the plugin folders in `plugins/`, and definitions in `definitions/` and then `supplied/`.
    pub root: tempfile::TempDir,
    /// The devices.
    pub devices: Devices,
    /// What they say.
    pub board: Board,
    /// The plugins.
    pub registry: Arc<Registry>,
    /// The wires.
    pub transports: Transports,
    _watch: PluginWatch,
    _definition_watch: DefinitionWatch,
}

impl Rig {
    /// Starts the devices of a configuration. `install` fills the plugin folder before.
    ///
    /// # Panics
    /// If the configuration is wrong or the system refuses something.
    pub async fn start(text: &str, install: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        let plugins = root.path().join("plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        install(&plugins);
        let dirs = vec![plugins];
        let cache_dir = Some(crate::root().join("target/tmp/compiled-guests"));
        let runtime = Runtime::new(&RuntimeOptions { cache_dir, guest_threads: 1 }).unwrap();
        let registry = Arc::new(Registry::new(runtime));
        let broken = registry.scan(&dirs).await;
        let definition_dirs = vec![root.path().join("definitions"), root.path().join("supplied")];
        let (library, _) = Library::open(&definition_dirs);
        let (board, clock) = (Board::default(), Clock::start());
        let transports = Transports::new(Handle::current(), clock, None, "ladekern-test".into());
        let services = Services {
            wires: Arc::new(transports.clone()),
            state: DriverState::in_memory().unwrap(),
            clock,
            log_tap: None,
        };
        let config = Arc::new(parse(text));
        let parts = DevicesParts {
            registry: Arc::clone(&registry),
            plugin_dirs: dirs.clone(),
            broken,
            definitions: library.clone(),
            definition_dirs: definition_dirs.clone(),
            world: World::new(board.clone(), watch::channel(Arc::clone(&config)).1, clock),
            services,
            board: board.clone(),
            feeds: Feeds::default(),
        };
        let devices = Devices::start(parts, &config).await;
        let (sender, mut events) = mpsc::channel(16);
        let plugin_watch = plugin::watch(Arc::clone(&registry), &dirs, sender).unwrap();
        let told = devices.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                told.plugin_event(&event);
            }
        });
        let (sender, mut events) = mpsc::channel(16);
        let definition_watch = definition::watch(library, &definition_dirs, sender).unwrap();
        let told = devices.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                told.definition_event(&event);
            }
        });
        Self { root, devices, board, registry, transports, _watch: plugin_watch, _definition_watch: definition_watch }
    }

    /// Goes over to another configuration.
    ///
    /// # Panics
    /// If it is wrong.
    pub async fn apply(&self, text: &str) {
        self.devices.apply(&parse(text)).await;
    }

    /// Where plugins are installed.
    #[must_use]
    pub fn plugins(&self) -> PathBuf {
        self.root.path().join("plugins")
    }

    /// The present status of a device.
    ///
    /// # Panics
    /// If there is no such device.
    #[must_use]
    pub fn status(&self, id: &str) -> DeviceStatus {
        self.board.device(&device_id(id)).unwrap_or_else(|| panic!("{id} is not on the board"))
    }

    /// The count that the counting guest says.
    #[must_use]
    pub fn count(&self, id: &str) -> u64 {
        count(&self.status(id))
    }

    /// Waits until the status of a device is as wished.
    ///
    /// # Panics
    /// If it is not within [`SOON`]; says what it was instead.
    pub async fn wait(&self, id: &str, what: &str, wished: impl Fn(&DeviceStatus) -> bool) -> DeviceStatus {
        let mut changes = self.board.changes();
        let found = tokio::time::timeout(SOON, async {
            loop {
                changes.borrow_and_update();
                if let Some(status) = self.board.device(&device_id(id)).filter(&wished) {
                    return status;
                }
                changes.changed().await.expect("the board lives");
            }
        });
        match found.await {
            Ok(status) => status,
            Err(_) => panic!("{id}: not {what} within {SOON:?}, but {:#?}", self.board.device(&device_id(id))),
        }
    }

    /// Waits for `more` further counts.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn goes_on(&self, id: &str, more: u64) {
        let goal = self.count(id) + more;
        self.wait(id, &format!("at count {goal}"), |status| count(status) >= goal).await;
    }
}

/// The id of a device.
///
/// # Panics
/// If it is none.
#[must_use]
pub fn device_id(id: &str) -> DeviceId {
    id.parse().unwrap()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the guest counts from 0 in whole steps")]
fn count(status: &DeviceStatus) -> u64 {
    status.values.get("energy.import").map_or(0, |count| count.value as u64)
}

fn parse(text: &str) -> config::Config {
    config::parse("ladekern.toml", text, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A wallbox made of a few holding registers, see the manifest of the counting guest.
pub struct CounterBox {
    /// Its registers and what was written to them.
    pub bank: Arc<Bank>,
    /// Its switches; counts connections and requests.
    pub control: Control,
    server: Server,
}

impl CounterBox {
    /// Listens on a free port.
    ///
    /// # Panics
    /// If there is none.
    pub async fn start() -> Self {
        let bank = Arc::new(Bank::new().with(Table::Holding, 0, &[230, 0, 0, 0, 0, 0]));
        let control = Control::default();
        let bus = Bus::new().with(1, bank.clone());
        let server = serve(([127, 0, 0, 1], 0).into(), Framing::Tcp, bus, control.clone()).await.unwrap();
        Self { bank, control, server }
    }

    /// Its address in a configuration.
    #[must_use]
    pub fn url(&self) -> String {
        format!("tcp://{}", self.server.address())
    }

    /// Entry `id` of a configuration, with further lines.
    #[must_use]
    pub fn entry(&self, id: &str, more: &str) -> String {
        format!("[[device]]\nid = \"{id}\"\ntype = \"counter\"\naddress = \"{}\"\npoll_ms = 200\n{more}\n", self.url())
    }

    /// Whether a driver closed it: the counting guest writes register 3.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.bank.writes().iter().any(|(address, _)| *address == 3)
    }
}

/// A version of the counting guest: the same program, made to behave by the default of its configuration. Replaced
/// file by file with a rename, as installers do.
///
/// # Panics
/// If it is not built or cannot be written.
pub fn install_counter(plugins: &Path, version: &str, behave: &str) {
    let built = guest_dir("counter");
    let manifest = std::fs::read_to_string(built.join(MANIFEST_FILE)).unwrap();
    let edited = manifest
        .replace("version = \"1.0.0\"", &format!("version = \"{version}\""))
        .replace("default = \"well\"", &format!("default = \"{behave}\""));
    let component = marked(std::fs::read(built.join(COMPONENT_FILE)).unwrap(), version);
    put(plugins, COMPONENT_FILE, &component);
    put(plugins, MANIFEST_FILE, edited.as_bytes());
}

/// Puts one file into the folder of the counting guest.
///
/// # Panics
/// If it cannot be written.
pub fn put(plugins: &Path, name: &str, content: &[u8]) {
    let folder = plugins.join("counter");
    std::fs::create_dir_all(&folder).unwrap();
    let temporary = folder.join(format!(".{name}"));
    std::fs::write(&temporary, content).unwrap();
    std::fs::rename(temporary, folder.join(name)).unwrap();
}

/// The same component with another digest: a custom section (id 0, size, name) at its end changes nothing else.
#[must_use]
pub fn marked(mut component: Vec<u8>, mark: &str) -> Vec<u8> {
    // Sizes below 128 are one byte in LEB128.
    let name: Vec<u8> = mark.bytes().take(100).collect();
    let length = u8::try_from(name.len()).unwrap_or_default();
    component.extend([0, length + 1, length]);
    component.extend(name);
    component
}
