//! Decodes one recorded payload as the daemon would: the same instance, the same feeding, a recorded device in the
//! place of the wire. Behind `ladekern decode` and the tests of the plugins' fixtures.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ladekern_definition::{Definition, Kind, Transport};
use serde_json::{Map, Value};

use crate::config::{self, Config, DeviceConfig, EndpointConfig, EndpointUrl};
use crate::definition::{DefinitionFile, Described, Parts};
use crate::device::guest::{Artefact, Wired};
use crate::device::http_input;
use crate::device::installed::{Installed, Services, Wires};
use crate::device::live::{Failure, Live};
use crate::formulas::World;
use crate::plugin::{Plugin, SlotKind};
use crate::sample::{MqttMessage, Sample, SampleError, expected_keys};
use crate::site::{Clock, DeviceId, DeviceKind, Info, Outcome, Role, Values};
use crate::store::{DriverState, StoreError};
use crate::transport::{BoxFuture, Endpoint, Inbox, Message, Mqtt, MqttError, Qos, topic_matches};

/// What is to be decoded, and what the user's binding would say.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The text of the file, in one of the forms of [`Sample`].
    pub text: String,
    /// The request a plain JSON body answers, `GET /status`.
    pub request: Option<String>,
    /// The prefix of the MQTT slot; `None`: what all topics share.
    pub topic_prefix: Option<String>,
    /// The plugin's configuration.
    pub config: Map<String, Value>,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Every reading, text and the connector.
    pub values: Values,
    /// Who the device says it is.
    pub info: Info,
    /// Wallbox or meter.
    pub kind: DeviceKind,
}

/// Why nothing came out.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The file is no sample.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The sample is of a transport that this plugin does not use.
    #[error("{plugin} has no {wanted} endpoint; it has: {has}")]
    NoSlot {
        /// The plugin.
        plugin: String,
        /// What the sample needs.
        wanted: &'static str,
        /// Its slots.
        has: String,
    },
    /// The sample is of another transport than the definition.
    #[error("{dev_type} is read over {reads}, this payload is of {found}; write {{\"kind\": \"{kind}\", {more}}}")]
    OtherTransport {
        /// The definition's type.
        dev_type: String,
        /// Its transport.
        reads: &'static str,
        /// What the payload is of; plain JSON is an answer of HTTP.
        found: &'static str,
        /// How a payload of the right transport says what it is.
        kind: &'static str,
        /// What else stands in it.
        more: &'static str,
    },
    /// The plugin, its configuration or the device's answer was not as it should be. The words are those the daemon
    /// would show.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A built-in type could not read it.
    #[error("{0}")]
    BuiltIn(String),
    /// No memory for the driver's state.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Decoded {
    /// The values under the keys of the `.expected.json` files.
    #[must_use]
    pub fn keys(&self) -> Map<String, Value> {
        expected_keys(&self.values, &self.info, self.kind)
    }
}

/// Decodes with the built-in type `http-input`, as a meter or as a wallbox.
///
/// # Errors
/// [`DecodeError::BuiltIn`] with the place in the text.
pub fn with_http_input(recording: &Recording, kind: DeviceKind, clock: Clock) -> Result<Decoded, DecodeError> {
    let bodies: Vec<String> = match Sample::parse(&recording.text, None) {
        Ok(Sample::Mqtt(messages)) => messages.into_iter().map(|m| m.payload).collect(),
        Ok(Sample::Http(answers)) => answers.into_iter().map(|a| a.body).collect(),
        Ok(Sample::Modbus(_)) => return Err(DecodeError::BuiltIn("http-input reads JSON, not registers".into())),
        // The tolerant parser of http-input may still read it, and says better why not.
        Err(_) => vec![recording.text.clone()],
    };
    let mut decoded = Decoded { values: Values::default(), info: Info::default(), kind };
    for body in bodies {
        let fed = http_input::parse(kind, body.as_bytes()).map_err(|error| DecodeError::BuiltIn(error.to_string()))?;
        decoded.values.merge(fed.outcome, clock.now());
        decoded.info.model = fed.model.or(decoded.info.model);
    }
    Ok(decoded)
}

