//! A site for tests of whatever evaluates formulas.

use std::time::Duration;

use jiff::civil::date;
use ladekern_definition::Formula;

use super::*;
use crate::site::{Connector, DeviceId, Health, Outcome, StatusSender};

/// A site whose devices say what the test wants, at a fixed time of day.
pub(crate) struct Site {
    pub world: World,
    pub clock: Clock,
    pub config: watch::Sender<Arc<Config>>,
    devices: Vec<StatusSender>,
}

pub(crate) fn parsed(text: &str) -> Arc<Config> {
    Arc::new(crate::config::parse("f", text, &[]).unwrap_or_else(|errors| panic!("{errors}")))
}

pub(crate) fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

impl Site {
    pub fn new(text: &str) -> Self {
        let (board, clock) = (Board::default(), Clock::start());
        let first = parsed(text);
        let devices = first.devices.iter().map(|device| board.register(device.id.clone())).collect();
        let (config, follow) = watch::channel(first);
        let noon = date(2024, 2, 29).at(13, 5, 9, 0).in_tz("Europe/Berlin").unwrap();
        let world = World::with_wall(board, follow, clock, Arc::new(move || Some(noon.clone())));
        Self { world, clock, config, devices }
    }

    pub fn configure(&self, text: &str) {
        self.config.send_replace(parsed(text));
    }

    /// A device says these readings now; they are fresh for ten seconds.
    pub fn say(&self, device: &str, readings: &[(&str, f64)]) {
        self.outcome(device, readings, None);
    }

    pub fn outcome(&self, device: &str, readings: &[(&str, f64)], connector: Option<Connector>) {
        let mut outcome = Outcome { connector, ..Outcome::default() };
        readings.iter().for_each(|(name, value)| outcome.push(name, *value));
        let now = self.clock.now();
        self.devices.iter().find(|sender| *sender.id() == id(device)).unwrap().update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(10);
            status.values.merge(outcome, now);
        });
    }

    /// What a formula comes to, of a device or of the Charging Manager.
    pub fn value(&self, own: Option<&str>, formula: &str) -> Option<f64> {
        Formula::parse(formula).unwrap().value(&self.world.look().scope(own.map(id).as_ref()))
    }
}
