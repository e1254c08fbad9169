//! Where a site's files are: the state directory and the folders with plugins.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Options;

/// The state directory, which exists and is private.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Creates it with mode 0700 if it is missing.
    ///
    /// # Errors
    /// If it cannot be created; the message names the directory and `--state`.
    pub fn open(options: &Options) -> anyhow::Result<Self> {
        let path = options.state.clone().unwrap_or_else(|| beside(&options.config).join("state"));
        create_private(&path).with_context(|| {
            format!("the state directory {} cannot be created; --state DIR names another", path.display())
        })?;
        Ok(Self { path })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where compiled plugins are kept.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.path.join("cache")
    }
}

#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}

/// The folders plugins are looked for in, in this order: beside the configuration file, where `--plugins` points,
/// beside the program, in `dist/` of the working directory.
#[must_use]
pub fn plugin_folders(config: Option<&Path>, given: &[PathBuf]) -> Vec<PathBuf> {
    folders("plugins", config, given)
}

/// The folders definition files are looked for in: as [`plugin_folders`], and last in the working directory, where they
/// lie in the source tree.
#[must_use]
pub fn definition_folders(config: Option<&Path>, given: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = folders("definitions", config, given);
    let here = PathBuf::from("definitions");
    let same = |folder: &PathBuf| std::path::absolute(folder).ok() == std::path::absolute(&here).ok();
    if !folders.iter().any(same) {
        folders.push(here);
    }
    folders
}

fn folders(name: &str, config: Option<&Path>, given: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = config.map(|file| beside(file).join(name)).into_iter().collect();
    folders.extend(given.iter().cloned());
    let program = std::env::current_exe().ok();
    folders.extend(program.as_deref().and_then(Path::parent).map(|folder| folder.join(name)));
    folders.push(Path::new("dist").join(name));
    folders
}

/// The folder with rule sets, beside the configuration file.
#[must_use]
pub fn rule_sets(config: &Path) -> PathBuf {
    beside(config).join("rule-sets")
}

/// The folder a file lies in; `.` for a bare name.
fn beside(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_lies_beside_the_configuration_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { config: folder.path().join("ladekern.toml"), ..Options::default() };
        let state = StateDir::open(&options).unwrap();
        assert_eq!(state.path(), folder.path().join("state"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(state.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        assert_eq!(StateDir::open(&options).unwrap().path(), state.path(), "a second start finds it");
    }

    #[test]
    fn a_state_directory_that_cannot_be_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let options = Options { state: Some(file.join("state")), ..Options::default() };
        let error = format!("{:#}", StateDir::open(&options).unwrap_err());
        assert!(error.contains("--state"), "{error}");
    }

    #[test]
    fn plugins_beside_the_configuration_win_over_given_ones() {
        let folders = plugin_folders(Some(Path::new("home/ladekern.toml")), &["mine".into()]);
        assert_eq!(folders.first(), Some(&PathBuf::from("home/plugins")));
        assert_eq!(folders.get(1), Some(&PathBuf::from("mine")));
        assert_eq!(folders.last(), Some(&PathBuf::from("dist/plugins")));
        assert_eq!(plugin_folders(Some(Path::new("ladekern.toml")), &[])[0], PathBuf::from("./plugins"));
    }
}
