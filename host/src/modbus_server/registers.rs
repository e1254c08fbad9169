//! The live registers of all devices: reads show the site, writes reach it. Shared by the Modbus server and by
//! `cmd=modbus`. Writes to one wallbox happen one after the other; a wallbox that hangs holds up nobody else's.
//!
//! While the load manager manages, current and permission are wishes that cap what it gives (`Sessions::outside`).
//! While it observes they are commands. Phases and waking up are commands in both modes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell};

use crate::config::{Config, DeviceConfig, LoadMode};
use crate::contract::SiteSource;
use crate::contract::registers::{Defaults, Held, RegisterError, Shown, Write, check};
use crate::session::Sessions;
use crate::site::{Command, CommandError, Commands, DeviceId, DeviceKind, Moment};
use crate::store::DriverState;

/// Under this name the defaults stand in the store; no plugin can be called so.
const OWNER: &str = "modbus_server";
/// The key of the defaults.
const DEFAULTS: &str = "defaults";
/// Bytes the defaults may take.
const SPACE: u64 = 4096;
/// How long a wallbox may take to carry a command out before the controller is told that it does not.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the registers show and whom they command.
#[derive(Clone)]
pub struct RegisterParts {
    /// The live site.
    pub source: SiteSource,
    /// Where wishes go while the load manager manages.
    pub sessions: Sessions,
    /// Where commands go.
    pub commands: Arc<dyn Commands>,
    /// Where the defaults are kept.
    pub state: DriverState,
}

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A controller on a Modbus connection: its silence counts (8083).
    Controller,
    /// A call of the API.
    Call,
}

/// The registers of all devices; cheap to clone.
#[derive(Clone)]
pub struct Registers {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    parts: RegisterParts,
    wallboxes: Mutex<BTreeMap<DeviceId, Arc<Wallbox>>>,
    /// A deadline may have changed.
    pub(super) stirred: Arc<Notify>,
}

/// What is kept of one wallbox.
#[derive(Default)]
pub(super) struct Wallbox {
    /// The defaults have been read.
    loaded: OnceCell<()>,
    /// Held while one write is carried out.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) held: Held,
    /// A controller has said how much may be charged.
    pub(super) controlled: bool,
    /// When it was heard last.
    pub(super) heard: Moment,
    /// In mode observe: the wallbox has not taken yet what the registers say.
    pub(super) owed: bool,
    /// In mode observe: the limit before a silence, of a controller that has written none.
    before_silence: Option<u32>,
    /// The last refusal that was logged.
    complained: String,
}

impl Wallbox {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registers {
    /// Starts to watch for controllers that fall silent, on the present runtime. The defaults of wallboxes that have
    /// some are in force from now on.
    #[must_use]
    pub fn start(parts: RegisterParts) -> Self {
        let registers = Self { inner: Arc::new(Inner { parts, wallboxes: Mutex::default(), stirred: Arc::default() }) };
        super::silence::watch(&registers);
        registers
    }

    /// The live site.
    #[must_use]
    pub fn source(&self) -> &SiteSource {
        &self.inner.parts.source
    }

    /// The device that stands on one of the three ports: the wallbox, the first meter, the second one.
    #[must_use]
    pub fn on_port(config: &Config, port: usize) -> Option<DeviceId> {
        let server = &config.modbus_server;
        let first = |kind, skip| {
            let mut ids = config.devices.iter().map(|device| &device.id).filter(|id| id.kind() == kind);
            ids.nth(skip).cloned()
        };
        match port {
            0 => server.evse.clone().or_else(|| first(DeviceKind::Evse, 0)),
            _ => server.meters.get(port - 1).cloned().flatten().or_else(|| first(DeviceKind::Meter, port - 1)),
        }
    }

    /// Reads from the registers of one device: whatever `read` wants of it.
    ///
    /// # Errors
    /// What `read` refuses; [`RegisterError::Address`] if there is no such device.
    pub async fn read<T>(
        &self,
        id: &DeviceId,
        read: impl FnOnce(&Shown<'_>) -> Result<T, RegisterError>,
    ) -> Result<T, RegisterError> {
        let wallbox = self.wallbox(id).await;
        let view = self.source().view_of(id);
        let held = {
            let mut state = wallbox.state();
            count_card(&mut state.held, &view, id);
            state.held.clone()
        };
        let unit = unit(&view.config, id);
        match Shown::new(&view, id, &held, unit) {
            Some(shown) => read(&shown),
            None => Err(gone(id)),
        }
    }

    /// Writes words from `address` on. All of it counts, or nothing. Logs what is refused.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn write(&self, writer: Writer, id: &DeviceId, address: u16, words: &[u16]) -> Result<(), RegisterError> {
        let wallbox = self.wallbox(id).await;
        let written = self.carry_out(&wallbox, writer, id, address, words).await;
        let mut state = wallbox.state();
        let complaint = written.as_ref().err().map(ToString::to_string).unwrap_or_default();
        // A controller repeats what it wants; the same refusal every few seconds is one message.
        if !complaint.is_empty() && complaint != state.complained {
            tracing::warn!(device = %id, "a write to a Modbus register was refused: {complaint}");
        }
        state.complained = complaint;
        written
    }

