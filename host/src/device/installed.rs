//! Plugins of the registry as the device task sees them: one instance of the runtime behind [`Guest`], bound to the
//! wires of the host.

use std::sync::Arc;

use super::guest::{Artefact, Guest, Opened, Seat, StartError, Started, Step, Traits, Wired, WiredSlot};
use crate::capability::LogTap;
use crate::config::{DeviceConfig, EndpointConfig};
use crate::plugin::{self, Binding, Manifest, Plugin};
use crate::runtime::{CallError, DeviceContext, Instance};
use crate::site::{Clock, DeviceId, Outcome};
use crate::store::DriverState;
use crate::transport::{BoxFuture, Endpoint, Message, Transports};

/// Where endpoints come from.
pub trait Wires: Send + Sync {
    /// Binds one slot. Opens nothing yet; whoever names the same wire shares it.
    ///
    /// # Errors
    /// One sentence for an address that cannot work.
    fn endpoint(
        &self,
        device: &DeviceId,
        slot: &str,
        binding: &EndpointConfig,
        default_port: Option<u16>,
        default_unit: Option<u8>,
    ) -> Result<Endpoint, String>;
}

impl Wires for Transports {
    fn endpoint(
        &self,
        device: &DeviceId,
        slot: &str,
        binding: &EndpointConfig,
        default_port: Option<u16>,
        default_unit: Option<u8>,
    ) -> Result<Endpoint, String> {
        Transports::endpoint(self, device, slot, binding, default_port, default_unit).map_err(|error| error.to_string())
    }
}

/// What every instance gets from the host.
#[derive(Clone)]
pub struct Services {
    /// Where endpoints come from.
    pub wires: Arc<dyn Wires>,
    /// What drivers keep over restarts.
    pub state: DriverState,
    /// The host's clock.
    pub clock: Clock,
    /// Sees the guests' log lines.
    pub log_tap: Option<LogTap>,
}

/// A plugin of the registry, ready to be instantiated.
pub struct Installed {
    plugin: Arc<Plugin>,
    services: Services,
}

impl Installed {
    /// Puts `plugin` behind the trait of the device task.
    #[must_use]
    pub fn new(plugin: Arc<Plugin>, services: Services) -> Self {
        Self { plugin, services }
    }

    /// The slots of `binding`; what `present` already holds for the same binding is taken over.
    fn wire(&self, device: &DeviceId, binding: &Binding, present: &Wired) -> Result<Wired, StartError> {
        let slots = &self.plugin.manifest().slots;
        let mut wired = Wired::default();
        let mut problems = Vec::new();
        for (name, made_from) in &binding.endpoints {
            let kept = present.0.get(name).filter(|slot| slot.made_from == *made_from);
            let endpoint = match kept {
                Some(slot) => Ok(slot.endpoint.clone()),
                None => {
                    let slot = slots.get(name);
                    let (port, unit) =
                        (slot.and_then(|slot| slot.default_port), slot.and_then(|slot| slot.default_unit));
                    self.services.wires.endpoint(device, name, made_from, port, unit)
                }
            };
            match endpoint {
                Ok(endpoint) => {
                    wired.0.insert(name.clone(), WiredSlot { made_from: made_from.clone(), endpoint });
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(wired) } else { Err(StartError::Misconfigured(problems.join("; "))) }
    }
}

impl Artefact for Installed {
    fn id(&self) -> &str {
        self.plugin.id()
    }

    fn version(&self) -> &str {
        self.plugin.version()
    }

    fn fingerprint(&self) -> &str {
        self.plugin.fingerprint()
    }

    fn traits(&self) -> Traits {
        let exports = self.plugin.exports();
        let Manifest { min_poll, min_write_interval, .. } = self.plugin.manifest();
        Traits {
            charge_control: exports.charge_control,
            phase_control: exports.phase_control,
            failsafe: exports.failsafe,
            push: exports.push,
            handover: exports.handover,
            min_poll: min_poll.unwrap_or_default(),
            min_write_interval: min_write_interval.unwrap_or_default(),
            poll: None,
            described: false,
        }
    }

    fn start<'a>(&'a self, seat: Seat<'a>) -> BoxFuture<'a, Result<Started, StartError>> {
        Box::pin(async move {
            let binding = checked(&self.plugin, seat.device)?;
            let wired = self.wire(&seat.device.id, &binding, seat.wired)?;
            let http_body = binding.limits.http_body;
            let context = DeviceContext {
                device: seat.device.id.clone(),
                endpoints: wired.0.iter().map(|(name, slot)| (name.clone(), slot.endpoint.clone())).collect(),
                limits: binding.limits,
                inbox: seat.inbox,
                state: self.services.state.clone(),
                clock: self.services.clock,
                log_tap: self.services.log_tap.clone(),
                wasi: seat.device.wasi,
            };
            let instance = Instance::start(&self.plugin, context).await.map_err(|error| match error {
                CallError::Driver(error) => StartError::Misconfigured(error.to_string()),
                fault => StartError::Fault(fault),
            })?;
            let config = binding.config.to_string();
            Ok(Started { guest: Box::new(Running(instance)), wired, config, http_body })
        })
    }
}

fn checked(plugin: &Plugin, device: &DeviceConfig) -> Result<Binding, StartError> {
    plugin::check(plugin, device).map_err(|problems| {
        let sentences: Vec<String> = problems.iter().map(ToString::to_string).collect();
        StartError::Misconfigured(sentences.join("; "))
    })
}

struct Running(Instance);

impl Guest for Running {
    fn open<'a>(&'a mut self, config: &'a str) -> BoxFuture<'a, Result<Opened, CallError>> {
        Box::pin(async move {
            let exports = self.0.plugin().exports();
            if exports.decoder {
                self.0.decoder_open(config).await.map(Opened::Registers)
            } else if exports.payload_decoder {
                self.0.payload_open(config).await.map(Opened::Payload)
            } else {
                self.0.open(config).await.map(Opened::Driver)
            }
        })
    }

    fn poll(&mut self) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(self.0.poll())
    }

    fn decode_blocks(&mut self, blocks: Vec<Option<Vec<u16>>>) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(async move { self.0.decoder_decode(&blocks).await })
    }

    fn decode_message<'a>(&'a mut self, message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(self.0.payload_decode(&message.endpoint, &message.topic, &message.payload))
    }

    fn on_message<'a>(&'a mut self, message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        Box::pin(self.0.on_message(&message.endpoint, &message.topic, &message.payload))
    }

    fn step(&mut self, step: Step) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            match step {
                Step::SetEnabled(enabled) => self.0.set_enabled(enabled).await,
                Step::SetCurrentLimit(milliamps) => self.0.set_current_limit(milliamps).await,
                Step::SetPhases(phases) => self.0.set_phases(phases).await,
                Step::WakeUp => self.0.wake_up().await,
            }
        })
    }

    fn arm(&mut self, milliamps: u32, timeout_s: u32) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(self.0.arm(milliamps, timeout_s))
    }

    fn save(&mut self) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        Box::pin(self.0.save())
    }

    fn restore<'a>(&'a mut self, version: &'a str, snapshot: &'a [u8]) -> BoxFuture<'a, Result<bool, CallError>> {
        Box::pin(self.0.restore(version, snapshot))
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(self.0.close())
    }
}
