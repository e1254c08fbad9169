//! What is remembered of a wallbox and what follows from it: what it may still draw, whether it obeys, how much it
//! would like. A wallbox that is silent counts with the most it could draw, never with what it last said alone.

use super::{Charger, Milliamps, PerPhase, Phase, Reason, Tuning};
use crate::site::{Connector, Measured, Moment};

/// Below this a car does not charge: the electronics of wallbox and car draw some hundred mA.
const DRAWS_NOTHING: Milliamps = Milliamps(1_000);

/// A reduction that is not yet known to be obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Release {
    from: Milliamps,
    to: Milliamps,
    sent: Moment,
    accepted: Option<Moment>,
    /// The car drew more than `to` and had long obeyed its last raise: only then a lower measurement shows that it
    /// obeys this reduction, and not that it has not yet begun to obey the raise before.
    drew_more: bool,
}

/// Memory of one wallbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ChargerMemory {
    /// What it was told last; `None`: nothing yet.
    pub setting: Option<Milliamps>,
    /// When it was told anything last, repetitions included.
    pub sent: Option<Moment>,
    /// When it was told something else last.
    pub changed: Option<Moment>,
    /// It accepted the present setting.
    pub accepted: bool,
    /// Since when a command has been sent that it has not accepted.
    unaccepted_since: Option<Moment>,
    /// Since when no raise is on its way any more.
    steady_since: Option<Moment>,
    releases: Vec<Release>,
    /// What it surely drew at the last moments, for pairing with samples of meters.
    recent: Vec<Measured<PerPhase<Milliamps>>>,
    last_drawn: Option<Milliamps>,
    reachable: bool,
    measuring: bool,
    over_since: Option<Moment>,
    /// What it last drew above a setting that it had had the time to obey.
    habit: PerPhase<Milliamps>,
    under_since: Option<Moment>,
    demand: Option<Milliamps>,
    idle_since: Option<Moment>,
    /// What was explained last, and since when.
    pub told: Option<(Milliamps, Reason, Moment)>,
}

/// What is known of a wallbox in this tick.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// What it was told; 0 if it cannot be told anything.
    pub setting: Milliamps,
    /// What it may draw at most, per phase.
    pub counted: PerPhase<Milliamps>,
    /// What it draws above what it was told and what no pending reduction explains, per phase.
    pub excess: PerPhase<Milliamps>,
    /// What is its own draw in a meter's sample of about now.
    pub surely: PerPhase<Milliamps>,
    /// The same by its latest measurement alone.
    pub latest: PerPhase<Milliamps>,
    /// The most that may be its own draw in such a sample.
    pub perhaps: PerPhase<Milliamps>,
    /// What it would like.
    pub requested: Milliamps,
    /// The car takes less than it may.
    pub takes_less: bool,
    /// The car has drawn nothing for a while.
    pub idle: bool,
    pub not_following: bool,
    pub not_accepting: bool,
    /// It or its measurement has fallen silent in this very tick.
    pub lost: bool,
}

impl ChargerMemory {
    /// Takes in what the wallbox says now.
    pub fn observe(&mut self, charger: &Charger, now: Moment, tuning: &Tuning) -> Watch {
        let lost_measurement = self.measuring && charger.measured.is_none();
        let lost = lost_measurement || (self.reachable && !charger.reachable);
        self.measuring = charger.measured.is_some();
        if !charger.reachable {
            self.reachable = false;
            self.recent.clear();
            return self.watch_silent(charger, lost);
        }
        if !self.reachable {
            self.meet(charger, now, tuning);
        }
        self.note_sample(charger, tuning);
        let setting = self.setting.unwrap_or_default();
        self.note_acceptance(charger, setting);
        self.settle_releases(charger, now, tuning);
        let mut watch = Watch { setting, lost, ..Watch::default() };
        self.judge_following(charger, &mut watch, now, tuning);
        self.count(charger, &mut watch, now, tuning);
        self.judge_demand(charger, &mut watch, now, tuning);
        watch
    }

    /// Forgets everything that concerns commands: somebody else commands from now on.
    pub fn let_go(&mut self) {
        *self = Self { told: self.told.take(), ..Self::default() };
    }

    /// A new setting, sent now.
    pub fn set(&mut self, charger: &Charger, new: Milliamps, now: Moment, tuning: &Tuning) {
        let old = self.setting.unwrap_or_default();
        if new < old {
            let drawn = charger.draws().highest();
            let steady = self.steady_since.is_some_and(|at| now.0 >= at.0.saturating_add(tuning.release_hold_ms));
            let drew_more = steady && drawn > new + tuning.follow_tolerance;
            match self.releases.last_mut().filter(|last| last.accepted.is_none()) {
                // The one before has not even arrived: one reduction to the lower value, confirmed later.
                Some(last) => {
                    (last.to, last.sent) = (new, now);
                    last.from = last.from.max(old);
                    last.drew_more |= drew_more;
                }
                None => self.releases.push(Release { from: old, to: new, sent: now, accepted: None, drew_more }),
            }
        } else {
            self.steady_since = None;
        }
        self.setting = Some(new);
        self.changed = Some(now);
        self.accepted = false;
    }

