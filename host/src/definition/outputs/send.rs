//! One request to its recipient. What comes out wrong is one sentence without the request itself: addresses hold keys and
//! passwords.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ladekern_definition::{Method, OutputRequest, Recipient};
use reqwest::Url;

use super::Manager;
use crate::config::{DeviceConfig, EndpointConfig, EndpointUrl, percent_decode};
use crate::contract::api::{Api, Args, Call, Caller};
use crate::site::DeviceId;
use crate::transport::{BoxFuture, Endpoint, HttpMethod, HttpRequest, Transports};

/// How long somebody else's server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a broker may take; one that is away takes nothing before its connection is back.
const BROKER_PATIENCE: Duration = Duration::from_secs(2);
/// How long this manager may take: longer than `modbus_set`, which then says why it gave up.
const MANAGER_PATIENCE: Duration = Duration::from_secs(10);
/// From so many bytes on a part of a path with a digit may be a key and is not shown.
const KEY_BYTES: usize = 16;
/// Bytes of an answer that are read; nobody looks at them.
const MOST_BYTES: u64 = 1 << 20;

/// Where the requests of one device go.
pub(super) struct Sender {
    pub device: DeviceId,
    /// The device's own.
    pub endpoint: EndpointConfig,
    pub transports: Transports,
    pub manager: Arc<dyn Manager>,
}

impl Sender {
    /// # Errors
    /// The sentence.
    pub async fn send(&self, request: &OutputRequest) -> Result<(), String> {
        let body = request.body.as_deref().unwrap_or_default();
        match &request.recipient {
            Recipient::Device(path) => self.http(&self.endpoint, request, path, Vec::new()).await,
            Recipient::Url(text) => self.url(request, text).await,
            Recipient::Manager(query) => {
                let call = self.manager.call(query, body);
                tokio::time::timeout(MANAGER_PATIENCE, call).await.unwrap_or_else(|_| Err("no answer in time".into()))
            }
            Recipient::Topic(topic) => {
                let Endpoint::Mqtt(mqtt) = self.wire(&self.endpoint)? else {
                    return Err("a topic needs a device on MQTT".into());
                };
                // Not just queued: what waits for a broker would come when it is no longer true.
                let delivered = mqtt.deliver(topic.clone(), Bytes::copy_from_slice(body.as_bytes()));
                match tokio::time::timeout(BROKER_PATIENCE, delivered).await {
                    Ok(delivered) => delivered.map_err(|error| error.to_string()),
                    Err(_) => Err(format!("the broker has not taken it within {} s", BROKER_PATIENCE.as_secs())),
                }
            }
        }
    }

    fn wire(&self, endpoint: &EndpointConfig) -> Result<Endpoint, String> {
        let made = self.transports.endpoint(&self.device, DeviceConfig::ADDRESS_SLOT, endpoint, None, None);
        made.map_err(|error| error.reason)
    }

    async fn url(&self, request: &OutputRequest, text: &str) -> Result<(), String> {
        let url = Url::parse(text).map_err(|error| format!("its address is no URL: {error}"))?;
        let mut headers = Vec::new();
        if !url.username().is_empty() || url.password().is_some() {
            let decoded = |text: &str| percent_decode(text).unwrap_or_else(|| text.to_owned());
            let login = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
            headers.push(("authorization".to_owned(), format!("Basic {}", STANDARD.encode(login))));
        }
        let endpoint = EndpointConfig {
            url: EndpointUrl::Http(url.origin().ascii_serialization()),
            timeout: Some(PATIENCE),
            // Of the device itself, not of others.
            read_only: false,
            user: None,
            password_file: None,
            ..self.endpoint.clone()
        };
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        self.http(&endpoint, request, &format!("{}{query}", url.path()), headers).await
    }

    async fn http(
        &self,
        endpoint: &EndpointConfig,
        request: &OutputRequest,
        path: &str,
        mut headers: Vec<(String, String)>,
    ) -> Result<(), String> {
        let Endpoint::Http(http) = self.wire(endpoint)? else {
            return Err("a path needs a device that is read over HTTP".into());
        };
        let body = request.body.clone().unwrap_or_default();
        if !body.is_empty() {
            let json = body.trim_start().starts_with(['{', '[']);
            let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
            headers.push(("content-type".to_owned(), kind.to_owned()));
        }
        let method = match request.method {
            Method::Get => HttpMethod::Get,
            Method::Post => HttpMethod::Post,
            Method::Put => HttpMethod::Put,
        };
        let request = HttpRequest { method, path: path.to_owned(), headers, body: body.into_bytes() };
        let sent = http.send(request, MOST_BYTES).await;
        let answer = sent.map_err(|error| error.to_string().replace(path, &public_path(path)))?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(format!("answered with status {status}")),
        }
    }
}

/// Where a request goes, for people: without passwords, and without what stands where keys and passwords stand, in
/// queries, bodies and long parts of paths.
pub(super) fn shown(request: &OutputRequest) -> String {
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
    };
    match &request.recipient {
        Recipient::Device(path) => format!("{method} {}", public_path(path)),
        Recipient::Url(text) => match Url::parse(text) {
            Ok(url) => format!("{method} {}{}", url.origin().ascii_serialization(), public_path(url.path())),
            Err(_) => format!("{method} of a URL"),
        },
        Recipient::Manager(query) => {
            let args = Args::parse(query).unwrap_or_default();
            format!("http://localhost/cnf?cmd={}", args.get("cmd").unwrap_or_default())
        }
        Recipient::Topic(topic) => format!("topic {topic}"),
    }
}

fn public_path(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let is_key = |part: &str| part.len() >= KEY_BYTES && part.bytes().any(|byte| byte.is_ascii_digit());
    path.split('/').map(|part| if is_key(part) { "…" } else { part }).collect::<Vec<_>>().join("/")
}

impl Manager for Api {
    fn call<'a>(&'a self, query: &'a str, body: &'a str) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let args = Args::parse(query).map_err(|error| error.to_string())?;
            let body = Bytes::copy_from_slice(body.as_bytes());
            let caller = Caller { admin: true, address: None };
            let answer = Api::call(self, &Call { args, body, caller }).await;
            let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            match value.get("error").and_then(serde_json::Value::as_str) {
                Some(error) => Err(error.to_owned()),
                None if answer.status >= 400 => Err(format!("answered with status {}", answer.status)),
                // The contract's answer with status 200.
                None if value == "unknown device" => Err("unknown device".to_owned()),
                None => Ok(()),
            }
        })
    }
}
