//! Registers of a Modbus device: which ones are read together, and the values they hold (`cfos-interfaces.md` 2.2).
//! Byte order within a register is the protocol's, high byte first (Modbus application protocol 1.1b3, 4.2).

mod decode;
mod plan;

pub use decode::{DecodeError, Special, decode, decode_text};
pub(crate) use decode::{dotted, scaled};
pub use plan::{Part, ReadPlan, Span};
