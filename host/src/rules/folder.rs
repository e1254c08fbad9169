//! The folder `rule-sets/` beside the configuration: looked at every second, read where something has changed. A file
//! that is not well leaves what it said before in force, and is named once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::source::{SharedSets, read_file};

/// How often the folder is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// A rule set is a few kilobytes.
const MOST_BYTES: u64 = 256 << 10;

/// The followed folder; dropping it ends that.
#[derive(Debug)]
pub struct RuleFolder {
    sets: watch::Receiver<Arc<SharedSets>>,
    task: JoinHandle<()>,
}

impl Drop for RuleFolder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RuleFolder {
    /// Reads what is there now, and follows it. A folder that does not exist is one without files.
    pub async fn follow(path: PathBuf) -> Self {
        let mut folder = Folder { path, files: BTreeMap::new(), wrong: None };
        folder = look(folder).await;
        let (sender, sets) = watch::channel(Arc::new(folder.sets()));
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                folder = look(folder).await;
                let now = folder.sets();
                sender.send_if_modified(|sets| {
                    let other = **sets != now;
                    if other {
                        *sets = Arc::new(now);
                    }
                    other
                });
            }
        });
        Self { sets, task }
    }

    /// The sets that are in force.
    #[must_use]
    pub fn sets(&self) -> watch::Receiver<Arc<SharedSets>> {
        self.sets.clone()
    }
}

/// The sets of a folder now, and what is wrong with its files.
#[must_use]
pub fn read_folder(path: &Path) -> (SharedSets, Vec<String>) {
    let mut folder = Folder { path: path.to_owned(), files: BTreeMap::new(), wrong: None };
    folder.look();
    let files = folder.files.iter().map(|(path, file)| (path, &file.wrong));
    let all = std::iter::once((&folder.path, &folder.wrong)).chain(files);
    let wrong = all.filter_map(|(path, wrong)| Some(format!("{}: {}", path.display(), wrong.as_ref()?)));
    (folder.sets(), wrong.collect())
}

/// Files are read off the runtime's threads.
async fn look(mut folder: Folder) -> Folder {
    let path = folder.path.clone();
    let looked = tokio::task::spawn_blocking(move || {
        folder.look();
        folder
    });
    // It fails only while the runtime ends.
    looked.await.unwrap_or(Folder { path, files: BTreeMap::new(), wrong: None })
}

struct Folder {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
    /// Why it cannot be read. Nothing is known about its files then, and what they said stays.
    wrong: Option<String>,
}

#[derive(Default)]
struct File {
    stamp: Option<(SystemTime, u64)>,
    /// What is wrong with it, once it has been so for two looks: before, somebody may still be writing it.
    wrong: Option<String>,
    told: bool,
    set: Option<(String, Value)>,
}

impl Folder {
    fn look(&mut self) {
        let entries = match std::fs::read_dir(&self.path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let wrong = format!("the folder cannot be read, what was in force stays: {error}");
                if self.wrong.as_ref() != Some(&wrong) {
                    tracing::error!("{}: {wrong}", self.path.display());
                }
                self.wrong = Some(wrong);
                return;
            }
        };
        self.wrong = None;
        let paths = entries.into_iter().map(|entry| entry.path());
        let found: Vec<PathBuf> =
            paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
        self.files.retain(|path, file| {
            let stays = found.contains(path);
            if let (false, Some((id, _))) = (stays, &file.set) {
                tracing::warn!("{}: gone, and with it the rule set \"{id}\"", path.display());
            }
            stays
        });
        for path in found {
            self.files.entry(path.clone()).or_default().look(&path);
        }
    }

    /// Of two files with one id the first by name counts.
    fn sets(&self) -> SharedSets {
        let mut sets = SharedSets::new();
        for (id, list) in self.files.values().filter_map(|file| file.set.as_ref()) {
            sets.entry(id.clone()).or_insert_with(|| list.clone());
        }
        sets
    }
}

impl File {
    fn look(&mut self, path: &Path) {
        let stamp = std::fs::metadata(path).and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
        if stamp.is_some() && stamp == self.stamp {
            if let Some(wrong) = self.wrong.as_ref().filter(|_| !self.told) {
                let former = if self.set.is_some() { "; what it said before stays in force" } else { "" };
                tracing::error!("{}: {wrong}{former}", path.display());
                self.told = true;
            }
            return;
        }
        self.stamp = stamp;
        self.told = false;
        match read(path, stamp.map_or(0, |(_, length)| length)) {
            Ok(set) => {
                if self.set.as_ref() != Some(&set) {
                    tracing::info!("{}: rule set \"{}\"", path.display(), set.0);
                }
                (self.set, self.wrong) = (Some(set), None);
            }
            Err(wrong) => self.wrong = Some(wrong),
        }
    }
}