/// Decodes with a plugin: opens an instance, polls it once, hands it every recorded message.
///
/// # Errors
/// See [`DecodeError`].
pub async fn with_plugin(plugin: Arc<Plugin>, recording: &Recording, clock: Clock) -> Result<Decoded, DecodeError> {
    let sample = Sample::parse(&recording.text, recording.request.as_deref())?;
    let kind = if plugin.exports().charge_control { DeviceKind::Evse } else { DeviceKind::Meter };
    let device = binding(&plugin, &sample, recording, kind)?;
    let wires = Arc::new(SampleWires { sample, filters: Mutex::default() });
    let services =
        Services { wires: Arc::new(Arc::clone(&wires)), state: DriverState::in_memory()?, clock, log_tap: None };
    let artefact: Arc<dyn Artefact> = Arc::new(Installed::new(plugin, services));
    run(&artefact, &device, &wires, kind, clock).await
}

/// Decodes with a definition: reads what was recorded once, and every recorded message.
///
/// # Errors
/// See [`DecodeError`].
pub async fn with_definition(
    file: Arc<DefinitionFile>,
    recording: &Recording,
    clock: Clock,
) -> Result<Decoded, DecodeError> {
    let sample = Sample::parse(&recording.text, recording.request.as_deref())?;
    fits(&file.definition, &sample)?;
    let wires = Arc::new(SampleWires { sample, filters: Mutex::default() });
    let (dev_type, address) = (&file.definition.dev_type, wires.sample.address());
    let role = match file.definition.kind {
        Kind::Battery => Role::StorageHome,
        Kind::Inverter => Role::Generation,
        Kind::Meter | Kind::Other => Role::Display,
    };
    let config = format!("[[device]]\nid = \"M1\"\ntype = {dev_type:?}\naddress = \"{address}\"\n");
    let (config, mut device) = parsed(&config)?;
    device.role = role;
    if let (Sample::Mqtt(_), Some(endpoint)) = (&wires.sample, device.endpoints.values_mut().next()) {
        endpoint.topic_prefix = recording.topic_prefix.clone().unwrap_or_default();
    }
    let parts = Parts { wires: Arc::new(Arc::clone(&wires)), clock, world: World::alone(config, clock) };
    let artefact: Arc<dyn Artefact> = Arc::new(Described::new(file, parts));
    run(&artefact, &device, &wires, DeviceKind::Meter, clock).await
}

fn fits(definition: &Definition, sample: &Sample) -> Result<(), DecodeError> {
    let (reads, kind, more) = match (&definition.transport, sample) {
        (Transport::Modbus(_), Sample::Modbus(_))
        | (Transport::Http, Sample::Http(_))
        | (Transport::Mqtt, Sample::Mqtt(_)) => return Ok(()),
        (Transport::Modbus(_), _) => ("Modbus", "modbus", "\"blocks\": [{\"fc\": 3, \"start\": 0, \"hex\": \"…\"}]"),
        (Transport::Http, _) => ("HTTP", "http", "\"responses\": [{\"request\": \"GET /…\", \"body\": …}]"),
        (Transport::Mqtt, _) => ("MQTT", "mqtt", "\"messages\": [{\"topic\": \"…\", \"payload\": \"…\"}]"),
    };
    let found = match sample {
        Sample::Modbus(_) => "Modbus",
        Sample::Http(_) => "HTTP",
        Sample::Mqtt(_) => "MQTT",
    };
    Err(DecodeError::OtherTransport { dev_type: definition.dev_type.clone(), reads, found, kind, more })
}

/// Polls once, and hands over every recorded message.
async fn run(
    artefact: &Arc<dyn Artefact>,
    device: &DeviceConfig,
    wires: &SampleWires,
    kind: DeviceKind,
    clock: Clock,
) -> Result<Decoded, DecodeError> {
    let mut live = Live::start(artefact, device, &Wired::default(), clock).await?;
    let mut decoded = Decoded { values: Values::default(), info: live.info.clone(), kind };
    let mut take = |mut outcome: Outcome| {
        if let Some(info) = outcome.info.take() {
            decoded.info = info;
        }
        decoded.values.merge(outcome, clock.now());
    };
    if live.is_polled() {
        let polled = live.poll().await;
        // A sample holds what one device said; a part the driver cannot read is an error here, not a gap.
        if let Some(failure) = polled.failure {
            return Err(failure.into());
        }
        polled.outcomes.into_iter().for_each(&mut take);
    }
    if let Sample::Mqtt(messages) = &wires.sample {
        for message in messages.iter().filter_map(|message| wires.deliver(message, device, clock)) {
            if let Some(outcome) = live.message(&message).await? {
                take(outcome);
            }
        }
    }
    Ok(decoded)
}

/// A configuration and its one device.
fn parsed(text: &str) -> Result<(Config, DeviceConfig), Failure> {
    let parsed = config::parse("the recording", text, &[]).map_err(|e| Failure::Misconfigured(e.to_string()))?;
    let device = parsed.devices.first().cloned().ok_or_else(|| Failure::Misconfigured("no device".to_owned()))?;
    Ok((parsed, device))
}

