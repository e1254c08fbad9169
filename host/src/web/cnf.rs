//! `/cnf`: the commands of the contract that this version has. Errors are JSON with a status of their own
//! (contract rule B24); the exact answers are in `cfos-interfaces.md` 1.2 to 1.9 and 7.2.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;

use crate::contract::api::{Args, Call, Caller};

use super::{App, BODY_TIME, MAX_BODY, error, reply};

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

/// Answers one request.
pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> Response {
    if ![Method::GET, Method::HEAD, Method::POST].contains(request.method()) {
        return error(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST");
    }
    let args = match Args::parse(request.uri().query().unwrap_or_default()) {
        Ok(args) => args,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
    };
    let admin = may_write(&app, request.headers()).is_ok();
    let body = match body(request).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into(),
    };
    let call = Call { args, body, caller: Caller { admin, address: None } };
    let answer = app.state.api.call(&call).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, "application/json", answer.body)
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
