//! A device read once through a definition, by the code that reads it in the daemon: what came over the wire beside
//! what was made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ladekern_definition::formula::{Formula, Object};
use ladekern_definition::registers::{decode, decode_text};
use ladekern_definition::{
    Address, Definition, Document, DocumentField, Method, ModbusField, Shape, Source, Target, Value, Variable,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::DefinitionFile;
use super::device::{Described, Parts};
use super::tap::{Heard, Tap};
use crate::config::{Config, DeviceConfig};
use crate::device::guest::{Artefact, Wired};
use crate::device::live::Live;
use crate::formulas::{self, World};
use crate::site::{Board, Clock, Outcome, Quantity, Values, quantities};
use crate::transport::{BrokerState, HttpMethod, Transports};

/// What a trial showed.
#[derive(Debug)]
pub struct Trial {
    /// The variables in the order of the definition, its inputs, and what is derived of them.
    pub rows: Vec<Row>,
    /// Why the device as a whole could not be read.
    pub failure: Option<String>,
}

/// One variable or input.
#[derive(Debug)]
pub struct Row {
    /// As in the file; `inputs[0] (input1…input4)`.
    pub name: String,
    /// What came over the wire: registers in hex, or the part of the document as it is written there.
    pub raw: Option<String>,
    /// What was made of it.
    pub value: Option<Value>,
    /// Where it goes; its unit is the value's.
    pub quantity: Option<Quantity>,
    /// The definition does not give it; what it was computed from.
    pub derived: Option<&'static str>,
    /// Why there is no value.
    pub problem: Option<String>,
}

impl Trial {
    /// Whether anything came over the wire that could be used.
    #[must_use]
    pub fn has_read(&self) -> bool {
        self.rows.iter().any(|row| row.raw.is_some() && row.value.is_some())
    }
}

/// Reads the device of `config` once; over MQTT listens until each topic has brought a message, but not longer than
/// `listen`.
pub async fn run(
    file: Arc<DefinitionFile>,
    config: Config,
    device: &DeviceConfig,
    transports: &Transports,
    clock: Clock,
    listen: Duration,
) -> Trial {
    let tap = Tap::new(Arc::new(transports.clone()));
    let world = World::new(Board::default(), watch::channel(Arc::new(config)).1, clock);
    let described = Described::new(Arc::clone(&file), Parts { wires: Arc::new(tap.clone()), clock, world });
    let artefact: Arc<dyn Artefact> = Arc::new(described);
    let (mut values, mut messages) = (Values::default(), BTreeMap::new());
    let failure = match Live::start(&artefact, device, &Wired::default(), clock).await {
        Err(failed) => Some(failed.to_string()),
        Ok(mut live) if live.is_polled() => {
            let polled = live.poll().await;
            polled.outcomes.into_iter().for_each(|outcome| values.merge(outcome, clock.now()));
            polled.failure.map(|failed| failed.to_string())
        }
        Ok(mut live) => {
            let take = |outcome| values.merge(outcome, clock.now());
            messages = hear(&mut live, topics(&file.definition), Instant::now() + listen, take).await;
            let brokers = transports.brokers();
            brokers.iter().find(|_| messages.is_empty()).and_then(|broker| match &broker.state {
                BrokerState::Down(reason) => Some(reason.clone()),
                BrokerState::Connecting => Some(format!("{}: no connection in time", broker.url)),
                BrokerState::Connected { .. } => None,
            })
        }
    };
    let said = Said { definition: &file.definition, heard: &tap.heard(), messages, listen, values, device };
    Trial { rows: said.rows(), failure }
}

/// The last message of each topic.
async fn hear(
    live: &mut Live,
    mut wanted: BTreeSet<String>,
    until: Instant,
    mut take: impl FnMut(Outcome),
) -> BTreeMap<String, Bytes> {
    let mut messages = BTreeMap::new();
    let inbox = live.inbox.clone();
    while !wanted.is_empty() {
        let Ok(message) = tokio::time::timeout_at(until, inbox.recv()).await else { break };
        // What is wrong with a part is found out below, for each by itself.
        if let Ok(Some(outcome)) = live.message(&message).await {
            take(outcome);
        }
        wanted.remove(&message.topic);
        messages.insert(message.topic, message.payload);
    }
    messages
}

fn topics(definition: &Definition) -> BTreeSet<String> {
    let variables = definition.variables.iter().map(|variable| &variable.source);
    let sources = variables.chain(definition.inputs.iter().map(|input| &input.source));
    let topic = |source: &Source| match source {
        Source::Document(DocumentField { address: Address::Mqtt { topic }, .. }) => Some(topic.clone()),
        _ => None,
    };
    sources.filter_map(topic).collect()
}

/// What one source gave: as it came, and decoded or why not.
struct Read {
    raw: Option<String>,
    value: Result<Option<Value>, String>,
}

impl Read {
    fn failed(reason: String) -> Self {
        Self { raw: None, value: Err(reason) }
    }
}

struct Said<'a> {
    definition: &'a Definition,
    heard: &'a Heard,
    messages: BTreeMap<String, Bytes>,
    listen: Duration,
    values: Values,
    device: &'a DeviceConfig,
}

