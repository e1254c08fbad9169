//! Watches the plugin folders and loads what changes there. Puts what is good into the registry and tells what came
//! of it; which device changes to it, and how, is decided above. Never writes, never unloads what still runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::plugin::{Plugin, PluginError, fingerprint_of};
use super::registry::{Registry, plugin_folders};
use crate::folders::FolderWatch;

/// Copying a folder is many events; what follows this soon belongs together.
const COLLECT: Duration = Duration::from_millis(200);
/// An installer removes a folder before it puts the new one in its place; a device must not be closed for that.
const GONE: Duration = Duration::from_secs(1);

/// What a change of the folders led to.
#[derive(Clone, Debug)]
pub enum PluginEvent {
    /// A new, another or a repaired plugin is in the registry.
    Loaded(Arc<Plugin>),
    /// What lies in the folder cannot be used. The registry keeps what it had.
    Broken {
        /// Name of the folder.
        id: String,
        /// Everything that is wrong.
        error: PluginError,
    },
    /// The folder is gone, and the plugin is out of the registry.
    Removed {
        /// Name of the folder.
        id: String,
    },
}

/// A running watch; ends when dropped.
#[derive(Debug)]
pub struct PluginWatch {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for PluginWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the plugins below `dirs` from now on; of two with one id that of the earlier directory counts. A directory
/// may appear later. What differs from the registry at the start is told first, and so is what is broken then.
///
/// # Errors
/// If the system cannot watch (too many watches).
pub fn watch(
    registry: Arc<Registry>,
    dirs: &[PathBuf],
    events: mpsc::Sender<PluginEvent>,
) -> Result<PluginWatch, notify::Error> {
    let watch = FolderWatch::start(dirs)?;
    let folders = Folders { registry, dirs: watch.dirs().to_vec(), broken: BTreeMap::new(), events };
    Ok(PluginWatch { task: tokio::spawn(follow(folders, watch)) })
}

async fn follow(mut folders: Folders, watch: FolderWatch) {
    loop {
        watch.changed().await;
        tokio::time::sleep(COLLECT).await;
        watch.rearm().await;
        if folders.look().await.is_err() {
            // Nobody listens any more.
            return;
        }
    }
}

struct Folders {
    registry: Arc<Registry>,
    dirs: Vec<PathBuf>,
    /// Fingerprints of what could not be used, by id: told once.
    broken: BTreeMap<String, String>,
    events: mpsc::Sender<PluginEvent>,
}

impl Folders {
    async fn look(&mut self) -> Result<(), mpsc::error::SendError<PluginEvent>> {
        let mut present = self.present().await;
        if !self.gone(&present).is_empty() {
            tokio::time::sleep(GONE).await;
            present = self.present().await;
        }
        for (id, folder) in &present {
            let fingerprint = fingerprint_of(folder, self.registry.max_component()).await;
            let running = self.registry.get(id);
            if let Some(plugin) = running.filter(|plugin| plugin.fingerprint() == fingerprint) {
                if self.broken.remove(id).is_some() {
                    self.events.send(PluginEvent::Loaded(plugin)).await?;
                }
                continue;
            }
            if self.broken.get(id) == Some(&fingerprint) {
                continue;
            }
            match self.registry.load_dir(folder).await {
                Ok(plugin) => {
                    self.broken.remove(id);
                    tracing::info!(plugin = %plugin.id(), version = %plugin.version(), "plugin loaded");
                    self.registry.insert(Arc::clone(&plugin));
                    self.events.send(PluginEvent::Loaded(plugin)).await?;
                }
                Err(error) => {
                    tracing::warn!(plugin = %id, "plugin cannot be used: {error}");
                    self.broken.insert(id.clone(), fingerprint);
                    self.events.send(PluginEvent::Broken { id: id.clone(), error }).await?;
                }
            }
        }
        for id in self.gone(&present) {
            tracing::warn!(plugin = %id, "the folder of the plugin is gone");
            self.registry.remove(&id);
            self.broken.remove(&id);
            self.events.send(PluginEvent::Removed { id }).await?;
        }
        Ok(())
    }

    /// Ids with their folders.
    async fn present(&self) -> BTreeMap<String, PathBuf> {
        let folders = plugin_folders(&self.dirs).await;
        let named = |folder: PathBuf| Some((folder.file_name()?.to_str()?.to_owned(), folder));
        folders.into_iter().filter_map(named).collect()
    }

