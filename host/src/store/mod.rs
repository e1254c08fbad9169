//! What outlives a restart, in one SQLite database in the state directory. Knows no device's meaning.

mod driver_state;
mod serial;
mod transactions;

pub use driver_state::{DriverState, StateError, StoreError};
pub use serial::serial;
pub use transactions::{Change, Record, Transaction, TransactionFilter, Transactions, Waiting};
