//! What happens at a wallbox between plug-in and unplug: authorisation, overrides, the transaction and its energy.
//! Follows the board, keeps what must outlive a restart in the store, and tells the load manager what is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::config::Config;
use crate::site::{Board, Clock, Commands, DeviceId, Restrictions};
use crate::store::Transactions;

/// What is changed until the car is unplugged (`override_device`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Seconds in which the present car has charged.
    pub charging_s: u64,
    /// Lifetime energy in Wh of a wallbox that counts none itself; `None`: it does.
    pub soft_meter_wh: Option<f64>,
    /// The user who charges, by name.
    pub user: Option<String>,
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
    /// No user of the wallbox has this card; the card is not in the message.
    #[error("{0}")]
    Refused(String),
}

/// All sessions; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    view: watch::Receiver<Arc<SessionView>>,
    restrictions: watch::Receiver<Arc<Restrictions>>,
    transactions: Transactions,
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
    /// process ended.
    #[must_use]
    pub fn start(parts: SessionParts) -> Self {
        let (_, view) = watch::channel(Arc::default());
        let (_, restrictions) = watch::channel(Arc::default());
        Self { view, restrictions, transactions: parts.transactions }
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
    /// the wallbox is silent.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn enter_card(&self, card: &str, device: Option<&DeviceId>) -> Result<DeviceId, SessionError> {
        _ = (card, device);
        Err(SessionError::UnknownDevice)
    }

    /// Whether a user of this wallbox has this id, PIN or RFID.
    #[must_use]
    pub fn is_user(&self, card: &str, device: &DeviceId) -> bool {
        _ = (card, device);
        false
    }

    /// Changes overrides. Accepted in any state; without a car they end at the next look.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn override_device(&self, device: &DeviceId, change: OverrideChange) -> Result<(), SessionError> {
        _ = (device, change);
        Err(SessionError::UnknownDevice)
    }

    /// The estimated counter of a wallbox that counts nothing itself, in Wh; sets it if told. The answer is the
    /// reading before.
    ///
    /// # Errors
    /// See [`SessionError`]; also for a wallbox that has a counter.
    pub async fn soft_meter(&self, device: &DeviceId, set: Option<f64>) -> Result<f64, SessionError> {
        _ = (device, set);
        Err(SessionError::UnknownDevice)
    }

    /// What an outside controller wants of a wallbox from now on; `None`: nothing any more.
    pub async fn outside(&self, device: &DeviceId, wish: Option<OutsideWish>) {
        _ = (device, wish);
    }

    /// Writes what is counted and ends.
    pub async fn shutdown(&self) {}
}
