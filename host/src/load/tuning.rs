//! Every time and factor of the load manager in one place, each with what it protects against. They are data and not
//! constants so that the closed-loop tests can switch one rule off and show that the site is then overloaded; a
//! running host always uses [`Tuning::default`].

use super::Milliamps;

/// Times in ms, currents in mA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How long a reduced current still counts after the wallbox accepted the reduction, unless its own measurement
    /// shows earlier that the car has obeyed. IEC 61851 gives the wallbox 5 s to move the pilot and cars need up to
    /// 6 s more: who counts on the current earlier puts two cars on it at once.
    pub release_hold_ms: u64,
    /// A car counts as obeying if it draws at most this much more than it was told: meters of wallboxes are not exact.
    pub follow_tolerance: Milliamps,
    /// Drawing more than told for so long raises the alarm and stops waiting for the car to obey.
    pub follow_after_ms: u64,
    /// A raise looks back so far for the highest base load, so that a load behind a thermostat does not make the cars
    /// go up and down with it.
    pub window_ms: u64,
    /// Samples of a meter and of the wallboxes under it that lie this close together count as simultaneous. Devices
    /// are polled one after another; a car that ramps in between must not look like a load of the house.
    pub skew_ms: u64,
    /// Least time between the last command to a wallbox and a raise: cars may need 5 s for each change of the pilot.
    pub settle_ms: u64,
    /// A charging current grows by at most so much per second …
    pub ramp_per_s: Milliamps,
    /// … or by this share (per mille) of the wallbox's range per second, whichever is more.
    pub ramp_range_per_mille: i64,
    /// At most one n-th of the free current is given out per tick, so that an error of measurement of the free
    /// current is met with reserves.
    pub ramp_share: i64,
    /// Smaller raises are not worth the car's attention, except the last one up to the wallbox's maximum.
    pub ramp_least: Milliamps,
    /// How long a wallbox may rely on a command; each is repeated at a third of this.
    pub lease_ms: u64,
    /// A command that the wallbox has not accepted is repeated after so long.
    pub retry_ms: u64,
    /// A car that draws less than it may for so long gives the rest back.
    pub idle_after_ms: u64,
    /// Above what it draws, such a car keeps this much, so that it can show that it wants more again.
    pub idle_margin: Milliamps,
    /// A car that draws nothing goes behind the others; after so long it may take its place in the queue again, as
    /// nobody can see otherwise whether it wants to charge now.
    pub idle_probe_ms: u64,
    /// How long a limit stays lowered after an overload that came close to what trips a breaker.
    pub penalty_ms: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            release_hold_ms: 11_000,
            follow_tolerance: Milliamps(1_000),
            follow_after_ms: 12_000,
            window_ms: 30_000,
            skew_ms: 3_000,
            settle_ms: 5_000,
            ramp_per_s: Milliamps(1_000),
            ramp_range_per_mille: 30,
            ramp_share: 2,
            ramp_least: Milliamps(500),
            lease_ms: 30_000,
            retry_ms: 5_000,
            idle_after_ms: 60_000,
            idle_margin: Milliamps(2_000),
            idle_probe_ms: 15 * 60_000,
            penalty_ms: 5 * 60_000,
        }
    }
}
