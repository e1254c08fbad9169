//! Logging to standard error: which lines, and how they look. No file, no network.

use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging with a filter such as `info` or `warn,ladekern::device=debug`.
///
/// # Errors
/// A sentence if the filter makes no sense, or if logging was started before.
pub fn start(filter: &str) -> Result<(), String> {
    let targets =
        Targets::from_str(filter).map_err(|error| format!("{error}; try info or info,ladekern::device=debug"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(targets).with(lines).try_init().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let error = super::start("info,ladekern=loud").unwrap_err();
        assert!(error.contains("try info"), "{error}");
    }
}
