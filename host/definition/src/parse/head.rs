//! The top level of a file: what kind of device it is and how it is read; every other key is a variable.

use std::collections::HashMap;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged as _;

use crate::formula::{self, Name, Object as Owner};
use crate::{
    Definition, Formula, Input, Kind, Modbus, Output, OutputTemplate, Rtu, Source, Table, Target, Tcp, Transport,
    Variable,
};

use super::fields::{self, Checked, Fields, short, shown};
use super::finding::{Report, nearest, quoted};
use super::keys::{HEAD, MOST_INPUTS, VARIABLE};
use super::source::{self, Wire};
use super::{names, variable};

/// Longest name of a device or manufacturer, longest type id.
const MOST_LETTERS: usize = 200;
const MOST_ID_LETTERS: usize = 64;

/// Variables of a file; a cycle reads and computes them all.
const MOST_VARIABLES: usize = 1000;

/// Keys that only Modbus has an ear for.
const MODBUS_KEYS: [&str; 4] = ["modbus_read", "modbus_read_max_registers", "modbus_allow_gaps", "rtu"];

/// Reads the file's object. What is wrong is in the report.
pub(super) fn read(text: &str, object: &Object<'_>, report: &mut Report) -> Option<Definition> {
    let mut others: Vec<(&ObjectProp<'_>, &Object<'_>)> = Vec::new();
    let place = (String::new(), object.start());
    let head = Fields::read(text, object, HEAD, place, report, |property, report| match &property.value {
        Value::Object(object) => others.push((property, object)),
        other => {
            let name = property.name.as_str();
            let known = HEAD.iter().map(|key| key.name).chain(names::known());
            let message = match nearest(name, known) {
                Some(known) if names::known().any(|name| name == known) && known == name => {
                    format!("a variable is an object, {{ \"address\": … }}, is {}", shown(text, other))
                }
                Some(known) => format!("unknown key; did you mean \"{known}\"?"),
                None => format!(
                    "unknown key; a variable would be an object, {{ \"address\": … }}, this is {}",
                    shown(text, other)
                ),
            };
            report.error(property.start(), short(name), message);
        }
    });
    let wire = wire(&head, report);
    let identity = identity(&head, report);
    let variables = variables(text, &others, wire, report);
    if others.is_empty() && head.list("outputs").is_empty() {
        report.warning(object.start(), "", "no variable: nothing is read from the device");
    }
    let inputs = inputs(&head, wire, report);
    let ui_addr = ui_addr(&head, report);
    let transport = wire.map(|wire| match wire {
        Wire::Modbus => Transport::Modbus(modbus(&head)),
        Wire::Http => Transport::Http,
        Wire::Mqtt => Transport::Mqtt,
    });
    let resets = outputs(&head, "resets", transport.as_ref(), report);
    let outputs = outputs(&head, "outputs", transport.as_ref(), report);
    let transport = transport?;
    without_effect(&head, wire?, report);
    let (dev_type, name, manufacturer) = identity?;
    let kind = match head.whole("mtype") {
        Some(1) => Kind::Meter,
        Some(2) => Kind::Inverter,
        Some(4) => Kind::Battery,
        _ => Kind::Other,
    };
    let numbers = |name: &str| match head.value(name) {
        Some(Checked::Numbers(numbers)) => numbers.clone(),
        _ => Vec::new(),
    };
    Some(Definition {
        dev_type,
        name,
        manufacturer,
        kind,
        transport,
        tcp: head.object("tcp").map_or_else(Tcp::default, |tcp| Tcp {
            connect_timeout: tcp.millis("connect_timeout"),
            delay_after_connect: tcp.millis("delay_after_connect"),
        }),
        update: head.millis("upd_delay"),
        delay_accumulated: head.flag("delay_accumulated").unwrap_or(true),
        ui_addr,
        reserved: numbers("reserved"),
        unavailable: numbers("unavailable"),
        variables,
        inputs,
        outputs,
        resets,
    })
}

