//! `ladekern decode TYPE FILE`: what a definition, a plugin or a built-in type makes of one recorded payload.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Map, Value};

use crate::config::HTTP_INPUT;
use crate::decode::{self, Decoded, Recording};
use crate::definition::Library;
use crate::plugin::Registry;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::site::{Clock, DeviceKind};

/// Arguments of `ladekern decode`.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// A definition's `dev_type`, a plugin's id, or `http-input`.
    #[arg(value_name = "TYPE")]
    device_type: String,
    /// The payload: a plain JSON body, or `{"kind": "http" | "mqtt" | "modbus", …}`; `-` reads standard input.
    file: PathBuf,
    /// The plugin's configuration.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    config: String,
    /// Print JSON with the keys of the `.expected.json` files.
    #[arg(long)]
    json: bool,
    /// The request that a plain JSON body answers, `GET /status`; without it, what an `.expected.json` beside the
    /// file says in `_meta.request`, else the body answers every request.
    #[arg(long)]
    request: Option<String>,
    /// The topic prefix a user would bind; default what all recorded topics share.
    #[arg(long, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    /// Read an `http-input` as a wallbox (`set_ajax_evse`) instead of a meter.
    #[arg(long)]
    evse: bool,
    /// A folder with plugins, searched first.
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// A folder with definition files, searched first.
    #[arg(long, value_name = "DIR")]
    definitions: Vec<PathBuf>,
}

pub(super) fn run(args: &DecodeArgs) -> anyhow::Result<ExitCode> {
    let config: Value = serde_json::from_str(&args.config).context("--config is no JSON")?;
    let Value::Object(config) = config else { bail!("--config must be a JSON object, {{\"key\": value}}") };
    let recording = Recording {
        text: read(args)?,
        request: args.request.clone().or_else(|| recorded_request(args)),
        topic_prefix: args.topic_prefix.clone(),
        config,
    };
    let decoded = if args.device_type == HTTP_INPUT {
        let kind = if args.evse { DeviceKind::Evse } else { DeviceKind::Meter };
        super::block_on(async { Ok(decode::with_http_input(&recording, kind, Clock::start())?) })
    } else {
        super::block_on(with_file(args, &recording))
    };
    let decoded = decoded.with_context(|| format!("{} with {}", args.file.display(), args.device_type))?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&Value::Object(decoded.keys()))?);
    } else {
        print(&decoded);
    }
    Ok(ExitCode::SUCCESS)
}

/// Definitions first, as the daemon looks for them.
async fn with_file(args: &DecodeArgs, recording: &Recording) -> anyhow::Result<Decoded> {
    let folders = crate::app::definition_folders(None, &args.definitions);
    let (library, _) = Library::open(&folders);
    if let Some(why) = library.broken(&args.device_type) {
        bail!("{why}");
    }
    match library.get(&args.device_type) {
        Some(file) => Ok(decode::with_definition(file, recording, Clock::start()).await?),
        None => with_plugin(args, recording).await,
    }
}

async fn with_plugin(args: &DecodeArgs, recording: &Recording) -> anyhow::Result<Decoded> {
    let runtime = Runtime::new(&RuntimeOptions::default())?;
    let registry = Registry::new(runtime.clone());
    registry.allow_wasi_sizes(true);
    let folders = crate::app::plugin_folders(None, &args.plugins);
    let found = folders.iter().map(|folder| folder.join(&args.device_type)).find(|folder| folder.is_dir());
    let Some(folder) = found else {
        let searched: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        bail!(
            "no definition or plugin \"{}\" in {}; `cargo xtask build-plugins` builds those of this project, --plugins names a folder",
            args.device_type,
            searched.join(", ")
        );
    };
    let plugin = registry.load_dir(&folder).await?;
    // Guests run on their own runtime, as in the daemon.
    let recording = recording.clone();
    let decoded =
        runtime.guests().spawn(async move { decode::with_plugin(plugin, &recording, Clock::start()).await }).await??;
    Ok(decoded)
}

fn read(args: &DecodeArgs) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if args.file.as_os_str() == "-" {
        std::io::stdin().read_to_end(&mut bytes).context("standard input")?;
    } else {
        bytes = std::fs::read(&args.file).with_context(|| args.file.display().to_string())?;
    }
    String::from_utf8(bytes).with_context(|| format!("{} is no UTF-8 text", args.file.display()))
}

/// `x.json` has its request in `x.expected.json`, a fixture's `input.json` in `expect.json`.
fn recorded_request(args: &DecodeArgs) -> Option<String> {
    let beside = [args.file.with_extension("expected.json"), args.file.with_file_name("expect.json")];
    let text = beside.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    let expected: Map<String, Value> = serde_json::from_str(&text).ok()?;
    let request = expected.get("_meta")?.get("request")?.as_str()?;
    request.starts_with(['G', '/']).then(|| request.to_owned())
}

fn print(decoded: &Decoded) {
    for (label, value) in
        [("model", &decoded.info.model), ("serial", &decoded.info.serial), ("firmware", &decoded.info.firmware)]
    {
        if let Some(value) = value {
            say!("{label:20} {value}");
        }
    }
    if !decoded.info.features.is_empty() {
        say!("{:20} {}", "features", decoded.info.features.join(", "));
    }
    if let Some(letter) = decoded.values.connector().and_then(|c| c.value.letter()) {
        say!("{:20} {letter}", "state");
    }
    for (quantity, measured) in decoded.values.readings() {
        match measured.value {
            Some(value) => say!("{:20} {value}", quantity.as_str()),
            None => say!("{:20} unknown", quantity.as_str()),
        }
    }
    for (name, text) in decoded.values.texts() {
        say!("{name:20} {}", text.value);
    }
}
