//! Addresses: broker URLs and the wires behind endpoints. Opens nothing and resolves no name.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::types::{BrokerRef, BrokerUrl, EndpointUrl, Parity, SerialLine};

/// A text that is no address, with what would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(pub String);

/// The text with the password of a URL replaced by `***`.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let login = text.get(start..).and_then(|rest| rest.rfind('@').and_then(|end| rest.get(..end)));
    let Some((login, colon)) = login.and_then(|login| Some((login, login.find(':')?))) else { return text.into() };
    let (before, after) = text.split_at_checked(start + colon + 1).unwrap_or((text, ""));
    let (_, after) = after.split_at_checked(login.len() - colon - 1).unwrap_or(("", after));
    format!("{before}***{after}").into()
}

/// Resolves `%41`. `None`: an escape is cut off or not hexadecimal, or the result is no UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// `host`, `host:port`, `[::1]:port`.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        host.parse::<std::net::Ipv6Addr>().map_err(|_| format!("\"{host}\" is no IPv6 address"))?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err("expected :port after the bracket".into()),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err("an IPv6 address stands in brackets: [::1]".into()),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || "/?#@[]\\\"<>".contains(c);
    if host.contains(bad) {
        return Err(format!("\"{host}\" is no host name"));
    }
    let port = port
        .map(|port| port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("the port is a number from 1 to 65535"));
    Ok((host.to_owned(), port.transpose()?))
}

/// The host as it stands in a URL: IPv6 addresses in brackets.
struct UrlHost<'a>(&'a str);

impl fmt::Display for UrlHost<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

impl FromStr for BrokerUrl {
    type Err = BadUrl;

    /// `[scheme://][user:password@]host[:port]`, schemes none, `mqtt`, `mqtt3`, `mqtt5`, `mqtts`, `mqtts3`,
    /// `mqtts5` (MQTT contract, A2). User and password are percent-decoded.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why: &str| {
            let text = super::tree::shorten(text);
            BadUrl(format!("\"{text}\" is no broker: {why}; a broker looks like mqtt://user:password@host:1883"))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("mqtt", text));
        let (tls, v5) = match scheme {
            "mqtt" | "mqtt3" => (false, false),
            "mqtt5" => (false, true),
            "mqtts" | "mqtts3" => (true, false),
            "mqtts5" => (true, true),
            _ => return Err(bad("the scheme is one of mqtt, mqtt3, mqtt5, mqtts, mqtts3, mqtts5")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, host) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, host)) => {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                let decoded = percent_decode(user).zip(percent_decode(password));
                let why = "in user and password a % is written %25";
                (Some(decoded.ok_or_else(|| bad(why))?), host)
            }
        };
        let (host, port) = host_and_port(host).map_err(|why| bad(&why))?;
        Ok(Self { host, port: port.unwrap_or(if tls { 8883 } else { 1883 }), v5, tls, login })
    }
}

/// Never shows the password: what is displayed ends up in logs.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.tls, self.v5) {
            (false, false) => "mqtt",
            (false, true) => "mqtt5",
            (true, false) => "mqtts",
            (true, true) => "mqtts5",
        };
        let user = self.login.as_ref().map(|(user, _)| format!("{user}:***@")).unwrap_or_default();
        write!(f, "{scheme}://{user}{}:{}", UrlHost(&self.host), self.port)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BrokerRef {
    type Err = BadUrl;

    /// Empty: off. `mqtt`: the default broker. Anything else: a broker URL.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Ok(BrokerRef::Off),
            "mqtt" => Ok(BrokerRef::Default),
            url => url.parse().map(BrokerRef::Url),
        }
    }
}

/// As it stands in the configuration, without the password.
impl fmt::Display for BrokerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BrokerRef::Off => Ok(()),
            BrokerRef::Default => f.write_str("mqtt"),
            BrokerRef::Url(url) => fmt::Display::fmt(url, f),
        }
    }
}

impl FromStr for EndpointUrl {
    type Err = BadUrl;

