//! Cases of `fixtures/`, the requests of each action, and the order of requests.

use ladekern_plugin_sdk::fixtures::{self, Recorded};
use ladekern_plugin_sdk::{Error, Info, Json, http};

use crate::GoE;
use crate::decode::{Api, RELEASE};

fn device(answers: &[(&str, u16, &str)]) -> Recorded {
    let answer = |(path, status, body): &(&str, u16, &str)| {
        let body = ladekern_plugin_sdk::json::quote(body);
        format!(r#"{{"request":"GET {path}","status":{status},"body":{body}}}"#)
    };
    let answers: Vec<String> = answers.iter().map(answer).collect();
    Recorded::parse(&format!(r#"{{"kind":"http","responses":[{}]}}"#, answers.join(",")), None).unwrap()
}

fn start(device: Recorded, config: &str) -> Result<(GoE<Recorded>, Info), Error> {
    GoE::start(device, &Json::parse(config).unwrap())
}

const V2: (&str, u16, &str) =
    ("/api/status", 200, r#"{"car":1,"alw":true,"amp":16,"psm":2,"fwv":"055.7","sse":"123456","var":11}"#);
const V1: (&str, u16, &str) = ("/status", 200, r#"{"car":"1","alw":"1","amp":"16","fwv":"040","sse":"000815"}"#);

#[test]
fn recorded_answers() {
    fixtures::check_all(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"), |case| {
        let mut device = Some(case.device()?);
        case.with_config(|config| {
            Ok(GoE::start(device.take().unwrap_or_default(), config)
                .and_then(|(driver, info)| driver.read_all().map(|outcome| (outcome, info))))
        })
    })
    .unwrap();
}

#[test]
fn actions_are_the_documented_requests() {
    let path = |api: Api, wish| api.path(wish);
    assert_eq!(path(Api::V2, Api::V2.current(14_000).unwrap()), "/api/set?amp=14");
    assert_eq!(path(Api::V2, Api::V2.enabled(true)), "/api/set?frc=2");
    assert_eq!(path(Api::V2, Api::V2.enabled(false)), "/api/set?frc=1");
    assert_eq!(path(Api::V2, Api::V2.phases(1).unwrap()), "/api/set?psm=1");
    assert_eq!(path(Api::V2, Api::V2.phases(3).unwrap()), "/api/set?psm=2");
    assert_eq!(path(Api::V2, RELEASE), "/api/set?frc=0");
    assert_eq!(path(Api::V1, Api::V1.current(14_000).unwrap()), "/mqtt?payload=amx=14");
    assert_eq!(path(Api::V1, Api::V1.enabled(false)), "/mqtt?payload=alw=0");
    assert!(matches!(Api::V1.phases(1), Err(Error::Unsupported(_))));
    assert!(matches!(Api::V2.phases(2), Err(Error::Unsupported(_))));
}

#[test]
fn a_current_is_never_rounded_up_and_never_below_6_a() {
    assert_eq!(Api::V2.current(6_999).unwrap().value, 6);
    assert_eq!(Api::V2.current(u32::MAX).unwrap().value, 32);
    for milliamps in [0, 1, 5_999] {
        assert!(matches!(Api::V2.current(milliamps), Err(Error::Unsupported(_))), "{milliamps}");
    }
}

#[test]
fn an_answer_is_believed_key_by_key() {
    let wish = Api::V2.current(14_000).unwrap();
    assert_eq!(Api::V2.accepted(wish, r#"{"amp":true}"#), Ok(()));
    let refused = Api::V2.accepted(wish, r#"{"amp":"value out of range"}"#);
    assert!(matches!(refused, Err(Error::Other(text)) if text.contains("value out of range")));
    for body in [r#"{"frc":true}"#, r#"{"amp":false}"#, r#"{"amp":null}"#, "", "OK"] {
        assert!(matches!(Api::V2.accepted(wish, body), Err(Error::Protocol(_))), "{body}");
    }
    let wish = Api::V1.current(14_000).unwrap();
    assert_eq!(Api::V1.accepted(wish, r#"{"amp":"16","amx":"14"}"#), Ok(()));
    assert!(matches!(Api::V1.accepted(wish, r#"{"amp":"16","amx":"16"}"#), Err(Error::Other(_))));
}

#[test]
fn v1_is_asked_only_when_v2_is_not_there() {
    let (driver, info) = start(device(&[V2, V1]), "{}").unwrap();
    assert_eq!(driver.api, Api::V2);
    assert_eq!(info.firmware.as_deref(), Some("055.7"));
    assert!(info.features.iter().any(|f| f == "phases.switch"));
    assert_eq!(driver.port.take_sent().len(), 1);

    for v2 in [
        ("/api/status", 404, ""),
        ("/api/status", 200, "<html>"),
        ("/api/status", 200, "{}"),
        ("/api/status", 200, V1.2),
    ] {
        let (driver, info) = start(device(&[v2, V1]), "{}").unwrap();
        assert_eq!(driver.api, Api::V1);
        assert_eq!(info.serial.as_deref(), Some("000815"));
        assert!(!info.features.iter().any(|f| f == "phases.switch"));
    }
    let neither = start(device(&[]), "{}").map(|_| ());
    assert!(matches!(neither, Err(Error::Protocol(text)) if text.contains("app")));
    assert!(start(device(&[V1]), r#"{"api":"v2"}"#).is_err());
    assert_eq!(start(device(&[V2, V1]), r#"{"api":"v1"}"#).unwrap().0.api, Api::V1);
}

#[test]
fn the_box_gets_its_decision_back_only_if_it_was_forced_on() {
    let set = ("/api/set", 200, r#"{"frc":true}"#);
    let (mut driver, _) = start(device(&[V2, set]), "{}").unwrap();
    driver.port.take_sent();
    driver.release().unwrap();
    assert!(driver.port.take_sent().is_empty());
    driver.enable(true).unwrap();
    driver.release().unwrap();
    driver.release().unwrap();
    assert_eq!(driver.port.take_sent(), ["GET /api/set?frc=2", "GET /api/set?frc=0"]);

    // A paused box stays paused: there was no current for it, and now nobody looks.
    driver.enable(true).unwrap();
    driver.enable(false).unwrap();
    driver.port.take_sent();
    driver.release().unwrap();
    assert!(driver.port.take_sent().is_empty());

    // The next version knows what this one has done.
    driver.enable(true).unwrap();
    let (mut next, _) = start(device(&[V2, set]), "{}").unwrap();
    assert!(next.take_over(&driver.snapshot()));
    next.port.take_sent();
    next.release().unwrap();
    assert_eq!(next.port.take_sent(), ["GET /api/set?frc=0"]);
    assert!(!next.take_over(b"nonsense"));

    let (mut stays, _) = start(device(&[V2, set]), r#"{"release_on_close":false}"#).unwrap();
    stays.enable(true).unwrap();
    stays.port.take_sent();
    stays.release().unwrap();
    assert!(stays.port.take_sent().is_empty());
}

/// A box that is not there.
struct Silent;

impl ladekern_plugin_sdk::HttpPort for Silent {
    fn send(&self, _: &http::Request) -> Result<http::Response, http::Error> {
        Err(http::Error::Timeout)
    }
}

#[test]
fn silence_is_offline_and_refusal_is_the_users_to_solve() {
    let silent = GoE::start(Silent, &Json::parse("{}").unwrap()).map(|_| ());
    assert!(matches!(silent, Err(Error::Offline(_))));
    let refused = start(device(&[("/api/status", 401, "")]), "{}").map(|_| ());
    assert!(matches!(refused, Err(Error::Config(_))));
}

#[test]
fn garbage_never_panics_and_never_is_a_value() {
    for api in [Api::V1, Api::V2] {
        for value in ["null", "[]", "{}", "\"\"", "\"x\"", "1e999", "[1]", "true", "-1"] {
            let text = format!(
                r#"{{"car":{value},"alw":{value},"amp":{value},"nrg":{value},"eto":{value},"wh":{value},"dws":{value},"pha":{value},"tma":{value}}}"#
            );
            let Ok(status) = api.read(&text) else { continue };
            let outcome = api.outcome(&status);
            assert_eq!(outcome.value("power.total"), Some(None), "{text}");
            assert!(outcome.readings.iter().all(|r| r.value.is_none_or(f64::is_finite)));
        }
        for text in ["", "[]", "{}", "{\"car\"", "null"] {
            assert!(api.read(text).is_err(), "{text}");
        }
    }
}
