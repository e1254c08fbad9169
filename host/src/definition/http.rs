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
        // The moment of the whole poll: when its last page came.
        let mut answered = None;
        for page in &self.pages {
            if page.is_settled(&self.readings) {
                continue;
            }
            let Address::Http { method, path } = &page.address else { continue };
            let failed = match fetch(&*self.http, *method, path, self.most).await {
                Ok(body) => {
                    let now = self.clock.now();
                    match page.take(&body, now, &mut self.readings) {
                        Ok(taken) => {
                            answered = Some(now);
                            troubles.extend(taken.trouble.map(|trouble| named(*method, path, &trouble)));
                            continue;
                        }
                        Err(trouble) => DriverError::Protocol(named(*method, path, &trouble)),
                    }
                }
                Err(error) => error,
            };
            troubles.push(failed.text().to_owned());
            failure = failure.or(Some(failed));
        }
        match failure {
            Some(failure) if answered.is_none() => Err(failure.with_text(troubles.join("; ")).into()),
            _ => {
                let mut outcome = self.readings.outcome(answered.unwrap_or_else(|| self.clock.now()));
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::transport::HttpResponse;

    /// Answers what the path names: a status, `text` with a text, `json` with JSON, `away` not at all.
    #[derive(Default)]
    struct Device(Mutex<Vec<String>>);

    impl Http for Device {
        fn send(&self, request: HttpRequest, most: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
            assert!(request.body.is_empty() && most == 1_000);
            self.0.lock().unwrap().push(format!("{:?} {}", request.method, request.path));
            let answer = |status, body: &str| Ok(HttpResponse { status, headers: Vec::new(), body: body.into() });
            let answer = match request.path.as_str() {
                "/json" => answer(200, r#"{"p": 5, "name": "x", "sn": "S1"}"#),
                "/text" => answer(200, "power=7 W"),
                "/away" => Err(HttpError::Timeout),
                "/denied" => Err(HttpError::Denied("outside".into())),
                "/large" => Err(HttpError::Limit("too much".into())),
                _ => answer(404, ""),
            };
            Box::pin(std::future::ready(answer))
        }
    }

    fn guest(variables: &str) -> (Arc<Device>, HttpGuest) {
        let text = format!("{{rtype: 1, dev_type: 'acme', {variables}}}");
        let parsed = ladekern_definition::parse("a.json", &text).unwrap_or_else(|findings| panic!("{findings:?}"));
        let device = Arc::<Device>::default();
        let readings = Readings::new(Arc::new(parsed.definition)).unwrap();
        (Arc::clone(&device), HttpGuest::new(readings, device, 1_000, Clock::start()))
    }

    fn asked(device: &Device) -> Vec<String> {
        std::mem::take(&mut device.0.lock().unwrap())
    }

    #[tokio::test]
    async fn each_address_is_asked_once_and_identity_only_until_it_is_known() {
        let (device, mut guest) = guest(
            "power_w: {address: '/json', type: 'float', query: 'p'}, serial: {address: 'POST /json', type: 'string', \
             query: 'sn'}, again: {address: 'GET /json', type: 'float', query: 'p'}, \
             soc: {address: '/text', type: 'float', regex: 'power=(\\\\d+)'}",
        );
        let outcome = guest.poll().await.unwrap();
        assert_eq!(outcome.trouble, None);
        assert_eq!(outcome.info.unwrap().serial.as_deref(), Some("S1"));
        let earlier = outcome.aged.iter().map(|(_, value, _)| value);
        let mut values: Vec<f64> =
            outcome.readings.iter().map(|(_, value)| value).chain(earlier).filter_map(|value| *value).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(
            (values, asked(&device)),
            (vec![5.0, 5.0, 7.0], vec!["Get /json".into(), "Post /json".into(), "Get /text".into()])
        );
        guest.poll().await.unwrap();
        assert_eq!(asked(&device), ["Get /json", "Get /text"]);
    }

    #[tokio::test]
    async fn what_fails_is_told_beside_what_came() {
        let (device, mut guest) = guest(
            "soc: {address: '/away', type: 'float'}, power_w: {address: '/json', type: 'float', query: 'p'}, \
             other: {address: '/json', type: 'float', query: 'name'}, gone: {address: '/gone', type: 'float'}",
        );
        let outcome = guest.poll().await.unwrap();
        assert_eq!(outcome.readings.len(), 1);
        let trouble = outcome.trouble.unwrap();
        for part in ["GET /away: no answer in time", "GET /json: other: ", "GET /gone: answered with status 404"] {
            assert!(trouble.contains(part), "{part} in {trouble}");
        }
        assert_eq!(asked(&device).len(), 3, "one failure is no reason to go without the others");
    }

    #[tokio::test]
    async fn what_brings_nothing_at_all_is_a_failure_of_its_kind() {
        for (path, expected) in [
            ("/away", "the device does not answer: GET /away: no answer in time"),
            ("/gone", "the device answered nonsense: GET /gone: answered with status 404"),
            ("/large", "(limits.http_body)"),
            ("/denied", "wrong configuration: GET /denied: not allowed: outside"),
            ("/text", "the device answered nonsense: GET /text: is no JSON"),
        ] {
            let (_, mut guest) = guest(&format!("power_w: {{address: '{path}', type: 'float', query: 'p'}}"));
            let said = guest.poll().await.unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }
}
