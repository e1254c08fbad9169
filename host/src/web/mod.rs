//! The HTTP server: `/cnf` of the contract, a page for people, `/healthz`. Decides nothing: it shows the site and
//! hands messages to fed devices.

mod cnf;
mod page;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use tokio::net::TcpListener;

use crate::contract::api::Api;

/// Largest body that is read.
const MAX_BODY: usize = 1 << 20;
/// A client that sends slower than this is not waited for.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Requests that are being answered get this long when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the server shows, and whom it feeds.
#[derive(Clone)]
pub struct WebState {
    /// What it shows and whom it commands.
    pub api: Api,
    /// Where the certificate is kept that is made at the first start.
    pub state_dir: PathBuf,
}

/// What the handlers share.
#[derive(Clone)]
struct App {
    state: WebState,
    /// Nobody but this machine can reach the listener, so that without a password writing is allowed.
    local: bool,
}

/// Serves on `listener` until `shutdown` is done.
///
/// # Errors
/// If the listener has no address or fails for good.
pub async fn serve(
    listener: TcpListener,
    state: WebState,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let local = listener.local_addr()?.ip().to_canonical().is_loopback();
    let app = Router::new()
        .route("/cnf", any(cnf::answer))
        .route("/", get(home))
        .route("/healthz", get(async || reply(StatusCode::OK, "application/json", "{\"status\":\"ok\"}")))
        .fallback(async |request: Request| {
            error(StatusCode::NOT_FOUND, &format!("there is no {}", request.uri().path()))
        })
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "use GET here"))
        .with_state(Arc::new(App { state, local }));

    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let graceful = async move {
        shutdown.await;
        // An error means that the server has ended already.
        let _ = stopping.send(());
    };
    let patience = async {
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        ended = axum::serve(listener, app).with_graceful_shutdown(graceful) => ended,
        // A client that keeps its connection open does not keep the host from ending.
        () = patience => Ok(()),
    }
}

async fn home(State(app): State<Arc<App>>) -> Response {
    let mut response = reply(StatusCode::OK, "text/html; charset=utf-8", page::render(&app.state.api.source.view()));
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
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
    reply(status, "application/json", serde_json::json!({ "error": message }).to_string())
}

#[cfg(test)]
mod tests;
