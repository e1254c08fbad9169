//! The message of an HTTP input: what `set_ajax_meter`, `set_ajax_evse` and the topic `set/<dev_id>` carry. Every
//! client sends another subset of the keys, so the union of both is read, numbers also as text. Pure.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::site::{Connector, DeviceKind, Outcome, quantities};

/// Deeper than any message; `json5` would follow brackets until the stack ends.
const MOST_BRACKETS: usize = 64;

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fed {
    /// Readings, connector and texts.
    pub outcome: Outcome,
    /// The text of `model`, if the message has one.
    pub model: Option<String>,
}

/// A message that changes nothing, with the reason and where in the text it lies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FeedError(pub String);

/// Reads a message, JSON or JSON5 (unquoted names, trailing commas, comments, hexadecimal numbers).
///
/// # Errors
/// If it is neither, or a known key holds something of another type. Unknown keys are no error.
pub fn parse(kind: DeviceKind, payload: &[u8]) -> Result<Fed, FeedError> {
    // Nearly every message is plain JSON, and that parser is many times faster.
    let Object(body) = match serde_json::from_slice(payload) {
        Ok(object) => object,
        Err(_) => tolerant(payload)?,
    };
    body.fed(kind)
}

fn tolerant(payload: &[u8]) -> Result<Object, FeedError> {
    let text = std::str::from_utf8(payload).map_err(|error| FeedError(format!("no UTF-8 text: {error}")))?;
    if text.trim().is_empty() {
        return Err(FeedError("empty; expected a JSON object".into()));
    }
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_BRACKETS {
            return Err(FeedError(format!("nested deeper than {MOST_BRACKETS} brackets")));
        }
    }
    json5::from_str(text).map_err(|error| FeedError(error.to_string()))
}

/// The names and units are those of the contract (`cfos-interfaces.md` 1.9). The outer `Option` says whether the key
/// is there, the inner one whether it is `null`: a source that does not know now.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Body {
    model: Option<Text>,
    rfid: Option<Text>,
    #[serde(deserialize_with = "given")]
    import_wh: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    import_vah: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    total_energy: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    export_wh: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    power_w: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    power_va: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    soc: Option<Option<Number>>,
    #[serde(deserialize_with = "given")]
    max_charging_current: Option<Option<Number>>,
    voltage: Option<Phases>,
    current: Option<Phases>,
    is_va: Option<Flag>,
    state: Option<State>,
}

/// Nothing but an object: derived structs would take a list as well.
struct Object(Body);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
                Body::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        from.deserialize_any(ObjectVisitor)
    }
}

fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Number>>, D::Error> {
    Maybe::deserialize(from).map(|maybe| Some(maybe.0.map(Number)))
}

impl Body {
    fn fed(self, kind: DeviceKind) -> Result<Fed, FeedError> {
        let mut outcome = Outcome::default();
        let import = self.import_wh.or(self.import_vah).or(self.total_energy);
        // `power_va` is the older name of `power_w` and holds watts unless `is_va` says otherwise.
        let power = self.power_w.or(self.power_va);
        let power_name = match self.is_va {
            Some(Flag(true)) => quantities::POWER_APPARENT,
            _ => quantities::POWER_TOTAL,
        };
        let scalars = [
            (quantities::ENERGY_IMPORT, import),
            (quantities::ENERGY_EXPORT, self.export_wh),
            (power_name, power),
            (quantities::BATTERY_SOC, self.soc),
            (quantities::LIMIT_CABLE, self.max_charging_current),
        ];
        for (name, value) in scalars {
            if let Some(value) = value {
                outcome.push(name, value.map(|number| number.0));
            }
        }
        for (names, values) in [(quantities::VOLTAGE, self.voltage), (quantities::CURRENT, self.current)] {
            for (name, value) in names.into_iter().zip(values.into_iter().flat_map(|phases| phases.0)) {
                outcome.push(name, value);
            }
        }
        if let Some(Some(Number(percent))) = self.soc
            && !(0.0..=100.0).contains(&percent)
        {
            return Err(FeedError(format!("soc: {percent} is no percentage, expected 0 to 100")));
        }
        if let (Some(Number(limit)), DeviceKind::Evse) = (self.max_charging_current.flatten(), kind)
            && limit < 0.0
        {
            return Err(FeedError(format!("max_charging_current: {limit} is below 0")));
        }
        if kind == DeviceKind::Evse {
            outcome.connector = self.state.map(|state| state.0);
        }
        if let Some(Text(rfid)) = self.rfid {
            outcome.texts.push(("rfid".into(), rfid));
        }
        Ok(Fed { outcome, model: self.model.map(|text| text.0) })
    }
}

