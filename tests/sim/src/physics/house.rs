//! The house: everything electrical behind one grid connection, stepped by hand. Never knows sockets, protocols or a clock.

use super::{Action, Audit, Breaker, Event, Evse, Phases, Script, Settings, State, Trace, audit::Outlook, wave};

/// The house's fixed properties.
#[derive(Debug, Clone)]
pub struct HouseOptions {
    /// Same seed, same house.
    pub seed: u64,
    /// Main fuse, A per phase: limit of the audit and rated current of the breaker.
    pub fuse_a: f64,
    /// Reports up to this much above the fuse are measuring noise, A.
    pub tolerance_a: f64,
    /// Consumption of the house without wallboxes, A per phase.
    pub base: [Trace; 3],
    /// Generation, A per phase.
    pub pv: [Trace; 3],
    /// Energy counters of the grid meter at the start, Wh: import, export.
    pub counters_wh: (f64, f64),
    /// Energy counter of the generation at the start, Wh.
    pub pv_counter_wh: f64,
    /// Simulated seconds per real second.
    pub speed: f64,
}

impl Default for HouseOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            fuse_a: 35.0,
            tolerance_a: 0.1,
            base: Default::default(),
            pv: Default::default(),
            counters_wh: (12_345_670.0, 4_321_000.0),
            pv_counter_wh: 7_654_320.0,
            speed: 1.0,
        }
    }
}

/// What a meter in the house measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The grid connection; positive = import.
    Grid,
    /// The generation; positive = generation.
    Pv,
    /// The house without wallboxes and generation; positive = consumption.
    Load,
}

struct Spike {
    until_s: f64,
    amps: Phases,
}

/// A house with its wallboxes.
pub struct House {
    options: HouseOptions,
    script: Script,
    evses: Vec<Evse>,
    breakers: [Breaker; 3],
    audit: Audit,
    spikes: Vec<Spike>,
    t: f64,
    wall_s: f64,
    wall_is_real: bool,
    sun: f64,
    volts: Phases,
    load: Phases,
    pv: Phases,
    grid: Phases,
    import_wh: f64,
    export_wh: f64,
    pv_wh: f64,
    load_wh: f64,
}

impl House {
    /// A house at rest, warm from its base load.
    #[must_use]
    pub fn new(options: HouseOptions, evses: Vec<Evse>, script: Script) -> Self {
        let limit = [options.fuse_a; 3];
        let mut house = Self {
            audit: Audit::new(limit, options.tolerance_a),
            breakers: std::array::from_fn(|_| Breaker::new(options.fuse_a, 0.0)),
            import_wh: options.counters_wh.0,
            export_wh: options.counters_wh.1,
            pv_wh: options.pv_counter_wh,
            load_wh: 0.0,
            options,
            script,
            evses,
            spikes: Vec::new(),
            t: 0.0,
            wall_s: 0.0,
            wall_is_real: false,
            sun: 1.0,
            volts: [230.0; 3],
            load: [0.0; 3],
            pv: [0.0; 3],
            grid: [0.0; 3],
        };
        house.measure([0.0; 3]);
        house.breakers = house.grid.map(|amps| Breaker::new(house.options.fuse_a, amps));
        house
    }

    /// Lets `dt` simulated seconds pass; returns the events that became due (those for devices are the caller's to do).
    pub fn step(&mut self, dt: f64) -> Vec<Event> {
        self.t += dt;
        if !self.wall_is_real {
            self.wall_s += dt / self.options.speed.max(1e-6);
        }
        let due = self.script.due(self.t);
        for event in &due {
            self.act(event);
        }
        let t = self.t;
        self.spikes.retain(|spike| spike.until_s > t);
        let volts = self.volts;
        let mut cars = [0.0; 3];
        for evse in &mut self.evses {
            add(&mut cars, &evse.step(dt, &volts));
        }
        self.measure(cars);
        self.count(dt);
        for (breaker, amps) in self.breakers.iter_mut().zip(&self.grid) {
            breaker.step(*amps, dt);
        }
        self.audit.step(dt, &self.grid, self.wall_s);
        due
    }

    fn act(&mut self, event: &Event) {
        match &event.action {
            Action::Load { amps, for_s } => self.spikes.push(Spike { until_s: self.t + for_s, amps: *amps }),
            Action::Sun(factor) => self.sun = factor.max(0.0),
            Action::PlugIn(id) => {
                if let Some(evse) = self.evses.iter_mut().find(|e| e.id() == id) {
                    evse.plug_in();
                }
            }
            Action::Unplug(id) => {
                if let Some(evse) = self.evses.iter_mut().find(|e| e.id() == id) {
                    evse.unplug();
                }
            }
            Action::Note | Action::Silence { .. } | Action::Offline { .. } => {}
        }
    }

