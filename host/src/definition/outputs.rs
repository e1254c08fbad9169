//! What definitions write (`outputs` and `resets`, `cfos-interfaces.md` 2.4): at the end of each control cycle the
//! requests are made anew from the values of that moment, the variables of that cycle among them; those whose text has
//! changed are sent, and those that are to be repeated. Each device has a lane of its own, in which one request goes after
//! the other, so that a target that hangs delays nobody else. What fails is tried again in the next cycle, as it is then:
//! nothing is queued. The resets run when a device is disabled or removed and when the host stops.
//!
//! Whether a device answers is not asked: what depends on its values is not sent once they are too old.

mod failures;
mod lane;
mod send;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ladekern_definition::request::OutputTemplate;
use ladekern_definition::template::Own;
use ladekern_definition::{Output, OutputRequest};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

pub use self::failures::Failures;
use self::lane::{Lane, Wants};
use self::send::Sender;
use super::{DefinitionFile, binding};
use crate::config::{BrokerRef, Config, DeviceConfig, EndpointConfig, EndpointUrl, Parity};
use crate::formulas::{Look, World};
use crate::site::DeviceId;
use crate::transport::{BoxFuture, Transports};
use crate::variables::CycleEnd;

/// How long the resets of a device may take together.
const RESETS: Duration = Duration::from_secs(5);

/// This manager's own API.
pub trait Manager: Send + Sync {
    /// Runs a command, what stands behind `/cnf?`, with a body that may be empty. The error is one sentence.
    fn call<'a>(&'a self, query: &'a str, body: &'a str) -> BoxFuture<'a, Result<(), String>>;
}

/// The definition in force of a device type.
pub type Definitions = Arc<dyn Fn(&str) -> Option<Arc<DefinitionFile>> + Send + Sync>;

/// What outputs are made of, and where they go.
pub struct OutputParts {
    /// The values.
    pub world: World,
    /// The configuration in force: a device that goes is reset at once.
    pub config: watch::Receiver<Arc<Config>>,
    /// The definitions.
    pub definitions: Definitions,
    /// Wires to the devices and to others.
    pub transports: Transports,
    /// For requests to `localhost`.
    pub manager: Arc<dyn Manager>,
    /// Where failures are counted.
    pub failures: Failures,
}

/// The running outputs. Ends when dropped, then without resets.
#[derive(Debug)]
pub struct Outputs {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Outputs {
    /// Runs all resets and ends; takes at most some seconds.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the task has ended already.
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("the outputs broke down: {error}");
        }
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts on the present runtime. `cycles` changes at the end of each control cycle.
#[must_use]
pub fn spawn(parts: OutputParts, cycles: watch::Receiver<CycleEnd>) -> Outputs {
    let (stop, stopped) = oneshot::channel();
    let keeper = Keeper { parts, lanes: BTreeMap::new(), ending: BTreeMap::new() };
    Outputs { stop: Some(stop), task: tokio::spawn(keeper.run(cycles, stopped)) }
}

struct Keeper {
    parts: OutputParts,
    lanes: BTreeMap<DeviceId, Active>,
    /// Lanes that run their resets.
    ending: BTreeMap<DeviceId, JoinHandle<()>>,
}

/// A device with outputs.
struct Active {
    fingerprint: String,
    endpoint: EndpointConfig,
    address: String,
    unit: String,
    outputs: Vec<Entry>,
    resets: Vec<Entry>,
    wants: watch::Sender<Wants>,
    task: AbortOnDrop,
}

/// An output as it is written.
struct Entry {
    /// `None`: it cannot be one, which has been said.
    template: Option<OutputTemplate>,
    /// What its values made of it is no request, and that has been said; until they make one again.
    said: bool,
}

/// How a lane ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The device goes.
    Reset,
    /// Another lane follows for the same device.
    Replaced,
}

