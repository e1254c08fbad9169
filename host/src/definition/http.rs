//! Devices that are asked over HTTP (`rtype` 1): each address once per poll, one after the other, because a small
//! device serves one request at a time. What one of them does not give is no reason to go without the others.

use std::sync::Arc;

use ladekern_definition::{Address, Method};

use super::documents::{Page, pages};
use super::readings::Readings;
use crate::device::guest::{Guest, Opened};
use crate::runtime::{CallError, DriverError};
use crate::site::{Clock, Outcome};
use crate::transport::{BoxFuture, Http, HttpError, HttpMethod, HttpRequest};

/// See the module.
pub(super) struct HttpGuest {
    readings: Readings,
    pages: Vec<Page>,
    http: Arc<dyn Http>,
    /// Bytes an answer may have.
    most: u64,
    clock: Clock,
}

impl HttpGuest {
    pub fn new(readings: Readings, http: Arc<dyn Http>, most: u64, clock: Clock) -> Self {
        let pages = pages(readings.definition());
        Self { readings, pages, http, most, clock }
    }

    async fn read(&mut self) -> Result<Outcome, CallError> {
        let mut troubles = Vec::new();
        let mut failure = None;
        let mut answered = false;
        for page in &self.pages {
            if page.is_settled(&self.readings) {
                continue;
            }
            let Address::Http { method, path } = &page.address else { continue };
            let failed = match fetch(&*self.http, *method, path, self.most).await {
                Ok(body) => match page.take(&body, self.clock.now(), &mut self.readings) {
                    Ok(taken) => {
                        answered = true;
                        troubles.extend(taken.trouble.map(|trouble| named(*method, path, &trouble)));
                        continue;
                    }
                    Err(trouble) => DriverError::Protocol(named(*method, path, &trouble)),
                },
                Err(error) => error,
            };
            troubles.push(detail(&failed).to_owned());
            failure = failure.or(Some(failed));
        }
        match failure {
            Some(failure) if !answered => Err(failure.into()),
            _ => {
                let mut outcome = self.readings.outcome(self.clock.now());
                outcome.trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
                Ok(outcome)
            }
        }
    }
}

fn word(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
    }
}

fn named(method: Method, path: &str, trouble: &str) -> String {
    format!("{} {path}: {trouble}", word(method))
}

fn detail(error: &DriverError) -> &str {
    match error {
        DriverError::Offline(text)
        | DriverError::Protocol(text)
        | DriverError::Config(text)
        | DriverError::Unsupported(text)
        | DriverError::Other(text) => text,
    }
}

async fn fetch(http: &dyn Http, method: Method, path: &str, most: u64) -> Result<Vec<u8>, DriverError> {
    let verb = match method {
        Method::Get => HttpMethod::Get,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
    };
    let request = HttpRequest { method: verb, path: path.to_owned(), headers: Vec::new(), body: Vec::new() };
    let answer = http.send(request, most).await.map_err(|error| {
        let text = named(method, path, &error.to_string());
        match error {
            HttpError::Timeout | HttpError::Unreachable(_) => DriverError::Offline(text),
            HttpError::Protocol(_) | HttpError::Tls(_) => DriverError::Protocol(text),
            HttpError::Limit(_) => DriverError::Protocol(format!("{text} (limits.http_body)")),
            HttpError::Denied(_) => DriverError::Config(text),
        }
    })?;
    match answer.status {
        200..300 => Ok(answer.body),
        status => Err(DriverError::Protocol(named(method, path, &format!("answered with status {status}")))),
    }
}

impl Guest for HttpGuest {
    fn open<'a>(&'a mut self, _config: &'a str) -> BoxFuture<'a, Result<Opened, CallError>> {
        // Nothing is asked yet: a device that is not there now is no reason not to start.
        Box::pin(async move { Ok(Opened::Driver(self.readings.info())) })
    }

    fn poll(&mut self) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(self.read())
    }
}