    /// What it may draw as far as its settings tell, reductions that nobody has confirmed included.
    fn bound(&self, setting: Milliamps) -> Milliamps {
        self.releases.iter().map(|release| release.from).max().unwrap_or_default().max(setting)
    }

    fn watch_silent(&self, charger: &Charger, lost: bool) -> Watch {
        let known = self.setting.map(|setting| self.bound(setting)).into_iter().chain(self.last_drawn).max();
        let most = known.unwrap_or(charger.max).max(charger.failsafe.unwrap_or_default());
        let counted = PerPhase::from_fn(|phase| if charger.uses(phase) { most } else { Milliamps::ZERO });
        Watch { setting: self.setting.unwrap_or_default(), counted, lost, ..Watch::default() }
    }

    /// It answers for the first time, or again. What it may have done meanwhile counts until it has accepted a
    /// command; the command goes out at once because nothing is noted as sent.
    fn meet(&mut self, charger: &Charger, now: Moment, tuning: &Tuning) {
        let known = self.setting.is_some();
        let silent = self.watch_silent(charger, false).counted.highest();
        let drawn = charger.draws().highest();
        // Of a wallbox nobody has told anything yet, its own word counts for what it may draw until it obeys us: one
        // that is switched off, or set to little, need not be reserved its maximum for.
        let from = if known { silent } else { charger.follows.map_or(silent, |limit| limit.max(drawn)) };
        let setting = match self.setting {
            Some(setting) => setting,
            // Nobody knows what it was told before this program started. What it draws now may go on; what it does
            // not draw must first be earned, because others may not have gone down yet.
            None => first_setting(charger),
        };
        if from > setting {
            self.releases.push(Release { from, to: setting, sent: now, accepted: None, drew_more: false });
        }
        // A pilot that was off has nothing to settle.
        let at_rest = !known && charger.follows == Some(Milliamps::ZERO) && drawn < DRAWS_NOTHING;
        let changed = if at_rest { Moment(now.0.saturating_sub(tuning.settle_ms)) } else { now };
        self.reachable = true;
        self.setting = Some(setting);
        (self.sent, self.accepted, self.changed) = (None, false, Some(self.changed.unwrap_or(changed)));
        self.steady_since = None;
    }

    fn note_sample(&mut self, charger: &Charger, tuning: &Tuning) {
        let Some(sample) = charger.measured else {
            self.recent.clear();
            return;
        };
        self.last_drawn = Some(charger.draws().highest());
        if self.recent.last().is_none_or(|last| last.at < sample.at) {
            self.recent.push(Measured { value: charger.surely_draws(), at: sample.at });
        }
        self.recent.retain(|old| old.at.0.saturating_add(tuning.skew_ms) >= sample.at.0);
    }

    fn note_acceptance(&mut self, charger: &Charger, setting: Milliamps) {
        let Some(accepted) = charger.accepted else { return };
        if self.sent.is_some() && self.changed.is_some_and(|at| accepted.at >= at) && accepted.value <= setting {
            self.accepted = true;
            self.steady_since = Some(self.steady_since.unwrap_or(accepted.at));
        }
        for release in &mut self.releases {
            let obeyable = accepted.value <= release.to.max(setting);
            if release.accepted.is_none() && self.sent.is_some() && accepted.at >= release.sent && obeyable {
                release.accepted = Some(accepted.at);
            }
        }
    }

    fn settle_releases(&mut self, charger: &Charger, now: Moment, tuning: &Tuning) {
        let drawn = charger.draws().highest();
        self.releases.retain(|release| {
            let Some(accepted) = release.accepted else { return true };
            let held = now.0 < accepted.0.saturating_add(tuning.release_hold_ms);
            let shown = charger
                .measured
                .is_some_and(|sample| sample.at >= accepted && drawn <= release.to + tuning.follow_tolerance);
            held && !(shown && release.drew_more)
        });
    }

    fn judge_following(&mut self, charger: &Charger, watch: &mut Watch, now: Moment, tuning: &Tuning) {
        let drawn = charger.draws().highest();
        if drawn > watch.setting + tuning.follow_tolerance {
            // A car that is told something new gets its time to obey anew.
            let since = self.over_since.unwrap_or(now).max(self.changed.unwrap_or_default());
            self.over_since = Some(since);
            watch.not_following = now.0 >= since.0.saturating_add(tuning.follow_after_ms);
        } else {
            self.over_since = None;
        }
        let unaccepted = self.sent.is_some() && !self.accepted;
        self.unaccepted_since = unaccepted.then(|| self.unaccepted_since.unwrap_or(now));
        let overdue = |since: Moment| now.0 >= since.0.saturating_add(tuning.follow_after_ms);
        watch.not_accepting = self.unaccepted_since.is_some_and(overdue);
    }

