//! Cases of `fixtures/`, and what has no place in a recorded message.

use ladekern_plugin_sdk::{Error, Json, Outcome, fixtures};

use crate::Tasmota;
use crate::decode::Settings;

fn settings(config: &str) -> Settings {
    Settings::new(&Json::parse(config).unwrap())
}

fn sensor(config: &str, text: &str) -> Option<Outcome> {
    settings(config).message("SENSOR", Some(text)).unwrap()
}

#[test]
fn recorded_messages() {
    fixtures::check_payload_decoder::<Tasmota>(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).unwrap();
}

#[test]
fn offline_makes_everything_unknown() {
    let outcome = settings("{}").message("LWT", Some("Offline")).unwrap().unwrap();
    assert_eq!(outcome.value("power.total"), Some(None));
    assert_eq!(outcome.value("energy.import"), Some(None));
    assert_eq!(settings("{}").message("tele/LWT", Some("Online")).unwrap(), None);
}

#[test]
fn a_request_carries_the_login() {
    assert_eq!(settings("{}").path(), "/cm?cmnd=Status%208");
    let path = settings(r#"{"password":"a&b %ä","status":10}"#).path();
    assert_eq!(path, "/cm?user=admin&password=a%26b%20%25%C3%A4&cmnd=Status%2010");
}

#[test]
fn other_messages_on_the_topic_are_not_ours() {
    for text in [r#"{"Time":"x","Switch1":"ON"}"#, r#"{"Time":"x","DHT11":{"Temperature":20}}"#, "{}", "[]", "7"] {
        assert_eq!(sensor("{}", text), None, "{text}");
    }
    // Over HTTP it is the answer to our question, so something is wrong.
    let answer = settings("{}").message("/cm?cmnd=Status%208", Some(r#"{"StatusSNS":{"Time":"x"}}"#));
    assert!(matches!(answer, Err(Error::Protocol(text)) if text.contains("it has Time")));
}

#[test]
fn a_section_that_was_named_must_be_there() {
    let text = r#"{"Time":"x","SML":{"power_curr":1}}"#;
    let answer = settings(r#"{"section":"MT681"}"#).message("SENSOR", Some(text));
    assert!(matches!(answer, Err(Error::Protocol(text)) if text.contains("MT681") && text.contains("SML")));
}

#[test]
fn garbage_is_an_error_and_never_a_value() {
    for text in ["", "{", "Online", "{\"ENERGY\":{\"Power\":", "\u{0}"] {
        assert!(settings("{}").message("SENSOR", Some(text)).is_err(), "{text}");
    }
    assert!(settings("{}").message("SENSOR", None).is_err(), "bytes that are no text");
    for value in ["null", "\"\"", "\"unavailable\"", "true", "{}", "[]", "[null]", "\"NaN\"", "1e999"] {
        let outcome =
            sensor("{}", &format!(r#"{{"ENERGY":{{"Power":{value},"Total":{value},"Voltage":{value}}}}}"#)).unwrap();
        assert_eq!(outcome.value("power.total"), Some(None), "{value}");
        assert_eq!(outcome.value("energy.import"), Some(None), "{value}");
    }
}

#[test]
fn zero_counts_where_the_user_says_so() {
    let text = r#"{"SML":{"power_curr":5,"total_in":0}}"#;
    assert_eq!(sensor("{}", text).unwrap().value("energy.import"), Some(None));
    let outcome = sensor(r#"{"zero_is_unknown":false}"#, text).unwrap();
    assert_eq!(outcome.value("energy.import"), Some(Some(0.0)));
}