    async fn carry_out(
        &self,
        wallbox: &Wallbox,
        writer: Writer,
        id: &DeviceId,
        address: u16,
        words: &[u16],
    ) -> Result<(), RegisterError> {
        let _turn = wallbox.turn.lock().await;
        let writes = check(id.kind(), address, words)?;
        let before = wallbox.state().held.clone();
        let mut after = before.clone();
        let view = self.source().view_of(id);
        let shown = Shown::new(&view, id, &before, unit(&view.config, id)).ok_or_else(|| gone(id))?;
        let (device, pilot, enabled) = (shown.device(), shown.pilot(), shown.enabled());
        for write in &writes {
            after.take(*write, view.snapshot.at, pilot)?;
        }
        for command in writes.iter().filter_map(|write| direct(*write)) {
            self.command(id, command).await?;
        }
        if view.config.load.mode == LoadMode::Observe
            && writes.iter().any(|write| write.controls())
            && let Some(command) = wanted(&before, &after, enabled, device)
        {
            self.command(id, command).await?;
        }
        if after.defaults != before.defaults {
            self.keep(id, &after.defaults).await?;
        }
        let wish = after.wish(device);
        {
            let mut state = wallbox.state();
            // Meanwhile a silence may have begun or ended, or a card may have been seen: that is not ours to undo.
            let (silent, card, cards) = (state.held.silent, state.held.card.clone(), state.held.cards);
            state.held = Held { silent, card, cards, ..after };
            state.owed = false;
            if writer == Writer::Controller {
                state.heard = view.snapshot.at;
                state.controlled |= writes.iter().any(|write| write.controls());
            }
        }
        self.inner.parts.sessions.outside(id, wish).await;
        self.inner.stirred.notify_one();
        Ok(())
    }

