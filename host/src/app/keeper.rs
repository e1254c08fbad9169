//! What the configuration is: the text of the file, what has been changed since it was written, and what is never
//! written. Does no I/O and reads no clock.

use std::collections::BTreeMap;

use crate::config::edit::{self, EditError};
use crate::config::{
    self, Config, ConfigError, ConfigErrors, Edit, Expr, Override, SettingsError, VariableConfig, Volatile,
};

/// In force until the process ends, never written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Temporary {
    max_total_cur_prc: Option<u8>,
    variables: BTreeMap<String, Expr>,
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
        for (name, expr) in &self.temporary.variables {
            match config.variables.get_mut(name) {
                // It stays a trigger.
                Some(variable) => variable.expr = expr.clone(),
                None => _ = config.variables.insert(name.clone(), VariableConfig::of(expr.clone())),
            }
        }
        config
    }

    /// The file's text and what has to take its place; `None` if it is as it should be, or not to be touched.
    pub fn to_write(&self) -> Option<(String, String)> {
        let dirty = self.broken.is_none() && self.text != self.disk;
        dirty.then(|| (self.disk.clone(), self.text.clone()))
    }

    /// Whether the file is known to say this.
    pub fn is_on_disk(&self, disk: &Result<String, String>) -> bool {
        disk.as_ref().is_ok_and(|text| *text == self.disk)
    }

    /// The file says this now.
    pub fn written(&mut self, text: String) {
        self.disk = text;
    }

    /// Makes changes, all or none.
    pub fn change(&mut self, edits: &[Edit], volatile: &[Volatile]) -> Result<(), SettingsError> {
        self.check_volatile(volatile).map_err(|error| SettingsError::Invalid(ConfigErrors(vec![error])))?;
        let before = (self.text.clone(), self.config.clone(), self.temporary.clone());
        self.make(edits, volatile)?;
        // What the file says has been checked; with temporary formulas a cycle may come of it.
        if !self.temporary.variables.is_empty()
            && let Err(error) = config::check_order(&self.in_force())
        {
            (self.text, self.config, self.temporary) = before;
            return Err(SettingsError::Invalid(ConfigErrors(vec![error])));
        }
        Ok(())
    }

    fn make(&mut self, edits: &[Edit], volatile: &[Volatile]) -> Result<(), SettingsError> {
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
                    self.temporary.variables.insert(name.clone(), value.clone());
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
                    if matches!(value, Some(Expr::Number(value)) if !value.is_finite()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "[site]\ntitle = \"a\" # shown\n\n[variables]\nx = 1\n\n[[device]]\nid = \"E1\"\ntype = \"http-input\"\nmax_ma = 16000\n";

    fn keeper_with(set: &[&str]) -> Keeper {
        let overrides: Vec<Override> = set.iter().map(|set| set.parse().unwrap()).collect();
        let config = config::parse("f.toml", HOME, &overrides).unwrap();
        Keeper::new("f.toml".into(), overrides, HOME.into(), config)
    }

    fn keeper() -> Keeper {
        keeper_with(&[])
    }

    fn path(key: &str) -> Vec<String> {
        key.split('.').map(str::to_owned).collect()
    }

    fn set(key: &str, value: &str) -> Edit {
        Edit::Set { key: path(key), value: value.parse().unwrap() }
    }

    fn variable(name: &str, value: f64) -> Volatile {
        Volatile::Variable { name: name.into(), value: Some(Expr::Number(value)) }
    }

    fn value(config: &Config, name: &str) -> Option<f64> {
        match config.variables.get(name)?.expr {
            Expr::Number(value) => Some(value),
            Expr::Formula(_) => None,
        }
    }

    #[track_caller]
    fn invalid(keeper: &mut Keeper, edits: &[Edit], volatile: &[Volatile], part: &str) {
        let before = (keeper.in_force(), keeper.to_write());
        let error = keeper.change(edits, volatile).unwrap_err();
        assert!(matches!(error, SettingsError::Invalid(_)), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!((keeper.in_force(), keeper.to_write()), before, "nothing of it is in force");
    }

    #[test]
    fn a_change_is_in_force_and_to_be_written() {
        let mut keeper = keeper();
        keeper.change(&[set("device.E1.max_ma", "8000")], &[]).unwrap();
        assert_eq!(keeper.in_force().devices[0].max_ma, 8000);
        let (expected, text) = keeper.to_write().unwrap();
        assert_eq!((expected.as_str(), text.clone()), (HOME, HOME.replace("16000", "8000")));
        keeper.written(text);
        assert_eq!(keeper.to_write(), None);
        // What is so already is not written, and neither is what was taken back.
        keeper.change(&[set("device.E1.max_ma", "8000")], &[]).unwrap();
        assert_eq!(keeper.to_write(), None);
        keeper.change(&[set("variables.x", "2")], &[]).unwrap();
        keeper.change(&[set("variables.x", "1")], &[]).unwrap();
        assert_eq!(keeper.to_write(), None);
    }

    #[test]
    fn all_or_nothing() {
        let mut keeper = keeper();
        let good = set("site.title", "\"b\"");
        invalid(
            &mut keeper,
            &[good.clone(), set("device.E1.max_ma", "5")],
            &[],
            "f.toml:10: device.E1.max_ma: expected",
        );
        invalid(
            &mut keeper,
            &[good.clone(), set("device.E7.max_ma", "8000")],
            &[],
            "f.toml: device.E7.max_ma: there is no",
        );
        invalid(
            &mut keeper,
            &[set("site.titel", "1")],
            &[],
            "f.toml:3: site.titel: unknown key, did you mean \"title\"?",
        );
        invalid(
            &mut keeper,
            std::slice::from_ref(&good),
            &[Volatile::MaxTotalCurPrc(101)],
            "load.max_total_cur_prc: expected",
        );
        invalid(&mut keeper, &[good], &[variable("y", f64::NAN)], "variables.y: expected a number");
        invalid(&mut keeper, &[], &[variable("y", 1.0), variable("0", 1.0)], "not beginning with a digit");
    }

    #[test]
    fn what_the_command_line_says_cannot_be_changed() {
        let mut keeper = keeper_with(&["device.E1.max_ma=8000", "site.desc=d"]);
        invalid(
            &mut keeper,
            &[set("device.E1.max_ma", "10000")],
            &[],
            "--set device.E1.max_ma=8000: device.E1.max_ma: is set on the command line",
        );
        invalid(
            &mut keeper,
            &[Edit::RemoveEntry { list: "device", id: "E1".into() }],
            &[],
            "is set on the command line",
        );
        // Another key beside it is free, and so is the same value again.
        keeper.change(&[set("device.E1.name", "\"n\""), set("device.E1.max_ma", "16000")], &[]).unwrap();
        assert_eq!((keeper.in_force().devices[0].name.as_str(), keeper.in_force().devices[0].max_ma), ("n", 8000));
        assert!(!keeper.to_write().unwrap().1.contains("8000"), "overrides are not saved");
    }

    #[test]
    fn temporary_values_are_never_written_and_last_until_somebody_says_otherwise() {
        let mut keeper = keeper();
        keeper.change(&[], &[Volatile::MaxTotalCurPrc(50), variable("x", 7.0), variable("y", 8.0)]).unwrap();
        let check = |keeper: &Keeper, share: u8, x: f64, y: Option<f64>| {
            let config = keeper.in_force();
            assert_eq!(config.load.max_total_cur_prc, share);
            assert_eq!((value(&config, "x"), value(&config, "y")), (Some(x), y));
        };
        check(&keeper, 50, 7.0, Some(8.0));
        assert_eq!(keeper.to_write(), None);
        // Other changes, by commands and by hand, leave them.
        keeper.change(&[set("site.title", "\"b\"")], &[]).unwrap();
        assert_eq!(keeper.found(Ok(HOME.replace("16000", "9000"))), Found::Changed { lost: Vec::new() });
        check(&keeper, 50, 7.0, Some(8.0));
        assert!(!keeper.to_write().unwrap().1.contains("prc"));
        // A lasting value ends a temporary one, one by hand too.
        keeper.change(&[set("variables.y", "3")], &[]).unwrap();
        check(&keeper, 50, 7.0, Some(3.0));
        let text = keeper.to_write().unwrap().1;
        keeper.found(Ok(text.replace("x = 1", "x = 2")));
        check(&keeper, 50, 2.0, Some(3.0));
        keeper.found(Ok(format!("load.max_total_cur_prc = 90\n{text}")));
        check(&keeper, 90, 1.0, Some(3.0));
        keeper.change(&[], &[variable("x", 5.0), variable("z", 5.0)]).unwrap();
        keeper.change(&[], &[Volatile::Variable { name: "x".into(), value: None }]).unwrap();
        assert_eq!((value(&keeper.in_force(), "x"), value(&keeper.in_force(), "z")), (Some(1.0), Some(5.0)));
        keeper.change(&[], &[Volatile::ClearVariables]).unwrap();
        assert_eq!(keeper.in_force().variables.len(), 2);
    }

    #[test]
    fn temporary_formulas_make_no_cycle() {
        let mut keeper = keeper();
        keeper.change(&[set("variables.y", "\"x + 1\"")], &[]).unwrap();
        let formula = |text: &str| Volatile::Variable { name: "x".into(), value: Some(Expr::parse(text).unwrap()) };
        invalid(&mut keeper, &[], &[formula("CM.Y * 2")], "variables.x: these formulas need one another");
        keeper.change(&[], &[formula("2 * 3")]).unwrap();
        // Neither by a lasting change beside a temporary one.
        keeper.change(&[], &[formula("z")]).unwrap();
        invalid(&mut keeper, &[set("variables.z", "\"y\"")], &[], "CM.x → CM.z → CM.y → CM.x");
    }

    #[test]
    fn changes_that_are_not_written_yet_are_made_to_what_a_human_wrote_meanwhile() {
        let mut keeper = keeper();
        keeper.change(&[set("device.E1.max_ma", "8000"), set("variables.y", "2")], &[]).unwrap();
        let theirs = format!("# mine\n{}", HOME.replace("\"a\"", "\"b\""));
        assert_eq!(keeper.found(Ok(theirs.clone())), Found::Changed { lost: Vec::new() });
        let config = keeper.in_force();
        assert_eq!((config.site.title.as_str(), config.devices[0].max_ma, value(&config, "y")), ("b", 8000, Some(2.0)));
        let expected = theirs.replace("16000", "8000").replace("x = 1\n", "x = 1\ny = 2\n");
        assert_eq!(keeper.to_write(), Some((theirs, expected)));
    }

    #[test]
    fn a_human_is_never_overruled() {
        let lost = |theirs: &str, ours: &[Edit], part: &str| {
            let mut keeper = keeper();
            keeper.change(ours, &[]).unwrap();
            let Found::Changed { lost } = keeper.found(Ok(theirs.to_owned())) else { panic!("{theirs}") };
            assert_eq!(lost.len(), 1, "{lost:?}");
            assert!(lost[0].contains(part), "{lost:?}");
            assert_eq!(keeper.to_write(), None, "their text stays");
            assert_eq!(keeper.in_force(), config::parse("f", theirs, &[]).unwrap());
        };
        let lower = set("device.E1.max_ma", "8000");
        lost(
            &HOME.replace("16000", "10000"),
            std::slice::from_ref(&lower),
            "device.E1.max_ma: the file was changed there as well",
        );
        lost("[site]\ntitle = \"a\"\n", std::slice::from_ref(&lower), "device.E1.max_ma: there is no entry");
        // Each alone would do, and together they do not.
        lost(
            &format!("{HOME}min_ma = 10000\n"),
            std::slice::from_ref(&lower),
            "device.E1.max_ma: 8000 is below min_ma",
        );
        let mut keeper = keeper();
        keeper.change(&[lower], &[]).unwrap();
        keeper.found(Ok(HOME.replace("16000", "8_000")));
        assert_eq!(keeper.to_write(), None, "they wrote the same, in their words");
    }

    #[test]
    fn a_broken_file_is_left_alone_until_it_is_well() {
        let mut keeper = keeper();
        keeper.change(&[set("device.E1.max_ma", "8000")], &[]).unwrap();
        let Found::Broken(errors) = keeper.found(Ok("[site".into())) else { panic!("no TOML") };
        assert!(errors.to_string().starts_with("f.toml:1: no TOML"), "{errors}");
        assert_eq!(keeper.found(Ok("[site".into())), Found::Same, "said once");
        assert_eq!(keeper.to_write(), None);
        assert_eq!(keeper.in_force().devices[0].max_ma, 8000);
        let error = keeper.change(&[set("site.title", "\"b\"")], &[]).unwrap_err();
        assert!(matches!(&error, SettingsError::Cannot(why) if why.contains("f.toml:1: no TOML")), "{error:?}");
        keeper.change(&[], &[Volatile::MaxTotalCurPrc(5)]).unwrap();
        assert!(matches!(keeper.found(Err("there is no such file".into())), Found::Broken(_)));
        assert_eq!(keeper.found(Ok(HOME.into())), Found::Changed { lost: Vec::new() });
        assert_eq!(keeper.to_write().unwrap().1, HOME.replace("16000", "8000"), "and then it is written");
        assert_eq!(keeper.in_force().load.max_total_cur_prc, 5);
    }
}
