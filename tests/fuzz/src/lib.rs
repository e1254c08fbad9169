//! The host's pure parsers, compiled from its own source files without the rest of the host: an instrumented
//! WebAssembly engine would take longer to build than the targets take to run, and nothing here needs it.
#![allow(dead_code, unused_imports, missing_docs, clippy::allow_attributes_without_reason)]

#[path = "../../../host/src/config/mod.rs"]
pub mod config;
#[path = "../../../host/src/folders.rs"]
pub mod folders;
#[path = "../../../host/src/device/http_input/message.rs"]
pub mod message;
#[path = "../../../host/src/site/mod.rs"]
pub mod site;

#[path = "../../../host/src/formulas"]
pub mod formulas {
    mod names;
    pub(crate) use names::{is_of_device, is_of_manager, surplus_name};
}

#[path = "../../../host/src/contract"]
pub mod contract {
    pub mod api {
        mod args;
        pub use args::{Args, BadArgs};
    }
    pub mod ctl {
        pub mod message;
    }
    pub mod mqtt {
        pub mod api {
            mod request;

            use crate::contract::api::Args;
            use crate::transport::ReplyTo;

            /// Where the answer of a call goes, and its arguments.
            pub fn read(prefix: &str, topic: &str, response: Option<&str>) -> (String, Result<Args, String>) {
                let reply_to = response.map(|topic| ReplyTo { topic: topic.to_owned() });
                let request = request::Request::read(prefix, topic, reply_to);
                let target = match request.target {
                    request::Target::Plain => format!("{prefix}/api_res"),
                    request::Target::Request(id) => format!("{prefix}/api_res/{id}"),
                    request::Target::Response(reply) => reply.topic,
                };
                (target, request.args)
            }
        }
    }
}

/// As much of the transport as a request needs to be read.
pub mod transport {
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ReplyTo {
        pub topic: String,
    }
}

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

/// The devices of [`SITE`].
pub fn devices() -> &'static [config::DeviceConfig] {
    static DEVICES: std::sync::OnceLock<Vec<config::DeviceConfig>> = std::sync::OnceLock::new();
    DEVICES.get_or_init(|| config::parse("f", SITE, &[]).expect("the site is well").devices)
}
