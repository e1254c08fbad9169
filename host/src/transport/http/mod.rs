//! HTTP endpoints: one origin, one base path, the user's credentials. Requests stay below the base, bodies stay below
//! their limit, redirects stay on the origin. Uses no proxy of the system and, in this build, no TLS.

mod target;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url, redirect};
use tokio::runtime::Handle;

use self::target::{parse_base, resolve};
use super::{BoxFuture, Http, HttpError, HttpMethod, HttpRequest, HttpResponse};
use crate::config::EndpointConfig;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 5;

/// Headers that belong to the connection and are the host's.
const OWN_HEADERS: [&str; 8] =
    ["host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect"];

/// The client behind all endpoints with one pace: it keeps idle connections by origin and reuses them. A connection may
/// take so long, and the first request on it waits so long.
pub(super) fn new_client((connect_timeout, delay): (Option<Duration>, Duration)) -> reqwest::Client {
    let policy = redirect::Policy::custom(|attempt| {
        let first = attempt.previous().first().map(Url::origin);
        if first.is_some_and(|origin| origin != attempt.url().origin()) {
            let away = format!("redirected to {}, which is another host", attempt.url());
            return attempt.error(Refused(away));
        }
        if attempt.previous().len() > MAX_REDIRECTS {
            return attempt.error(Refused(format!("redirected more than {MAX_REDIRECTS} times")));
        }
        attempt.follow()
    });
    let mut builder = reqwest::Client::builder().no_proxy().redirect(policy).pool_idle_timeout(Duration::from_secs(60));
    if !delay.is_zero() {
        builder = builder.connector_layer(tower::layer::layer_fn(move |connect| Delayed { connect, delay }));
    }
    if let Some(timeout) = connect_timeout {
        builder = builder.connect_timeout(timeout + delay);
    }
    // Building fails only where a TLS back end does, and there is none.
    builder.build().unwrap_or_default()
}

/// A new connection is given out after a pause.
#[derive(Clone)]
struct Delayed<C> {
    connect: C,
    delay: Duration,
}

impl<C, R> tower::Service<R> for Delayed<C>
where
    C: tower::Service<R>,
    C::Future: Send + 'static,
    C::Response: Send,
    C::Error: Send,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connect.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let (connecting, delay) = (self.connect.call(target), self.delay);
        Box::pin(async move {
            let connection = connecting.await?;
            tokio::time::sleep(delay).await;
            Ok(connection)
        })
    }
}

/// Why a redirect was not followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// One origin as a device sees it.
pub(super) struct HttpEndpoint {
    io: Handle,
    client: reqwest::Client,
    base: Url,
    login: Option<(String, String)>,
    timeout: Duration,
    read_only: bool,
    slot: String,
}

impl HttpEndpoint {
    /// # Errors
    /// One sentence about a bad URL or an unreadable password file.
    pub(super) fn new(
        io: &Handle,
        client: reqwest::Client,
        url: &str,
        cfg: &EndpointConfig,
        default_port: Option<u16>,
        slot: &str,
    ) -> Result<Self, String> {
        let base = parse_base(url, default_port)?;
        let login = read_login(cfg)?;
        let (io, slot) = (io.clone(), slot.to_owned());
        // Where connecting has a time of its own, it does not come out of the request's.
        let timeout =
            cfg.request_timeout() + cfg.timing.connect_timeout.unwrap_or_default() + cfg.timing.delay_after_connect;
        Ok(Self { io, client, base, login, timeout, read_only: cfg.read_only, slot })
    }

    /// Checks everything that can be checked without a network.
    fn prepare(&self, request: HttpRequest, max_body: u64) -> Result<reqwest::RequestBuilder, HttpError> {
        let HttpRequest { method, path, headers, body } = request;
        if self.base.scheme() == "https" {
            let base = &self.base;
            return Err(HttpError::Tls(format!("{base}: this build of ladekern has no TLS; use http:// instead")));
        }
        if self.read_only && !matches!(method, HttpMethod::Get | HttpMethod::Head) {
            let slot = &self.slot;
            return Err(HttpError::Denied(format!(
                "the endpoint `{slot}` is read-only; only GET and HEAD are allowed"
            )));
        }
        if body.len() as u64 > max_body {
            return Err(HttpError::Limit(format!("a request body of {} bytes; at most {max_body}", body.len())));
        }
        let url = resolve(&self.base, &path).map_err(HttpError::Denied)?;
        let mut builder = self.client.request(method_of(method), url).headers(self.check_headers(headers)?);
        if let Some((user, password)) = &self.login {
            builder = builder.basic_auth(user, Some(password));
        }
        if !body.is_empty() {
            builder = builder.body(body);
        }
        Ok(builder)
    }

    fn check_headers(&self, headers: Vec<(String, String)>) -> Result<HeaderMap, HttpError> {
        let mut checked = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let own = OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own));
            if own || (self.login.is_some() && name.eq_ignore_ascii_case("authorization")) {
                return Err(HttpError::Denied(format!("the header `{name}` is set by the host")));
            }
            let bad =
                || HttpError::Denied(format!("the header `{name}` has a name or a value that HTTP does not allow"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            checked.append(header, HeaderValue::from_str(&value).map_err(|_| bad())?);
        }
        Ok(checked)
    }
}

impl Http for HttpEndpoint {
    fn send(&self, request: HttpRequest, max_body: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let prepared = self.prepare(request, max_body)?;
            let timeout = self.timeout;
            let work = async move {
                let exchange = exchange(prepared, max_body);
                tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(HttpError::Timeout))
            };
            // Sockets and timers belong to the runtime of the wires, whoever awaits.
            let mut task = AbortOnDrop(self.io.spawn(work));
            (&mut task.0).await.unwrap_or_else(|_| Err(HttpError::Unreachable("the host is shutting down".to_owned())))
        })
    }
}

/// A caller that goes away takes its request along.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(request: reqwest::RequestBuilder, max_body: u64) -> Result<HttpResponse, HttpError> {
    let mut response = request.send().await.map_err(translate)?;
    let too_large = || HttpError::Limit(format!("the answer's body is larger than {max_body} bytes"));
    if response.content_length().is_some_and(|length| length > max_body) {
        return Err(too_large());
    }
    let status = response.status().as_u16();
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let headers = headers.collect();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(translate)? {
        if (body.len() + chunk.len()) as u64 > max_body {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status, headers, body })
}

fn translate(error: reqwest::Error) -> HttpError {
    let text = innermost(&error);
    if error.is_redirect() {
        HttpError::Denied(text)
    } else if error.is_timeout() {
        HttpError::Timeout
    } else if error.is_connect() {
        let port = |url: &Url| url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let host = error.url().map(|url| format!("{}{}", url.host_str().unwrap_or_default(), port(url)));
        let host = host.unwrap_or_default();
        HttpError::Unreachable(format!("{host}: {text}"))
    } else {
        HttpError::Protocol(text)
    }
}

/// The last cause says what happened; the ones before say only that something did.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn method_of(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

fn read_login(cfg: &EndpointConfig) -> Result<Option<(String, String)>, String> {
    let Some(user) = &cfg.user else {
        return match &cfg.password_file {
            Some(_) => Err("`password_file` is given without `user`".to_owned()),
            None => Ok(None),
        };
    };
    let password = match &cfg.password_file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("the password file {} cannot be read: {error}", path.display()))?,
        None => String::new(),
    };
    Ok(Some((user.clone(), password.trim_end_matches(['\r', '\n']).to_owned())))
}
