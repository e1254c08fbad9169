//! The tables of the transactions and how a connection is set up for them.

use std::time::Duration;

use rusqlite::Connection;

/// The newest layout of this module's tables.
const SCHEMA: i64 = 1;

/// Sets the connection up and creates what is missing.
pub(super) fn prepare(connection: &Connection) -> Result<(), String> {
    let text = |error: rusqlite::Error| error.to_string();
    connection.busy_timeout(Duration::from_secs(5)).map_err(text)?;
    // The answer is the mode; a database in memory stays "memory".
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).map_err(text)?;
    // What is money is on the disk when a commit returns, also when the power fails in the next moment.
    connection.execute_batch("PRAGMA synchronous = FULL").map_err(text)?;
    // `begin_seq` and `end_seq` stay with the transaction, so that the numbers of all events ever made can be proved
    // to have no gap, whether they were queued or not.
    connection
        .execute_batch(
            "BEGIN IMMEDIATE;
             CREATE TABLE IF NOT EXISTS schema_version (module TEXT PRIMARY KEY, version INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS transactions (
                 id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, name TEXT NOT NULL,
                 start_s INTEGER NOT NULL, end_s INTEGER, energy_wh REAL NOT NULL, meter_start_wh REAL,
                 meter_end_wh REAL, rfid TEXT, user_id TEXT, reason TEXT,
                 begin_seq INTEGER NOT NULL UNIQUE, end_seq INTEGER UNIQUE
             );
             CREATE UNIQUE INDEX IF NOT EXISTS transactions_running ON transactions (device) WHERE end_s IS NULL;
             CREATE TABLE IF NOT EXISTS transaction_seq (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
             INSERT OR IGNORE INTO transaction_seq VALUES (1, 0);
             CREATE TABLE IF NOT EXISTS transaction_outbox (seq INTEGER PRIMARY KEY, payload TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS wallboxes (device TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
             INSERT OR IGNORE INTO schema_version VALUES ('transactions', 1);
             COMMIT;",
        )
        .map_err(text)?;
    let found: i64 = connection
        .query_row("SELECT version FROM schema_version WHERE module = 'transactions'", [], |row| row.get(0))
        .map_err(text)?;
    if found > SCHEMA {
        return Err(format!(
            "its transactions have layout {found}, this program knows {SCHEMA}: it was written by a newer version"
        ));
    }
    Ok(())
}