/// A finite number, also as text.
#[derive(Clone, Copy, Debug)]
struct Number(f64);

/// A number or `null`, also as text; empty text is `null`.
struct Maybe(Option<f64>);

/// Up to three numbers or nulls: a list, one number, or a text with commas.
#[derive(Debug)]
struct Phases(Vec<Option<f64>>);

/// A text; a number is taken as one.
#[derive(Debug)]
struct Text(String);

/// true or false, also as 1 or 0, also as text.
#[derive(Clone, Copy, Debug)]
struct Flag(bool);

/// 1 to 5, also as the letter of IEC 61851-1.
#[derive(Debug)]
struct State(Connector);

/// What all of these are made from.
enum Scalar {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number or a text")
    }
    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }
    fn visit_none<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Scalar, D::Error> {
        from.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }
    #[expect(clippy::cast_precision_loss, reason = "counters beyond 2^53 Wh do not exist")]
    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }
    #[expect(clippy::cast_precision_loss, reason = "counters beyond 2^53 Wh do not exist")]
    fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
        Ok(Scalar::Number(value as f64))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Scalar, E> {
        if value.is_finite() { Ok(Scalar::Number(value)) } else { Err(E::custom("expected a finite number")) }
    }
    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }
}

fn number<E: de::Error>(text: &str) -> Result<Option<f64>, E> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let finite = text.parse::<f64>().ok().filter(|number| number.is_finite());
    finite.map(Some).ok_or_else(|| E::custom(format!("expected a number, found \"{}\"", short(text))))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

