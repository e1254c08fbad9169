//! The house of the closed loop in virtual time: cars that obey late and take more than they were told, a meter that
//! lags and dies, and the load manager between them.

use std::collections::{BTreeMap, VecDeque};

use ladekern::load::{
    Charger, Circuit, Metering, Milliamps, OrderKind, PerPhase, Plan, Sample, Site, State, Tuning, plan,
};
use ladekern::site::{Connector, DeviceId, Measured, Moment};

use super::breaker::Breaker;
use super::dice::Dice;

/// Step of the physics.
pub const STEP_MS: u64 = 100;
/// A fiftieth above a limit is noise of measurement and no overload.
pub const NOISE: f64 = 1.02;
/// Cycle of the load manager.
pub const CYCLE_MS: u64 = 1_000;

/// A wallbox with its car.
#[derive(Clone, Debug)]
pub struct Car {
    pub max: f64,
    pub phases: [bool; 3],
    /// From when on it uses only its first phase.
    pub drops_phases_at: Option<u64>,
    pub plugged_at: u64,
    /// What it takes beyond what it is told.
    pub greed: f64,
    /// How long it takes to obey, for each command anew between these.
    pub lag_ms: (u64, u64),
    /// The wallbox measures what the car draws.
    pub measures: bool,
    /// How often the wallbox is polled.
    pub poll_ms: u64,
    /// From when until when the wallbox says nothing and takes no command.
    pub silent: Option<(u64, u64)>,
    /// What the wallbox falls back to by itself after it has heard nothing for ten seconds.
    pub failsafe: Option<f64>,
    /// From when on it refuses commands but still reports.
    pub refuses_at: Option<u64>,
    /// Changes that the car will still make.
    pub coming: VecDeque<(u64, f64)>,
    pub told: f64,
    pub draws: f64,
    pub accepted: Option<Measured<Milliamps>>,
    pub sample: Option<(f64, u64)>,
}

impl Car {
    pub fn new(max: f64) -> Self {
        Self {
            max,
            phases: [true; 3],
            drops_phases_at: None,
            plugged_at: 0,
            greed: 0.0,
            lag_ms: (0, 0),
            measures: true,
            poll_ms: 1_000,
            silent: None,
            failsafe: None,
            refuses_at: None,
            coming: VecDeque::new(),
            told: 0.0,
            draws: 0.0,
            accepted: None,
            sample: None,
        }
    }

    pub fn answers(&self, now: u64) -> bool {
        !self.silent.is_some_and(|(from, to)| (from..to).contains(&now))
    }

    pub fn uses(&self, phase: usize, now: u64) -> bool {
        let first = self.phases.iter().position(|used| *used);
        match self.drops_phases_at {
            Some(at) if now >= at => first == Some(phase),
            _ => self.phases[phase],
        }
    }

    /// The wallbox takes a command; the car obeys later.
    pub fn command(&mut self, ampere: f64, now: u64, dice: &mut Dice) {
        if !self.answers(now) || self.refuses_at.is_some_and(|at| now >= at) {
            return;
        }
        let told = if ampere < 6.0 { 0.0 } else { ampere };
        // Milliamperes as they were commanded: the acceptance is compared exactly.
        let value = Milliamps((ampere * 1_000.0).round() as i64);
        self.accepted = Some(Measured { value, at: Moment(now) });
        if told != self.told {
            let lag = self.lag_ms.0 + dice.below(self.lag_ms.1 - self.lag_ms.0 + 1);
            let last = self.coming.back().map_or(0, |(at, _)| *at);
            self.coming.push_back(((now + lag).max(last), told));
            self.told = told;
        }
    }

    pub fn live(&mut self, now: u64) {
        if let (Some((from, to)), Some(failsafe)) = (self.silent, self.failsafe)
            && (from + 10_000..to).contains(&now)
            && self.told > failsafe
        {
            self.told = failsafe;
            self.coming.push_back((now + self.lag_ms.1, failsafe));
        }
        while self.coming.front().is_some_and(|(at, _)| *at <= now) {
            let (_, told) = self.coming.pop_front().unwrap();
            self.draws = if told > 0.0 { told + self.greed } else { 0.0 };
        }
        if now.is_multiple_of(self.poll_ms) && self.answers(now) {
            let drawn = if now >= self.plugged_at { self.draws } else { 0.0 };
            self.sample = Some((drawn, now));
        }
    }
}

