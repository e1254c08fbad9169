//! Outputs as requests (`cfos-interfaces.md` 2.4): an address like `#30#POST http://localhost/cnf?cmd=…`, taken apart.
//!
//! `[#seconds#][*][GET |POST |PUT ]` and then a path at the device (`/relay/0`), a whole URL, or for a device on MQTT a
//! topic. Without a method it is a POST if there is a body, else a GET.

use std::time::Duration;

use crate::formula::{Name, Scope};
use crate::template::{Own, Template, TemplateError};
use crate::{Method, Output, Transport};

/// The longest time behind which an unchanged output is sent again.
const MAX_REPEAT_S: u64 = 86_400;

/// A parsed entry of `outputs` or `resets`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputTemplate {
    address: Template,
    body: Option<Template>,
    topics: bool,
    paths: bool,
}

/// What is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRequest {
    /// Who gets it.
    pub recipient: Recipient,
    /// HTTP method; of no meaning for a topic.
    pub method: Method,
    /// The body, or the message of a topic; never empty.
    pub body: Option<String>,
    /// Sent again when this has passed, though nothing changed.
    pub repeat: Option<Duration>,
}

/// Who gets a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// The device itself: a path below its address, with its query; begins with `/`.
    Device(String),
    /// This manager: what stands behind `/cnf?`. Its API is called without a connection and without credentials.
    Manager(String),
    /// Somebody else: an absolute URL, `http` or `https`.
    Url(String),
    /// A topic without wildcards.
    Topic(String),
}

/// An output that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OutputError {
    /// `address` or `body`.
    pub key: &'static str,
    /// Byte of that text; of the text with its values where they matter.
    pub offset: usize,
    /// What is wrong and what would be right.
    pub message: String,
}

impl OutputTemplate {
    /// Parses both texts, and the address as a request where it holds no values.
    ///
    /// # Errors
    /// See [`OutputError`].
    pub fn parse(output: &Output, transport: &Transport) -> Result<Self, OutputError> {
        let in_key = |key| move |TemplateError { offset, message }| OutputError { key, offset, message };
        let address = Template::parse(&output.address).map_err(in_key("address"))?;
        // An empty text in the file is no body; one that comes out empty is a request that is not made.
        let body = output.body.as_deref().filter(|body| !body.is_empty());
        let body = body.map(Template::parse).transpose().map_err(in_key("body"))?;
        let topics = matches!(transport, Transport::Mqtt);
        let parsed = Self { address, body, topics, paths: matches!(transport, Transport::Http) };
        if let Some(address) = parsed.address.constant() {
            if address.is_empty() {
                let message = "is empty; expected a path like /relay/0?turn=on or a URL".to_owned();
                return Err(OutputError { key: "address", offset: 0, message });
            }
            parsed.read(address, parsed.body.as_ref().map(|_| String::new()))?;
        }
        Ok(parsed)
    }

    /// The request of now; `None` if there is nothing to send because a value is missing or a text is empty.
    ///
    /// # Errors
    /// If values made an address that is none.
    pub fn request(&self, scope: &dyn Scope, own: Own) -> Result<Option<OutputRequest>, OutputError> {
        let Some(address) = self.address.render(scope, own).filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let body = match self.body.as_ref().map(|body| body.render(scope, own)) {
            Some(None) => return Ok(None),
            Some(Some(body)) if body.is_empty() => return Ok(None),
            body => body.flatten(),
        };
        self.read(&address, body).map(Some)
    }

    /// Every name its formulas mention; one may come more than once.
    #[must_use]
    pub fn names(&self) -> Vec<&Name> {
        let mut names = self.address.names();
        names.extend(self.body.iter().flat_map(Template::names));
        names
    }

