//! All wallboxes: the configuration and the board in, what to write and to show out. Pure: no I/O, time is an argument.

use std::collections::BTreeMap;

use super::look::{Look, Pinned};
use super::wallbox::{Effect, Facts, Saved, Wallbox};
use super::{Now, OutsideWish, OverrideChange, SessionError, SessionView, cards};
use crate::config::{Config, DeviceConfig};
use crate::site::{DeviceId, DeviceKind, Restrictions, Statuses};
use crate::store::Change;

/// Every session.
#[derive(Debug, Default)]
pub struct Core {
    /// Also of wallboxes that are not in the configuration any more: their transactions end when they are seen again.
    boxes: BTreeMap<DeviceId, Wallbox>,
    changes: Vec<Change>,
    phases: Vec<(DeviceId, u8)>,
}

impl Core {
    /// As an earlier run left it.
    pub fn new(saved: impl IntoIterator<Item = (DeviceId, Saved)>) -> Self {
        let boxes = saved.into_iter().map(|(id, saved)| (id, Wallbox::taken_up(saved))).collect();
        Self { boxes, ..Self::default() }
    }

    /// Looks at every wallbox.
    pub fn look(&mut self, config: &Config, devices: &impl Statuses, now: Now) {
        for device in wallboxes(config) {
            let meter = device.meter.as_ref();
            let pinned = meter.and_then(|meter| devices.with(meter, |meter| Pinned::of(meter, now.at)));
            let pinned = pinned.unwrap_or_default();
            let look = devices.with(&device.id, |status| Look::of(device, Some(status), pinned, now.at));
            let look = look.unwrap_or_else(|| Look::of(device, None, pinned, now.at));
            self.with(config, device, now, |wallbox, facts| wallbox.look(facts, &look, now));
        }
        self.collect(now, false);
    }

    /// A card or PIN was entered, at this wallbox or at the one that waits for it.
    pub fn enter(
        &mut self,
        config: &Config,
        card: &str,
        device: Option<&DeviceId>,
        now: Now,
    ) -> Result<DeviceId, SessionError> {
        let device = match device {
            Some(id) => wallbox(config, id)?,
            None => self.waits_for(config, card)?,
        };
        let mut entered = Ok(());
        self.with(config, device, now, |wallbox, facts| {
            let mut effects = Vec::new();
            entered = wallbox.enter(facts, card, now, &mut effects);
            effects
        });
        self.collect(now, false);
        entered.map(|()| device.id.clone())
    }