    /// Ids that were there and are not any more.
    fn gone(&self, present: &BTreeMap<String, PathBuf>) -> Vec<String> {
        let loaded = self.registry.all();
        let known: BTreeSet<&str> =
            loaded.iter().map(|plugin| plugin.id()).chain(self.broken.keys().map(String::as_str)).collect();
        known.into_iter().filter(|id| !present.contains_key(*id)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{COMPONENT_FILE, MANIFEST_FILE};
    use crate::runtime::{Runtime, RuntimeOptions};

    struct Watched {
        root: tempfile::TempDir,
        registry: Arc<Registry>,
        events: mpsc::Receiver<PluginEvent>,
        _watch: PluginWatch,
    }

    impl Watched {
        fn start(dirs: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let runtime = Runtime::new(&RuntimeOptions::default()).unwrap();
            let registry = Arc::new(Registry::new(runtime));
            let dirs: Vec<PathBuf> = dirs.iter().map(|dir| root.path().join(dir)).collect();
            let (sender, events) = mpsc::channel(16);
            let watch = watch(Arc::clone(&registry), &dirs, sender).unwrap();
            Self { root, registry, events, _watch: watch }
        }

        fn write(&self, dir: &str, manifest: &str, component: &[u8]) {
            let folder = self.root.path().join(dir);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(COMPONENT_FILE), component).unwrap();
            std::fs::write(folder.join(MANIFEST_FILE), manifest).unwrap();
        }

        async fn next(&mut self) -> String {
            let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
            match event.expect("no event within 20 s").unwrap() {
                PluginEvent::Loaded(plugin) => format!("loaded {} {}", plugin.id(), plugin.version()),
                PluginEvent::Broken { id, error } => format!("broken {id}: {error}"),
                PluginEvent::Removed { id } => format!("removed {id}"),
            }
        }

        async fn nothing_happens(&mut self) {
            let event = tokio::time::timeout(COLLECT * 4, self.events.recv()).await;
            assert!(event.is_err(), "{event:?}");
        }
    }

    fn manifest(version: &str) -> String {
        format!(
            "id = \"acme\"\nversion = \"{version}\"\ninterface = \"ladekern:device@0.1\"\nname = \"ACME\"\n\
             license = \"MIT\"\ndevices = [\"ACME\"]\n[endpoint.main]\nkind = \"modbus\"\n"
        )
    }

    /// What is told of files of real plugins is tested in `tests/tests/hot_reload.rs`; here every component is broken.
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[tokio::test]
    async fn a_folder_that_appears_later_is_looked_at_once_per_content() {
        let mut watched = Watched::start(&["plugins"]);
        watched.nothing_happens().await;
        watched.write("plugins/acme", &manifest("1.0.0"), CORE_MODULE);
        let said = watched.next().await;
        assert!(said.starts_with("broken acme: ") && said.contains("core module"), "{said}");
        // Touched, but not changed.
        watched.write("plugins/acme", &manifest("1.0.0"), CORE_MODULE);
        watched.nothing_happens().await;
        watched.write("plugins/acme", &manifest("1.0.0"), &CORE_MODULE[..5]);
        assert!(watched.next().await.contains("5 bytes only"));
        assert!(watched.registry.get("acme").is_none());
    }

    #[tokio::test]
    async fn a_removed_folder_is_told_and_one_that_is_only_replaced_is_not() {
        let mut watched = Watched::start(&["plugins"]);
        watched.write("plugins/acme", &manifest("1.0.0"), CORE_MODULE);
        watched.next().await;
        let folder = watched.root.path().join("plugins");
        std::fs::remove_dir_all(&folder).unwrap();
        watched.write("plugins/acme", &manifest("1.0.1"), CORE_MODULE);
        assert!(watched.next().await.starts_with("broken acme"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(watched.next().await, "removed acme");
        watched.write("plugins/acme", &manifest("1.0.1"), CORE_MODULE);
        assert!(watched.next().await.starts_with("broken acme"), "the directory is watched again");
    }

    #[tokio::test]
    async fn the_earlier_directory_wins_and_the_later_one_steps_in() {
        let mut watched = Watched::start(&["own", "supplied"]);
        watched.write("own/acme", &manifest("1.0.0"), CORE_MODULE);
        assert!(watched.next().await.contains("own/acme"));
        watched.write("supplied/acme", &manifest("2.0.0"), CORE_MODULE);
        watched.nothing_happens().await;
        std::fs::remove_dir_all(watched.root.path().join("own")).unwrap();
        assert!(watched.next().await.contains("supplied/acme"));
    }
}
