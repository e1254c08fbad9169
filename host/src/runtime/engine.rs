//! The one wasmtime engine of the process, the clock that interrupts guests, and the threads guests run on.
//!
//! Guests have a small tokio runtime of their own: sockets, serial lines and the load manager live on another one,
//! so that a guest that computes as much as it can delays a frame by milliseconds, not by a third of a second.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine, EngineWeak, Strategy};

use super::bindings::ladekern;
use super::limits::{FIBER_STACK, TICK, WASM_STACK};
use super::{Guest, Linked};

/// Address space of one memory. Where there is plenty it is all that a guest can address: an access is then in range
/// or hits the guard, and compiled code has nothing to check. Elsewhere 200 instances have to fit into the 39 bits of
/// a small ARM board; a memory that grows further is moved by wasmtime, so a larger limit still works.
const MEMORY_RESERVATION: u64 = if cfg!(target_arch = "x86_64") { 4 << 30 } else { 8 << 20 };

/// How a [`Runtime`] is made.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Folder for compiled plugins, created with mode 0700. Whoever can write it owns the process. `None`: every
    /// plugin is compiled anew.
    pub cache_dir: Option<PathBuf>,
    /// Threads guests run on; 1 or 2.
    pub guest_threads: usize,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { cache_dir: None, guest_threads: 1 }
    }
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The folder for compiled plugins is not private or cannot be made.
    #[error("compile cache {path}: {reason}")]
    Cache {
        /// The folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else: no threads, a processor wasmtime cannot compile for.
    #[error("WebAssembly engine: {0}")]
    Engine(String),
}

/// Compiles plugins and runs their instances. One per process.
pub struct Runtime {
    engine: Engine,
    cache: Option<Cache>,
    linker: Linker<Guest>,
    wasi_linker: Linker<Guest>,
    /// Compilation takes every core it gets; two at once would starve a board with two.
    compiling: Arc<Semaphore>,
    guests: Handle,
    /// Only kept to be shut down with this value.
    own_threads: Option<tokio::runtime::Runtime>,
}

impl Runtime {
    /// Starts the engine, its epoch thread and the guests' threads.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn new(options: &RuntimeOptions) -> Result<Arc<Self>, RuntimeError> {
        let failed = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let cache = options.cache_dir.as_deref().map(open_cache).transpose()?;
        let engine = Engine::new(&config(cache.clone())).map_err(failed)?;
        start_epoch_clock(engine.weak()).map_err(|e| RuntimeError::Engine(e.to_string()))?;
        let linker = linker(&engine).map_err(failed)?;
        let mut wasi_linker = linker.clone();
        wasmtime_wasi::p2::add_to_linker_async(&mut wasi_linker).map_err(failed)?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.guest_threads.max(1))
            .thread_name("guests")
            .enable_all()
            .build()
            .map_err(|e| RuntimeError::Engine(e.to_string()))?;
        Ok(Arc::new(Self {
            engine,
            cache,
            linker,
            wasi_linker,
            compiling: Arc::new(Semaphore::new(1)),
            guests: threads.handle().clone(),
            own_threads: Some(threads),
        }))
    }

    /// Where tasks that call guests are to be spawned.
    #[must_use]
    pub fn guests(&self) -> &Handle {
        &self.guests
    }

    /// Compiled plugins taken from the cache, and those that had to be compiled. Zero without a cache.
    #[must_use]
    pub fn cache_hits_and_misses(&self) -> (usize, usize) {
        self.cache.as_ref().map_or((0, 0), |cache| (cache.cache_hits(), cache.cache_misses()))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Compiles a component on a blocking thread, one at a time. Takes 30 ms to seconds, or microseconds from the
    /// cache.
    ///
    /// # Errors
    /// What wasmtime says about bytes that are no valid component.
    pub async fn compile(&self, bytes: bytes::Bytes) -> wasmtime::Result<Component> {
        let permit = self.compiling.clone().acquire_owned().await?;
        let engine = self.engine.clone();
        let task = tokio::task::spawn_blocking(move || {
            // Belongs to the work and not to the waiting: an abandoned load still occupies the core.
            let _permit = permit;
            Component::from_binary(&engine, &bytes)
        });
        task.await?
    }

    /// Satisfies the imports of a component, with WASI or without.
    ///
    /// # Errors
    /// The first import that the host does not have, or an export without one of its functions.
    pub fn link(&self, component: &Component, wasi: bool) -> wasmtime::Result<Linked> {
        let linker = if wasi { &self.wasi_linker } else { &self.linker };
        let pre: InstancePre<Guest> = linker.instantiate_pre(component)?;
        Linked::new(pre)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // The plain drop of a tokio runtime blocks, which panics when the last reference goes in async code.
        if let Some(threads) = self.own_threads.take() {
            threads.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("cache", &self.cache).finish_non_exhaustive()
    }
}

fn config(cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_memory64(false)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_reservation_for_growth(1024 * 1024)
        .memory_guard_size(64 * 1024)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBER_STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        // Offsets in a stripped component tell nobody anything, and the tables for them have to be loaded.
        .generate_address_map(false)
        .parallel_compilation(true)
        .cache(cache);
    config
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    ladekern::host::log::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    ladekern::host::clock::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    ladekern::host::state::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    ladekern::modbus::client::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    ladekern::http::client::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    ladekern::mqtt::client::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    ladekern::device::types::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// A thread of its own, because a starved executor cannot measure its starvation; a weak handle, so that it ends
/// with the engine.
fn start_epoch_clock(engine: EngineWeak) -> std::io::Result<()> {
    std::thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}

fn open_cache(dir: &Path) -> Result<Cache, RuntimeError> {
    let failed = |reason: String| RuntimeError::Cache { path: dir.display().to_string(), reason };
    // wasmtime wants an absolute path, whatever the state directory was called on the command line.
    let dir = std::path::absolute(dir).map_err(|e| failed(e.to_string()))?;
    make_private(&dir).map_err(|e| failed(e.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(&dir);
    Cache::new(config).map_err(|e| failed(format!("{e:#}")))
}

/// Creates the folder and takes it away from everybody else.
#[cfg(unix)]
fn make_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make_private(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)
}