impl Said<'_> {
    fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.definition.variables.iter().map(|variable| self.variable(variable)).collect();
        let mut first = 1;
        for (at, input) in self.definition.inputs.iter().enumerate() {
            let Read { raw, value } = self.read(&input.source, &Target::Quantity(quantities::INPUT));
            let bits = (first..first + u32::from(input.count)).map_while(|number| {
                let bit = self.values.get(&format!("{}{number}", quantities::INPUT))?;
                Some(if bit.value == 0.0 { "0" } else { "1" })
            });
            let bits: Vec<&str> = bits.collect();
            let value_shown = (!bits.is_empty()).then(|| Value::Text(bits.join(" ")));
            let problem = match value {
                Ok(Some(found)) if value_shown.is_none() => Some(not_bits(&found)),
                value => problem(value_shown.is_none(), value),
            };
            let last = first + u32::from(input.count) - 1;
            let names = if first == last { format!("input{first}") } else { format!("input{first}…input{last}") };
            rows.push(Row { value: value_shown, ..row(format!("inputs[{at}] ({names})"), raw, problem) });
            first = last + 1;
        }
        if self.values.get(quantities::POWER_TOTAL).is_none()
            && let Some(watts) = formulas::power_w(self.device, |name| Some(self.values.get(name)?.value))
        {
            let value = |name: &str| Some(self.values.get(name)?.value);
            let derived = match (formulas::power_of_phases(value), value(quantities::POWER_APPARENT)) {
                (Some(_), _) => "the powers of the phases",
                (None, Some(_)) => "the apparent power",
                (None, None) => "currents and voltages",
            };
            rows.push(Row {
                value: Some(Value::Number(watts)),
                quantity: Some(quantities::POWER_TOTAL.into()),
                derived: Some(derived),
                ..row("power_w".to_owned(), None, None)
            });
        }
        rows
    }

    fn variable(&self, variable: &Variable) -> Row {
        let Read { raw, value: read } = self.read(&variable.source, &variable.target);
        let quantity: Option<Quantity> = match &variable.target {
            Target::Identity(_) => None,
            Target::Quantity(name) => Some((*name).into()),
            Target::Manager(name) => Some(prefixed(quantities::MANAGER, name)),
            Target::User { name, .. } => Some(prefixed(quantities::VARIABLE, name)),
        };
        let value = match &quantity {
            // Who the device is comes as one text on the board; what is fixed needs no device.
            None => read.clone().ok().flatten(),
            Some(_) if matches!(variable.source, Source::Fixed(_)) => read.clone().ok().flatten(),
            Some(quantity) => {
                let number = self.values.get(quantity.as_str()).map(|measured| Value::Number(measured.value));
                number.or_else(|| Some(Value::Text(self.values.text(quantity.as_str())?.value.clone())))
            }
        };
        let problem = problem(value.is_none(), read);
        Row { value, quantity, ..row(variable.name.clone(), raw, problem) }
    }

    fn read(&self, source: &Source, target: &Target) -> Read {
        match source {
            Source::Fixed(text) => Read { raw: None, value: Ok(Some(Value::Text(text.clone()))) },
            Source::Expr(formula) => Read::failed(self.lacks(formula)),
            Source::Modbus(field) => self.registers(field, matches!(target, Target::Identity(_))),
            Source::Document(field) => match self.payload(&field.address) {
                Ok(payload) => self.part(field, payload),
                Err(reason) => Read::failed(reason),
            },
        }
    }

    /// Why a formula has no value.
    fn lacks(&self, formula: &Formula) -> String {
        let own = |member: &str| {
            let variables = self.definition.variables.iter();
            let mut named =
                variables.filter(|variable| variable.name.trim_start_matches('*').eq_ignore_ascii_case(member));
            named.next().and_then(|variable| self.variable(variable).value)
        };
        let mut lacking: Vec<String> = Vec::new();
        for name in formula.names() {
            match name.object {
                Object::Own if own(&name.member).is_some() || self.is_input(&name.member) => {}
                Object::Own | Object::Date => lacking.push(format!("{name} has no value")),
                _ => lacking.push(format!("{name} is not read here, only this device is")),
            }
        }
        if lacking.is_empty() {
            "the formula has no value, as a division by zero has none".into()
        } else {
            lacking.join("; ")
        }
    }

    fn is_input(&self, member: &str) -> bool {
        let number = member.strip_prefix("input");
        number.is_some_and(|number| self.values.get(&format!("{}{number}", quantities::INPUT)).is_some())
    }

    /// Of several answers the last one counts: what was refused together is asked for alone.
    fn registers(&self, field: &ModbusField, text: bool) -> Read {
        let end = |address: u16, count: u16| u32::from(address) + u32::from(count);
        let covers = |at: u16, count: u16| at <= field.address && end(field.address, field.count) <= end(at, count);
        let answer = self.heard.blocks.iter().rev().find(|(block, _)| covers(block.address, block.count));
        let words = match answer {
            None => return Read::failed("was not asked for any more".into()),
            Some((_, Err(error))) => return Read::failed(error.to_string()),
            Some((block, Ok(words))) => {
                let from = usize::from(field.address - block.address);
                words.get(from..from + usize::from(field.count)).unwrap_or_default()
            }
        };
        let value = match text {
            true => decode_text(field, words, self.definition.into()).map(|text| text.map(Value::Text)),
            false => decode(field, words, self.definition.into()),
        };
        let hex: Vec<String> = words.iter().map(|word| format!("{word:04x}")).collect();
        Read { raw: Some(hex.join(" ")), value: value.map_err(|error| error.to_string()) }
    }

    fn payload(&self, address: &Address) -> Result<&[u8], String> {
        match address {
            Address::Mqtt { topic } => match self.messages.get(topic) {
                Some(payload) => Ok(payload),
                None => Err(format!("no message on the topic {topic} within {} s", self.listen.as_secs())),
            },
            Address::Http { method, path } => {
                let method = match method {
                    Method::Get => HttpMethod::Get,
                    Method::Post => HttpMethod::Post,
                    Method::Put => HttpMethod::Put,
                };
                let mut pages = self.heard.pages.iter().rev();
                match pages.find(|(by, page, _)| (by, page) == (&method, path)) {
                    None => Err("was not asked for any more".into()),
                    Some((.., Err(error))) => Err(error.to_string()),
                    Some((.., Ok(answer))) if (200..300).contains(&answer.status) => Ok(&answer.body),
                    Some((.., Ok(answer))) => Err(format!("{path} answered with status {}", answer.status)),
                }
            }
        }
    }

    fn part(&self, field: &DocumentField, payload: &[u8]) -> Read {
        let one = |field: &DocumentField, reserved: &[f64], unavailable: &[f64]| {
            let parts = Document::new(&[field], reserved).unavailable(unavailable).read(payload);
            let part = parts.map_err(|error| error.to_string())?.pop();
            part.map(|part| part.map_err(|error| error.to_string())).unwrap_or_else(|| Err("is not there".into()))
        };
        let plain = DocumentField { shape: Shape::Text, ..field.clone() };
        let raw = match one(&plain, &[], &[]) {
            Ok(Value::Text(text)) => Some(text),
            _ => None,
        };
        let Definition { reserved, unavailable, .. } = self.definition;
        Read { raw, value: one(field, reserved, unavailable).map(Some) }
    }
}

fn row(name: String, raw: Option<String>, problem: Option<String>) -> Row {
    Row { name, raw, value: None, quantity: None, derived: None, problem }
}

fn not_bits(found: &Value) -> String {
    match found {
        Value::Number(number) => format!("expected a whole number of bits, found {number}"),
        Value::Text(text) => format!("expected a whole number of bits, found \"{text}\""),
    }
}

/// Why there is no value.
fn problem(missing: bool, read: Result<Option<Value>, String>) -> Option<String> {
    match read {
        _ if !missing => None,
        Err(reason) => Some(reason),
        Ok(None) => Some("the device says that it has no value".into()),
        Ok(Some(_)) => Some("the device could not be read as a whole".into()),
    }
}

fn prefixed(prefix: &str, name: &str) -> Quantity {
    format!("{prefix}{}", name.to_lowercase()).as_str().into()
}
