//! From an author's type to a component's exports. There is one instance per device and one call at a time, so the
//! driver lives in one cell of the component; the macro puts it there when `open` succeeded. It never keeps a driver whose `open` failed.

use std::cell::RefCell;

use crate::bindings::decoder::exports::ladekern::device::decoder::Block;
use crate::bindings::payload_decoder::exports::ladekern::device::payload_decoder::{Message, Wants};
use crate::{Error, Info, Json, Outcome};

/// A pure register decoder.
pub trait Decoder: Sized {
    /// Once per instance, before anything else: what to read at each poll. `config` passed the manifest's schema.
    ///
    /// # Errors
    /// [`Error::Config`] for what the schema cannot say.
    fn open(config: &Json<'_>) -> Result<(Self, Vec<Block>), Error>;

    /// The blocks in the order of the plan; none for an optional block that the device refused.
    ///
    /// # Errors
    /// [`Error::Protocol`] if nothing of it makes sense; single values that do not are unknown instead.
    fn decode(&mut self, blocks: &[Option<Vec<u16>>]) -> Result<Outcome, Error>;
}

/// A pure decoder of messages.
pub trait PayloadDecoder: Sized {
    /// Once per instance, before anything else: what to hear and to fetch. `config` passed the manifest's schema.
    ///
    /// # Errors
    /// [`Error::Config`] for what the schema cannot say.
    fn open(config: &Json<'_>) -> Result<(Self, Wants), Error>;

    /// One message; `None` if nothing in it is for this device.
    ///
    /// # Errors
    /// [`Error::Protocol`] for a message that should have been readable and is not.
    fn decode(&mut self, message: &Message) -> Result<Option<Outcome>, Error>;
}

/// What every driver has.
pub trait Device: Sized {
    /// Once per instance, before anything else. Opens the endpoints and asks the device who it is.
    ///
    /// # Errors
    /// [`Error::Config`] ends the attempts, everything else is tried again.
    fn open(config: &Json<'_>) -> Result<(Self, Info), Error>;

    /// Reads the device once.
    ///
    /// # Errors
    /// [`Error::Offline`] and [`Error::Protocol`] keep the driver; the host polls again later.
    fn poll(&mut self) -> Result<Outcome, Error>;

    /// Leaves the device in a safe state.
    fn close(&mut self) {}
}

/// A wallbox that can be told what to do. `Ok` means that the box accepted the message.
pub trait ChargeControl {
    /// Allows or forbids charging.
    ///
    /// # Errors
    /// As for [`Device::poll`].
    fn set_enabled(&mut self, enabled: bool) -> Result<(), Error>;

    /// Current per phase; never between 1 mA and the device's minimum.
    ///
    /// # Errors
    /// As for [`Device::poll`].
    fn set_current_limit(&mut self, milliamps: u32) -> Result<(), Error>;

    /// Tries to wake a sleeping vehicle up.
    ///
    /// # Errors
    /// [`Error::Unsupported`] unless the device can do it.
    fn wake_up(&mut self) -> Result<(), Error> {
        Err(Error::unsupported("this device cannot wake a vehicle up"))
    }
}

/// A wallbox that can switch between one and three phases.
pub trait PhaseControl {
    /// 1 or 3; charging has been paused before.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this box is not wired for it.
    fn set_phases(&mut self, phases: u8) -> Result<(), Error>;
}

/// A wallbox that falls back to a safe current when nobody talks to it.
pub trait Failsafe {
    /// The current to fall back to, and after how long.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this box has none.
    fn arm(&mut self, milliamps: u32, timeout_seconds: u32) -> Result<(), Error>;
}

/// A driver that subscribes to topics.
pub trait Push {
    /// A message on a subscribed topic; `None` if nothing in it is for this device.
    ///
    /// # Errors
    /// As for [`Device::poll`].
    fn on_message(&mut self, endpoint: &str, topic: &str, payload: &[u8]) -> Result<Option<Outcome>, Error>;
}

/// Memory that a newer version takes over.
pub trait Handover {
    /// What the next version should know.
    fn save(&mut self) -> Vec<u8>;

    /// After `open`. False: the snapshot is of no use.
    fn restore(&mut self, version: &str, snapshot: &[u8]) -> bool;
}

/// Sends the message of a panic to the host's log before the component traps; a trap alone says only "unreachable".
pub fn install_panic_hook() {
    use crate::log::{Level, log};
    std::panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string(), &[])));
}

/// Runs `call` on the open instance.
///
/// # Errors
/// What `call` says, or that the driver was not opened: the host never does that.
pub fn with<T, R>(cell: &RefCell<Option<T>>, call: impl FnOnce(&mut T) -> Result<R, Error>) -> Result<R, Error> {
    match cell.try_borrow_mut().as_deref_mut() {
        Ok(Some(driver)) => call(driver),
        _ => Err(Error::Other("the driver was called before open".into())),
    }
}

