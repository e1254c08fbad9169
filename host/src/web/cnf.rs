//! `/cnf`: the commands of the contract over HTTP. Errors are JSON with a status of their own (contract rule B24); the
//! exact answers are in `cfos-interfaces.md` 1.2 to 1.11 and 7.2.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;

use crate::contract::api::{Args, Call, Caller};

use super::access::challenge;
use super::{App, HeaderValue, error, peer, reply};

/// Whom a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Everybody.
    Public,
    /// Also those who show a card or PIN of a user; the command checks it.
    Card,
    /// The admin.
    Admin,
}

/// Commands that are not here are the admin's, so that a new one is closed until somebody opens it.
pub(super) fn class(cmd: &str) -> Class {
    match cmd {
        "get_dev_info" | "get_params" | "get_dev_types" => Class::Public,
        "enter_rfid" | "override_device" | "set_user" => Class::Card,
        _ => Class::Admin,
    }
}

/// Answers one request.
pub(super) async fn answer(State(app): State<Arc<App>>, request: Request) -> Response {
    let method = request.method();
    if ![Method::GET, Method::HEAD, Method::POST].contains(method) {
        return not_allowed("GET, HEAD, POST");
    }
    let args = match Args::parse(request.uri().query().unwrap_or_default()) {
        Ok(args) => args,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
    };
    // Without a command nothing is done, and everybody is told so.
    let class = args.get("cmd").map_or(Class::Public, class);
    if method == Method::HEAD && class != Class::Public {
        return not_allowed("GET, POST");
    }
    let (parts, body) = request.into_parts();
    let peer = peer(&parts.extensions);
    let http = app.http();
    let admin = match class {
        // Credentials are not even looked at: a client with an old password goes on reading.
        Class::Public => Ok(false),
        Class::Card => app.access.caller(&http, &parts.headers, peer).await,
        Class::Admin => app.access.admin(&http, &parts.headers, peer).await.map(|()| true),
    };
    let admin = match admin {
        Ok(admin) => admin,
        Err(denied) => return denied.into(),
    };
    let by_card = class == Class::Card && !admin;
    if by_card && let Err(denied) = app.access.may_try(peer) {
        return denied.into();
    }
    let body = match app.bodies.read(&parts.headers, body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let call = Call { args, body, caller: Caller { admin, address: Some(peer) } };
    let answer = app.state.api.call(&call).await;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = reply(status, "application/json", answer.body);
    if status == StatusCode::UNAUTHORIZED {
        challenge(response.headers_mut());
    }
    if by_card && [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
        app.access.wrong_pin(peer);
    }
    response
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("use {}", allow.replace(", ", " or ")));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