/// The meter at the fuse.
#[derive(Clone, Debug)]
pub struct Meter {
    /// There is one at all.
    pub exists: bool,
    pub period_ms: u64,
    pub lag_ms: u64,
    /// From when on it says nothing.
    pub dies_at: Option<u64>,
    pub stale_after_ms: u64,
    pub failsafe: f64,
    pub past: VecDeque<(u64, [f64; 3])>,
    pub sample: Option<Sample>,
    /// The moment whose currents the sample shows.
    pub shown_from: u64,
}

pub struct World {
    pub now: u64,
    pub limit: f64,
    pub house: Box<dyn Fn(u64) -> [f64; 3]>,
    pub cars: Vec<Car>,
    pub meter: Meter,
    pub tuning: Tuning,
    pub state: State,
    pub dice: Dice,
    pub breakers: [Breaker; 3],
    pub plan: Plan,
    /// Ampere-seconds above the limit, the worst phase's.
    pub overload_as: [f64; 3],
    pub peak: f64,
    /// When each overload that the meter has shown was answered, in ms.
    pub slowest_cut_ms: u64,
    pub open_cut: Option<u64>,
    pub charged_as: f64,
}

pub fn id(number: usize) -> DeviceId {
    format!("E{}", number + 1).parse().unwrap()
}

pub fn ma(ampere: f64) -> Milliamps {
    Milliamps((ampere * 1_000.0).round() as i64)
}

impl World {
    pub fn new(limit: f64, cars: Vec<Car>, house: impl Fn(u64) -> [f64; 3] + 'static) -> Self {
        let meter = Meter {
            exists: true,
            period_ms: 1_000,
            lag_ms: 0,
            dies_at: None,
            stale_after_ms: 10_000,
            failsafe: limit,
            past: VecDeque::new(),
            sample: None,
            shown_from: 0,
        };
        Self {
            now: 1_000,
            limit,
            house: Box::new(house),
            cars,
            meter,
            tuning: Tuning::default(),
            state: State::default(),
            dice: Dice(1),
            breakers: std::array::from_fn(|_| Breaker::new(limit)),
            plan: Plan::default(),
            overload_as: [0.0; 3],
            peak: 0.0,
            slowest_cut_ms: 0,
            open_cut: None,
            charged_as: 0.0,
        }
    }

    pub fn currents(&self) -> [f64; 3] {
        let house = (self.house)(self.now);
        std::array::from_fn(|phase| {
            let cars = self.cars.iter().filter(|car| self.now >= car.plugged_at && car.uses(phase, self.now));
            house[phase] + cars.map(|car| car.draws).sum::<f64>()
        })
    }

    pub fn run(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + seconds * 1_000;
        while self.now < end {
            self.physics();
            let fresh = self.read_meter();
            let over = fresh && self.metered_overload();
            if self.now.is_multiple_of(CYCLE_MS) || over {
                self.control();
            }
            self.now += STEP_MS;
        }
        self
    }

    pub fn physics(&mut self) {
        let now = self.now;
        self.cars.iter_mut().for_each(|car| car.live(now));
        let currents = self.currents();
        let seconds = STEP_MS as f64 / 1_000.0;
        for (phase, ampere) in currents.into_iter().enumerate() {
            self.breakers[phase].carry(ampere, seconds);
            if ampere > self.limit * NOISE {
                self.overload_as[phase] += (ampere - self.limit) * seconds;
            }
            self.peak = self.peak.max(ampere);
        }
        self.charged_as += self.cars.iter().map(|car| car.draws * seconds).sum::<f64>();
        self.meter.past.push_back((now, currents));
    }

    /// Whether a new sample has arrived.
    pub fn read_meter(&mut self) -> bool {
        let meter = &mut self.meter;
        while meter.past.len() > 1 && meter.past[1].0 + meter.lag_ms <= self.now {
            meter.past.pop_front();
        }
        if !self.now.is_multiple_of(meter.period_ms) || meter.dies_at.is_some_and(|at| self.now >= at) {
            return false;
        }
        let (from, shown) = meter.past.front().copied().unwrap_or_default();
        meter.shown_from = from;
        meter.sample = Some(Sample { current: PerPhase(shown.map(|a| Some(ma(a)))), at: Moment(self.now) });
        true
    }

    pub fn metered_overload(&self) -> bool {
        let over = |current: Option<Milliamps>| current.is_some_and(|current| current > ma(self.limit));
        self.meter.sample.is_some_and(|sample| sample.current.0.into_iter().any(over))
    }

