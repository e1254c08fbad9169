//! Several wallboxes and their users: who takes from the surplus, in which order, and for how long.

use std::sync::Arc;

use super::*;
use crate::site::{Connector, DeviceId, Request};

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn surplus_rules() -> Arc<RuleSet> {
    Arc::new(set(&[rule(1, 10, json!({"cexpr": 6000, "flags": 18}))]))
}

fn wallbox(name: &str, rules: Option<Arc<RuleSet>>) -> RuledBox {
    RuledBox {
        id: id(name),
        own: rules,
        user: None,
        min_ma: 6_000,
        max_ma: 16_000,
        priority: 1,
        wired: 3,
        flowing: None,
        connector: Connector::Connected,
        takes_ma: None,
        measured: true,
    }
}

struct Engines {
    engine: Engine,
    second: u64,
}

impl Engines {
    fn new() -> Self {
        Self { engine: Engine::default(), second: 0 }
    }

    fn run(&mut self, boxes: &[RuledBox], surplus: Option<f64>) -> Decided {
        let site = RuledSite {
            boxes: boxes.to_vec(),
            powers: Powers { surplus, ..Powers::default() },
            local: None,
            now: Moment(1_000 + self.second * 1_000),
            scope: &|_, read| read(&Numbers::default()),
        };
        self.engine.run(&site)
    }

    /// Runs for so many seconds; the last decision.
    fn last(&mut self, seconds: u64, boxes: &[RuledBox], surplus: Option<f64>) -> Vec<(String, u32)> {
        let mut decided = Decided::default();
        for _ in 0..seconds {
            decided = self.run(boxes, surplus);
            self.second += 1;
        }
        decided.requests.iter().map(|(id, request)| (id.to_string(), request.max_ma)).collect()
    }
}

fn told(pairs: &[(&str, u32)]) -> Vec<(String, u32)> {
    pairs.iter().map(|(id, ma)| ((*id).to_owned(), *ma)).collect()
}

#[test]
fn who_has_no_rules_is_not_limited() {
    let mut engines = Engines::new();
    let off = Arc::new(set(&[always(json!(0))]));
    let boxes = [wallbox("E1", None), wallbox("E2", Some(off))];
    assert_eq!(engines.last(1, &boxes, None), told(&[("E2", 0)]));
}

#[test]
fn surplus_is_handed_out_by_priority_and_never_twice() {
    let rules = surplus_rules();
    let mut boxes = [wallbox("E1", Some(Arc::clone(&rules))), wallbox("E2", Some(rules))];
    boxes[1].priority = 2;
    // 11 040 W are 16 A on three phases; another 4 140 W are 6 A.
    assert_eq!(Engines::new().last(1, &boxes, Some(11_040.0)), told(&[("E1", 0), ("E2", 16_000)]));
    assert_eq!(Engines::new().last(1, &boxes, Some(15_180.0)), told(&[("E1", 6_000), ("E2", 16_000)]));
    // An empty wallbox takes nothing, and neither does a car what it cannot use.
    boxes[1].connector = Connector::Available;
    assert_eq!(Engines::new().last(1, &boxes, Some(11_040.0)), told(&[("E1", 16_000), ("E2", 16_000)]));
    boxes[1].connector = Connector::Charging;
    boxes[1].takes_ma = Some(6_000);
    assert_eq!(Engines::new().last(1, &boxes, Some(11_040.0)), told(&[("E1", 10_000), ("E2", 16_000)]));
}

#[test]
fn among_equals_who_charges_keeps_the_surplus() {
    let rules = surplus_rules();
    let (first, second) = (wallbox("E1", Some(Arc::clone(&rules))), wallbox("E2", Some(rules)));
    let mut engines = Engines::new();
    assert_eq!(engines.last(10, std::slice::from_ref(&second), Some(6_900.0)), told(&[("E2", 10_000)]));
    assert_eq!(engines.last(10, &[first, second], Some(6_900.0)), told(&[("E1", 0), ("E2", 10_000)]));
}

