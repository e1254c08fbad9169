//! One running instance and how the host feeds it: a driver reads for itself, a register decoder gets the registers
//! it planned, a payload decoder gets messages and fetched bodies.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::guest::{Artefact, Guest, Opened, Seat, StartError, Step, Wired};
use crate::config::DeviceConfig;
use crate::runtime::{CallError, DriverError, Fetch, PlannedBlock, Subscription, Wants};
use crate::site::{Clock, Info, Moment, Outcome};
use crate::transport::{
    Block, Endpoint, Http, HttpMethod, HttpRequest, HttpResponse, Inbox, Message, ModbusError, MqttError, Overflow, Qos,
};

/// Messages that wait for a device at most; of one topic only the newest waits. More than a device has topics.
const INBOX: usize = 256;

/// Why an exchange with the device or its driver failed, by what the task does about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The device does not answer.
    #[error("{0}")]
    Offline(String),
    /// The device answered nonsense, or something the driver cannot use.
    #[error("{0}")]
    Protocol(String),
    /// Retrying cannot help.
    #[error("{0}")]
    Misconfigured(String),
    /// The instance is dead.
    #[error("{0}")]
    Fault(String),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        match error {
            CallError::Driver(DriverError::Offline(_)) => Failure::Offline(text),
            CallError::Driver(DriverError::Config(_)) => Failure::Misconfigured(text),
            CallError::Driver(_) => Failure::Protocol(text),
            _ => Failure::Fault(text),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Misconfigured(reason) => Failure::Misconfigured(reason),
            StartError::Fault(error) => Failure::Fault(error.to_string()),
        }
    }
}

/// What a poll brought. Several outcomes: one per fetched path.
#[derive(Debug, Default)]
pub struct Polled {
    /// What was decoded.
    pub outcomes: Vec<Outcome>,
    /// The first thing that failed.
    pub failure: Option<Failure>,
}

/// An opened instance.
pub struct Live {
    /// The plugin it was made of.
    pub artefact: Arc<dyn Artefact>,
    /// Its slots.
    pub wired: Wired,
    /// What its subscriptions deliver.
    pub inbox: Inbox,
    /// What the driver said about the device; empty for decoders.
    pub info: Info,
    guest: Box<dyn Guest>,
    feed: Feed,
    http_body: u64,
    clock: Clock,
}

enum Feed {
    Driver,
    Registers(Vec<PlannedBlock>),
    Payload(Wants),
}

impl Live {
    /// Builds an instance, opens it and subscribes what it wants.
    pub async fn start(
        artefact: &Arc<dyn Artefact>,
        device: &DeviceConfig,
        wired: &Wired,
        clock: Clock,
    ) -> Result<Live, Failure> {
        let inbox = Inbox::new(Overflow::NewestPerTopic, INBOX);
        let started = artefact.start(Seat { device, wired, inbox: inbox.clone() }).await?;
        let mut live = Live {
            artefact: Arc::clone(artefact),
            wired: started.wired,
            inbox,
            info: Info::default(),
            guest: started.guest,
            feed: Feed::Driver,
            http_body: started.http_body,
            clock,
        };
        match live.guest.open(&started.config).await? {
            Opened::Driver(info) => live.info = info,
            Opened::Registers(plan) => live.feed = Feed::Registers(plan),
            Opened::Payload(wants) => {
                subscribe(&wants, &live.wired, &live.inbox).await?;
                live.feed = Feed::Payload(wants);
            }
        }
        Ok(live)
    }

