//! What is refused before any guest code runs, and with which sentence: files, imports, manifests, bindings. All
//! mistakes of one plugin or one binding come together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::Path;

use ladekern::config::{DeviceConfig, EndpointUrl};
use ladekern::plugin::{self, Binding, COMPONENT_FILE, MANIFEST_FILE, Registry};
use ladekern::runtime::{CallError, DriverError, Instance, Runtime, RuntimeOptions};
use ladekern_tests::guests::{Device, guest_dir, load, misbehave, misbehave_and, plugin_dir, registry};

/// The only problem of a component.
async fn problem(component: &[u8]) -> String {
    let error = load(component).await.unwrap_err();
    assert_eq!(error.problems.len(), 1, "{error}");
    error.problems[0].clone()
}

fn component() -> Vec<u8> {
    std::fs::read(guest_dir("misbehave").join(COMPONENT_FILE)).unwrap()
}

// === Files ===

#[tokio::test]
async fn what_is_no_component_is_named_for_what_it_is() {
    let core_module = wat::parse_str("(module)").unwrap();
    for (bytes, wanted) in [
        (&b""[..], "driver.wasm has 0 bytes only: it is cut off, or still being copied"),
        (b"\0asm\x0d", "driver.wasm has 5 bytes only: it is cut off, or still being copied"),
        (b"#!/bin/sh\nrm -rf /", "driver.wasm is no WebAssembly file"),
        (b"\0asm\x07\0\0\0....", "driver.wasm has a version of WebAssembly this host does not know"),
        (&core_module, "driver.wasm is a core module, not a component: link it with wasm-component-ld"),
    ] {
        let problem = problem(bytes).await;
        assert!(problem.starts_with(wanted), "{problem}");
    }
}

#[tokio::test]
async fn a_file_cut_off_while_it_was_copied_is_refused() {
    let whole = component();
    for part in [whole.len() / 3, whole.len() - 1] {
        let problem = problem(&whole[..part]).await;
        assert!(problem.starts_with("driver.wasm is no valid component (is it complete, or still being copied?)"));
    }
}

