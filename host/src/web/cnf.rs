//! `/cnf`: the commands of the contract that this version has. Errors are JSON with a status of their own
//! (contract rule B24); the exact answers are in `cfos-interfaces.md` 1.2 to 1.9 and 7.2.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

use crate::config::{Config, HTTP_INPUT};
use crate::contract::{DevInfo, Params, dev_types, to_json};
use crate::site::{DeviceId, DeviceKind};

use super::query::arguments;
use super::{App, BODY_TIME, MAX_BODY, error, json};

/// The commands there are, for the message about one that is not.
const COMMANDS: &str = "get_dev_info, get_params, get_dev_types, set_ajax_meter, set_ajax_evse";

/// A body that is a little too large is read to its end: a client that is still sending when the connection closes
/// may never see why.
const READ_AT_MOST: usize = 2 * MAX_BODY;

/// Why a request gets no answer.
struct Refusal(StatusCode, String);

impl From<Refusal> for Response {
    fn from(Refusal(status, message): Refusal) -> Self {
        error(status, &message)
    }
}

fn bad(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, message.into())
}

/// Answers one request.
pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> Response {
    if ![Method::GET, Method::HEAD, Method::POST].contains(request.method()) {
        return error(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST");
    }
    let arguments = arguments(request.uri().query().unwrap_or_default());
    let headers = request.headers().clone();
    let body = match body(request).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into(),
    };
    let cmd = arguments.iter().find(|(name, _)| name == "cmd").map(|(_, value)| value.as_str());
    match cmd {
        Some("get_dev_info") => json(to_json(&DevInfo(&app.state.source.view()))),
        Some("get_params") => get_params(&app),
        Some("get_dev_types") => json(to_json(&dev_types(&app.state.source.config.borrow()))),
        Some("set_ajax_meter") => set_ajax(&app, DeviceKind::Meter, &arguments, &headers, &body),
        Some("set_ajax_evse") => set_ajax(&app, DeviceKind::Evse, &arguments, &headers, &body),
        Some(other) => {
            let other: String = other.chars().take(60).collect();
            error(StatusCode::BAD_REQUEST, &format!("unknown cmd \"{other}\"; this version has {COMMANDS}"))
        }
        None => error(StatusCode::BAD_REQUEST, &format!("cmd is missing; this version has {COMMANDS}")),
    }
}

async fn body(request: Request) -> Result<Bytes, Refusal> {
    let too_large = || Refusal(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {MAX_BODY} bytes"));
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > READ_AT_MOST) {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(request.into_body(), READ_AT_MOST);
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(body)) if body.len() <= MAX_BODY => Ok(body),
        // Too large, or a client that went away, and that one does not read the answer.
        Ok(_) => Err(too_large()),
        Err(_) => Err(Refusal(StatusCode::REQUEST_TIMEOUT, format!("the body did not come within {BODY_TIME:?}"))),
    }
}

/// The object of `get/params` and `dev_meta`, which the first generation of clients reads here.
fn get_params(app: &App) -> Response {
    let view = app.state.source.view();
    let mut params = serde_json::to_value(Params(&view)).unwrap_or_default();
    if let Value::Object(params) = &mut params {
        let types = dev_types(&view.config).into_iter().map(|(name, label)| (name, Value::String(label)));
        params.insert("dev_meta".into(), Value::Object(types.collect()));
    }
    json(to_json(&params))
}

fn set_ajax(
    app: &App,
    kind: DeviceKind,
    arguments: &[(String, String)],
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let done = may_write(app, headers)
        .and_then(|()| device(&app.state.source.config.borrow(), kind, arguments))
        .and_then(|id| feed(app, &id, arguments, body));
    match done {
        Ok(answer) => json(to_json(&answer)),
        Err(refusal) => refusal.into(),
    }
}

/// There is no admin password in this version, and without one only this machine may write.
fn may_write(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    if !app.local {
        let message = "there is no admin password, so settings and values are taken from this machine only; let http.listen be a loopback address, or feed over MQTT";
        return Err(Refusal(StatusCode::UNAUTHORIZED, message.into()));
    }
    // A page of the web open in a browser on this machine can send requests here, and must not.
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Refusal(StatusCode::FORBIDDEN, "requests of other web pages are not taken".into()));
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    match origin.map(|origin| origin.split_once("://").map_or(origin, |(_, host)| host)) {
        Some(origin) if origin != host => {
            Err(Refusal(StatusCode::FORBIDDEN, "requests of other web pages are not taken".into()))
        }
        _ => Ok(()),
    }
}

/// The fed device that is meant.
fn device(config: &Config, kind: DeviceKind, arguments: &[(String, String)]) -> Result<DeviceId, Refusal> {
    let (cmd, example) = match kind {
        DeviceKind::Meter => ("set_ajax_meter", "M1"),
        DeviceKind::Evse => ("set_ajax_evse", "E1"),
    };
    let text = arguments.iter().find(|(name, _)| name == "dev_id").map(|(_, value)| value.as_str());
    let text = text.ok_or_else(|| bad(format!("dev_id is missing, like dev_id={example}")))?;
    let id: DeviceId = text.parse().map_err(|error: crate::site::BadDeviceId| bad(error.to_string()))?;
    if id.kind() != kind {
        return Err(bad(format!("{cmd} is not for {id}; expected a device like {example}")));
    }
    match config.devices.iter().find(|device| device.id == id) {
        None => Err(bad(format!("there is no device {id}"))),
        Some(device) if device.device_type != HTTP_INPUT => {
            Err(bad(format!("{id} is of type {}, only devices of type {HTTP_INPUT} are fed", device.device_type)))
        }
        Some(device) if !device.enabled => Err(bad(format!("{id} is disabled"))),
        Some(_) => Ok(id),
    }
}

/// The message is the body, or the arguments where there is none.
fn feed(app: &App, id: &DeviceId, arguments: &[(String, String)], body: &Bytes) -> Result<Value, Refusal> {
    // Between a change of the configuration and the start of its devices there is a short while.
    let starting = || Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("{id} is just being started"));
    let input = app.state.feeds.get(id).ok_or_else(starting)?;
    let answer = if body.is_empty() {
        let values = arguments.iter().filter(|(name, _)| name != "cmd" && name != "dev_id");
        let message: Map<String, Value> =
            values.map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
        input.feed(&to_json(&message), false)
    } else {
        input.feed(body, false)
    };
    answer.map(|answer| answer.to_json()).map_err(|error| bad(error.to_string()))
}
