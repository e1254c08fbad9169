//! `ladekern.toml`: its types, its checks, and the watch over it. The only module that reads configuration text.
//!
//! [`parse`] reports all mistakes together, each with file and line, key, what is wrong and what would be right. A
//! key that is accepted is a key that does something: keys of versions to come are refused with a sentence of their
//! own.

mod device;
pub(crate) mod edit;
mod error;
pub(crate) mod file;
mod mqtt;
mod parse;
pub(crate) mod reader;
mod services;
mod settings;
mod timing;
pub(crate) mod tree;
mod types;
mod url;
mod variables;
mod watch;

use std::path::Path;

pub use error::{ConfigError, ConfigErrors};
pub use parse::parse;
pub use reader::formula;
pub use services::is_card_number;
pub use settings::{Edit, Settings, SettingsError, Volatile};
pub(crate) use settings::{Request, Requests, Writes};
pub use timing::Timing;
pub use tree::{BadOverride, Override};
pub use types::*;
pub use url::BadUrl;
pub(crate) use url::percent_decode;
pub use variables::{Expr, Trigger, VariableConfig, variable_key, variable_name};
pub(crate) use variables::{check_order, computed};
pub use watch::{ConfigWatch, watch};

/// Reads and checks the file, with `overrides` laid over it.
///
/// # Errors
/// All mistakes together; one without a line if the file cannot be read.
pub fn load(path: &Path, overrides: &[Override]) -> Result<Config, ConfigErrors> {
    load_text(path, overrides).map(|(_, config)| config)
}

/// As [`load`]; also the text it was read from.
pub(crate) fn load_text(path: &Path, overrides: &[Override]) -> Result<(String, Config), ConfigErrors> {
    let name = path.display().to_string();
    let text = file::read(path)
        .map_err(|message| ConfigErrors(vec![ConfigError { place: name.clone(), key: String::new(), message }]))?;
    let config = parse(&name, &text, overrides)?;
    Ok((text, config))
}

impl Config {
    /// The mistake at a key of a device: for what only others can check, such as the plugin's own `config`.
    /// `key` is relative, `endpoint.main`.
    #[must_use]
    pub fn device_error(&self, id: &crate::site::DeviceId, key: &str, message: impl Into<String>) -> ConfigError {
        let place = self.places.devices.get(id).cloned().unwrap_or_else(|| self.places.file.clone());
        ConfigError { place, key: format!("device.{id}.{key}"), message: message.into() }
    }

    /// The mistake in charging rules, `key` being `device.E1.charging_rules` or `user 1.charging_rules`, at the rule
    /// with this place in the list, if it is in one.
    #[must_use]
    pub fn rules_error(&self, key: &str, rule: Option<usize>, message: impl Into<String>) -> ConfigError {
        let places = self.places.rules.get(key);
        let place = places.map(|places| rule.and_then(|rule| places.rules.get(rule)).unwrap_or(&places.key));
        let place = place.unwrap_or(&self.places.file).clone();
        ConfigError { place, key: key.to_owned(), message: message.into() }
    }

    /// One error for each device whose type is neither built in nor among the `known` ones (plugin ids).
    #[must_use]
    pub fn check_types(&self, known: &[&str]) -> Vec<ConfigError> {
        let all: Vec<&str> = known.iter().copied().chain([HTTP_INPUT]).collect();
        let unknown = self.devices.iter().filter(|device| !all.contains(&device.device_type.as_str()));
        unknown
            .map(|device| {
                let hint = match reader::nearest(&device.device_type, &all) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("known are: {}", all.join(", ")),
                };
                self.device_error(&device.id, "type", format!("unknown device type \"{}\", {hint}", device.device_type))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
