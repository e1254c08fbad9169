//! The command line: `ladekern run | check | demo | sim | decode | definition | password | plugin`. Parses arguments,
//! sets logging up, hands over; the work is done elsewhere.

/// Prints a line. Unlike `println!` it does not panic when nobody reads any more (`ladekern demo | head`): that must
/// not leave wallboxes uncontrolled.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// The same for errors.
macro_rules! complain {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

mod check;
mod decode;
mod definition;
mod demo;
mod inspect;
mod password;
mod rows;
mod run;
mod sim;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Ladekern shares a building's electricity among wallboxes.
#[derive(Debug, Parser)]
#[command(name = "ladekern", version, about, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    /// What is logged: error, warn, info, debug or trace, or a list such as `warn,ladekern::device=debug`. Default
    /// `warn,ladekern=info`; a demo that draws on a terminal logs nothing.
    #[arg(long, global = true, env = "LADEKERN_LOG", value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage a site.
    Run(SiteArgs),
    /// Check configuration and plugins, and report every error at once.
    Check(SiteArgs),
    /// Manage a simulated site that speaks the real protocols on loopback.
    Demo(demo::DemoArgs),
    /// Only the simulated devices, for a `ladekern run` of your own beside them.
    Sim(sim::SimArgs),
    /// Decode one recorded payload with a plugin or a built-in type.
    Decode(decode::DecodeArgs),
    /// Tools for definition files, in which users describe devices.
    #[command(subcommand)]
    Definition(definition::DefinitionCommand),
    /// Make the line of the configuration that sets the admin password, which is read from the terminal or the input.
    Password,
    /// Look at plugins.
    #[command(subcommand)]
    Plugin(inspect::PluginCommand),
}

/// Where a site's files are.
#[derive(Clone, Debug, Args)]
pub struct SiteArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "ladekern.toml")]
    pub config: PathBuf,
    /// Where the database, the compile cache and the serial number are kept; default `state/` beside the
    /// configuration file.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Overrides one key of the configuration for this run: `load.mode=observe`, `device.E1.max_ma=8000`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A folder with plugins, searched after `plugins/` beside the configuration file.
    #[arg(long, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,
    /// A folder with definition files, searched after `definitions/` beside the configuration file.
    #[arg(long, value_name = "DIR")]
    pub definitions: Vec<PathBuf>,
}

impl SiteArgs {
    fn options(&self) -> anyhow::Result<crate::app::Options> {
        Ok(crate::app::Options {
            config: self.config.clone(),
            state: self.state.clone(),
            overrides: self.set.iter().map(|set| set.parse()).collect::<Result<_, _>>()?,
            plugins: self.plugins.clone(),
            definitions: self.definitions.clone(),
        })
    }
}

/// Parses the arguments and runs the command. Exit code 2 is a usage error, 64 a configuration that cannot be used.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let drawing = matches!(&cli.command, Command::Demo(args) if args.redraws());
    // Lines in between would tear the table apart.
    let log = cli.log.unwrap_or_else(|| if drawing { "off" } else { "warn,ladekern=info" }.to_owned());
    if let Err(error) = crate::logging::start(&log) {
        complain!("ladekern: --log {log}: {error}");
        return ExitCode::from(2);
    }
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Definition(command) => definition::run(&command),
        Command::Password => password::run(),
        Command::Plugin(command) => inspect::run(&command),
    };
    done.unwrap_or_else(|error| {
        complain!("ladekern: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs a command's future on the runtime that owns all sockets. Two threads: the guests have their own.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("io").enable_all().build()?;
    let done = runtime.block_on(work);
    // Whatever still runs belongs to connections that are closed with the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

/// Waits for Ctrl-C, SIGTERM, or the end of `duration`.
async fn ended(duration: Option<Duration>) {
    let time = async {
        match duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time => {}
        _ = tokio::signal::ctrl_c() => {}
        () = terminated() => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        // Without a handler SIGTERM ends the process at once, which is what it asks for.
        Err(_) => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending::<()>().await;
}

/// `20s`, `500ms`, `5m`, `2h`, or a bare number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("\"{text}\" is no time; write 20s, 500ms, 5m or 2h"))?;
    let unit_ms: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        other => return Err(format!("\"{other}\" is no unit of time; write 20s, 500ms, 5m or 2h")),
    };
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        for (text, ms) in [("20s", 20_000), ("20", 20_000), ("500ms", 500), ("5m", 300_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "20 days"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
