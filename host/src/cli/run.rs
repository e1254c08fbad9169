//! `ladekern run`: manages a site until Ctrl-C or SIGTERM.

use std::process::ExitCode;

use super::SiteArgs;
use crate::app::{App, EXIT_CONFIG};
use crate::config::ConfigErrors;

pub(super) fn run(args: &SiteArgs) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    super::block_on(async {
        let app = match App::start(&options).await {
            Ok(app) => app,
            Err(error) => return refused(error),
        };
        say!("{}: http://{}/", app.view().config.site.title, app.address());
        if let Some(broker) = app.embedded_broker() {
            say!("embedded broker: {broker}");
        }
        for folder in app.plugin_dirs() {
            let there = if folder.is_dir() { "" } else { " (not there yet)" };
            say!("plugins are taken from {}{there}", folder.display());
        }
        for folder in app.definition_dirs() {
            let there = if folder.is_dir() { "" } else { " (not there yet)" };
            say!("definitions are taken from {}{there}", folder.display());
        }
        super::ended(None).await;
        say!("stopping");
        app.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Every error of a configuration, and an exit code of its own.
pub(super) fn refused(error: anyhow::Error) -> anyhow::Result<ExitCode> {
    let errors: ConfigErrors = error.downcast()?;
    for error in &errors.0 {
        complain!("{error}");
    }
    Ok(ExitCode::from(EXIT_CONFIG))
}
