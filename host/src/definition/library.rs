//! The definition files that are there, by device type. Reads folders when it is told to; whether what they say now is
//! to be believed is decided by whoever watches them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ladekern_definition::parse::Finding;
use ladekern_definition::{Definition, parse};
use sha2::{Digest as _, Sha256};

/// Largest definition file in bytes; real ones have some kilobytes.
const MOST_BYTES: u64 = 1 << 20;
/// Findings that a sentence about a broken file holds; the log has all.
const MOST_SAID: usize = 3;

/// A usable definition.
#[derive(Debug)]
pub struct DefinitionFile {
    /// What it says.
    pub definition: Definition,
    /// Where it lies.
    pub path: PathBuf,
    /// Differs when the text differs.
    pub fingerprint: String,
}

/// What a change of the folders led to.
#[derive(Clone, Debug)]
pub enum DefinitionEvent {
    /// A new, another or a repaired definition is in force.
    Loaded(Arc<DefinitionFile>),
    /// The file that counts for this type cannot be used. What was in force stays.
    Broken {
        /// As far as the file still tells.
        dev_type: Option<String>,
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, at least one.
        findings: Vec<String>,
    },
    /// No file describes this type any more.
    Removed {
        /// The type.
        dev_type: String,
    },
}

/// The definitions in force; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Library {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// What the files say, as far as it is believed.
    shelf: Shelf,
    in_force: BTreeMap<String, Arc<DefinitionFile>>,
    /// Why the file that counts for a type cannot be used.
    broken: BTreeMap<String, String>,
    /// Files that another one of their folder makes useless, a sentence each.
    doubles: Vec<String>,
    /// Fingerprints of what has been complained about, by file: told once.
    told: BTreeMap<PathBuf, String>,
}

/// A file: the number of its folder and its path. The first one that describes a type counts.
pub(super) type Key = (usize, PathBuf);
/// What the files say.
pub(super) type Shelf = BTreeMap<Key, Said>;
/// The texts of all files, or why one cannot be read.
pub(super) type Texts = BTreeMap<Key, Result<String, String>>;

/// What one file says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub fingerprint: String,
    /// As far as a broken file tells.
    dev_type: Option<String>,
    pub read: Result<Arc<DefinitionFile>, Vec<String>>,
}

impl Library {
    /// All that the folders hold now, believed at once: nobody writes while the host starts. Blocks.
    #[must_use]
    pub fn open(dirs: &[PathBuf]) -> (Self, Vec<DefinitionEvent>) {
        let library = Self::default();
        let texts = read_folders(dirs);
        let shelf = texts.into_iter().map(|(key, text)| {
            let said = Said::of(&key.1, &text);
            (key, said)
        });
        let events = library.believe(shelf.collect());
        (library, events)
    }

    /// The definition of a type.
    #[must_use]
    pub fn get(&self, dev_type: &str) -> Option<Arc<DefinitionFile>> {
        self.read().in_force.get(dev_type).cloned()
    }

