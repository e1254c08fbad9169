//! Devices that are asked over Modbus (`rtype` 0): the registers that are due, in as few requests as the definition
//! allows. What a device refuses costs only itself.

use std::sync::Arc;
use std::time::Duration;

use ladekern_definition::registers::{ReadPlan, Span, Special, decode, decode_text};
use ladekern_definition::{Definition, Modbus as Reading, ModbusField, Source, Target, Transport, Value};

use super::readings::Readings;
use crate::config::{EndpointConfig, EndpointUrl, Timing};
use crate::device::guest::{Guest, Opened};
use crate::runtime::{CallError, DriverError};
use crate::site::{Clock, Moment, Outcome, quantities};
use crate::transport::{Block, BoxFuture, Modbus, ModbusError, Table};

/// Counters of energy are read this often while no power flows (`delay_accumulated`, "about every 3 s").
const ACCUMULATED: Duration = Duration::from_secs(3);
/// A poll that comes this much early counts all the same: polls do not come on the millisecond.
const EARLY: Duration = Duration::from_millis(250);
/// Registers that the device has refused are asked for again after this time: an inverter that sleeps has fewer.
const REFUSED: Duration = Duration::from_secs(60);
/// Failures that a sentence names at most.
const MOST_SAID: usize = 3;

/// The binding with the timing of the definition, as far as it concerns this wire: `rtu` where frames are those of a
/// serial line, `tcp` where there is a connection.
#[must_use]
pub fn timed(definition: &Definition, binding: &EndpointConfig) -> EndpointConfig {
    let connects = !matches!(binding.url, EndpointUrl::ModbusRtu(_) | EndpointUrl::Mqtt(_));
    let mut timing = Timing::default();
    if connects {
        timing.connect_timeout = definition.tcp.connect_timeout;
        timing.delay_after_connect = definition.tcp.delay_after_connect.unwrap_or_default();
    }
    if let Transport::Modbus(Reading { rtu, max_registers, .. }) = &definition.transport {
        timing.max_registers = Some(*max_registers);
        if matches!(binding.url, EndpointUrl::ModbusRtu(_) | EndpointUrl::ModbusRtuTcp { .. }) {
            timing.timeout = rtu.receive_timeout;
            timing.gap = rtu.silence;
            timing.gap_between_units = !rtu.silence_same_slave;
            timing.retries = rtu.retries.unwrap_or_default();
        }
    }
    EndpointConfig { timing, ..binding.clone() }
}

/// See the module.
pub(super) struct ModbusGuest {
    readings: Readings,
    modbus: Arc<dyn Modbus>,
    clock: Clock,
    reading: Reading,
    fields: Vec<Field>,
    /// What was planned last, and for which fields.
    planned: (Vec<usize>, ReadPlan),
    /// When the counters of energy were read last.
    accumulated: Option<Moment>,
}

/// One entry of the definition that is read.
struct Field {
    place: Place,
    registers: ModbusField,
    class: Class,
    /// Read once, and has been.
    settled: bool,
    /// A request that it shared with others was refused.
    alone: bool,
    /// When the device refused it, and how.
    refused: Option<(Moment, String)>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Variable(usize),
    Input(usize),
}

/// When something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Once,
    Always,
    Accumulated,
}

/// What a poll comes to.
#[derive(Default)]
struct Tally {
    /// Blocks that were answered.
    answered: usize,
    /// When the last of them were.
    at: Option<Moment>,
    troubles: Vec<String>,
    failure: Option<DriverError>,
    /// Fields of blocks that were refused as a whole.
    apart: Vec<usize>,
}

impl ModbusGuest {
    /// `reading` is the transport of the definition.
    pub fn new(readings: Readings, reading: Reading, modbus: Arc<dyn Modbus>, clock: Clock) -> Self {
        let definition = Arc::clone(readings.definition());
        let variables = definition.variables.iter().enumerate().filter_map(|(at, variable)| {
            let Source::Modbus(registers) = &variable.source else { return None };
            let counts_energy = matches!(&variable.target, Target::Quantity(name)
                if [quantities::ENERGY_IMPORT, quantities::ENERGY_EXPORT].contains(name));
            let class = match &variable.target {
                _ if variable.once => Class::Once,
                Target::Identity(_) => Class::Once,
                _ if counts_energy && definition.delay_accumulated => Class::Accumulated,
                _ => Class::Always,
            };
            Some(Field::new(Place::Variable(at), registers, class))
        });
        let inputs = definition.inputs.iter().enumerate().filter_map(|(at, input)| match &input.source {
            Source::Modbus(registers) => Some(Field::new(Place::Input(at), registers, Class::Always)),
            _ => None,
        });
        let fields = variables.chain(inputs).collect();
        Self { readings, modbus, clock, reading, fields, planned: Default::default(), accumulated: None }
    }

