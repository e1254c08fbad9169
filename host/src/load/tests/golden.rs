//! The golden vectors V1 to V9: what a perfectly fair division gives, in mA and before any step grid.

use super::super::{Charger, Milliamps, Phase, Site, State, plan};
use super::{circuit, site, waiting};
use crate::site::Moment;

const ALL: &[Phase] = &Phase::ALL;

fn shares(site: &Site) -> Vec<i64> {
    let plan = plan(&mut State::default(), site, Moment(1_000));
    plan.chargers.values().map(|charger| charger.share.0).collect()
}

fn main_only(ampere: i64, chargers: Vec<Charger>) -> Site {
    site(vec![circuit("main", None, ampere)], chargers)
}

fn same(count: usize, phases: &[Phase], cap: i64) -> Vec<Charger> {
    (1..=count).map(|number| waiting(number, "main", phases, cap)).collect()
}

#[test]
fn v1_three_equal_cars_share_alike() {
    assert_eq!(shares(&main_only(35, same(3, ALL, 32))), [11_666, 11_666, 11_666]);
}

#[test]
fn v2_what_a_small_wallbox_cannot_use_the_other_gets() {
    let chargers = vec![waiting(1, "main", ALL, 32), waiting(2, "main", ALL, 16)];
    assert_eq!(shares(&main_only(35, chargers)), [19_000, 16_000]);
}

#[test]
fn v3_cars_on_different_phases_do_not_compete() {
    let chargers = (1..).zip(Phase::ALL).map(|(number, phase)| waiting(number, "main", &[phase], 32)).collect();
    assert_eq!(shares(&main_only(20, chargers)), [20_000, 20_000, 20_000]);
}

#[test]
fn v4_cars_on_one_phase_do() {
    assert_eq!(shares(&main_only(20, same(3, &[Phase::L1], 32))), [6_666, 6_666, 6_666]);
}

#[test]
fn v5_one_phase_and_three_phases_share_the_common_one() {
    let chargers = vec![waiting(1, "main", ALL, 32), waiting(2, "main", &[Phase::L1], 32)];
    assert_eq!(shares(&main_only(25, chargers)), [12_500, 12_500]);
}

#[test]
fn v6_who_got_most_waits_and_the_others_share() {
    let mut chargers = same(6, ALL, 16);
    for (key, charger) in (0..).zip(&mut chargers) {
        charger.energy_wh = key;
    }
    assert_eq!(shares(&main_only(32, chargers.clone())), [6_400, 6_400, 6_400, 6_400, 6_400, 0]);
    // The key decides and not the number of the wallbox.
    chargers[0].energy_wh = 100;
    assert_eq!(shares(&main_only(32, chargers)), [0, 6_400, 6_400, 6_400, 6_400, 6_400]);
}

#[test]
fn v7_circuits_below_circuits() {
    let circuits = vec![circuit("root", None, 40), circuit("g1", Some("root"), 16), circuit("g2", Some("root"), 32)];
    let cars = [("g1", 32), ("g1", 32), ("g2", 32), ("g2", 10)];
    let chargers = (1..).zip(cars).map(|(number, (name, cap))| waiting(number, name, ALL, cap)).collect();
    assert_eq!(shares(&site(circuits, chargers)), [8_000, 8_000, 14_000, 10_000]);
}

#[test]
fn v8_the_higher_priority_is_served_first() {
    let mut chargers = same(3, ALL, 16);
    chargers[1].priority = 5;
    assert_eq!(shares(&main_only(32, chargers)), [8_000, 16_000, 8_000]);
}

#[test]
fn v9_a_power_limit_counts_all_phases_of_a_car() {
    let mut chargers = same(2, ALL, 32);
    chargers[1] = waiting(2, "main", &[Phase::L1], 32);
    let mut site = main_only(63, chargers);
    site.circuits[0].sum_limit = Some(Milliamps(47_826));
    assert_eq!(shares(&site), [11_956, 11_956]);
}
