//! The events that wait for a broker (contract rule B3): an entry stays on the disk until it is acknowledged.

use rusqlite::{Connection, params};
use tokio::sync::watch;

use super::{Transactions, number};

/// An event that waits.
#[derive(Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number; they have no gap.
    pub seq: u64,
    /// JSON.
    pub payload: String,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The payload holds cards.
        write!(f, "Waiting({})", self.seq)
    }
}

impl Transactions {
    /// The oldest events that wait, at most so many.
    ///
    /// # Errors
    /// A sentence if the database fails.
    pub async fn waiting(&self, most: u32) -> Result<Vec<Waiting>, String> {
        self.run(move |connection| waiting(connection, most)).await
    }

    /// The broker has all events up to this one.
    ///
    /// # Errors
    /// A sentence if the database fails; then they are sent again.
    pub async fn acknowledged(&self, seq: u64) -> Result<(), String> {
        let seq = i64::try_from(seq).unwrap_or(i64::MAX);
        self.run(move |connection| {
            connection.execute("DELETE FROM transaction_outbox WHERE seq <= ?1", params![seq]).map(|_| ())
        })
        .await
    }

    /// Changes with every event that is queued.
    #[must_use]
    pub fn queued(&self) -> watch::Receiver<u64> {
        self.queued.subscribe()
    }
}

fn waiting(connection: &Connection, most: u32) -> rusqlite::Result<Vec<Waiting>> {
    let mut statement = connection.prepare("SELECT seq, payload FROM transaction_outbox ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([most], |row| Ok(Waiting { seq: number(row.get(0)?), payload: row.get(1)? }))?;
    rows.collect()
}

/// The number of the newest event that waits; 0 for none.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    let get = "SELECT coalesce(max(seq), 0) FROM transaction_outbox";
    connection.query_row(get, [], |row| row.get(0)).map(number)
}
