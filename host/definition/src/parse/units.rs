//! Doubts about units. A current that is a thousand times too small looks like an idle house; these warnings come only
//! where the file itself gives the reason.
//!
//! * A current that is read as `float` with factor 1: nobody tells milliamperes with decimal places, and amperes need
//!   1000. (`cfos-interfaces.md` 2.2: units are V, mA, W, Wh.)
//! * A query, topic or path that ends in another unit (`total_kwh`, `power_kw`, `voltage_mv`, `current_a`) with factor 1.
//! * Constants that no building has: 230 000 V, a state of charge of 5000 %.
//!
//! An energy counter that is a float with factor 1 is not doubted: as many meters count Wh in floats as kWh.

use crate::{Address, Extract, Number, Shape, Source};

use super::fields::Fields;
use super::finding::Report;
use super::names;
use super::variable::factor;

/// Unit of the format, what a name ends with that has another one, and the factor between them.
const OTHERS: &[(&str, &str, f64)] = &[
    ("Wh", "kwh", 1000.0),
    ("Wh", "mwh", 1e6),
    ("W", "kw", 1000.0),
    ("W", "mw", 0.001),
    ("V", "mv", 0.001),
    ("mA", "amps", 1000.0),
    ("mA", "_a", 1000.0),
];

/// Constants between which a unit makes sense.
const SENSIBLE: &[(&str, f64, f64)] = &[("V", 10.0, 1000.0), ("%", 0.0, 100.0), ("Hz", 10.0, 100.0)];

/// Warns about the unit of a variable.
pub(super) fn check(name: &str, fields: &Fields<'_>, source: &Source, report: &mut Report) {
    let Some(unit) = names::unit(name) else { return };
    if let Source::Fixed(text) = source {
        let range = SENSIBLE.iter().find(|(of, ..)| *of == unit);
        if let (Ok(value), Some((_, least, most))) = (text.parse::<f64>(), range)
            && !(*least..=*most).contains(&value)
        {
            fields.warning("fixed", format!("{value} {unit} is not likely; the unit of {name} is {unit}"), report);
        }
        return;
    }
    if factor(source).is_none_or(|factor| factor.abs() != 1.0) {
        return;
    }
    let key = if fields.has("resolution") { "resolution" } else { "address" };
    let told = origin(source).and_then(|origin| {
        let origin = origin.to_ascii_lowercase();
        let origin = origin.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        OTHERS.iter().find(|(of, end, _)| *of == unit && origin.ends_with(end))
    });
    if let Some((_, end, factor)) = told {
        let other = end.trim_start_matches('_');
        let message =
            format!("{name} is in {unit}, but what is read ends in \"{other}\"; did you mean resolution {factor}?");
        fields.warning(key, message, report);
        return;
    }
    let float = match source {
        Source::Modbus(field) => matches!(field.shape, Shape::Number { number: Number::Float | Number::Double, .. }),
        Source::Document(field) => matches!(field.shape, Shape::Number { number: Number::Float | Number::Double, .. }),
        Source::Fixed(_) | Source::Expr(_) => false,
    };
    if unit == "mA" && float {
        fields.warning(key, "currents are in mA; if the device tells amperes, resolution must be 1000", report);
    }
}

/// What names the value at the device.
fn origin(source: &Source) -> Option<&str> {
    let Source::Document(field) = source else { return None };
    match (&field.extract, &field.address) {
        (Extract::Query(query), _) => Some(query.text()),
        (_, Address::Mqtt { topic }) => Some(topic),
        (_, Address::Http { path, .. }) => Some(path),
    }
}
