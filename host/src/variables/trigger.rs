//! A variable that goes to 1 for a time. Pure.

use crate::config::Trigger;
use crate::site::Moment;

/// What is remembered of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulse {
    /// Whether the condition held in the last cycle; before the first one nobody knows, and what holds then is not new.
    held: Option<bool>,
    until: Option<Moment>,
}

impl Pulse {
    /// One cycle; whether the variable is 1.
    pub fn step(&mut self, trigger: Trigger, holds: bool, now: Moment) -> bool {
        let begins = holds && self.held == Some(false);
        self.held = Some(holds);
        self.until = self.until.filter(|until| now < *until);
        if begins && (self.until.is_none() || trigger.retrigger) {
            self.until = Some(now.after(trigger.time));
        }
        self.until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// For each second whether the condition holds (`#`), and whether the variable is 1.
    fn run(retrigger: bool, holds: &str) -> String {
        let trigger = Trigger { time: Duration::from_secs(3), retrigger };
        let mut pulse = Pulse::default();
        let step = |(second, holds): (usize, char)| {
            if pulse.step(trigger, holds == '#', Moment(second as u64 * 1_000)) { '1' } else { '0' }
        };
        holds.chars().enumerate().map(step).collect()
    }

    #[test]
    fn it_is_one_for_its_time_however_long_the_condition_holds() {
        assert_eq!(run(false, "..#......"), "001110000");
        assert_eq!(run(false, "..######."), "001110000");
        assert_eq!(run(false, "..#####.##"), "0011100011");
    }

    #[test]
    fn the_time_begins_anew_only_where_that_is_wanted() {
        assert_eq!(run(false, ".#.#....."), "011100000");
        assert_eq!(run(true, ".#.#....."), "011111000");
        assert_eq!(run(true, ".#####..."), "011100000");
    }

    #[test]
    fn what_holds_at_the_start_is_not_new() {
        assert_eq!(run(true, "###.#..."), "00001110");
    }
}
