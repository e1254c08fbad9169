//! The few values a driver keeps across restarts and upgrades (`ladekern:host/state`).
//!
//! One row per device, plugin and key, in `ladekern.db` of the state directory. SQLite blocks, so every access
//! runs on tokio's blocking threads; whoever abandons a call half way leaves the row as it was or as it was to
//! become, never torn. A value that is already there is not written again: flash wears out.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use crate::runtime::limits::STATE_KEYS;
use crate::site::DeviceId;

/// The newest layout of this module's table.
const SCHEMA: i64 = 1;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct StoreError {
    pub(super) path: String,
    pub(super) reason: String,
}

/// Why a value was not read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The value alone is larger than all the space of the device.
    #[error("the value is larger than all the space the device has")]
    TooLarge,
    /// Too many keys, or not enough space left.
    #[error("too many keys, or no space left")]
    Quota,
    /// The database failed.
    #[error("{0}")]
    Io(String),
}

/// The values of all drivers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DriverState {
    connection: Arc<Mutex<Connection>>,
}

/// Whose values: a device that changes its type does not find the values of the other driver.
#[derive(Clone, Debug)]
struct Owner {
    device: String,
    plugin: String,
}

impl DriverState {
    /// Opens or creates `ladekern.db` in the state directory. Blocks.
    ///
    /// # Errors
    /// The file cannot be opened, is no database, or was written by a newer Ladekern.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join("ladekern.db");
        let failed = |reason: String| StoreError { path: path.display().to_string(), reason };
        let connection = Connection::open(&path).map_err(|e| failed(e.to_string()))?;
        Self::prepare(connection).map_err(failed)
    }

    /// A database that is forgotten with the last clone, for tests and for decoding without a device.
    ///
    /// # Errors
    /// SQLite is out of memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError { path: ":memory:".into(), reason };
        Self::prepare(Connection::open_in_memory().map_err(|e| failed(e.to_string()))?).map_err(failed)
    }

    fn prepare(connection: Connection) -> Result<Self, String> {
        let text = |error: rusqlite::Error| error.to_string();
        connection.busy_timeout(Duration::from_secs(5)).map_err(text)?;
        // The answer is the mode; a database in memory stays "memory".
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(text)?;
        connection.execute_batch("PRAGMA synchronous = NORMAL").map_err(text)?;
        // Each module of the store versions its own tables, so that they can change apart.
        connection
            .execute_batch(
                "BEGIN IMMEDIATE;
                 CREATE TABLE IF NOT EXISTS schema_version (module TEXT PRIMARY KEY, version INTEGER NOT NULL);
                 CREATE TABLE IF NOT EXISTS driver_state (
                     device TEXT NOT NULL, plugin TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
                     PRIMARY KEY (device, plugin, key)
                 ) WITHOUT ROWID;
                 INSERT OR IGNORE INTO schema_version VALUES ('driver_state', 1);
                 COMMIT;",
            )
            .map_err(text)?;
        let found: i64 = connection
            .query_row("SELECT version FROM schema_version WHERE module = 'driver_state'", [], |row| row.get(0))
            .map_err(text)?;
        if found > SCHEMA {
            return Err(format!(
                "its driver state has layout {found}, this program knows {SCHEMA}: it was written by a newer version"
            ));
        }
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub async fn get(&self, device: &DeviceId, plugin: &str, key: String) -> Result<Option<Vec<u8>>, StateError> {
        self.run(device, plugin, move |connection, owner| {
            connection
                .prepare("SELECT value FROM driver_state WHERE device = ?1 AND plugin = ?2 AND key = ?3")?
                .query_row(params![owner.device, owner.plugin, key], |row| row.get(0))
                .optional()
        })
        .await
        .flatten_io()
    }

    /// Sets `key`, if all keys and values of the device together stay within `space` bytes.
    ///
    /// # Errors
    /// Every [`StateError`].
    pub async fn set(
        &self,
        device: &DeviceId,
        plugin: &str,
        key: String,
        value: Vec<u8>,
        space: u64,
    ) -> Result<(), StateError> {
        if (key.len() + value.len()) as u64 > space {
            return Err(StateError::TooLarge);
        }
        self.run(device, plugin, move |connection, owner| store(connection, &owner, &key, &value, space))
            .await?
            .map_err(|error| match error {
                SetError::Quota => StateError::Quota,
                SetError::Sqlite(error) => StateError::Io(error.to_string()),
            })
    }

    /// Removes `key`; a key that is not there is fine.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub async fn delete(&self, device: &DeviceId, plugin: &str, key: String) -> Result<(), StateError> {
        self.run(device, plugin, move |connection, owner| {
            connection
                .prepare("DELETE FROM driver_state WHERE device = ?1 AND plugin = ?2 AND key = ?3")?
                .execute(params![owner.device, owner.plugin, key])
                .map(|_| ())
        })
        .await
        .flatten_io()
    }

    async fn run<T: Send + 'static>(
        &self,
        device: &DeviceId,
        plugin: &str,
        work: impl FnOnce(&mut Connection, Owner) -> T + Send + 'static,
    ) -> Result<T, StateError> {
        let connection = self.connection.clone();
        let owner = Owner { device: device.as_str().to_owned(), plugin: plugin.to_owned() };
        let task = tokio::task::spawn_blocking(move || {
            // A statement that failed has been rolled back: the connection is usable after a panic elsewhere.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection, owner)
        });
        task.await.map_err(|error| StateError::Io(error.to_string()))
    }
}

