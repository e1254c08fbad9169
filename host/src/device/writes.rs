//! Which calls carry a command out, and which of them are left out because several boxes write each value to flash.
//! Pure: the device task tells what was written and what the device said, and asks what to do next.
//!
//! Three rules. An unchanged value is not written again within the manifest's interval. A raise waits until the
//! interval is over. A reduction never waits, and is written again when the device says that it does not follow.

use std::time::Duration;

use super::guest::Step;
use crate::site::{Command, CommandError, Moment, Outcome, quantities};

/// What was written to one device, and what it said since.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writes {
    limit: Option<Written<u32>>,
    enabled: Option<Written<bool>>,
    phases: Option<Written<u8>>,
    /// The device's own word, newer than the last write of the same kind.
    seen_enabled: Option<bool>,
    seen_limit: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Written<T> {
    value: T,
    at: Moment,
}

impl<T: PartialEq + Copy> Written<T> {
    /// How long writes of this kind still have to wait.
    fn wait(self, interval: Duration, now: Moment) -> Option<Duration> {
        interval.checked_sub(now.since(self.at)).filter(|wait| !wait.is_zero())
    }
}

/// A device follows a limit to about a tenth of an ampere; a larger difference is no rounding.
const FOLLOWS_WITHIN_MA: f64 = 100.0;

impl Writes {
    /// The calls that `command` needs at `now`, maybe none.
    ///
    /// # Errors
    /// [`CommandError::NotYet`] for a raise within `interval` of the last write.
    pub fn plan(&self, command: Command, interval: Duration, now: Moment) -> Result<Vec<Step>, CommandError> {
        let mut steps = Vec::new();
        match command {
            Command::Current(0) | Command::Enable(false) => self.plan_pause(interval, now, &mut steps),
            Command::Enable(true) => self.plan_enable(interval, now, &mut steps)?,
            Command::Current(ma) => {
                self.plan_limit(ma, interval, now, &mut steps)?;
                if !self.known_enabled() {
                    self.plan_enable(interval, now, &mut steps)?;
                }
            }
            Command::Phases(phases) => {
                let wait = self.phases.and_then(|written| written.wait(interval, now));
                match (self.phases, wait) {
                    (Some(written), Some(_)) if written.value == phases => {}
                    (Some(written), Some(wait)) if phases > written.value => return Err(CommandError::NotYet(wait)),
                    _ => steps.push(Step::SetPhases(phases)),
                }
            }
            Command::WakeUp => steps.push(Step::WakeUp),
        }
        Ok(steps)
    }

    /// The device accepted `step`.
    pub fn accepted(&mut self, step: Step, now: Moment) {
        match step {
            Step::SetEnabled(value) => {
                self.enabled = Some(Written { value, at: now });
                self.seen_enabled = None;
            }
            Step::SetCurrentLimit(value) => {
                self.limit = Some(Written { value, at: now });
                self.seen_limit = None;
            }
            Step::SetPhases(value) => self.phases = Some(Written { value, at: now }),
            Step::WakeUp => {}
        }
    }

    /// `step` failed: whether the device took it is not known, so nothing is left out next time.
    pub fn failed(&mut self, step: Step) {
        match step {
            Step::SetEnabled(_) => self.enabled = None,
            Step::SetCurrentLimit(_) => self.limit = None,
            Step::SetPhases(_) => self.phases = None,
            Step::WakeUp => {}
        }
    }

    /// What the device itself says about it.
    pub fn saw(&mut self, outcome: &Outcome) {
        for (quantity, value) in &outcome.readings {
            match quantity.as_str() {
                quantities::CHARGING_ENABLED => self.seen_enabled = value.map(|v| v != 0.0),
                quantities::LIMIT_CURRENT => self.seen_limit = *value,
                _ => {}
            }
        }
    }

    /// The device may have restarted: what it was told may be lost.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// The limit it was told last.
    #[must_use]
    pub fn limit_ma(&self) -> Option<u32> {
        self.limit.map(|written| written.value)
    }