    async fn read(&mut self) -> Result<Outcome, CallError> {
        let now = self.clock.now();
        let due = self.due(now);
        if self.planned.0 != due {
            let shared = due.iter().filter_map(|at| Some((*at, self.fields.get(*at)?)));
            let shared = shared.filter(|(_, field)| !field.alone).map(|(at, field)| (at, &field.registers));
            self.planned = (due.clone(), ReadPlan::new(&self.reading, shared));
        }
        let mut blocks: Vec<(Span, Vec<usize>)> = Vec::new();
        for (index, span) in self.planned.1.blocks().iter().enumerate() {
            blocks.push((*span, self.planned.1.parts_of(index).map(|part| part.field).collect()));
        }
        blocks.extend(self.apart(due.iter().copied().filter(|at| self.fields.get(*at).is_some_and(|one| one.alone))));
        let mut tally = Tally::default();
        self.ask(blocks, &mut tally).await?;
        // What was refused together is asked one by one, now and from now on.
        let apart = std::mem::take(&mut tally.apart);
        for at in &apart {
            if let Some(field) = self.fields.get_mut(*at) {
                field.alone = true;
            }
        }
        if !apart.is_empty() {
            self.planned = Default::default();
        }
        let again = self.apart(apart.into_iter());
        self.ask(again, &mut tally).await?;
        self.conclude(&due, tally)
    }

    /// The fields to be read now, by their number.
    fn due(&self, now: Moment) -> Vec<usize> {
        let counters_due = self.accumulated.is_none_or(|last| now.since(last) + EARLY >= ACCUMULATED);
        let counters_due = counters_due || self.has_power();
        let is_due = |field: &Field| {
            let waits = matches!(&field.refused, Some((since, _)) if now.since(*since) < REFUSED);
            !waits
                && match field.class {
                    Class::Once => !field.settled,
                    Class::Always => true,
                    Class::Accumulated => counters_due,
                }
        };
        self.fields.iter().enumerate().filter(|(_, field)| is_due(field)).map(|(at, _)| at).collect()
    }

    /// Whether power flows, as far as the device tells: its active power, else its apparent power, else its currents.
    fn has_power(&self) -> bool {
        const TOLD_BY: [&[&str]; 4] = [
            &["power_w"],
            &["power_w_l1", "power_w_l2", "power_w_l3"],
            &["power_va"],
            &["current_l1", "current_l2", "current_l3"],
        ];
        let values = |names: &[&str]| names.iter().filter_map(|name| self.readings.value(name)).collect::<Vec<_>>();
        TOLD_BY
            .iter()
            .map(|names| values(names))
            .find(|values| !values.is_empty())
            .is_some_and(|values| values.iter().any(|value| *value != 0.0))
    }

    /// A block for each of the fields.
    fn apart(&self, fields: impl Iterator<Item = usize>) -> Vec<(Span, Vec<usize>)> {
        fields.filter_map(|at| Some((Span::from(&self.fields.get(at)?.registers), vec![at]))).collect()
    }

    /// Reads the blocks: the first one by itself, because the others need not be tried where nobody is.
    async fn ask(&mut self, blocks: Vec<(Span, Vec<usize>)>, tally: &mut Tally) -> Result<(), CallError> {
        let table = match self.reading.table {
            ladekern_definition::Table::Holding => Table::Holding,
            ladekern_definition::Table::Input => Table::Input,
        };
        let block = |span: &Span| Block { table, address: span.address, count: span.count };
        let Some(((first, _), rest)) = blocks.split_first() else { return Ok(()) };
        let mut answers = vec![self.modbus.read(block(first)).await];
        if let Some(Err(error)) = answers.first()
            && let failure @ DriverError::Offline(_) = failed(*first, error)
            && tally.answered == 0
        {
            return Err(failure.into());
        }
        if !rest.is_empty() {
            answers.extend(self.modbus.read_many(rest.iter().map(|(span, _)| block(span)).collect()).await);
        }
        let now = self.clock.now();
        tally.at = Some(now);
        for ((span, fields), answer) in blocks.into_iter().zip(answers) {
            match answer {
                Ok(words) => {
                    tally.answered += 1;
                    for field in fields {
                        tally.troubles.extend(self.take(field, span, &words, now).err());
                    }
                }
                // Function, address or value: the device will say so again.
                Err(ModbusError::Exception(1..=3)) if fields.len() > 1 => tally.apart.extend(fields),
                Err(error @ ModbusError::Exception(1..=3)) => {
                    let text = failed(span, &error).text().to_owned();
                    for at in fields {
                        if let Some(field) = self.fields.get_mut(at) {
                            field.refused = Some((now, text.clone()));
                        }
                    }
                }
                Err(error) => {
                    let failure = failed(span, &error);
                    tally.troubles.push(failure.text().to_owned());
                    tally.failure.get_or_insert(failure);
                }
            }
        }
        Ok(())
    }