    fn read(&self, address: &str, body: Option<String>) -> Result<OutputRequest, OutputError> {
        let (mut rest, mut repeat, mut real, mut method) = (address, None, false, None);
        loop {
            let at = address.len() - rest.len();
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix('#') {
                let seconds = behind.split_once('#').and_then(|(digits, behind)| Some((digits.parse().ok()?, behind)));
                let Some((seconds @ 1..=MAX_REPEAT_S, behind)) = seconds else {
                    let message = "a repetition is written #seconds#, like #30#, from 1 to 86400";
                    return Err(wrong(at, message));
                };
                (repeat, rest) = (Some(Duration::from_secs(seconds)), behind);
            } else if let Some(behind) = rest.strip_prefix('*') {
                (real, rest) = (true, behind);
            } else if let (None, Some((found, behind))) = (method, method_of(rest)) {
                (method, rest) = (Some(found), behind);
            } else {
                break;
            }
        }
        let at = address.len() - rest.len();
        let recipient = self.recipient(rest.trim_end(), real, method.is_some()).map_err(|why| wrong(at, why))?;
        if matches!(recipient, Recipient::Topic(_)) && body.is_none() {
            let message = "a topic gets a message; expected a body, or a URL as address".to_owned();
            return Err(OutputError { key: "body", offset: 0, message });
        }
        let method = method.unwrap_or(if body.is_some() { Method::Post } else { Method::Get });
        Ok(OutputRequest { recipient, method, body, repeat })
    }

    fn recipient(&self, text: &str, real: bool, has_method: bool) -> Result<Recipient, String> {
        if text.chars().any(char::is_control) {
            return Err("holds a line break or another control character".into());
        }
        let (scheme, behind) = match text.split_once("://") {
            // Not the one of a URL in a query.
            Some((scheme, behind)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => (Some(scheme), behind),
            _ => (None, text),
        };
        let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
        let (authority, path) = behind.split_at_checked(end).unwrap_or((behind, ""));
        let host = authority.rsplit('@').next().unwrap_or(authority);
        let local = host.split(':').next().is_some_and(|host| host.eq_ignore_ascii_case("localhost"));
        match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("http" | "https") if host.is_empty() => Err("the host of the URL is missing".into()),
            Some("http" | "https") if local && !real => manager(path),
            Some("http" | "https") => Ok(Recipient::Url(text.into())),
            Some(other) => Err(format!("{other}:// is no scheme of an output; expected http://")),
            None if self.topics && !has_method => topic(text),
            None if text.starts_with('/') && self.paths => Ok(Recipient::Device(text.into())),
            None if text.starts_with('/') => {
                Err("a path needs a device that is read over HTTP; expected a whole URL, like http://localhost/cnf?…"
                    .into())
            }
            None if local => manager(path),
            None => Err("expected a path that begins with /, or a URL that begins with http://".into()),
        }
    }
}

fn wrong(offset: usize, message: impl Into<String>) -> OutputError {
    OutputError { key: "address", offset, message: message.into() }
}

/// A method and what is behind its space.
fn method_of(text: &str) -> Option<(Method, &str)> {
    let (word, rest) = text.split_once(' ')?;
    let known = [("GET", Method::Get), ("POST", Method::Post), ("PUT", Method::Put)];
    known.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, method)| (method, rest))
}

fn manager(path: &str) -> Result<Recipient, String> {
    let query = path.strip_prefix("/cnf").and_then(|rest| rest.strip_prefix('?')).filter(|query| !query.is_empty());
    query.map(|query| Recipient::Manager(query.into())).ok_or_else(|| {
        "the manager itself is called as http://localhost/cnf?cmd=…; another program on this machine with a leading *".into()
    })
}

