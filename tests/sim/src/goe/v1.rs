//! API v1: every value is a string, in the odd units of the first hardware. A refused write shows as an unchanged value.

use serde_json::json;

use super::{Charger, Store, car_code};
use crate::http::{Request, Response};
use crate::physics::{Evse, House, State};

/// `GET /status`
pub(super) fn status(charger: &Charger) -> Response {
    let store = charger.store();
    respond(charger, &store)
}

/// `GET /mqtt?payload=key=value`: changes and gives the whole status.
pub(super) fn set(charger: &Charger, request: &Request) -> Response {
    let mut store = charger.store();
    if let Some((key, value)) = request.get("payload").and_then(|payload| payload.split_once('=')) {
        let most = charger.world.with(|house| house.evses().get(charger.evse).map_or(16.0, Evse::max_a));
        let number = value.parse::<i64>().ok();
        let accepted = match (key, number) {
            ("amp" | "amx", Some(amps)) if (6..=most as i64).contains(&amps) => {
                store.flash_writes += u64::from(key == "amp");
                charger.command(&store, Some(amps as f64));
                true
            }
            ("alw", Some(allowed @ 0..=1)) => {
                // The old switch and the new one are the same thing inside: it also lifts a forced stop.
                store.alw = allowed == 1;
                store.frc = 0;
                charger.command(&store, None);
                true
            }
            ("ast", Some(access @ 0..=1)) => {
                store.acs = access;
                charger.command(&store, None);
                true
            }
            _ => false,
        };
        if accepted {
            store.sets.push((key.to_owned(), value.to_owned()));
        }
    }
    respond(charger, &store)
}

fn respond(charger: &Charger, store: &Store) -> Response {
    charger.world.with(|house| match house.evses().get(charger.evse) {
        Some(evse) => describe(charger, store, house, evse),
        None => Response::error(500),
    })
}

fn describe(charger: &Charger, store: &Store, house: &House, evse: &Evse) -> Response {
    let state = evse.state();
    let volts = evse.conductor_volts(&house.volts());
    let amps = evse.conductor_currents();
    let watts: Vec<f64> = volts.iter().zip(&amps).map(|(u, i)| u * i).collect();
    let whole = |value: f64| value.round() as i64;
    let mut nrg: Vec<i64> = volts.iter().map(|u| whole(*u)).collect();
    nrg.push(2);
    nrg.extend(amps.iter().map(|i| whole(i * 10.0)));
    nrg.extend(watts.iter().map(|p| whole(p / 100.0)));
    nrg.push(0);
    nrg.push(whole(watts.iter().sum::<f64>() / 10.0));
    nrg.extend(amps.iter().map(|i| if *i > 0.0 { 99 } else { 0 }));
    nrg.push(0);
    // Bits 3..5: supplied conductors, bits 0..2: those behind the closed contactor.
    let mask = (0u8..).zip(volts.iter().zip(&amps)).fold(0u8, |mask, (n, (u, i))| {
        mask | (u8::from(*u > 100.0) << (n + 3)) | (u8::from(state == State::C && *i > 0.0) << n)
    });
    let text = |value: i64| value.to_string();
    Response::json(&json!({
        "version": "B",
        "car": text(car_code(state, evse.car().is_full(), evse.session_wh()).min(4)),
        "amp": text(evse.active().limit_a as i64),
        "amx": text(evse.active().limit_a as i64),
        "err": if state == State::F { "8" } else { "0" },
        "ast": text(store.acs),
        "alw": if evse.active().enabled { "1" } else { "0" },
        "stp": "0",
        "cbl": if evse.is_plugged() { "20" } else { "0" },
        "pha": mask.to_string(),
        "tmp": "34",
        "dws": text((evse.session_wh() * 360.0) as i64),
        "dwo": "0",
        "uby": "0",
        "eto": text((evse.energy_wh() / 100.0) as i64),
        "nrg": nrg,
        "fwv": "040",
        "sse": charger.options.serial,
    }))
}
