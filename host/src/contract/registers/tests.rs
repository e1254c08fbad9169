//! The map, register by register.

use std::sync::Arc;

use super::*;
use crate::config;
use crate::contract::SiteView;
use crate::session::Session;
use crate::site::{Board, Connector, Health, Measured, Moment, Outcome};

const NOW: Moment = Moment(100_000);

const SITE: &str = r#"
[[device]]
id = "E1"
type = "some-box"
max_ma = 20000
[[device]]
id = "E2"
type = "http-input"
meter = "M1"
[[device]]
id = "M1"
type = "http-input"
"#;

struct Site {
    view: SiteView,
    held: Held,
}

impl Site {
    /// A site whose devices have just said this.
    fn new(devices: &[(&str, Outcome)]) -> Self {
        let config = config::parse("f", SITE, &[]).unwrap_or_else(|errors| panic!("{errors}"));
        let board = Board::default();
        let senders: Vec<_> = devices
            .iter()
            .map(|(id, outcome)| {
                let sender = board.register(id.parse().unwrap());
                sender.update(|status| {
                    status.health = Health::Running;
                    status.stale_after = std::time::Duration::from_secs(60);
                    status.values.merge(outcome.clone(), NOW);
                });
                sender
            })
            .collect();
        let snapshot = board.snapshot(NOW);
        drop(senders);
        let view = SiteView {
            config: Arc::new(config),
            snapshot,
            plan: Arc::default(),
            sessions: Arc::default(),
            variables: Arc::default(),
            serial: "S-1".into(),
            unix_s: 1_709_229_198,
            max_overdraft_ma: 0,
            machine: crate::contract::Machine::default(),
        };
        Self { view, held: Held::default() }
    }

    fn read(&self, id: &str, address: u16, count: u16) -> Result<Vec<u16>, RegisterError> {
        Shown::new(&self.view, &id.parse().unwrap(), &self.held, 1).unwrap().read(address, count)
    }

    fn one(&self, id: &str, address: u16) -> u16 {
        self.read(id, address, 1).unwrap()[0]
    }
}

fn said(values: &[(&str, f64)], connector: Option<Connector>) -> Outcome {
    let mut outcome = Outcome { connector, ..Outcome::default() };
    values.iter().for_each(|(name, value)| outcome.push(name, *value));
    outcome
}

fn is_address<T: std::fmt::Debug>(result: &Result<T, RegisterError>) -> bool {
    matches!(result, Err(RegisterError::Address(_)))
}

fn is_value<T: std::fmt::Debug>(result: &Result<T, RegisterError>) -> bool {
    matches!(result, Err(RegisterError::Value(_)))
}

#[test]
fn registers_neither_overlap_nor_leave_the_order() {
    for kind in [DeviceKind::Evse, DeviceKind::Meter] {
        let all: Vec<&Register> = REGISTERS.iter().filter(|register| register.is_on(kind)).collect();
        for pair in all.windows(2) {
            assert!(pair[0].end() <= pair[1].number, "{pair:?}");
        }
    }
}

#[test]
fn a_wallbox_shows_state_limits_card_and_measurements() {
    let values = [
        ("current.l1", 16_040.0),
        ("current.l2", 0.0),
        ("power.total", 3_689.4),
        ("energy.import", 70_000_000_001.0),
        ("limit.cable", 32_000.0),
        ("limit.current", 16_000.0),
        ("charging.enabled", 1.0),
        ("phases.active", 1.0),
        ("phases.switch", 1.0),
    ];
    let mut outcome = said(&values, Some(Connector::Charging));
    outcome.texts.push(("rfid".into(), "0A1B2C3D".into()));
    let mut site = Site::new(&[("E1", outcome)]);
    let e1 = "E1".parse().unwrap();
    let status = site.view.snapshot.devices.get_mut(&e1).unwrap();
    status.info.serial = Some("W00-004W".into());
    status.commanded = Some(Measured { value: 13_000, at: NOW });

    assert_eq!(site.read("E1", 8000, 4), Ok(vec![0xCF05, 0, 1, 0x0100]));
    assert_eq!(site.read("E1", 8008, 5), Ok(vec![0x5730, 0x302D, 0x3030, 0x3457, 0]));
    assert_eq!(site.one("E1", 8016), 0x6346, "the name begins with cF");
    // The energy needs more than 32 bits; power and currents are rounded to their units.
    assert_eq!(site.read("E1", 8057, 13), Ok(vec![1, 0, 16, 19_539, 15_361, 0, 3_689, 0, 160, 0, 0, 0, 0]));
    assert_eq!((16_u64 << 32) + (19_539 << 16) + 15_361, 70_000_000_001);
    assert_eq!(site.read("E1", 8090, 6), Ok(vec![320, 0, 2, 160, 1, 130]));
    assert_eq!(site.read("E1", 8096, 5), Ok(vec![0x3041, 0x3142, 0x3243, 0x3344, 0]));
    assert_eq!(site.one("E1", 8087), 1);
    assert_eq!(site.read("E1", 8112, 2), Ok(vec![1, 0x100]));
    assert_eq!(site.read("E1", 8080, 6), Ok(vec![0, 200, 1, 0, 300, 60]), "defaults of a wallbox with 20 A at most");
}