    fn measure(&mut self, cars: Phases) {
        let seed = self.options.seed;
        let t = self.t;
        for ((n, amps), trace) in (0u64..).zip(&mut self.load).zip(&self.options.base) {
            *amps = trace.at(seed, 10 + n, t);
        }
        for ((n, amps), trace) in (0u64..).zip(&mut self.pv).zip(&self.options.pv) {
            *amps = trace.at(seed, 20 + n, t) * self.sun;
        }
        for spike in &self.spikes {
            add(&mut self.load, &spike.amps);
        }
        let sum = self.load.iter().zip(&cars).zip(&self.pv).map(|((load, cars), pv)| load + cars - pv);
        for (grid, amps) in self.grid.iter_mut().zip(sum) {
            *grid = amps;
        }
        // 230 V, a slow wander of 1.5 V, a quick one of 0.3 V, and 30 mV per ampere over the service cable.
        for ((n, volts), amps) in (0u64..).zip(&mut self.volts).zip(&self.grid) {
            *volts = 230.5 + 1.5 * wave(seed, 30 + n, t, 40.0) + 0.3 * wave(seed, 40 + n, t, 2.0) - 0.03 * amps;
        }
    }

    fn count(&mut self, dt: f64) {
        let wh = |amps: &Phases, volts: &Phases| amps.iter().zip(volts).map(|(a, v)| a * v).sum::<f64>() * dt / 3600.0;
        let grid = wh(&self.grid, &self.volts);
        self.import_wh += grid.max(0.0);
        self.export_wh += (-grid).max(0.0);
        self.pv_wh += wh(&self.pv, &self.volts);
        self.load_wh += wh(&self.load, &self.volts);
    }

    /// Tells the house how many real seconds have passed since the start; it never goes backwards. From then on only
    /// this moves the real clock; without it every step does.
    pub fn set_wall(&mut self, seconds: f64) {
        self.wall_is_real = true;
        self.wall_s = self.wall_s.max(seconds);
    }

    /// New settings have arrived at wallbox `index`.
    pub fn command(&mut self, index: usize, settings: Settings) {
        let Some(evse) = self.evses.get_mut(index) else { return };
        let before = evse.prospective();
        let drawing = evse.currents();
        evse.set(settings);
        let after = evse.prospective();
        let mut lowered = [false; 3];
        for (((low, before), after), amps) in lowered.iter_mut().zip(before).zip(after).zip(drawing) {
            *low = after < before - 1e-9 && amps > 0.5;
        }
        let outlook = self.outlook();
        self.audit.set_point(self.wall_s, lowered, &outlook);
    }

    /// The grid meter has delivered these currents (A, sign of the power) to whoever listens.
    pub fn delivered(&mut self, measured: &Phases) {
        let outlook = self.outlook();
        self.audit.delivered(self.wall_s, measured, &outlook);
    }

    fn outlook(&self) -> Outlook {
        let mut commanded = [0.0; 3];
        for evse in &self.evses {
            add(&mut commanded, &evse.prospective());
        }
        let mut prospective = self.load;
        add(&mut prospective, &commanded);
        for (amps, pv) in prospective.iter_mut().zip(&self.pv) {
            *amps -= pv;
        }
        Outlook { now: self.grid, prospective, commanded }
    }

    /// Adds an event for as soon as possible.
    pub fn happen(&mut self, action: Action, text: impl Into<String>) {
        self.script.push(self.t, action, text);
    }

    /// Simulated seconds since the start.
    #[must_use]
    pub fn t(&self) -> f64 {
        self.t
    }

    /// Real seconds since the start.
    #[must_use]
    pub fn wall_s(&self) -> f64 {
        self.wall_s
    }

    /// Voltage per phase, V.
    #[must_use]
    pub fn volts(&self) -> Phases {
        self.volts
    }

    /// Current per phase at `source`, A with the sign of the power.
    #[must_use]
    pub fn amps(&self, source: Source) -> Phases {
        match source {
            Source::Grid => self.grid,
            Source::Pv => self.pv,
            Source::Load => self.load,
        }
    }

    /// Energy counters at `source`, Wh: in the positive direction, in the negative one.
    #[must_use]
    pub fn energy_wh(&self, source: Source) -> (f64, f64) {
        match source {
            Source::Grid => (self.import_wh, self.export_wh),
            Source::Pv => (self.pv_wh, 0.0),
            Source::Load => (self.load_wh, 0.0),
        }
    }

    /// Grid frequency, Hz.
    #[must_use]
    pub fn hertz(&self) -> f64 {
        50.0 + 0.02 * wave(self.options.seed, 50, self.t, 10.0)
    }

    /// The wallboxes.
    #[must_use]
    pub fn evses(&self) -> &[Evse] {
        &self.evses
    }

    /// A wallbox to change; settings go through [`House::command`], or the audit misses them.
    pub fn evse_mut(&mut self, index: usize) -> Option<&mut Evse> {
        self.evses.get_mut(index)
    }

    /// True while a car charges.
    #[must_use]
    pub fn is_charging(&self) -> bool {
        self.evses.iter().any(|evse| evse.state() == State::C)
    }

    /// The breakers of the three phases.
    #[must_use]
    pub fn breakers(&self) -> &[Breaker; 3] {
        &self.breakers
    }

    /// Overload seconds and reaction times.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What it was built with.
    #[must_use]
    pub fn options(&self) -> &HouseOptions {
        &self.options
    }
}

fn add(to: &mut Phases, what: &Phases) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}
