//! Every plugin and every supplied definition decodes its fixtures as expected, through the same code as
//! `ladekern decode`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ladekern::decode::{self, DecodeError, Decoded, Recording};
use ladekern::definition::{DefinitionFile, Library};
use ladekern::device::live::Failure;
use ladekern::plugin::{Plugin, Registry};
use ladekern::runtime::{Runtime, RuntimeOptions};
use ladekern::site::Clock;
use ladekern_tests::expect::differences;
use ladekern_tests::{dist, root};
use serde_json::{Map, Value};

/// The cases of one plugin or definition: folders with `input.json` and `expect.json`.
fn cases(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut cases: Vec<PathBuf> = found.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} has no case", folder.display());
    cases
}

/// What decodes.
enum Subject {
    Plugin(Arc<Plugin>),
    Definition(Arc<DefinitionFile>),
}

async fn decoded(subject: &Subject, case: &Path, expected: &Map<String, Value>) -> Result<Decoded, DecodeError> {
    let meta = expected.get("_meta").cloned().unwrap_or_default();
    let text = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
    let recording = Recording {
        text: std::fs::read_to_string(case.join("input.json")).unwrap(),
        request: text("request").filter(|request| request.starts_with("GET ")),
        topic_prefix: text("topic_prefix"),
        config: meta.get("config").and_then(Value::as_object).cloned().unwrap_or_default(),
    };
    match subject {
        Subject::Plugin(plugin) => decode::with_plugin(Arc::clone(plugin), &recording, Clock::start()).await,
        Subject::Definition(file) => decode::with_definition(Arc::clone(file), &recording, Clock::start()).await,
    }
}

/// The word `_meta.error` has for what went wrong.
fn kind(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::Failed(Failure::Offline(_)) => "offline",
        DecodeError::Failed(Failure::Protocol(_)) => "protocol",
        DecodeError::Failed(Failure::Misconfigured(_)) => "config",
        DecodeError::Failed(Failure::Fault(_)) => "fault",
        _ => "no sample",
    }
}

async fn wrong(subject: &Subject, case: &Path) -> Vec<String> {
    let expected = std::fs::read_to_string(case.join("expect.json")).unwrap();
    let expected: Map<String, Value> = serde_json::from_str(&expected).unwrap();
    let error = expected.get("_meta").and_then(|meta| meta.get("error")).and_then(Value::as_str);
    match (decoded(subject, case, &expected).await, error) {
        (Ok(decoded), None) => differences(&expected, &decoded.keys()),
        (Err(failed), Some(error)) if kind(&failed) == error => Vec::new(),
        (Err(failed), _) => vec![format!("{} error: {failed}", kind(&failed))],
        (Ok(decoded), Some(error)) => vec![format!("expected a {error} error, decoded {:?}", decoded.keys())],
    }
}

/// Everything that is not as expected in the cases of a folder.
async fn wrongs(subject: &Subject, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for case in cases(folder) {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        found.extend(wrong(subject, &case).await.into_iter().map(|difference| format!("{name}: {difference}")));
    }
    found
}

/// Runs all cases of a plugin on the runtime of the guests, as the daemon does.
fn check(id: &str) {
    let cache = root().join("target/tmp/compiled-guests");
    let runtime = Runtime::new(&RuntimeOptions { cache_dir: Some(cache), ..RuntimeOptions::default() }).unwrap();
    let registry = Registry::new(Arc::clone(&runtime));
    let found: Vec<String> = runtime.guests().block_on(async {
        let plugin = registry.load_dir(&dist().join("plugins").join(id)).await.unwrap();
        wrongs(&Subject::Plugin(plugin), &root().join("plugins").join(id).join("fixtures")).await
    });
    assert!(found.is_empty(), "{id}:\n  {}", found.join("\n  "));
}

#[test]
fn tasmota_decodes_its_fixtures() {
    check("tasmota");
}

#[test]
fn eastron_sdm_decodes_its_fixtures() {
    check("eastron-sdm");
}

#[test]
fn cfos_power_brain_decodes_its_fixtures() {
    check("cfos-power-brain");
}

#[test]
fn go_e_decodes_its_fixtures() {
    check("go-e");
}

#[tokio::test]
async fn every_supplied_definition_decodes_its_fixtures() {
    let folder = root().join("definitions");
    let (library, events) = Library::open(std::slice::from_ref(&folder));
    let files = library.all();
    assert_eq!(files.len(), events.len(), "{events:?}");
    let mut found = Vec::new();
    for file in files {
        let dev_type = file.definition.dev_type.clone();
        let wrongs = wrongs(&Subject::Definition(file), &folder.join("fixtures").join(&dev_type)).await;
        found.extend(wrongs.into_iter().map(|wrong| format!("{dev_type}: {wrong}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
