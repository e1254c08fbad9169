//! `/cnf`: the commands of the contract over HTTP. Errors are JSON with a status of their own (contract rule B24); the
//! exact answers are in `cfos-interfaces.md` 1.2 to 1.11 and 7.2.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;

use crate::contract::api::{Access, Args, COMMANDS, Call, Caller};

use super::access::challenge;
use super::{App, HeaderValue, error, peer, reply};

/// What a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    /// Nothing: it shows what everybody may see. So does what is no command, where the answer says so.
    Read,
    /// That no page of somebody else sent it: everybody may, and it changes something.
    Open,
    /// The admin, or a card or PIN of a user, which the command checks.
    Card,
    /// The admin.
    Admin,
}

fn door(cmd: Option<&str>) -> Door {
    let command = cmd.and_then(|cmd| COMMANDS.iter().find(|command| command.name == cmd));
    match command.map(|command| command.access) {
        None => Door::Read,
        Some(Access::Public) if cmd.is_some_and(|cmd| cmd.starts_with("get_")) => Door::Read,
        Some(Access::Public) => Door::Open,
        Some(Access::Own(_)) => Door::Card,
        Some(Access::Admin) => Door::Admin,
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
    let cmd = args.get("cmd");
    let door = door(cmd);
    if method == Method::HEAD && door != Door::Read {
        return not_allowed("GET, POST");
    }
    // Whoever gives a card or PIN may be guessing.
    let guess = args.get("rfid").is_some() || cmd == Some("set_user");
    let (parts, body) = request.into_parts();
    let peer = peer(&parts.extensions);
    let http = app.http();
    let admin = match door {
        // Credentials are not even looked at: a client with an old password goes on reading.
        Door::Read => Ok(false),
        Door::Open => app.access.anybody(&http, &parts.headers, peer),
        Door::Card => app.access.caller(&http, &parts.headers, peer).await,
        Door::Admin => app.access.admin(&http, &parts.headers, peer).await.map(|()| true),
    };
    let admin = match admin {
        Ok(admin) => admin,
        Err(denied) => return denied.into(),
    };
    let by_card = guess && !admin && matches!(door, Door::Open | Door::Card);
    if by_card && let Err(denied) = app.access.may_show_card(peer) {
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
        app.access.wrong_card(peer);
    }
    response
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, &format!("use {}", allow.replace(", ", " or ")));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