    pub fn site(&self) -> Site {
        let metering = if self.meter.exists {
            Metering::Metered {
                sample: self.meter.sample,
                stale_after_ms: self.meter.stale_after_ms,
                failsafe: PerPhase::all(ma(self.meter.failsafe)),
            }
        } else {
            Metering::Unmetered { fixed: PerPhase::default() }
        };
        let circuit = Circuit {
            id: "main".into(),
            parent: None,
            limit: PerPhase::all(ma(self.limit)),
            sum_limit: None,
            metering,
        };
        let chargers = self.cars.iter().enumerate().map(|(number, car)| self.charger(number, car)).collect();
        Site { circuits: vec![circuit], chargers, tuning: self.tuning.clone(), ..Site::default() }
    }

    pub fn charger(&self, number: usize, car: &Car) -> Charger {
        let mut charger = Charger::new(id(number), "main".into(), ma(car.max));
        charger.phases = Some(PerPhase(car.phases));
        charger.step = Milliamps(100);
        let fresh = car.sample.filter(|(_, at)| self.now <= at + 10_000);
        charger.reachable = fresh.is_some();
        charger.accepted = car.accepted;
        charger.failsafe = car.failsafe.map(ma);
        charger.connector = match fresh {
            None => Connector::Unknown,
            Some(_) if self.now < car.plugged_at => Connector::Available,
            Some((drawn, _)) if drawn > 0.0 => Connector::Charging,
            Some(_) => Connector::Connected,
        };
        charger.measured = fresh.filter(|_| car.measures).map(|(drawn, at)| {
            let on = |phase: usize| if car.uses(phase, at) { ma(drawn) } else { Milliamps::ZERO };
            Sample { current: PerPhase([Some(on(0)), Some(on(1)), Some(on(2))]), at: Moment(at) }
        });
        charger
    }

    pub fn control(&mut self) {
        let before: BTreeMap<DeviceId, Milliamps> =
            self.plan.chargers.iter().map(|(id, plan)| (id.clone(), plan.granted)).collect();
        let site = self.site();
        self.plan = plan(&mut self.state, &site, Moment(self.now));
        self.judge_cut(&before);
        for order in self.plan.commands.clone() {
            let number = usize::try_from(order.device.number()).unwrap() - 1;
            let (now, dice) = (self.now, &mut self.dice);
            self.cars[number].command(order.current.0 as f64 / 1_000.0, now, dice);
        }
    }

    /// An overload that the meter shows has to be answered within a second by a reduction, unless what is commanded
    /// already fits (the cars only have to obey) or nobody on that phase has anything left to give.
    pub fn judge_cut(&mut self, before: &BTreeMap<DeviceId, Milliamps>) {
        let reduced = self.plan.commands.iter().any(|order| order.kind == OrderKind::Reduce);
        let shown = self.meter.sample.map_or([None; 3], |sample| sample.current.0);
        // Judged by what the meter has shown, not by what nobody can know yet.
        let seen = self.meter.shown_from;
        let open = (0..3).any(|phase| {
            let here = || (0..self.cars.len()).filter(|number| self.cars[*number].uses(phase, self.now));
            // A wallbox counts as silent as soon as its values are too old, and no earlier can anybody know.
            let heard = |number: usize| self.cars[number].sample.is_some_and(|(_, at)| self.now <= at + 10_000);
            let part = |number: usize| match heard(number) {
                true => self.plan.chargers[&id(number)].granted.0 as f64 / 1_000.0,
                false => self.cars[number].draws,
            };
            let told = (self.house)(seen)[phase] + here().map(part).sum::<f64>();
            let gives = |number: &usize| before.get(&id(*number)).is_some_and(|granted| granted.0 > 0);
            let give = here().filter(|number| heard(*number)).any(|number| gives(&number));
            shown[phase].is_some_and(|current| current > ma(self.limit)) && told > self.limit * NOISE && give
        });
        if !open || reduced {
            self.open_cut = None;
            return;
        }
        let since = *self.open_cut.get_or_insert(self.now);
        self.slowest_cut_ms = self.slowest_cut_ms.max(self.now - since);
    }

    pub fn tripped(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.tripped)
    }

    pub fn overload(&self) -> f64 {
        self.overload_as.into_iter().fold(0.0, f64::max)
    }
}

pub fn quiet(_: u64) -> [f64; 3] {
    [0.0; 3]
}