/// Opens a new instance and keeps it.
///
/// # Errors
/// What `open` says, or that `config` is no JSON.
#[doc(hidden)]
pub fn open<T, R>(
    cell: &RefCell<Option<T>>,
    config: &str,
    open: impl FnOnce(&Json<'_>) -> Result<(T, R), Error>,
) -> Result<R, Error> {
    let config = Json::parse(config).map_err(|error| Error::Config(format!("the configuration is {error}")))?;
    let (driver, answer) = open(&config)?;
    cell.replace(Some(driver));
    Ok(answer)
}

/// Makes a component of a type: `export!(MyBox: Device, ChargeControl, Handover);` exports the interfaces whose traits are
/// named, and no other. Once per plugin, at the top level of its crate.
#[macro_export]
macro_rules! export {
    ($driver:ident: $($interface:ident),+ $(,)?) => {
        // The traits are checked on every target; the exports exist in a component only.
        const _: () = {
            fn has<T: $($crate::$interface +)+>() {}
            let _ = has::<$driver>;
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::core::cell::RefCell<Option<$driver>> = const { ::core::cell::RefCell::new(None) };
            }
            struct Exports;
            $($crate::__export_interface!($interface, $driver, Exports, INSTANCE);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_interface {
    (Decoder, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::decoder::exports::ladekern::device::decoder::Guest for $exports {
            fn open(config: String) -> Result<Vec<$crate::decoder::Block>, $crate::Error> {
                $instance.with(|cell| $crate::__open(cell, &config, <$driver as $crate::Decoder>::open))
            }
            fn decode(blocks: Vec<Option<Vec<u16>>>) -> Result<$crate::Outcome, $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::Decoder::decode(d, &blocks)))
            }
        }
        $crate::bindings::decoder::__export_decoder!($exports with_types_in $crate::bindings::decoder);
    };
    (PayloadDecoder, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::payload_decoder::exports::ladekern::device::payload_decoder::Guest for $exports {
            fn open(config: String) -> Result<$crate::payload::Wants, $crate::Error> {
                $instance.with(|cell| $crate::__open(cell, &config, <$driver as $crate::PayloadDecoder>::open))
            }
            fn decode(message: $crate::payload::Message) -> Result<Option<$crate::Outcome>, $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::PayloadDecoder::decode(d, &message)))
            }
        }
        $crate::bindings::payload_decoder::__export_payload_decoder!($exports with_types_in $crate::bindings::payload_decoder);
    };
    (Device, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::device::exports::ladekern::device::device::Guest for $exports {
            fn open(config: String) -> Result<$crate::Info, $crate::Error> {
                $crate::install_panic_hook();
                $instance.with(|cell| $crate::__open(cell, &config, <$driver as $crate::Device>::open))
            }
            fn poll() -> Result<$crate::Outcome, $crate::Error> {
                $instance.with(|cell| $crate::with(cell, $crate::Device::poll))
            }
            fn close() {
                let _ = $instance.with(|cell| $crate::with(cell, |d: &mut $driver| Ok($crate::Device::close(d))));
            }
        }
        $crate::bindings::device::__export_device!($exports with_types_in $crate::bindings::device);
    };
    (ChargeControl, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::charge_control::exports::ladekern::device::charge_control::Guest for $exports {
            fn set_enabled(enabled: bool) -> Result<(), $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::ChargeControl::set_enabled(d, enabled)))
            }
            fn set_current_limit(milliamps: u32) -> Result<(), $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::ChargeControl::set_current_limit(d, milliamps)))
            }
            fn wake_up() -> Result<(), $crate::Error> {
                $instance.with(|cell| $crate::with(cell, $crate::ChargeControl::wake_up))
            }
        }
        $crate::bindings::charge_control::__export_charge_control!($exports with_types_in $crate::bindings::charge_control);
    };
    (PhaseControl, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::phase_control::exports::ladekern::device::phase_control::Guest for $exports {
            fn set_phases(phases: u8) -> Result<(), $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::PhaseControl::set_phases(d, phases)))
            }
        }
        $crate::bindings::phase_control::__export_phase_control!($exports with_types_in $crate::bindings::phase_control);
    };
    (Failsafe, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::failsafe::exports::ladekern::device::failsafe::Guest for $exports {
            fn arm(milliamps: u32, timeout_seconds: u32) -> Result<(), $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::Failsafe::arm(d, milliamps, timeout_seconds)))
            }
        }
        $crate::bindings::failsafe::__export_failsafe!($exports with_types_in $crate::bindings::failsafe);
    };
    (Push, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::push::exports::ladekern::device::push::Guest for $exports {
            fn on_message(
                endpoint: String,
                topic: String,
                payload: Vec<u8>,
            ) -> Result<Option<$crate::Outcome>, $crate::Error> {
                $instance.with(|cell| $crate::with(cell, |d| $crate::Push::on_message(d, &endpoint, &topic, &payload)))
            }
        }
        $crate::bindings::push::__export_push!($exports with_types_in $crate::bindings::push);
    };
    (Handover, $driver:ident, $exports:ident, $instance:ident) => {
        impl $crate::bindings::handover::exports::ladekern::device::handover::Guest for $exports {
            fn save() -> Vec<u8> {
                $instance.with(|cell| $crate::with(cell, |d| Ok($crate::Handover::save(d)))).unwrap_or_default()
            }
            fn restore(version: String, snapshot: Vec<u8>) -> bool {
                $instance
                    .with(|cell| $crate::with(cell, |d| Ok($crate::Handover::restore(d, &version, &snapshot))))
                    .unwrap_or_default()
            }
        }
        $crate::bindings::handover::__export_handover!($exports with_types_in $crate::bindings::handover);
    };
    ($other:ident, $driver:ident, $exports:ident, $instance:ident) => {
        ::core::compile_error!(concat!(
            stringify!($other),
            " is no interface of ladekern:device; there are Decoder, PayloadDecoder, Device, ChargeControl, PhaseControl, ",
            "Failsafe, Push and Handover"
        ));
    };
}