    /// `tcp://`, `rtutcp://`, `rtu:///dev/…`, `http://`, `mqtt` or a broker URL with its scheme.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why: String| BadUrl(format!("\"{}\": {why}", super::tree::shorten(text)));
        if text == "mqtt" {
            return Ok(EndpointUrl::Mqtt(BrokerRef::Default));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(bad(
                "expected tcp://host:port, rtutcp://host:port, rtu:///dev/ttyUSB0?baud=9600&parity=n, http://host, \
                 mqtt or mqtt://host"
                    .into(),
            ));
        };
        let bus = || host_and_port(rest.strip_suffix('/').unwrap_or(rest)).map_err(&bad);
        match scheme {
            "tcp" => bus().map(|(host, port)| EndpointUrl::ModbusTcp { host, port }),
            "rtutcp" => bus().map(|(host, port)| EndpointUrl::ModbusRtuTcp { host, port }),
            "rtu" => serial_line(rest).map(EndpointUrl::ModbusRtu).map_err(bad),
            "http" => http(text, rest).map_err(bad),
            "https" => Err(bad("this version has no TLS for HTTP, use http://".into())),
            "mqtt" | "mqtt3" | "mqtt5" | "mqtts" | "mqtts3" | "mqtts5" => {
                text.parse().map(|url| EndpointUrl::Mqtt(BrokerRef::Url(url)))
            }
            _ => Err(bad(format!("unknown scheme \"{scheme}\", known are tcp, rtutcp, rtu, http and mqtt"))),
        }
    }
}

fn http(text: &str, rest: &str) -> Result<EndpointUrl, String> {
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "user and password do not stand in the address: use endpoint.<slot> with user and password_file".into()
        );
    }
    host_and_port(authority)?;
    if rest.contains(['?', '#']) || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("expected http://host[:port][/base], without a query".into());
    }
    Ok(EndpointUrl::Http(text.trim_end_matches('/').to_owned()))
}

fn serial_line(rest: &str) -> Result<SerialLine, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') || path.len() < 2 {
        return Err("a serial line looks like rtu:///dev/ttyUSB0?baud=9600&parity=n".into());
    }
    let mut line = SerialLine { path: path.to_owned(), baud: 9600, parity: Parity::None, stop_bits: 1 };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match (name, value) {
            ("baud", value) => {
                let baud = value.parse().ok().filter(|baud| (300..=4_000_000).contains(baud));
                line.baud = baud.ok_or("baud is a number from 300 to 4000000")?;
            }
            ("parity", "n") => line.parity = Parity::None,
            ("parity", "e") => line.parity = Parity::Even,
            ("parity", "o") => line.parity = Parity::Odd,
            ("parity", _) => return Err("parity is n, e or o".into()),
            ("stop", "1") => line.stop_bits = 1,
            ("stop", "2") => line.stop_bits = 2,
            ("stop", _) => return Err("stop is 1 or 2".into()),
            _ => return Err(format!("unknown setting \"{name}\", known are baud, parity and stop")),
        }
    }
    Ok(line)
}

