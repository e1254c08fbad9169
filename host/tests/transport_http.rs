//! HTTP endpoints against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use ladekern::config::{EndpointConfig, EndpointUrl, Timing};
use ladekern::site::Clock;
use ladekern::transport::{Endpoint, Http, HttpError, HttpMethod, HttpRequest, HttpResponse, Transports};
use tokio::net::TcpListener;

type Peers = Arc<Mutex<BTreeSet<u16>>>;

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    addr
}

/// `METHOD path?query authorization body` of what arrived.
async fn echo(request: Request) -> String {
    let auth = request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    format!("{} {} {} {}", parts.method, parts.uri, auth.unwrap_or_default(), String::from_utf8_lossy(&body))
}

async fn device(peers: Peers) -> (SocketAddr, SocketAddr) {
    let other = serve(Router::new().fallback(any(|| async { "stolen" }))).await;
    let note = move |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
        peers.lock().unwrap().insert(peer.port());
        ""
    };
    let router = Router::new()
        .route("/peer", get(note))
        .route("/missing", get(|| async { (StatusCode::NOT_FOUND, [("x-why", "gone")], "no") }))
        .route("/moved", get(|| async { Redirect::temporary("/api/echo?moved") }))
        .route("/away", get(move || async move { Redirect::temporary(&format!("http://{other}/")) }))
        .route("/loop", get(|| async { Redirect::temporary("/loop") }))
        .route("/hang", get(|| async { std::future::pending::<()>().await }))
        .route("/large", get(|| async { Bytes::from(vec![b'x'; 100_000]) }))
        .route("/chunked", get(chunked))
        .fallback(any(echo));
    (serve(router).await, other)
}

/// A body whose length is not announced.
async fn chunked(_headers: HeaderMap) -> Response {
    let body = http_body_of(vec![b'x'; 100_000]);
    body.into_response()
}

fn http_body_of(bytes: Vec<u8>) -> Body {
    Body::new(Unsized(Some(Bytes::from(bytes))))
}

/// One chunk, no size hint.
struct Unsized(Option<Bytes>);

