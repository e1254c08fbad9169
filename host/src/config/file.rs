//! The configuration file on the disk: read as a whole, replaced as a whole. Whenever the process or the machine stops,
//! the file is either the old or the new one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A configuration larger than this is no configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What replacing the file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// It says the new text.
    Yes,
    /// It did not say what was expected: somebody has changed it, or it is gone. It was left alone.
    Not,
}

/// Where the text is kept. One implementation is the file; tests have others that fail.
pub(crate) trait Disk: Send + Sync + 'static {
    /// The text, or the sentence why there is none. Blocks.
    fn read(&self) -> Result<String, String>;

    /// Puts `text` into the place of `expected`. Blocks until it is safe from a power cut.
    ///
    /// # Errors
    /// The sentence why not; the old text is still there.
    fn replace(&self, expected: &str, text: &str) -> Result<Replaced, String>;
}

/// The file at a path; links are followed and stay.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile(pub PathBuf);

impl Disk for ConfigFile {
    fn read(&self) -> Result<String, String> {
        read(&self.0)
    }

    fn replace(&self, expected: &str, text: &str) -> Result<Replaced, String> {
        replace(&self.0, expected, text, &mut |_| Ok(()))
    }
}

/// The text of the file, or the sentence why there is none.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; --config PATH names another".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MAX_FILE_BYTES) {
        return Err(format!("is larger than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        format!("line {line} is no UTF-8 text")
    })
}

/// The moments of a replacement, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The new file is there, empty.
    Created,
    /// It holds the text.
    Written,
    /// It is safe from a power cut, and about to take the place of the old one.
    Synced,
    /// It has done so.
    Renamed,
}

/// Writes a new file beside the old one, makes it safe, and renames it over the old one, unless that says something
/// else than `expected` by then. A leftover of a process that was killed meanwhile is replaced. `step` is told where
/// things stand; its error counts as one of the disk.
///
/// Between the last look at the old file and the renaming lies no more than a system call; systems offer nothing that
/// would compare and rename at once.
fn replace(
    path: &Path,
    expected: &str,
    text: &str,
    step: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<Replaced, String> {
    // Not the link, but what it points at, is replaced.
    let Ok(target) = path.canonicalize() else { return Ok(Replaced::Not) };
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err("is no file".into());
    };
    let beside = folder.join(temporary_name(name));
    let written = (|| {
        write_beside(&target, &beside, text, step).map_err(|error| {
            format!("{} cannot be written: {error}; the file is replaced as a whole", beside.display())
        })?;
        if read(&target).as_deref() != Ok(expected) {
            return Ok(Replaced::Not);
        }
        std::fs::rename(&beside, &target).map_err(|error| format!("cannot be replaced: {error}"))?;
        Ok(Replaced::Yes)
    })();
    if written == Ok(Replaced::Yes) {
        // The new file is in its place already; a file system that cannot sync folders changes nothing of that.
        if let Err(error) = step(Step::Renamed).and_then(|()| File::open(folder)?.sync_all()) {
            tracing::debug!("{} cannot be synced: {error}", folder.display());
        }
    } else {
        // Whatever is left of it is replaced at the next attempt.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// `.ladekern.toml.new`
fn temporary_name(name: &std::ffi::OsStr) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".new");
    beside
}

fn write_beside(
    target: &Path,
    beside: &Path,
    text: &str,
    step: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    // Never through a link that somebody has put there.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(beside)?;
    step(Step::Created)?;
    like(target, &file)?;
    file.write_all(text.as_bytes())?;
    step(Step::Written)?;
    file.sync_all()?;
    step(Step::Synced)
}