#[test]
fn the_pilot_has_the_codes_of_the_documentation_and_one_for_silence() {
    for (connector, code) in [
        (Connector::Available, 0),
        (Connector::Connected, 1),
        (Connector::Charging, 2),
        (Connector::Ventilation, 3),
        (Connector::NoPilot, 4),
        (Connector::Fault, 5),
    ] {
        let mut site = Site::new(&[("E1", said(&[], Some(connector)))]);
        assert_eq!(site.one("E1", 8092), code, "{connector:?}");
        site.view.snapshot.at = Moment(NOW.0 + 61_000);
        assert_eq!(site.one("E1", 8092), 6, "silent");
    }
    let fault = said(&[("error.code", 9.0)], Some(Connector::Fault));
    assert_eq!(Site::new(&[("E1", fault)]).one("E1", 8092), 9);
    assert_eq!(Site::new(&[]).one("E1", 8092), 6, "nobody runs it");
}

#[test]
fn while_a_car_is_woken_up_the_seconds_run_and_the_pilot_stands_still() {
    let mut site = Site::new(&[("E1", said(&[], Some(Connector::Available)))]);
    site.held.take(Write::WakeUp(5), Moment(NOW.0 - 1_500), 1).unwrap();
    assert_eq!((site.one("E1", 8086), site.one("E1", 8092)), (4, 1));
    assert!(is_value(&site.held.take(Write::NoWakeUp, NOW, 0)));
    site.view.snapshot.at = Moment(NOW.0 + 3_500);
    assert_eq!((site.one("E1", 8086), site.one("E1", 8092)), (0, 0));
    assert!(site.held.take(Write::NoWakeUp, site.view.snapshot.at, 0).is_ok());
}

#[test]
fn what_is_not_known_is_0_and_without_a_meter_its_registers_are_not_there() {
    let site = Site::new(&[("E1", said(&[], Some(Connector::Available)))]);
    assert_eq!(site.one("E1", 8112), 0);
    for address in [8057, 8058, 8062, 8068] {
        assert!(is_address(&site.read("E1", address, 1)), "{address}");
    }
    assert_eq!(site.read("E1", 8090, 6), Ok(vec![0, 0, 0, 200, 1, 0]));
    let known = Site::new(&[("E1", said(&[("power.total", -1_500.0)], None))]);
    assert_eq!(known.read("E1", 8057, 13), Ok([vec![0, 0, 0, 0, 0], vec![0xFFFF, 0xFA24], vec![0; 6]].concat()));
}

#[test]
fn a_wallbox_that_measures_nothing_shows_its_meter_and_counts_its_own_way() {
    let mut site = Site::new(&[
        ("E2", said(&[], Some(Connector::Charging))),
        ("M1", said(&[("power.total", 7_000.0), ("current.l2", -10_000.0)], None)),
    ]);
    let session = Session { soft_meter_wh: Some(42.4), ..Session::default() };
    site.view.sessions = Arc::new([("E2".parse().unwrap(), session)].into());
    assert_eq!(site.one("E2", 8112), 1);
    assert_eq!(site.read("E2", 8062, 8), Ok(vec![0, 7_000, 0, 0, 0, 100, 0, 0]), "currents have no sign");
    assert_eq!(site.read("E2", 8058, 4), Ok(vec![0, 0, 0, 42]));
    // The meter falls silent: its last power must not pass for the present one.
    site.view.snapshot.devices.get_mut(&"M1".parse().unwrap()).unwrap().health = Health::Offline("gone".into());
    assert!(matches!(site.read("E2", 8062, 2), Err(RegisterError::Device(_))));
    assert_eq!(site.one("E2", 8092), 2, "the wallbox itself answers");
}

#[test]
fn a_meter_has_its_own_map() {
    let values = [("voltage.l1", 231.4), ("voltage.l2", 230.6), ("power.total", -250.0), ("energy.import", 9.0)];
    let site = Site::new(&[("M1", said(&values, None))]);
    assert_eq!(site.read("M1", 8041, 7), Ok(vec![0, 0, 0, 0b011, 231, 231, 0]));
    assert_eq!(site.read("M1", 8056, 2), Ok(vec![0, 0]), "current flows, no phase currents");
    assert_eq!(site.read("M1", 8058, 6), Ok(vec![0, 0, 0, 9, 0xFFFF, 0xFF06]));
    assert!(is_address(&site.read("M1", 8092, 1)));
}