fn wire(head: &Fields<'_>, report: &mut Report) -> Option<Wire> {
    if !head.has("rtype") {
        head.error("rtype", "rtype is missing; it says how the device is read: 0 Modbus, 1 HTTP, 2 MQTT", report);
    }
    Some(match head.whole("rtype")? {
        0 => Wire::Modbus,
        1 => Wire::Http,
        _ => Wire::Mqtt,
    })
}

/// `dev_type`, `name`, `manufacturer`.
fn identity(head: &Fields<'_>, report: &mut Report) -> Option<(String, String, String)> {
    if !head.has("dev_type") {
        head.error(
            "dev_type",
            "dev_type is missing; it is the name by which ladekern.toml means this file: type = \"…\"",
            report,
        );
    }
    for name in ["name", "manufacturer"] {
        let Some(text) = head.text(name) else { continue };
        if text.value.chars().count() > MOST_LETTERS || text.value.chars().any(char::is_control) {
            head.error(name, format!("must be a text of at most {MOST_LETTERS} letters on one line"), report);
        }
    }
    let given = head.text("dev_type")?;
    let begins = given.value.starts_with(|c: char| c.is_ascii_alphanumeric());
    let well = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !begins || !given.value.chars().all(well) || given.value.len() > MOST_ID_LETTERS {
        let message = format!(
            "must be made of the letters a to z, digits and - _ . (at most {MOST_ID_LETTERS}), beginning with a letter or digit, is {}",
            quoted(given.value)
        );
        report.error(given.start, "dev_type", message);
        return None;
    }
    let dev_type = given.value.to_owned();
    let told = |name: &str| head.text(name).map(|text| text.value.trim().to_owned()).filter(|text| !text.is_empty());
    Some((dev_type.clone(), told("name").unwrap_or(dev_type), told("manufacturer").unwrap_or_default()))
}

fn variables(
    text: &str,
    others: &[(&ObjectProp<'_>, &Object<'_>)],
    wire: Option<Wire>,
    report: &mut Report,
) -> Vec<Variable> {
    let mut variables = Vec::new();
    let mut places = Vec::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    if let Some((property, _)) = others.get(MOST_VARIABLES) {
        let message = format!("a definition has at most {MOST_VARIABLES} variables, this one has {}", others.len());
        report.error(property.start(), short(property.name.as_str()), message);
    }
    for (property, object) in others.iter().take(MOST_VARIABLES) {
        let name = property.name.as_str();
        let path = short(name);
        let place = (path.clone(), property.start());
        let fields = Fields::read(text, object, VARIABLE, place, report, |property, report| {
            fields::unknown(&path, property, VARIABLE, report);
        });
        // Formulas do not tell capital letters from small ones, nor a name with the * from one without.
        let same = name.to_lowercase();
        let same = same.strip_prefix('*').unwrap_or(&same);
        if let Some(before) = seen.get(same) {
            let message =
                format!("is the same name as {before}: capital letters and * make no difference; choose another one");
            report.error(property.start(), path, message);
        } else {
            seen.insert(same.to_owned(), path);
        }
        if let Some(variable) = variable::read(name, &fields, wire, report) {
            variables.push(variable);
            places.push((fields.offset_of("expr"), fields.key("expr")));
        }
    }
    cycles(&variables, &places, report);
    variables
}

/// Reports formulas of the device that need one another. What they set at the manager is seen in the next cycle only.
fn cycles(variables: &[Variable], places: &[(usize, String)], report: &mut Report) {
    let mut formulas: Vec<(Name, &Formula, &(usize, String))> = Vec::new();
    for (variable, place) in variables.iter().zip(places) {
        if let (Source::Expr(formula), false) = (&variable.source, matches!(variable.target, Target::Manager(_))) {
            formulas.push((Name::new(Owner::Own, variable.name.trim_start_matches('*')), formula, place));
        }
    }
    loop {
        let named: Vec<(Name, &Formula)> = formulas.iter().map(|(name, formula, _)| (name.clone(), *formula)).collect();
        let Err(cycle) = formula::order(&named) else { return };
        let first = formulas.iter().find(|(name, ..)| cycle.names.contains(name));
        let Some((.., (offset, key))) = first else { return };
        report.error(*offset, key.clone(), format!("these formulas need one another: {cycle}"));
        formulas.retain(|(name, ..)| !cycle.names.contains(name));
    }
}

