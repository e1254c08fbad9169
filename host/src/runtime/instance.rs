//! One live driver: a store, its functions, and the only call site of guest code in the host.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{Store, UpdateDeadline};

use super::bindings::exports::ladekern::device::payload_decoder;
use super::bindings::ladekern::device::types;
use super::convert::{self, PlannedBlock, Wants};
use super::error::{CallError, DriverError, classify};
use super::limits::ALL_HANDLES;
use super::linked::{Export, Functions};
use super::{DeviceContext, Guest};
use crate::plugin::Plugin;
use crate::site::{Info, Outcome};

/// What the host did for one instance, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls begun.
    pub calls: u64,
    /// Time spent computing in guest and glue; waiting is not in it.
    pub cpu: Duration,
    /// The most bytes of memory the guest ever had.
    pub memory_peak: u64,
    /// Log lines that came too fast.
    pub log_dropped: u64,
}

/// One instance of a plugin, serving one device. Not shared: calls come one after the other.
pub struct Instance {
    plugin: Arc<Plugin>,
    /// Taken out while a call runs and put back when it ended well. So whatever happens otherwise, a dropped future
    /// included, leaves nothing behind that could be entered again.
    live: Option<Box<Live>>,
    usage: Usage,
    timeouts: Timeouts,
}

#[derive(Clone, Copy)]
struct Timeouts {
    call: Duration,
    open: Duration,
    close: Duration,
}

struct Live {
    store: Store<Guest>,
    functions: Functions,
}

/// What a guest function answers: a trap, its own error, or a value.
type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

impl Instance {
    /// Makes a store on the device's endpoints and instantiates the plugin in it. No function of the driver has run
    /// yet, but a language runtime may have started.
    ///
    /// # Errors
    /// The component needs WASI and the binding does not give it ([`DriverError::Config`]), or it broke a limit or
    /// trapped while it started.
    pub async fn start(plugin: &Arc<Plugin>, context: DeviceContext) -> Result<Self, CallError> {
        if plugin.needs_wasi() && !context.wasi {
            return Err(DriverError::Config(plugin.wasi_refusal()).into());
        }
        let limits = context.limits.clone();
        let timeouts = Timeouts { call: limits.call_timeout, open: limits.open_timeout, close: limits.close_timeout };
        let linked = plugin.linked();
        let mut store = Store::new(linked.pre().engine(), Guest::new(plugin.id().into(), context));
        store.limiter(|guest| &mut guest.accountant);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store.set_max_component_handles(ALL_HANDLES);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().tick()?;
            // The plain yield would be run next by tokio's LIFO slot and starve the I/O driver.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        let mut instance = Self { plugin: plugin.clone(), live: None, usage: Usage::default(), timeouts };
        let mut live = Box::new(Live { store, functions: Functions::default() });
        let started = instance
            .run("start", timeouts.open, &mut live, async |live| {
                let created = linked.pre().instantiate_async(&mut live.store).await?;
                live.functions = linked.functions(&mut live.store, &created)?;
                Ok(Ok(()))
            })
            .await;
        started?;
        instance.live = Some(live);
        Ok(instance)
    }

    /// Whether further calls are possible.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The plugin it was made from.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// What it has used so far; stays readable after its end.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    // === device ===

    /// Once per instance, before any other call. `config` is JSON that passed the manifest's schema.
    ///
    /// # Errors
    /// See [`CallError`]; so for all calls below.
    pub async fn open(&mut self, config: &str) -> Result<Info, CallError> {
        self.require(Export::Device)?;
        let timeout = self.timeouts.open;
        self.call("open", timeout, async |live| {
            let (device, store) = live.split(|f| &f.device)?;
            Ok(match device.call_open(store, config).await? {
                Ok(info) => Ok(convert::info(info)?),
                Err(error) => Err(error),
            })
        })
        .await
    }