    /// Takes over the value of one field out of its block. The error says why there is none.
    fn take(&mut self, at: usize, block: Span, words: &[u16], now: Moment) -> Result<(), String> {
        let Some(field) = self.fields.get_mut(at) else { return Ok(()) };
        (field.settled, field.refused) = (field.class == Class::Once, None);
        let (place, registers) = (field.place, &field.registers);
        let words = block.slice(words, registers.into()).unwrap_or_default();
        let definition = Arc::clone(self.readings.definition());
        let special = Special::from(&*definition);
        match place {
            Place::Input(input) => {
                let name = || format!("inputs[{input}]");
                match decode(registers, words, special) {
                    Ok(Some(value)) => {
                        self.readings.set_input(input, &value, now).map_err(|error| format!("{}: {error}", name()))
                    }
                    Ok(None) => Ok(()),
                    Err(error) => Err(format!("{}: {error}", name())),
                }
            }
            Place::Variable(variable) => {
                let Some(entry) = definition.variables.get(variable) else { return Ok(()) };
                let decoded = match entry.target {
                    Target::Identity(_) => decode_text(registers, words, special).map(|text| text.map(Value::Text)),
                    _ => decode(registers, words, special),
                };
                match decoded.map_err(|error| format!("{}: {error}", entry.name))? {
                    Some(value) => self.readings.set(variable, value, now),
                    None => self.readings.set_unknown(variable),
                }
                Ok(())
            }
        }
    }

    /// What the site gets to know. An error if the device has given nothing at all.
    fn conclude(&mut self, due: &[usize], tally: Tally) -> Result<Outcome, CallError> {
        let Tally { answered, at, mut troubles, failure, .. } = tally;
        for field in &self.fields {
            let Some((_, text)) = &field.refused else { continue };
            let definition = self.readings.definition();
            let name = match field.place {
                Place::Variable(at) => match definition.variables.get(at) {
                    Some(variable) if variable.optional => continue,
                    variable => variable.map_or_else(String::new, |one| one.name.clone()),
                },
                Place::Input(at) => format!("inputs[{at}]"),
            };
            troubles.push(format!("{name}: {text}"));
        }
        let more = troubles.len().saturating_sub(MOST_SAID);
        troubles.truncate(MOST_SAID);
        let mut trouble = troubles.join("; ");
        if more > 0 {
            trouble.push_str(&format!("; and {more} more"));
        }
        match failure {
            Some(failure) if answered == 0 => return Err(failure.into()),
            None if answered == 0 && !trouble.is_empty() => return Err(DriverError::Protocol(trouble).into()),
            _ => {}
        }
        let now = at.unwrap_or_else(|| self.clock.now());
        let counts = |at: &usize| self.fields.get(*at).is_some_and(|field| field.class == Class::Accumulated);
        if due.iter().any(counts) {
            self.accumulated = Some(now);
        }
        let mut outcome = self.readings.outcome(now);
        outcome.trouble = (!trouble.is_empty()).then_some(trouble);
        Ok(outcome)
    }
}

impl Field {
    fn new(place: Place, registers: &ModbusField, class: Class) -> Self {
        Self { place, registers: registers.clone(), class, settled: false, alone: false, refused: None }
    }
}

fn failed(Span { address, count }: Span, error: &ModbusError) -> DriverError {
    let registers = if count == 1 { "register" } else { "registers" };
    let text = format!("reading {count} {registers} from {address}: {error}");
    match error {
        // 10 and 11: a gateway says that nobody answers behind it (Modbus application protocol 1.1b3, 7).
        ModbusError::Timeout | ModbusError::Unreachable(_) | ModbusError::Exception(10 | 11) => {
            DriverError::Offline(text)
        }
        ModbusError::Exception(_) | ModbusError::Protocol(_) => DriverError::Protocol(text),
        ModbusError::Denied(_) => DriverError::Config(text),
        // Too many requests wait on the bus: they will not for ever.
        ModbusError::Limit(_) => DriverError::Other(text),
    }
}

impl Guest for ModbusGuest {
    fn open<'a>(&'a mut self, _config: &'a str) -> BoxFuture<'a, Result<Opened, CallError>> {
        // Nothing is asked yet: a device that is not there now is no reason not to start. What is read once comes with
        // the first poll that is answered.
        Box::pin(async move { Ok(Opened::Driver(self.readings.info())) })
    }

    fn poll(&mut self) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(self.read())
    }
}

#[cfg(test)]
mod tests;
