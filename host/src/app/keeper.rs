//! What the configuration is: the text of the file, what has been changed since it was written, and what is never
//! written. Does no I/O and reads no clock.

use std::collections::BTreeMap;

use crate::config::edit::{self, EditError};
use crate::config::{self, Config, ConfigError, ConfigErrors, Edit, Override, SettingsError, Volatile};

/// In force until the process ends, never written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Temporary {
    max_total_cur_prc: Option<u8>,
    variables: BTreeMap<String, f64>,
}

/// The configuration, and how it differs from its file.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The file, for messages.
    file: String,
    overrides: Vec<Override>,
    /// What the file says, as last read or written.
    disk: String,
    /// What it is to say.
    text: String,
    /// `text` with the overrides.
    config: Config,
    /// Why the file is of no use at the moment.
    broken: Option<ConfigErrors>,
    temporary: Temporary,
}

/// What a look at the file came to.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Nothing that was not known.
    Same,
    /// It was changed and is well.
    Changed {
        /// Changes that were not yet written and are lost, each with the reason.
        lost: Vec<String>,
    },
    /// It is not well; what was in force stays so.
    Broken(ConfigErrors),
}

impl Keeper {
    /// `config` is what `text` says with the overrides.
    pub fn new(file: String, overrides: Vec<Override>, text: String, config: Config) -> Self {
        Self { file, overrides, disk: text.clone(), text, config, broken: None, temporary: Temporary::default() }
    }

    /// The configuration in force.
    pub fn in_force(&self) -> Config {
        let mut config = self.config.clone();
        if let Some(share) = self.temporary.max_total_cur_prc {
            config.load.max_total_cur_prc = share;
        }
        config.variables.extend(self.temporary.variables.clone());
        config
    }

    /// The file's text and what has to take its place; `None` if it is as it should be, or not to be touched.
    pub fn to_write(&self) -> Option<(String, String)> {
        let dirty = self.broken.is_none() && self.text != self.disk;
        dirty.then(|| (self.disk.clone(), self.text.clone()))
    }

    /// The file says this now.
    pub fn written(&mut self, text: String) {
        self.disk = text;
    }

    /// Makes changes, all or none.
    pub fn change(&mut self, edits: &[Edit], volatile: &[Volatile]) -> Result<(), SettingsError> {
        self.check_volatile(volatile).map_err(|error| SettingsError::Invalid(ConfigErrors(vec![error])))?;
        if !edits.is_empty() {
            self.edit(edits)?;
        }
        for edit in edits {
            // A value that is to last ends one that is not.
            self.forget(&edit::target(edit));
        }
        for change in volatile {
            match change {
                Volatile::MaxTotalCurPrc(share) => self.temporary.max_total_cur_prc = Some(*share),
                Volatile::Variable { name, value: Some(value) } => {
                    self.temporary.variables.insert(name.clone(), *value);
                }
                Volatile::Variable { name, value: None } => _ = self.temporary.variables.remove(name),
                Volatile::ClearVariables => self.temporary.variables.clear(),
            }
        }
        Ok(())
    }

