//! API v2: one JSON key per property, values in V, A, W and Wh. Never answers for keys it does not have.

use serde_json::{Map, Value, json};

use super::{Charger, Store, car_code};
use crate::http::{Request, Response};
use crate::physics::{Evse, House, State};

/// `GET /api/status[?filter=key,key]`
pub(super) fn status(charger: &Charger, request: &Request) -> Response {
    let all = properties(charger);
    let Some(filter) = request.get("filter") else { return Response::json(&Value::Object(all)) };
    let wanted: Map<String, Value> =
        filter.split(',').filter_map(|key| all.get(key).map(|value| (key.to_owned(), value.clone()))).collect();
    Response::json(&Value::Object(wanted))
}

/// `GET /api/set?key=json[&key=json]`: `true` or an error text per key; refused keys change nothing.
pub(super) fn set(charger: &Charger, request: &Request) -> Response {
    let mut store = charger.store();
    let mut answers = Map::new();
    let mut amp = None;
    let most = charger.world.with(|house| house.evses().get(charger.evse).map_or(16.0, Evse::max_a));
    for (key, text) in &request.query {
        let outcome = match serde_json::from_str(text) {
            Ok(value) => apply(&mut store, &mut amp, key, &value, most),
            Err(error) => Err(format!("could not parse JSON: {error}")),
        };
        if outcome.is_ok() {
            store.sets.push((key.clone(), text.clone()));
        }
        answers.insert(key.clone(), outcome.map_or_else(Value::String, |()| Value::Bool(true)));
    }
    charger.command(&store, amp);
    Response::json(&Value::Object(answers))
}

fn apply(store: &mut Store, amp: &mut Option<f64>, key: &str, value: &Value, most: f64) -> Result<(), String> {
    let whole = |range: std::ops::RangeInclusive<i64>| match value.as_i64() {
        Some(n) if range.contains(&n) => Ok(n),
        _ => Err(format!("{value} is not a whole number from {} to {}", range.start(), range.end())),
    };
    match key {
        "amp" => *amp = Some(whole(6..=most as i64)? as f64),
        "frc" => store.frc = whole(0..=2)?,
        "psm" => store.psm = whole(0..=2)?,
        "acs" => store.acs = whole(0..=2)?,
        "lmo" => store.lmo = whole(3..=5)?,
        "trx" if value.is_null() => store.trx = None,
        "trx" => store.trx = Some(whole(0..=10)?),
        "dwo" if value.is_null() => store.dwo = None,
        "dwo" => store.dwo = Some(value.as_f64().ok_or("dwo must be a number or null")?),
        "sua" => store.sua = value.as_bool().ok_or("sua must be true or false")?,
        "alw" | "car" | "nrg" | "acu" | "wh" | "eto" | "err" | "pha" | "fwv" | "sse" | "ama" => {
            return Err(format!("{key} is read only"));
        }
        _ => return Err(format!("unknown key {key}")),
    }
    Ok(())
}

fn properties(charger: &Charger) -> Map<String, Value> {
    let store = charger.store();
    charger.world.with(|house| match house.evses().get(charger.evse) {
        Some(evse) => describe(charger, &store, house, evse),
        None => Map::new(),
    })
}

fn describe(charger: &Charger, store: &Store, house: &House, evse: &Evse) -> Map<String, Value> {
    let state = evse.state();
    let charging = state == State::C;
    let volts = evse.conductor_volts(&house.volts());
    let amps = evse.conductor_currents();
    let [u1, u2, u3] = volts;
    let [i1, i2, i3] = amps;
    let (p1, p2, p3) = (u1 * i1, u2 * i2, u3 * i3);
    let factor = |amps: f64| if amps > 0.0 { 99.6 } else { 0.0 };
    let supplied = volts.map(|u| u > 100.0);
    let behind = amps.map(|i| charging && i > 0.0);
    let allowed = evse.active().enabled;
    let properties = json!({
        "car": car_code(state, evse.car().is_full(), evse.session_wh()),
        "alw": allowed,
        "acu": charging.then(|| evse.offer().floor() as i64),
        "amp": evse.active().limit_a as i64,
        "ama": evse.max_a() as i64,
        "mca": 6,
        "err": if state == State::F { 8 } else { 0 },
        "frc": store.frc,
        "psm": store.psm,
        "fsp": evse.active().one_phase,
        "pnp": behind.iter().filter(|on| **on).count(),
        "pha": behind.iter().chain(&supplied).collect::<Vec<_>>(),
        "nrg": [
            u1, u2, u3, 1.2, milli(i1), milli(i2), milli(i3), p1, p2, p3, 0.0, p1 + p2 + p3,
            factor(i1), factor(i2), factor(i3), 0.0
        ],
        "wh": evse.session_wh(),
        "eto": evse.energy_wh().round() as i64,
        "modelStatus": model_status(store, state),
        "trx": store.trx,
        "acs": store.acs,
        "lmo": store.lmo,
        "dwo": store.dwo,
        "sua": store.sua,
        "lri": Value::Null,
        "cards": [],
        "tma": [31.25, 33.0],
        "cbl": evse.is_plugged().then_some(20),
        "fhz": house.hertz(),
        "fwv": "055.7",
        "sse": charger.options.serial,
        "var": 11,
    });
    match properties {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn milli(amps: f64) -> f64 {
    (amps * 1000.0).round() / 1000.0
}

/// Why it charges or not: 3 forced on, 4 forced off, 2 waits for authorisation, 7 fault, 15 default.
fn model_status(store: &Store, state: State) -> i64 {
    match store.frc {
        _ if state == State::F => 7,
        1 => 4,
        2 => 3,
        _ if store.acs != 0 && store.trx.is_none() => 2,
        _ => 15,
    }
}
