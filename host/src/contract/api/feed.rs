//! `set_ajax_meter` and `set_ajax_evse`: a message for a fed device, as the body or as arguments.

use serde_json::{Map, Value};

use crate::config::{Config, DeviceConfig, HTTP_INPUT};
use crate::device::http_input::{self, Orders};
use crate::site::{DeviceId, DeviceKind};

use super::{Answer, Api, Call, Refusal, bad, body, required};

pub(super) fn meter(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    feed(api, call, DeviceKind::Meter)
}

pub(super) fn evse(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    feed(api, call, DeviceKind::Evse)
}

fn feed(api: &Api, call: &Call, kind: DeviceKind) -> Result<Answer, Refusal> {
    let config = api.source.config.borrow().clone();
    let device = device(&config, kind, call)?;
    let message = if body(call).is_empty() {
        let values = call.args.iter().filter(|(name, _)| *name != "cmd" && *name != "dev_id");
        let message: Map<String, Value> =
            values.map(|(name, value)| (name.to_owned(), Value::String(value.to_owned()))).collect();
        super::to_json(&message).into()
    } else {
        call.body.clone()
    };
    let wrong = |error: http_input::FeedError| bad(error.to_string());
    match (device.enabled, kind) {
        (true, _) => {
            // Between a change of the configuration and the start of its devices there is a short while.
            let starting = || Refusal::NotNow(format!("{} is just being started", device.id));
            let input = api.feeds.get(&device.id).ok_or_else(starting)?;
            input.feed(&message, false).map(|answer| Answer::of(&answer.to_json())).map_err(wrong)
        }
        (false, DeviceKind::Meter) => Err(bad(format!("{} is disabled", device.id))),
        // The contract has an answer for this: the feeder learns that its charger is not to charge.
        (false, DeviceKind::Evse) => {
            http_input::parse(kind, &message).map_err(wrong)?;
            let orders = Orders { device_enabled: false, charging_enabled: false, paused: false, charging_current: 0 };
            Ok(Answer::of(&orders))
        }
    }
}

/// The fed device that is meant.
fn device<'a>(config: &'a Config, kind: DeviceKind, call: &Call) -> Result<&'a DeviceConfig, Refusal> {
    let (cmd, example) = match kind {
        DeviceKind::Meter => ("set_ajax_meter", "M1"),
        DeviceKind::Evse => ("set_ajax_evse", "E1"),
    };
    let text = required(call, "dev_id", example)?;
    let id: DeviceId = text.parse().map_err(|error: crate::site::BadDeviceId| bad(error.to_string()))?;
    if id.kind() != kind {
        return Err(bad(format!("{cmd} is not for {id}; expected a device like {example}")));
    }
    match config.devices.iter().find(|device| device.id == id) {
        None => Err(bad(format!("there is no device {id}"))),
        Some(device) if device.device_type != HTTP_INPUT => {
            Err(bad(format!("{id} is of type {}, only devices of type {HTTP_INPUT} are fed", device.device_type)))
        }
        Some(device) => Ok(device),
    }
}
