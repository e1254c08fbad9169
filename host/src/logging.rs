//! Logging: which lines, how they look on standard error, and the same entries for whoever publishes them
//! (`mqtt.log`). No file, no network. The password of a URL is removed from everything that leaves here.

mod entries;
mod redact;

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

pub use entries::{Entries, Entry, entries};
pub use redact::redact;

/// The filter in force, and the one logging was started with.
static FILTER: OnceLock<(reload::Handle<Targets, Registry>, Targets)> = OnceLock::new();

/// Starts logging with a filter such as `info` or `warn,ladekern::device=debug`.
///
/// # Errors
/// A sentence if the filter makes no sense, or if logging was started before.
pub fn start(filter: &str) -> Result<(), String> {
    let targets =
        Targets::from_str(filter).map_err(|error| format!("{error}; try info or info,ladekern::device=debug"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(redact::Redacted(std::io::stderr))
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let (filter, handle) = reload::Layer::new(targets.clone());
    let all = tracing_subscriber::registry().with(filter).with(lines).with(entries::layer());
    all.try_init().map_err(|error| error.to_string())?;
    // Only the first start gets here.
    _ = FILTER.set((handle, targets));
    Ok(())
}

/// Our own lines of level debug are logged too, or again only those of the filter logging was started with.
///
/// # Errors
/// A sentence if logging was not started by [`start`].
pub fn set_diagnostic(enable: bool) -> Result<(), String> {
    let (handle, started) = FILTER.get().ok_or("logging was not started by this program")?;
    let targets = if enable { diagnostic(started) } else { started.clone() };
    handle.reload(targets).map_err(|error| error.to_string())
}

/// At least debug for ourselves; what is more than that stays.
fn diagnostic(started: &Targets) -> Targets {
    let own = env!("CARGO_CRATE_NAME");
    let raise = |level: LevelFilter| level.max(LevelFilter::DEBUG);
    let general = started.default_level().unwrap_or(LevelFilter::OFF);
    let raised = started
        .iter()
        .map(|(target, level)| (target.to_owned(), if target.starts_with(own) { raise(level) } else { level }));
    let mut targets: Targets = raised.collect();
    if !started.iter().any(|(target, _)| target == own) {
        targets = targets.with_target(own, raise(general));
    }
    targets.with_default(general)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagnosis_raises_our_own_lines_and_lowers_none() {
        let filter = |text: &str| Targets::from_str(text).unwrap();
        let check = |start: &str, target: &str, level: tracing::Level, wanted: bool| {
            let found = diagnostic(&filter(start)).would_enable(target, &level);
            assert_eq!(found, wanted, "{start}: {target} at {level}");
        };
        check("info", "ladekern::device", tracing::Level::DEBUG, true);
        check("info", "ladekern::device", tracing::Level::TRACE, false);
        check("info", "rumqttc", tracing::Level::DEBUG, false);
        check("info", "rumqttc", tracing::Level::INFO, true);
        check("trace", "ladekern", tracing::Level::TRACE, true);
        check("off,ladekern::device=warn", "ladekern::device", tracing::Level::DEBUG, true);
        check("warn,ladekern::device=trace", "ladekern::device", tracing::Level::TRACE, true);
        check("warn,ladekern=info", "ladekern::load", tracing::Level::DEBUG, true);
        check("warn,other=debug", "other", tracing::Level::TRACE, false);
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let error = super::start("info,ladekern=loud").unwrap_err();
        assert!(error.contains("try info"), "{error}");
    }
}
