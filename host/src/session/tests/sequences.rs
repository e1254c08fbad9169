//! Random histories: whatever wallboxes say, however often the program is killed, energy is never negative, at most
//! one transaction runs per wallbox, and only an unplugging that was seen ends one.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Say { device: usize, connector: Option<Connector>, own: Option<f64>, session: Option<f64>, power: Option<f64> },
    Card { device: usize, card: &'static str },
    Pass(u64),
    Kill(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let connector = prop::option::weighted(
        0.9,
        prop::sample::select(vec![
            Connector::Available,
            Connector::Connected,
            Connector::Charging,
            Connector::Charging,
            Connector::Fault,
            Connector::Unknown,
        ]),
    );
    let counter = || {
        prop::option::of(prop_oneof![
            Just(0.0),
            0.0..50_000.0_f64,
            Just(51_000_000.0),
            prop::sample::select(vec![f64::NAN, -5.0, f64::INFINITY]),
        ])
    };
    let power = prop::option::of(-500.0..22_000.0_f64);
    let say = (0..2_usize, connector, counter(), counter(), power)
        .prop_map(|(device, connector, own, session, power)| Step::Say { device, connector, own, session, power });
    let card = (0..2_usize, prop::sample::select(vec!["1111", "9999"]));
    prop_oneof![
        6 => say,
        1 => card.prop_map(|(device, card)| Step::Card { device, card }),
        3 => (1..40_u64).prop_map(Step::Pass),
        1 => (0..5_000_u64).prop_map(Step::Kill),
    ]
}

const NAMES: [&str; 2] = ["E1", "E2"];
const USERS: &str = "[[user]]\nid = \"1111\"\ndevices = [\"E1\"]\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_history_breaks_a_transaction(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new(USERS);
        let mut running: [Option<(f64, u64)>; 2] = [None; 2];
        let mut elapsed_h = [0.0_f64; 2];
        for step in &steps {
            let events = bench.events.len();
            let mut seen = None;
            match step {
                Step::Say { device, connector, own, session, power } => {
                    let readings = [("energy.import", *own), ("energy.session", *session), ("power.total", *power)];
                    let readings: Vec<(&str, f64)> =
                        readings.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                    seen = Some((*device, *connector));
                    bench.say(NAMES[*device], *connector, &readings);
                }
                Step::Card { device, card } => _ = bench.card(card, Some(NAMES[*device])),
                Step::Pass(seconds) => {
                    bench.after(*seconds).look();
                    elapsed_h = elapsed_h.map(|hours| hours + *seconds as f64 / 3_600.0);
                }
                Step::Kill(seconds) => {
                    bench.crash(*seconds).look();
                    elapsed_h = elapsed_h.map(|hours| hours + *seconds as f64 / 3_600.0);
                }
            }
            for event in &bench.events[events..] {
                let (record, ends) = match event {
                    Change::Begin(record) => (record, false),
                    Change::End(record) => (record, true),
                    other => panic!("{other:?} is no event"),
                };
                let number = NAMES.iter().position(|name| *name == record.device.as_str()).unwrap();
                prop_assert_eq!(running[number].is_some(), ends, "one at a time, each with one end");
                running[number] = (!ends).then_some((0.0, record.start_s));
                if ends {
                    prop_assert_eq!(seen, Some((number, Some(Connector::Available))), "seen unplugged");
                    prop_assert!(record.end_s.unwrap() >= record.start_s);
                } else {
                    elapsed_h[number] = 0.0;
                }
                prop_assert!(record.energy_wh >= 0.0 && record.energy_wh.is_finite());
            }
            for (number, name) in NAMES.iter().enumerate() {
                let session = bench.session(name);
                prop_assert_eq!(session.plugged, running[number].is_some());
                prop_assert!(session.energy_wh >= 0.0);
                // Each reading may be off by what coarse counters hide; nothing beyond what a car can draw.
                let most = 65_000.0 * elapsed_h[number] + 1_200.0 * steps.len() as f64;
                prop_assert!(session.energy_wh <= most, "{} Wh of at most {most}", session.energy_wh);
                prop_assert!(!session.needs_auth || *name == "E1");
            }
        }
    }
}
