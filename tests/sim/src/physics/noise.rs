//! Deterministic variation: the same seed gives the same house on every machine. Never reads a clock or an entropy source.

/// A number in 0..1 for (`seed`, `lane`, `n`), by the SplitMix64 finaliser.
#[must_use]
pub fn unit(seed: u64, lane: u64, n: u64) -> f64 {
    let mut z = seed ^ lane.wrapping_mul(0xD1B5_4A32_D192_ED03) ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

/// Smooth variation in -1..1 that takes a new value every `period_s` and glides between them; independent of the step width.
#[must_use]
pub fn wave(seed: u64, lane: u64, t: f64, period_s: f64) -> f64 {
    let x = (t.max(0.0) / period_s.max(1e-3)).min(1e15);
    let n = x.floor();
    let f = x - n;
    let glide = f * f * (3.0 - 2.0 * f);
    let a = unit(seed, lane, n as u64);
    let b = unit(seed, lane, n as u64 + 1);
    2.0 * (a + (b - a) * glide) - 1.0
}

/// A current over time: straight lines between points, optionally repeated, with a little variation on top.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// `(seconds, amperes)`, seconds ascending; before the first and after the last point the value stays.
    pub points: Vec<(f64, f64)>,
    /// Start again from the beginning after this many seconds.
    pub repeat_s: Option<f64>,
    /// Largest deviation by variation, in amperes.
    pub noise: f64,
}

impl Trace {
    /// The same current all the time, give or take `noise` amperes.
    #[must_use]
    pub fn constant(amps: f64, noise: f64) -> Self {
        Self { points: vec![(0.0, amps)], repeat_s: None, noise }
    }

    /// The current at `t` seconds, never negative.
    #[must_use]
    pub fn at(&self, seed: u64, lane: u64, t: f64) -> f64 {
        let at = match self.repeat_s {
            Some(period) if period > 0.0 => t.rem_euclid(period),
            _ => t,
        };
        let value = match self.points.iter().position(|(start, _)| *start > at) {
            Some(0) => self.points.first().map_or(0.0, |p| p.1),
            None => self.points.last().map_or(0.0, |p| p.1),
            Some(after) => match (self.points.get(after - 1), self.points.get(after)) {
                (Some((t0, a0)), Some((t1, a1))) => a0 + (a1 - a0) * (at - t0) / (t1 - t0),
                _ => 0.0,
            },
        };
        (value + self.noise * wave(seed, lane, t, 3.0)).max(0.0)
    }
}
