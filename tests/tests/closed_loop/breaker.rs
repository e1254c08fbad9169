//! The judge of the closed loop. Shares nothing with the load manager.

/// A miniature circuit breaker, harsher than IEC 60898 demands of a real one: a bimetal with a time constant of two
/// minutes that starts warm from full load and trips at the temperature which 1.13 times the rated current reaches in
/// the end (the standard: that current is carried for an hour). From warm it trips at 1.45 times after 35 s (the
/// standard: within an hour), at twice after 12 s, and at once at 3 times, the least at which type B may trip.
#[derive(Clone, Debug)]
pub struct Breaker {
    pub rated: f64,
    pub warmth: f64,
    pub tripped: bool,
}

impl Breaker {
    pub fn new(rated: f64) -> Self {
        Self { rated, warmth: 1.0, tripped: false }
    }

    pub fn carry(&mut self, ampere: f64, seconds: f64) {
        let load = ampere / self.rated;
        self.warmth += (load * load - self.warmth) * seconds / 120.0;
        self.tripped |= self.warmth > 1.13 * 1.13 || load >= 3.0;
    }
}
