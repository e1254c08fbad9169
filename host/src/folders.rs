//! Watches folders and tells that something in them may have changed. Knows no file; who watches looks what it was.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// A running watch; ends when dropped.
#[derive(Debug)]
pub struct FolderWatch {
    dirs: Vec<PathBuf>,
    watcher: Arc<Mutex<RecommendedWatcher>>,
    stirred: Arc<Notify>,
}

impl FolderWatch {
    /// Watches everything below `dirs` from now on. A directory may appear later.
    ///
    /// # Errors
    /// If the system cannot watch (too many watches).
    pub fn start(dirs: &[PathBuf]) -> Result<Self, notify::Error> {
        // The system names absolute paths in its events.
        let absolute = |dir: &PathBuf| std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        let dirs: Vec<PathBuf> = dirs.iter().map(absolute).collect();
        let stirred = Arc::new(Notify::new());
        let stir = Arc::clone(&stirred);
        let of_interest = dirs.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may mean that events were lost: look.
            if event.map_or(true, |event| is_change(event.kind) && concerns(&event.paths, &of_interest)) {
                stir.notify_one();
            }
        })?;
        let watcher = Arc::new(Mutex::new(watcher));
        arm(&watcher, &dirs)?;
        // What came before the watch has to be looked at as well.
        stirred.notify_one();
        Ok(Self { dirs, watcher, stirred })
    }

    /// The watched directories.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Waits for a change; the first one is the start itself. Cancel-safe.
    pub async fn changed(&self) {
        self.stirred.notified().await;
    }

    /// Watches what has appeared meanwhile. To be called before the folders are read, so that what comes during the
    /// reading is a change again.
    pub async fn rearm(&self) {
        let (watcher, dirs) = (Arc::clone(&self.watcher), self.dirs.clone());
        // Walks the folders.
        let armed = tokio::task::spawn_blocking(move || arm(&watcher, &dirs)).await;
        if let Ok(Err(error)) = armed {
            tracing::warn!(%error, "a folder cannot be watched");
        }
    }
}

/// Reading a file is an event too; reacting to it would never end.
pub(crate) fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// Something in one of the directories, or on the way to one.
fn concerns(paths: &[PathBuf], dirs: &[PathBuf]) -> bool {
    paths.is_empty() || paths.iter().any(|path| dirs.iter().any(|dir| path.starts_with(dir) || dir.starts_with(path)))
}

/// Watches each directory, and the nearest folder above it that exists: a directory that is removed takes its watch
/// along, and one that appears has none yet.
fn arm(watcher: &Mutex<RecommendedWatcher>, dirs: &[PathBuf]) -> Result<(), notify::Error> {
    let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
    let above: BTreeSet<&Path> =
        dirs.iter().filter_map(|dir| dir.ancestors().skip(1).find(|folder| folder.is_dir())).collect();
    for folder in above {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        // Fails if it was not watched or if its watch went with the folder that was there before.
        let _ = watcher.unwatch(dir);
        watcher.watch(dir, RecursiveMode::Recursive)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_in_or_above_a_folder_concerns_the_watch() {
        let dirs = [PathBuf::from("/srv/ladekern/plugins")];
        let seen = |path: &str| concerns(&[PathBuf::from(path)], &dirs);
        assert!(
            seen("/srv/ladekern/plugins/acme/driver.wasm") && seen("/srv/ladekern/plugins") && seen("/srv/ladekern")
        );
        assert!(!seen("/srv/ladekern/ladekern.toml") && !seen("/srv/other"));
    }
}
