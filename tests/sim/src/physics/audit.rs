//! The audit: how long a limit was exceeded, and how quickly the manager reacted once it could know.
//!
//! Clock of the reaction times: real seconds (`wall_s`), because the manager under test lives in real time whatever
//! the speed of the simulation. An *episode* starts when a meter delivers a value above the limit. The *cut* is the
//! first lower set-point that arrives at a wallbox drawing on an overloaded phase; it counts as given at once when
//! what has already been commanded suffices, or when no wallbox has anything left to give. Never influences the house.

use super::Phases;

/// One overload that a meter has reported, times in real seconds after the report.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    /// Real seconds after the start at which the meter delivered it.
    pub measured_s: f64,
    /// Phases that were reported above the limit.
    pub phases: [bool; 3],
    /// Largest reported current, A.
    pub peak_a: f64,
    /// Until the first lower set-point arrived.
    pub cut_s: Option<f64>,
    /// Until the set-points given were enough to end the overload.
    pub enough_s: Option<f64>,
    /// Until the true current was below the limit.
    pub physical_s: Option<f64>,
}

impl Episode {
    /// Until the manager had reacted or the overload was gone; `now_s` counts for one that is still open.
    #[must_use]
    pub fn reaction_s(&self, now_s: f64) -> f64 {
        let so_far = (now_s - self.measured_s).max(0.0);
        let ended = self.physical_s.unwrap_or(so_far);
        self.cut_s.unwrap_or(ended).min(ended)
    }
}

/// What has been observed so far.
#[derive(Debug, Clone)]
pub struct Audit {
    limit_a: Phases,
    tolerance_a: f64,
    overload_s: Phases,
    worst_a: Phases,
    open: Option<Episode>,
    done: Vec<Episode>,
}

/// The set-points as the house sees them when something is reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlook {
    /// True currents now.
    pub now: Phases,
    /// Where the currents settle with what has been commanded.
    pub prospective: Phases,
    /// Current that wallboxes are still allowed, per phase.
    pub commanded: Phases,
}

impl Audit {
    /// An audit against `limit_a` per phase; reports up to `tolerance_a` above it open no episode.
    #[must_use]
    pub fn new(limit_a: Phases, tolerance_a: f64) -> Self {
        Self { limit_a, tolerance_a, overload_s: [0.0; 3], worst_a: [0.0; 3], open: None, done: Vec::new() }
    }

    /// Lets `dt` seconds pass with these true currents.
    pub(super) fn step(&mut self, dt: f64, currents: &Phases, wall_s: f64) {
        let phases = self.overload_s.iter_mut().zip(&mut self.worst_a).zip(currents).zip(&self.limit_a);
        for (((seconds, worst), amps), limit) in phases {
            let over = amps.abs() - limit;
            if over > 0.0 {
                *seconds += dt;
                *worst = worst.max(over);
            }
        }
        let calm = !self.exceeds(currents, 0.0).contains(&true);
        if let Some(episode) = &mut self.open
            && calm
            && episode.physical_s.is_none()
        {
            episode.physical_s = Some(wall_s - episode.measured_s);
        }
    }

    /// A meter has delivered these currents.
    pub(super) fn delivered(&mut self, wall_s: f64, measured: &Phases, outlook: &Outlook) {
        let over = self.exceeds(measured, self.tolerance_a);
        if !over.contains(&true) {
            self.close(wall_s);
            return;
        }
        let truly_over = self.exceeds(&outlook.now, 0.0).contains(&true);
        if truly_over && self.open.as_ref().is_some_and(|e| e.physical_s.is_some()) {
            self.close(wall_s);
        }
        let peak = measured.iter().zip(over).filter(|(_, o)| *o).fold(0.0, |p: f64, (a, _)| p.max(a.abs()));
        let episode = self.open.get_or_insert(Episode {
            measured_s: wall_s,
            phases: [false; 3],
            peak_a: 0.0,
            cut_s: None,
            enough_s: None,
            physical_s: None,
        });
        for (known, new) in episode.phases.iter_mut().zip(over) {
            *known |= new;
        }
        episode.peak_a = episode.peak_a.max(peak);
        let nothing_left = !outlook.commanded.iter().zip(over).any(|(amps, over)| over && *amps > 0.0);
        self.judge(wall_s, outlook, nothing_left);
    }

    /// A set-point arrived; `lowered` says on which phases it is lower than before while the car draws there.
    pub(super) fn set_point(&mut self, wall_s: f64, lowered: [bool; 3], outlook: &Outlook) {
        let Some(episode) = &mut self.open else { return };
        let concerns = episode.phases.iter().zip(lowered).any(|(over, low)| *over && low);
        self.judge(wall_s, outlook, concerns);
    }

    fn judge(&mut self, wall_s: f64, outlook: &Outlook, reacted: bool) {
        let enough = !self.exceeds(&outlook.prospective, self.tolerance_a).contains(&true);
        let Some(episode) = &mut self.open else { return };
        let after = wall_s - episode.measured_s;
        if (enough || reacted) && episode.cut_s.is_none() {
            episode.cut_s = Some(after);
        }
        if enough && episode.enough_s.is_none() {
            episode.enough_s = Some(after);
        }
    }

    fn close(&mut self, wall_s: f64) {
        if let Some(mut episode) = self.open.take() {
            episode.physical_s.get_or_insert(wall_s - episode.measured_s);
            self.done.push(episode);
        }
    }

    fn exceeds(&self, currents: &Phases, by: f64) -> [bool; 3] {
        let mut over = [false; 3];
        for ((over, amps), limit) in over.iter_mut().zip(currents).zip(&self.limit_a) {
            *over = amps.abs() > limit + by + 1e-9;
        }
        over
    }

    /// The limit per phase, A.
    #[must_use]
    pub fn limit_a(&self) -> Phases {
        self.limit_a
    }

    /// Simulated seconds above the limit, per phase.
    #[must_use]
    pub fn overload_s(&self) -> Phases {
        self.overload_s
    }

    /// Largest current above the limit, per phase, A.
    #[must_use]
    pub fn worst_overload_a(&self) -> Phases {
        self.worst_a
    }

    /// Reported overloads, the open one last.
    #[must_use]
    pub fn episodes(&self) -> Vec<Episode> {
        self.done.iter().chain(&self.open).cloned().collect()
    }

    /// Longest time until a cut arrived, real seconds; 0 when nothing was ever reported.
    #[must_use]
    pub fn worst_reaction_s(&self, now_s: f64) -> f64 {
        self.done.iter().chain(&self.open).fold(0.0, |worst, e| e.reaction_s(now_s).max(worst))
    }

    /// Longest time until the true current was back below the limit after a report, real seconds.
    #[must_use]
    pub fn worst_physical_s(&self, now_s: f64) -> f64 {
        let of = |e: &Episode| e.physical_s.unwrap_or((now_s - e.measured_s).max(0.0));
        self.done.iter().chain(&self.open).fold(0.0, |worst, e| of(e).max(worst))
    }
}
