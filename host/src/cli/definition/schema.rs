//! `ladekern definition schema`: what an editor completes and checks definition files with.

use std::process::ExitCode;

use clap::Args;

/// Arguments of `ladekern definition schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// On one line, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    let schema = ladekern_definition::parse::schema();
    say!("{}", if args.json { schema.to_string() } else { serde_json::to_string_pretty(&schema)? });
    Ok(ExitCode::SUCCESS)
}
