//! Sessions without wires, clocks and disks: what is said about wallboxes goes in, what is written and shown comes out.

mod actor;
mod cards;
mod running;
mod sequences;

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::Core;
use super::{Now, Session};
use crate::config::Config;
use crate::site::{Connector, DeviceId, DeviceStatus, Health, Moment, Outcome, Restriction, Statuses};
use crate::store::{Change, Record};

const SITE: &str = r#"
[[device]]
id = "E1"
name = "Carport"
type = "http-input"
[[device]]
id = "E2"
type = "some-driver"
[[device]]
id = "M1"
type = "http-input"
"#;

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn config(text: &str) -> Config {
    crate::config::parse("test.toml", text, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

impl Statuses for BTreeMap<DeviceId, DeviceStatus> {
    fn with<T>(&self, id: &DeviceId, read: impl FnOnce(&DeviceStatus) -> T) -> Option<T> {
        self.get(id).map(read)
    }
}

/// All sessions of a site whose devices say what the test has them say.
struct Bench {
    core: Core,
    config: Config,
    devices: BTreeMap<DeviceId, DeviceStatus>,
    now: Now,
    /// Beginnings and ends.
    events: Vec<Change>,
    /// What a database would hold of the wallboxes.
    disk: BTreeMap<DeviceId, String>,
    writes: usize,
}

impl Bench {
    fn new(more: &str) -> Self {
        Self {
            core: Core::default(),
            config: config(&format!("{SITE}{more}")),
            devices: BTreeMap::new(),
            now: Now { at: Moment(1_000), unix_s: Some(1_800_000_000) },
            events: Vec::new(),
            disk: BTreeMap::new(),
            writes: 0,
        }
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now.at = self.now.at.after(Duration::from_secs(seconds));
        self.now.unix_s = self.now.unix_s.map(|unix_s| unix_s + seconds);
        self
    }

    /// A device says this now, and the sessions look.
    fn say(&mut self, device: &str, connector: Option<Connector>, readings: &[(&str, f64)]) -> &mut Self {
        self.say_with_card(device, connector, readings, None)
    }

    fn say_with_card(
        &mut self,
        device: &str,
        connector: Option<Connector>,
        readings: &[(&str, f64)],
        card: Option<&str>,
    ) -> &mut Self {
        let mut outcome = Outcome { connector, ..Outcome::default() };
        readings.iter().for_each(|(name, value)| outcome.push(name, *value));
        outcome.texts.extend(card.map(|card| ("rfid".to_owned(), card.to_owned())));
        let status = self.devices.entry(id(device)).or_insert_with(|| DeviceStatus {
            health: Health::Running,
            stale_after: Duration::from_secs(10),
            ..DeviceStatus::default()
        });
        status.values.merge(outcome, self.now.at);
        self.look()
    }

    fn look(&mut self) -> &mut Self {
        self.core.look(&self.config, &self.devices, self.now);
        self.write();
        self
    }

    fn write(&mut self) {
        let changes = self.core.take_changes();
        self.writes += usize::from(!changes.is_empty());
        for change in changes {
            match change {
                Change::Begin(_) | Change::End(_) => self.events.push(change),
                Change::Progress(_) => {}
                Change::Wallbox(device, state) => _ = self.disk.insert(device, state),
            }
        }
    }

    /// Killed and started again: nothing is left but the disk, and no device has said anything.
    fn crash(&mut self, seconds: u64) -> &mut Self {
        let saved = self.disk.iter().map(|(id, state)| (id.clone(), serde_json::from_str(state).unwrap()));
        self.core = Core::new(saved.collect::<Vec<_>>());
        self.devices.clear();
        self.now.at = Moment(1_000);
        self.now.unix_s = self.now.unix_s.map(|unix_s| unix_s + seconds);
        self
    }

    fn session(&self, device: &str) -> Session {
        self.core.view(&self.config)[&id(device)].clone()
    }

    fn restriction(&self, device: &str) -> Option<Restriction> {
        self.core.restrictions(&self.config).get(&id(device)).copied()
    }

    /// Enters a card.
    fn card(&mut self, card: &str, device: Option<&str>) -> Result<DeviceId, String> {
        let device = device.map(id);
        let entered = self.core.enter(&self.config, card, device.as_ref(), self.now);
        self.write();
        entered.map_err(|error| error.to_string())
    }

    fn begins(&self) -> Vec<&Record> {
        self.events.iter().filter_map(|e| if let Change::Begin(record) = e { Some(record) } else { None }).collect()
    }

    fn ends(&self) -> Vec<&Record> {
        self.events.iter().filter_map(|e| if let Change::End(record) = e { Some(record) } else { None }).collect()
    }
}