    /// All definitions by type.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<DefinitionFile>> {
        self.read().in_force.values().cloned().collect()
    }

    /// Why the file that counts for this type cannot be used; `None` if it can, or if there is none.
    #[must_use]
    pub fn broken(&self, dev_type: &str) -> Option<String> {
        self.read().broken.get(dev_type).cloned()
    }

    /// Files whose type another file of the same folder describes too, a sentence each with both names.
    #[must_use]
    pub fn doubles(&self) -> Vec<String> {
        self.read().doubles.clone()
    }

    /// What is believed now.
    pub(super) fn shelf(&self) -> Shelf {
        self.read().shelf.clone()
    }

    /// From now on the files say this. Of two files for one type that of the earlier folder counts, even when it is
    /// the broken one: a user who replaces a supplied definition does not get the old one back in silence.
    pub(super) fn believe(&self, mut shelf: Shelf) -> Vec<DefinitionEvent> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        // A file that is empty since the disk is full, or that cannot be read, is still the one of its type.
        for (key, said) in shelf.iter_mut().filter(|(_, said)| said.dev_type.is_none()) {
            said.dev_type = inner.shelf.get(key).and_then(|before| before.dev_type.clone());
        }
        let mut events = Vec::new();
        let mut counts: BTreeMap<&str, (&Key, &Said)> = BTreeMap::new();
        let (mut told, mut doubles) = (BTreeMap::new(), Vec::new());
        for (key, said) in &shelf {
            let first = said.dev_type.as_deref().and_then(|dev_type| counts.get(dev_type).copied());
            match (first, &said.dev_type) {
                (None, Some(dev_type)) => _ = counts.insert(dev_type, (key, said)),
                // In another folder it is meant: that is how a supplied definition is replaced.
                (Some((first, _)), Some(dev_type)) if first.0 == key.0 => {
                    let text = double(&key.1, dev_type, &first.1);
                    if inner.told.get(&key.1) != Some(&text) {
                        tracing::warn!("{text}");
                    }
                    told.insert(key.1.clone(), text.clone());
                    doubles.push(text);
                }
                (Some(_), Some(_)) => {}
                (_, None) => {
                    told.insert(key.1.clone(), said.fingerprint.clone());
                    if let Err(findings) = &said.read
                        && inner.told.get(&key.1) != Some(&said.fingerprint)
                    {
                        let (path, findings) = (key.1.clone(), findings.clone());
                        events.push(DefinitionEvent::Broken { dev_type: None, path, findings });
                    }
                }
            }
        }
        let mut broken = BTreeMap::new();
        for (dev_type, (key, said)) in &counts {
            match &said.read {
                Ok(file) => {
                    let running = inner.in_force.get(*dev_type);
                    let same = running
                        .is_some_and(|running| running.fingerprint == file.fingerprint && running.path == file.path);
                    // What runs was put back in the place of a broken one: whoever was told of that is told of this.
                    if !same || inner.broken.contains_key(*dev_type) {
                        inner.in_force.insert((*dev_type).to_owned(), Arc::clone(file));
                        events.push(DefinitionEvent::Loaded(Arc::clone(file)));
                    }
                }
                Err(findings) => {
                    broken.insert((*dev_type).to_owned(), sentence(findings));
                    told.insert(key.1.clone(), said.fingerprint.clone());
                    if inner.told.get(&key.1) != Some(&said.fingerprint) {
                        let (dev_type, path) = (Some((*dev_type).to_owned()), key.1.clone());
                        events.push(DefinitionEvent::Broken { dev_type, path, findings: findings.clone() });
                    }
                }
            }
        }
        let known = inner.in_force.keys().chain(inner.broken.keys());
        let gone: std::collections::BTreeSet<String> =
            known.filter(|dev_type| !counts.contains_key(dev_type.as_str())).cloned().collect();
        for dev_type in gone {
            inner.in_force.remove(&dev_type);
            events.push(DefinitionEvent::Removed { dev_type });
        }
        (inner.broken, inner.told, inner.doubles) = (broken, told, doubles);
        inner.shelf = shelf;
        events
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        // Each change is complete before anything could panic.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// What the text says, or why there is none.
    pub fn of(path: &Path, text: &Result<String, String>) -> Self {
        let file = path.display().to_string();
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                let read = Err(vec![format!("{file}: {why}")]);
                return Self { fingerprint: fingerprint(why), dev_type: None, read };
            }
        };
        let fingerprint = fingerprint(text);
        match parse::parse(&file, text) {
            Ok(parsed) => {
                for warning in &parsed.warnings {
                    tracing::warn!("{warning}");
                }
                let definition = parsed.definition;
                let dev_type = Some(definition.dev_type.clone());
                let loaded = DefinitionFile { definition, path: path.to_owned(), fingerprint: fingerprint.clone() };
                Self { fingerprint, dev_type, read: Ok(Arc::new(loaded)) }
            }
            Err(findings) => {
                let findings = findings.iter().map(Finding::to_string).collect();
                Self { fingerprint, dev_type: claimed_type(text), read: Err(findings) }
            }
        }
    }
}

