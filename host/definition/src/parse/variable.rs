//! One variable: its name, what it is made of, and what does not go together.

use crate::{Formula, Identity, Shape, Source, Target, Variable};

use super::fields::{Checked, Fields};
use super::finding::Report;
use super::names;
use super::source::{self, Wanted, Wire};
use super::units;

/// Reads a variable; `None` if something of it is wrong. Without a transport what depends on it is left unread.
pub(super) fn read(name: &str, fields: &Fields<'_>, wire: Option<Wire>, report: &mut Report) -> Option<Variable> {
    let target = match names::target(name) {
        Ok(target) => target,
        Err(message) => {
            report.error(fields.offset, fields.path.clone(), message);
            return None;
        }
    };
    if matches!(target, Target::User { .. })
        && let Some(doubt) = names::doubt(name)
    {
        report.warning(fields.offset, fields.path.clone(), doubt);
    }
    let wanted = match target {
        Target::Identity(Identity::Version | Identity::FirmwareVersion) => Wanted::Version,
        Target::Identity(_) => Wanted::Text,
        Target::Quantity(_) | Target::Manager(_) => Wanted::Number,
        Target::User { .. } => Wanted::Any,
    };
    let source = source(fields, wire, wanted, report)?;
    let identity = matches!(target, Target::Identity(_));
    if identity && fields.flag("once") == Some(false) {
        fields.warning("once", "has no effect; who a device is is always read once", report);
    }
    units::check(name, fields, &source, report);
    let once = identity || fields.flag("once") == Some(true);
    Some(Variable { name: name.to_owned(), target, source, once, optional: fields.flag("optional") == Some(true) })
}

fn source(fields: &Fields<'_>, wire: Option<Wire>, wanted: Wanted, report: &mut Report) -> Option<Source> {
    let calculated = match (fields.has("fixed"), fields.has("expr")) {
        (true, true) => {
            fields.error("expr", "fixed is a constant and expr a formula; give only one of the two", report);
            return None;
        }
        (true, false) => "fixed",
        (false, true) => "expr",
        (false, false) => {
            if !fields.has("address") {
                let message = "nothing says where the value comes from; give it an address, or fixed, or expr";
                report.error(fields.offset, fields.path.clone(), message);
                return None;
            }
            return source::read(fields, wire?, wanted, report);
        }
    };
    let mut well = exclusive(fields, calculated, report);
    for name in ["resolution", "order", "length", "once", "optional"].into_iter().filter(|name| fields.has(name)) {
        let flag = matches!(name, "once" | "optional");
        let counts = flag && calculated == "expr" && fields.flag(name) == Some(false);
        if !counts {
            fields.warning(name, format!("has no effect beside {calculated}"), report);
        }
    }
    if fields.text("type").is_some_and(|text| text.value == "string") && wanted == Wanted::Number {
        fields.error("type", "this variable is a number; string is for texts", report);
        well = false;
    }
    let source = if calculated == "fixed" { constant(fields, wanted, report) } else { formula(fields, wanted, report) };
    source.filter(|_| well)
}

/// Beside a constant or a formula nothing is read. An empty address says nothing and does stand in real files.
fn exclusive(fields: &Fields<'_>, calculated: &str, report: &mut Report) -> bool {
    let mut well = true;
    for name in ["address", "query", "regex"].into_iter().filter(|name| fields.has(name)) {
        let empty = fields.text(name).is_some_and(|text| text.value.is_empty());
        if !empty && fields.value(name).is_some() {
            fields.error(
                name,
                format!("{calculated} gives the value, so nothing is read; remove {name} or {calculated}"),
                report,
            );
        }
        well &= empty;
    }
    well
}

fn constant(fields: &Fields<'_>, wanted: Wanted, report: &mut Report) -> Option<Source> {
    let text = match fields.value("fixed")? {
        Checked::Text(text) => text.value.to_owned(),
        Checked::Number(number) => number.to_string(),
        _ => return None,
    };
    let declared = fields.text("type").is_some_and(|text| text.value != "string");
    if (wanted == Wanted::Number || declared) && source::constant(&text).is_none() {
        fields.error("fixed", format!("must be a number here, is {}", super::finding::quoted(&text)), report);
        return None;
    }
    // 0x1F and .5 are numbers here, but not everywhere.
    let number = source::constant(&text).filter(|_| wanted == Wanted::Number || declared);
    Some(Source::Fixed(number.map_or(text, |number| number.to_string())))
}

fn formula(fields: &Fields<'_>, wanted: Wanted, report: &mut Report) -> Option<Source> {
    if matches!(wanted, Wanted::Version | Wanted::Text) {
        fields.error("expr", "this variable is a text and a formula is a number; read it, or write fixed", report);
        return None;
    }
    let text = fields.text("expr")?;
    Formula::parse(text.value)
        .map_err(|error| report.error(text.at(error.offset), fields.key("expr"), error.message))
        .map(Source::Expr)
        .ok()
}

/// The factor that a read number is multiplied by.
pub(super) fn factor(source: &Source) -> Option<f64> {
    let shape = match source {
        Source::Modbus(field) => field.shape,
        Source::Document(field) => field.shape,
        Source::Fixed(_) | Source::Expr(_) => return None,
    };
    match shape {
        Shape::Number { factor, .. } => Some(factor),
        Shape::Text | Shape::Dotted { .. } => None,
    }
}
