//! Both HTTP APIs of the go-e Charger: what their status means, how wishes are written and what an answer to a wish says.
//! Pure: text in, readings out.
//!
//! Source: the manufacturer's published API descriptions, version 1 and 2.

use ladekern_plugin_sdk::{Connector, Error, Info, Json, Outcome};

/// What the box understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Flat status of texts; hardware up to V2.
    V1,
    /// Typed keys with a filter; hardware from V3.
    V2,
}

/// Less is no charging by IEC 61851.
const MIN_MILLIAMPS: u32 = 6000;
const MAX_AMPS: u32 = 32;
/// What a phase carries at least when it is in use.
const PHASE_IN_USE_MILLIAMPS: f64 = 500.0;

impl Api {
    /// The request for everything this driver understands.
    pub fn status_path(self) -> &'static str {
        match self {
            Self::V1 => "/status",
            Self::V2 => "/api/status?filter=car,alw,amp,err,psm,pnp,nrg,wh,eto,cbl,fhz,tma,lri,fwv,sse,var",
        }
    }

    /// The state of the box if `text` is an answer of this API.
    pub fn read(self, text: &str) -> Result<Json<'_>, Error> {
        let json = Json::parse(text)?;
        match (self, json.get("car")) {
            (_, None) => Err(Error::protocol("the answer has no key \"car\": is it a go-e Charger?")),
            // A text says that this is the other API's status: its numbers would be read with the wrong scale.
            (Self::V2, Some(Json::Text(_))) => Err(Error::protocol("this is a status of API v1")),
            _ => Ok(json),
        }
    }

    /// Who the box is and what it can do.
    pub fn info(self, status: &Json<'_>) -> Info {
        let text = |key| status.get(key).and_then(Json::text).filter(|text| !text.is_empty()).map(str::to_owned);
        let mut info = Info::new();
        info.serial = text("sse");
        info.firmware = text("fwv");
        info.model = Some(match (self, status.get("var").and_then(Json::integer)) {
            (Self::V2, Some(kilowatts)) => format!("go-e Charger {kilowatts} kW"),
            _ => "go-e Charger".to_owned(),
        });
        info.feature("energy.meter");
        if self == Self::V2 && can_switch_phases(status) {
            info.feature("phases.switch");
        }
        info
    }

    /// All readings of a status.
    pub fn outcome(self, status: &Json<'_>) -> Outcome {
        match self {
            Self::V1 => v1(status),
            Self::V2 => v2(status),
        }
    }

    /// Allow or forbid charging.
    pub fn enabled(self, enabled: bool) -> Wish {
        match self {
            Self::V1 => Wish { key: "alw", value: u32::from(enabled) },
            // 2 forces on, 1 forces off; `alw` itself is read only here.
            Self::V2 => Wish { key: "frc", value: if enabled { 2 } else { 1 } },
        }
    }

    /// Current per phase, in whole amperes, rounded down. The box knows no current below 6 A; a pause is `enabled(false)`.
    pub fn current(self, milliamps: u32) -> Result<Wish, Error> {
        if milliamps < MIN_MILLIAMPS {
            return Err(Error::unsupported(format!("{milliamps} mA: 6000 mA is the least it can offer")));
        }
        // Of the two keys of version 1 this one is not written to flash.
        let key = if self == Self::V1 { "amx" } else { "amp" };
        Ok(Wish { key, value: (milliamps / 1000).min(MAX_AMPS) })
    }

    /// One or three phases.
    pub fn phases(self, phases: u8) -> Result<Wish, Error> {
        match (self, phases) {
            (Self::V1, _) => Err(Error::unsupported("this charger cannot switch phases (API v1)")),
            (Self::V2, 1) => Ok(Wish { key: "psm", value: 1 }),
            (Self::V2, 3) => Ok(Wish { key: "psm", value: 2 }),
            (Self::V2, other) => Err(Error::unsupported(format!("{other} phases: it can do 1 or 3"))),
        }
    }

    /// The request that carries a wish.
    pub fn path(self, wish: Wish) -> String {
        let Wish { key, value } = wish;
        match self {
            Self::V1 => format!("/mqtt?payload={key}={value}"),
            Self::V2 => format!("/api/set?{key}={value}"),
        }
    }

    /// Whether the box took a wish: version 2 says so for the key, version 1 answers with the state after it.
    pub fn accepted(self, wish: Wish, text: &str) -> Result<(), Error> {
        let json = Json::parse(text)?;
        let Wish { key, value } = wish;
        let answer = json.get(key).ok_or_else(|| Error::protocol(format!("the answer does not mention {key}")))?;
        match (self, answer) {
            (Self::V2, Json::Bool(true)) => Ok(()),
            (Self::V2, Json::Text(reason)) => Err(Error::Other(format!("the charger refuses {key}={value}: {reason}"))),
            (Self::V1, _) if answer.integer() == Some(i64::from(value)) => Ok(()),
            (Self::V1, _) => Err(Error::Other(format!("the charger did not take {key}={value}"))),
            (Self::V2, _) => Err(Error::protocol(format!("the answer for {key} is neither true nor a reason"))),
        }
    }
}

/// One key to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    pub key: &'static str,
    pub value: u32,
}

/// Gives the decision about charging back to the box.
pub const RELEASE: Wish = Wish { key: "frc", value: 0 };

