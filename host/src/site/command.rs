//! What may be asked of a wallbox. A command is a wish: the site believes it when a later reading shows it.

/// One wish to one wallbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Current per phase in mA; 0 pauses charging, anything else also enables it.
    Current(u32),
    /// Allow or forbid charging, the current limit stays.
    Enable(bool),
    /// Charge on 1 or 3 phases.
    Phases(u8),
    /// Try to wake a sleeping vehicle up.
    WakeUp,
}

/// Why a command did not reach the device, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The device's task is gone or its driver is not running: the reason.
    #[error("not running: {0}")]
    NotRunning(String),
    /// The device did not take it in time.
    #[error("the device did not answer: {0}")]
    Offline(String),
    /// This device cannot do that.
    #[error("this device cannot do that: {0}")]
    Unsupported(String),
    /// The device or its driver refused.
    #[error("refused: {0}")]
    Refused(String),
    /// A raise came too soon after the last write (several boxes write each value to flash). Nothing was done; ask
    /// again after this time if the wish still stands. Reductions are never held back.
    #[error("too soon after the last write, {} ms to go", .0.as_millis())]
    NotYet(std::time::Duration),
}

/// Where commands go: the device tasks, or a recording in a test.
pub trait Commands: Send + Sync {
    /// Hands `command` to the task of `device` and waits for its answer. Cancel-safe.
    fn command<'a>(
        &'a self,
        device: &'a super::DeviceId,
        command: Command,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>>;
}
