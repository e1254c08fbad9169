//! What people, cards and outside controllers allow a wallbox, beside what the load manager has to give.

use std::collections::BTreeMap;

use super::DeviceId;

/// Why a wallbox may not charge at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// It has users, and none of them has shown a card.
    NeedsAuthorisation,
    /// Somebody has switched charging off until the car is unplugged.
    Override,
    /// A controller over Modbus has switched charging off.
    Outside,
}

/// What one wallbox is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restriction {
    /// `None`: it may charge.
    pub forbidden: Option<Forbidden>,
    /// The most it may be told, in mA per phase; `None`: no limit of this kind.
    pub max_ma: Option<u32>,
}

/// By wallbox; who is not in it is not restricted.
pub type Restrictions = BTreeMap<DeviceId, Restriction>;
