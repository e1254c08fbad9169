//! Other people's web pages: what a browser sends on their behalf is told by its headers. Pure, but for the machine's
//! own name.
//!
//! A page that is open in a browser can send requests to any address the browser reaches, with the password the
//! browser remembers. It cannot forge `Origin` and `Sec-Fetch-Site`. And a page whose own name is made to point here
//! (DNS rebinding) looks like ours to the browser, but says its name in `Host`.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};

/// Headers that a proxy leaves: who came through one is not on this machine, whatever the socket says.
const PROXIES: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// Whether the request was sent by a page that is not ours. What no browser sent is not.
pub(super) fn is_foreign(headers: &HeaderMap) -> bool {
    let fetch = HeaderName::from_static("sec-fetch-site");
    // A person who types an address sends "none".
    if headers.get_all(fetch).iter().any(|site| site != "same-origin" && site != "none") {
        return true;
    }
    let host = host(headers).unwrap_or_default();
    headers.get_all(header::ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        // "null" has no name: sandboxed pages, files.
        origin.split_once("://").is_none_or(|(_, origin)| !origin.eq_ignore_ascii_case(host))
    })
}

/// Whether the name the client used is one of ours: an address, or a name that no stranger can point here.
pub(super) fn is_our_host(headers: &HeaderMap, listen: SocketAddr) -> bool {
    // Browsers always send it.
    if !headers.contains_key(header::HOST) {
        return true;
    }
    let Some(host) = host(headers) else { return false };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return address.parse::<IpAddr>().is_ok();
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name == listen.ip().to_string()
        || hostname().is_some_and(|own| name == own || name.strip_suffix(".local") == Some(own.as_str()))
}

/// Whether the request came through a proxy that says so.
pub(super) fn is_proxied(headers: &HeaderMap) -> bool {
    PROXIES.iter().any(|name| headers.contains_key(*name))
}

/// The one `Host`; `None` if there is none, several, or no text.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    }
}

/// The machine's name in lower case, without a domain.
pub(super) fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .or_else(|_| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")))
        .ok()?;
    let name = name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let well = !name.is_empty() && name.len() < 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    well.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn pages_are_told_by_where_they_come_from() {
        let host = ("host", "10.0.0.2:4712");
        for (more, foreign) in [
            (&[][..], false),
            (&[("sec-fetch-site", "none")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://10.0.0.2:4712")], false),
            (&[("origin", "https://10.0.0.2:4712")], false),
            (&[("sec-fetch-site", "same-site")], true),
            (&[("sec-fetch-site", "cross-site")], true),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://10.0.0.2:80")], true),
            (&[("origin", "http://evil.example")], true),
            (&[("origin", "null")], true),
            (&[("origin", "")], true),
        ] {
            let all: Vec<_> = more.iter().copied().chain([host]).collect();
            assert_eq!(is_foreign(&headers(&all)), foreign, "{more:?}");
        }
        let two = headers(&[("origin", "http://a"), ("host", "a")]);
        assert!(!is_foreign(&two));
        let mut two = two;
        two.append("host", "b".parse().unwrap());
        assert!(is_foreign(&two));
    }

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_ours() {
        let listen: SocketAddr = "127.0.0.1:4712".parse().unwrap();
        for host in
            ["127.0.0.1", "127.0.0.1:4712", "[::1]:4712", "[fe80::1]", "localhost", "LOCALHOST:1", "192.168.1.9"]
        {
            assert!(is_our_host(&headers(&[("host", host)]), listen), "{host}");
        }
        for host in ["evil.example", "evil.example:4712", "127.0.0.1.evil.example", "localhost.evil.example", "", "x:y"]
        {
            assert!(!is_our_host(&headers(&[("host", host)]), listen), "{host}");
        }
        let own = hostname().unwrap();
        for host in [own.clone(), format!("{own}:4712"), format!("{own}.local"), format!("{own}.")] {
            assert!(is_our_host(&headers(&[("host", &host)]), listen), "{host}");
        }
        assert!(!is_our_host(&headers(&[("host", &format!("{own}.evil.example"))]), listen));
        assert!(is_our_host(&HeaderMap::new(), listen));
    }
}
