//! `ladekern.toml`: any text is a configuration or a list of mistakes that name their line.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(errors) = ladekern_fuzz::config::parse("f", text, &[]) {
        assert!(!errors.0.is_empty());
    }
});
