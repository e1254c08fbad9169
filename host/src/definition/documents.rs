//! Pages and topics of a device: what lies at one address is decoded in one go, and each part that is missing costs
//! only itself.

use ladekern_definition::{Address, Definition, Document, DocumentField, Source};

use super::readings::Readings;
use crate::site::Moment;

/// Parts that a sentence about a failure names at most.
const MOST_SAID: usize = 3;

/// Everything at one address.
#[derive(Debug)]
pub(super) struct Page {
    pub address: Address,
    places: Vec<Place>,
    document: Document,
}

/// Where a part goes.
#[derive(Clone, Copy, Debug)]
enum Place {
    Variable(usize),
    Input(usize),
}

/// What a document brought.
#[derive(Debug)]
pub(super) struct Taken {
    /// Parts that were read, or of which the device says that it does not know them now.
    pub parts: usize,
    /// What is wrong with the others, in one sentence.
    pub trouble: Option<String>,
}

/// The pages of a definition, in the order in which it names them.
pub(super) fn pages(definition: &Definition) -> Vec<Page> {
    let variables = definition.variables.iter().map(|variable| &variable.source).enumerate();
    let variables = variables.map(|(at, source)| (Place::Variable(at), source));
    let inputs = definition.inputs.iter().map(|input| &input.source).enumerate();
    let inputs = inputs.map(|(at, source)| (Place::Input(at), source));
    let mut sorted: Vec<(&Address, Vec<(Place, &DocumentField)>)> = Vec::new();
    for (place, source) in variables.chain(inputs) {
        let Source::Document(field) = source else { continue };
        match sorted.iter_mut().find(|(address, _)| **address == field.address) {
            Some((_, fields)) => fields.push((place, field)),
            None => sorted.push((&field.address, vec![(place, field)])),
        }
    }
    let page = |(address, parts): (&Address, Vec<(Place, &DocumentField)>)| {
        let (places, fields): (Vec<Place>, Vec<&DocumentField>) = parts.into_iter().unzip();
        let document = Document::new(&fields, &definition.reserved).unavailable(&definition.unavailable);
        Page { address: address.clone(), places, document }
    };
    sorted.into_iter().map(page).collect()
}

fn is_optional(readings: &Readings, variable: usize) -> bool {
    readings.definition().variables.get(variable).is_some_and(|variable| variable.optional)
}

impl Page {
    /// Whether there is nothing left to read: all of it is read once, and has been.
    pub fn is_settled(&self, readings: &Readings) -> bool {
        self.places.iter().all(|place| matches!(place, Place::Variable(at) if readings.is_settled(*at)))
    }

    /// Takes over what `payload` holds. The error says why it holds nothing.
    pub fn take(&self, payload: &[u8], at: Moment, readings: &mut Readings) -> Result<Taken, String> {
        let optional = |place: &Place| matches!(place, Place::Variable(at) if is_optional(readings, *at));
        if payload.is_empty() && self.places.iter().all(optional) {
            for place in &self.places {
                if let Place::Variable(variable) = place {
                    readings.set_unknown(*variable);
                }
            }
            return Ok(Taken { parts: self.places.len(), trouble: None });
        }
        let parts = self.document.read(payload).map_err(|error| error.to_string())?;
        let mut taken = Taken { parts: 0, trouble: None };
        let mut troubles = Vec::new();
        for (place, part) in self.places.iter().zip(parts) {
            let wrong = match (place, part) {
                (Place::Variable(variable), Ok(value)) => {
                    readings.set(*variable, value, at);
                    None
                }
                (Place::Input(input), Ok(value)) => readings.set_input(*input, &value, at).err(),
                // The device answers, and says that it does not know, or has no such thing: nothing is wrong.
                (Place::Variable(variable), Err(error))
                    if error.is_missing() || error.is_absent() && is_optional(readings, *variable) =>
                {
                    readings.set_unknown(*variable);
                    None
                }
                (Place::Input(_), Err(error)) if error.is_missing() => None,
                (_, Err(error)) => Some(error.to_string()),
            };
            match wrong {
                None => taken.parts += 1,
                Some(error) => troubles.push((*place, error)),
            }
        }
        if !troubles.is_empty() {
            let definition = readings.definition();
            let name = |place: Place| match place {
                Place::Variable(at) => definition.variables.get(at).map_or_else(String::new, |one| one.name.clone()),
                Place::Input(at) => format!("inputs[{at}]"),
            };
            let said = troubles.iter().take(MOST_SAID).map(|(place, error)| format!("{}: {error}", name(*place)));
            let mut text = said.collect::<Vec<_>>().join("; ");
            if let more @ 1.. = troubles.len().saturating_sub(MOST_SAID) {
                text.push_str(&format!("; and {more} more"));
            }
            taken.trouble = Some(text);
        }
        match taken {
            Taken { parts: 0, trouble: Some(trouble) } => Err(trouble),
            taken => Ok(taken),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_a_device_does_not_know_is_no_trouble() {
        let text = "{rtype: 2, dev_type: 'acme', unavailable: [-32768], \
             power_w: {address: 't', type: 'int16', query: 'p'}, soc: {address: 't', type: 'float', query: 's'}, \
             import_wh: {address: 't', query: 'e', optional: true}}";
        let parsed = ladekern_definition::parse("a.json", text).unwrap_or_else(|findings| panic!("{findings:?}"));
        let definition = Arc::new(parsed.definition);
        let mut readings = Readings::new(definition.clone()).unwrap();
        let page = pages(&definition).remove(0);
        let mut take = |payload: &str| {
            let taken = page.take(payload.as_bytes(), Moment(1), &mut readings);
            let known = readings.outcome(Moment(1)).readings;
            (taken.map(|taken| (taken.parts, taken.trouble)), known.into_iter().map(|(_, value)| value).collect())
        };
        let unknown: Vec<Option<f64>> = vec![None; 3];
        assert_eq!(take(r#"{"p":-32768,"s":"unavailable"}"#), (Ok((3, None)), unknown));
        assert_eq!(take(r#"{"p":7,"s":50,"e":9}"#), (Ok((3, None)), vec![Some(7.0), Some(50.0), Some(9.0)]));
        assert_eq!(take(r#"{"p":null,"s":50}"#), (Ok((3, None)), vec![None, Some(50.0), None]));
        assert_eq!(take(r#"{"p":7,"s":50,"e":[]}"#), (Ok((3, None)), vec![Some(7.0), Some(50.0), None]));
        // Only what the definition does not call optional has to be there.
        let sentence = "power_w: p: there is no member \"p\" in the document".to_owned();
        assert_eq!(take(r#"{"s":50}"#), (Ok((2, Some(sentence))), vec![Some(50.0), None]));
    }
}
