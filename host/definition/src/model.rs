//! A checked definition: what the rest works with. A value of these types is complete and cannot be wrong in itself;
//! what a file says wrong is told by the parser. Keys as in `cfos-interfaces.md` section 2.

use std::time::Duration;

use regex::Regex;

use crate::{Formula, Query};

/// A whole definition file.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Type id; what a device's `type` names.
    pub dev_type: String,
    /// Shown to people; default the type id.
    pub name: String,
    /// Shown to people.
    pub manufacturer: String,
    /// `mtype`.
    pub kind: Kind,
    /// `rtype` with what belongs to it.
    pub transport: Transport,
    /// `tcp`: timing of Modbus TCP and HTTP.
    pub tcp: Tcp,
    /// `upd_delay`: time between reads; `None`: as the device's entry says.
    pub update: Option<Duration>,
    /// `delay_accumulated`, default true: energy counters are read about every 3 s, or at each update while there is
    /// power.
    pub delay_accumulated: bool,
    /// `ui_addr`: the device's web page.
    pub ui_addr: Option<String>,
    /// `reserved`: raw values that mean 0.
    pub reserved: Vec<f64>,
    /// `unavailable`: raw values (before the resolution) that mean that the device does not know: missing, not 0. Ours,
    /// the original's format has nothing of the kind. 2^64-1 is compared as the nearest `f64`.
    pub unavailable: Vec<f64>,
    /// In the order of the file.
    pub variables: Vec<Variable>,
    /// At most 32.
    pub inputs: Vec<Input>,
    /// At most 32.
    pub outputs: Vec<Output>,
    /// Run when the device is deactivated.
    pub resets: Vec<Output>,
}

/// `mtype`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// 0
    #[default]
    Other,
    /// 1
    Meter,
    /// 2
    Inverter,
    /// 4
    Battery,
}

/// `rtype`
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// 0: Modbus TCP, RTU over TCP, RTU.
    Modbus(Modbus),
    /// 1: HTTP.
    Http,
    /// 2: MQTT.
    Mqtt,
}

/// How registers are read.
#[derive(Clone, Debug, PartialEq)]
pub struct Modbus {
    /// `modbus_read`: function 3 (default) or 4.
    pub table: Table,
    /// `modbus_read_max_registers`, 1 to 125 (default); 1 reads each variable alone.
    pub max_registers: u16,
    /// `modbus_allow_gaps`: registers between two variables may be read along.
    pub allow_gaps: bool,
    /// `rtu`
    pub rtu: Rtu,
}

/// What function 3 and function 4 read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
}

/// `rtu`: timing of a serial line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rtu {
    /// `silence_period`: pause between requests.
    pub silence: Option<Duration>,
    /// `silence_same_slave`: the pause also lies between two requests to the same unit; default false.
    pub silence_same_slave: bool,
    /// `retries`: a request without an answer is made this often again.
    pub retries: Option<u8>,
    /// `rcv_timeout`: how long an answer may take.
    pub receive_timeout: Option<Duration>,
}

/// `tcp`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tcp {
    /// `connect_timeout`
    pub connect_timeout: Option<Duration>,
    /// `delay_after_connect`: pause before the first request of a connection.
    pub delay_after_connect: Option<Duration>,
}

/// One variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its key in the file, as written.
    pub name: String,
    /// Where its value goes.
    pub target: Target,
    /// Where its value comes from.
    pub source: Source,
    /// Read once, when the device is opened; identity always is.
    pub once: bool,
    /// `optional`: not every device has it. A member that is not there, or a register that the device refuses, is a
    /// missing value and no fault. Ours, the original's format has nothing of the kind.
    pub optional: bool,
}

/// Where a variable's value goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Part of the device's model text.
    Identity(Identity),
    /// A quantity of the register (`docs/quantities.md`) by its name there, `power.total`.
    Quantity(&'static str),
    /// `CM.<name>`: a Charging Manager variable; the name without `CM.`.
    Manager(String),
    /// A user variable of the device; the name without a leading `*`.
    User {
        /// The name, for formulas (case-insensitive).
        name: String,
        /// The name began with `*`: shown to people.
        shown: bool,
    },
}

/// Texts that say who a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub enum Identity {
    TypeDesignation,
    Version,
    FirmwareVersion,
    Serial,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// `fixed`
    Fixed(String),
    /// `expr`
    Expr(Formula),
    /// Registers (`rtype` 0).
    Modbus(ModbusField),
    /// An HTTP answer or an MQTT message (`rtype` 1 and 2).
    Document(DocumentField),
}

/// Registers of one variable.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusField {
    /// First register, wire address.
    pub address: u16,
    /// Registers.
    pub count: u16,
    /// What they hold.
    pub shape: Shape,
    /// Word order of what is longer than a register.
    pub order: WordOrder,
}

/// `order`: which register of a longer value comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WordOrder {
    /// `hl`, the default: the high word first.
    #[default]
    HighFirst,
    /// `lh`
    LowFirst,
}

/// `type`, with `length` and `resolution`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// A number.
    Number {
        /// `type`
        number: Number,
        /// `resolution`, default 1; negative inverts.
        factor: f64,
    },
    /// `type` `string`: two characters per register, the high byte first.
    Text,
    /// A number of `version` or `firmware_version` with `length` 2 or 4 (parts), shown with dots.
    Dotted {
        /// `type`
        number: Number,
        /// 2: halves of the number; 4: bytes of 32 bits or words of 64 bits.
        parts: u8,
    },
}

/// `type` of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the format")]
pub enum Number {
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Uint64,
    /// 32 bits in registers.
    Float,
    /// `double`: 64 bits in four registers. Ours.
    Double,
}

/// Part of an HTTP answer or MQTT message.
#[derive(Clone, Debug)]
pub struct DocumentField {
    /// Where the document comes from.
    pub address: Address,
    /// Which part of it.
    pub extract: Extract,
    /// What that holds.
    pub shape: Shape,
}

/// Where a document comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A path at the device, with its query, beginning with `/`.
    Http {
        /// Default GET.
        method: Method,
        /// The path.
        path: String,
    },
    /// A topic.
    Mqtt {
        /// No wildcards.
        topic: String,
    },
}

/// HTTP method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Method {
    #[default]
    Get,
    Post,
    Put,
}

/// Which part of a document.
#[derive(Clone, Debug)]
pub enum Extract {
    /// The document is JSON; this part of it.
    Query(Query),
    /// The document is text; the first group of the first match, or the whole match.
    Regex(Regex),
    /// The whole document is one value.
    Whole,
}

/// An entry of `inputs`: bits that formulas see as `input1`, `input2`, ….
#[derive(Clone, Debug)]
pub struct Input {
    /// Registers or a document, by `rtype`.
    pub source: Source,
    /// `count`: bits, default 1.
    pub count: u8,
}

/// An entry of `outputs` or `resets`, as written; made into requests by whoever knows templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// `address`: optional method and URL, with `${…}`.
    pub address: String,
    /// `body`, with `${…}`.
    pub body: Option<String>,
}

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Finite.
    Number(f64),
    /// Trimmed of the padding of registers.
    Text(String),
}