    /// Asks for the present readings.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn poll(&mut self) -> Result<Outcome, CallError> {
        self.require(Export::Device)?;
        let timeout = self.timeouts.call;
        self.call("poll", timeout, async |live| {
            let (device, store) = live.split(|f| &f.device)?;
            outcome(device.call_poll(store).await?)
        })
        .await
    }

    /// Lets the driver put the device into a safe state, and ends the instance.
    ///
    /// # Errors
    /// See [`CallError`]; the instance has ended all the same.
    pub async fn close(&mut self) -> Result<(), CallError> {
        self.require(Export::Device)?;
        let timeout = self.timeouts.close;
        let closed = self
            .call("close", timeout, async |live| {
                let (device, store) = live.split(|f| &f.device)?;
                device.call_close(store).await.map(Ok)
            })
            .await;
        self.live = None;
        closed
    }

    // === charge-control, phase-control, failsafe ===

    /// Allows or forbids charging.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn set_enabled(&mut self, enabled: bool) -> Result<(), CallError> {
        self.require(Export::ChargeControl)?;
        let timeout = self.timeouts.call;
        self.call("set-enabled", timeout, async |live| {
            let (control, store) = live.split(|f| &f.charge_control)?;
            control.call_set_enabled(store, enabled).await
        })
        .await
    }

    /// Current per phase in mA.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn set_current_limit(&mut self, milliamps: u32) -> Result<(), CallError> {
        self.require(Export::ChargeControl)?;
        let timeout = self.timeouts.call;
        self.call("set-current-limit", timeout, async |live| {
            let (control, store) = live.split(|f| &f.charge_control)?;
            control.call_set_current_limit(store, milliamps).await
        })
        .await
    }

    /// Tries to wake a sleeping vehicle up.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn wake_up(&mut self) -> Result<(), CallError> {
        self.require(Export::ChargeControl)?;
        let timeout = self.timeouts.call;
        self.call("wake-up", timeout, async |live| {
            let (control, store) = live.split(|f| &f.charge_control)?;
            control.call_wake_up(store).await
        })
        .await
    }

    /// 1 or 3 phases; charging is paused.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn set_phases(&mut self, phases: u8) -> Result<(), CallError> {
        self.require(Export::PhaseControl)?;
        let timeout = self.timeouts.call;
        self.call("set-phases", timeout, async |live| {
            let (control, store) = live.split(|f| &f.phase_control)?;
            control.call_set_phases(store, phases).await
        })
        .await
    }

    /// Arms the current in mA the device falls back to when nobody talks to it for `timeout_seconds`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn arm(&mut self, milliamps: u32, timeout_seconds: u32) -> Result<(), CallError> {
        self.require(Export::Failsafe)?;
        let timeout = self.timeouts.call;
        self.call("arm", timeout, async |live| {
            let (failsafe, store) = live.split(|f| &f.failsafe)?;
            failsafe.call_arm(store, milliamps, timeout_seconds).await
        })
        .await
    }

    // === push, handover ===

    /// A message on a topic the driver subscribed to. `None`: nothing in it for this device.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn on_message(
        &mut self,
        endpoint: &str,
        topic: &str,
        payload: &[u8],
    ) -> Result<Option<Outcome>, CallError> {
        self.require(Export::Push)?;
        let timeout = self.timeouts.call;
        self.call("on-message", timeout, async |live| {
            let (push, store) = live.split(|f| &f.push)?;
            optional_outcome(push.call_on_message(store, endpoint, topic, payload).await?)
        })
        .await
    }

    /// What a newer version of the driver should take over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn save(&mut self) -> Result<Vec<u8>, CallError> {
        self.require(Export::Handover)?;
        let timeout = self.timeouts.call;
        self.call("save", timeout, async |live| {
            let (handover, store) = live.split(|f| &f.handover)?;
            handover.call_save(store).await.map(Ok)
        })
        .await
    }

    /// Takes over what `version` of the driver saved. False: of no use, started fresh.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn restore(&mut self, version: &str, snapshot: &[u8]) -> Result<bool, CallError> {
        self.require(Export::Handover)?;
        let timeout = self.timeouts.call;
        self.call("restore", timeout, async |live| {
            let (handover, store) = live.split(|f| &f.handover)?;
            handover.call_restore(store, version, snapshot).await.map(Ok)
        })
        .await
    }

    // === decoders ===

    /// Once per instance of a register decoder: what to read at each poll.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn decoder_open(&mut self, config: &str) -> Result<Vec<PlannedBlock>, CallError> {
        self.require(Export::Decoder)?;
        let timeout = self.timeouts.open;
        self.call("open", timeout, async |live| {
            let (decoder, store) = live.split(|f| &f.decoder)?;
            Ok(match decoder.call_open(store, config).await? {
                Ok(plan) => Ok(convert::plan(plan)?),
                Err(error) => Err(error),
            })
        })
        .await
    }

    /// Decodes what came back, same order and length as the plan; `None` is an optional block that was refused.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn decoder_decode(&mut self, blocks: &[Option<Vec<u16>>]) -> Result<Outcome, CallError> {
        self.require(Export::Decoder)?;
        let timeout = self.timeouts.call;
        self.call("decode", timeout, async |live| {
            let (decoder, store) = live.split(|f| &f.decoder)?;
            outcome(decoder.call_decode(store, blocks).await?)
        })
        .await
    }

    /// Once per instance of a payload decoder: what to subscribe to and to fetch.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn payload_open(&mut self, config: &str) -> Result<Wants, CallError> {
        self.require(Export::PayloadDecoder)?;
        let timeout = self.timeouts.open;
        self.call("open", timeout, async |live| {
            let (decoder, store) = live.split(|f| &f.payload_decoder)?;
            Ok(match decoder.call_open(store, config).await? {
                Ok(wants) => Ok(convert::wants(wants)?),
                Err(error) => Err(error),
            })
        })
        .await
    }

    /// Decodes one message; `source` is the topic relative to the bound prefix, or the path that was fetched. Bytes
    /// that are UTF-8 reach the guest as text. `None`: nothing in it for this device.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn payload_decode(
        &mut self,
        endpoint: &str,
        source: &str,
        payload: &[u8],
    ) -> Result<Option<Outcome>, CallError> {
        self.require(Export::PayloadDecoder)?;
        let payload = match std::str::from_utf8(payload) {
            Ok(text) => payload_decoder::Payload::Text(text.to_owned()),
            Err(_) => payload_decoder::Payload::Binary(payload.to_owned()),
        };
        let message = payload_decoder::Message { endpoint: endpoint.to_owned(), source: source.to_owned(), payload };
        let timeout = self.timeouts.call;
        self.call("decode", timeout, async |live| {
            let (decoder, store) = live.split(|f| &f.payload_decoder)?;
            optional_outcome(decoder.call_decode(store, &message).await?)
        })
        .await
    }

    // === the one call site ===

    fn require(&self, export: Export) -> Result<(), CallError> {
        if self.plugin.exports().has(export) {
            return Ok(());
        }
        let reason = format!("driver {} does not export {}", self.plugin.id(), export.name());
        Err(DriverError::Unsupported(reason).into())
    }

    async fn call<T>(
        &mut self,
        name: &'static str,
        timeout: Duration,
        work: impl AsyncFnOnce(&mut Live) -> Answer<T>,
    ) -> Result<T, CallError> {
        let mut live = self.live.take().ok_or(CallError::NotRunning)?;
        let result = self.run(name, timeout, &mut live, work).await;
        if matches!(result, Ok(_) | Err(CallError::Driver(_))) {
            self.live = Some(live);
        }
        result
    }

    /// Runs guest code under all limits. The only place that does.
    async fn run<T>(
        &mut self,
        name: &'static str,
        after: Duration,
        live: &mut Live,
        work: impl AsyncFnOnce(&mut Live) -> Answer<T>,
    ) -> Result<T, CallError> {
        self.usage.calls += 1;
        live.store.data_mut().begin();
        // The callback alone does not arm the first deadline.
        live.store.set_epoch_deadline(1);
        let answer = {
            let mut work = pin!(work(live));
            let cpu = &mut self.usage.cpu;
            // Time between two polls is waiting; time inside one is the guest's and ours.
            let metered = std::future::poll_fn(|context| {
                let start = Instant::now();
                let progress = work.as_mut().poll(context);
                *cpu += start.elapsed();
                progress
            });
            tokio::time::timeout(after, metered).await
        };
        let guest = live.store.data();
        guest.log.report_dropped(false);
        self.usage.memory_peak = guest.accountant.memory_peak();
        self.usage.log_dropped = guest.log.dropped();
        match answer {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(CallError::Driver(convert::error(error))),
            Ok(Err(trap)) => Err(classify(&trap, guest.log.last_error().as_deref())),
            Err(_elapsed) => Err(CallError::Timeout { call: name, after }),
        }
    }
}

