//! The HTTP server: `/cnf` of the contract, a page for people, transactions, brokers, metrics. Decides nothing: it
//! shows the site and hands calls to the contract's commands. Who may do what is in [`access`] and, for people, in
//! `docs/security.md`.

mod access;
mod body;
mod cnf;
mod cross_site;
mod guard;
mod metrics;
mod page;
mod pulse;
mod server;
mod sim;
mod throttle;
mod tls;
mod transactions;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::config::HttpConfig;
use crate::contract::api::Api;
use crate::contract::api::BadArgs;

use access::Access;
use body::Bodies;

pub use tls::{Tls, TlsError};

/// Longest address of a request, in bytes.
const MAX_URI: usize = 8 << 10;
/// All headers of a request together, in bytes.
const MAX_HEADERS: usize = 32 << 10;
const JSON: &str = "application/json";

/// What the server shows, and with what it serves.
#[derive(Clone)]
pub struct WebState {
    /// What it shows and whom it commands.
    pub api: Api,
    /// Its certificate.
    pub tls: Tls,
}

/// What the handlers share.
struct App {
    state: WebState,
    access: Access,
    bodies: Bodies,
}

impl App {
    /// What counts at this moment.
    fn http(&self) -> HttpConfig {
        self.state.api.source.config.borrow().http.clone()
    }
}

/// A handler that takes this answers the admin only.
struct Admin;

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        app.access.admin(&app.http(), &parts.headers, peer(&parts.extensions)).await?;
        Ok(Self)
    }
}

/// Where a request came from.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

fn peer(extensions: &Extensions) -> IpAddr {
    // A request without it did not come through our server, and is nobody's.
    extensions.get::<Peer>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0)
}

/// Serves on `listener` until `shutdown` is done.
///
/// # Errors
/// If the listener has no address.
pub async fn serve(
    listener: TcpListener,
    state: WebState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listen = listener.local_addr()?;
    let tls = state.tls.clone();
    let routes = Arc::new(Routes(router(state, listen)));
    server::run(listener, tls, routes, shutdown).await;
    Ok(())
}

fn router(state: WebState, listen: SocketAddr) -> Router {
    let app = App { state, access: Access::new(listen), bodies: Bodies::default() };
    Router::new()
        .route("/cnf", any(cnf::answer))
        .route("/", get(home))
        .route("/ui/en/sim.htm", get(sim::page))
        .route("/ui/en/sim.js", get(async || reply(StatusCode::OK, "text/javascript; charset=utf-8", sim::SCRIPT)))
        .route("/ui/en/sim.css", get(async || reply(StatusCode::OK, "text/css; charset=utf-8", sim::STYLE)))
        .route("/api/transactions", get(transactions::list))
        .route("/api/brokers", get(metrics::brokers))
        .route("/metrics", get(metrics::text))
        .route("/healthz", get(async || reply(StatusCode::OK, JSON, "{\"status\":\"ok\"}")))
        .fallback(async |request: Request| {
            let path = crate::config::tree::shorten(request.uri().path());
            error(StatusCode::NOT_FOUND, &format!("there is no {path}"))
        })
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "use GET here"))
        .with_state(Arc::new(app))
}

struct Routes(Router);

impl server::Answers for Routes {
    async fn answer(self: Arc<Self>, mut request: Request, peer: IpAddr) -> Response {
        if let Some(refused) = oversized(&request) {
            return refused;
        }
        request.extensions_mut().insert(Peer(peer));
        match self.0.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// hyper reads more than we take, so that there is an answer to what is too large.
fn oversized(request: &Request) -> Option<Response> {
    let uri = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri > MAX_URI {
        let message = format!("the address of the request is longer than {MAX_URI} bytes");
        return Some(error(StatusCode::URI_TOO_LONG, &message));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > MAX_HEADERS {
        let message = format!("the headers of the request are larger than {MAX_HEADERS} bytes");
        return Some(error(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, &message));
    }
    None
}

async fn home(State(app): State<Arc<App>>) -> Response {
    let page = page::render(&app.state.api.source.view());
    html(page, "default-src 'none'; style-src 'unsafe-inline'")
}

/// A page with its content security policy. No other page may frame it.
fn html(page: String, policy: &str) -> Response {
    let mut response = reply(StatusCode::OK, "text/html; charset=utf-8", page);
    let policy = format!("{policy}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `{"error": "…"}`
fn error(status: StatusCode, message: &str) -> Response {
    reply(status, JSON, serde_json::json!({ "error": message }).to_string())
}

fn bad(message: impl Into<String>) -> BadArgs {
    BadArgs(message.into())
}

/// Whether a client asks for this kind before any other.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split([',', ';']).next().is_some_and(|first| first.trim().eq_ignore_ascii_case(kind))
}

#[cfg(test)]
mod tests;
