//! What the sessions write: beginnings, progress and ends of transactions, each event with its number, in one commit.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde::Serialize;

use super::{Transaction, number, rfc3339};
use crate::site::DeviceId;

/// A transaction as its wallbox's session knows it. Which one it is follows from the wallbox: at most one runs there.
#[derive(Clone, PartialEq)]
pub struct Record {
    /// The wallbox.
    pub device: DeviceId,
    /// Its name when the transaction began.
    pub name: String,
    /// Unix time in seconds; 0: the clock was not set.
    pub start_s: u64,
    /// Unix time in seconds.
    pub end_s: Option<u64>,
    /// What has flowed into the car.
    pub energy_wh: f64,
    /// Reading of the counter at the start.
    pub meter_start_wh: Option<f64>,
    /// Reading of the counter now, or at the end.
    pub meter_end_wh: Option<f64>,
    /// The card that authorised.
    pub rfid: Option<String>,
    /// The user whose card it was.
    pub user_id: Option<String>,
    /// Why it ended.
    pub reason: Option<String>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Cards and PINs do not belong into logs.
        let Self { device, start_s, end_s, energy_wh, reason, .. } = self;
        write!(f, "Record({device}, {start_s} to {end_s:?}, {energy_wh} Wh, {reason:?})")
    }
}

/// One thing to write.
#[derive(Clone, PartialEq)]
pub enum Change {
    /// A transaction begins: an event.
    Begin(Record),
    /// What the running one has come to.
    Progress(Record),
    /// The running one ends: an event.
    End(Record),
    /// What must be known of a wallbox after a restart, as a text that only its writer understands.
    Wallbox(DeviceId, String),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Begin(record) => write!(f, "Begin({record:?})"),
            Change::Progress(record) => write!(f, "Progress({record:?})"),
            Change::End(record) => write!(f, "End({record:?})"),
            Change::Wallbox(device, _) => write!(f, "Wallbox({device})"),
        }
    }
}

/// An entry of the transaction log (contract rule B15).
#[derive(Serialize)]
struct Event {
    event: &'static str,
    seq: i64,
    #[serde(flatten)]
    transaction: Transaction,
}

/// Writes all or nothing. The number of the newest event that was queued.
pub(super) fn apply(connection: &mut Connection, changes: &[Change], queue: bool) -> rusqlite::Result<Option<u64>> {
    let database = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut writer = Writer { database: &database, queue, newest: None };
    for change in changes {
        match change {
            Change::Begin(record) => {
                writer.begin(record)?;
            }
            Change::Progress(record) => writer.progress(record)?,
            Change::End(record) => writer.end(record)?,
            Change::Wallbox(device, state) => {
                let put = "INSERT OR REPLACE INTO wallboxes (device, state) VALUES (?1, ?2)";
                database.execute(put, params![device.as_str(), state])?;
            }
        }
    }
    let newest = writer.newest;
    database.commit()?;
    Ok(newest.map(number))
}

/// All notes about wallboxes.
pub(super) fn wallboxes(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare("SELECT device, state FROM wallboxes ORDER BY device")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

struct Writer<'a> {
    database: &'a rusqlite::Transaction<'a>,
    queue: bool,
    newest: Option<i64>,
}