    /// What it counts with: for giving current to others, as excess, and as its part in a meter's sample.
    fn count(&mut self, charger: &Charger, watch: &mut Watch, now: Moment, tuning: &Tuning) {
        let setting = watch.setting;
        // A limit above ours that the wallbox itself reports: somebody else talks to it too. A paused one often
        // reports the limit it would have if it were not paused, which says nothing.
        let reported = charger.follows.filter(|_| setting.0 > 0).unwrap_or_default();
        let bound = self.bound(setting).max(reported);
        let drawn = charger.draws();
        let moving = self.changed.is_some_and(|at| now.0 < at.0.saturating_add(tuning.release_hold_ms));
        // While a car may still be on its way down, what it draws above its setting says nothing; its habit does.
        let explained = !self.releases.is_empty() && !watch.not_following && !watch.not_accepting;
        if !charger.connector.plugged() && charger.connector != Connector::Unknown {
            self.habit = PerPhase::default();
        }
        for phase in Phase::ALL {
            let (told, most) = if charger.uses(phase) { (setting, bound) } else { Default::default() };
            watch.counted[phase] = most.max(drawn[phase]);
            let stuck = if watch.not_accepting { most } else { Milliamps::ZERO };
            let above = (drawn[phase].max(stuck) - told).at_least_zero();
            if !explained {
                self.habit[phase] = above;
            }
            watch.excess[phase] = self.habit[phase];
            watch.surely[phase] = self.own_part(charger, phase, setting);
            let latest = self.recent.last().map(|drawn| drawn.value[phase]);
            watch.latest[phase] = latest.unwrap_or(watch.surely[phase]);
            watch.perhaps[phase] = if moving { watch.surely[phase].max(told) } else { watch.surely[phase] };
        }
    }

    /// The part of a circuit meter's sample that is this wallbox. What it measures itself, at the highest of the last
    /// moments: devices are polled one after another, and a car going up must not look like a load of the house (the
    /// opposite error lasts one sample, and the window of past samples covers it). A wallbox that measures nothing
    /// and says that it charges is taken to draw its minimum, the least a charging car draws, because with nothing it
    /// would be counted twice and stop itself; if that is wrong the meter shows it in the next second.
    fn own_part(&self, charger: &Charger, phase: Phase, setting: Milliamps) -> Milliamps {
        if charger.measured.is_some() {
            return self.recent.iter().map(|drawn| drawn.value[phase]).max().unwrap_or_default();
        }
        let charging = matches!(charger.connector, Connector::Charging | Connector::Ventilation);
        if charging && charger.uses(phase) { charger.least().min(setting) } else { Milliamps::ZERO }
    }

    fn judge_demand(&mut self, charger: &Charger, watch: &mut Watch, now: Moment, tuning: &Tuning) {
        watch.requested = match charger.connector {
            Connector::Available | Connector::NoPilot | Connector::Fault => Milliamps::ZERO,
            Connector::Connected | Connector::Charging | Connector::Ventilation | Connector::Unknown => charger.cap(),
        };
        if charger.measured.is_none() || watch.requested.0 == 0 {
            (self.under_since, self.demand, self.idle_since) = (None, None, None);
            return;
        }
        let drawn = charger.draws().highest();
        if drawn >= DRAWS_NOTHING {
            self.idle_since = None;
        }
        if watch.setting.0 > 0 {
            let under = drawn + tuning.idle_margin < watch.setting;
            self.under_since = under.then(|| self.under_since.unwrap_or(now).max(self.changed.unwrap_or_default()));
            if drawn + tuning.follow_tolerance >= watch.setting {
                self.demand = None;
            }
            if self.under_since.is_some_and(|since| now.0 >= since.0.saturating_add(tuning.idle_after_ms)) {
                self.demand = Some(drawn + tuning.idle_margin);
                if drawn < DRAWS_NOTHING && self.idle_since.is_none() {
                    self.idle_since = Some(now);
                }
            }
        }
        if self.idle_since.is_some_and(|since| now.0 >= since.0.saturating_add(tuning.idle_probe_ms)) {
            (self.under_since, self.demand, self.idle_since) = (None, None, None);
        }
        watch.idle = self.idle_since.is_some();
        if let Some(demand) = self.demand {
            let step = charger.step.0.max(1);
            let up = Milliamps(demand.0.saturating_add(step - 1) / step * step).max(charger.least());
            watch.takes_less = up < watch.requested;
            watch.requested = watch.requested.min(up);
        }
    }
}

fn first_setting(charger: &Charger) -> Milliamps {
    let charging = matches!(charger.connector, Connector::Charging | Connector::Ventilation);
    let drawn = charger.draws().highest();
    let draws = match charger.measured {
        Some(_) if drawn >= DRAWS_NOTHING => drawn.max(charger.least()),
        Some(_) => Milliamps::ZERO,
        None if charging => charger.follows.unwrap_or_default(),
        None => Milliamps::ZERO,
    };
    charger.on_grid(draws.min(charger.cap()))
}