    fn check_volatile(&self, volatile: &[Volatile]) -> Result<(), ConfigError> {
        let error = |key: String, message: String| ConfigError { place: self.file.clone(), key, message };
        for change in volatile {
            match change {
                Volatile::MaxTotalCurPrc(share) if *share > 100 => {
                    let message = format!("expected a whole number from 0 to 100, found the number {share}");
                    return Err(error("load.max_total_cur_prc".into(), message));
                }
                Volatile::Variable { name, value } => {
                    config::variable_name(name).map_err(|why| error("variables".into(), why))?;
                    if value.is_some_and(|value| !value.is_finite()) {
                        return Err(error(format!("variables.{name}"), "expected a number".into()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn edit(&mut self, edits: &[Edit]) -> Result<(), SettingsError> {
        if let Some(errors) = &self.broken {
            return Err(SettingsError::Cannot(format!(
                "the configuration cannot be changed until its file is well again: {errors}"
            )));
        }
        let text = edit::edit(&self.text, edits).map_err(|error| self.invalid(error))?;
        if text == self.text {
            return Ok(());
        }
        let changed = edit::differences(&self.text, &text).unwrap_or_default();
        for path in changed.iter().flat_map(edit::leaves) {
            if let Some(with) = self.overrides.iter().find(|with| with.covers(&path)) {
                let message = "is set on the command line and stays so for this run; the change would have no effect";
                let error = ConfigError { place: with.to_string(), key: edit::name_of(&path), message: message.into() };
                return Err(SettingsError::Invalid(ConfigErrors(vec![error])));
            }
        }
        self.config = config::parse(&self.file, &text, &self.overrides).map_err(SettingsError::Invalid)?;
        self.text = text;
        Ok(())
    }

    fn invalid(&self, error: EditError) -> SettingsError {
        let error = ConfigError { place: self.file.clone(), key: error.key, message: error.message };
        SettingsError::Invalid(ConfigErrors(vec![error]))
    }

    /// Takes up what the file says.
    pub fn found(&mut self, disk: Result<String, String>) -> Found {
        let read = disk
            .map_err(|message| {
                ConfigErrors(vec![ConfigError { place: self.file.clone(), key: String::new(), message }])
            })
            .and_then(|text| Ok((config::parse(&self.file, &text, &self.overrides)?, text)));
        match read {
            Err(errors) if self.broken.as_ref() == Some(&errors) => Found::Same,
            Err(errors) => {
                self.broken = Some(errors.clone());
                Found::Broken(errors)
            }
            Ok((_, text)) if text == self.disk => match self.broken.take() {
                None => Found::Same,
                Some(_) => Found::Changed { lost: Vec::new() },
            },
            Ok((config, text)) => {
                self.broken = None;
                Found::Changed { lost: self.rebase(text, config) }
            }
        }
    }

    /// Somebody changed the file: what was not yet written is done again to their text, where they did not say
    /// something about the very same thing. Answers what is lost.
    fn rebase(&mut self, theirs: String, config: Config) -> Vec<String> {
        let their_changes = edit::differences(&self.disk, &theirs).unwrap_or_default();
        let our_changes = edit::differences(&self.disk, &self.text).unwrap_or_default();
        let their_targets: Vec<Vec<String>> = their_changes.iter().map(edit::target).collect();
        for target in &their_targets {
            self.forget(target);
        }
        let mut lost = Vec::new();
        let mut text = theirs.clone();
        for change in our_changes {
            let lose = |why: &str| format!("{}: {why}", edit::key_of(&change));
            let target = edit::target(&change);
            match edit::edit(&text, std::slice::from_ref(&change)) {
                Ok(made) if made == text => {}
                Ok(_) if their_targets.iter().any(|their| edit::overlap(their, &target)) => {
                    lost.push(lose("the file was changed there as well"));
                }
                Ok(made) => text = made,
                Err(error) => lost.push(lose(&error.message)),
            }
        }
        let ours = if text == theirs { Ok(config.clone()) } else { config::parse(&self.file, &text, &self.overrides) };
        self.config = match ours {
            Ok(ours) => ours,
            Err(errors) => {
                // Each fits alone, and they do not fit together.
                lost.extend(errors.0.iter().map(ToString::to_string));
                text.clone_from(&theirs);
                config
            }
        };
        self.disk = theirs;
        self.text = text;
        lost
    }

    /// Temporary values end where the file gets another one.
    fn forget(&mut self, key: &[String]) {
        let is = |path: &[&str]| edit::overlap(key, &path.iter().map(ToString::to_string).collect::<Vec<_>>());
        if is(&["load", "max_total_cur_prc"]) {
            self.temporary.max_total_cur_prc = None;
        }
        self.temporary.variables.retain(|name, _| !is(&["variables", name]));
    }
}