/// Makes one error of the two layers: the task's and SQLite's.
trait FlattenIo<T> {
    fn flatten_io(self) -> Result<T, StateError>;
}

impl<T> FlattenIo<T> for Result<rusqlite::Result<T>, StateError> {
    fn flatten_io(self) -> Result<T, StateError> {
        self?.map_err(|error| StateError::Io(error.to_string()))
    }
}

enum SetError {
    Quota,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for SetError {
    fn from(error: rusqlite::Error) -> Self {
        SetError::Sqlite(error)
    }
}

fn store(connection: &mut Connection, owner: &Owner, key: &str, value: &[u8], space: u64) -> Result<(), SetError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let same: Option<bool> = transaction
        .prepare("SELECT value = ?4 FROM driver_state WHERE device = ?1 AND plugin = ?2 AND key = ?3")?
        .query_row(params![owner.device, owner.plugin, key, value], |row| row.get(0))
        .optional()?;
    if same == Some(true) {
        return Ok(());
    }
    let (keys, used): (i64, i64) = transaction
        .prepare(
            "SELECT count(*), coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0)
             FROM driver_state WHERE device = ?1 AND plugin = ?2 AND key <> ?3",
        )?
        .query_row(params![owner.device, owner.plugin, key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let used = u64::try_from(used).unwrap_or(u64::MAX).saturating_add((key.len() + value.len()) as u64);
    if keys >= STATE_KEYS as i64 || used > space {
        return Err(SetError::Quota);
    }
    transaction
        .prepare("INSERT OR REPLACE INTO driver_state (device, plugin, key, value) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![owner.device, owner.plugin, key, value])?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: u64 = 100;

    fn e1() -> DeviceId {
        "E1".parse().unwrap()
    }

    async fn set(state: &DriverState, key: &str, bytes: usize) -> Result<(), StateError> {
        state.set(&e1(), "acme", key.into(), vec![7; bytes], SPACE).await
    }

    #[tokio::test]
    async fn values_outlive_the_process_and_belong_to_one_device_and_plugin() {
        let dir = tempfile::tempdir().unwrap();
        let state = DriverState::open(dir.path()).unwrap();
        set(&state, "token", 3).await.unwrap();
        drop(state);
        let state = DriverState::open(dir.path()).unwrap();
        assert_eq!(state.get(&e1(), "acme", "token".into()).await.unwrap(), Some(vec![7; 3]));
        assert_eq!(state.get(&e1(), "other", "token".into()).await.unwrap(), None);
        assert_eq!(state.get(&"E2".parse().unwrap(), "acme", "token".into()).await.unwrap(), None);
        state.delete(&e1(), "acme", "token".into()).await.unwrap();
        assert_eq!(state.get(&e1(), "acme", "token".into()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn keys_count_against_the_space_too() {
        let state = DriverState::in_memory().unwrap();
        assert_eq!(set(&state, "k", 100).await, Err(StateError::TooLarge));
        set(&state, "a", 49).await.unwrap();
        assert_eq!(set(&state, "bb", 49).await, Err(StateError::Quota));
        set(&state, "b", 49).await.unwrap();
        // Replacing a value gives its space back.
        set(&state, "b", 10).await.unwrap();
        set(&state, "c", 38).await.unwrap();
    }

    #[tokio::test]
    async fn there_are_sixty_four_keys() {
        let state = DriverState::in_memory().unwrap();
        for n in 0..STATE_KEYS {
            set(&state, &char::from_u32(65 + n as u32).unwrap().to_string(), 0).await.unwrap();
        }
        assert_eq!(set(&state, "!", 0).await, Err(StateError::Quota));
        set(&state, "A", 1).await.unwrap();
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DriverState::open(dir.path()).unwrap());
        let raw = Connection::open(dir.path().join("ladekern.db")).unwrap();
        raw.execute("UPDATE schema_version SET version = 2 WHERE module = 'driver_state'", []).unwrap();
        let error = DriverState::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("newer version") && error.contains("ladekern.db"), "{error}");
    }
}
