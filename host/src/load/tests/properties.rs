//! Invariants of sharing alone, over random seats and limits: I2, I3, I8, and that no limit is exceeded.

use proptest::prelude::*;

use super::super::fill::{self, Seat, Share, Slack};

const LINES: usize = 6;

/// A seat in mA: wallboxes from 6 A up, some with whole steps, some that get nothing at all.
fn seat(steps: &'static [i64]) -> impl Strategy<Value = Seat> {
    let uses = prop::collection::btree_map(0..LINES, 1..=3_i64, 1..=4);
    (6..=16_i64, 0..=40_i64, prop::sample::select(steps), 0..=2_i32, uses).prop_map(|(min, cap, step, tier, uses)| {
        Seat { min: min * 1_000, cap: cap * 1_000, step, tier, uses: uses.into_iter().collect() }
    })
}

fn slack() -> impl Strategy<Value = Vec<i64>> {
    prop::collection::vec(-5_000..=120_000_i64, LINES)
}

fn share(seats: &[Seat], slack: &mut Slack) -> Vec<Share> {
    fill::share(&seats.iter().collect::<Vec<_>>(), slack)
}

fn load_on(line: usize, seats: &[Seat], shares: &[Share]) -> i64 {
    let part = |(seat, share): (&Seat, &Share)| {
        seat.uses.iter().filter(|(k, _)| *k == line).map(|(_, coefficient)| coefficient * share.current).sum::<i64>()
    };
    seats.iter().zip(shares).map(part).sum()
}

/// Whether line `k` is exhausted for the lowest of a tier, and nobody of that tier on it has more than `own` by choice.
fn holds_back(k: usize, own: i64, tier: i32, seats: &[Seat], shares: &[Share], left: &Slack) -> bool {
    let users = || seats.iter().zip(shares).filter(|(seat, _)| seat.tier == tier && seat.uses.iter().any(|u| u.0 == k));
    let units: i64 = users().flat_map(|(seat, _)| &seat.uses).filter(|u| u.0 == k).map(|u| u.1).sum();
    // What a minimum forces upon a seat is no unfairness, nor is the rest of a division.
    let fair = |(seat, share): (&Seat, &Share)| share.current <= own.max(seat.min) + units;
    left.on(k) < units && users().all(fair)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shares_are_fair_and_fit(seats in prop::collection::vec(seat(&[1]), 0..12), limits in slack()) {
        let mut left = Slack(limits.clone());
        let shares = share(&seats, &mut left);
        for (k, limit) in limits.iter().enumerate() {
            let load = load_on(k, &seats, &shares);
            prop_assert!(load <= *limit || load == 0, "line {k}: {load} of {limit}");
            prop_assert_eq!(left.on(k), limit - load);
        }
        for (seat, share) in seats.iter().zip(&shares) {
            prop_assert!(share.current == 0 || (seat.min..=seat.cap).contains(&share.current));
            if share.current > 0 && share.current < seat.cap {
                let held = seat.uses.iter().any(|u| holds_back(u.0, share.current, seat.tier, &seats, &shares, &left));
                prop_assert!(held, "{seat:?} {share:?} in {shares:?}, left {left:?}");
                prop_assert!(share.held_by.is_some());
            }
        }
    }

    #[test]
    fn a_lower_limit_never_raises_the_load_on_it(
        seats in prop::collection::vec(seat(&[1]), 1..8),
        limits in slack(),
        line in 0..LINES,
        less in 1..60_000_i64,
    ) {
        let before = share(&seats, &mut Slack(limits.clone()));
        let mut lower = limits;
        lower[line] -= less;
        let after = share(&seats, &mut Slack(lower));
        prop_assert!(load_on(line, &seats, &after) <= load_on(line, &seats, &before));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 15_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whole_steps_fit_too(seats in prop::collection::vec(seat(&[1, 100, 1_000]), 0..10), limits in slack()) {
        let shares = share(&seats, &mut Slack(limits.clone()));
        for (k, limit) in limits.iter().enumerate() {
            let load = load_on(k, &seats, &shares);
            prop_assert!(load <= *limit || load == 0);
        }
        for (seat, share) in seats.iter().zip(&shares) {
            prop_assert!(share.current == 0 || (seat.min..=seat.cap).contains(&share.current));
            prop_assert_eq!(share.current % seat.step, 0);
        }
    }
}