fn topic(text: &str) -> Result<Recipient, String> {
    match text {
        "" => Err("is empty; expected a topic or a URL".into()),
        _ if text.contains(['+', '#']) => Err("a topic to publish to holds no + and no #".into()),
        _ if text.len() > 65_535 => Err("a topic has at most 65535 bytes".into()),
        _ => Ok(Recipient::Topic(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formula::Object;

    /// `on` is 1, `w` is 2300, everything else is missing.
    struct Values;

    impl Scope for Values {
        fn get(&self, name: &Name) -> Option<f64> {
            [("on", 1.0), ("w", 2_300.0)].iter().find(|(known, _)| *known == &*name.member).map(|(_, value)| *value)
        }
    }

    fn output(address: &str, body: Option<&str>) -> Output {
        Output { address: address.into(), body: body.map(Into::into) }
    }

    fn of(transport: &Transport, address: &str, body: Option<&str>) -> Result<Option<OutputRequest>, OutputError> {
        let own = Own { address: "192.0.2.9", id: "3" };
        OutputTemplate::parse(&output(address, body), transport)?.request(&Values, own)
    }

    fn http(address: &str, body: Option<&str>) -> OutputRequest {
        of(&Transport::Http, address, body).unwrap_or_else(|error| panic!("{address}: {error}")).unwrap()
    }

    #[test]
    fn recipients() {
        let device = |path: &str| Recipient::Device(path.into());
        let url = |text: &str| Recipient::Url(text.into());
        let manager = |query: &str| Recipient::Manager(query.into());
        for (address, expected) in [
            ("/relay/0?turn=on", device("/relay/0?turn=on")),
            ("/go?to=http://x/", device("/go?to=http://x/")),
            ("/set?w=${w}", device("/set?w=2300")),
            ("http://192.0.2.1:8080/x", url("http://192.0.2.1:8080/x")),
            ("HTTPS://box/x", url("HTTPS://box/x")),
            ("http://${address}/x/${id}", url("http://192.0.2.9/x/3")),
            ("http://localhost.example/cnf?cmd=x", url("http://localhost.example/cnf?cmd=x")),
            ("http://localhost/cnf?cmd=modbus_set&val=${w}", manager("cmd=modbus_set&val=2300")),
            ("http://LocalHost:8080/cnf?cmd=x", manager("cmd=x")),
            ("http://me:pw@localhost/cnf?cmd=x", manager("cmd=x")),
            ("localhost/cnf?cmd=x", manager("cmd=x")),
            ("*http://localhost:1880/flow", url("http://localhost:1880/flow")),
            (" GET  /x ", device("/x")),
        ] {
            assert_eq!(http(address, None).recipient, expected, "{address}");
        }
    }

    #[test]
    fn method_and_repetition() {
        let post = |seconds: u64| (Method::Post, Some(Duration::from_secs(seconds)));
        for (address, body, expected) in [
            ("/x", None, (Method::Get, None)),
            ("/x", Some(""), (Method::Get, None)),
            ("/x", Some("b"), (Method::Post, None)),
            ("GET /x", Some("b"), (Method::Get, None)),
            ("put /x", None, (Method::Put, None)),
            ("#30#POST /x", None, post(30)),
            ("#1#*POST http://localhost/x", None, post(1)),
            ("* #86400# POST http://localhost/x", None, post(86_400)),
            ("POST *#5#http://localhost/x", None, post(5)),
            ("${if on`#7#POST /on`/off}", None, post(7)),
        ] {
            let request = http(address, body);
            assert_eq!((request.method, request.repeat), expected, "{address}");
        }
    }

    #[test]
    fn what_is_empty_or_missing_is_not_sent() {
        for (address, body) in [
            ("/set?w=${missing}", None),
            ("${if exists(missing)`/set?w=${missing}}", None),
            ("/set", Some("${missing}")),
            ("/set", Some("${if exists(missing)`{\"w\":1}}")),
        ] {
            assert_eq!(of(&Transport::Http, address, body), Ok(None), "{address}");
        }
        assert_eq!(http("/set", Some("{\"w\":${w}}")).body.as_deref(), Some("{\"w\":2300}"));
    }

    #[test]
    fn topics_of_a_device_on_mqtt() {
        let of = |address: &str, body| of(&Transport::Mqtt, address, body);
        let request = of("#30#shelly/${id}/rpc", Some("${if on`on`off}")).unwrap().unwrap();
        let expected = OutputRequest {
            recipient: Recipient::Topic("shelly/3/rpc".into()),
            method: Method::Post,
            body: Some("on".into()),
            repeat: Some(Duration::from_secs(30)),
        };
        assert_eq!(request, expected);
        assert_eq!(of("/a/b", Some("x")).unwrap().unwrap().recipient, Recipient::Topic("/a/b".into()));
        assert_eq!(of("http://box/x", None).unwrap().unwrap().recipient, Recipient::Url("http://box/x".into()));
        let manager = of("http://localhost/cnf?cmd=x", None).unwrap().unwrap();
        assert_eq!(manager.recipient, Recipient::Manager("cmd=x".into()));
        assert_eq!(of("a/+/b", Some("x")).unwrap_err().message, "a topic to publish to holds no + and no #");
        let silent = of("a/b", None).unwrap_err();
        assert_eq!(
            (silent.key, silent.message.as_str()),
            ("body", "a topic gets a message; expected a body, or a URL as address")
        );
        assert!(of("GET /x", None).unwrap_err().message.contains("expected a whole URL"));
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        for (address, body, key, offset, message) in [
            ("", None, "address", 0, "is empty; expected a path like /relay/0?turn=on or a URL"),
            ("relay/0", None, "address", 0, "expected a path that begins with /, or a URL that begins with http://"),
            (
                "POST relay/0",
                None,
                "address",
                5,
                "expected a path that begins with /, or a URL that begins with http://",
            ),
            ("#x#/a", None, "address", 0, "a repetition is written #seconds#, like #30#, from 1 to 86400"),
            ("#0#/a", None, "address", 0, "a repetition is written #seconds#, like #30#, from 1 to 86400"),
            ("#86401#/a", None, "address", 0, "a repetition is written #seconds#, like #30#, from 1 to 86400"),
            ("#30/a", None, "address", 0, "a repetition is written #seconds#, like #30#, from 1 to 86400"),
            ("ftp://box/x", None, "address", 0, "ftp:// is no scheme of an output; expected http://"),
            ("http:///x", None, "address", 0, "the host of the URL is missing"),
            ("/a\nb", None, "address", 0, "holds a line break or another control character"),
            ("/a?${1 +}", None, "address", 8, "ends where a number or a name is expected"),
            ("/a", Some("${"), "body", 0, "this ${ is not closed by a }"),
        ] {
            let error = of(&Transport::Http, address, body).expect_err(address);
            assert_eq!((error.key, error.offset, error.message.as_str()), (key, offset, message), "{address}");
        }
        for address in
            ["http://localhost/", "http://localhost/cnf", "http://localhost/cnf?", "http://localhost/x?cmd=y"]
        {
            let error = of(&Transport::Http, address, None).expect_err(address);
            assert!(error.message.contains("http://localhost/cnf?cmd="), "{error}");
        }
        // Only with its values an address that is none.
        assert!(of(&Transport::Http, "${w}/x", None).unwrap_err().message.starts_with("expected a path"));
        let modbus = crate::Modbus {
            table: crate::Table::Holding,
            max_registers: 125,
            allow_gaps: false,
            rtu: crate::Rtu::default(),
        };
        let error = of(&Transport::Modbus(modbus), "/x", None).unwrap_err();
        assert!(error.message.starts_with("a path needs a device that is read over HTTP"), "{error}");
    }

    #[test]
    fn names_are_those_of_address_and_body() {
        let parsed = OutputTemplate::parse(&output("/x?${a}", Some("${M1.b}")), &Transport::Http).unwrap();
        assert_eq!(parsed.names(), [&Name::new(Object::Own, "a"), &Name::new(Object::Meter(1), "b")]);
    }

    proptest::proptest! {
        #[test]
        fn any_address_is_a_request_or_a_mistake_inside_it(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "#", "30", "*", "GET ", "POST ", "http://", "localhost", "/", "cnf?", "x", ":", "@", " ", "ü", "${w}", "+",
            ]), 0..12),
            mqtt in proptest::bool::ANY,
        ) {
            let (transport, address) = (if mqtt { Transport::Mqtt } else { Transport::Http }, words.concat());
            match of(&transport, &address, Some("b")) {
                Ok(Some(request)) => proptest::prop_assert!(request.body.is_some()),
                Ok(None) => {}
                Err(error) => proptest::prop_assert!(!error.message.is_empty()),
            }
        }
    }
}
