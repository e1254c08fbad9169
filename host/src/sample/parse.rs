//! The file forms of a recorded payload. A plain JSON document is the body of one HTTP answer; everything else says
//! what it is in `kind`: `http` (several answers), `mqtt` (messages in their order), `modbus` (register blocks).

use serde_json::Value;

use crate::transport::Table;

/// What a device said, in the order in which it said it.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// Answers to HTTP requests.
    Http(Vec<HttpAnswer>),
    /// Messages at a broker.
    Mqtt(Vec<MqttMessage>),
    /// Register contents. A request that leaves a block gets exception 2.
    Modbus(Vec<ModbusBlock>),
}

/// One recorded HTTP answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnswer {
    /// Path (and query) it belongs to; `None` answers any request.
    pub path: Option<String>,
    /// HTTP status.
    pub status: u16,
    /// Body as it was on the wire.
    pub body: String,
}

/// One recorded MQTT message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttMessage {
    /// The whole topic.
    pub topic: String,
    /// The text on the wire, possibly empty.
    pub payload: String,
}

/// Consecutive values of one Modbus table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusBlock {
    /// The table, from the function code that read it.
    pub table: Table,
    /// Wire address of the first value, counted from 0.
    pub start: u16,
    /// The values; coils and discrete inputs as 0 or 1.
    pub values: Vec<u16>,
}

/// Why a file is no sample. The message names what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Not one of the forms.
    #[error("{0}")]
    Malformed(String),
    /// A form of a transport that no driver of this version can use.
    #[error(
        "the payload form \"{0}\" needs a transport this version does not have; http, mqtt and modbus samples can be decoded"
    )]
    NoTransport(String),
}

impl Sample {
    /// An address as a user would write it for such a device. Nothing is there.
    #[must_use]
    pub fn address(&self) -> String {
        let address = match self {
            Sample::Http(_) => "http://recorded.invalid",
            Sample::Modbus(_) => "tcp://recorded.invalid:502",
            Sample::Mqtt(_) => "mqtt://recorded.invalid",
        };
        address.to_owned()
    }

    /// Reads the text of a file. `request` (such as `GET /status`) says which request a plain JSON body answers;
    /// without it the body answers every request.
    ///
    /// # Errors
    /// [`SampleError`] with one sentence.
    pub fn parse(text: &str, request: Option<&str>) -> Result<Sample, SampleError> {
        let json: Value = serde_json::from_str(text).map_err(|error| {
            malformed(format!("not JSON ({error}); byte streams and datagrams cannot be decoded yet"))
        })?;
        match json.get("kind").and_then(Value::as_str) {
            Some("http") => {
                array(&json, "responses")?.iter().map(http_answer).collect::<Result<_, _>>().map(Sample::Http)
            }
            Some("mqtt") => {
                array(&json, "messages")?.iter().map(mqtt_message).collect::<Result<_, _>>().map(Sample::Mqtt)
            }
            Some("modbus") => {
                array(&json, "blocks")?.iter().map(modbus_block).collect::<Result<_, _>>().map(Sample::Modbus)
            }
            Some(other @ ("ws" | "udp" | "udp-text")) => Err(SampleError::NoTransport(other.to_owned())),
            // A device's own answer may have a member `kind` with a meaning of its own.
            _ => Ok(Sample::Http(vec![HttpAnswer {
                path: request.and_then(request_path),
                status: 200,
                body: text.to_owned(),
            }])),
        }
    }

    /// The part of all topics up to the last `/`, which is what a user would bind as `topic_prefix`.
    #[must_use]
    pub fn topic_prefix(messages: &[MqttMessage]) -> String {
        let mut folders = messages.iter().map(|m| m.topic.rsplit_once('/').map_or("", |(folder, _)| folder));
        let Some(first) = folders.next() else { return String::new() };
        let mut common: Vec<&str> = first.split('/').collect();
        for folder in folders {
            let same = common.iter().zip(folder.split('/')).take_while(|(a, b)| **a == *b).count();
            common.truncate(same);
        }
        common.join("/")
    }
}

/// `GET /api/status?filter=...` → `/api/status`: a fixture names the request in words, the query is the driver's.
fn request_path(request: &str) -> Option<String> {
    let path = request.split_whitespace().find(|word| word.starts_with('/'))?;
    Some(path.trim_end_matches(',').to_owned())
}

fn malformed(what: impl Into<String>) -> SampleError {
    SampleError::Malformed(what.into())
}

fn array<'a>(json: &'a Value, key: &str) -> Result<&'a Vec<Value>, SampleError> {
    json.get(key).and_then(Value::as_array).ok_or_else(|| malformed(format!("\"{key}\" must be an array")))
}

fn text(json: &Value, key: &str) -> Result<String, SampleError> {
    json.get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| malformed(format!("\"{key}\" must be a text in {json}")))
}

fn number(json: &Value, key: &str) -> Result<u16, SampleError> {
    json.get(key)
        .and_then(Value::as_u64)
        .and_then(|n| u16::try_from(n).ok())
        .ok_or_else(|| malformed(format!("\"{key}\" must be a number from 0 to 65535 in {json}")))
}