fn can_switch_phases(status: &Json<'_>) -> bool {
    status.get("psm").and_then(Json::integer).is_some()
}

/// Factors of `nrg`, the list of sixteen electrical values.
struct Scale {
    milliamps: f64,
    phase_watts: f64,
    total_watts: f64,
}

fn electrical(status: &Json<'_>, scale: &Scale, outcome: &mut Outcome) -> [Option<f64>; 3] {
    let value = |index: usize| status.get("nrg").and_then(|nrg| nrg.at(index)).and_then(Json::number);
    let scaled = |index, factor: f64| value(index).map(|value| value * factor);
    outcome.set("power.total", scaled(11, scale.total_watts));
    outcome.set_phases("power", [7, 8, 9].map(|index| scaled(index, scale.phase_watts)));
    outcome.set_phases("voltage", [0, 1, 2].map(value));
    let currents = [4, 5, 6].map(|index| scaled(index, scale.milliamps).map(f64::round));
    outcome.set_phases("current", currents);
    currents
}

fn in_use(currents: [Option<f64>; 3]) -> Option<f64> {
    let count = currents.iter().flatten().filter(|i| **i >= PHASE_IN_USE_MILLIAMPS).count();
    u8::try_from(count).ok().filter(|count| *count > 0).map(f64::from)
}

fn v2(status: &Json<'_>) -> Outcome {
    let mut outcome = Outcome::new();
    let number = |key: &str| status.get(key).and_then(Json::number);
    let connector = match status.get("car").and_then(Json::integer) {
        Some(1) => Connector::Available,
        Some(2) => Connector::Charging,
        Some(3 | 4) => Connector::Connected,
        // 0 and null are "unknown or error" by the description, 5 is an error.
        Some(0 | 5) | None => Connector::Fault,
        // Starting up, or something newer.
        Some(_) => Connector::Unknown,
    };
    outcome.set_connector(connector);
    let scale = Scale { milliamps: 1000.0, phase_watts: 1.0, total_watts: 1.0 };
    let currents = electrical(status, &scale, &mut outcome);
    outcome.set("error.code", number("err"));
    outcome.set("charging.enabled", status.get("alw").and_then(Json::flag).map(|on| f64::from(u8::from(on))));
    outcome.set("limit.current", number("amp").map(|amps| amps * 1000.0));
    outcome.set_some("limit.cable", number("cbl").map(|amps| amps * 1000.0));
    outcome.set("energy.session", number("wh"));
    outcome.set("energy.import", number("eto"));
    outcome.set_some("frequency", number("fhz"));
    let temperatures = status.get("tma").map(Json::elements).unwrap_or_default();
    outcome.set_some("temperature", temperatures.iter().filter_map(Json::number).reduce(f64::max));

    let forced = match status.get("psm").and_then(Json::integer) {
        Some(1) => Some(1.0),
        Some(2) => Some(3.0),
        _ => number("pnp").filter(|phases| (1.0..=3.0).contains(phases)),
    };
    let drawn = in_use(currents).filter(|_| connector == Connector::Charging);
    outcome.set_some("phases.active", drawn.or(forced));
    outcome.set("phases.switch", f64::from(u8::from(can_switch_phases(status))));
    if let Some(card) = status.get("lri") {
        // null is said too: the last tag is no longer the last tag.
        outcome.set_text("rfid", card.text().unwrap_or_default());
    }
    outcome
}

fn v1(status: &Json<'_>) -> Outcome {
    let mut outcome = Outcome::new();
    let number = |key: &str| status.get(key).and_then(Json::number);
    let error = number("err");
    let connector = match status.get("car").and_then(Json::integer) {
        _ if error.is_some_and(|code| code != 0.0) => Connector::Fault,
        Some(1) => Connector::Available,
        Some(2) => Connector::Charging,
        Some(3 | 4) => Connector::Connected,
        _ => Connector::Unknown,
    };
    outcome.set_connector(connector);
    let scale = Scale { milliamps: 100.0, phase_watts: 100.0, total_watts: 10.0 };
    electrical(status, &scale, &mut outcome);
    outcome.set("error.code", error);
    outcome.set("charging.enabled", status.get("alw").and_then(Json::flag).map(|on| f64::from(u8::from(on))));
    outcome.set("limit.current", number("amx").or_else(|| number("amp")).map(|amps| amps * 1000.0));
    outcome.set_some("limit.cable", number("cbl").map(|amps| amps * 1000.0));
    // Counted in 10 Ws, and in 0.1 kWh.
    outcome.set("energy.session", number("dws").map(|counts| counts * 10.0 / 3600.0));
    outcome.set("energy.import", number("eto").map(|counts| counts * 100.0));
    outcome.set_some("temperature", number("tmp"));
    let mask = status.get("pha").and_then(Json::integer).and_then(|mask| u32::try_from(mask).ok());
    // Bits 0 to 2 are behind the contactor, 3 to 5 before it.
    let behind = mask.map(|mask| (mask & 0b111).count_ones()).filter(|count| *count > 0);
    let supplied = mask.map(|mask| (mask >> 3 & 0b111).count_ones()).filter(|count| *count > 0);
    outcome.set_some("phases.active", behind.or(supplied).map(f64::from));
    outcome.set("phases.switch", 0.0);
    // It recommends five seconds between two requests.
    outcome.next_poll_ms = Some(5000);
    outcome
}
