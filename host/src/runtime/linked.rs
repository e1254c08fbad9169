//! A component whose imports are satisfied and whose exports are looked up: everything that can be done once per
//! plugin instead of once per device.

use wasmtime::component::{Instance, InstancePre};

use super::Guest;
use super::bindings::exports::ladekern::device;

/// The interfaces a plugin may export, in the order of the WIT files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are those of the WIT interfaces")]
pub enum Export {
    Device,
    ChargeControl,
    PhaseControl,
    Failsafe,
    Push,
    Handover,
    Decoder,
    PayloadDecoder,
}

impl Export {
    /// All of them.
    pub const ALL: [Export; 8] = [
        Export::Device,
        Export::ChargeControl,
        Export::PhaseControl,
        Export::Failsafe,
        Export::Push,
        Export::Handover,
        Export::Decoder,
        Export::PayloadDecoder,
    ];

    /// The name in `ladekern:device`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Export::Device => "device",
            Export::ChargeControl => "charge-control",
            Export::PhaseControl => "phase-control",
            Export::Failsafe => "failsafe",
            Export::Push => "push",
            Export::Handover => "handover",
            Export::Decoder => "decoder",
            Export::PayloadDecoder => "payload-decoder",
        }
    }
}

/// Which interfaces a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the WIT interfaces")]
pub struct Exports {
    pub device: bool,
    pub charge_control: bool,
    pub phase_control: bool,
    pub failsafe: bool,
    pub push: bool,
    pub handover: bool,
    pub decoder: bool,
    pub payload_decoder: bool,
}

impl Exports {
    /// Whether `export` is among them.
    #[must_use]
    pub fn has(&self, export: Export) -> bool {
        match export {
            Export::Device => self.device,
            Export::ChargeControl => self.charge_control,
            Export::PhaseControl => self.phase_control,
            Export::Failsafe => self.failsafe,
            Export::Push => self.push,
            Export::Handover => self.handover,
            Export::Decoder => self.decoder,
            Export::PayloadDecoder => self.payload_decoder,
        }
    }

    /// Their names in the order of [`Export::ALL`].
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        Export::ALL.into_iter().filter(|export| self.has(*export)).map(Export::name)
    }
}

/// Generates the lookup of all interfaces, so that no two of them are looked up in different ways.
macro_rules! interfaces {
    ($($field:ident: $module:ident => $name:literal,)*) => {
        /// A component that only waits for a store.
        pub struct Linked {
            pre: InstancePre<Guest>,
            exports: Exports,
            $($field: Option<device::$module::GuestIndices>,)*
        }

        /// The functions of one live instance.
        #[derive(Default)]
        pub(crate) struct Functions {
            $(pub(crate) $field: Option<device::$module::Guest>,)*
        }

        impl Linked {
            /// Looks all exports up.
            ///
            /// # Errors
            /// An interface of ours is exported, but one of its functions is missing.
            pub fn new(pre: InstancePre<Guest>) -> wasmtime::Result<Self> {
                let component = pre.component();
                $(let $field = match component.get_export_index(None, concat!("ladekern:device/", $name, "@0.1.0")) {
                    Some(_) => Some(device::$module::GuestIndices::new(&pre)?),
                    None => None,
                };)*
                let exports = Exports { $($field: $field.is_some(),)* };
                Ok(Self { exports, $($field,)* pre })
            }

            /// Checks the types of all exports and resolves them for one instance.
            pub(crate) fn functions(
                &self,
                mut store: impl wasmtime::AsContextMut,
                instance: &Instance,
            ) -> wasmtime::Result<Functions> {
                Ok(Functions {
                    $($field: match &self.$field {
                        Some(indices) => Some(indices.load(&mut store, instance)?),
                        None => None,
                    },)*
                })
            }
        }
    };
}

interfaces! {
    device: device => "device",
    charge_control: charge_control => "charge-control",
    phase_control: phase_control => "phase-control",
    failsafe: failsafe => "failsafe",
    push: push => "push",
    handover: handover => "handover",
    decoder: decoder => "decoder",
    payload_decoder: payload_decoder => "payload-decoder",
}

impl Linked {
    /// What it exports.
    #[must_use]
    pub fn exports(&self) -> Exports {
        self.exports
    }

    pub(crate) fn pre(&self) -> &InstancePre<Guest> {
        &self.pre
    }
}
