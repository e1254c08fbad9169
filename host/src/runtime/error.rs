//! Why a call into a guest failed, sorted by what the caller does about it.

use std::time::Duration;

use wasmtime::component::ResourceTableError;
use wasmtime::{Trap, WasmBacktrace};

use super::limits::{self, LimitExceeded};

/// What the driver itself says. The instance is fine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The device did not answer; retry.
    #[error("the device does not answer: {0}")]
    Offline(String),
    /// The device answered nonsense.
    #[error("the device answered nonsense: {0}")]
    Protocol(String),
    /// The configuration is wrong; retrying cannot help.
    #[error("wrong configuration: {0}")]
    Config(String),
    /// This device cannot do that.
    #[error("this device cannot do that: {0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl DriverError {
    /// The sentence without the kind of failure in front of it.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Offline(text)
            | Self::Protocol(text)
            | Self::Config(text)
            | Self::Unsupported(text)
            | Self::Other(text) => text,
        }
    }

    /// The same kind of failure with another sentence.
    #[must_use]
    pub fn with_text(&self, text: String) -> Self {
        match self {
            Self::Offline(_) => Self::Offline(text),
            Self::Protocol(_) => Self::Protocol(text),
            Self::Config(_) => Self::Config(text),
            Self::Unsupported(_) => Self::Unsupported(text),
            Self::Other(_) => Self::Other(text),
        }
    }
}

/// Why a call failed. After everything but [`CallError::Driver`] the instance is dead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The driver answered with an error; it goes on running.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The guest broke down: a panic, a fault in its code, or a fault of the host while it served the guest.
    #[error("the driver broke down: {reason}")]
    Trap {
        /// What happened, where, and the guest's last words.
        reason: String,
    },
    /// The call took too long on the wall clock.
    #[error("{call} took longer than {after:?} (limits.call_timeout_ms)")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long it was given.
        after: Duration,
    },
    /// The guest wanted more than it may have.
    #[error("the driver broke a limit: {reason} ({setting})")]
    Limit {
        /// The key of the configuration that gives more, or the name of a fixed limit.
        setting: &'static str,
        /// What was asked for and what is allowed.
        reason: String,
    },
    /// An earlier call ended this instance, or a call was abandoned half way.
    #[error("the driver is not running")]
    NotRunning,
}

impl CallError {
    /// Whether the driver is to blame: such errors are counted towards quarantine.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, CallError::Trap { .. } | CallError::Timeout { .. } | CallError::Limit { .. })
    }
}

impl From<LimitExceeded> for CallError {
    fn from(LimitExceeded { setting, reason }: LimitExceeded) -> Self {
        CallError::Limit { setting, reason }
    }
}

/// Name of the fixed limit on the guest's stack.
pub const STACK: &str = "the stack, fixed at 256 KiB";
/// Name of the fixed limit on data that crosses the border at once.
pub const HOSTCALL: &str = "data handed to the host at once, fixed";
/// Name of the fixed limit on handles.
pub const HANDLES: &str = "open endpoints, fixed at 64";
/// Name of the fixed limit on readings, names and texts.
pub const OUTCOME: &str = "the outcome of a call, fixed";
/// Name of the fixed limit on core instances and memories.
pub const PARTS: &str = "core instances and memories of a component, fixed";

/// Sorts what wasmtime reports. `last_words` is the last error line the guest logged: with `panic = "abort"` that
/// is where the SDK's panic hook left the message.
pub(crate) fn classify(error: &wasmtime::Error, last_words: Option<&str>) -> CallError {
    if let Some(limit) = error.downcast_ref::<LimitExceeded>() {
        return limit.clone().into();
    }
    if let Some(Trap::StackOverflow) = error.downcast_ref::<Trap>() {
        let reason = format!("its stack grew beyond {}", limits::bytes(limits::WASM_STACK as u64));
        return CallError::Limit { setting: STACK, reason };
    }
    let root = error.root_cause().to_string();
    // These errors have no public type in wasmtime 48; a test per limit holds the texts.
    if root.contains("fuel allocated for hostcalls") {
        return CallError::Limit { setting: HOSTCALL, reason: "it handed too much data to the host at once".into() };
    }
    if root.contains("store handle limit exceeded") || matches!(error.downcast_ref(), Some(ResourceTableError::Full)) {
        return CallError::Limit { setting: HANDLES, reason: "it holds too many handles at once".into() };
    }
    if root.contains("resource limit exceeded") {
        return CallError::Limit { setting: PARTS, reason: root };
    }
    let place = error
        .downcast_ref::<WasmBacktrace>()
        .and_then(|trace| trace.frames().iter().find_map(|frame| frame.func_name().map(demangled)));
    let mut reason = root;
    if let Some(place) = place {
        reason.push_str(" in ");
        reason.push_str(&place);
    }
    if let Some(words) = last_words {
        reason.push_str("; its last error line: ");
        reason.push_str(words);
    }
    CallError::Trap { reason }
}

/// Function names of Rust guests are mangled; the hash at the end tells a reader nothing.
fn demangled(name: &str) -> String {
    let short: String = name.chars().take(120).collect();
    match short.rsplit_once("::h") {
        Some((front, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => front.to_owned(),
        _ => short,
    }
}