/// The device a user would have written for this recording.
fn binding(
    plugin: &Plugin,
    sample: &Sample,
    recording: &Recording,
    kind: DeviceKind,
) -> Result<DeviceConfig, DecodeError> {
    let (wanted, url) = match sample {
        Sample::Http(_) => (SlotKind::Http, sample.address()),
        Sample::Modbus(_) => (SlotKind::Modbus, sample.address()),
        Sample::Mqtt(_) => (SlotKind::Mqtt, sample.address()),
    };
    let slots = &plugin.manifest().slots;
    let Some((slot, _)) = slots.iter().find(|(_, slot)| slot.kind == wanted) else {
        let has: Vec<String> = slots.iter().map(|(name, slot)| format!("{name} ({})", slot.kind)).collect();
        let wanted = match wanted {
            SlotKind::Http => "http",
            SlotKind::Modbus => "modbus",
            _ => "mqtt",
        };
        return Err(DecodeError::NoSlot { plugin: plugin.id().to_owned(), wanted, has: has.join(", ") });
    };
    let prefix = match sample {
        Sample::Mqtt(messages) => recording.topic_prefix.clone().unwrap_or_else(|| Sample::topic_prefix(messages)),
        _ => String::new(),
    };
    let id = if kind == DeviceKind::Evse { "E1" } else { "M1" };
    let prefix = if prefix.is_empty() { prefix } else { format!(", topic_prefix = {}", Value::String(prefix)) };
    let text = format!(
        "[[device]]\nid = \"{id}\"\ntype = \"{}\"\nendpoint.{slot} = {{ url = \"{url}\"{prefix} }}\n",
        plugin.id()
    );
    let (_, mut device) = parsed(&text)?;
    device.config = Value::Object(recording.config.clone());
    // Whoever decodes a file has no secrets to keep from it.
    device.wasi = plugin.needs_wasi();
    Ok(device)
}

/// The recording in the place of every wire.
struct SampleWires {
    sample: Sample,
    /// Slot and relative filter of each subscription.
    filters: Mutex<Vec<(String, String)>>,
}

impl SampleWires {
    /// The message as the plugin would get it, or nothing if it did not subscribe to it.
    fn deliver(&self, message: &MqttMessage, device: &DeviceConfig, clock: Clock) -> Option<Message> {
        let filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        filters.iter().find_map(|(slot, filter)| {
            let prefix = device.endpoints.get(slot).map_or("", |endpoint| endpoint.topic_prefix.as_str());
            let topic = match prefix {
                "" => message.topic.as_str(),
                prefix => message.topic.strip_prefix(prefix)?.strip_prefix('/')?,
            };
            topic_matches(filter, topic).then(|| Message {
                endpoint: slot.as_str().into(),
                topic: topic.to_owned(),
                payload: Bytes::from(message.payload.clone()),
                retained: false,
                at: clock.now(),
                reply_to: None,
            })
        })
    }
}

impl Wires for Arc<SampleWires> {
    fn endpoint(
        &self,
        _: &DeviceId,
        slot: &str,
        binding: &EndpointConfig,
        _: Option<u16>,
        _: Option<u8>,
    ) -> Result<Endpoint, String> {
        match (&binding.url, self.sample.endpoint()) {
            (EndpointUrl::Mqtt(_), _) => {
                Ok(Endpoint::Mqtt(Arc::new(SampleMqtt { wires: Arc::clone(self), slot: slot.to_owned() })))
            }
            (_, Some(endpoint)) => Ok(endpoint),
            (_, None) => Err(format!("nothing was recorded for endpoint \"{slot}\"")),
        }
    }
}

/// Remembers what was subscribed to; the messages are delivered by hand, in their order.
struct SampleMqtt {
    wires: Arc<SampleWires>,
    slot: String,
}

impl Mqtt for SampleMqtt {
    fn subscribe(&self, filter: String, _: Qos, _: Inbox) -> BoxFuture<'_, Result<(), MqttError>> {
        let mut filters = self.wires.filters.lock().unwrap_or_else(PoisonError::into_inner);
        filters.push((self.slot.clone(), filter));
        drop(filters);
        Box::pin(async { Ok(()) })
    }

    fn publish(&self, _: String, _: Bytes, _: Qos, _: bool) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async { Err(MqttError::Denied("a recorded payload can only be read".into())) })
    }
}
