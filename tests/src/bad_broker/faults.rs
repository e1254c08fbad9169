//! What the broker can do wrong.

/// What the broker does wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// What happens to a CONNECT of version 5.
    pub version_5: OnConnect,
    /// What happens to any CONNECT.
    pub connect: OnConnect,
    /// Closes silently after so many further packets of a client.
    pub close_after: Option<usize>,
    /// Messages arrive without their payload.
    pub empty_payloads: bool,
    /// Messages arrive twice.
    pub twice: Twice,
    /// Messages arrive with the retain flag, as if they had been stored.
    pub retain_flag: bool,
    /// How messages of QoS 1 are acknowledged.
    pub acks: Acks,
    /// Filters whose subscription is refused.
    pub refused_filters: Vec<String>,
}

/// What happens to a CONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConnect {
    /// It is accepted.
    #[default]
    Accept,
    /// CONNACK with this code, in the shape of 3.1.1: 1 is "unacceptable protocol version", 5 "not authorized".
    Refuse(u8),
    /// CONNACK with this code, in the shape of 5: 0x84 is "unsupported protocol version".
    Refuse5(u8),
    /// The connection is closed without a word.
    Close,
    /// Nothing ever comes.
    Hang,
}

/// Whether messages arrive twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Twice {
    /// Once.
    #[default]
    No,
    /// The second time under the same packet id with the DUP flag.
    WithDup,
    /// The second time as a message of its own.
    Plain,
}

/// How messages of QoS 1 are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// At once.
    #[default]
    Prompt,
    /// Not before [`super::BadBroker::release_acks`].
    Held,
    /// Never; what was received is not remembered as held either.
    Never,
    /// Twice each.
    Twice,
    /// An acknowledgement of a packet id that was never sent comes before each.
    Unknown,
    /// With this reason code (MQTT 5 only): 0x87 is "not authorized".
    Refuse(u8),
}