/// A lane that nobody holds any more sends nothing any more.
struct AbortOnDrop(Option<JoinHandle<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Keeper {
    async fn run(mut self, mut cycles: watch::Receiver<CycleEnd>, mut stopped: oneshot::Receiver<()>) {
        let (mut cycles_go_on, mut config_goes_on) = (true, true);
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => break,
                // A device that goes is reset at once. Everything else waits for the end of the cycle that the change
                // causes: until then the variables are those of the configuration before.
                changed = self.parts.config.changed(), if config_goes_on => {
                    config_goes_on = changed.is_ok();
                    self.cycle(false);
                }
                changed = cycles.changed(), if cycles_go_on => {
                    cycles_go_on = changed.is_ok();
                    self.cycle(cycles_go_on);
                }
            }
        }
        for (id, active) in std::mem::take(&mut self.lanes) {
            self.end(id, active, End::Reset);
        }
        for (_, task) in std::mem::take(&mut self.ending) {
            // A lane that broke down has nothing left to do; each bounds its own time.
            let _ = task.await;
        }
    }

    /// `over`: the cycle has ended, and what is to be sent is worked out.
    fn cycle(&mut self, over: bool) {
        self.ending.retain(|_, task| !task.is_finished());
        let look = self.parts.world.look();
        let config = Arc::clone(look.config());
        let mut wanted = BTreeSet::new();
        for device in config.devices.iter().filter(|device| device.enabled) {
            let Some(file) = (self.parts.definitions)(&device.device_type) else { continue };
            let definition = &file.definition;
            if definition.outputs.is_empty() && definition.resets.is_empty() {
                continue;
            }
            // What does not fit is told by the device itself.
            let Ok(endpoint) = binding(definition, device) else { continue };
            wanted.insert(device.id.clone());
            if !over {
                continue;
            }
            self.follow(device, endpoint, &file);
            if let Some(active) = self.lanes.get_mut(&device.id) {
                active.render(&device.id, &look);
            }
        }
        let gone: Vec<DeviceId> = self.lanes.keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        for id in gone {
            if let Some(active) = self.lanes.remove(&id) {
                self.end(id, active, End::Reset);
            }
        }
    }

    /// Makes sure that there is a lane for this device as it is now.
    fn follow(&mut self, device: &DeviceConfig, endpoint: &EndpointConfig, file: &DefinitionFile) {
        let id = &device.id;
        if let Some(present) = self.lanes.remove(id) {
            if present.endpoint != *endpoint {
                // The device at the other address is left alone from now on.
                self.end(id.clone(), present, End::Reset);
            } else if present.fingerprint == file.fingerprint {
                self.lanes.insert(id.clone(), present);
                return;
            } else {
                // It ends what it is sending, so that this cannot arrive behind what the new one sends.
                self.end(id.clone(), present, End::Replaced);
            }
        }
        let definition = &file.definition;
        let entries = |list: &str, outputs: &[Output]| {
            let parse = |(at, output): (usize, &Output)| {
                let template = OutputTemplate::parse(output, &definition.transport);
                let told = template.inspect_err(|error| {
                    let path = file.path.display();
                    tracing::error!(device = %id, "{path}: {list}[{at}].{}: {error}; it is not sent", error.key);
                });
                Entry { template: told.ok(), said: false }
            };
            outputs.iter().enumerate().map(parse).collect::<Vec<_>>()
        };
        let (outputs, resets) = (entries("outputs", &definition.outputs), entries("resets", &definition.resets));
        let (wants, receiver) = watch::channel(Wants::default());
        let sender = Sender {
            device: id.clone(),
            endpoint: endpoint.clone(),
            transports: self.parts.transports.clone(),
            manager: Arc::clone(&self.parts.manager),
        };
        let lane = Lane::new(sender, self.parts.failures.counter(id), outputs.len());
        let before = self.ending.remove(id);
        let active = Active {
            fingerprint: file.fingerprint.clone(),
            endpoint: endpoint.clone(),
            address: address(&endpoint.url),
            unit: device.unit().to_string(),
            outputs,
            resets,
            wants,
            task: AbortOnDrop(Some(tokio::spawn(lane.run(receiver, before)))),
        };
        self.lanes.insert(id.clone(), active);
    }

    /// Lets the lane run its resets, unless another one follows.
    fn end(&mut self, id: DeviceId, mut active: Active, how: End) {
        active.wants.send_modify(|wants| {
            wants.over = true;
            if how == End::Replaced {
                wants.resets.clear();
            }
        });
        if let Some(task) = active.task.0.take() {
            self.ending.insert(id, task);
        }
    }
}

impl Active {
    /// Tells the lane what is to be sent now.
    fn render(&mut self, id: &DeviceId, look: &Look) {
        let scope = look.scope(Some(id));
        let own = Own { address: &self.address, id: &self.unit };
        let render = |list: &str, at: usize, entry: &mut Entry| -> Option<OutputRequest> {
            match entry.template.as_ref()?.request(&scope, own) {
                Ok(request) => {
                    entry.said &= request.is_none();
                    request
                }
                Err(error) => {
                    if !std::mem::replace(&mut entry.said, true) {
                        tracing::warn!(device = %id, "{list}[{at}].{}: its values make no request: {error}", error.key);
                    }
                    None
                }
            }
        };
        let outputs = self.outputs.iter_mut().enumerate().map(|(at, entry)| render("outputs", at, entry)).collect();
        let resets: Vec<_> =
            self.resets.iter_mut().enumerate().map(|(at, entry)| render("resets", at, entry)).collect();
        self.wants.send_modify(|wants| {
            wants.outputs = outputs;
            // The values of a device that goes are gone before it is reset: the last complete request counts.
            wants.resets.resize(resets.len(), None);
            for (known, reset) in wants.resets.iter_mut().zip(resets) {
                if reset.is_some() {
                    *known = reset;
                }
            }
        });
    }
}

/// The device's address as templates show it, without scheme and credentials: `192.168.1.20:502`, `192.168.1.20/base`;
/// a Modbus RTU line as `modbus_set` reads it, `/dev/ttyUSB0,9600,8,n,1` or `rtutcp://192.168.1.20:8899`.
fn address(url: &EndpointUrl) -> String {
    let text = url.to_string();
    match url {
        EndpointUrl::ModbusRtu(line) => {
            let parity = match line.parity {
                Parity::None => 'n',
                Parity::Even => 'e',
                Parity::Odd => 'o',
            };
            format!("{},{},8,{parity},{}", line.path, line.baud, line.stop_bits)
        }
        EndpointUrl::Mqtt(BrokerRef::Url(broker)) => format!("{}:{}", broker.host, broker.port),
        EndpointUrl::Mqtt(_) => String::new(),
        // Without its scheme `modbus_set` would take it for Modbus TCP.
        EndpointUrl::ModbusRtuTcp { .. } => text,
        _ => text.split_once("://").map_or(text.as_str(), |(_, rest)| rest).trim_end_matches('/').to_owned(),
    }
}