fn http_answer(json: &Value) -> Result<HttpAnswer, SampleError> {
    let body = match json.get("body") {
        Some(Value::String(body)) => body.clone(),
        Some(body) => body.to_string(),
        None => String::new(),
    };
    let status = if json.get("status").is_some() { number(json, "status")? } else { 200 };
    Ok(HttpAnswer { path: request_path(&text(json, "request")?), status, body })
}

fn mqtt_message(json: &Value) -> Result<MqttMessage, SampleError> {
    Ok(MqttMessage { topic: text(json, "topic")?, payload: text(json, "payload")? })
}

fn modbus_block(json: &Value) -> Result<ModbusBlock, SampleError> {
    let table = match number(json, "fc")? {
        1 => Table::Coils,
        2 => Table::Discrete,
        3 => Table::Holding,
        4 => Table::Input,
        other => return Err(malformed(format!("\"fc\" is {other}; 1 to 4 read something"))),
    };
    let values = match json.get("bits") {
        Some(bits) => bits
            .as_array()
            .ok_or_else(|| malformed("\"bits\" must be an array of 0 and 1"))?
            .iter()
            .map(|bit| match bit {
                Value::Bool(bit) => Ok(u16::from(*bit)),
                _ => {
                    bit.as_u64().and_then(|n| u16::try_from(n).ok()).ok_or_else(|| malformed("\"bits\" must be 0 or 1"))
                }
            })
            .collect::<Result<_, _>>()?,
        None => registers(&text(json, "hex")?)?,
    };
    Ok(ModbusBlock { table, start: number(json, "start")?, values })
}

fn registers(hex: &str) -> Result<Vec<u16>, SampleError> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    if !digits.len().is_multiple_of(4) {
        return Err(malformed(format!("\"hex\" has {} digits; a register has four", digits.len())));
    }
    digits
        .chunks(4)
        .map(|register| {
            let register: String = register.iter().collect();
            u16::from_str_radix(&register, 16)
                .map_err(|_| malformed(format!("\"{register}\" in \"hex\" is not hexadecimal")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_document_is_an_http_body() {
        let text = r#"{"car":2,"kind":"of its own"}"#;
        let answer = |path: Option<&str>| {
            Sample::Http(vec![HttpAnswer { path: path.map(str::to_owned), status: 200, body: text.to_owned() }])
        };
        assert_eq!(Sample::parse(text, None).unwrap(), answer(None));
        assert_eq!(
            Sample::parse(text, Some("GET /api/status?filter=...")).unwrap(),
            answer(Some("/api/status?filter=..."))
        );
    }

    #[test]
    fn blocks_hold_registers_or_bits() {
        let text =
            r#"{"kind":"modbus","blocks":[{"fc":4,"start":7,"hex":"00FF 8000"},{"fc":1,"start":0,"bits":[1,0,true]}]}"#;
        let Sample::Modbus(blocks) = Sample::parse(text, None).unwrap() else { panic!("not modbus") };
        assert_eq!(blocks[0], ModbusBlock { table: Table::Input, start: 7, values: vec![0xFF, 0x8000] });
        assert_eq!(blocks[1], ModbusBlock { table: Table::Coils, start: 0, values: vec![1, 0, 1] });
    }

    #[test]
    fn what_is_no_sample_says_why() {
        for (text, words) in [
            ("/ISK5", "not JSON"),
            (r#"{"kind":"udp","hex":""}"#, "\"udp\""),
            (r#"{"kind":"modbus"}"#, "\"blocks\" must be an array"),
            (r#"{"kind":"modbus","blocks":[{"fc":9,"start":0,"hex":""}]}"#, "1 to 4"),
            (r#"{"kind":"modbus","blocks":[{"fc":3,"start":0,"hex":"123"}]}"#, "four"),
            (r#"{"kind":"modbus","blocks":[{"fc":3,"start":0,"hex":"12G4"}]}"#, "hexadecimal"),
            (r#"{"kind":"mqtt","messages":[{"topic":"a"}]}"#, "\"payload\""),
        ] {
            let error = Sample::parse(text, None).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_prefix_is_what_all_topics_share() {
        let messages = |topics: &[&str]| -> Vec<MqttMessage> {
            topics.iter().map(|t| MqttMessage { topic: (*t).to_owned(), payload: String::new() }).collect()
        };
        assert_eq!(Sample::topic_prefix(&messages(&["tele/hichi/LWT", "tele/hichi/SENSOR"])), "tele/hichi");
        assert_eq!(Sample::topic_prefix(&messages(&["tele/hichi/SENSOR", "stat/hichi/STATUS8"])), "");
        assert_eq!(Sample::topic_prefix(&messages(&["N/1/grid/30/L1", "N/1/grid/30/L2"])), "N/1/grid/30");
        assert_eq!(Sample::topic_prefix(&[]), "");
    }
}
