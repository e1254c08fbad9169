//! The commands of `/cnf`, shared by HTTP and MQTT: from arguments, a body and a caller to an answer. Knows no
//! socket. Answers: `cfos-interfaces.md` 1.2 to 1.11 and 7.2, contract rules B21 and B24.

mod admin;
mod args;
mod commands;
mod device_change;
mod devices;
mod feed;
mod modbus;
mod params;
mod read;
mod rules;
mod sessions;
mod users;
mod values;
mod variables;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::config::{Settings, SettingsError};
use crate::definition::outputs::Failures;
use crate::device::Devices;
use crate::device::http_input::Feeds;
use crate::modbus_server::Registers;
use crate::session::Sessions;
use crate::transport::Transports;
use crate::variables::Variables;

use super::{SiteSource, to_json};

pub use args::{Args, BadArgs};
pub use commands::{Access, Body, COMMANDS, Command};

/// The contract's answer about a device that is not there, with status 200.
const UNKNOWN_DEVICE: &str = "unknown device";

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
    /// Held by a command that reads the configuration and then changes it, so that two do not undo each other.
    pub changes: Arc<tokio::sync::Mutex<()>>,
    /// The registers of our own devices (`modbus`).
    pub registers: Registers,
    /// What variables come to.
    pub variables: Variables,
    /// How many outputs of definitions did not arrive.
    pub output_failures: Failures,
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
    /// 403: a card that nobody has.
    Forbidden(String),
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

    /// `"ok"`, what setters answer.
    #[must_use]
    pub fn ok() -> Self {
        Self::of(&"ok")
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
            Refusal::Forbidden(message) => Answer::error(403, &message),
            Refusal::NotNow(message) => Answer::error(503, &message),
            Refusal::Exact(text) => Answer::of(&text),
        }
    }
}

impl From<SettingsError> for Refusal {
    fn from(error: SettingsError) -> Self {
        match error {
            SettingsError::Invalid(errors) => Refusal::Bad(errors.to_string()),
            SettingsError::Cannot(why) => Refusal::NotNow(why),
        }
    }
}

impl Api {
    /// Answers one call. Every call gets an answer.
    pub async fn call(&self, call: &Call) -> Answer {
        match self.run(call).await {
            Ok(answer) => answer,
            Err(refusal) => refusal.into(),
        }
    }

    async fn run(&self, call: &Call) -> Result<Answer, Refusal> {
        let command = command(call.args.get("cmd"))?;
        if command.access == Access::Admin && !call.caller.admin {
            return Err(Refusal::Unauthorised);
        }
        if command.body == Body::Required && body(call).is_empty() {
            return Err(bad(format!("{} expects a JSON object as the body of a POST", command.name)));
        }
        (command.run)(self, call).await
    }
}

fn command(name: Option<&str>) -> Result<&'static Command, Refusal> {
    let all = || COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(", ");
    let Some(name) = name else {
        return Err(bad(format!("cmd is missing; there are {}", all())));
    };
    let found = COMMANDS.iter().find(|command| command.name == name);
    found.ok_or_else(|| bad(format!("unknown cmd \"{}\"; there are {}", args::short(name), all())))
}

/// The body without the blanks that some clients send for none.
fn body(call: &Call) -> &[u8] {
    call.body.trim_ascii()
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

#[cfg(test)]
mod tests;