#[test]
fn a_run_is_read_across_gaps_and_not_beside_the_map() {
    let site = Site::new(&[("E1", said(&[("energy.import", 1.0)], Some(Connector::Connected)))]);
    // What clients read in one request (7.5, 4.1): EVCC, ioBroker, our own plugin.
    for (address, count) in [(8096, 15), (8096, 16), (8064, 6), (8058, 4), (8057, 1), (8062, 2), (8086, 28)] {
        assert_eq!(site.read("E1", address, count).unwrap().len(), usize::from(count), "{address}");
    }
    assert_eq!(site.read("E1", 8088, 3), Ok(vec![0, 0, 0]), "8089 is a gap");
    assert_eq!(site.read("E1", 8000, 122).unwrap()[92], 1, "the whole map at once");
    for (address, count) in [(8089, 1), (8114, 6), (7999, 2), (8121, 2), (8122, 1), (65_535, 1), (0, 1)] {
        assert!(is_address(&site.read("E1", address, count)), "{address}, {count}");
    }
    for count in [0, 126] {
        assert!(is_value(&site.read("E1", 8000, count)), "{count}");
    }
}

#[test]
fn writes_are_checked_for_address_width_and_range_before_any_counts() {
    let evse = |address, words: &[u16]| check(DeviceKind::Evse, address, words);
    assert_eq!(evse(8093, &[160]), Ok(vec![Write::Limit(160)]));
    assert_eq!(evse(8093, &[60, 0]), Ok(vec![Write::Limit(60), Write::Enable(false)]));
    assert_eq!(evse(8083, &[0, 600, 100]), Ok(vec![Write::FailSafeDuration(600), Write::FailSafeCurrent(100)]));
    assert_eq!(evse(8083, &[1, 0]), Ok(vec![Write::FailSafeDuration(65_536)]));
    assert_eq!(evse(8086, &[5]), Ok(vec![Write::WakeUp(5)]));
    assert_eq!(evse(8086, &[0, 1]), Ok(vec![Write::NoWakeUp, Write::OnePhase(true)]));
    for (address, words) in [
        (8093, &[631][..]),
        (8094, &[2]),
        (8082, &[7]),
        (8081, &[59]),
        (8086, &[601]),
        (8087, &[2]),
        (8083, &[0]),
        // What the original has and nothing here can do.
        (8088, &[1]),
        (8040, &[2]),
        (8120, &[0, 0]),
        (8058, &[0, 0, 0, 0]),
        (8093, &[100, 2]),
        (8093, &[]),
    ] {
        assert!(is_value(&evse(address, words)), "{address} {words:?}");
    }
    for (address, words) in [
        (8092, &[1][..]),
        (8084, &[1]),
        (8089, &[1]),
        (9000, &[1]),
        (8095, &[1]),
        (8094, &[1, 60]),
        (8044, &[1]),
        (65_535, &[1]),
    ] {
        assert!(is_address(&evse(address, words)), "{address} {words:?}");
    }
    for (address, words) in [(8044, &[7][..]), (8050, &[0, 0, 0, 0]), (8070, &[1]), (8045, &[230])] {
        assert!(is_value(&check(DeviceKind::Meter, address, words)), "{address}");
    }
    assert!(is_address(&check(DeviceKind::Meter, 8093, &[160])));
}

#[test]
fn a_wish_caps_and_never_raises() {
    let site = Site::new(&[]);
    let device = &site.view.config.devices[0];
    let held = |change: fn(&mut Held)| {
        let mut held = Held::default();
        change(&mut held);
        held.wish(device)
    };
    let wish = |forbidden, max_ma| Some(crate::session::OutsideWish { forbidden, max_ma });
    assert_eq!(held(|_| ()), None);
    assert_eq!(held(|held| held.limit = Some(104)), wish(false, Some(10_400)));
    assert_eq!(held(|held| (held.limit, held.fixed) = (Some(104), Some(80))), wish(false, Some(8_000)));
    assert_eq!(held(|held| (held.limit, held.fixed) = (Some(104), Some(0))), wish(false, Some(10_400)));
    assert_eq!(held(|held| held.limit = Some(59)), wish(true, None), "below 6 A is a pause");
    assert_eq!(held(|held| held.enable = Some(true)), wish(false, None));
    assert_eq!(held(|held| (held.enable, held.limit) = (Some(false), Some(160))), wish(true, Some(16_000)));
    // Silence: the failsafe current, or less if less was allowed.
    assert_eq!(held(|held| (held.silent, held.limit) = (true, Some(160))), wish(false, Some(6_000)));
    assert_eq!(
        held(|held| {
            (held.silent, held.limit) = (true, Some(80));
            held.defaults.fail_safe_current = Some(100);
        }),
        wish(false, Some(8_000))
    );
    assert_eq!(
        held(|held| {
            held.silent = true;
            held.defaults.fail_safe_current = Some(0);
        }),
        wish(true, None)
    );
    // The defaults count until something is written, and again after the controller has gone.
    let mut defaults =
        Held { defaults: Defaults { enable: false, limit: Some(100), ..Defaults::default() }, ..Held::default() };
    assert_eq!(defaults.wish(device), wish(true, Some(10_000)));
    (defaults.enable, defaults.limit) = (Some(true), Some(160));
    assert_eq!(defaults.wish(device), wish(false, Some(16_000)));
    defaults.release();
    assert_eq!(defaults.wish(device), wish(true, Some(10_000)));
}
