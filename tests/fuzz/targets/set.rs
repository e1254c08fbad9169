//! Messages of `set/<dev_id>`, for a meter and for a wallbox: whatever comes out is finite.
#![no_main]

use ladekern_fuzz::message::parse;
use ladekern_fuzz::site::DeviceKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    for kind in [DeviceKind::Meter, DeviceKind::Evse] {
        if let Ok(fed) = parse(kind, payload) {
            for (name, value) in &fed.outcome.readings {
                assert!(value.is_none_or(f64::is_finite), "{name:?} is {value:?}");
            }
        }
    }
});