/// What is wrong with a file, for one line.
pub(crate) fn sentence(findings: &[String]) -> String {
    let said = findings.iter().take(MOST_SAID).map(String::as_str).collect::<Vec<_>>().join("; ");
    match findings.len().saturating_sub(MOST_SAID) {
        0 => said,
        more => format!("{said}; and {more} more"),
    }
}

/// That `file` is not used, for `first` of the same folder describes the type too.
fn double(file: &Path, dev_type: &str, first: &Path) -> String {
    format!("{}: {}", file.display(), double_of(dev_type, first))
}

/// As in [`Library::doubles`], without the name of the file that is not used.
pub(crate) fn double_of(dev_type: &str, first: &Path) -> String {
    let first = first.display();
    format!(
        "dev_type: \"{dev_type}\" is described by {first} too, and of one folder the first by name is used; remove one of them"
    )
}

pub(super) fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The type a file names that cannot be read as a whole: it still takes the place of a supplied one.
fn claimed_type(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("dev_type")?;
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest).trim_start().strip_prefix(':')?.trim_start();
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let name = rest.get(1..)?.split(quote).next()?;
    let usable = !name.is_empty() && name.len() <= 100 && !name.contains(['\n', '\r', ',', ':']);
    usable.then(|| name.to_owned())
}

/// The texts of all definition files in `dirs`. A folder that does not exist is empty; of one that cannot be read the
/// reason stands under its own name. Blocks.
pub(super) fn read_folders(dirs: &[PathBuf]) -> Texts {
    let mut texts = Texts::new();
    for (number, dir) in dirs.iter().enumerate() {
        let entries = std::fs::read_dir(dir).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let entries = entries.unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                let why = format!("the folder cannot be read, what was in force stays: {error}");
                texts.insert((number, dir.clone()), Err(why));
            }
            Vec::new()
        });
        for entry in entries {
            let path = entry.path();
            let wanted = path.extension().is_some_and(|ext| ext == "json" || ext == "json5");
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if wanted && !hidden && path.is_file() {
                let text = read_file(&path);
                texts.insert((number, path), text);
            }
        }
    }
    texts
}

fn read_file(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > MOST_BYTES {
        return Err(format!("has {size} bytes; expected a definition of at most {MOST_BYTES}"));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is no text: byte {at} is no UTF-8; save it as UTF-8")
    })
}