impl Live {
    /// One interface and the store it is called on.
    fn split<I>(&mut self, pick: impl FnOnce(&Functions) -> &Option<I>) -> wasmtime::Result<(&I, &mut Store<Guest>)> {
        let interface = pick(&self.functions).as_ref();
        Ok((interface.ok_or_else(|| wasmtime::Error::msg("the interface is not exported"))?, &mut self.store))
    }
}

fn outcome(answer: Result<types::Outcome, types::Error>) -> Answer<Outcome> {
    Ok(match answer {
        Ok(raw) => Ok(convert::outcome(raw)?),
        Err(error) => Err(error),
    })
}

fn optional_outcome(answer: Result<Option<types::Outcome>, types::Error>) -> Answer<Option<Outcome>> {
    Ok(match answer {
        Ok(Some(raw)) => Ok(Some(convert::outcome(raw)?)),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Device tasks move between threads: every future of an instance has to.
    #[test]
    fn futures_of_calls_are_send() {
        fn send<T: Send>(_: &T) {}
        fn check(instance: &mut Instance, plugin: &Arc<Plugin>, context: DeviceContext) {
            send(instance);
            send(&Instance::start(plugin, context));
            send(&instance.open(""));
            send(&instance.poll());
            send(&instance.close());
            send(&instance.on_message("", "", b""));
            send(&instance.payload_decode("", "", b""));
            send(&instance.decoder_decode(&[]));
        }
        let _ = check;
    }
}