    /// Whether there is anything to poll: a decoder of subscribed messages alone waits for them.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        !matches!(&self.feed, Feed::Payload(wants) if wants.fetches.is_empty())
    }

    /// Whether the device's values age as those of a fed device (contract rule B12).
    #[must_use]
    pub fn is_fed(&self) -> bool {
        matches!(&self.feed, Feed::Payload(wants) if !wants.subscriptions.is_empty())
    }

    /// One poll.
    pub async fn poll(&mut self) -> Polled {
        match &self.feed {
            Feed::Driver => self.guest.poll().await.map_err(Failure::from).into(),
            Feed::Registers(plan) => match read_plan(plan, &self.wired).await {
                Ok(blocks) => self.guest.decode_blocks(blocks).await.map_err(Failure::from).into(),
                Err(failure) => Err(failure).into(),
            },
            Feed::Payload(_) => self.fetch_all().await,
        }
    }

    /// One message of the inbox. `None`: nothing in it for this device.
    pub async fn message(&mut self, message: &Message) -> Result<Option<Outcome>, Failure> {
        match self.feed {
            Feed::Payload(_) => Ok(self.guest.decode_message(message).await?),
            Feed::Driver if self.artefact.traits().push => Ok(self.guest.on_message(message).await?),
            Feed::Driver | Feed::Registers(_) => Ok(None),
        }
    }

    /// One call of a command.
    pub async fn step(&mut self, step: Step) -> Result<(), CallError> {
        self.guest.step(step).await
    }

    /// Arms the failsafe of the device.
    pub async fn arm(&mut self, milliamps: u32, timeout_s: u32) -> Result<(), Failure> {
        Ok(self.guest.arm(milliamps, timeout_s).await?)
    }

    /// What the instance wants its successor to know; `None` if it has nothing to say. An error of the save is no
    /// reason to stay with the old version, so it is only reported as a dead instance: `Err`.
    pub async fn save(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if !self.artefact.traits().handover {
            return Ok(None);
        }
        match self.guest.save().await.map_err(Failure::from) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(Failure::Fault(reason)) => Err(Failure::Fault(reason)),
            Err(_) => Ok(None),
        }
    }

    /// Hands over what another version saved. A driver that finds it useless starts fresh, which is no failure.
    pub async fn restore(&mut self, version: &str, snapshot: &[u8]) -> Result<(), Failure> {
        if self.artefact.traits().handover {
            let used = self.guest.restore(version, snapshot).await?;
            tracing::debug!(plugin = %self.artefact.label(), from = version, used, "snapshot handed over");
        }
        Ok(())
    }

    /// Puts the device into its safe state. Decoders cannot change a device.
    pub async fn close(&mut self) -> Result<(), Failure> {
        match self.feed {
            Feed::Driver => Ok(self.guest.close().await?),
            Feed::Registers(_) | Feed::Payload(_) => Ok(()),
        }
    }

    /// Fetches one path after the other: a small device serves one request at a time. What one path does not give
    /// is no reason to go without the others.
    async fn fetch_all(&mut self) -> Polled {
        let mut polled = Polled::default();
        let Feed::Payload(wants) = &self.feed else { return polled };
        for Fetch { endpoint: slot, path } in wants.fetches.clone() {
            let Some(wired) = self.wired.0.get(&slot) else { continue };
            let fetched = match &wired.endpoint {
                Endpoint::Http(http) => fetch(http.as_ref(), &slot, &path, self.http_body).await,
                other => Err(wrong_slot(&slot, other.kind(), "http")),
            };
            let decoded = match fetched {
                Ok(payload) => {
                    let at = self.clock.now();
                    let message = Message {
                        endpoint: slot.as_str().into(),
                        topic: path,
                        payload,
                        retained: false,
                        at,
                        reply_to: None,
                    };
                    self.message(&message).await
                }
                Err(failure) => Err(failure),
            };
            match decoded {
                Ok(outcome) => polled.outcomes.extend(outcome),
                Err(failure @ Failure::Fault(_)) => return Polled { failure: Some(failure), ..polled },
                Err(failure) => polled.failure = polled.failure.or(Some(failure)),
            }
        }
        polled
    }
}

impl From<Result<Outcome, Failure>> for Polled {
    fn from(result: Result<Outcome, Failure>) -> Self {
        match result {
            Ok(outcome) => Polled { outcomes: vec![outcome], failure: None },
            Err(failure) => Polled { outcomes: Vec::new(), failure: Some(failure) },
        }
    }
}

/// Age of a message's content: when it arrived, or unknown if the broker had stored it.
#[must_use]
pub fn measured_at(message: &Message) -> Moment {
    if message.retained { Moment(0) } else { message.at }
}

fn wrong_slot(slot: &str, is: &str, wanted: &str) -> Failure {
    Failure::Misconfigured(format!("endpoint \"{slot}\" is bound to {is}, the plugin wants {wanted}"))
}

