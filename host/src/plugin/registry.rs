//! The plugins that are there, by id. Loads folders; whether a newer file takes the place of a loaded one is decided
//! by whoever watches the folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::plugin::{MANIFEST_FILE, Plugin, PluginError};
use crate::runtime::{Runtime, limits};

/// All usable plugins. Share it in an `Arc`.
pub struct Registry {
    runtime: Arc<Runtime>,
    plugins: RwLock<BTreeMap<String, Arc<Plugin>>>,
    max_component: AtomicU64,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>) -> Self {
        let max_component = AtomicU64::new(limits::COMPONENT_FILE);
        Self { runtime, plugins: RwLock::default(), max_component }
    }

    /// The runtime its plugins are compiled for.
    #[must_use]
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Whether some binding says `wasi = true`: components of the compatibility profile may have 64 MiB, all others
    /// 16 MiB.
    pub fn allow_wasi_sizes(&self, allowed: bool) {
        let max = if allowed { limits::COMPONENT_FILE_WASI } else { limits::COMPONENT_FILE };
        self.max_component.store(max, Ordering::Relaxed);
    }

    /// Bytes a component may have at most.
    #[must_use]
    pub fn max_component(&self) -> u64 {
        self.max_component.load(Ordering::Relaxed)
    }

    /// Reads, checks and compiles one folder. Does not put the plugin into the registry.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub async fn load_dir(&self, folder: &Path) -> Result<Arc<Plugin>, PluginError> {
        Plugin::load(&self.runtime, folder, self.max_component()).await.map(Arc::new)
    }

    /// Loads every folder with a manifest below `dirs` and puts what is usable into the registry. Of two plugins of
    /// one id, that of the directory named first wins, even when it is the broken one: a user who replaces a
    /// supplied plugin does not get the old one back in silence. A directory that does not exist is empty.
    pub async fn scan(&self, dirs: &[PathBuf]) -> Vec<PluginError> {
        let mut errors = Vec::new();
        for folder in plugin_folders(dirs).await {
            match self.load_dir(&folder).await {
                Ok(plugin) => {
                    self.insert(plugin);
                }
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// The plugin with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Plugin>> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All plugins by id.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Puts a plugin in; returns the one it replaced.
    pub fn insert(&self, plugin: Arc<Plugin>) -> Option<Arc<Plugin>> {
        let id = plugin.id().to_owned();
        self.plugins.write().unwrap_or_else(PoisonError::into_inner).insert(id, plugin)
    }

    /// Takes a plugin out, because its folder is gone.
    pub fn remove(&self, id: &str) -> Option<Arc<Plugin>> {
        self.plugins.write().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

/// The folders below `dirs` that hold a manifest, the first of each name only, sorted by name. A folder with a
/// `Cargo.toml` is a plugin's source, not an installed plugin.
pub async fn plugin_folders(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let dirs = dirs.to_vec();
    let task = tokio::task::spawn_blocking(move || {
        let mut found = BTreeMap::new();
        for entry in dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
            if entry.path().join(MANIFEST_FILE).is_file() && !entry.path().join("Cargo.toml").exists() {
                found.entry(entry.file_name()).or_insert_with(|| entry.path());
            }
        }
        found.into_values().collect()
    });
    task.await.unwrap_or_default()
}
