//! `ladekern.toml`: its types, its checks, and the watch over it. The only module that reads configuration text.
//!
//! [`parse`] reports all mistakes together, each with file and line, key, what is wrong and what would be right. A
//! key that is accepted is a key that does something: keys of versions to come are refused with a sentence of their
//! own.

mod device;
mod error;
mod mqtt;
mod parse;
pub(crate) mod reader;
mod services;
mod settings;
pub(crate) mod tree;
mod types;
mod url;
mod watch;

use std::path::Path;

pub use error::{ConfigError, ConfigErrors};
pub use parse::parse;
pub use services::{is_card_number, variable_name};
pub(crate) use settings::Request;
pub use settings::{Edit, Settings, SettingsError, Volatile};
pub use tree::{BadOverride, Override};
pub use types::*;
pub use url::BadUrl;
pub(crate) use url::percent_decode;
pub use watch::{ConfigEvent, ConfigWatch, watch};

/// A configuration larger than this is no configuration.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads and checks the file, with `overrides` laid over it.
///
/// # Errors
/// All mistakes together; one without a line if the file cannot be read.
pub fn load(path: &Path, overrides: &[Override]) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let text = read(path)
        .map_err(|message| ConfigErrors(vec![ConfigError { place: name.clone(), key: String::new(), message }]))?;
    parse(&name, &text, overrides)
}

/// The text of the file, or the sentence why there is none.
fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file; --config PATH names another".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
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

impl Config {
    /// The mistake at a key of a device: for what only others can check, such as the plugin's own `config`.
    /// `key` is relative, `endpoint.main`.
    #[must_use]
    pub fn device_error(&self, id: &crate::site::DeviceId, key: &str, message: impl Into<String>) -> ConfigError {
        let place = self.places.devices.get(id).cloned().unwrap_or_else(|| self.places.file.clone());
        ConfigError { place, key: format!("device.{id}.{key}"), message: message.into() }
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
