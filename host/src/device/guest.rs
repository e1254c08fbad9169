//! What a device task needs of a plugin and of one running instance of it. The host implements these over the
//! runtime and the registry ([`super::installed`]); tests put scripted drivers behind them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{DeviceConfig, EndpointConfig};
use crate::runtime::{CallError, DriverError, PlannedBlock, Wants};
use crate::site::{Info, Outcome};
use crate::transport::{BoxFuture, Endpoint, Inbox, Message};

/// A loaded plugin in one version.
pub trait Artefact: Send + Sync {
    /// The plugin's id, `eastron-sdm`.
    fn id(&self) -> &str;
    /// The version of its manifest, `1.4.0`.
    fn version(&self) -> &str;
    /// Differs when the plugin's files differ.
    fn fingerprint(&self) -> &str;
    /// What its component exports and its manifest asks for.
    fn traits(&self) -> Traits;
    /// Builds an instance for `device`. Nothing of the guest has run when this returns.
    fn start<'a>(&'a self, seat: Seat<'a>) -> BoxFuture<'a, Result<Started, StartError>>;

    /// Id and version, as people read it.
    fn label(&self) -> String {
        format!("{} {}", self.id(), self.version())
    }
}

/// What the host must know of a plugin to treat it right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the exports and of the manifest's limits")]
#[expect(clippy::struct_excessive_bools, reason = "each is one export")]
pub struct Traits {
    pub charge_control: bool,
    pub phase_control: bool,
    pub failsafe: bool,
    pub push: bool,
    pub handover: bool,
    pub min_poll: Duration,
    pub min_write_interval: Duration,
    /// How often it is polled unless the binding says so.
    pub poll: Option<Duration>,
    /// Made of a definition: when the device answers nonsense, what it said before is used until it is too old; and the
    /// role of the device says how its power is to be read.
    pub described: bool,
}

/// Where an instance is placed.
pub struct Seat<'a> {
    /// The binding.
    pub device: &'a DeviceConfig,
    /// Slots an earlier instance used; taken over where they still fit, so that no connection is opened twice.
    pub wired: &'a Wired,
    /// Where the subscriptions of the instance deliver.
    pub inbox: Inbox,
}

/// An instance and its slots.
pub struct Started {
    /// The instance, not yet opened.
    pub guest: Box<dyn Guest>,
    /// Its slots.
    pub wired: Wired,
    /// The plugin's configuration for `open`: JSON, checked and with its defaults.
    pub config: String,
    /// Bytes a fetched body may have at most.
    pub http_body: u64,
}

/// The bound slots of a device. Outlives instances.
#[derive(Clone, Debug, Default)]
pub struct Wired(pub BTreeMap<String, WiredSlot>);

/// One bound slot, with what it was made from.
#[derive(Clone, Debug)]
pub struct WiredSlot {
    /// The binding with all defaults filled in; another one needs another endpoint.
    pub made_from: EndpointConfig,
    /// The endpoint.
    pub endpoint: Endpoint,
}

/// Why no instance came to life.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The binding and the plugin do not fit; retrying cannot help.
    #[error("{0}")]
    Misconfigured(String),
    /// The instance broke down before it could be opened.
    #[error(transparent)]
    Fault(#[from] CallError),
}

/// What `open` told; decides how the host feeds the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A driver: it is polled and reads for itself.
    Driver(Info),
    /// A register decoder: the host reads these blocks.
    Registers(Vec<PlannedBlock>),
    /// A payload decoder: the host subscribes and fetches.
    Payload(Wants),
}

/// One call of `charge-control` or `phase-control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the functions")]
pub enum Step {
    SetEnabled(bool),
    SetCurrentLimit(u32),
    SetPhases(u8),
    WakeUp,
}

impl Step {
    /// The interface the function belongs to.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Step::SetPhases(_) => "phase-control",
            _ => "charge-control",
        }
    }
}

/// One instance. Every call may end it; then every further call answers that it is not running. Each kind of instance
/// has the calls of its kind only.
pub trait Guest: Send {
    /// Once, before anything else.
    fn open<'a>(&'a mut self, config: &'a str) -> BoxFuture<'a, Result<Opened, CallError>>;
    /// Drivers.
    fn poll(&mut self) -> BoxFuture<'_, Result<Outcome, CallError>> {
        unsupported("polls")
    }
    /// Register decoders: blocks in the order of the plan.
    fn decode_blocks(&mut self, _blocks: Vec<Option<Vec<u16>>>) -> BoxFuture<'_, Result<Outcome, CallError>> {
        unsupported("registers")
    }
    /// Payload decoders: one message or one fetched body.
    fn decode_message<'a>(&'a mut self, _message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        unsupported("messages")
    }
    /// Drivers with `push`.
    fn on_message<'a>(&'a mut self, _message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        unsupported("messages")
    }
    /// Drivers with `charge-control` or `phase-control`.
    fn step(&mut self, step: Step) -> BoxFuture<'_, Result<(), CallError>> {
        unsupported(step.interface())
    }
    /// Drivers with `failsafe`.
    fn arm(&mut self, _milliamps: u32, _timeout_s: u32) -> BoxFuture<'_, Result<(), CallError>> {
        unsupported("a failsafe")
    }
    /// Drivers with `handover`.
    fn save(&mut self) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        unsupported("handover")
    }
    /// Drivers with `handover`; false: the snapshot was of no use.
    fn restore<'a>(&'a mut self, _version: &'a str, _snapshot: &'a [u8]) -> BoxFuture<'a, Result<bool, CallError>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Drivers: leave the device in a safe state.
    fn close(&mut self) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn unsupported<'a, T: Send + 'a>(what: &str) -> BoxFuture<'a, Result<T, CallError>> {
    let error = DriverError::Unsupported(format!("it has no {what}"));
    Box::pin(std::future::ready(Err(error.into())))
}

/// A plugin as the device task holds it.
pub type Plugged = Arc<dyn Artefact>;
