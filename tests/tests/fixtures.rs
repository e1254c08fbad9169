//! Every plugin decodes its fixtures as expected, through the same code as `ladekern decode`.
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
use ladekern::device::live::Failure;
use ladekern::plugin::{Plugin, Registry};
use ladekern::runtime::{Runtime, RuntimeOptions};
use ladekern::site::Clock;
use ladekern_tests::expect::differences;
use ladekern_tests::{dist, root};
use serde_json::{Map, Value};

/// The cases of one plugin: folders with `input.json` and `expect.json`.
fn cases(plugin: &str) -> Vec<PathBuf> {
    let folder = root().join("plugins").join(plugin).join("fixtures");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "{} has no case", folder.display());
    cases
}

async fn decoded(plugin: &Arc<Plugin>, case: &Path, expected: &Map<String, Value>) -> Result<Decoded, DecodeError> {
    let meta = expected.get("_meta").cloned().unwrap_or_default();
    let text = |key: &str| meta.get(key).and_then(Value::as_str).map(str::to_owned);
    let recording = Recording {
        text: std::fs::read_to_string(case.join("input.json")).unwrap(),
        request: text("request").filter(|request| request.starts_with("GET ")),
        topic_prefix: text("topic_prefix"),
        config: meta.get("config").and_then(Value::as_object).cloned().unwrap_or_default(),
    };
    decode::with_plugin(Arc::clone(plugin), &recording, Clock::start()).await
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

async fn wrong(plugin: &Arc<Plugin>, case: &Path) -> Vec<String> {
    let expected = std::fs::read_to_string(case.join("expect.json")).unwrap();
    let expected: Map<String, Value> = serde_json::from_str(&expected).unwrap();
    let error = expected.get("_meta").and_then(|meta| meta.get("error")).and_then(Value::as_str);
    match (decoded(plugin, case, &expected).await, error) {
        (Ok(decoded), None) => differences(&expected, &decoded.keys()),
        (Err(failed), Some(error)) if kind(&failed) == error => Vec::new(),
        (Err(failed), _) => vec![format!("{} error: {failed}", kind(&failed))],
        (Ok(decoded), Some(error)) => vec![format!("expected a {error} error, decoded {:?}", decoded.keys())],
    }
}

/// Runs all cases of a plugin on the runtime of the guests, as the daemon does.
fn check(id: &str) {
    let cache = root().join("target/tmp/compiled-guests");
    let runtime = Runtime::new(&RuntimeOptions { cache_dir: Some(cache), ..RuntimeOptions::default() }).unwrap();
    let registry = Registry::new(Arc::clone(&runtime));
    let found: Vec<String> = runtime.guests().block_on(async {
        let plugin = registry.load_dir(&dist().join("plugins").join(id)).await.unwrap();
        let mut found = Vec::new();
        for case in cases(id) {
            let name = case.file_name().unwrap().to_string_lossy().into_owned();
            found.extend(wrong(&plugin, &case).await.into_iter().map(|difference| format!("{name}: {difference}")));
        }
        found
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