#[tokio::test]
async fn a_component_may_have_sixteen_mebibytes() {
    // A custom section of 17 MiB is a component that would load.
    let mut bytes = component();
    let padding = 17 << 20;
    bytes.push(0);
    let mut size = padding as u32;
    while size >= 0x80 {
        bytes.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes.resize(bytes.len() + padding, 0);
    assert_eq!(problem(&bytes).await, "driver.wasm is larger than the 16 MiB that a component may have");

    // A binding with `wasi = true` allows what Python needs.
    let parent = tempfile::tempdir().unwrap();
    let registry = Registry::new(registry().await.runtime().clone());
    registry.allow_wasi_sizes(true);
    registry.load_dir(&plugin_dir(parent.path(), "large", &bytes)).await.unwrap();
}

#[tokio::test]
async fn missing_files_and_a_wrong_folder_are_told_together() {
    let parent = tempfile::tempdir().unwrap();
    let error = registry().await.load_dir(&parent.path().join("nowhere")).await.unwrap_err();
    assert_eq!(error.problems, ["driver.toml is missing", "driver.wasm is missing"]);

    let dir = plugin_dir(parent.path(), "acme", b"");
    let renamed = parent.path().join("renamed");
    std::fs::rename(dir, &renamed).unwrap();
    let error = registry().await.load_dir(&renamed).await.unwrap_err();
    assert_eq!(error.problems[0], "driver.toml: id is \"acme\", the folder is \"renamed\": they must be equal");
    assert!(error.problems[1].contains("0 bytes only"), "{error}");
    assert!(error.to_string().starts_with(&format!("{}: ", renamed.display())), "{error}");
}

#[tokio::test]
async fn mistakes_of_manifest_and_component_come_together() {
    let parent = tempfile::tempdir().unwrap();
    let dir = plugin_dir(parent.path(), "acme", b"not even wasm");
    std::fs::write(dir.join(MANIFEST_FILE), "id = \"acme\"\nversion = \"1\"\n").unwrap();
    let error = registry().await.load_dir(&dir).await.unwrap_err();
    let text = error.to_string();
    for wanted in
        ["driver.toml:2: version: ", "driver.toml:1: license: is missing", "driver.wasm is no WebAssembly file"]
    {
        assert!(text.contains(wanted), "{wanted} not in {text}");
    }
}

// === Imports and exports ===

#[tokio::test]
async fn strange_imports_are_refused_before_anything_runs() {
    for import in ["acme:shell/run@1.0.0", "ladekern:byte-stream/client@0.1.0"] {
        let more = format!("(import \"{import}\" (instance (export \"run\" (func))))");
        let problem = problem(&misbehave_and(&more)).await;
        assert!(problem.starts_with(&format!("driver.wasm: it imports {import}, which no plugin gets")), "{problem}");
    }
    let problem = problem(&misbehave_and("(import \"bare\" (func))")).await;
    assert!(problem.starts_with("driver.wasm: it imports bare, which no plugin gets"), "{problem}");
}

#[tokio::test]
async fn all_strange_imports_are_named() {
    let more =
        "(import \"a:b/c\" (instance (export \"f\" (func)))) (import \"d:e/f\" (instance (export \"f\" (func))))";
    assert_eq!(load(&misbehave_and(more)).await.unwrap_err().problems.len(), 2);
}

#[tokio::test]
async fn versions_are_compared_before_linking() {
    let importing = |version: &str, function: &str| {
        format!("(import \"ladekern:modbus/client@{version}\" (instance (export \"{function}\" (func))))")
    };
    for newer in ["0.2.0", "1.0.0", "0.1.3"] {
        assert_eq!(
            problem(&misbehave_and(&importing(newer, "fresh"))).await,
            format!("driver.wasm: this driver needs ladekern:modbus {newer}, this host has 0.1.0")
        );
    }
    // A newer patch of which only old functions are used runs here.
    let old_function = "(import \"ladekern:host/clock@0.1.3\" (instance (export \"now-ms\" (func (result u64)))))";
    let plugin = load(&misbehave_and(old_function)).await.unwrap();
    let mut instance = Instance::start(&plugin, Device::default().context).await.unwrap();
    instance.open(r#"{"do":"behave"}"#).await.unwrap();
    instance.poll().await.unwrap();
}

#[tokio::test]
async fn a_component_without_exports_is_no_plugin() {
    let empty = wat::parse_str("(component)").unwrap();
    assert_eq!(problem(&empty).await, "it exports none of ladekern:device/device, /decoder and /payload-decoder");
}

#[tokio::test]
async fn a_manifest_without_a_slot_for_what_is_imported_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let dir = plugin_dir(parent.path(), "acme", &component());
    let text = std::fs::read_to_string(dir.join(MANIFEST_FILE)).unwrap();
    std::fs::write(dir.join(MANIFEST_FILE), text.replace("kind = \"modbus\"", "kind = \"http\"")).unwrap();
    let error = registry().await.load_dir(&dir).await.unwrap_err();
    assert_eq!(error.problems, ["it talks modbus, but driver.toml has no [endpoint.<slot>] of kind \"modbus\""]);
}

// === WASI ===

const WASI: &str = "(import \"wasi:cli/environment@0.2.0\"
    (instance (export \"get-arguments\" (func (result (list string))))))";

#[tokio::test]
async fn wasi_runs_only_where_the_binding_gives_it() {
    let plugin = load(&misbehave_and(WASI)).await.unwrap();
    assert!(plugin.needs_wasi());
    assert!(plugin.describe().contains("use WASI with nothing in it"), "{}", plugin.describe());

    let mut device = Device::default();
    let error = Instance::start(&plugin, device.context.clone()).await.err().unwrap();
    let CallError::Driver(DriverError::Config(why)) = error else { panic!("{error}") };
    assert!(why.starts_with("driver.wasm imports wasi:cli/environment@0.2.0: build it for wasm32-unknown-unknown"));
    let problems = plugin::check(&plugin, &binding(&[("main", MODBUS)])).unwrap_err();
    assert_eq!((problems[0].key.as_str(), problems[0].message.as_str()), ("wasi", why.as_str()));

    device.context.wasi = true;
    let mut instance = Instance::start(&plugin, device.context).await.unwrap();
    instance.open(r#"{"do":"behave"}"#).await.unwrap();
    instance.poll().await.unwrap();
}

#[tokio::test]
async fn wasi_beyond_what_is_offered_is_refused() {
    let http = "(import \"wasi:http/outgoing-handler@0.2.0\" (instance (export \"handle\" (func))))";
    let problem = problem(&misbehave_and(http)).await;
    assert!(problem.contains("wasi:http/outgoing-handler@0.2.0"), "{problem}");
}

// === Bindings ===

const MODBUS: &str = "tcp://192.0.2.1";

/// A device of `ladekern.toml` with these endpoints; the empty name is `address`.
fn binding(endpoints: &[(&str, &str)]) -> DeviceConfig {
    device(endpoints, "config = { do = \"behave\" }")
}

fn device(endpoints: &[(&str, &str)], more: &str) -> DeviceConfig {
    let mut text =
        format!("[mqtt]\nbroker = \"mqtt://192.0.2.9\"\n[[device]]\nid = \"M1\"\ntype = \"misbehave\"\n{more}\n");
    for (slot, url) in endpoints {
        match *slot {
            "" => text.push_str(&format!("address = \"{url}\"\n")),
            slot => text.push_str(&format!("endpoint.{slot} = {{ url = \"{url}\" }}\n")),
        }
    }
    let config =
        ladekern::config::parse("ladekern.toml", &text, &[]).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    config.devices[0].clone()
}

/// The misbehaving guest under another manifest: `[endpoint.…]` tables instead of its own.
async fn check(slots: &str, device: &DeviceConfig) -> Result<Binding, Vec<String>> {
    let parent = tempfile::tempdir().unwrap();
    let dir = plugin_dir(parent.path(), "acme", &component());
    let text = std::fs::read_to_string(dir.join(MANIFEST_FILE)).unwrap();
    let (head, config) = (text.split("[endpoint").next().unwrap(), text.split("[config]").nth(1).unwrap());
    std::fs::write(
        dir.join(MANIFEST_FILE),
        format!("{head}{slots}\n[config]{config}[config.properties.x]\ndefault = 3\n"),
    )
    .unwrap();
    let plugin = registry().await.load_dir(&dir).await.unwrap();
    plugin::check(&plugin, device).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

const REQUIRED: &str = "
    [endpoint.main]
    kind = \"modbus\"
    default_port = 1502
    default_unit = 255
    about = \"switch Modbus TCP on in the installer menu\"
    [endpoint.web]
    kind = \"http\"
    optional = true
    [endpoint.broker]
    kind = \"mqtt\"
    optional = true
    [limits]
    memory = \"4MiB\"
    min_poll_ms = 2500";

#[tokio::test]
async fn an_address_binds_the_only_required_slot_and_defaults_are_filled_in() {
    let bound = check(REQUIRED, &binding(&[("", MODBUS)])).await.unwrap();
    assert_eq!(bound.endpoints.keys().collect::<Vec<_>>(), ["main"]);
    let main = &bound.endpoints["main"];
    assert_eq!(
        (main.unit, &main.url),
        (Some(255), &EndpointUrl::ModbusTcp { host: "192.0.2.1".into(), port: Some(1502) })
    );
    assert_eq!(bound.config, serde_json::json!({ "do": "behave", "n": 0, "x": 3 }));
    assert_eq!((bound.limits.memory, bound.poll.as_millis()), (4 << 20, 2500));
}

#[tokio::test]
async fn an_address_finds_the_slot_that_speaks_its_protocol() {
    let own = std::fs::read_to_string(guest_dir("misbehave").join(MANIFEST_FILE)).unwrap();
    let own = own.split("[endpoint").skip(1).map(|slot| format!("[endpoint{slot}")).collect::<String>();
    let slots = own.split("[config]").next().unwrap();
    for (url, slot) in [(MODBUS, "main"), ("http://192.0.2.1", "web"), ("mqtt", "broker")] {
        let bound = check(slots, &binding(&[("", url)])).await.unwrap();
        assert_eq!(bound.endpoints.keys().collect::<Vec<_>>(), [slot]);
    }
}

#[tokio::test]
async fn everything_wrong_with_a_binding_is_told_at_once() {
    let digest = "0".repeat(64);
    let mut device =
        device(&[("web", MODBUS), ("garage", MODBUS)], &format!("sha256 = \"{digest}\"\nconfig = {{ n = \"many\" }}"));
    // The parser refuses this one already; the check does not rely on it.
    device.limits.memory = Some(300 << 20);
    let problems = check(REQUIRED, &device).await.unwrap_err();
    for wanted in [
        "sha256: pinned is 0000",
        "endpoint.garage: acme has no such slot, its slots are broker (mqtt), main (modbus), web (http)",
        "endpoint.web: slot \"web\" of acme is http, this address speaks modbus",
        "endpoint.main: is missing: acme needs a modbus address here (switch Modbus TCP on in the installer menu)",
        "config.n: ",
        "config: ",
        "limits.memory: is 300 MiB, at most 256 MiB is possible",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(wanted)), "{wanted} not in {problems:#?}");
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
}

#[tokio::test]
async fn an_address_that_could_mean_several_slots_is_refused() {
    let two = "[endpoint.a]\nkind = \"modbus\"\n[endpoint.b]\nkind = \"modbus\"\n[endpoint.web]\nkind = \"http\"
        [endpoint.broker]\nkind = \"mqtt\"\noptional = true";
    let problems = check(two, &binding(&[("", MODBUS)])).await.unwrap_err();
    assert_eq!(
        problems,
        [
            "address: does not tell which slot of acme is meant: write endpoint.<slot>, its slots are a (modbus), b (modbus), \
          broker (mqtt), web (http)"
        ]
    );
}

#[tokio::test]
async fn a_pinned_digest_admits_this_file_only() {
    let plugin = misbehave().await;
    let digest = plugin.digest().to_uppercase();
    let more = format!("config = {{ do = \"behave\" }}\nsha256 = \"{digest}\"");
    plugin::check(&plugin, &device(&[("", MODBUS)], &more)).unwrap();
}

#[tokio::test]
async fn a_plugin_whose_slots_are_all_optional_needs_one_of_them() {
    let plugin = misbehave().await;
    plugin::check(&plugin, &binding(&[("broker", "mqtt")])).unwrap();
    let problems = plugin::check(&plugin, &binding(&[])).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "address: is missing: misbehave needs at least one connection, its slots are broker (mqtt), main (modbus), web (http)"
    );
}

// === Inspect, registry, cache ===

#[tokio::test]
async fn inspect_says_what_a_plugin_may_do() {
    let plugin = misbehave().await;
    let text = plugin.describe();
    for wanted in [
        &format!("misbehave 0.1.0   sha256 {}", plugin.digest()),
        "built against ladekern:device 0.1.0",
        "may:     log, read the clock and wait, keep a few values of its own, talk Modbus on endpoint \"main\", \
         talk HTTP on endpoint \"web\", talk MQTT on endpoint \"broker\"",
        "may not: network addresses of its choice, files, environment\n",
        "exports: device, push, handover",
    ] {
        assert!(text.contains(wanted), "{wanted}\nnot in\n{text}");
    }
    assert!(!text.contains("types"), "an interface without functions permits nothing:\n{text}");
}

fn write_version(parent: &Path, version: &str) {
    let dir = plugin_dir(parent, "acme", &component());
    let text = std::fs::read_to_string(dir.join(MANIFEST_FILE)).unwrap();
    std::fs::write(dir.join(MANIFEST_FILE), text.replace("version = \"0.1.0\"", &format!("version = \"{version}\"")))
        .unwrap();
}

#[tokio::test]
async fn the_first_folder_wins_and_a_broken_plugin_stops_no_other() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_version(first.path(), "2.0.0");
    write_version(second.path(), "1.0.0");
    let _ = plugin_dir(second.path(), "broken", b"\0asm");
    let registry = Registry::new(registry().await.runtime().clone());
    let missing = first.path().join("no-such-folder");
    let errors = registry.scan(&[missing, first.path().into(), second.path().into()]).await;
    assert_eq!(registry.get("acme").unwrap().version(), "2.0.0");
    assert_eq!(registry.all().len(), 1);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].folder.ends_with("broken"), "{:?}", errors[0]);
    assert!(registry.remove("acme").is_some() && registry.get("acme").is_none());
}

#[tokio::test]
async fn a_new_manifest_is_a_new_plugin() {
    let parent = tempfile::tempdir().unwrap();
    write_version(parent.path(), "1.0.0");
    let old = registry().await.load_dir(&parent.path().join("acme")).await.unwrap();
    write_version(parent.path(), "1.0.1");
    let new = registry().await.load_dir(&parent.path().join("acme")).await.unwrap();
    assert_eq!(old.digest(), new.digest());
    assert_ne!(old.fingerprint(), new.fingerprint());
}

#[cfg(unix)]
#[tokio::test]
async fn compiled_plugins_are_kept_in_a_private_folder() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    let cache = state.path().join("state/compiled");
    let options = RuntimeOptions { cache_dir: Some(cache.clone()), guest_threads: 1 };
    // Small, because this test compiles for real.
    let empty = wat::parse_str("(component (core module (func (export \"f\"))))").unwrap();
    for expected in [(0, 1), (1, 0)] {
        let runtime = Runtime::new(&options).unwrap();
        runtime.compile(empty.clone().into()).await.unwrap();
        assert_eq!(runtime.cache_hits_and_misses(), expected);
        assert_eq!(std::fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
