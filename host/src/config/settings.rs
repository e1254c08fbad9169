//! How the rest of the host changes the configuration: edits of the one human-owned file, and what is in force until
//! the next start and never written. Who applies them is `app::reload`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::{ConfigErrors, Expr};

/// One change of the file. Lists of tables are addressed by id, as in `--set`: `device.E1.max_ma`.
#[derive(Clone)]
pub enum Edit {
    /// Gives a key a value; missing tables are created, missing entries of lists are not.
    Set {
        /// `["device", "E1", "max_ma"]`
        key: Vec<String>,
        /// The new value.
        value: toml_edit::Value,
    },
    /// Removes a key or a table; one that is not there is fine.
    Remove {
        /// As in [`Edit::Set`].
        key: Vec<String>,
    },
    /// Puts a whole entry into a list, in the place of the one with the same `id`, else at its end.
    Entry {
        /// `user`, `device`
        list: &'static str,
        /// The entry, `id` included.
        entry: toml_edit::Table,
    },
    /// Removes the entry with this id.
    RemoveEntry {
        /// `user`, `device`
        list: &'static str,
        /// Its id.
        id: String,
    },
}

impl std::fmt::Debug for Edit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values are hashes and PINs, and debug output ends up in logs.
        write!(f, "Edit({})", super::edit::key_of(self))
    }
}

/// A change that is in force at once, ends with the process and is never written.
#[derive(Clone, Debug, PartialEq)]
pub enum Volatile {
    /// `load.max_total_cur_prc`, 0 to 100.
    MaxTotalCurPrc(u8),
    /// A variable beside those of the file; `None` takes it back.
    Variable {
        /// Its name, a good one ([`super::variable_name`]).
        name: String,
        /// The number in it is finite.
        value: Option<Expr>,
    },
    /// Takes back all variables beside those of the file.
    ClearVariables,
}

/// Why a change was not made. Nothing of it is in force then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SettingsError {
    /// The configuration would be wrong.
    #[error("{0}")]
    Invalid(ConfigErrors),
    /// The file cannot be edited: it is broken or gone, or the host is stopping.
    #[error("{0}")]
    Cannot(String),
}

/// Several changes that are made together or not at all.
#[derive(Debug)]
pub(crate) struct Request {
    pub edits: Vec<Edit>,
    pub volatile: Vec<Volatile>,
    pub done: oneshot::Sender<Result<(), SettingsError>>,
}

/// Changes the configuration; cheap to clone.
#[derive(Clone, Debug)]
pub struct Settings {
    requests: mpsc::Sender<Request>,
    writes: Writes,
}

/// How often the file was written, and how often it could not be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes(Arc<WriteCounters>);

#[derive(Debug, Default)]
struct WriteCounters {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Writes {
    pub fn count(&self) {
        self.0.done.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_failed(&self) {
        self.0.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The other end of [`Settings`].
pub(crate) struct Requests {
    pub requests: mpsc::Receiver<Request>,
    pub writes: Writes,
}

impl Settings {
    /// The handle, and where its requests arrive.
    pub(crate) fn channel() -> (Self, Requests) {
        let (sender, requests) = mpsc::channel(64);
        let writes = Writes::default();
        (Self { requests: sender, writes: writes.clone() }, Requests { requests, writes })
    }

    /// How often the file was written since the start: flash memory wears out.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.0.done.load(Ordering::Relaxed)
    }

    /// How many attempts to write it have failed since the start.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.writes.0.failed.load(Ordering::Relaxed)
    }

    /// Makes the changes, all or none. They are in force when this returns; the file is written soon after.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub async fn change(&self, edits: Vec<Edit>, volatile: Vec<Volatile>) -> Result<(), SettingsError> {
        let stopping = || SettingsError::Cannot("the host is stopping".into());
        let (done, answer) = oneshot::channel();
        self.requests.send(Request { edits, volatile, done }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}
