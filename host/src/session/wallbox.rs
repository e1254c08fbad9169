//! The session at one wallbox, as a state machine: looks, cards and overrides in, beginnings and ends out. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cards::Card;
use super::energy::Energy;
use super::look::Look;
use super::{Now, OutsideWish, OverrideChange, Overrides, Session, SessionError, UserId};
use crate::site::{Connector, DeviceId, Forbidden, Measured, Moment, Restriction};
use crate::store::Record;

/// So long a card that was shown at an empty wallbox waits for the car.
pub const CARD_WAITS: Duration = Duration::from_secs(60);
/// Energy is written this often at most, and at least so often while a car charges: the promise is ten seconds.
const CHECKPOINT: Duration = Duration::from_secs(9);
/// A longer pause between two looks says nothing about whether the car charged.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// What is written, and taken up after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    open: Option<Open>,
    overrides: Overrides,
    /// The soft meter, Wh.
    soft_wh: f64,
    /// It has a lifetime counter of its own.
    counts: bool,
    shown: Option<Shown>,
}

/// A running transaction.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Open {
    name: String,
    /// 0 while the clock is not set.
    start_s: u64,
    rfid: Option<String>,
    auth: Option<Auth>,
    energy: Energy,
    charging_ms: u64,
    /// When it began, as long as the clock is not set.
    #[serde(skip)]
    undated: Option<Moment>,
}

/// Who has authorised.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Auth {
    user_id: String,
    user_name: String,
}

/// The card that the device itself tells.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Shown {
    card: String,
    /// It has been used by a car that is gone, or it was there before anybody looked.
    spent: bool,
}

/// A card that was shown at the empty wallbox.
struct Waiting {
    card: String,
    until: Moment,
    authorises: bool,
}

macro_rules! without_cards {
    ($($kind:ident),*) => {$(
        impl std::fmt::Debug for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                // Cards and PINs do not belong into logs.
                f.write_str(stringify!($kind))
            }
        }
    )*};
}
without_cards!(Open, Auth, Shown, Waiting);

/// What the configuration says about the wallbox in this look.
pub struct Facts<'a> {
    /// Its id.
    pub id: &'a DeviceId,
    /// Its name.
    pub name: &'a str,
    /// A card is needed.
    pub has_users: bool,
    /// The card that counts as entered at plug-in.
    pub fixed_rfid: Option<&'a str>,
    /// What a card does here.
    pub find: &'a dyn Fn(&str) -> Option<Card>,
}

/// What follows from an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A transaction begins.
    Begin(Record),
    /// It ends.
    End(Record),
    /// The wallbox is to charge on so many phases.
    Phases(u8),
}

/// One wallbox.
#[derive(Debug, Default)]
pub struct Wallbox {
    saved: Saved,
    waiting: Option<Waiting>,
    /// When the overrides were changed last.
    overridden: Moment,
    outside: Option<OutsideWish>,
    /// Whether it charged at the last look.
    charging: Option<Moment>,
    /// The transaction was taken up from an earlier run, and nothing has been seen of the wallbox yet.
    taken_up: bool,
    looked: bool,
    written: Moment,
    /// Something that must not wait.
    changed: bool,
    /// Energy that may wait for the next checkpoint.
    counted: bool,
}

impl Wallbox {
    /// As an earlier run left it.
    pub fn taken_up(saved: Saved) -> Self {
        Self { taken_up: saved.open.is_some(), saved, ..Self::default() }
    }

