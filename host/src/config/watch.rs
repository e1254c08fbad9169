//! Watches the file and reads it again when it changes. Tells what came of it; what is done about it is the
//! application's business. Never writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc};

use super::{Config, ConfigErrors, Override};

/// An editor writes a file in several steps; what follows this soon belongs together.
const COLLECT: Duration = Duration::from_millis(200);

/// What a change of the file led to.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigEvent {
    /// The file is well and says something else than before (or is well again).
    Changed(Box<Config>),
    /// The file is not well; the running configuration stays.
    Broken(ConfigErrors),
}

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

/// Watches the file at `path` from now on. `current` is the configuration that runs: what differs from it is told,
/// also if the file changed between its reading and this call. Overrides stay in force.
///
/// # Errors
/// If the system cannot watch the folder (no such folder, too many watches).
pub fn watch(
    path: &Path,
    overrides: Vec<Override>,
    current: Config,
    events: mpsc::Sender<ConfigEvent>,
) -> Result<ConfigWatch, notify::Error> {
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
    let task = tokio::spawn(follow(path.to_owned(), overrides, current, stirred, events));
    Ok(ConfigWatch { _watcher: watcher, task })
}

/// Reading the file is an event too; reacting to it would never end.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
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

async fn follow(
    path: PathBuf,
    overrides: Vec<Override>,
    current: Config,
    stirred: Arc<Notify>,
    events: mpsc::Sender<ConfigEvent>,
) {
    let mut known = ConfigEvent::Changed(Box::new(current));
    loop {
        stirred.notified().await;
        tokio::time::sleep(COLLECT).await;
        let (path, overrides) = (path.clone(), overrides.clone());
        let read = tokio::task::spawn_blocking(move || super::load(&path, &overrides)).await;
        let new = match read {
            Ok(Ok(config)) => ConfigEvent::Changed(Box::new(config)),
            Ok(Err(errors)) => ConfigEvent::Broken(errors),
            // The runtime is shutting down.
            Err(_) => return,
        };
        if new == known {
            continue;
        }
        known = new.clone();
        if events.send(new).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Watched {
        _folder: tempfile::TempDir,
        file: PathBuf,
        events: mpsc::Receiver<ConfigEvent>,
        _watch: ConfigWatch,
    }

    impl Watched {
        /// A file that is watched, with `running` as the configuration in force.
        fn start(on_disk: &str, running: &str, set: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ladekern.toml");
            std::fs::write(&file, on_disk).unwrap();
            let overrides: Vec<Override> = set.iter().map(|set| set.parse().unwrap()).collect();
            let current = super::super::parse("f", running, &overrides).unwrap();
            let (sender, events) = mpsc::channel(8);
            let watch = watch(&file, overrides, current, sender).unwrap();
            Self { _folder: folder, file, events, _watch: watch }
        }

        async fn next(&mut self) -> ConfigEvent {
            tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap()
        }

        async fn title(&mut self) -> String {
            match self.next().await {
                ConfigEvent::Changed(config) => config.site.title,
                ConfigEvent::Broken(errors) => panic!("{errors}"),
            }
        }
    }

    const A: &str = "[site]\ntitle = \"a\"\n";
    const B: &str = "[site]\ntitle = \"b\"\n";

    #[tokio::test]
    async fn a_written_file_is_read_again_and_a_broken_one_told() {
        let mut watched = Watched::start(A, A, &[]);
        std::fs::write(&watched.file, B).unwrap();
        assert_eq!(watched.title().await, "b");
        std::fs::write(&watched.file, "[site]\ntitle = 7\n").unwrap();
        let ConfigEvent::Broken(errors) = watched.next().await else { panic!("a number is no title") };
        assert!(errors.to_string().contains("ladekern.toml:2: site.title"), "{errors}");
        // The same as before the mistake: told all the same, because it ends the mistake.
        std::fs::write(&watched.file, B).unwrap();
        assert_eq!(watched.title().await, "b");
    }

    #[tokio::test]
    async fn editors_that_replace_the_file_are_followed() {
        let mut watched = Watched::start(A, A, &[]);
        for title in ["b", "c"] {
            let beside = watched.file.with_extension("tmp");
            std::fs::write(&beside, format!("[site]\ntitle = \"{title}\"\n")).unwrap();
            std::fs::rename(&beside, &watched.file).unwrap();
            assert_eq!(watched.title().await, title);
        }
        std::fs::remove_file(&watched.file).unwrap();
        assert!(matches!(watched.next().await, ConfigEvent::Broken(_)));
        std::fs::write(&watched.file, A).unwrap();
        assert_eq!(watched.title().await, "a");
    }

    #[tokio::test]
    async fn what_changed_before_the_watch_began_is_told() {
        assert_eq!(Watched::start(B, A, &[]).title().await, "b");
    }

    #[tokio::test]
    async fn overrides_stay_in_force_and_what_says_the_same_is_no_change() {
        let mut watched = Watched::start(A, A, &["site.title=set"]);
        std::fs::write(&watched.file, B).unwrap();
        std::fs::write(watched.file.with_file_name("other"), "x").unwrap();
        let nothing = tokio::time::timeout(COLLECT * 3, watched.events.recv()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        std::fs::write(&watched.file, format!("# a comment\n{B}desc = \"new\"\n")).unwrap();
        let ConfigEvent::Changed(config) = watched.next().await else { panic!("the file is well") };
        assert_eq!((config.site.title.as_str(), config.site.desc.as_str()), ("set", "new"));
        assert!(watched.events.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_link_is_followed_to_its_file() {
        let target = tempfile::tempdir().unwrap();
        let real = target.path().join("real.toml");
        std::fs::write(&real, A).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("ladekern.toml");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (sender, mut events) = mpsc::channel(8);
        let _watch = watch(&link, Vec::new(), super::super::parse("f", A, &[]).unwrap(), sender).unwrap();
        std::fs::write(&real, B).unwrap();
        let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
        assert!(matches!(event, ConfigEvent::Changed(config) if config.site.title == "b"));
    }
}
