//! The host's pure parsers, compiled from its own source files without the rest of the host: an instrumented
//! WebAssembly engine would take longer to build than the targets take to run, and nothing here needs it.
#![allow(dead_code, unused_imports, missing_docs, clippy::allow_attributes_without_reason)]

#[path = "../../../host/src/contract/api/args.rs"]
pub mod args;
#[path = "../../../host/src/config/mod.rs"]
pub mod config;
#[path = "../../../host/src/device/http_input/message.rs"]
pub mod message;
#[path = "../../../host/src/site/mod.rs"]
pub mod site;

/// A site with a few devices, against which messages are checked.
pub const SITE: &str = r#"
[mqtt]
broker = "mqtt://127.0.0.1"
api = "mqtt"
control = true
[load]
mode = "observe"
[[circuit]]
id = "main"
limit_ma = [35000, 35000, 35000]
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
[[device]]
id = "E2"
type = "http-input"
min_ma = 8000
max_ma = 32000
phases = "L2"
"#;
