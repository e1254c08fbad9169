//! Watches the file and tells that somebody may have changed it. Reads and writes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use crate::folders::is_change;

/// An editor writes a file in several steps; what follows this soon belongs together.
const COLLECT: Duration = Duration::from_millis(200);

/// A running watch; ends when dropped.
#[derive(Debug)]
pub struct ConfigWatch {
    _watcher: RecommendedWatcher,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ConfigWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the file at `path` from now on. `changed` is told after each change of it or of its folder, and once at the
/// start, because the file may have changed since it was read.
///
/// # Errors
/// If the system cannot watch the folder (no such folder, too many watches).
pub fn watch(path: &Path, changed: Arc<Notify>) -> Result<ConfigWatch, notify::Error> {
    let stirred = Arc::new(Notify::new());
    let stir = Arc::clone(&stirred);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may mean that events were lost: look.
        if event.map_or(true, |event| is_change(event.kind)) {
            stir.notify_one();
        }
    })?;
    for folder in folders(path) {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    }
    stirred.notify_one();
    let task = tokio::spawn(async move {
        loop {
            stirred.notified().await;
            tokio::time::sleep(COLLECT).await;
            // Whoever looks now sees what came meanwhile as well.
            tokio::select! {
                biased;
                () = stirred.notified() => {}
                () = std::future::ready(()) => {}
            }
            changed.notify_one();
        }
    });
    Ok(ConfigWatch { _watcher: watcher, task })
}

/// The folder of the file, and of what it links to. Not the file itself: an editor puts a new one in its place, and
/// a watch would follow the old one into its grave.
fn folders(path: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let own = folder(path);
    let linked = path
        .canonicalize()
        .ok()
        .map(|path| folder(&path))
        .filter(|linked| own.canonicalize().ok().as_ref() != Some(linked));
    std::iter::once(own).chain(linked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Watched {
        _folder: tempfile::TempDir,
        file: PathBuf,
        changed: Arc<Notify>,
        _watch: ConfigWatch,
    }

    impl Watched {
        /// A file that is watched; the word at the start has been heard.
        async fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ladekern.toml");
            std::fs::write(&file, "a").unwrap();
            let changed = Arc::new(Notify::new());
            let watch = watch(&file, Arc::clone(&changed)).unwrap();
            let watched = Self { _folder: folder, file, changed, _watch: watch };
            watched.told().await;
            watched
        }

        async fn told(&self) {
            tokio::time::timeout(Duration::from_secs(20), self.changed.notified()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn changes_are_told_and_reading_is_none() {
        let watched = Watched::start().await;
        std::fs::write(&watched.file, "b").unwrap();
        watched.told().await;
        std::fs::read_to_string(&watched.file).unwrap();
        let nothing = tokio::time::timeout(COLLECT * 3, watched.changed.notified()).await;
        assert!(nothing.is_err());
    }

    #[tokio::test]
    async fn editors_that_replace_the_file_are_followed() {
        let watched = Watched::start().await;
        for text in ["b", "c"] {
            let beside = watched.file.with_extension("tmp");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(&beside, &watched.file).unwrap();
            watched.told().await;
        }
        std::fs::remove_file(&watched.file).unwrap();
        watched.told().await;
        std::fs::write(&watched.file, "d").unwrap();
        watched.told().await;
    }

    #[tokio::test]
    async fn a_link_is_followed_to_its_file() {
        let watched = Watched::start().await;
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("ladekern.toml");
        std::os::unix::fs::symlink(&watched.file, &link).unwrap();
        let changed = Arc::new(Notify::new());
        let _watch = watch(&link, Arc::clone(&changed)).unwrap();
        changed.notified().await;
        std::fs::write(&watched.file, "b").unwrap();
        tokio::time::timeout(Duration::from_secs(20), changed.notified()).await.unwrap();
    }
}