/// Gives the new file the owner and the mode of the old one, the owner as far as that is allowed.
fn like(target: &Path, file: &File) -> io::Result<()> {
    let old = std::fs::metadata(target)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Only root may give files away. The group alone may be allowed.
            let _ = std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()))
                .or_else(|_| std::os::unix::fs::fchown(file, None, Some(old.gid())));
        }
    }
    file.set_permissions(old.permissions())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder {
        folder: tempfile::TempDir,
        file: PathBuf,
    }

    impl Folder {
        fn with(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ladekern.toml");
            std::fs::write(&file, text).unwrap();
            Self { folder, file }
        }

        fn text(&self) -> String {
            std::fs::read_to_string(&self.file).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let names = std::fs::read_dir(self.folder.path()).unwrap();
            let mut names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn no_fault(_: Step) -> io::Result<()> {
        Ok(())
    }

    #[test]
    fn the_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = Folder::with("old");
        assert_eq!(replace(&folder.file, "old", "new", &mut no_fault), Ok(Replaced::Yes));
        assert_eq!((folder.text().as_str(), folder.names()), ("new", vec!["ladekern.toml".to_owned()]));
    }

    #[test]
    fn at_every_moment_the_file_is_whole() {
        for text in ["short", &"long\n".repeat(100_000)] {
            let folder = Folder::with("old");
            let mut seen = Vec::new();
            let mut look = |step| {
                seen.push((step, std::fs::read_to_string(&folder.file).unwrap()));
                Ok(())
            };
            replace(&folder.file, "old", text, &mut look).unwrap();
            let (last, before) = seen.split_last().unwrap();
            assert_eq!(last, &(Step::Renamed, text.to_owned()));
            let steps: Vec<Step> = before.iter().map(|(step, _)| *step).collect();
            assert_eq!(steps, [Step::Created, Step::Written, Step::Synced]);
            assert!(before.iter().all(|(_, text)| text == "old"), "{before:?}");
        }
    }

    #[test]
    fn what_a_killed_process_left_is_replaced() {
        let folder = Folder::with("old");
        std::fs::write(folder.folder.path().join(".ladekern.toml.new"), "[half").unwrap();
        assert_eq!(replace(&folder.file, "old", "new", &mut no_fault), Ok(Replaced::Yes));
        assert_eq!((folder.text().as_str(), folder.names().len()), ("new", 1));
    }

    #[test]
    fn a_full_disk_leaves_the_old_file_and_nothing_else() {
        for full in [Step::Created, Step::Written, Step::Synced] {
            let folder = Folder::with("old");
            let mut fault = |step| if step == full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
            let error = replace(&folder.file, "old", "new", &mut fault).unwrap_err();
            assert!(error.contains(".ladekern.toml.new cannot be written: "), "{error}");
            assert_eq!((folder.text().as_str(), folder.names().len()), ("old", 1), "{full:?}");
        }
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_left_alone() {
        let folder = Folder::with("old");
        let mut edit = |step| {
            if step == Step::Synced { std::fs::write(&folder.file, "theirs") } else { Ok(()) }
        };
        assert_eq!(replace(&folder.file, "old", "new", &mut edit), Ok(Replaced::Not));
        assert_eq!((folder.text().as_str(), folder.names().len()), ("theirs", 1));
        std::fs::remove_file(&folder.file).unwrap();
        assert_eq!(replace(&folder.file, "theirs", "new", &mut no_fault), Ok(Replaced::Not));
        assert!(folder.names().is_empty(), "a file that was removed does not come back");
    }

    #[cfg(unix)]
    #[test]
    fn links_and_modes_stay() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::with("old");
        let link = folder.folder.path().join("link.toml");
        std::os::unix::fs::symlink("ladekern.toml", &link).unwrap();
        for mode in [0o600, 0o640, 0o644] {
            std::fs::set_permissions(&folder.file, std::fs::Permissions::from_mode(mode)).unwrap();
            let old = folder.text();
            assert_eq!(replace(&link, &old, &format!("{mode:o}"), &mut no_fault), Ok(Replaced::Yes));
            assert_eq!(folder.text(), format!("{mode:o}"));
            assert_eq!(std::fs::metadata(&folder.file).unwrap().permissions().mode() & 0o777, mode);
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        }
    }
}
