//! Sharing: admission of minimums and max-min water-filling over any set of limits. Plain arithmetic; knows neither
//! time nor devices. A limit is a number in a list, a seat says which of them it uses and how often.

/// One who wants current, in mA.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// Smallest current if it gets any.
    pub min: i64,
    /// Largest current; below `min` it gets nothing.
    pub cap: i64,
    /// Currents are multiples of this.
    pub step: i64,
    /// Larger tiers are filled first, completely.
    pub tier: i32,
    /// The limits it uses: their numbers and how often it counts on each (once on a phase, per phase on a sum).
    pub uses: Vec<(usize, i64)>,
}

/// What a seat gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// The current: 0, or from `min` to `cap`.
    pub current: i64,
    /// The limit that holds it back; `None`: its own cap.
    pub held_by: Option<usize>,
}

/// What is left on the limits.
#[derive(Clone, Debug)]
pub(super) struct Slack(pub Vec<i64>);

impl Slack {
    /// What is left on limit `k`. A limit that does not exist has nothing to give.
    pub fn on(&self, k: usize) -> i64 {
        self.0.get(k).copied().unwrap_or(0)
    }

    fn take(&mut self, seat: &Seat, current: i64) {
        for &(k, coefficient) in &seat.uses {
            if let Some(slack) = self.0.get_mut(k) {
                *slack = slack.saturating_sub(current.saturating_mul(coefficient));
            }
        }
    }

    /// The first limit of `seat` that cannot carry `current` more.
    fn lacking(&self, seat: &Seat, current: i64) -> Option<usize> {
        let lacks = |&&(k, coefficient): &&(usize, i64)| self.on(k) < current.saturating_mul(coefficient);
        seat.uses.iter().find(lacks).map(|&(k, _)| k)
    }
}

/// Shares `slack` among `seats`, which stand in the order of admission: minimums first, then max-min within each
/// tier, then whole steps. Leaves in `slack` what nobody gets.
pub(super) fn share(seats: &[&Seat], slack: &mut Slack) -> Vec<Share> {
    let mut shares: Vec<Share> = seats.iter().map(|seat| admit(seat, slack)).collect();
    let mut tiers: Vec<i32> = seats.iter().map(|seat| seat.tier).collect();
    tiers.sort_unstable_by(|a, b| b.cmp(a));
    tiers.dedup();
    for tier in tiers {
        fill_tier(seats, tier, &mut shares, slack);
    }
    quantise(seats, &mut shares, slack);
    shares
}

/// Takes the minimum of one seat. Who does not fit is skipped: a smaller one behind it may.
fn admit(seat: &Seat, slack: &mut Slack) -> Share {
    if seat.cap < seat.min || seat.cap <= 0 {
        return Share::default();
    }
    if let Some(k) = slack.lacking(seat, seat.min) {
        return Share { current: 0, held_by: Some(k) };
    }
    slack.take(seat, seat.min);
    Share { current: seat.min, held_by: None }
}

/// Lifts the lowest of one tier together until a limit, a cap or the next level is reached, again and again. Each
/// round ends in one of the three, so there are at most twice as many rounds as seats and one per limit.
fn fill_tier(seats: &[&Seat], tier: i32, shares: &mut [Share], slack: &mut Slack) {
    let mut demand = vec![0_i64; slack.0.len()];
    let mut active: Vec<(&Seat, &mut Share)> = seats
        .iter()
        .copied()
        .zip(shares.iter_mut())
        .filter(|(seat, share)| seat.tier == tier && share.current > 0 && share.current < seat.cap)
        .collect();
    while let Some(level) = active.iter().map(|(_, share)| share.current).min() {
        let lowest = || active.iter().filter(|(_, share)| share.current == level);
        demand.fill(0);
        for &(k, coefficient) in lowest().flat_map(|(seat, _)| &seat.uses) {
            if let Some(sum) = demand.get_mut(k) {
                *sum = sum.saturating_add(coefficient);
            }
        }
        let caps = lowest().map(|(seat, _)| seat.cap);
        let above = active.iter().map(|(_, share)| share.current).filter(|current| *current > level);
        let next = caps.chain(above).min().unwrap_or(level);
        let room = demand.iter().zip(&slack.0).filter(|(sum, _)| **sum > 0).map(|(sum, left)| (*left).max(0) / sum);
        let step = room.min().map_or(next - level, |room| room.min(next - level));
        for (left, sum) in slack.0.iter_mut().zip(&demand) {
            *left = left.saturating_sub(sum.saturating_mul(step));
        }
        // A limit that cannot give one unit to each of the lowest is exhausted; who uses it has got its share.
        let full = |seat: &Seat| {
            let exhausted = |&&(k, _): &&(usize, i64)| slack.on(k) < demand.get(k).copied().unwrap_or(0);
            seat.uses.iter().find(exhausted).map(|&(k, _)| k)
        };
        active.retain_mut(|(seat, share)| {
            if share.current != level {
                return true;
            }
            share.current += step;
            share.held_by = full(seat);
            share.current < seat.cap && share.held_by.is_none()
        });
    }
    for (seat, share) in seats.iter().zip(shares) {
        if share.current >= seat.cap {
            share.held_by = None;
        }
    }
}

/// Rounds down to whole steps and gives what that frees, one step each, to whoever it still fits: higher tiers, then
/// the lowest currents, then the order of admission.
fn quantise(seats: &[&Seat], shares: &mut [Share], slack: &mut Slack) {
    for (seat, share) in seats.iter().zip(shares.iter_mut()) {
        let remainder = share.current % seat.step.max(1);
        share.current -= remainder;
        slack.take(seat, -remainder);
    }
    let mut order: Vec<(&Seat, &mut Share)> = seats
        .iter()
        .copied()
        .zip(shares)
        .filter(|(seat, share)| seat.step > 1 && share.current > 0 && share.current < seat.cap)
        .collect();
    order.sort_by_key(|(seat, share)| (std::cmp::Reverse(seat.tier), share.current));
    for (seat, share) in order {
        if share.current + seat.step <= seat.cap && slack.lacking(seat, seat.step).is_none() {
            slack.take(seat, seat.step);
            share.current += seat.step;
        }
    }
}