    /// The wallbox that is meant by a card alone: the only one of its user where a car waits for authorisation, else
    /// the only one with a car, else the only one.
    fn waits_for<'a>(&self, config: &'a Config, card: &str) -> Result<&'a DeviceConfig, SessionError> {
        let own: Vec<&DeviceConfig> =
            wallboxes(config).filter(|device| cards::find(config, &device.id, card).is_some()).collect();
        let state = |device: &DeviceConfig| self.boxes.get(&device.id);
        let plugged = |device: &DeviceConfig| state(device).is_some_and(Wallbox::is_plugged);
        let waits = |device: &DeviceConfig| plugged(device) && state(device).is_none_or(|own| own.needs_auth(true));
        let refused = |why: String| Err(SessionError::Refused(why));
        let groups = [
            own.iter().filter(|device| waits(device)).copied().collect::<Vec<_>>(),
            own.iter().filter(|device| plugged(device)).copied().collect(),
            own,
        ];
        match groups.iter().find(|group| !group.is_empty()).map(Vec::as_slice) {
            None => refused("no wallbox has a user with this card or PIN".into()),
            Some([only]) => Ok(*only),
            Some(several) => {
                let names: Vec<&str> = several.iter().map(|device| device.id.as_str()).collect();
                refused(format!("more than one wallbox could be meant ({}); name one, dev_id=…", names.join(", ")))
            }
        }
    }

    /// Changes overrides.
    pub fn change(
        &mut self,
        config: &Config,
        device: &DeviceId,
        change: OverrideChange,
        now: Now,
    ) -> Result<(), SessionError> {
        let device = wallbox(config, device)?;
        self.boxes.entry(device.id.clone()).or_default().change(change, now);
        self.collect(now, false);
        Ok(())
    }

    /// Reads the soft meter, and sets it.
    pub fn soft_meter(
        &mut self,
        config: &Config,
        device: &DeviceId,
        set: Option<f64>,
        now: Now,
    ) -> Result<f64, SessionError> {
        let device = wallbox(config, device)?;
        if set.is_some_and(|wh| !wh.is_finite() || wh < 0.0) {
            return Err(SessionError::Refused("a counter shows 0 Wh or more".into()));
        }
        let before = self.boxes.entry(device.id.clone()).or_default().soft_meter(set);
        self.collect(now, false);
        before.ok_or_else(|| SessionError::Refused(format!("{} has a counter of its own", device.id)))
    }

    /// What an outside controller wants.
    pub fn outside(&mut self, device: &DeviceId, wish: Option<OutsideWish>) {
        self.boxes.entry(device.clone()).or_default().outside(wish);
    }

    /// For everybody who shows it.
    pub fn view(&self, config: &Config) -> SessionView {
        let none = Wallbox::default();
        let one = |device: &DeviceConfig| {
            let wallbox = self.boxes.get(&device.id).unwrap_or(&none);
            (device.id.clone(), wallbox.view(has_users(config, &device.id)))
        };
        wallboxes(config).map(one).collect()
    }

    /// For the load manager.
    pub fn restrictions(&self, config: &Config) -> Restrictions {
        let none = Wallbox::default();
        let one = |device: &DeviceConfig| {
            let wallbox = self.boxes.get(&device.id).unwrap_or(&none);
            Some((device.id.clone(), wallbox.restriction(has_users(config, &device.id))?))
        };
        wallboxes(config).filter_map(one).collect()
    }

    /// What is to be written, in this order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Wallboxes that are to change their phases.
    pub fn take_phases(&mut self) -> Vec<(DeviceId, u8)> {
        std::mem::take(&mut self.phases)
    }

    /// Notes everything that has been counted, before the end.
    pub fn finish(&mut self, now: Now) {
        self.collect(now, true);
    }

    fn with(
        &mut self,
        config: &Config,
        device: &DeviceConfig,
        now: Now,
        work: impl FnOnce(&mut Wallbox, &Facts<'_>) -> Vec<Effect>,
    ) {
        let find = |card: &str| cards::find(config, &device.id, card);
        let facts = Facts {
            id: &device.id,
            name: &device.name,
            has_users: has_users(config, &device.id),
            fixed_rfid: device.fixed_rfid.as_deref(),
            find: &find,
        };
        let wallbox = self.boxes.entry(device.id.clone()).or_default();
        for effect in work(wallbox, &facts) {
            match effect {
                Effect::Begin(record) => {
                    tracing::info!(device = %device.id, "a car is plugged in: a transaction begins");
                    self.changes.push(Change::Begin(record));
                }
                Effect::End(record) => {
                    let (wh, reason) = (record.energy_wh, record.reason.as_deref().unwrap_or_default());
                    tracing::info!(device = %device.id, "the transaction ends with {wh} Wh: {reason}");
                    self.changes.push(Change::End(record));
                }
                Effect::Phases(phases) => self.phases.push((device.id.clone(), phases)),
            }
        }
        Self::note(&mut self.changes, &device.id, wallbox, now, false);
    }

    fn collect(&mut self, now: Now, all: bool) {
        for (id, wallbox) in &mut self.boxes {
            Self::note(&mut self.changes, id, wallbox, now, all);
        }
    }

    fn note(changes: &mut Vec<Change>, id: &DeviceId, wallbox: &mut Wallbox, now: Now, all: bool) {
        if !wallbox.due(now, all) {
            return;
        }
        changes.extend(wallbox.record(id).map(Change::Progress));
        match serde_json::to_string(wallbox.saved()) {
            Ok(state) => changes.push(Change::Wallbox(id.clone(), state)),
            Err(error) => tracing::error!(device = %id, "the session cannot be written: {error}"),
        }
    }
}

/// Every wallbox of the configuration.
fn wallboxes(config: &Config) -> impl Iterator<Item = &DeviceConfig> {
    config.devices.iter().filter(|device| device.id.kind() == DeviceKind::Evse)
}

fn wallbox<'a>(config: &'a Config, id: &DeviceId) -> Result<&'a DeviceConfig, SessionError> {
    wallboxes(config).find(|device| device.id == *id).ok_or(SessionError::UnknownDevice)
}

fn has_users(config: &Config, device: &DeviceId) -> bool {
    cards::users(config, device).next().is_some()
}
