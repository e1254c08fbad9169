//! The commands of `/cnf`, shared by HTTP and MQTT: from arguments, a body and a caller to an answer. Knows no
//! socket. Answers: `cfos-interfaces.md` 1.2 to 1.11 and 7.2, contract rules B21 and B24.

mod args;
mod feed;
mod modbus;
mod read;

use std::net::IpAddr;

use bytes::Bytes;
use serde::Serialize;

use crate::config::Settings;
use crate::device::Devices;
use crate::device::http_input::Feeds;
use crate::session::Sessions;
use crate::transport::Transports;

use super::{SiteSource, to_json};

pub use args::{Args, BadArgs};

/// Whom commands reach. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// The live site.
    pub source: SiteSource,
    /// The fed devices.
    pub feeds: Feeds,
    /// Changes of the configuration.
    pub settings: Settings,
    /// Cards, overrides, transactions.
    pub sessions: Sessions,
    /// All devices: commands, polls, restarts.
    pub devices: Devices,
    /// For registers of devices that are not configured (`modbus_get`).
    pub transports: Transports,
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// May do everything.
    pub admin: bool,
    /// Where from; `None` over MQTT.
    pub address: Option<IpAddr>,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The arguments, `cmd` among them.
    pub args: Args,
    /// The POST body, empty for none.
    pub body: Bytes,
    /// Who calls.
    pub caller: Caller,
}

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: malformed or unknown.
    Bad(String),
    /// 401: needs the admin password.
    Unauthorised,
    /// 503: possible again in a moment.
    NotNow(String),
    /// 200 with one of the contract's exact strings, `"unknown device"`.
    Exact(&'static str),
}

/// What the caller gets: a status as of HTTP and JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// As of HTTP.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

impl Answer {
    /// 200 with this shape.
    #[must_use]
    pub fn of(shape: &impl Serialize) -> Self {
        Self { status: 200, body: to_json(shape) }
    }

    /// `{"error": "…"}`
    #[must_use]
    pub fn error(status: u16, message: &str) -> Self {
        Self { status, body: to_json(&serde_json::json!({ "error": message })) }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Bad(message) => Answer::error(400, &message),
            Refusal::Unauthorised => Answer::error(401, "the admin password is needed, or is wrong"),
            Refusal::NotNow(message) => Answer::error(503, &message),
            Refusal::Exact(text) => Answer::of(&text),
        }
    }
}

/// `get_dev_info` and so on, for the message about a command that is not there.
const COMMANDS: &str =
    "get_dev_info, get_params, get_dev_types, set_ajax_meter, set_ajax_evse, modbus, modbus_get, modbus_set";

impl Api {
    /// Answers one call. Every call gets an answer.
    pub async fn call(&self, call: &Call) -> Answer {
        match self.run(call).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into(),
        }
    }

    async fn run(&self, call: &Call) -> Result<Answer, Refusal> {
        match call.args.get("cmd") {
            Some("get_dev_info") => Ok(read::dev_info(self)),
            Some("get_params") => Ok(read::params(self)),
            Some("get_dev_types") => Ok(read::dev_types(self)),
            Some("set_ajax_meter") => feed::meter(self, call),
            Some("set_ajax_evse") => feed::evse(self, call),
            Some("modbus") => modbus::registers(self, call).await,
            Some("modbus_get") => modbus::get(self, call).await,
            Some("modbus_set") => modbus::set(self, call).await,
            Some(other) => {
                let other = args::short(other);
                Err(Refusal::Bad(format!("unknown cmd \"{other}\"; there are {COMMANDS}")))
            }
            None => Err(Refusal::Bad(format!("cmd is missing; there are {COMMANDS}"))),
        }
    }
}

/// For commands that change something.
fn admin(call: &Call) -> Result<(), Refusal> {
    if call.caller.admin { Ok(()) } else { Err(Refusal::Unauthorised) }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal::Bad(message.into())
}

/// An argument that has to be there.
fn required<'a>(call: &'a Call, name: &str, example: &str) -> Result<&'a str, Refusal> {
    call.args.get(name).ok_or_else(|| bad(format!("{name} is missing, like {name}={example}")))
}