    /// Takes in what the wallbox says now.
    pub fn look(&mut self, facts: &Facts<'_>, look: &Look, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if look.counts && !self.saved.counts {
            self.saved.counts = true;
            self.changed = true;
        }
        self.date(now);
        let connector = look.connector.filter(|connector| seen(connector.value));
        let shown = self.read_card(look, connector);
        let was_open = self.saved.open.is_some();
        if !was_open {
            self.use_shown(facts, shown, now, &mut effects);
        }
        if self.waiting.as_ref().is_some_and(|waiting| now.at >= waiting.until) {
            self.waiting = None;
        }
        match connector {
            Some(Measured { value: Connector::Available, at }) => {
                self.count(look, now);
                self.unplugged(facts, (at, shown), now, &mut effects);
            }
            Some(_) if !was_open => self.plugged(facts, look, now, &mut effects),
            _ => self.count(look, now),
        }
        self.taken_up &= connector.is_none();
        self.looked = true;
        if was_open {
            self.use_shown(facts, shown, now, &mut effects);
        }
        effects
    }

    /// Notes what card the device tells. `true`: it has just been shown.
    fn read_card(&mut self, look: &Look, connector: Option<Measured<Connector>>) -> bool {
        let Some(card) = &look.card else {
            // A fed card is shown as long as it is in the messages; silence is no message.
            if self.saved.shown.is_some() && look.connector.is_some() {
                self.saved.shown = None;
                self.changed = true;
            }
            return false;
        };
        if self.saved.shown.as_ref().is_some_and(|shown| shown.card == *card) {
            return false;
        }
        // Some wallboxes name the last card until there is another one: whose car that was nobody knows when there is
        // none at the first look.
        let plugged = self.saved.open.is_some() || connector.is_some_and(|connector| connector.value.plugged());
        let spent = look.keeps_card && !self.looked && !plugged;
        self.saved.shown = Some(Shown { card: card.clone(), spent });
        self.changed = true;
        !spent
    }

    /// A card that the device tells counts as entered when it is shown, and waits at an empty wallbox as long as it
    /// is there.
    fn use_shown(&mut self, facts: &Facts<'_>, just_shown: bool, now: Now, effects: &mut Vec<Effect>) {
        let Some(Shown { card, spent: false }) = self.saved.shown.clone() else { return };
        if self.saved.open.is_none() || just_shown {
            let entered = self.enter(facts, &card, now, effects);
            if let (Err(error), true) = (entered, just_shown) {
                tracing::info!(device = %facts.id, "a card was shown at the wallbox: {error}");
            }
        }
    }

    fn plugged(&mut self, facts: &Facts<'_>, look: &Look, now: Now, effects: &mut Vec<Effect>) {
        let undated = now.unix_s.is_none().then_some(now.at);
        self.saved.open = Some(Open {
            name: facts.name.to_owned(),
            start_s: now.unix_s.unwrap_or(0),
            rfid: None,
            auth: None,
            energy: Energy::new(self.saved.soft_wh),
            charging_ms: 0,
            undated,
        });
        self.charging = None;
        self.changed = true;
        self.count(look, now);
        // The event comes first; who authorises is part of it where that is known already.
        let at = effects.len();
        let waiting = self.waiting.take().map(|waiting| waiting.card);
        for card in waiting.into_iter().chain(facts.fixed_rfid.map(str::to_owned)) {
            if let Err(error) = self.enter(facts, &card, now, effects) {
                tracing::warn!(device = %facts.id, "a card that was kept for the car is not taken: {error}");
            }
        }
        if let Some(record) = self.record(facts.id) {
            effects.insert(at, Effect::Begin(record));
        }
    }

    /// Ends what lasts until the car is gone. `seen`: when that was measured, and whether a card was shown with it.
    fn unplugged(&mut self, facts: &Facts<'_>, seen: (Moment, bool), now: Now, effects: &mut Vec<Effect>) {
        // What was overridden after this was measured is kept until the next look.
        if self.saved.overrides != Overrides::default() && seen.0 > self.overridden {
            self.saved.overrides = Overrides::default();
            self.changed = true;
        }
        let Some(open) = &mut self.saved.open else { return };
        let added = open.energy.settle();
        self.saved.soft_wh += added;
        let reason = if self.taken_up { "unplugged while the manager was away" } else { "unplugged" };
        let end_s = now.unix_s.unwrap_or(0).max(open.start_s);
        if let Some(record) = self.record(facts.id) {
            effects.push(Effect::End(Record { end_s: Some(end_s), reason: Some(reason.to_owned()), ..record }));
        }
        self.saved.open = None;
        self.charging = None;
        if let Some(shown) = self.saved.shown.as_mut().filter(|_| !seen.1) {
            shown.spent = true;
        }
        self.changed = true;
    }

    fn count(&mut self, look: &Look, now: Now) {
        let Some(open) = &mut self.saved.open else { return };
        let added = open.energy.count(&look.meters, now);
        if added > 0.0 {
            self.saved.soft_wh += added;
            self.counted = true;
        }
        let charges = matches!(
            look.connector.map(|connector| connector.value),
            Some(Connector::Charging | Connector::Ventilation)
        );
        if let Some(at) = self.charging {
            let step = now.at.since(at);
            if step <= LONGEST_STEP && !step.is_zero() {
                open.charging_ms += u64::try_from(step.as_millis()).unwrap_or(0);
                self.counted = true;
            }
        }
        self.charging = charges.then_some(now.at);
    }

    /// Gives a transaction that began before the clock was set its time.
    fn date(&mut self, now: Now) {
        if let (Some(open), Some(unix_s)) = (&mut self.saved.open, now.unix_s)
            && let Some(began) = open.undated.take()
        {
            open.start_s = unix_s.saturating_sub(now.at.since(began).as_secs());
            self.changed = true;
        }
    }

    /// A card or PIN was entered.
    pub fn enter(
        &mut self,
        facts: &Facts<'_>,
        text: &str,
        now: Now,
        effects: &mut Vec<Effect>,
    ) -> Result<(), SessionError> {
        let card = (facts.find)(text);
        let refused = |why: &str| Err(SessionError::Refused(format!("{}: {why}", facts.id)));
        if facts.has_users && card.is_none() {
            return refused("no user of this wallbox has this card or PIN");
        }
        let does = |card: &Card| card.authorises || card.toggles || card.phases > 0;
        if card.as_ref().is_some_and(|card| !does(card)) {
            return refused("this card is switched off");
        }
        let Some(open) = &mut self.saved.open else {
            let authorises = card.is_some_and(|card| card.authorises);
            self.waiting = Some(Waiting { card: text.to_owned(), until: now.at.after(CARD_WAITS), authorises });
            return Ok(());
        };
        self.changed = true;
        let Some(card) = card else {
            // Everybody may charge here; the card tells who it was.
            open.rfid.get_or_insert_with(|| text.to_owned());
            return Ok(());
        };
        if card.authorises && open.auth.is_none() {
            open.rfid = Some(text.to_owned());
            open.auth = Some(Auth { user_id: card.user_id, user_name: card.user_name });
        } else if card.toggles {
            self.saved.overrides.charging_off = !self.saved.overrides.charging_off;
            self.overridden = now.at;
        }
        if card.phases > 0 {
            effects.push(Effect::Phases(card.phases));
        }
        Ok(())
    }

    /// Changes overrides.
    pub fn change(&mut self, change: OverrideChange, now: Now) {
        let overrides = &mut self.saved.overrides;
        let set = |flag: &mut bool, to: Option<bool>| *flag = to.unwrap_or(*flag);
        set(&mut overrides.charging_off, change.charging_off);
        set(&mut overrides.rules_off, change.rules_off);
        set(&mut overrides.user_rules_off, change.user_rules_off);
        overrides.max_ma = change.max_ma.unwrap_or(overrides.max_ma);
        self.overridden = now.at;
        self.changed = true;
    }

    /// Reads the soft meter, and sets it. `None`: the wallbox has a counter of its own.
    pub fn soft_meter(&mut self, set: Option<f64>) -> Option<f64> {
        if self.saved.counts {
            return None;
        }
        let before = round(self.saved.soft_wh);
        if let Some(wh) = set {
            self.saved.soft_wh = wh;
            self.changed = true;
        }
        Some(before)
    }

    /// What an outside controller wants.
    pub fn outside(&mut self, wish: Option<OutsideWish>) {
        self.outside = wish;
    }

    /// A card is missing.
    pub fn needs_auth(&self, has_users: bool) -> bool {
        let authorised = self.saved.open.as_ref().is_some_and(|open| open.auth.is_some());
        let kept = self.waiting.as_ref().is_some_and(|waiting| waiting.authorises);
        has_users && !authorised && !kept
    }

    /// A car is plugged in, as far as was last seen.
    pub fn is_plugged(&self) -> bool {
        self.saved.open.is_some()
    }

    /// For everybody who shows it.
    pub fn view(&self, has_users: bool) -> Session {
        let open = self.saved.open.as_ref();
        let auth = open.and_then(|open| open.auth.as_ref());
        let user = auth.map(|auth| auth.user_name.clone());
        Session {
            plugged: open.is_some(),
            needs_auth: self.needs_auth(has_users),
            overrides: self.saved.overrides,
            energy_wh: open.map_or(0.0, |open| open.energy.wh()),
            start_unix_s: open.map(|open| open.start_s).filter(|start| *start > 0),
            charging_s: open.map_or(0, |open| open.charging_ms / 1_000),
            soft_meter_wh: (!self.saved.counts).then(|| round(self.saved.soft_wh)),
            user: user.filter(|name| !name.is_empty()),
            user_id: auth.map(|auth| UserId::from(auth.user_id.as_str())),
        }
    }

    /// For the load manager; `None`: no restriction.
    pub fn restriction(&self, has_users: bool) -> Option<Restriction> {
        let outside = self.outside.unwrap_or_default();
        let reasons = [
            (self.needs_auth(has_users), Forbidden::NeedsAuthorisation),
            (self.saved.overrides.charging_off, Forbidden::Override),
            (outside.forbidden, Forbidden::Outside),
        ];
        let forbidden = reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason));
        let max_ma = [self.saved.overrides.max_ma, outside.max_ma].into_iter().flatten().min();
        let restriction = Restriction { forbidden, max_ma };
        (restriction != Restriction::default()).then_some(restriction)
    }

    /// Whether something is to be written now; then it counts as written.
    pub fn due(&mut self, now: Now, all: bool) -> bool {
        let checkpoint = self.counted && (all || now.at.since(self.written) >= CHECKPOINT);
        let due = self.changed || checkpoint;
        if due {
            (self.changed, self.counted, self.written) = (false, false, now.at);
        }
        due
    }

    /// The running transaction.
    pub fn record(&self, id: &DeviceId) -> Option<Record> {
        let open = self.saved.open.as_ref()?;
        let counter = |wh: Option<f64>| wh.map(round);
        // A wallbox that counts by itself and has not said its reading yet has none, whatever the soft meter shows.
        Some(Record {
            device: id.clone(),
            name: open.name.clone(),
            start_s: open.start_s,
            end_s: None,
            energy_wh: open.energy.wh(),
            meter_start_wh: counter(open.energy.meter_start_wh()),
            meter_end_wh: counter(open.energy.meter_end_wh()),
            rfid: open.rfid.clone(),
            user_id: open.auth.as_ref().map(|auth| auth.user_id.clone()),
            reason: None,
        })
    }

    /// For the time after a restart.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }
}

/// Whether this state tells for sure if a car is there.
fn seen(connector: Connector) -> bool {
    connector == Connector::Available || connector.plugged()
}

fn round(wh: f64) -> f64 {
    (wh * 1_000.0).round() / 1_000.0
}
