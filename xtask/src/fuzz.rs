//! Runs the fuzz targets of `tests/fuzz` for a while each. cargo-fuzz comes into `target/tools` when it is missing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that is installed when there is none.
const CARGO_FUZZ: &str = "^0.13";

/// Fuzzes every target, or the one that is named, for so many seconds each.
///
/// # Errors
/// One sentence: a tool that is missing, or the target that found something and how to see it.
pub fn run(root: &Path, target_dir: &Path, args: &[String]) -> Result<(), String> {
    let (mut seconds, mut only) = (60_u32, None);
    for arg in args {
        match arg.parse() {
            Ok(number) => seconds = number,
            Err(_) => only = Some(arg.as_str()),
        }
    }
    let targets = targets(root)?;
    if let Some(only) = only
        && !targets.iter().any(|target| target == only)
    {
        return Err(format!("there is no fuzz target \"{only}\"; there are {}", targets.join(", ")));
    }
    let fuzz = program(target_dir)?;
    for target in targets.iter().filter(|target| only.is_none_or(|only| only == target.as_str())) {
        let found = target_dir.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&found).map_err(|error| format!("cannot create {}: {error}", found.display()))?;
        eprintln!("xtask: fuzzing {target} for {seconds} s");
        // What is found on the way goes into the first folder, the committed examples are only read.
        let status = cargo_fuzz(root, &fuzz, target_dir)
            .args(["run", "--fuzz-dir"])
            .arg(root.join("tests/fuzz"))
            .arg(target)
            .arg(&found)
            .arg(root.join("tests/fuzz/corpus").join(target))
            .args(["--", "-rss_limit_mb=2048", "-timeout=10", "-verbosity=0", "-print_final_stats=1"])
            .arg(format!("-max_total_time={seconds}"))
            .status();
        match status {
            Ok(status) if status.success() => {}
            Ok(_) => return Err(format!("{target}: something was found, see tests/fuzz/artifacts/{target}")),
            Err(error) => return Err(format!("cannot start {}: {error}", fuzz.display())),
        }
    }
    Ok(())
}

/// The names of the files in `tests/fuzz/targets`.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("tests/fuzz/targets");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// The instrumentation is not in stable Rust's promises; the compiler has it all the same.
fn cargo_fuzz(root: &Path, program: &Path, target_dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root).env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", target_dir.join("fuzz"));
    command
}

/// An installed cargo-fuzz, ours or the user's.
fn program(target_dir: &Path) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = target_dir.join("tools");
    let mut folders = std::env::split_paths(&path).chain([own.join("bin")]);
    let found = folders.find(|folder| folder.join("cargo-fuzz").is_file());
    if let Some(found) = found {
        return Ok(found.join("cargo-fuzz"));
    }
    eprintln!("xtask: installing cargo-fuzz {CARGO_FUZZ} into {}", own.display());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"])
        .arg(&own)
        .status();
    match status {
        Ok(status) if status.success() => Ok(own.join("bin/cargo-fuzz")),
        _ => Err(format!("cargo install cargo-fuzz --version {CARGO_FUZZ} failed; install it yourself")),
    }
}
