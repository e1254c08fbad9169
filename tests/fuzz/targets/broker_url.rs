//! Broker URLs: what is taken for one is shown without its password, and shown again it is the same broker.
#![no_main]

use ladekern_fuzz::config::{BrokerRef, BrokerUrl, EndpointUrl};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = text.parse::<BrokerRef>();
    let _ = text.parse::<EndpointUrl>();
    let Ok(url) = text.parse::<BrokerUrl>() else { return };
    assert!(!url.host.is_empty() && url.port > 0);
    if url.login.is_none() {
        assert_eq!(url.to_string().parse::<BrokerUrl>().as_ref(), Ok(&url), "{url}");
    }
    if let Some((user, _)) = &url.login {
        let other = BrokerUrl { login: Some((user.clone(), "another".into())), ..url.clone() };
        assert_eq!(format!("{url} {url:?}"), format!("{other} {other:?}"), "the password makes a difference");
    }
});
