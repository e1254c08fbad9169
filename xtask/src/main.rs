//! The project's own commands.

mod build_plugins;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut arguments = std::env::args().skip(1);
    let result = match (arguments.next().as_deref(), arguments.next()) {
        (Some("build-plugins"), None) => build_plugins::run(root),
        (Some("build-plugin"), Some(folder)) => build_plugins::run_one(root, Path::new(&folder)).map(|_| ()),
        _ => Err("usage: cargo xtask build-plugins | build-plugin FOLDER".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