    /// The device's own word counts more than ours; after a pause only it can say that charging is allowed.
    fn known_enabled(&self) -> bool {
        match (self.seen_enabled, self.enabled) {
            (Some(false), _) | (_, Some(Written { value: false, .. })) => false,
            (Some(true), _) | (None, Some(Written { value: true, .. })) => true,
            (None, None) => false,
        }
    }

    fn plan_pause(&self, interval: Duration, now: Moment, steps: &mut Vec<Step>) {
        let just_paused = self.enabled.is_some_and(|w| !w.value && w.wait(interval, now).is_some());
        if !just_paused || self.seen_enabled == Some(true) {
            steps.push(Step::SetEnabled(false));
        }
    }

    fn plan_enable(&self, interval: Duration, now: Moment, steps: &mut Vec<Step>) -> Result<(), CommandError> {
        match self.enabled.and_then(|w| w.wait(interval, now).map(|wait| (w.value, wait))) {
            Some((true, _)) => Ok(()),
            // To allow what the device says is allowed is no raise, and must not hold a lower limit back.
            Some((false, wait)) if self.seen_enabled != Some(true) => Err(CommandError::NotYet(wait)),
            _ => {
                steps.push(Step::SetEnabled(true));
                Ok(())
            }
        }
    }

    fn plan_limit(&self, ma: u32, interval: Duration, now: Moment, steps: &mut Vec<Step>) -> Result<(), CommandError> {
        if let Some(written) = self.limit
            && let Some(wait) = written.wait(interval, now)
        {
            let follows = self.seen_limit.is_none_or(|seen| seen <= f64::from(ma) + FOLLOWS_WITHIN_MA);
            if ma > written.value {
                return Err(CommandError::NotYet(wait));
            }
            if ma == written.value && follows {
                return Ok(());
            }
        }
        steps.push(Step::SetCurrentLimit(ma));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::{SetCurrentLimit, SetEnabled, SetPhases};

    const FIVE: Duration = Duration::from_secs(5);

    struct Box_ {
        writes: Writes,
        now: Moment,
    }

    impl Box_ {
        fn new() -> Self {
            Self { writes: Writes::default(), now: Moment(1_000) }
        }

        fn command(&mut self, command: Command) -> Result<Vec<Step>, CommandError> {
            let steps = self.writes.plan(command, FIVE, self.now)?;
            for step in &steps {
                self.writes.accepted(*step, self.now);
            }
            Ok(steps)
        }

        fn pass(&mut self, ms: u64) {
            self.now = Moment(self.now.0 + ms);
        }

        fn says(&mut self, quantity: &str, value: f64) {
            self.writes.saw(&Outcome { readings: vec![(quantity.into(), Some(value))], ..Outcome::default() });
        }
    }

    #[test]
    fn a_current_enables_once_and_zero_pauses() {
        let mut b = Box_::new();
        assert_eq!(b.command(Command::Current(10_000)), Ok(vec![SetCurrentLimit(10_000), SetEnabled(true)]));
        b.pass(6_000);
        assert_eq!(b.command(Command::Current(12_000)), Ok(vec![SetCurrentLimit(12_000)]));
        b.pass(6_000);
        assert_eq!(b.command(Command::Current(0)), Ok(vec![SetEnabled(false)]));
        b.pass(6_000);
        assert_eq!(b.command(Command::Current(12_000)), Ok(vec![SetCurrentLimit(12_000), SetEnabled(true)]));
    }

    #[test]
    fn an_unchanged_value_is_written_once_per_interval() {
        let mut b = Box_::new();
        b.command(Command::Current(10_000)).unwrap();
        b.pass(4_999);
        assert_eq!(b.command(Command::Current(10_000)), Ok(vec![]));
        b.pass(1);
        assert_eq!(b.command(Command::Current(10_000)), Ok(vec![SetCurrentLimit(10_000)]));
    }

    #[test]
    fn a_raise_waits_and_a_reduction_never_does() {
        let mut b = Box_::new();
        b.command(Command::Current(10_000)).unwrap();
        b.pass(1_000);
        assert_eq!(b.command(Command::Current(16_000)), Err(CommandError::NotYet(Duration::from_secs(4))));
        assert_eq!(b.command(Command::Current(8_000)), Ok(vec![SetCurrentLimit(8_000)]));
        assert_eq!(b.command(Command::Current(6_000)), Ok(vec![SetCurrentLimit(6_000)]));
        assert_eq!(b.command(Command::Current(0)), Ok(vec![SetEnabled(false)]));
        assert_eq!(b.command(Command::Current(6_000)), Err(CommandError::NotYet(FIVE)), "going on is a raise");
        b.pass(5_000);
        assert_eq!(b.command(Command::Current(16_000)), Ok(vec![SetCurrentLimit(16_000), SetEnabled(true)]));
    }

    #[test]
    fn a_box_that_does_not_follow_a_reduction_is_told_again_at_once() {
        let mut b = Box_::new();
        b.command(Command::Current(16_000)).unwrap();
        b.pass(6_000);
        b.command(Command::Current(6_000)).unwrap();
        b.says("limit.current", 6_050.0);
        assert_eq!(b.command(Command::Current(6_000)), Ok(vec![]));
        b.says("limit.current", 16_000.0);
        assert_eq!(b.command(Command::Current(6_000)), Ok(vec![SetCurrentLimit(6_000)]));
        b.command(Command::Current(0)).unwrap();
        assert_eq!(b.command(Command::Current(0)), Ok(vec![]));
        b.says("charging.enabled", 1.0);
        assert_eq!(b.command(Command::Current(0)), Ok(vec![SetEnabled(false)]));
        b.says("charging.enabled", 1.0);
        let reduced = b.command(Command::Current(6_000 - 500));
        assert_eq!(
            reduced,
            Ok(vec![SetCurrentLimit(5_500), SetEnabled(true)]),
            "a pause that did not work hinders none"
        );
    }

    #[test]
    fn a_box_that_says_it_is_enabled_is_not_enabled_again_but_one_that_forgot_is() {
        let mut b = Box_::new();
        b.says("charging.enabled", 1.0);
        assert_eq!(b.command(Command::Current(10_000)), Ok(vec![SetCurrentLimit(10_000)]));
        b.pass(6_000);
        b.says("charging.enabled", 0.0);
        assert_eq!(b.command(Command::Current(11_000)), Ok(vec![SetCurrentLimit(11_000), SetEnabled(true)]));
        b.writes.forget();
        assert_eq!(b.command(Command::Current(11_000)), Ok(vec![SetCurrentLimit(11_000), SetEnabled(true)]));
    }

    #[test]
    fn a_failed_write_is_not_taken_for_done() {
        let mut b = Box_::new();
        b.command(Command::Current(10_000)).unwrap();
        b.writes.failed(SetCurrentLimit(16_000));
        assert_eq!(b.command(Command::Current(10_000)), Ok(vec![SetCurrentLimit(10_000)]));
        b.writes.failed(SetEnabled(false));
        assert_eq!(b.command(Command::Enable(false)), Ok(vec![SetEnabled(false)]));
    }

    #[test]
    fn phases_follow_the_same_rules_and_waking_up_has_none() {
        let mut b = Box_::new();
        assert_eq!(b.command(Command::Phases(3)), Ok(vec![SetPhases(3)]));
        assert_eq!(b.command(Command::Phases(3)), Ok(vec![]));
        assert_eq!(b.command(Command::Phases(1)), Ok(vec![SetPhases(1)]));
        assert_eq!(b.command(Command::Phases(3)), Err(CommandError::NotYet(FIVE)));
        for _ in 0..2 {
            assert_eq!(b.command(Command::WakeUp), Ok(vec![Step::WakeUp]));
        }
    }

    #[test]
    fn without_an_interval_every_command_is_written() {
        let mut writes = Writes::default();
        for _ in 0..2 {
            assert_eq!(writes.plan(Command::Current(0), Duration::ZERO, Moment(1_000)), Ok(vec![SetEnabled(false)]));
            writes.accepted(SetEnabled(false), Moment(1_000));
        }
    }
}
