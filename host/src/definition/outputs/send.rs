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
use crate::transport::{BoxFuture, Endpoint, HttpMethod, HttpRequest, Qos, Transports};

/// How long somebody else's server, or this manager, may take.
const PATIENCE: Duration = Duration::from_secs(5);
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
                tokio::time::timeout(PATIENCE, call).await.unwrap_or_else(|_| Err("no answer in time".into()))
            }
            Recipient::Topic(topic) => {
                let Endpoint::Mqtt(mqtt) = self.wire(&self.endpoint)? else {
                    return Err("a topic needs a device on MQTT".into());
                };
                let payload = Bytes::copy_from_slice(body.as_bytes());
                mqtt.publish(topic.clone(), payload, Qos::AtLeastOnce, false).await.map_err(|error| error.to_string())
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
        let answer = http.send(request, MOST_BYTES).await.map_err(|error| error.to_string())?;
        match answer.status {
            200..300 => Ok(()),
            status => Err(format!("answered with status {status}")),
        }
    }
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
