//! What happens at a wallbox between plug-in and unplug: authorisation, overrides, the transaction and its energy.
//! Follows the board, keeps what must outlive a restart in the store, and tells the load manager what is allowed.

mod actor;
mod cards;
mod core;
mod energy;
mod journal;
mod look;
#[cfg(test)]
mod tests;
mod wallbox;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::site::{Board, Clock, Commands, DeviceId, Moment, Restrictions};
use crate::store::Transactions;

use self::actor::{Actor, Request};
use self::core::Core;

/// Calls that wait for the sessions' task; more have to wait themselves.
const WAITING: usize = 64;

/// The present time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Now {
    at: Moment,
    /// `None` while the system's clock is not set.
    unix_s: Option<u64>,
}

/// What is changed until the car is unplugged (`override_device`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Charging is forbidden.
    pub charging_off: bool,
    /// The wallbox's own rules do not count.
    pub rules_off: bool,
    /// The user's rules do not count.
    pub user_rules_off: bool,
    /// The most current, in mA per phase.
    pub max_ma: Option<u32>,
}

/// One wallbox.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// A car is plugged in, as far as was last seen.
    pub plugged: bool,
    /// It has users, and none of them has shown a card.
    pub needs_auth: bool,
    /// What is overridden.
    pub overrides: Overrides,
    /// Energy of the present transaction in Wh; 0 without one.
    pub energy_wh: f64,
    /// When the present transaction began; `None`: there is none, or the clock was not set then.
    pub start_unix_s: Option<u64>,
    /// Seconds in which the present car has charged.
    pub charging_s: u64,
    /// Lifetime energy in Wh of a wallbox that counts none itself; `None`: it does.
    pub soft_meter_wh: Option<f64>,
    /// The user who charges, by name.
    pub user: Option<String>,
    /// The user who charges.
    pub user_id: Option<UserId>,
}

/// The id of a user, which is a PIN: not in debug output, which ends up in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct UserId(String);

impl UserId {
    /// Whether it is this one.
    #[must_use]
    pub fn is(&self, id: &str) -> bool {
        self.0 == id
    }
}

impl From<&str> for UserId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

impl std::fmt::Debug for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserId")
    }
}

/// All wallboxes.
pub type SessionView = BTreeMap<DeviceId, Session>;

/// A change by `override_device`; `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OverrideChange {
    /// C, c
    pub charging_off: Option<bool>,
    /// E, e
    pub rules_off: Option<bool>,
    /// U, u
    pub user_rules_off: Option<bool>,
    /// `Some(None)` takes the limit back.
    pub max_ma: Option<Option<u32>>,
}

/// What an outside controller (Modbus) wants of a wallbox, in the place of its earlier wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutsideWish {
    /// Charging is forbidden.
    pub forbidden: bool,
    /// The most current, in mA per phase.
    pub max_ma: Option<u32>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No wallbox of this id.
    #[error("unknown device")]
    UnknownDevice,
    /// It cannot be: a card that nobody has, a counter that cannot be set. No card is in the message.
    #[error("{0}")]
    Refused(String),
}

/// All sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    view: watch::Receiver<Arc<SessionView>>,
    restrictions: watch::Receiver<Arc<Restrictions>>,
    config: watch::Receiver<Arc<Config>>,
    transactions: Transactions,
    requests: mpsc::Sender<Request>,
}

/// The parts sessions are made of.
pub struct SessionParts {
    /// The devices.
    pub board: Board,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where wishes for phases go.
    pub commands: Arc<dyn Commands>,
    /// The host's clock.
    pub clock: Clock,
    /// Where transactions are kept.
    pub transactions: Transactions,
}