/// Whether the file lies in a folder that could not be read, so that nothing is known about it.
pub(super) fn is_out_of_sight(texts: &Texts, (number, path): &Key) -> bool {
    path.parent().is_some_and(|folder| matches!(texts.get(&(*number, folder.to_owned())), Some(Err(_))))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A meter whose power is at this topic.
    pub fn meter(dev_type: &str, topic: &str) -> String {
        format!(
            "{{\"rtype\": 2, \"dev_type\": \"{dev_type}\", \"power_w\": {{\"address\": \"{topic}\", \"type\": \"float\", \
             \"query\": \"p\"}}}}"
        )
    }

    pub fn said(events: &[DefinitionEvent]) -> Vec<String> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let said = events.iter().map(|event| match event {
            DefinitionEvent::Loaded(file) => format!("loaded {} {}", file.definition.dev_type, name(&file.path)),
            DefinitionEvent::Broken { dev_type, path, findings } => {
                assert!(findings.iter().all(|finding| finding.contains(&*path.to_string_lossy())), "{findings:?}");
                format!("broken {} {}", dev_type.as_deref().unwrap_or("?"), name(path))
            }
            DefinitionEvent::Removed { dev_type } => format!("removed {dev_type}"),
        });
        said.collect()
    }

    struct Folders(tempfile::TempDir);

    impl Folders {
        fn new(files: &[(&str, &str)]) -> Self {
            let folders = Self(tempfile::tempdir().unwrap());
            files.iter().for_each(|(file, text)| folders.write(file, text));
            folders
        }

        fn write(&self, file: &str, text: impl AsRef<[u8]>) {
            let path = self.0.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn remove(&self, file: &str) {
            std::fs::remove_file(self.0.path().join(file)).unwrap();
        }

        fn dirs(&self) -> [PathBuf; 2] {
            ["own", "supplied"].map(|dir| self.0.path().join(dir))
        }

        fn open(&self) -> (Library, Vec<String>) {
            let (library, events) = Library::open(&self.dirs());
            (library, said(&events))
        }

        fn again(&self, library: &Library) -> Vec<String> {
            let texts = read_folders(&self.dirs());
            said(
                &library.believe(texts.into_iter().map(|(key, text)| (key.clone(), Said::of(&key.1, &text))).collect()),
            )
        }
    }

    #[test]
    fn files_are_found_by_what_they_describe() {
        let folders = Folders::new(&[
            ("own/a.json", &meter("alpha", "a")),
            ("supplied/b.json5", &format!("// a comment\n{}", meter("beta", "b"))),
            ("own/notes.txt", "no definition"),
            ("own/.a.json", "{ an editor's"),
            ("own/deep/c.json", &meter("gamma", "c")),
        ]);
        let (library, said) = folders.open();
        assert_eq!(said, ["loaded alpha a.json", "loaded beta b.json5"]);
        assert_eq!(library.all().len(), 2);
        assert!(library.get("gamma").is_none() && library.broken("alpha").is_none());
        assert_eq!(folders.again(&library), [""; 0], "nothing has changed");
    }

    #[test]
    fn the_users_file_counts_even_when_it_is_broken() {
        let folders = Folders::new(&[("supplied/a.json", &meter("alpha", "supplied"))]);
        let (library, _) = folders.open();
        let supplied = library.get("alpha").unwrap().fingerprint.clone();
        folders.write("own/mine.json", meter("alpha", "own"));
        assert_eq!(folders.again(&library), ["loaded alpha mine.json"]);
        folders.write("own/mine.json", meter("alpha", "own").replace('}', ""));
        assert_eq!(folders.again(&library), ["broken alpha mine.json"]);
        assert_ne!(library.get("alpha").unwrap().fingerprint, supplied, "what ran goes on");
        assert!(library.broken("alpha").unwrap().contains("mine.json:1:"));
        assert_eq!(folders.again(&library), [""; 0], "told once");
        folders.remove("own/mine.json");
        assert_eq!(folders.again(&library), ["loaded alpha a.json"]);
        assert_eq!(library.get("alpha").unwrap().fingerprint, supplied);
        folders.remove("supplied/a.json");
        assert_eq!(folders.again(&library), ["removed alpha"]);
        assert!(library.get("alpha").is_none());

        let folders =
            Folders::new(&[("supplied/a.json", &meter("alpha", "x")), ("own/a.json", "{\"dev_type\": 'alpha'")]);
        let (library, said) = folders.open();
        assert_eq!(said, ["broken alpha a.json"]);
        assert!(library.get("alpha").is_none(), "the supplied one does not come back in silence");
    }

    #[test]
    fn of_two_in_one_folder_the_first_by_name_counts() {
        let folders = Folders::new(&[("own/a.json", &meter("alpha", "a")), ("own/b.json", &meter("alpha", "b"))]);
        let (library, said) = folders.open();
        assert_eq!(said, ["loaded alpha a.json"]);
        assert_eq!(library.all().len(), 1);
        let [double] = &*library.doubles() else { panic!("{:?}", library.doubles()) };
        assert!(
            double.contains("b.json: dev_type: \"alpha\" is described by ") && double.contains("a.json too"),
            "{double}"
        );
        folders.remove("own/a.json");
        assert_eq!(folders.again(&library), ["loaded alpha b.json"]);
        assert_eq!(library.doubles(), [""; 0]);
        // That is how a supplied one is replaced.
        folders.write("supplied/a.json", meter("alpha", "a"));
        assert_eq!((folders.again(&library).len(), library.doubles().len()), (0, 0));
    }

    #[test]
    fn a_file_that_is_empty_or_cannot_be_read_is_still_that_of_its_type() {
        let own = ("own/a.json", &*meter("alpha", "a"));
        let folders = Folders::new(&[own, ("supplied/a.json", &meter("alpha", "b"))]);
        let (library, _) = folders.open();
        folders.write("own/a.json", "");
        assert_eq!(folders.again(&library), ["broken alpha a.json"]);
        folders.write("own/a.json", [0xff, 0xfe]);
        assert_eq!(folders.again(&library), ["broken alpha a.json"]);
        let path = library.get("alpha").unwrap().path.clone();
        assert!(path.ends_with("own/a.json"), "neither gone nor replaced by the supplied one: {path:?}");
        folders.remove("own/a.json");
        assert_eq!(folders.again(&library), ["loaded alpha a.json"], "now it is");
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_told_and_one_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("definitions");
        std::fs::write(&file, "a file in the place of the folder").unwrap();
        let (library, events) = Library::open(&[file.clone(), dir.path().join("missing")]);
        let [DefinitionEvent::Broken { dev_type: None, findings, .. }] = &*events else { panic!("{events:?}") };
        assert!(findings[0].starts_with(&format!("{}: the folder cannot be read", file.display())), "{findings:?}");
        assert!(library.all().is_empty());
    }

    #[test]
    fn what_is_put_back_is_told_to_who_was_told_of_the_broken_one() {
        let folders = Folders::new(&[("own/a.json", &meter("alpha", "a"))]);
        let (library, _) = folders.open();
        folders.write("own/a.json", "\"dev_type\": \"alpha\"");
        assert_eq!(folders.again(&library), ["broken alpha a.json"]);
        folders.write("own/a.json", meter("alpha", "a"));
        assert_eq!(folders.again(&library), ["loaded alpha a.json"]);
        assert_eq!(library.broken("alpha"), None);
    }

    #[test]
    fn what_is_no_text_or_too_large_or_says_no_type_is_told_by_its_name() {
        let folders = Folders::new(&[("own/c.json", "{\"rtype\": 2}")]);
        folders.write("own/a.json", [b'{', 0xff]);
        folders.write("own/b.json", vec![b' '; 1 + usize::try_from(MOST_BYTES).unwrap()]);
        let (library, events) = Library::open(&folders.dirs());
        assert_eq!(said(&events), ["broken ? a.json", "broken ? b.json", "broken ? c.json"]);
        let findings: Vec<String> = events
            .into_iter()
            .flat_map(|event| match event {
                DefinitionEvent::Broken { findings, .. } => findings,
                _ => Vec::new(),
            })
            .collect();
        assert!(findings[0].contains("byte 1 is no UTF-8"), "{findings:?}");
        assert!(findings[1].contains("at most 1048576"), "{findings:?}");
        assert!(library.all().is_empty());
        assert_eq!(folders.again(&library), [""; 0], "told once");
    }

    #[test]
    fn a_broken_file_still_says_its_type_where_it_can() {
        for (text, claims) in [
            ("{\"dev_type\": \"a-b\", ", Some("a-b")),
            ("{dev_type : 'x.1'", Some("x.1")),
            ("{\"dev_type\": \"\"", None),
            ("{\"dev_type\": 5", None),
            ("{\"dev_type\": \"never ends,\n", None),
            ("dev_type", None),
            ("{}", None),
        ] {
            assert_eq!(claimed_type(text).as_deref(), claims, "{text}");
        }
    }
}