async fn subscribe(wants: &Wants, wired: &Wired, inbox: &Inbox) -> Result<(), Failure> {
    for Subscription { endpoint: slot, filter } in &wants.subscriptions {
        let Some(endpoint) = wired.0.get(slot) else {
            // The user did not bind this slot; the contract says that its wants are left out.
            continue;
        };
        let Endpoint::Mqtt(mqtt) = &endpoint.endpoint else {
            return Err(wrong_slot(slot, endpoint.endpoint.kind(), "mqtt"));
        };
        mqtt.subscribe(filter.clone(), Qos::AtLeastOnce, inbox.clone()).await.map_err(|error| match error {
            MqttError::Unreachable(_) => Failure::Offline(format!("endpoint \"{slot}\": {error}")),
            MqttError::Denied(_) | MqttError::Limit(_) => {
                Failure::Misconfigured(format!("endpoint \"{slot}\", topic \"{filter}\": {error}"))
            }
        })?;
    }
    Ok(())
}

async fn fetch(http: &dyn Http, slot: &str, path: &str, max_body: u64) -> Result<Bytes, Failure> {
    use crate::transport::HttpError::{Denied, Limit, Protocol, Timeout, Tls, Unreachable};
    let request = HttpRequest { method: HttpMethod::Get, path: path.to_owned(), headers: Vec::new(), body: Vec::new() };
    let HttpResponse { status, body, .. } = http.send(request, max_body).await.map_err(|error| {
        let text = format!("GET {path} on endpoint \"{slot}\": {error}");
        match error {
            Timeout | Unreachable(_) => Failure::Offline(text),
            Protocol(_) | Tls(_) => Failure::Protocol(text),
            Limit(_) => Failure::Protocol(format!("{text} (limits.http_body)")),
            Denied(_) => Failure::Misconfigured(text),
        }
    })?;
    if (200..300).contains(&status) {
        Ok(body.into())
    } else {
        Err(Failure::Protocol(format!("GET {path} on endpoint \"{slot}\" answered with status {status}")))
    }
}

/// Reads the blocks of a plan, all of one slot in one go so that the bus can merge them.
async fn read_plan(plan: &[PlannedBlock], wired: &Wired) -> Result<Vec<Option<Vec<u16>>>, Failure> {
    let mut by_slot: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, planned) in plan.iter().enumerate() {
        by_slot.entry(&planned.endpoint).or_default().push(at);
    }
    let mut read: Vec<Option<Vec<u16>>> = vec![None; plan.len()];
    for (slot, positions) in by_slot {
        let modbus = match wired.0.get(slot).map(|wired| &wired.endpoint) {
            Some(Endpoint::Modbus(modbus)) => modbus,
            Some(other) => return Err(wrong_slot(slot, other.kind(), "modbus")),
            None => {
                return Err(Failure::Misconfigured(format!("endpoint \"{slot}\" of the plugin's plan is not bound")));
            }
        };
        let wanted: Vec<&PlannedBlock> = positions.iter().filter_map(|at| plan.get(*at)).collect();
        let answers = modbus.read_many(wanted.iter().map(|planned| planned.block).collect()).await;
        for ((at, planned), answer) in positions.iter().zip(wanted).zip(answers) {
            let values = match answer {
                Ok(values) => Some(values),
                Err(ModbusError::Exception(_)) if planned.optional => None,
                Err(error) => return Err(unread(planned, &error)),
            };
            if let Some(place) = read.get_mut(*at) {
                *place = values;
            }
        }
    }
    Ok(read)
}

fn unread(planned: &PlannedBlock, error: &ModbusError) -> Failure {
    let PlannedBlock { endpoint, block: Block { table, address, count }, .. } = planned;
    let table = format!("{table:?}").to_lowercase();
    let text = format!("reading {count} {table} from {address} on endpoint \"{endpoint}\": {error}");
    match error {
        ModbusError::Timeout | ModbusError::Unreachable(_) => Failure::Offline(text),
        ModbusError::Exception(_) | ModbusError::Protocol(_) => Failure::Protocol(text),
        ModbusError::Denied(_) | ModbusError::Limit(_) => Failure::Misconfigured(text),
    }
}
