//! The charging rules of the running site: collects what they need before each plan, and says what is wrong with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use ladekern_definition::Formula;
use ladekern_definition::formula::{Name, Scope};

use super::engine::{Engine, RuledBox, RuledSite};
use super::evaluate::Powers;
use super::local_time::LocalTime;
use super::rule::RuleSet;
use super::source::{SharedSets, select};
use crate::config::{Config, DeviceConfig, UserConfig};
use crate::control::Advice;
use crate::definition;
use crate::formulas::{Look, World};
use crate::load::{Plan, Reason};
use crate::session::{Session, SessionView};
use crate::site::quantities::{CURRENT, PHASES_ACTIVE, POWER, POWER_TOTAL};
use crate::site::{Connector, DeviceId, DeviceKind, DeviceStatus, Requests, Snapshot};

/// Current in mA above which a phase is in use.
const IN_USE_MA: f64 = 1_000.0;

/// Runs the rules of a site.
pub struct LiveRules {
    world: World,
    sessions: watch::Receiver<Arc<SessionView>>,
    shared: watch::Receiver<Arc<SharedSets>>,
    engine: Engine,
    known: Known,
    /// Wallboxes that have been said to go round in circles.
    endless: Vec<DeviceId>,
    surplus: Option<Formula>,
    mistakes: BTreeMap<DeviceId, String>,
    assign: Assign,
}

/// Takes the variables that rules set, in their order.
pub type Assign = Box<dyn Fn(Vec<(Name, f64)>) + Send>;

impl std::fmt::Debug for LiveRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveRules")
    }
}

impl LiveRules {
    /// `shared` are the sets of the folder.
    #[must_use]
    pub fn new(
        world: World,
        sessions: watch::Receiver<Arc<SessionView>>,
        shared: watch::Receiver<Arc<SharedSets>>,
        assign: Assign,
    ) -> Self {
        let (engine, known) = (Engine::default(), Known::default());
        // The surplus as everybody sees it, a formula of the configuration in its place.
        let surplus = Formula::parse("CM._surplus").ok();
        let (endless, mistakes) = (Vec::new(), BTreeMap::new());
        Self { world, sessions, shared, engine, known, endless, surplus, mistakes, assign }
    }

    fn powers(&self, look: &Look) -> Powers {
        let flows = look.flows();
        let surplus = self.surplus.as_ref().and_then(|surplus| surplus.value(&look.scope(None)));
        Powers { surplus, solar: flows.generation.power_w, grid: flows.grid.power_w }
    }
}

impl Advice for LiveRules {
    fn requests(&mut self, snapshot: &Snapshot, config: &Config, before: &Plan) -> Requests {
        let sessions = Arc::clone(&self.sessions.borrow());
        let shared = Arc::clone(&self.shared.borrow_and_update());
        self.known.begin(&shared);
        self.mistakes.clear();
        let mut boxes = Vec::new();
        for device in config.devices.iter().filter(|device| device.enabled && device.id.kind() == DeviceKind::Evse) {
            let session = sessions.get(&device.id);
            let Ruling { own, user, mistakes } = self.known.rules(config, device, session);
            if !mistakes.is_empty() {
                let mut text = definition::sentence(&mistakes);
                // An override may have switched off those that are wrong.
                if [&own, &user].into_iter().flatten().any(|rules| rules.is_broken()) {
                    text.push_str("; nothing is charged until it is mended");
                }
                self.mistakes.insert(device.id.clone(), text);
            }
            // One without rules is not looked at; those that had some are forgotten by not being here.
            if own.is_some() || user.is_some() {
                boxes.push(ruled(device, (own, user), snapshot, before));
            }
        }
        self.known.end();
        if boxes.is_empty() {
            self.engine = Engine::default();
            return Requests::new();
        }
        let look = self.world.look();
        let local = look.local_time().map(LocalTime::of);
        let powers = self.powers(&look);
        let scope = |id: &DeviceId, read: &mut dyn FnMut(&dyn Scope)| {
            read(&look.scope(Some(id)));
        };
        let decided = self.engine.run(&RuledSite { boxes, powers, local, now: snapshot.at, scope: &scope });
        for id in decided.endless.iter().filter(|id| !self.endless.contains(id)) {
            tracing::warn!(device = %id, "charging rules: they go round in circles and give nothing; look at the actions that go to another rule");
        }
        self.endless = decided.endless;
        if !decided.variables.is_empty() {
            (self.assign)(decided.variables);
        }
        decided.requests
    }

    fn mistakes(&self) -> BTreeMap<DeviceId, String> {
        self.mistakes.clone()
    }
}

