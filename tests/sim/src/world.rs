//! The house on real time: one task steps it, every device server looks at it. Never speaks a protocol itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior};

use crate::physics::{Event, House};

/// Real time between two steps.
const STEP: Duration = Duration::from_millis(50);
/// Longest simulated time per step of the physics, so that a high speed stays exact.
const FINEST_S: f64 = 0.05;

/// A house shared between the stepping task and the device servers.
pub struct World {
    house: Mutex<House>,
    started: Instant,
    speed: f64,
    events: broadcast::Sender<Event>,
}

impl World {
    /// Shares `house`; its time starts to run with [`World::run`].
    #[must_use]
    pub fn new(house: House) -> Arc<Self> {
        let speed = house.options().speed.max(0.001);
        Arc::new(Self { house: Mutex::new(house), started: Instant::now(), speed, events: broadcast::channel(64).0 })
    }

    /// Looks at the house or changes it; its real clock is brought up to now first. Keep `f` short.
    pub fn with<R>(&self, f: impl FnOnce(&mut House) -> R) -> R {
        let mut house = self.house.lock().unwrap_or_else(PoisonError::into_inner);
        house.set_wall(self.started.elapsed().as_secs_f64());
        f(&mut house)
    }

    /// What happens in the house, as it happens. A slow listener misses the oldest ones.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Simulated seconds per real second.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Lets `seconds` of simulated time pass at once, for tests that do not want to wait.
    pub fn advance(&self, seconds: f64) {
        let mut left = seconds;
        while left > 1e-9 {
            let dt = left.min(FINEST_S);
            for event in self.with(|house| house.step(dt)) {
                // Nobody listening is no error.
                let _ = self.events.send(event);
            }
            left -= dt;
        }
    }

    /// Steps the house in real time times the speed; runs until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut tick = tokio::time::interval(STEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = Instant::now();
        loop {
            tick.tick().await;
            let now = Instant::now();
            self.advance((now - before).as_secs_f64() * self.speed);
            before = now;
        }
    }
}
