//! Watches the definition folders and tells what came of a change. A file counts when it has stayed as it is for a
//! moment: one that is half written is not a broken one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::library::{DefinitionEvent, Key, Library, Said, Shelf, Texts, fingerprint, is_out_of_sight, read_folders};
use crate::folders::FolderWatch;

/// Writing a file is several events; what follows this soon belongs together.
const COLLECT: Duration = Duration::from_millis(100);
/// What can be used is believed when it still says the same after this time: the beginning of a JSON document is none,
/// so this is for those who write twice.
const SETTLE: Duration = Duration::from_millis(200);
/// What cannot be used, and a file that is gone, gets this long: editors empty a file before they write it, and
/// installers remove one before they put the new one in its place. With [`COLLECT`] below a second.
const SPOILED: Duration = Duration::from_millis(800);
/// A folder or file that cannot be read (no file handles are left, a network drive is away) is looked at again after this
/// time: nothing tells when it can be.
const UNREADABLE: Duration = Duration::from_secs(5);

/// A running watch; ends when dropped.
#[derive(Debug)]
pub struct DefinitionWatch {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for DefinitionWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the folders from now on; one may appear later. What differs from the library at the start is told first.
///
/// # Errors
/// If the system cannot watch (too many watches).
pub fn watch(
    library: Library,
    dirs: &[PathBuf],
    events: mpsc::Sender<DefinitionEvent>,
) -> Result<DefinitionWatch, notify::Error> {
    let watch = FolderWatch::start(dirs)?;
    // As they were given: they stand in messages.
    let dirs = dirs.to_vec();
    let task = tokio::spawn(async move {
        // An error: nobody listens any more.
        let _ = follow(library, &watch, &dirs, &events).await;
    });
    Ok(DefinitionWatch { task })
}

async fn follow(
    library: Library,
    watch: &FolderWatch,
    dirs: &[PathBuf],
    events: &mpsc::Sender<DefinitionEvent>,
) -> Result<(), mpsc::error::SendError<DefinitionEvent>> {
    let mut settling = Settling::default();
    let mut again: Option<Instant> = None;
    loop {
        let due = async {
            match again {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = watch.changed() => tokio::time::sleep(COLLECT).await,
            () = due => {}
        }
        watch.rearm().await;
        let folders = dirs.to_vec();
        let Ok(texts) = tokio::task::spawn_blocking(move || read_folders(&folders)).await else { return Ok(()) };
        let mut shelf = library.shelf();
        let believed = settling.look(&mut shelf, texts, Instant::now());
        again = settling.due();
        if believed {
            for event in library.believe(shelf) {
                tell(&event);
                events.send(event).await?;
            }
        }
    }
}

/// Says in the log what came of a change.
pub(crate) fn tell(event: &DefinitionEvent) {
    match event {
        DefinitionEvent::Loaded(file) => {
            tracing::info!(dev_type = %file.definition.dev_type, "definition loaded from {}", file.path.display());
        }
        DefinitionEvent::Broken { findings, .. } => {
            for finding in findings {
                tracing::error!("{finding}");
            }
        }
        DefinitionEvent::Removed { dev_type } => tracing::warn!(%dev_type, "the definition is gone"),
    }
}

/// What files say since when, as far as that is not yet believed. Pure.
#[derive(Debug, Default)]
struct Settling {
    waiting: BTreeMap<Key, Waiting>,
    /// When to look again for what could not be read.
    unreadable: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    /// `None`: the file is not there.
    said: Option<Said>,
    since: Instant,
}

impl Waiting {
    fn fingerprint(&self) -> Option<&str> {
        self.said.as_ref().map(|said| said.fingerprint.as_str())
    }

    fn due(&self) -> Instant {
        let sound = self.said.as_ref().is_some_and(|said| said.read.is_ok());
        self.since + if sound { SETTLE } else { SPOILED }
    }
}

impl Settling {
    /// Takes over into `shelf` what has said the same for long enough; true if that changed anything.
    fn look(&mut self, shelf: &mut Shelf, texts: Texts, now: Instant) -> bool {
        let mut changed = false;
        self.unreadable = None;
        let keys: BTreeSet<Key> = shelf.keys().chain(texts.keys()).chain(self.waiting.keys()).cloned().collect();
        for key in keys {
            if is_out_of_sight(&texts, &key) {
                self.waiting.remove(&key);
                continue;
            }
            let text = texts.get(&key);
            if matches!(text, Some(Err(_))) {
                self.unreadable = Some(now + UNREADABLE);
            }
            let print = text.map(|text| match text {
                Ok(text) | Err(text) => fingerprint(text),
            });
            if shelf.get(&key).map(|said| said.fingerprint.as_str()) == print.as_deref() {
                self.waiting.remove(&key);
                continue;
            }
            let waiting = match self.waiting.remove(&key) {
                Some(waiting) if waiting.fingerprint() == print.as_deref() => waiting,
                _ => Waiting { said: text.map(|text| Said::of(&key.1, text)), since: now },
            };
            if now < waiting.due() {
                self.waiting.insert(key, waiting);
                continue;
            }
            changed = true;
            match waiting.said {
                Some(said) => _ = shelf.insert(key, said),
                None => _ = shelf.remove(&key),
            }
        }
        changed
    }

    /// When to look again.
    fn due(&self) -> Option<Instant> {
        self.waiting.values().map(Waiting::due).chain(self.unreadable).min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::library::tests::{meter, said};
    use super::*;

    fn key() -> Key {
        (0, PathBuf::from("a.json"))
    }

    /// Looks at one file at these moments (ms); what is on the shelf after each, and when the next look is due.
    fn looks(script: &[(u64, Option<&str>)]) -> Vec<(Option<&'static str>, Option<u128>)> {
        let (mut settling, mut shelf, start) = (Settling::default(), Shelf::new(), Instant::now());
        let mut seen = Vec::new();
        for (ms, text) in script {
            let texts = text.iter().map(|text| (key(), Ok((*text).to_owned()))).collect();
            settling.look(&mut shelf, texts, start + Duration::from_millis(*ms));
            let on_shelf = shelf.get(&key()).map(|said| if said.read.is_ok() { "good" } else { "broken" });
            seen.push((on_shelf, settling.due().map(|due| due.duration_since(start).as_millis())));
        }
        seen
    }

    #[test]
    fn what_stays_is_believed_and_what_is_being_written_is_not() {
        let (good, other) = (meter("alpha", "a"), meter("alpha", "b"));
        let half = &good[..40];
        assert_eq!(looks(&[(0, Some(&good)), (200, Some(&good))]), [(None, Some(200)), (Some("good"), None)]);
        assert_eq!(
            looks(&[(0, Some(half)), (300, Some(&good)), (499, Some(&good)), (500, Some(&good))]),
            [(None, Some(800)), (None, Some(500)), (None, Some(500)), (Some("good"), None)]
        );
        assert_eq!(
            looks(&[(0, Some(half)), (799, Some(half)), (800, Some(half))]),
            [(None, Some(800)), (None, Some(800)), (Some("broken"), None)]
        );
        assert_eq!(
            looks(&[(0, Some(&good)), (100, Some(&other)), (200, Some(&other)), (300, Some(&other))]),
            [(None, Some(200)), (None, Some(300)), (None, Some(300)), (Some("good"), None)]
        );
    }

    #[test]
    fn a_file_that_is_only_replaced_is_not_gone() {
        let good = meter("alpha", "a");
        let there = [(0, Some(good.as_str())), (200, Some(good.as_str()))];
        let replaced = looks(&[there.as_slice(), &[(1_000, None), (1_500, Some(&good))]].concat());
        assert_eq!(replaced[2..], [(Some("good"), Some(1_800)), (Some("good"), None)]);
        let gone = looks(&[there.as_slice(), &[(1_000, None), (1_800, None)]].concat());
        assert_eq!(gone[2..], [(Some("good"), Some(1_800)), (None, None)]);
    }

    #[test]
    fn what_lies_in_a_folder_that_cannot_be_read_stays() {
        let (mut settling, mut shelf, start) = (Settling::default(), Shelf::new(), Instant::now());
        let (folder, file) = ((0, PathBuf::from("own")), (0, PathBuf::from("own/a.json")));
        let there = || Texts::from([(file.clone(), Ok(meter("alpha", "a")))]);
        let mut look = |ms: u64, texts: Texts| {
            settling.look(&mut shelf, texts, start + Duration::from_millis(ms));
            let due = settling.due().map(|due| due.duration_since(start).as_millis());
            (shelf.contains_key(&file), shelf.contains_key(&folder), due)
        };
        look(0, there());
        assert_eq!(look(200, there()), (true, false, None));
        let away = || Texts::from([(folder.clone(), Err("the folder cannot be read".into()))]);
        assert_eq!(look(1_000, away()), (true, false, Some(1_800)));
        assert_eq!(look(1_800, away()), (true, true, Some(6_800)), "told, and nothing is gone");
        assert_eq!(look(6_800, away()), (true, true, Some(11_800)));
        assert_eq!(look(11_800, there()), (true, true, Some(12_600)));
        assert_eq!(look(12_600, there()), (true, false, None));
    }

    struct Watched {
        folder: tempfile::TempDir,
        events: mpsc::Receiver<DefinitionEvent>,
        _watch: DefinitionWatch,
    }

    impl Watched {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let dirs = [folder.path().join("definitions")];
            let (sender, events) = mpsc::channel(16);
            let _watch = watch(Library::open(&dirs).0, &dirs, sender).unwrap();
            Self { folder, events, _watch }
        }

        fn write(&self, text: &str) {
            let dir = self.folder.path().join("definitions");
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("a.json"), text).unwrap();
        }

        async fn next(&mut self) -> String {
            let event = tokio::time::timeout(Duration::from_secs(20), self.events.recv()).await;
            said(&[event.expect("no event within 20 s").unwrap()]).remove(0)
        }
    }

    #[tokio::test]
    async fn a_folder_that_appears_later_is_watched_and_so_is_what_becomes_of_its_files() {
        let mut watched = Watched::start();
        watched.write(&meter("alpha", "a"));
        assert_eq!(watched.next().await, "loaded alpha a.json");
        watched.write("\"dev_type\": \"alpha\"");
        assert_eq!(watched.next().await, "broken alpha a.json");
        watched.write(&meter("alpha", "b"));
        assert_eq!(watched.next().await, "loaded alpha a.json");
        std::fs::remove_dir_all(watched.folder.path().join("definitions")).unwrap();
        assert_eq!(watched.next().await, "removed alpha");
        watched.write(&meter("alpha", "b"));
        assert_eq!(watched.next().await, "loaded alpha a.json");
    }
}
