//! Messages of `ctl`: what comes out can be told to a wallbox, whatever came in.
#![no_main]

use ladekern_fuzz::contract::ctl::message::parse;
use ladekern_fuzz::devices;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    let Ok(wishes) = parse(payload, devices()) else { return };
    for (id, wish) in &wishes.each {
        let device = devices().iter().find(|device| device.id == *id).expect("only devices of the site");
        if let Some(ma) = wish.current {
            assert!(ma == 0 || (device.min_ma..=device.max_ma).contains(&ma), "{id}: {ma}");
        }
        assert!(wish.phases.is_none_or(|phases| phases == 1 || phases == 3));
    }
});
