//! `ladekern check`: is the configuration right, and does every plugin it names load? Starts nothing.

use std::process::ExitCode;

use super::SiteArgs;
use crate::app::{self, EXIT_CONFIG};

/// Prints every error of the configuration and of its plugins together; exit code 0 if there is none.
pub(super) fn run(args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    let report = super::block_on(async { app::check(&options).await })?;
    for line in &report.notes {
        say!("{line}");
    }
    if report.errors.is_empty() {
        say!("{}: no errors", args.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    for error in &report.errors {
        complain!("{error}");
    }
    Ok(ExitCode::from(EXIT_CONFIG))
}