fn ruled(
    device: &DeviceConfig,
    (own, user): (Option<Arc<RuleSet>>, Option<Arc<RuleSet>>),
    snapshot: &Snapshot,
    before: &Plan,
) -> RuledBox {
    let unheard = DeviceStatus::default();
    let status = snapshot.devices.get(&device.id).unwrap_or(&unheard);
    let not_before = status.not_before(snapshot.at);
    let fresh = |name: &str| status.values.fresh(name, not_before).filter(|value| value.is_finite());
    let active = fresh(PHASES_ACTIVE);
    let in_use = CURRENT.iter().filter(|name| fresh(name).is_some_and(|ma| ma.abs() >= IN_USE_MA)).count();
    let connected = device.phases.map_or(3, |map| map.of.iter().flatten().count());
    let count = |count: usize| u8::try_from(count).unwrap_or(3).clamp(1, 3);
    let plan = before.chargers.get(&device.id);
    let takes = plan.filter(|plan| plan.reason == Reason::TakesLess).map(|plan| plan.requested.0);
    let measures =
        [CURRENT, POWER].iter().flatten().chain([&POWER_TOTAL]).any(|name| status.values.get(name).is_some());
    RuledBox {
        id: device.id.clone(),
        own,
        user,
        min_ma: device.min_ma,
        max_ma: device.max_ma,
        priority: device.priority,
        wired: if active == Some(1.0) { 1 } else { count(connected) },
        flowing: (in_use > 0).then(|| count(in_use)),
        connector: status.values.connector().filter(|c| c.at >= not_before).map_or(Connector::Unknown, |c| c.value),
        takes_ma: takes.and_then(|ma| u32::try_from(ma).ok()),
        measured: measures || device.meter.is_some(),
    }
}

/// Whose rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Wallbox(DeviceId),
    /// The place of the user in the configuration: ids are PINs.
    User(usize),
}

/// The rules that have been read, so that each text is read once.
#[derive(Default)]
struct Known {
    shared: Arc<SharedSets>,
    read: BTreeMap<Whose, Read>,
}

struct Read {
    text: String,
    written: bool,
    /// `None`: no rule is switched on.
    rules: Option<Arc<RuleSet>>,
    problems: Vec<String>,
    used: bool,
}

impl Known {
    fn begin(&mut self, shared: &Arc<SharedSets>) {
        if !Arc::ptr_eq(&self.shared, shared) {
            self.shared = Arc::clone(shared);
            // Read anew; what is wrong is said only where that is something else.
            self.read.values_mut().for_each(|read| read.text.clear());
        }
        self.read.values_mut().for_each(|read| read.used = false);
    }

    fn end(&mut self) {
        self.read.retain(|_, read| read.used);
    }

    /// The wallbox's rules and those of the user whose card is in force.
    fn rules(&mut self, config: &Config, device: &DeviceConfig, session: Option<&Session>) -> Ruling {
        let overrides = session.map(|session| session.overrides).unwrap_or_default();
        let own = device.charging_rules.as_deref();
        let key = format!("device.{}.charging_rules", device.id);
        let own = own.and_then(|text| self.get(Whose::Wallbox(device.id.clone()), text, config, &key));
        let mut mistakes = own.as_ref().map(|own| wrong(own, config, &key)).unwrap_or_default();
        let user = session.and_then(|session| session.user_id.as_ref());
        let user = user.and_then(|id| config.users.iter().enumerate().find(|(_, user)| id.is(&user.id)));
        let mut of_user = |known: &mut Self, (place, user): (usize, &UserConfig)| {
            let text = user.charging_rules.as_deref()?;
            let key = format!("user {}.charging_rules", place + 1);
            let rules = known.get(Whose::User(place), text, config, &key)?;
            mistakes.extend(wrong(&rules, config, &key));
            Some(rules)
        };
        let user = user.and_then(|user| of_user(self, user));
        let (own, user) = (own.filter(|_| !overrides.rules_off), user.filter(|_| !overrides.user_rules_off));
        Ruling { own, user, mistakes }
    }

    fn get(&mut self, whose: Whose, text: &str, config: &Config, key: &str) -> Option<Arc<RuleSet>> {
        let written = config.places.rules.get(key).is_some_and(|places| places.written);
        let known = self.read.get_mut(&whose);
        if let Some(read) = known.filter(|read| read.text == text && read.written == written) {
            read.used = true;
            return read.rules.clone();
        }
        let set = select(text, &self.shared, written);
        let problems: Vec<String> = set.problems().iter().map(ToString::to_string).collect();
        let before = self.read.get(&whose);
        for (problem, text) in set.problems().iter().zip(&problems) {
            if before.is_some_and(|before| before.problems.contains(text)) {
                continue;
            }
            let told = config.rules_error(key, problem.index, text.as_str());
            if problem.unknown_code { tracing::warn!("{told}") } else { tracing::error!("{told}") }
        }
        if set.is_broken() && set.is_active() && before.is_none_or(|before| before.problems != problems) {
            tracing::error!("{key}: by rules with a mistake nothing is charged until it is mended");
        }
        let rules = set.is_active().then(|| Arc::new(set));
        let read = Read { text: text.to_owned(), written, rules: rules.clone(), problems, used: true };
        self.read.insert(whose, read);
        rules
    }
}

/// What counts at a wallbox.
struct Ruling {
    /// Its own rules and those of the user, as far as they are not switched off until the car is gone.
    own: Option<Arc<RuleSet>>,
    user: Option<Arc<RuleSet>>,
    /// What is wrong with either.
    mistakes: Vec<String>,
}

/// Why rules give nothing, for people.
fn wrong(set: &RuleSet, config: &Config, key: &str) -> Vec<String> {
    let mistakes = set.problems().iter().filter(|problem| set.is_broken() && !problem.unknown_code);
    mistakes.map(|problem| config.rules_error(key, problem.index, problem.to_string()).to_string()).collect()
}