    pub(super) async fn command(&self, id: &DeviceId, command: Command) -> Result<(), RegisterError> {
        let answer = tokio::time::timeout(PATIENCE, self.inner.parts.commands.command(id, command)).await;
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ CommandError::NotYet(_))) => Err(RegisterError::Busy(format!("{id}: {error}"))),
            Ok(Err(error @ CommandError::Unsupported(_))) => Err(RegisterError::Value(format!("{id}: {error}"))),
            Ok(Err(error)) => Err(RegisterError::Device(format!("{id}: {error}"))),
            Err(_) => Err(RegisterError::Device(format!("{id}: no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    /// Keeps the defaults for the next start.
    async fn keep(&self, id: &DeviceId, defaults: &Defaults) -> Result<(), RegisterError> {
        let failed = |error: &dyn std::fmt::Display| RegisterError::Device(format!("{id}: not stored: {error}"));
        let value = serde_json::to_vec(defaults).map_err(|error| failed(&error))?;
        let kept = self.inner.parts.state.set(id, OWNER, DEFAULTS.into(), value, SPACE).await;
        kept.map_err(|error| failed(&error))
    }

    /// What is kept of one device; its defaults are read when it is first asked for.
    pub(super) async fn wallbox(&self, id: &DeviceId) -> Arc<Wallbox> {
        let wallbox = Arc::clone(self.inner.wallboxes().entry(id.clone()).or_default());
        if id.kind() == DeviceKind::Evse {
            wallbox.loaded.get_or_init(|| self.load(&wallbox, id)).await;
        }
        wallbox
    }

    async fn load(&self, wallbox: &Wallbox, id: &DeviceId) {
        let stored = match self.inner.parts.state.get(id, OWNER, DEFAULTS.into()).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(device = %id, "the defaults of its Modbus registers cannot be read: {error}");
                None
            }
        };
        let Some(defaults) = stored.and_then(|stored| serde_json::from_slice(&stored).ok()) else { return };
        let config = Arc::clone(&self.source().config.borrow());
        let Some(device) = config.devices.iter().find(|device| device.id == *id) else { return };
        let wish = {
            let mut state = wallbox.state();
            state.held.defaults = defaults;
            let wish = state.held.wish(device);
            state.owed = wish.is_some();
            wish
        };
        if wish.is_some() {
            self.inner.parts.sessions.outside(id, wish).await;
            self.inner.stirred.notify_one();
        }
    }

    /// Somebody talks to the wallbox over Modbus. What silence had taken away is given back.
    pub async fn heard(&self, id: &DeviceId) {
        let wallbox = self.wallbox(id).await;
        let back = {
            let mut state = wallbox.state();
            state.heard = self.source().clock.now();
            std::mem::take(&mut state.held.silent)
        };
        if back {
            tracing::info!(device = %id, "its Modbus controller is back");
            self.show_wish(&wallbox, id).await;
        }
    }

    /// Takes back what controllers have written: the server that they wrote to has ended.
    pub async fn release_controllers(&self) {
        for (id, wallbox) in self.inner.all() {
            let was = {
                let mut state = wallbox.state();
                let was = std::mem::take(&mut state.controlled);
                if was {
                    state.held.release();
                }
                was
            };
            if was {
                self.show_wish(&wallbox, &id).await;
                // In mode observe the wallbox stays as it is: nobody wants anything else of it.
                wallbox.state().owed = false;
            }
        }
    }

    /// Says anew what the registers want of a wallbox.
    pub(super) async fn show_wish(&self, wallbox: &Wallbox, id: &DeviceId) {
        let config = Arc::clone(&self.source().config.borrow());
        let Some(device) = config.devices.iter().find(|device| device.id == *id) else { return };
        let wish = {
            let mut state = wallbox.state();
            state.owed = true;
            state.held.wish(device)
        };
        self.inner.parts.sessions.outside(id, wish).await;
        self.inner.stirred.notify_one();
    }

    /// In mode observe: commands what the registers say. `false`: it is still owed.
    pub(super) async fn pay(&self, wallbox: &Wallbox, id: &DeviceId) -> bool {
        let _turn = wallbox.turn.lock().await;
        let view = self.source().view_of(id);
        let held = wallbox.state().held.clone();
        let command = match Shown::new(&view, id, &held, unit(&view.config, id)) {
            Some(shown) if view.config.load.mode == LoadMode::Observe => {
                let mut state = wallbox.state();
                let limited = held.limit_ma(shown.device()).is_some();
                if held.silent {
                    let spoken = Held { silent: false, ..held.clone() };
                    let now = shown.limit_ma();
                    state.before_silence.get_or_insert_with(|| spoken.limit_ma(shown.device()).unwrap_or(now));
                }
                let before = if held.silent { None } else { state.before_silence.take() };
                match wanted(&held, &held, shown.enabled(), shown.device()) {
                    Some(Command::Enable(true)) | None if !limited && shown.enabled() => before.map(Command::Current),
                    command => command,
                }
            }
            _ => None,
        };
        let paid = match command {
            None => true,
            Some(command) => self.command(id, command).await.is_ok(),
        };
        if paid {
            wallbox.state().owed = false;
        }
        paid
    }
}

impl Inner {
    fn wallboxes(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Arc<Wallbox>>> {
        // The map is only ever inserted into and read.
        self.wallboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<(DeviceId, Arc<Wallbox>)> {
        self.wallboxes().iter().map(|(id, wallbox)| (id.clone(), Arc::clone(wallbox))).collect()
    }
}

fn gone(id: &DeviceId) -> RegisterError {
    RegisterError::Address(format!("there is no device {id}"))
}

/// What register 8040 says: 1 a wallbox, 2 and 3 the meters of the two ports.
fn unit(config: &Config, id: &DeviceId) -> u8 {
    match id.kind() {
        DeviceKind::Evse => 1,
        DeviceKind::Meter if Registers::on_port(config, 2).as_ref() == Some(id) => 3,
        DeviceKind::Meter => 2,
    }
}

/// Counts a card that is another one than the last.
fn count_card(held: &mut Held, view: &crate::contract::SiteView, id: &DeviceId) {
    let card = view.snapshot.devices.get(id).and_then(|status| status.values.text("rfid"));
    let card = card.map(|card| card.value.as_str()).unwrap_or_default();
    if card != held.card {
        if !card.is_empty() {
            held.cards = held.cards.wrapping_add(1);
        }
        held.card = card.to_owned();
    }
}

/// Writes that are commands in both modes.
fn direct(write: Write) -> Option<Command> {
    match write {
        Write::WakeUp(_) => Some(Command::WakeUp),
        Write::OnePhase(one) => Some(Command::Phases(if one { 1 } else { 3 })),
        _ => None,
    }
}

/// The command for what the registers say after a change; `None`: nothing is said, or only a limit for a wallbox that
/// may not charge, for which any current would be a permission.
fn wanted(before: &Held, after: &Held, enabled: bool, device: &DeviceConfig) -> Option<Command> {
    let limit = after.limit_ma(device);
    let paused = |ma: u32| ma < device.min_ma;
    let allowed = match after.enabled() {
        Some(allowed) => allowed,
        // A limit of 0 before was a pause and no ban.
        None => enabled || before.limit_ma(device).is_some_and(paused),
    };
    match (allowed, limit) {
        (false, _) if after.enabled().is_some() => Some(Command::Enable(false)),
        (false, _) => None,
        (true, Some(ma)) if paused(ma) => Some(Command::Current(0)),
        (true, Some(ma)) => Some(Command::Current(ma.min(device.max_ma))),
        (true, None) if after.enabled().is_some() || before.limit_ma(device).is_some() => Some(Command::Enable(true)),
        (true, None) => None,
    }
}
