//! What stands behind `api/` in a topic.
#![no_main]

use ladekern_fuzz::args::Args;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(args) = Args::parse(text) {
        let _ = args.get("cmd");
    }
});