/// As it stands in the configuration, without the password.
impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |port: &Option<u16>| port.map(|port| format!(":{port}")).unwrap_or_default();
        match self {
            EndpointUrl::ModbusTcp { host, port: number } => write!(f, "tcp://{}{}", UrlHost(host), port(number)),
            EndpointUrl::ModbusRtuTcp { host, port: number } => write!(f, "rtutcp://{}{}", UrlHost(host), port(number)),
            EndpointUrl::ModbusRtu(line) => {
                let parity = match line.parity {
                    Parity::None => 'n',
                    Parity::Even => 'e',
                    Parity::Odd => 'o',
                };
                write!(f, "rtu://{}?baud={}&parity={parity}&stop={}", line.path, line.baud, line.stop_bits)
            }
            EndpointUrl::Http(url) => f.write_str(url),
            EndpointUrl::Mqtt(broker) => fmt::Display::fmt(broker, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn broker(text: &str) -> BrokerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn schemes_choose_transport_version_and_port() {
        // The table of the MQTT contract, A2.
        for (text, tls, v5, port) in [
            ("host", false, false, 1883),
            ("mqtt://host", false, false, 1883),
            ("mqtt3://host", false, false, 1883),
            ("mqtt5://host", false, true, 1883),
            ("mqtts://host", true, false, 8883),
            ("mqtts3://host", true, false, 8883),
            ("mqtts5://host", true, true, 8883),
            ("mqtt://host:4", false, false, 4),
            ("host:4", false, false, 4),
        ] {
            let url = broker(text);
            assert_eq!((url.host.as_str(), url.tls, url.v5, url.port), ("host", tls, v5, port), "{text}");
        }
    }

    #[test]
    fn logins_are_percent_decoded_and_never_shown() {
        let url = broker("mqtt5://jo%40home:p%3A%2F%25@[fe80::1]:2");
        assert_eq!(url.login, Some(("jo@home".into(), "p:/%".into())));
        assert_eq!(url.host, "fe80::1");
        assert_eq!(format!("{url} {url:?}"), "mqtt5://jo@home:***@[fe80::1]:2 mqtt5://jo@home:***@[fe80::1]:2");
        assert_eq!(broker("mqtt://jo@host").login, Some(("jo".into(), String::new())));
        let error = "mqtt://jo:secret@host:99999".parse::<BrokerUrl>().unwrap_err().to_string();
        assert!(error.contains("jo:***@host") && error.contains("1 to 65535") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn what_is_no_broker_says_why() {
        for (text, why) in [
            ("http://host", "the scheme is one of"),
            ("mqtt://", "the host is missing"),
            ("mqtt://::1", "in brackets"),
            ("mqtt://[::1", "not closed"),
            ("mqtt://[host]", "no IPv6 address"),
            ("mqtt://[::1]x", "expected :port"),
            ("mqtt://host:0", "1 to 65535"),
            ("mqtt://host:", "1 to 65535"),
            ("mqtt://ho st", "no host name"),
            ("mqtt://host/path", "no host name"),
            ("mqtt://a:100%@host", "%25"),
        ] {
            let error = text.parse::<BrokerUrl>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn wires_read_back_as_they_are_shown() {
        for text in [
            "tcp://192.168.1.20:502",
            "tcp://meter",
            "tcp://[::1]:502",
            "rtutcp://gateway:4001",
            "rtu:///dev/ttyUSB0?baud=19200&parity=e&stop=2",
            "http://192.168.1.5:8080/api",
            "mqtt",
            "mqtt5://broker:1883",
        ] {
            let url: EndpointUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), text);
        }
        let line: EndpointUrl = "rtu:///dev/ttyS1".parse().unwrap();
        assert_eq!(line.to_string(), "rtu:///dev/ttyS1?baud=9600&parity=n&stop=1");
    }

    #[test]
    fn what_is_no_wire_says_what_would_be_one() {
        for (text, why) in [
            ("192.168.1.20:502", "expected tcp://"),
            ("ftp://host", "unknown scheme \"ftp\""),
            ("https://host", "no TLS"),
            ("http://user:secret@host", "password_file"),
            ("http://host/?a=b", "without a query"),
            ("tcp://host:x", "1 to 65535"),
            ("rtu://ttyUSB0", "rtu:///dev/ttyUSB0"),
            ("rtu:///dev/ttyUSB0?baud=1", "300 to 4000000"),
            ("rtu:///dev/ttyUSB0?parity=x", "n, e or o"),
            ("rtu:///dev/ttyUSB0?stop=3", "1 or 2"),
            ("rtu:///dev/ttyUSB0?bits=8", "unknown setting \"bits\""),
        ] {
            let error = text.parse::<EndpointUrl>().unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn passwords_are_cut_out_of_any_text() {
        assert_eq!(redact("mqtt://a:b@c"), "mqtt://a:***@c");
        assert_eq!(redact("a:b:c@d"), "a:***@d");
        assert_eq!(redact("mqtt.broker=mqtt://a:b@x@c"), "mqtt.broker=mqtt://a:***@c");
        assert_eq!(redact("tcp://host:502"), "tcp://host:502");
    }

    fn escape(text: &str) -> String {
        text.bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    }

    proptest! {
        #[test]
        fn a_built_url_reads_back(v5: bool, tls: bool, port in 1u16.., host in "[a-z][a-z0-9.-]{0,20}|10\\.0\\.0\\.[0-9]", login in proptest::option::of((".{0,12}", ".{0,12}"))) {
            let scheme = format!("mqtt{}{}", if tls { "s" } else { "" }, if v5 { "5" } else { "" });
            let user = login.as_ref().map(|(u, p)| format!("{}:{}@", escape(u), escape(p))).unwrap_or_default();
            let url = broker(&format!("{scheme}://{user}{host}:{port}"));
            prop_assert_eq!(url, BrokerUrl { host, port, v5, tls, login });
        }

        #[test]
        fn no_text_panics(text in "\\PC*|[a-z0-9:/@%\\[\\]?&=]*") {
            let _ = text.parse::<BrokerUrl>();
            let _ = text.parse::<EndpointUrl>();
            let _ = redact(&text);
        }
    }
}
