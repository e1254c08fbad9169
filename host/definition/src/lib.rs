//! What a definition file says, and nothing that touches a wire or a clock: the file format, the query language, the
//! formulas, and from registers and payloads to values. The host reads files and devices and calls this crate; the
//! command line, the tests and the fuzz targets call the same.

pub mod document;
pub mod formula;
mod model;
pub mod parse;
pub mod query;
pub mod registers;
pub mod request;
pub mod template;

pub use document::{Document, DocumentError, FieldError, RegexError, compile_regex};
pub use formula::Formula;
pub use model::{
    Address, Definition, DocumentField, Extract, Identity, Input, Kind, Method, Modbus, ModbusField, Number, Output,
    Rtu, Shape, Source, Table, Target, Tcp, Transport, Value, Variable, WordOrder,
};
pub use parse::parse;
pub use query::Query;
pub use request::{OutputRequest, OutputTemplate, Recipient};
pub use template::Template;
