//! Every key of the format with what it holds: the parser checks against these tables, the schema is written from
//! them. Facts: `cfos-interfaces.md` 2.1, 2.2 and 2.4; bounds without a source there are ours.

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) holds: Holds,
    /// For people, in the schema.
    pub(super) about: &'static str,
}

/// What a key holds.
#[derive(Debug)]
pub(super) enum Holds {
    Text,
    Flag,
    Whole {
        least: i64,
        most: i64,
    },
    /// Finite and not 0.
    Factor,
    /// A whole number with a meaning.
    Code(&'static [(i64, &'static str)]),
    /// One of these texts.
    Word(&'static [&'static str]),
    /// Finite numbers.
    Numbers {
        most: usize,
    },
    /// A text, or a finite number, that is taken as text.
    TextOrNumber,
    /// A text, or a whole number: what an address is depends on the transport.
    Address,
    Object(&'static [Key]),
    List {
        of: &'static [Key],
        most: usize,
    },
}

const fn key(name: &'static str, holds: Holds, about: &'static str) -> Key {
    Key { name, holds, about }
}

/// Inputs, outputs and resets of a file.
pub(super) const MOST_INPUTS: usize = 32;

/// Entries of `reserved` and `unavailable`.
const MOST_RESERVED: usize = 64;

const DAY_MS: i64 = 86_400_000;

/// Top level, besides variables.
pub(super) const HEAD: &[Key] = &[
    key("$schema", Holds::Text, "For editors; means nothing to the device."),
    key("dev_type", Holds::Text, "Type id: what a device's `type` names. Letters, digits, `-`, `_` and `.`."),
    key("name", Holds::Text, "Shown to people; default: the type id."),
    key("manufacturer", Holds::Text, "Shown to people."),
    key(
        "rtype",
        Holds::Code(&[(0, "Modbus (TCP, RTU over TCP, RTU)"), (1, "HTTP"), (2, "MQTT")]),
        "How the device is read: 0 Modbus, 1 HTTP, 2 MQTT.",
    ),
    key(
        "mtype",
        Holds::Code(&[(0, "other"), (1, "meter"), (2, "inverter"), (4, "battery")]),
        "What the device is: 0 other (default), 1 meter, 2 inverter, 4 battery.",
    ),
    key("upd_delay", Holds::Whole { least: 100, most: DAY_MS }, "Milliseconds between reads."),
    key(
        "delay_accumulated",
        Holds::Flag,
        "Energy counters are read only about every 3 s, or while there is power; default true.",
    ),
    key("ui_addr", Holds::Text, "The device's web page: http://…, https://… or a path at the device."),
    key("reserved", Holds::Numbers { most: MOST_RESERVED }, "Raw values that mean 0."),
    key(
        "unavailable",
        Holds::Numbers { most: MOST_RESERVED },
        "Raw values that mean that the device does not know: the value is missing, not 0.",
    ),
    key(
        "modbus_read",
        Holds::Code(&[(3, "holding registers"), (4, "input registers")]),
        "Modbus function to read with; default 3.",
    ),
    key(
        "modbus_read_max_registers",
        Holds::Whole { least: 1, most: 125 },
        "Most registers in one request, default 125; 1 reads each variable alone.",
    ),
    key("modbus_allow_gaps", Holds::Flag, "Registers between two variables may be read along; default false."),
    key("rtu", Holds::Object(RTU), "Timing of a serial line."),
    key("tcp", Holds::Object(TCP), "Timing of Modbus TCP and HTTP connections."),
    key("inputs", Holds::List { of: INPUT, most: MOST_INPUTS }, "Bits that formulas see as input1, input2, …"),
    key(
        "outputs",
        Holds::List { of: OUTPUT, most: MOST_INPUTS },
        "Requests sent at the end of a cycle when they have changed.",
    ),
    key("resets", Holds::List { of: OUTPUT, most: MOST_INPUTS }, "Requests sent when the device is deactivated."),
];

/// `rtu`
pub(super) const RTU: &[Key] = &[
    key("silence_period", Holds::Whole { least: 0, most: 10_000 }, "Milliseconds of silence between two requests."),
    key(
        "silence_same_slave",
        Holds::Flag,
        "The silence is also kept between requests to the same unit; default false.",
    ),
    key("retries", Holds::Whole { least: 0, most: 10 }, "How often a request without an answer is repeated."),
    key("rcv_timeout", Holds::Whole { least: 10, most: 60_000 }, "Milliseconds to wait for an answer."),
];

/// `tcp`
pub(super) const TCP: &[Key] = &[
    key("connect_timeout", Holds::Whole { least: 10, most: 60_000 }, "Milliseconds to wait for a connection."),
    key(
        "delay_after_connect",
        Holds::Whole { least: 0, most: 60_000 },
        "Milliseconds between the connection and the first request.",
    ),
];

/// Numbers and texts that `type` may name.
pub(super) const TYPES: &[&str] =
    &["int16", "uint16", "int32", "uint32", "int64", "uint64", "float", "double", "string"];

const ADDRESS: Key = key(
    "address",
    Holds::Address,
    "Modbus: register, 0 to 65535. HTTP: path beginning with /, after an optional GET or POST. MQTT: topic.",
);

const QUERY: Key = key("query", Holds::Text, "Part of a JSON answer: power, data[0].value, emeters[{\"id\":1}].power.");

/// A variable.
pub(super) const VARIABLE: &[Key] = &[
    ADDRESS,
    key(
        "type",
        Holds::Word(TYPES),
        "What the registers hold, or what the text is read as; default float, string for identity.",
    ),
    key("resolution", Holds::Factor, "The value is multiplied by it; negative inverts. Default 1."),
    key(
        "order",
        Holds::Word(&["hl", "lh"]),
        "Modbus: which register of a longer number comes first; default hl, high word first.",
    ),
    key(
        "length",
        Holds::Whole { least: 1, most: 125 },
        "Registers of a string; 2 or 4 with a numeric version: parts of a dotted version.",
    ),
    QUERY,
    key("regex", Holds::Text, "For answers that are no JSON: the first group of the first match, or the whole match."),
    key("once", Holds::Flag, "Read once, when the device starts."),
    key("optional", Holds::Flag, "Not every device has it: where it is not there, it is missing and no fault."),
    key("fixed", Holds::TextOrNumber, "A constant."),
    key("expr", Holds::Text, "A formula instead of reading."),
];

/// An entry of `inputs`.
pub(super) const INPUT: &[Key] =
    &[ADDRESS, key("count", Holds::Whole { least: 1, most: 32 }, "Bits, default 1."), QUERY];

/// An entry of `outputs` and `resets`.
pub(super) const OUTPUT: &[Key] = &[
    key("address", Holds::Text, "Optional method and URL, with ${…}."),
    key("body", Holds::Text, "Body of the request, with ${…}."),
];
