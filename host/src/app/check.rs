//! Is a configuration right, and does every plugin it names load and fit its bindings? Starts nothing.

use super::{Options, plugin_folders};
use crate::config::{self, Config, ConfigErrors, HTTP_INPUT};
use crate::plugin::{self, Registry};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::web;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is there and fits, a line each.
    pub notes: Vec<String>,
    /// Everything that is wrong, a line each; empty if all is well.
    pub errors: Vec<String>,
}

/// Checks configuration, plugins and bindings, and reports all of it together.
///
/// # Errors
/// Only if the WebAssembly engine cannot be started; what is wrong with the site stands in the report.
pub async fn check(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let runtime = Runtime::new(&RuntimeOptions::default())?;
    let registry = Registry::new(runtime);
    let config = match config::load(&options.config, &options.overrides) {
        Ok(config) => config,
        Err(ConfigErrors(errors)) => {
            report.errors.extend(errors.iter().map(ToString::to_string));
            return Ok(report);
        }
    };
    if let Some(Err(error)) = web::Tls::named(&config) {
        report.errors.push(error.to_string());
    }
    registry.allow_wasi_sizes(config.devices.iter().any(|device| device.wasi));
    let folders = plugin_folders(Some(&options.config), &options.plugins);
    report.notes.extend(folders.iter().filter(|folder| folder.is_dir()).map(|f| format!("plugins in {}", f.display())));
    for error in registry.scan(&folders).await {
        report.errors.extend(error.to_string().lines().map(str::to_owned));
    }
    report.errors.extend(unknown_types(&config, &registry).iter().map(ToString::to_string));
    for device in &config.devices {
        if device.device_type == HTTP_INPUT {
            report.notes.push(format!("{}: built-in {HTTP_INPUT}", device.id));
            continue;
        }
        let Some(plugin) = registry.get(&device.device_type) else { continue };
        match plugin::check(&plugin, device) {
            Ok(_) => report.notes.push(format!("{}: {} {}", device.id, plugin.id(), plugin.version())),
            Err(problems) => report.errors.extend(
                problems.iter().map(|p| config.device_error(&device.id, &p.key, p.message.clone()).to_string()),
            ),
        }
    }
    Ok(report)
}

/// Devices whose type is neither built in nor a plugin that is there.
pub(super) fn unknown_types(config: &Config, registry: &Registry) -> Vec<config::ConfigError> {
    let plugins = registry.all();
    let known: Vec<&str> = plugins.iter().map(|plugin| plugin.id()).collect();
    config.check_types(&known)
}