impl Writer<'_> {
    /// The id of the transaction that runs at this wallbox.
    fn running(&self, device: &DeviceId) -> rusqlite::Result<Option<i64>> {
        let get = "SELECT id FROM transactions WHERE device = ?1 AND end_s IS NULL";
        self.database.query_row(get, [device.as_str()], |row| row.get(0)).optional()
    }

    fn begin(&mut self, record: &Record) -> rusqlite::Result<i64> {
        if let Some(id) = self.running(&record.device)? {
            // Cannot be while one writer keeps the order; should it be, both are kept and both have their events.
            self.close(id, record.start_s, "followed by another one")?;
        }
        let seq = self.next_seq()?;
        self.database.execute(
            "INSERT INTO transactions (device, name, start_s, energy_wh, meter_start_wh, meter_end_wh, rfid, user_id,
                 begin_seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                record.device.as_str(),
                record.name,
                whole(record.start_s),
                record.energy_wh,
                record.meter_start_wh,
                record.meter_end_wh,
                record.rfid,
                record.user_id,
                seq,
            ],
        )?;
        let id = self.database.last_insert_rowid();
        self.queue("begin", seq, id, &Record { end_s: None, reason: None, ..record.clone() })?;
        Ok(id)
    }

    fn progress(&mut self, record: &Record) -> rusqlite::Result<()> {
        let id = self.running_or_new(record)?;
        self.update(id, record)
    }

    fn end(&mut self, record: &Record) -> rusqlite::Result<()> {
        let id = self.running_or_new(record)?;
        self.update(id, record)?;
        let seq = self.next_seq()?;
        let set = "UPDATE transactions SET end_s = ?2, reason = ?3, end_seq = ?4 WHERE id = ?1";
        let end_s = record.end_s.unwrap_or(record.start_s);
        self.database.execute(set, params![id, whole(end_s), record.reason, seq])?;
        self.queue("end", seq, id, &Record { end_s: Some(end_s), ..record.clone() })
    }

    /// A beginning that could not be written is made up for.
    fn running_or_new(&mut self, record: &Record) -> rusqlite::Result<i64> {
        match self.running(&record.device)? {
            Some(id) => Ok(id),
            None => self.begin(record),
        }
    }

    fn update(&self, id: i64, record: &Record) -> rusqlite::Result<()> {
        self.database.execute(
            "UPDATE transactions SET start_s = ?2, energy_wh = ?3, meter_start_wh = ?4, meter_end_wh = ?5, rfid = ?6,
                 user_id = ?7 WHERE id = ?1",
            params![
                id,
                whole(record.start_s),
                record.energy_wh,
                record.meter_start_wh,
                record.meter_end_wh,
                record.rfid,
                record.user_id
            ],
        )?;
        Ok(())
    }

    fn close(&mut self, id: i64, end_s: u64, reason: &str) -> rusqlite::Result<()> {
        let get = "SELECT device, name, start_s, energy_wh, meter_start_wh, meter_end_wh, rfid, user_id
                   FROM transactions WHERE id = ?1";
        let (device, record) = self.database.query_row(get, [id], |row| {
            let device: String = row.get(0)?;
            let record = |device: DeviceId| -> rusqlite::Result<Record> {
                Ok(Record {
                    device,
                    name: row.get(1)?,
                    start_s: number(row.get(2)?),
                    end_s: Some(end_s),
                    energy_wh: row.get(3)?,
                    meter_start_wh: row.get(4)?,
                    meter_end_wh: row.get(5)?,
                    rfid: row.get(6)?,
                    user_id: row.get(7)?,
                    reason: Some(reason.to_owned()),
                })
            };
            let parsed: Option<DeviceId> = device.parse().ok();
            Ok((device, parsed.map(record).transpose()?))
        })?;
        match record {
            Some(record) => self.end(&record),
            None => Err(rusqlite::Error::InvalidParameterName(format!("{device} is no device id"))),
        }
    }

    /// Numbers are given in the same commit as the event they belong to: no crash can make a gap.
    fn next_seq(&self) -> rusqlite::Result<i64> {
        self.database.query_row("UPDATE transaction_seq SET seq = seq + 1 RETURNING seq", [], |row| row.get(0))
    }

    fn queue(&mut self, event: &'static str, seq: i64, id: i64, record: &Record) -> rusqlite::Result<()> {
        if !self.queue {
            return Ok(());
        }
        let Record { device, name, start_s, end_s, energy_wh, meter_start_wh, meter_end_wh, .. } = record;
        let transaction = Transaction {
            id: number(id),
            dev_id: device.to_string(),
            name: name.clone(),
            start: rfc3339(*start_s),
            end: end_s.map(rfc3339),
            energy_wh: *energy_wh,
            meter_start_wh: *meter_start_wh,
            meter_end_wh: *meter_end_wh,
            rfid: record.rfid.clone(),
            user_id: record.user_id.clone(),
            reason: record.reason.clone(),
        };
        let event = Event { event, seq, transaction };
        let payload = serde_json::to_string(&event).unwrap_or_default();
        let put = "INSERT INTO transaction_outbox (seq, payload) VALUES (?1, ?2)";
        self.database.execute(put, params![seq, payload])?;
        self.newest = Some(seq);
        Ok(())
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