impl axum::body::HttpBody for Unsized {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

fn config(url: String) -> EndpointConfig {
    EndpointConfig {
        url: EndpointUrl::Http(url),
        unit: None,
        timeout: Some(Duration::from_secs(5)),
        min_gap: None,
        read_only: false,
        topic_prefix: String::new(),
        user: None,
        password_file: None,
        timing: Timing::default(),
    }
}

fn bind(cfg: &EndpointConfig) -> Result<Arc<dyn Http>, String> {
    let transports = Transports::new(tokio::runtime::Handle::current(), Clock::start(), None, "test".to_owned());
    match transports.endpoint(&"M1".parse().unwrap(), "", cfg, None, None) {
        Ok(Endpoint::Http(http)) => Ok(http),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    }
}

fn request(method: HttpMethod, path: &str) -> HttpRequest {
    HttpRequest { method, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
}

async fn fetch(http: &Arc<dyn Http>, path: &str) -> Result<HttpResponse, HttpError> {
    http.send(request(HttpMethod::Get, path), 10_000).await
}

fn text(response: &HttpResponse) -> String {
    String::from_utf8(response.body.clone()).unwrap()
}

#[tokio::test]
async fn requests_go_below_the_base_with_the_users_credentials() {
    let (addr, _) = device(Peers::default()).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "secret").unwrap();
    let mut cfg = config(format!("http://{addr}/api"));
    cfg.user = Some("me".to_owned());
    cfg.password_file = Some(file.path().to_owned());
    let http = bind(&cfg).unwrap();
    let answer = fetch(&http, "v1/cur?x=1").await.unwrap();
    // RFC 7617: base64 of `me:secret`.
    assert_eq!((answer.status, text(&answer)), (200, "GET /api/v1/cur?x=1 Basic bWU6c2VjcmV0 ".to_owned()));
    for (method, name) in [(HttpMethod::Post, "POST"), (HttpMethod::Put, "PUT"), (HttpMethod::Patch, "PATCH")] {
        let mut post = request(method, "/set");
        post.body = b"a=1".to_vec();
        let answer = http.send(post, 10_000).await.unwrap();
        assert_eq!(text(&answer), format!("{name} /api/set Basic bWU6c2VjcmV0 a=1"));
    }
    let mut forged = request(HttpMethod::Get, "x");
    forged.headers = vec![("Authorization".to_owned(), "Basic other".to_owned())];
    assert!(matches!(http.send(forged, 10_000).await, Err(HttpError::Denied(_))));
}

#[tokio::test]
async fn any_status_is_an_answer() {
    let (addr, _) = device(Peers::default()).await;
    let http = bind(&config(format!("http://{addr}"))).unwrap();
    let answer = fetch(&http, "missing").await.unwrap();
    assert_eq!((answer.status, text(&answer)), (404, "no".to_owned()));
    assert!(answer.headers.contains(&("x-why".to_owned(), "gone".to_owned())));
}

#[tokio::test]
async fn nothing_leads_out_of_the_endpoint() {
    let (addr, other) = device(Peers::default()).await;
    let http = bind(&config(format!("http://{addr}/api"))).unwrap();
    for path in [format!("http://{other}/"), format!("//{other}/"), "../echo".to_owned(), "%2e%2e/echo".to_owned()] {
        assert!(matches!(fetch(&http, &path).await, Err(HttpError::Denied(_))), "{path}");
    }
    let http = bind(&config(format!("http://{addr}"))).unwrap();
    assert!(matches!(fetch(&http, "away").await, Err(HttpError::Denied(text)) if text.contains("another host")));
    assert!(matches!(fetch(&http, "loop").await, Err(HttpError::Denied(text)) if text.contains("more than 5")));
    assert_eq!(text(&fetch(&http, "moved").await.unwrap()), "GET /api/echo?moved  ");
}

#[tokio::test]
async fn bodies_are_bounded_both_ways() {
    let (addr, _) = device(Peers::default()).await;
    let http = bind(&config(format!("http://{addr}"))).unwrap();
    for path in ["large", "chunked"] {
        assert!(matches!(fetch(&http, path).await, Err(HttpError::Limit(_))), "{path}");
        let whole = http.send(request(HttpMethod::Get, path), 100_000).await.unwrap();
        assert_eq!(whole.body.len(), 100_000);
    }
    let mut post = request(HttpMethod::Post, "x");
    post.body = vec![0; 10_001];
    assert!(matches!(http.send(post, 10_000).await, Err(HttpError::Limit(_))));
}

#[tokio::test]
async fn silence_absence_and_tls_are_told_apart() {
    let (addr, _) = device(Peers::default()).await;
    let mut cfg = config(format!("http://{addr}"));
    cfg.timeout = Some(Duration::from_millis(200));
    assert_eq!(fetch(&bind(&cfg).unwrap(), "hang").await, Err(HttpError::Timeout));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let http = bind(&config(format!("http://{nobody}"))).unwrap();
    assert!(matches!(fetch(&http, "x").await, Err(HttpError::Unreachable(text)) if text.contains("127.0.0.1")));
    let http = bind(&config(format!("https://{addr}"))).unwrap();
    assert!(matches!(fetch(&http, "x").await, Err(HttpError::Tls(text)) if text.contains("no TLS")));
}

#[tokio::test]
async fn a_read_only_endpoint_only_reads() {
    let (addr, _) = device(Peers::default()).await;
    let mut cfg = config(format!("http://{addr}"));
    cfg.read_only = true;
    let http = bind(&cfg).unwrap();
    for method in [HttpMethod::Post, HttpMethod::Put, HttpMethod::Patch, HttpMethod::Delete] {
        assert!(matches!(http.send(request(method, "x"), 10).await, Err(HttpError::Denied(_))));
    }
    assert_eq!(http.send(request(HttpMethod::Head, "large"), 10).await.unwrap().body, b"");
    assert_eq!(fetch(&http, "x").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let peers = Peers::default();
    let (addr, _) = device(peers.clone()).await;
    let http = bind(&config(format!("http://{addr}"))).unwrap();
    for _ in 0..5 {
        fetch(&http, "peer").await.unwrap();
    }
    assert_eq!(peers.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn bad_bindings_are_explained() {
    let mut cfg = config("http://box".to_owned());
    cfg.user = Some("me".to_owned());
    cfg.password_file = Some("/no/such/file".into());
    let error = bind(&cfg).err().unwrap();
    assert!(error.contains("/no/such/file") && error.contains("M1") && error.contains("address"), "{error}");
    cfg.user = None;
    assert!(bind(&cfg).err().unwrap().contains("without `user`"));
    assert!(bind(&config("ftp://box".to_owned())).is_err());
}

#[test]
fn an_endpoint_can_be_awaited_on_a_runtime_without_sockets_and_timers() {
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let guests = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (addr, _) = io.block_on(device(Peers::default()));
    let http = io.block_on(async { bind(&config(format!("http://{addr}"))).unwrap() });
    assert_eq!(guests.block_on(fetch(&http, "x")).unwrap().status, 200);
}
