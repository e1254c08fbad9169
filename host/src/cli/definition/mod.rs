//! `ladekern definition check | try | schema | from-csv`: tools for people who describe a device in a file.

mod check;
mod from_csv;
mod schema;
mod try_;

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

/// Commands about definition files.
#[derive(Debug, Subcommand)]
pub enum DefinitionCommand {
    /// Check definition files, and report every error with its line, column and key.
    Check(check::CheckArgs),
    /// Read a real device once with a definition file: what came over the wire beside what was made of it.
    Try(try_::TryArgs),
    /// Print the JSON Schema of definition files, for editors.
    Schema(schema::SchemaArgs),
    /// Make a definition file of a table of registers.
    FromCsv(from_csv::FromCsvArgs),
}

pub(super) fn run(command: &DefinitionCommand) -> anyhow::Result<ExitCode> {
    match command {
        DefinitionCommand::Check(args) => check::run(args),
        DefinitionCommand::Try(args) => try_::run(args),
        DefinitionCommand::Schema(args) => schema::run(args),
        DefinitionCommand::FromCsv(args) => from_csv::run(args),
    }
}

/// Bytes that are read of a file: more than any of them may have, so that the parser says so.
const MOST_BYTES: u64 = 4 << 20;

/// The text of a file; `-` is the standard input.
fn read(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(MOST_BYTES).read_to_end(&mut bytes).context("standard input")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| file.display().to_string())?;
        opened.take(MOST_BYTES).read_to_end(&mut bytes).with_context(|| file.display().to_string())?;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is no UTF-8 text; save it as UTF-8", file.display()))
}