#[test]
fn a_car_on_one_phase_gets_more_current_of_the_same_power() {
    let mut car = wallbox("E1", Some(surplus_rules()));
    let mut engines = Engines::new();
    assert_eq!(engines.last(10, &[car.clone()], Some(4_140.0)), told(&[("E1", 6_000)]));
    car.flowing = Some(1);
    assert_eq!(engines.last(10, &[car.clone()], Some(3_220.0)), told(&[("E1", 14_000)]));
    // While it pauses that is remembered, until the car is gone.
    car.flowing = None;
    assert_eq!(engines.last(1, &[car.clone()], Some(3_220.0)), told(&[("E1", 14_000)]));
    car.connector = Connector::Available;
    assert_eq!(engines.last(1, &[car], Some(3_220.0)), told(&[("E1", 0)]));
}

#[test]
fn clouds_do_not_make_the_contactor_chatter() {
    let boxes = [wallbox("E1", Some(surplus_rules()))];
    let mut engines = Engines::new();
    let mut changes = Vec::new();
    let mut charges = false;
    // Sun and cloud of 40 s each for an hour.
    for second in 0..3_600 {
        let surplus = if second / 40 % 2 == 0 { 8_000.0 } else { 500.0 };
        let request = engines.run(&boxes, Some(surplus)).requests[&id("E1")];
        if (request.max_ma > 0) != charges {
            charges = !charges;
            changes.push(second);
        }
        engines.second += 1;
    }
    let gaps: Vec<u64> = changes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= 60), "{gaps:?}");
    // Every second change begins charging: after a pause of three minutes.
    assert!(gaps.iter().skip(1).step_by(2).all(|gap| *gap >= 180), "{gaps:?}");
    assert!(changes.len() > 4, "{changes:?}");
}

#[test]
fn a_meter_that_falls_silent_ends_charging_from_surplus_at_once() {
    let boxes = [wallbox("E1", Some(surplus_rules()))];
    let mut engines = Engines::new();
    assert_eq!(engines.last(5, &boxes, Some(8_000.0)), told(&[("E1", 11_594)]));
    let request = engines.run(&boxes, None).requests[&id("E1")];
    assert_eq!(request, Request { max_ma: 0, because: Because::Missing });
}

#[test]
fn a_wallbox_that_nobody_measures_takes_no_surplus() {
    let mut car = wallbox("E1", Some(surplus_rules()));
    car.measured = false;
    let request = Engines::new().run(&[car], Some(8_000.0)).requests[&id("E1")];
    assert_eq!(request, Request { max_ma: 0, because: Because::Missing });
}

#[test]
fn with_rules_of_wallbox_and_user_the_lower_counts() {
    let fixed = |ma: u32| Some(Arc::new(set(&[always(json!(ma))])));
    let run = |own: Option<Arc<RuleSet>>, user: Option<Arc<RuleSet>>| {
        let car = RuledBox { user, ..wallbox("E1", own) };
        Engines::new().run(&[car], Some(6_900.0)).requests.get(&id("E1")).map(|request| request.max_ma)
    };
    assert_eq!(run(fixed(8_000), fixed(10_000)), Some(8_000));
    assert_eq!(run(fixed(10_000), fixed(8_000)), Some(8_000));
    assert_eq!(run(None, fixed(8_000)), Some(8_000));
    assert_eq!(run(Some(surplus_rules()), fixed(16_000)), Some(10_000));
    assert_eq!(run(fixed(16_000), fixed(0)), Some(0));
    assert_eq!(run(None, None), None);
}

#[test]
fn other_rules_count_at_once() {
    let mut engines = Engines::new();
    let fixed = |ma: u32| [wallbox("E1", Some(Arc::new(set(&[always(json!(ma))]))))];
    assert_eq!(engines.last(3, &fixed(8_000), None), told(&[("E1", 8_000)]));
    assert_eq!(engines.last(3, &fixed(0), None), told(&[("E1", 0)]), "no shortest time for rules that are gone");
    assert_eq!(engines.last(3, &fixed(9_000), None), told(&[("E1", 9_000)]));
}
