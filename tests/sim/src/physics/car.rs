//! A car: follows the offered current late, in ramps, sometimes a little above it; fills up, falls asleep, wakes up.
//!
//! Sources of the numbers: IEC 61851-1 leaves a car 5 s after a change of the pilot, field reports add about 6 s
//! (0..11 s here); chargers draw up to 1.5 A above the offer. Never knows who controls the wallbox.

use std::collections::VecDeque;

/// How a car behaves.
#[derive(Debug, Clone)]
pub struct CarOptions {
    /// Phases its on-board charger uses, 1..3, counted from the first conductor.
    pub phases: usize,
    /// Most it can draw per phase, A.
    pub max_a: f64,
    /// Seconds from a change of the pilot until it follows.
    pub reaction_s: f64,
    /// Draws this much more than told (never above `max_a + over_a`), A.
    pub over_a: f64,
    /// Ramp upwards, A/s.
    pub up_a_per_s: f64,
    /// Ramp downwards, A/s.
    pub down_a_per_s: f64,
    /// Energy until it is full, Wh.
    pub wants_wh: f64,
    /// Falls asleep after so many seconds without an offer and then needs its pilot interrupted.
    pub sleeps_after_s: Option<f64>,
    /// False: ignores every reduction; only the contactor stops it.
    pub obeys: bool,
}

impl Default for CarOptions {
    fn default() -> Self {
        Self {
            phases: 3,
            max_a: 16.0,
            reaction_s: 1.0,
            over_a: 0.0,
            up_a_per_s: 4.0,
            down_a_per_s: 40.0,
            wants_wh: 30_000.0,
            sleeps_after_s: None,
            obeys: true,
        }
    }
}

/// A car and what it is doing.
#[derive(Debug, Clone)]
pub struct Car {
    /// How it behaves; may be changed while it charges.
    pub options: CarOptions,
    seen: VecDeque<(f64, f64)>,
    last_offer: f64,
    told: f64,
    amps: f64,
    taken_wh: f64,
    idle_s: f64,
    asleep: bool,
    t: f64,
}

impl Car {
    /// A car that has just been plugged in.
    #[must_use]
    pub fn new(options: CarOptions) -> Self {
        Self {
            options,
            seen: VecDeque::new(),
            last_offer: 0.0,
            told: 0.0,
            amps: 0.0,
            taken_wh: 0.0,
            idle_s: 0.0,
            asleep: false,
            t: 0.0,
        }
    }

    /// Lets `dt` seconds pass with `offer` amperes on the pilot (0 or >= 6); returns what it would like to draw per phase.
    pub fn step(&mut self, dt: f64, offer: f64) -> f64 {
        self.t += dt;
        if (offer - self.last_offer).abs() > 1e-9 {
            self.last_offer = offer;
            self.seen.push_back((self.t + self.options.reaction_s, offer));
        }
        while self.seen.front().is_some_and(|(due, _)| *due <= self.t + 1e-9) {
            if let Some((_, offer)) = self.seen.pop_front() {
                self.told = if self.options.obeys { offer } else { offer.max(self.told) };
            }
        }
        self.idle_s = if offer < 6.0 { self.idle_s + dt } else { 0.0 };
        if self.options.sleeps_after_s.is_some_and(|limit| self.idle_s > limit) {
            self.asleep = true;
        }
        let target = if self.wants() { self.would_draw(self.told) } else { 0.0 };
        let up = self.options.up_a_per_s * dt;
        let down = self.options.down_a_per_s * dt;
        self.amps = if target < 6.0 && self.told < 6.0 {
            (self.amps - down).max(0.0)
        } else {
            self.amps + (target - self.amps).clamp(-down, up)
        };
        self.amps
    }

    /// What it draws per phase in the end when told `amps`.
    #[must_use]
    pub fn would_draw(&self, amps: f64) -> f64 {
        if amps < 6.0 { 0.0 } else { amps.min(self.options.max_a) + self.options.over_a }
    }

    /// True while it wants energy: neither full nor asleep.
    #[must_use]
    pub fn wants(&self) -> bool {
        !self.asleep && !self.is_full()
    }

    /// True when it asks for energy now: it has understood an offer of at least 6 A and wants it.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.told >= 6.0 && self.wants()
    }

    /// True when it has taken what it wanted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.taken_wh >= self.options.wants_wh
    }

    /// True when only an interruption of the pilot brings it back.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Phases it uses, 1..3.
    #[must_use]
    pub fn phases(&self) -> usize {
        self.options.phases.clamp(1, 3)
    }

    /// Energy that really reached it.
    pub fn take(&mut self, wh: f64) {
        self.taken_wh += wh;
    }

    /// The contactor opened: the current is gone at once, whatever the car thinks.
    pub fn cut_off(&mut self) {
        self.amps = 0.0;
    }

    /// The pilot was interrupted: to the car this looks like being plugged in again.
    pub fn wake(&mut self) {
        self.asleep = false;
        self.idle_s = 0.0;
        self.seen.clear();
        self.told = 0.0;
        self.last_offer = 0.0;
        self.amps = 0.0;
    }
}
