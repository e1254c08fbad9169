//! The project's own commands: `cargo xtask demo | test | fuzz | build-plugins | bench`. Needs nothing but the standard
//! library, so that the first command of a newcomer starts at once.

mod build_plugins;
mod fuzz;
mod mosquitto;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--duration 20s] […]  build everything and run a simulated site; all options go to `ladekern demo`
  test [FILTER]              build everything and run every test (those whose name contains FILTER)
  fuzz [SECONDS] [TARGET]    fuzz every parser (or one) for so many seconds each, 60 by default
  build-plugins              build the plugins into dist/plugins/
  build-plugin FOLDER        build one plugin of your own into FOLDER/dist/<id>/
  bench [NAME…]              run the benchmarks; a table here and target/bench/summary.json";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let Some(root) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() else { return ExitCode::FAILURE };
    let done = match command.as_str() {
        "demo" => demo(root, &rest),
        "test" => test(root, &rest),
        "fuzz" => fuzz::run(root, &target_dir(root), &rest).map(|()| ExitCode::SUCCESS),
        "build-plugins" => build_plugins::run(root).map(|()| ExitCode::SUCCESS),
        "build-plugin" => match rest.as_slice() {
            [folder] => build_plugins::run_one(root, Path::new(folder)).map(|_| ExitCode::SUCCESS),
            _ => Err(format!("build-plugin takes one folder\n{USAGE}")),
        },
        "bench" => bench(root, &rest),
        "" | "help" | "-h" | "--help" => {
            eprintln!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => Err(format!("no command \"{other}\"\n{USAGE}")),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Builds host and plugins and starts the demo; its exit code is ours.
fn demo(root: &Path, args: &[String]) -> Result<ExitCode, String> {
    run(cargo(root).args(["build", "--locked", "--package", "ladekern"]))?;
    build_plugins::run(root)?;
    let program = target_dir(root).join("debug").join(format!("ladekern{}", std::env::consts::EXE_SUFFIX));
    let status = Command::new(&program)
        .arg("demo")
        .args(args)
        .current_dir(root)
        .status()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    // A demo that was ended by a signal has no exit code of its own.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the plugins, sees to a Mosquitto broker, runs the tests of host and plugins.
fn test(root: &Path, args: &[String]) -> Result<ExitCode, String> {
    mosquitto::ensure()?;
    build_plugins::run(root)?;
    run(cargo(root).args(["test", "--workspace", "--locked"]).args(args))?;
    run(cargo(root)
        .args(["test", "--locked", "--manifest-path"])
        .arg(root.join("plugins/Cargo.toml"))
        .arg("--target-dir")
        .arg(target_dir(root).join("plugins"))
        .args(args))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the benchmarks with an optimised host.
fn bench(root: &Path, args: &[String]) -> Result<ExitCode, String> {
    build_plugins::run(root)?;
    run(cargo(root).args(["build", "--release", "--locked", "--package", "ladekern"]))?;
    run(cargo(root)
        .args(["run", "--release", "--locked", "--package", "ladekern-tests", "--bin", "bench", "--"])
        .args(args))?;
    Ok(ExitCode::SUCCESS)
}

/// The cargo that runs us, in the workspace.
fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Where the host workspace is built.
fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Runs a command with its output passed through.
fn run(command: &mut Command) -> Result<(), String> {
    let line = format!("{command:?}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{line}: {status}")),
        Err(error) => Err(format!("cannot start {line}: {error}")),
    }
}
