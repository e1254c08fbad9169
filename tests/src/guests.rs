//! What the tests of guests share: the guest that misbehaves on request, fake wires for it, and components that are
//! made of it by appending what no compiler would write.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed unwrap is a failed assertion")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ladekern::capability::LogLine;
use ladekern::plugin::{COMPONENT_FILE, MANIFEST_FILE, Plugin, PluginError, Registry};
use ladekern::runtime::{CallError, DeviceContext, Instance, Limits, Runtime, RuntimeOptions};
use ladekern::site::Clock;
use ladekern::store::DriverState;
use ladekern::transport::{
    Block, BoxFuture, Endpoint, Endpoints, Http, HttpError, HttpRequest, HttpResponse, Inbox, Modbus, ModbusError,
    Mqtt, MqttError, Overflow, Qos,
};
use tokio::sync::OnceCell;

/// One runtime for all tests of a process; what it compiled stays for the next run.
///
/// # Panics
/// If the engine cannot start.
pub async fn registry() -> &'static Registry {
    static REGISTRY: OnceCell<Registry> = OnceCell::const_new();
    REGISTRY
        .get_or_init(|| async {
            let cache_dir = Some(crate::root().join("target/tmp/compiled-guests"));
            Registry::new(Runtime::new(&RuntimeOptions { cache_dir, guest_threads: 1 }).unwrap())
        })
        .await
}

/// The folder of a built guest.
///
/// # Panics
/// If `cargo xtask build-plugins` has not run.
#[must_use]
pub fn guest_dir(name: &str) -> PathBuf {
    let dir = crate::dist().join("guests").join(name);
    assert!(dir.join(COMPONENT_FILE).is_file(), "{} is missing: run `cargo xtask build-plugins`", dir.display());
    dir
}

/// The guest that breaks the limit its configuration names.
///
/// # Panics
/// If it is not built or does not load.
pub async fn misbehave() -> Arc<Plugin> {
    static PLUGIN: OnceCell<Arc<Plugin>> = OnceCell::const_new();
    let load = || async { registry().await.load_dir(&guest_dir("misbehave")).await.unwrap() };
    PLUGIN.get_or_init(load).await.clone()
}

/// A device with the id E1 and fake wires on the slots `main`, `web` and `broker`.
#[derive(Clone)]
pub struct Device {
    /// What its instances get.
    pub context: DeviceContext,
    /// What they logged.
    pub lines: Arc<Mutex<Vec<LogLine>>>,
}

impl Default for Device {
    fn default() -> Self {
        Self::with(|_| {})
    }
}

impl Device {
    /// A device with limits that differ from the defaults.
    ///
    /// # Panics
    /// Never in practice: "E1" is an id and SQLite has memory.
    #[must_use]
    pub fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let lines: Arc<Mutex<Vec<LogLine>>> = Arc::default();
        let seen = lines.clone();
        let endpoints: Endpoints = BTreeMap::from([
            ("main".to_owned(), Endpoint::Modbus(Arc::new(FakeModbus))),
            ("web".to_owned(), Endpoint::Http(Arc::new(FakeHttp))),
            ("broker".to_owned(), Endpoint::Mqtt(Arc::new(FakeMqtt))),
        ]);
        let context = DeviceContext {
            device: "E1".parse().unwrap(),
            endpoints,
            limits,
            inbox: Inbox::new(Overflow::NewestPerTopic, 16),
            state: DriverState::in_memory().unwrap(),
            clock: Clock::start(),
            log_tap: Some(Arc::new(move |line: &LogLine| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
            })),
            wasi: false,
        };
        Self { context, lines }
    }

    /// A started and opened instance of the misbehaving guest.
    ///
    /// # Errors
    /// If `open` is where it misbehaves.
    ///
    /// # Panics
    /// If the guest is not built.
    pub async fn open(&self, what: &str, n: usize) -> Result<Instance, CallError> {
        let mut instance = Instance::start(&misbehave().await, self.context.clone()).await?;
        instance.open(&serde_json::json!({ "do": what, "n": n }).to_string()).await?;
        Ok(instance)
    }

    /// Everything logged so far, one message a line.
    #[must_use]
    pub fn log(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("{}\n", line.message)).collect()
    }
}

struct FakeModbus;

impl Modbus for FakeModbus {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        Box::pin(async move { Ok(vec![7; block.count.into()]) })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        Box::pin(async move { blocks.into_iter().map(|block| Ok(vec![7; block.count.into()])).collect() })
    }

    fn write_coil(&self, _: u16, _: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Err(ModbusError::Denied("the binding is read-only".into())) })
    }

    fn write_register(&self, _: u16, _: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Ok(()) })
    }

    fn write_registers(&self, _: u16, _: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Answers `/big` with 300 KiB, whatever the limit says: the host must not rely on the wire to hold it.
struct FakeHttp;

impl Http for FakeHttp {
    fn send(&self, request: HttpRequest, _: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        let body = vec![b'x'; if request.path == "/big" { 300 * 1024 } else { 2 }];
        Box::pin(async move { Ok(HttpResponse { status: 200, headers: vec![], body }) })
    }
}

struct FakeMqtt;

impl Mqtt for FakeMqtt {
    fn subscribe(&self, _: String, _: Qos, inbox: Inbox) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async move {
            inbox.push(ladekern::transport::Message {
                endpoint: "broker".into(),
                topic: "hello".into(),
                payload: Bytes::from_static(b"world"),
                retained: false,
                at: ladekern::site::Moment(1),
                reply_to: None,
            });
            Ok(())
        })
    }

    fn publish(&self, _: String, _: Bytes, _: Qos, _: bool) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async { Ok(()) })
    }
}

// === Components made in the test ===

/// The misbehaving guest with further items at the end of its component, written in WebAssembly text.
///
/// # Panics
/// If the text is no WebAssembly.
#[must_use]
pub fn misbehave_and(more: &str) -> Vec<u8> {
    let bytes = std::fs::read(guest_dir("misbehave").join(COMPONENT_FILE)).unwrap();
    let text = wasmprinter::print_bytes(bytes).unwrap();
    let body = text.trim_end().strip_suffix(')').unwrap();
    wat::parse_str(format!("{body}\n{more}\n)")).unwrap_or_else(|error| panic!("{error}"))
}

/// A folder with a plugin of these files; the manifest is that of the misbehaving guest under another id.
///
/// # Panics
/// If the folder cannot be written.
#[must_use]
pub fn plugin_dir(parent: &Path, id: &str, component: &[u8]) -> PathBuf {
    let manifest = std::fs::read_to_string(guest_dir("misbehave").join(MANIFEST_FILE)).unwrap();
    let manifest = manifest.replace("id = \"misbehave\"", &format!("id = \"{id}\""));
    let dir = parent.join(id);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(MANIFEST_FILE), manifest).unwrap();
    std::fs::write(dir.join(COMPONENT_FILE), component).unwrap();
    dir
}

/// Loads a plugin of this component.
///
/// # Errors
/// What the load checks say.
///
/// # Panics
/// If there is no folder for temporary files.
pub async fn load(component: &[u8]) -> Result<Arc<Plugin>, PluginError> {
    let parent = tempfile::tempdir().expect("a folder for temporary files");
    registry().await.load_dir(&plugin_dir(parent.path(), "made-in-test", component)).await
}

/// A moment later than anything that ends a misbehaving guest, on a machine that is busy with other things.
pub const SURELY: Duration = Duration::from_secs(20);