impl Sessions {
    /// Starts to follow the board on the present runtime. Takes up the transactions that were running when the
    /// process ended; reads them at once, so that nobody is held up who was authorised before.
    #[must_use]
    pub fn start(parts: SessionParts) -> Self {
        let saved = parts.transactions.wallboxes().unwrap_or_else(|error| {
            tracing::error!("what wallboxes were doing before the start cannot be read: {error}");
            Vec::new()
        });
        let core = Core::new(saved.into_iter().filter_map(|(device, state)| {
            let id: DeviceId = device.parse().ok()?;
            let read = serde_json::from_str(&state);
            let state = read.inspect_err(|error| {
                // Only the kind and the place: the text holds cards.
                tracing::error!(device = %id, "its session before the start cannot be read: {:?}", error.classify());
            });
            Some((id, state.ok()?))
        }));
        let config = Arc::clone(&parts.config.borrow());
        let (view_sender, view) = watch::channel(Arc::new(core.view(&config)));
        let (restrictions_sender, restrictions) = watch::channel(Arc::new(core.restrictions(&config)));
        let (requests, receiver) = mpsc::channel(WAITING);
        let (config, transactions) = (parts.config.clone(), parts.transactions.clone());
        let actor = Actor { core, parts, requests: receiver, view: view_sender, restrictions: restrictions_sender };
        tokio::spawn(actor.run());
        Self { view, restrictions, config, transactions, requests }
    }

    /// How each wallbox stands.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<Arc<SessionView>> {
        self.view.clone()
    }

    /// What each wallbox is allowed.
    #[must_use]
    pub fn restrictions(&self) -> watch::Receiver<Arc<Restrictions>> {
        self.restrictions.clone()
    }

    /// Finished and running transactions.
    #[must_use]
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// A card or PIN was shown, at this wallbox or at the one that waits for it. Accepted in any state, also while
    /// the wallbox is silent. At an empty wallbox it waits a minute for a car. It authorises until the car is
    /// unplugged, or does what else the card is for.
    ///
    /// # Errors
    /// See [`SessionError`]; also if no wallbox is named and several could be meant.
    pub async fn enter_card(&self, card: &str, device: Option<&DeviceId>) -> Result<DeviceId, SessionError> {
        let (card, device) = (card.to_owned(), device.cloned());
        self.ask(|done| Request::Enter { card, device, done }).await.ok_or_else(stopping)?
    }

    /// Whether a user of this wallbox has this id, PIN or RFID.
    #[must_use]
    pub fn is_user(&self, card: &str, device: &DeviceId) -> bool {
        cards::find(&self.config.borrow(), device, card).is_some()
    }

    /// Changes overrides. Accepted in any state; without a car they end at the next look.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn override_device(&self, device: &DeviceId, change: OverrideChange) -> Result<(), SessionError> {
        let device = device.clone();
        self.ask(|done| Request::Change { device, change, done }).await.ok_or_else(stopping)?
    }

    /// The estimated counter of a wallbox that counts nothing itself, in Wh; sets it if told. The answer is the
    /// reading before.
    ///
    /// # Errors
    /// See [`SessionError`]; also for a wallbox that has a counter, and for a reading below 0.
    pub async fn soft_meter(&self, device: &DeviceId, set: Option<f64>) -> Result<f64, SessionError> {
        let device = device.clone();
        self.ask(|done| Request::SoftMeter { device, set, done }).await.ok_or_else(stopping)?
    }

    /// What an outside controller wants of a wallbox from now on; `None`: nothing any more. Ends with the process, as
    /// such controllers repeat themselves and flash wears out.
    pub async fn outside(&self, device: &DeviceId, wish: Option<OutsideWish>) {
        let device = device.clone();
        self.ask(|done| Request::Outside { device, wish, done }).await;
    }

    /// Writes what is counted and ends.
    pub async fn shutdown(&self) {
        self.ask(|done| Request::Stop { done }).await;
    }

    /// `None`: the task has ended.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.requests.send(request(done)).await.ok()?;
        answer.await.ok()
    }
}

fn stopping() -> SessionError {
    SessionError::Refused("the host is stopping".into())
}
