//! From a topic to a command: read without a panic, and the answer goes to one topic that is neither a wildcard nor one
//! where orders are taken.
#![no_main]

use ladekern_fuzz::contract::mqtt::api::read;
use libfuzzer_sys::fuzz_target;

const PREFIX: &str = "cfos_mqtt";

fuzz_target!(|texts: (&str, Option<&str>)| {
    let (tail, response) = texts;
    let (target, args) = read(PREFIX, &format!("{PREFIX}/api/{tail}"), response);
    assert!(!target.is_empty() && !target.contains(['+', '#']), "{target}");
    for ours in ["api/", "ctl", "set/", "get/"] {
        assert!(!target.starts_with(&format!("{PREFIX}/{ours}")), "{target}");
    }
    if let Ok(args) = args {
        assert!(args.get("_rid").is_none());
    }
});
