//! Charging transactions, from plug-in to unplug, and the outbox in which each event waits until a broker has
//! acknowledged it. One writer; every change that comes together is one commit that is on the disk when it returns.

mod outbox;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::sync::watch;

use crate::site::DeviceId;

use super::StoreError;

pub use outbox::Waiting;
pub use write::{Change, Record};

/// Transactions that one call of [`Transactions::list`] returns when nothing else is asked for.
const LIST: u32 = 1_000;
/// The last second of the year 9999; RFC 3339 has no later ones.
const LATEST_S: u64 = 253_402_300_799;

/// One transaction.
#[derive(Clone, PartialEq, serde::Serialize)]
pub struct Transaction {
    /// Unique in this installation, from 1, in the order of the beginnings.
    pub id: u64,
    /// The wallbox.
    pub dev_id: String,
    /// Its name when the transaction began.
    pub name: String,
    /// RFC 3339. 1970 stands for a beginning before the system's clock was set.
    pub start: String,
    /// RFC 3339; `None`: it still runs.
    pub end: Option<String>,
    /// What has flowed into the car; of a running one as of the last ten seconds.
    pub energy_wh: f64,
    /// Reading of the counter at the start; `None`: unknown.
    pub meter_start_wh: Option<f64>,
    /// Reading of the counter at the end.
    pub meter_end_wh: Option<f64>,
    /// The card that authorised.
    pub rfid: Option<String>,
    /// The user whose card it was.
    pub user_id: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cards and PINs do not belong into logs.
        let Self { id, dev_id, start, end, energy_wh, reason, .. } = self;
        write!(f, "Transaction({id}, {dev_id}, {start} to {end:?}, {energy_wh} Wh, {reason:?})")
    }
}

/// Which transactions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// Only of this wallbox.
    pub device: Option<DeviceId>,
    /// Only such that began at or after this Unix time in seconds.
    pub from: Option<u64>,
    /// Only such that began before this Unix time in seconds.
    pub to: Option<u64>,
    /// Only such with a larger id, for clients that fetch what is new.
    pub after: Option<u64>,
    /// At most so many, the oldest first; `None`: 1000.
    pub limit: Option<u32>,
}

/// All transactions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transactions {
    connection: Arc<Mutex<Connection>>,
    /// The newest event that waits for a broker, so that whoever sends them need not ask again and again.
    queued: Arc<watch::Sender<u64>>,
}

impl Transactions {
    /// Opens or creates `ladekern.db` in the state directory. Blocks.
    ///
    /// # Errors
    /// The file cannot be opened, is no database, or was written by a newer Ladekern.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        let path = state_dir.join("ladekern.db");
        let failed = |reason: String| StoreError { path: path.display().to_string(), reason };
        let connection = Connection::open(&path).map_err(|e| failed(e.to_string()))?;
        Self::prepared(connection).map_err(failed)
    }

    /// A database that is forgotten with the last clone.
    ///
    /// # Errors
    /// SQLite is out of memory.
    pub fn in_memory() -> Result<Self, StoreError> {
        let failed = |reason: String| StoreError { path: ":memory:".into(), reason };
        Self::prepared(Connection::open_in_memory().map_err(|e| failed(e.to_string()))?).map_err(failed)
    }

    fn prepared(connection: Connection) -> Result<Self, String> {
        schema::prepare(&connection)?;
        let newest = outbox::newest(&connection).map_err(|error| error.to_string())?;
        let queued = Arc::new(watch::Sender::new(newest));
        Ok(Self { connection: Arc::new(Mutex::new(connection)), queued })
    }

    /// The transactions that are wanted, the oldest first; running ones have no end.
    ///
    /// # Errors
    /// A sentence if the database fails.
    pub async fn list(&self, filter: &TransactionFilter) -> Result<Vec<Transaction>, String> {
        let filter = filter.clone();
        self.run(move |connection| list(connection, &filter)).await
    }

    /// Writes all of this, or nothing. It is on the disk when this returns. With `queue`, its events wait in the
    /// outbox from now on.
    ///
    /// # Errors
    /// A sentence if the database fails.
    pub async fn write(&self, changes: Arc<Vec<Change>>, queue: bool) -> Result<(), String> {
        let newest = self.run(move |connection| write::apply(connection, &changes, queue)).await?;
        if let Some(newest) = newest {
            self.queued.send_replace(newest);
        }
        Ok(())
    }

    /// What was noted of each wallbox for the time after a restart, as it was given. Blocks.
    ///
    /// # Errors
    /// A sentence if the database fails.
    pub fn wallboxes(&self) -> Result<Vec<(String, String)>, String> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        write::wallboxes(&connection).map_err(|error| error.to_string())
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let connection = self.connection.clone();
        let task = tokio::task::spawn_blocking(move || {
            // A statement that failed has been rolled back: the connection is usable after a panic elsewhere.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        task.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

fn list(connection: &Connection, filter: &TransactionFilter) -> rusqlite::Result<Vec<Transaction>> {
    let mut statement = connection.prepare(
        "SELECT id, device, name, start_s, end_s, energy_wh, meter_start_wh, meter_end_wh, rfid, user_id, reason
         FROM transactions
         WHERE (?1 IS NULL OR device = ?1) AND start_s >= ?2 AND start_s < ?3 AND id > ?4
         ORDER BY id LIMIT ?5",
    )?;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let bounds = rusqlite::params![
        filter.device.as_ref().map(DeviceId::as_str),
        whole(filter.from.unwrap_or(0)),
        whole(filter.to.unwrap_or(u64::MAX)),
        whole(filter.after.unwrap_or(0)),
        filter.limit.unwrap_or(LIST),
    ];
    let rows = statement.query_map(bounds, |row| {
        Ok(Transaction {
            id: number(row.get(0)?),
            dev_id: row.get(1)?,
            name: row.get(2)?,
            start: rfc3339(number(row.get(3)?)),
            end: row.get::<_, Option<i64>>(4)?.map(|end| rfc3339(number(end))),
            energy_wh: row.get(5)?,
            meter_start_wh: row.get(6)?,
            meter_end_wh: row.get(7)?,
            rfid: row.get(8)?,
            user_id: row.get(9)?,
            reason: row.get(10)?,
        })
    })?;
    rows.collect()
}

/// A column that never holds less than 0.
fn number(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

/// `2026-11-22T18:49:17Z`
fn rfc3339(unix_s: u64) -> String {
    let at: SystemTime = UNIX_EPOCH + Duration::from_secs(unix_s.min(LATEST_S));
    humantime::format_rfc3339_seconds(at).to_string()
}