fn read(path: &Path, length: u64) -> Result<(String, Value), String> {
    // A named pipe would be waited for until somebody writes into it, and the host with it.
    if path.exists() && !path.is_file() {
        return Err("is no regular file".into());
    }
    if length > MOST_BYTES {
        return Err(format!("{length} bytes; expected at most {MOST_BYTES}"));
    }
    read_file(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(id: &str, ma: u32) -> String {
        format!(r#"{{"name":"x","set_id":"{id}","charging_rules":[{{"ctype":51,"atype":0,"aexpr":{ma}}}]}}"#)
    }

    #[test]
    fn a_file_that_is_not_well_leaves_what_it_said_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder { path: dir.path().join("rule-sets"), files: BTreeMap::new(), wrong: None };
        folder.look();
        assert!(folder.sets().is_empty(), "no folder, no sets");
        std::fs::create_dir(&folder.path).unwrap();
        let file = folder.path.join("a.json");
        std::fs::write(&file, text("1", 7_000)).unwrap();
        std::fs::write(folder.path.join("readme.txt"), "no rule set").unwrap();
        folder.look();
        let before = folder.sets();
        assert_eq!(before.keys().collect::<Vec<_>>(), ["1"]);
        std::fs::write(&file, r#"{"set_id": "1", "charging_rules": [{"ctype": 51"#).unwrap();
        folder.look();
        assert_eq!(folder.sets(), before);
        assert!(!folder.files[&file].told, "somebody may still be writing");
        folder.look();
        assert!(folder.files[&file].told);
        assert!(folder.files[&file].wrong.as_ref().unwrap().contains("line 1 column"));
        std::fs::write(&file, text("2", 7_000)).unwrap();
        folder.look();
        assert_eq!(folder.sets().keys().collect::<Vec<_>>(), ["2"]);
        // Of two with one id the first by name.
        std::fs::write(folder.path.join("b.json"), text("2", 9_000)).unwrap();
        folder.look();
        assert_eq!(folder.sets()["2"][0]["aexpr"], 7_000);
        std::fs::remove_file(&file).unwrap();
        folder.look();
        assert_eq!(folder.sets()["2"][0]["aexpr"], 9_000);
    }

    #[test]
    fn sets_of_a_folder_that_cannot_be_read_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("rule-sets"), dir.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("a.json"), text("1", 7_000)).unwrap();
        let mut folder = Folder { path: path.clone(), files: BTreeMap::new(), wrong: None };
        folder.look();
        std::fs::rename(&path, &away).unwrap();
        std::fs::write(&path, "a file in the place of the folder").unwrap();
        folder.look();
        assert_eq!(folder.sets().keys().collect::<Vec<_>>(), ["1"]);
        let (_, wrong) = read_folder(&path);
        assert!(wrong[0].starts_with(&format!("{}: the folder cannot be read", path.display())), "{wrong:?}");
        std::fs::remove_file(&path).unwrap();
        folder.look();
        assert_eq!((folder.sets().len(), folder.wrong), (0, None), "now it is gone");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("a.json");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::create_dir(dir.path().join("b.json")).unwrap();
        std::fs::write(dir.path().join("c.json"), text("1", 7_000)).unwrap();
        let (told, looked) = std::sync::mpsc::channel();
        let folder = dir.path().to_owned();
        std::thread::spawn(move || told.send(read_folder(&folder)));
        let (sets, wrong) = looked.recv_timeout(Duration::from_secs(20)).expect("the pipe is waited for");
        assert_eq!(sets.keys().collect::<Vec<_>>(), ["1"]);
        let expected =
            ["a.json", "b.json"].map(|name| format!("{}: is no regular file", dir.path().join(name).display()));
        assert_eq!(wrong, expected);
    }

    #[tokio::test]
    async fn a_new_file_is_in_force_soon() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RuleFolder::follow(dir.path().to_owned()).await;
        let mut sets = folder.sets();
        assert!(sets.borrow().is_empty());
        std::fs::write(dir.path().join("a.json"), text("1", 7_000)).unwrap();
        let wait = sets.wait_for(|sets| sets.contains_key("1"));
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap().unwrap();
    }
}