impl<'de> Deserialize<'de> for Maybe {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(ScalarVisitor)? {
            Scalar::Null => Ok(Self(None)),
            Scalar::Number(number) => Ok(Self(Some(number))),
            Scalar::Text(text) => number(&text).map(Self),
            Scalar::Bool(value) => Err(de::Error::custom(format!("expected a number, found {value}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(ScalarVisitor)? {
            Scalar::Null => Ok(Self(String::new())),
            Scalar::Bool(value) => Ok(Self(value.to_string())),
            Scalar::Number(number) => Ok(Self(number.to_string())),
            Scalar::Text(text) => Ok(Self(text)),
        }
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(ScalarVisitor)? {
            Scalar::Null => Ok(Self(false)),
            Scalar::Bool(value) => Ok(Self(value)),
            Scalar::Number(number) => Ok(Self(number != 0.0)),
            Scalar::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Ok(Self(true)),
                "false" | "0" | "no" | "off" | "" => Ok(Self(false)),
                other => Err(de::Error::custom(format!("expected true or false, found \"{}\"", short(other)))),
            },
        }
    }
}

impl<'de> Deserialize<'de> for State {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = match from.deserialize_any(ScalarVisitor)? {
            Scalar::Null => return Ok(Self(Connector::Unknown)),
            Scalar::Number(number) => number.to_string(),
            Scalar::Bool(value) => value.to_string(),
            Scalar::Text(text) => text.trim().to_ascii_uppercase(),
        };
        match text.as_str() {
            "1" | "A" => Ok(Self(Connector::Available)),
            "2" | "B" => Ok(Self(Connector::Connected)),
            "3" | "C" => Ok(Self(Connector::Charging)),
            "4" | "D" => Ok(Self(Connector::Ventilation)),
            "E" => Ok(Self(Connector::NoPilot)),
            // The contract has one number for all that is wrong.
            "5" | "F" => Ok(Self(Connector::Fault)),
            other => Err(de::Error::custom(format!(
                "expected a state from 1 to 5 (free, car connected, charging, charging with ventilation, error), found \"{}\"",
                short(other)
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Phases {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct PhasesVisitor;
        impl<'de> Visitor<'de> for PhasesVisitor {
            type Value = Phases;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of up to three numbers")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Phases, A::Error> {
                let mut phases = Vec::with_capacity(3);
                while let Some(Maybe(value)) = seq.next_element()? {
                    if phases.len() == 3 {
                        return Err(de::Error::custom("expected at most three numbers, one for each phase"));
                    }
                    phases.push(value);
                }
                Ok(Phases(phases))
            }
            fn visit_unit<E>(self) -> Result<Phases, E> {
                Ok(Phases(vec![None; 3]))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Phases, E> {
                let phases: Vec<_> = text.split(',').map(number).collect::<Result<_, E>>()?;
                if phases.len() > 3 {
                    return Err(E::custom("expected at most three numbers, one for each phase"));
                }
                Ok(Phases(phases))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Phases, E> {
                if value.is_finite() {
                    Ok(Phases(vec![Some(value)]))
                } else {
                    Err(E::custom("expected finite numbers"))
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "no current and no voltage needs 53 bits")]
            fn visit_i64<E>(self, value: i64) -> Result<Phases, E> {
                Ok(Phases(vec![Some(value as f64)]))
            }
            #[expect(clippy::cast_precision_loss, reason = "no current and no voltage needs 53 bits")]
            fn visit_u64<E>(self, value: u64) -> Result<Phases, E> {
                Ok(Phases(vec![Some(value as f64)]))
            }
        }
        from.deserialize_any(PhasesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meter(text: &str) -> Fed {
        parse(DeviceKind::Meter, text.as_bytes()).unwrap()
    }

    fn readings(fed: &Fed) -> Vec<String> {
        let show = |value: &Option<f64>| value.map_or("null".into(), |value| value.to_string());
        fed.outcome.readings.iter().map(|(name, value)| format!("{name}={}", show(value))).collect()
    }

    #[test]
    fn the_documented_message_is_read() {
        let fed = meter(
            r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}"#,
        );
        assert_eq!(fed.model.as_deref(), Some("TestModell"));
        assert_eq!(
            readings(&fed),
            [
                "energy.import=12345",
                "energy.export=23456",
                "voltage.l1=231",
                "voltage.l2=232",
                "voltage.l3=233",
                "current.l1=10001",
                "current.l2=10002",
                "current.l3=10003"
            ]
        );
    }

    #[test]
    fn every_client_s_subset_is_read() {
        for (text, wanted) in [
            (r#"{"power_w":-500}"#, vec!["power.total=-500"]),
            (r#"{"power_va":"10.50","import_vah":"7.00"}"#, vec!["energy.import=7", "power.total=10.5"]),
            (r#"{"power_va":3,"is_va":"true"}"#, vec!["power.apparent=3"]),
            (r#"{"power_w":3,"is_va":true}"#, vec!["power.apparent=3"]),
            (r#"{"power_w":1,"power_va":2,"is_va":0}"#, vec!["power.total=1"]),
            (r#"{"import_wh":1,"import_vah":2}"#, vec!["energy.import=1"]),
            (r#"{"soc":55.5,"unknown":{"a":[1]}}"#, vec!["battery.soc=55.5"]),
            (r#"{"current":"1,2.5,"}"#, vec!["current.l1=1", "current.l2=2.5", "current.l3=null"]),
            (r#"{"voltage":"231,232,233"}"#, vec!["voltage.l1=231", "voltage.l2=232", "voltage.l3=233"]),
            (r#"{"current":["1",null,-3]}"#, vec!["current.l1=1", "current.l2=null", "current.l3=-3"]),
            (r#"{"current":5}"#, vec!["current.l1=5"]),
            (r#"{"power_w":null}"#, vec!["power.total=null"]),
            (r#"{"power_w":""}"#, vec!["power.total=null"]),
            (r"{}", vec![]),
            ("{power_w: 0x10, /* as the device says */ 'import_wh': +5,}", vec!["energy.import=5", "power.total=16"]),
        ] {
            assert_eq!(readings(&meter(text)), wanted, "{text}");
        }
    }

    #[test]
    fn a_wallbox_tells_its_state() {
        let text =
            br#"{"state":2,"max_charging_current":16000,"current":[0,0,0],"total_energy":1,"model":"m","rfid":"4711"}"#;
        let fed = parse(DeviceKind::Evse, text).unwrap();
        assert_eq!(fed.outcome.connector, Some(Connector::Connected));
        assert_eq!(fed.outcome.texts, [("rfid".into(), "4711".into())]);
        assert!(readings(&fed).contains(&"limit.cable=16000".into()), "{fed:?}");
        for (state, wanted) in [
            ("1", Connector::Available),
            ("\"3\"", Connector::Charging),
            ("\"c\"", Connector::Charging),
            ("4", Connector::Ventilation),
            ("5", Connector::Fault),
        ] {
            let fed = parse(DeviceKind::Evse, format!("{{\"state\":{state}}}").as_bytes()).unwrap();
            assert_eq!(fed.outcome.connector, Some(wanted), "{state}");
        }
    }

    #[test]
    fn what_is_no_message_says_where_and_why() {
        for (text, parts) in [
            ("", ["empty", "JSON object"]),
            ("[1]", ["expected a JSON object", "sequence"]),
            ("// a list\n[1]", ["expected a JSON object", "sequence"]),
            ("7", ["expected a JSON object", ""]),
            ("{\"power_w\":", ["EOF", ""]),
            ("{\"power_w\":\"much\"}", ["expected a number, found \"much\"", "at line 1"]),
            ("{\"power_w\":true}", ["expected a number, found true", "at line 1"]),
            ("{\"power_w\":[1]}", ["expected a number or a text", "at line 1"]),
            ("{power_w: Infinity}", ["finite", ""]),
            ("{\"current\":[1,2,3,4]}", ["at most three", ""]),
            ("{\"soc\":101}", ["soc: 101 is no percentage", ""]),
            ("{\"state\":6}", ["from 1 to 5", ""]),
            ("{\"is_va\":\"perhaps\"}", ["true or false", ""]),
        ] {
            let error = parse(DeviceKind::Evse, text.as_bytes()).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
        assert!(parse(DeviceKind::Meter, b"\xff").unwrap_err().to_string().contains("UTF-8"));
        for bracket in ["[", "{a:", "{\"x\":["] {
            let deep = format!("{{\"x\":{}", bracket.repeat(200_000));
            assert!(parse(DeviceKind::Meter, deep.as_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload: Vec<u8>, text in "[\\[\\]{}:,a-z\"0-9.'/*+-]{0,60}") {
            let _ = parse(DeviceKind::Evse, &payload);
            let _ = parse(DeviceKind::Meter, text.as_bytes());
        }

        #[test]
        fn numbers_come_through_as_they_are(power in -1e9f64..1e9, energy in 0u32..) {
            let fed = meter(&format!("{{\"power_w\":{power},\"import_wh\":\"{energy}\"}}"));
            prop_assert_eq!(readings(&fed), [format!("energy.import={energy}"), format!("power.total={power}")]);
        }
    }
}
