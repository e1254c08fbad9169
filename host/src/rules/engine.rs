//! All wallboxes with their rules and those of their users: runs them in the order in which they may take from the PV
//! surplus, and keeps what has to be remembered from one cycle to the next. Pure: no I/O, no clock, no log.

use std::collections::BTreeMap;
use std::sync::Arc;

use ladekern_definition::formula::{Name, Scope};

use super::evaluate::{Powers, RuleContext, RuleMemory, Verdict, evaluate};
use super::local_time::LocalTime;
use super::rule::RuleSet;
use super::times::{Pace, Steady};
use crate::site::{Because, Connector, DeviceId, Moment, Request, Requests};

/// Volt of a phase, to make powers of currents.
const NOMINAL_V: f64 = 230.0;

/// One wallbox in this cycle.
#[derive(Clone, Debug)]
pub struct RuledBox {
    /// Its id.
    pub id: DeviceId,
    /// Its own rules; `None`: none, or they are switched off.
    pub own: Option<Arc<RuleSet>>,
    /// Those of the user whose card is in force, likewise.
    pub user: Option<Arc<RuleSet>>,
    /// Smallest current, mA.
    pub min_ma: u32,
    /// Largest current per phase, mA.
    pub max_ma: u32,
    /// Larger is served first.
    pub priority: i32,
    /// Phases it is connected to.
    pub wired: u8,
    /// Phases on which current flows now; `None`: nothing is known or none flows.
    pub flowing: Option<u8>,
    /// The state of its connector.
    pub connector: Connector,
    /// What its car takes at most, if that is known to be less than it may.
    pub takes_ma: Option<u32>,
    /// It measures what it draws, or a meter in front of it does. Without that nobody knows what part of the load of
    /// the house it is.
    pub measured: bool,
}

/// Hands the scope of a wallbox's formulas to whoever reads in it.
pub type Scopes<'a> = dyn Fn(&DeviceId, &mut dyn FnMut(&dyn Scope)) + 'a;

/// The site in this cycle.
pub struct RuledSite<'a> {
    /// All wallboxes that take part.
    pub boxes: Vec<RuledBox>,
    /// What flows.
    pub powers: Powers,
    /// `None`: the clock is not set.
    pub local: Option<LocalTime>,
    /// The present moment.
    pub now: Moment,
    /// What formulas of a wallbox see.
    pub scope: &'a Scopes<'a>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// For the load manager.
    pub requests: Requests,
    /// Variables that rules set, in this order.
    pub variables: Vec<(Name, f64)>,
    /// Wallboxes whose rules go round in circles.
    pub endless: Vec<DeviceId>,
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct Engine {
    surplus: Steady,
    boxes: BTreeMap<DeviceId, Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    own: (Option<Arc<RuleSet>>, RuleMemory),
    user: (Option<Arc<RuleSet>>, RuleMemory),
    pace: Pace,
    /// On how many phases this car was seen to charge.
    phases: Option<u8>,
}

impl Engine {
    /// Runs all rules once.
    pub fn run(&mut self, site: &RuledSite<'_>) -> Decided {
        self.boxes.retain(|id, _| site.boxes.iter().any(|ruled| ruled.id == *id));
        let mut left = self.surplus.take(site.powers.surplus, site.now);
        let mut order: Vec<&RuledBox> = site.boxes.iter().collect();
        let runs = |ruled: &RuledBox| self.boxes.get(&ruled.id).is_some_and(|memory| memory.pace.runs());
        order.sort_by_key(|ruled| (std::cmp::Reverse(ruled.priority), !runs(ruled), ruled.id.clone()));
        let mut decided = Decided::default();
        for ruled in order {
            let memory = self.boxes.entry(ruled.id.clone()).or_default();
            memory.meet(ruled);
            if memory.own.0.is_none() && memory.user.0.is_none() {
                continue;
            }
            let powers = Powers { surplus: left.filter(|_| ruled.measured), ..site.powers };
            let taken = memory.run(ruled, powers, site, &mut decided);
            left = left.map(|left| left - taken);
        }
        decided
    }
}

impl Memory {
    /// Takes in who is there and which rules count.
    fn meet(&mut self, ruled: &RuledBox) {
        for (rules, (known, memory)) in [(&ruled.own, &mut self.own), (&ruled.user, &mut self.user)] {
            let same = match (rules, &*known) {
                (Some(new), Some(old)) => Arc::ptr_eq(new, old) || new == old,
                (None, None) => true,
                _ => false,
            };
            if !same {
                (*known, *memory) = (rules.clone(), RuleMemory::default());
                // Who writes other rules or switches them off wants to see what they do.
                self.pace.forget();
            }
        }
        if ruled.connector == Connector::Available {
            self.pace.forget();
            self.phases = None;
        }
        self.phases = ruled.flowing.or(self.phases);
    }

    /// The power in W that it takes from the surplus.
    fn run(&mut self, ruled: &RuledBox, powers: Powers, site: &RuledSite<'_>, decided: &mut Decided) -> f64 {
        let phases = self.phases.unwrap_or(ruled.wired).clamp(1, 3);
        let mut verdict: Option<Verdict> = None;
        (site.scope)(&ruled.id, &mut |scope| {
            let (min_ma, max_ma) = (ruled.min_ma, ruled.max_ma);
            let context = RuleContext { scope, local: site.local, now: site.now, min_ma, max_ma, phases, powers };
            for (rules, memory) in [&mut self.own, &mut self.user] {
                let Some(rules) = rules else { continue };
                let next = evaluate(rules, &context, memory);
                verdict = Some(match verdict.take() {
                    Some(other) => lower(other, next),
                    None => next,
                });
            }
        });
        let Some(verdict) = verdict else { return 0.0 };
        if verdict.endless {
            decided.endless.push(ruled.id.clone());
        }
        decided.variables.extend(verdict.variables);
        let from_surplus = verdict.surplus_ma.is_some_and(|surplus| surplus >= verdict.ma);
        let wanted = (verdict.ma, verdict.because);
        let empty = matches!(ruled.connector, Connector::Available | Connector::NoPilot | Connector::Fault);
        // Without a car nothing comes or goes.
        let (max_ma, because) =
            if empty { wanted } else { self.pace.keep(wanted, from_surplus, ruled.min_ma, site.now) };
        decided.requests.insert(ruled.id.clone(), Request { max_ma, because });
        let share = match (verdict.surplus_ma, because) {
            _ if empty => 0,
            (None, _) => 0,
            (Some(_), Because::ShortestRun) => max_ma,
            (Some(surplus), _) => surplus.min(max_ma),
        };
        let share = ruled.takes_ma.map_or(share, |takes| share.min(takes));
        f64::from(share) / 1_000.0 * NOMINAL_V * f64::from(phases)
    }
}

/// With rules of the wallbox and of the user the lower result counts.
fn lower(a: Verdict, b: Verdict) -> Verdict {
    let mut variables = a.variables;
    variables.extend(b.variables);
    let (ma, because) = if b.ma < a.ma { (b.ma, b.because) } else { (a.ma, a.because) };
    let surplus_ma = [a.surplus_ma, b.surplus_ma].into_iter().flatten().min().map(|surplus| surplus.min(ma));
    Verdict { ma, surplus_ma, because, variables, endless: a.endless || b.endless }
}
