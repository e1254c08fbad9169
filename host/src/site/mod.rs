//! The domain: device ids, quantities, readings with their age, the snapshot of the whole site, commands.
//! Knows no wire, no vendor and no file; every other module speaks in these types.

mod command;
mod id;
mod quantity;
mod reading;
mod request;
mod restriction;
mod snapshot;
mod time;
mod variable;

pub use command::{Command, CommandError, Commands};
pub use id::{BadDeviceId, DeviceId, DeviceKind, Role};
pub use quantity::{Quantity, REGISTER, Unit, quantities};
pub use reading::{Connector, Info, Measured, Outcome, Values};
pub use request::{Because, Request, Requests};
pub use restriction::{Forbidden, Restriction, Restrictions};
pub use snapshot::{Board, DeviceStatus, Health, Snapshot, StatusSender, Statuses};
pub use time::{Clock, Moment};
pub use variable::VariableValues;
