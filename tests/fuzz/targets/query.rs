//! What stands behind `/cnf?`: read without a panic, each argument once, and written again it says the same.
#![no_main]

use ladekern_fuzz::contract::api::Args;
use libfuzzer_sys::fuzz_target;

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fuzz_target!(|text: &str| {
    let Ok(args) = Args::parse(text) else { return };
    let mut again = String::new();
    for (name, value) in args.iter() {
        assert_eq!(args.get(name), Some(value), "an argument is there once");
        again.push_str(&format!("{}={}&", escape(name), escape(value)));
    }
    // An empty name without a value is nothing on paper: `=`.
    assert_eq!(Args::parse(&again).as_ref(), Ok(&args));
});
