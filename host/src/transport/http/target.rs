//! Where a request goes: below the endpoint's base URL, whatever the path says. Pure.

use reqwest::Url;

/// The base of an endpoint: scheme, host, port and the directory all paths are relative to.
pub(super) fn parse_base(text: &str, default_port: Option<u16>) -> Result<Url, String> {
    let bad = |why: &str| format!("`{text}` is no HTTP address: {why}; write http://host[:port][/base]");
    let mut url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(bad("the scheme must be http"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("the host is missing"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("a base has no query and no fragment"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("credentials belong into `user` and `password_file`"));
    }
    // The parser drops a port that is the scheme's own, so whether one was written is seen in the text only.
    let authority = text.split("//").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let port_written = authority.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
    if let (false, Some(port)) = (port_written, default_port) {
        url.set_port(Some(port)).map_err(|()| bad("it takes no port"))?;
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// The URL of `path` below `base`. One leading slash is the base itself.
pub(super) fn resolve(base: &Url, path: &str) -> Result<Url, String> {
    if path.starts_with("//") || path.starts_with("\\\\") || path.starts_with("/\\") || path.starts_with("\\/") {
        return Err(format!("`{path}` names another host; paths are relative to the endpoint"));
    }
    let relative = path.strip_prefix('/').unwrap_or(path);
    // `./` keeps a colon in the first segment from being read as a scheme; an absolute URL still shows by itself.
    if Url::parse(relative).is_ok_and(|url| url.has_host()) {
        return Err(format!("`{path}` is an absolute URL; paths are relative to the endpoint"));
    }
    let url = base.join(&format!("./{relative}")).map_err(|error| format!("`{path}` is no path: {error}"))?;
    if url.origin() != base.origin() || !url.path().starts_with(base.path()) {
        return Err(format!("`{path}` leads out of the endpoint"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_stay_below_the_base() {
        for (base, path, expected) in [
            ("http://box", "status", "http://box/status"),
            ("http://box", "/status?x=1", "http://box/status?x=1"),
            ("http://box:8080/api", "v1/cur", "http://box:8080/api/v1/cur"),
            ("http://box/api/", "/v1", "http://box/api/v1"),
            ("http://box/api", "", "http://box/api/"),
            ("http://box/api", "?q=a:b", "http://box/api/?q=a:b"),
            ("http://box/api", "a/../b", "http://box/api/b"),
            ("http://box", "rpc/Switch.Set?id=0", "http://box/rpc/Switch.Set?id=0"),
            ("http://[::1]:8080", "x", "http://[::1]:8080/x"),
        ] {
            let base = parse_base(base, None).unwrap();
            assert_eq!(resolve(&base, path).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn nothing_leads_out() {
        let base = parse_base("http://box/api", None).unwrap();
        for path in [
            "http://other/x",
            "https://box/api/x",
            "//other/x",
            "\\\\other\\x",
            "/\\other",
            "../x",
            "a/../../x",
            "..",
            "%2e%2e/x",
            ".%2E/x",
            "..\\x",
            "/../x",
        ] {
            assert!(resolve(&base, path).is_err(), "{path} gave {:?}", resolve(&base, path));
        }
    }

    #[test]
    fn the_manifests_port_counts_where_none_is_written() {
        for (text, port) in
            [("http://box", 8080), ("http://box:80", 80), ("http://[::1]", 8080), ("http://box:81/x", 81)]
        {
            assert_eq!(parse_base(text, Some(8080)).unwrap().port_or_known_default(), Some(port), "{text}");
        }
    }

    #[test]
    fn bad_bases_are_explained() {
        for text in ["box", "ftp://box", "http://", "http://box/?q=1", "http://me:secret@box/"] {
            assert!(parse_base(text, None).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_leaves_origin_or_base(path in "[./\\\\:@%2eEa?#-]{0,16}") {
            let base = parse_base("http://box/api", None).unwrap();
            if let Ok(url) = resolve(&base, &path) {
                prop_assert_eq!(url.origin(), base.origin());
                prop_assert!(url.path().starts_with("/api/"), "{}", url);
            }
        }
    }
}
