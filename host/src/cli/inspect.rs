//! `ladekern plugin inspect DIR`: what a plugin may do and what it asks for, before anything of it runs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::plugin::Registry;
use crate::runtime::{Runtime, RuntimeOptions};

/// Commands about plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Show what plugins may do and what they ask for; runs nothing of them.
    Inspect {
        /// Folders with a driver.toml and a driver.wasm.
        #[arg(required = true, value_name = "DIR")]
        folders: Vec<PathBuf>,
    },
}

pub(super) fn run(command: &PluginCommand) -> anyhow::Result<ExitCode> {
    let PluginCommand::Inspect { folders } = command;
    super::block_on(async {
        let registry = Registry::new(Runtime::new(&RuntimeOptions::default())?);
        registry.allow_wasi_sizes(true);
        let mut code = ExitCode::SUCCESS;
        for folder in folders {
            match registry.load_dir(folder).await {
                Ok(plugin) => say!("{}", plugin.describe()),
                Err(error) => {
                    complain!("{error}");
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    })
}