fn inputs(head: &Fields<'_>, wire: Option<Wire>, report: &mut Report) -> Vec<Input> {
    let mut inputs = Vec::new();
    let mut bits = 0;
    for fields in head.list("inputs") {
        let Some((source, count)) = wire.and_then(|wire| source::bits(fields, wire, report)) else { continue };
        bits += usize::from(count);
        inputs.push(Input { source, count });
    }
    if bits > MOST_INPUTS {
        head.error(
            "inputs",
            format!("a device has at most {MOST_INPUTS} inputs, these are {bits} bits together"),
            report,
        );
    }
    inputs
}

fn outputs(head: &Fields<'_>, list: &str, transport: Option<&Transport>, report: &mut Report) -> Vec<Output> {
    let mut outputs = Vec::new();
    for fields in head.list(list) {
        let Some(address) = fields.text("address") else {
            if !fields.has("address") {
                let message = "address is missing; it says where the request goes: /path, or POST http://…";
                fields.error("address", message, report);
            }
            continue;
        };
        let body = fields.text("body");
        let output = Output { address: address.value.to_owned(), body: body.map(|text| text.value.to_owned()) };
        // Without a transport, which is told already, only the texts can be checked: any of them does for that.
        if let Err(error) = OutputTemplate::parse(&output, transport.unwrap_or(&Transport::Http)) {
            let place = if error.key == "body" {
                body.map(|text| text.at(error.offset))
            } else {
                Some(address.at(error.offset))
            };
            report.error(place.unwrap_or(fields.offset), fields.key(error.key), error.message);
        }
        outputs.push(output);
    }
    outputs
}

fn modbus(head: &Fields<'_>) -> Modbus {
    Modbus {
        table: if head.whole("modbus_read") == Some(4) { Table::Input } else { Table::Holding },
        max_registers: head.small("modbus_read_max_registers").unwrap_or(125),
        allow_gaps: head.flag("modbus_allow_gaps").unwrap_or(false),
        rtu: head.object("rtu").map_or_else(Rtu::default, |rtu| Rtu {
            silence: rtu.millis("silence_period"),
            silence_same_slave: rtu.flag("silence_same_slave").unwrap_or(false),
            retries: rtu.small("retries"),
            receive_timeout: rtu.millis("rcv_timeout"),
        }),
    }
}

/// An address that a browser may be sent to.
fn ui_addr(head: &Fields<'_>, report: &mut Report) -> Option<String> {
    let text = head.text("ui_addr")?;
    if text.value.is_empty() {
        return None;
    }
    let well = ["http://", "https://", "/", "${address}"].iter().any(|start| text.value.starts_with(start));
    if !well || text.value.len() > 2000 || text.value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let message = format!("must begin with http://, https:// or /, and have no spaces, is {}", quoted(text.value));
        report.error(text.start, "ui_addr", message);
    }
    Some(text.value.to_owned())
}

/// Keys that another transport would have listened to.
fn without_effect(head: &Fields<'_>, wire: Wire, report: &mut Report) {
    if wire != Wire::Modbus {
        for name in MODBUS_KEYS.into_iter().filter(|name| head.has(name)) {
            head.warning(name, "has no effect; it is for Modbus (rtype 0)", report);
        }
    }
    if wire == Wire::Mqtt && head.has("tcp") {
        head.warning("tcp", "has no effect; it is for Modbus TCP and HTTP (rtype 0 and 1)", report);
    }
    if wire == Wire::Mqtt && head.has("upd_delay") {
        head.warning("upd_delay", "has no effect; values of MQTT come when they are published", report);
    }
}
