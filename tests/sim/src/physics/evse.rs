//! A wallbox as the electricity sees it: pilot, contactor, relays, its own clock for new settings, its failsafe.
//!
//! Registers and payloads are not here; a protocol module turns them into [`Settings`].

use super::{Car, Phases};

/// State after IEC 61851-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No vehicle.
    A,
    /// Vehicle present, contactor open.
    B,
    /// Vehicle asks for energy, contactor closed.
    C,
    /// Fault.
    F,
}

/// What a manager can set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Current limit per phase, A; below 6 nothing is offered.
    pub limit_a: f64,
    /// Charging allowed.
    pub enabled: bool,
    /// Only the first conductor is connected.
    pub one_phase: bool,
}

impl Settings {
    /// What this amounts to on the pilot, A per phase.
    #[must_use]
    pub fn offer(&self) -> f64 {
        if self.enabled && self.limit_a >= 6.0 { self.limit_a } else { 0.0 }
    }
}

/// What a box does when nobody talks to it any more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failsafe {
    /// Seconds of silence before it acts; 0 = never.
    pub after_s: f64,
    /// Current limit then, A; below 6 = no charging.
    pub limit_a: f64,
}

/// A wallbox's fixed properties.
#[derive(Debug, Clone)]
pub struct EvseOptions {
    /// Device id, such as `E1`.
    pub id: String,
    /// Which phase of the site (0..2) each conductor of the box is wired to; 1 or 3 entries.
    pub wiring: Vec<usize>,
    /// Its largest current, A.
    pub max_a: f64,
    /// Settings at power-up.
    pub initial: Settings,
    /// New settings take effect at the next full period (go-e: 1 s); 0 = at once.
    pub logic_period_s: f64,
    /// What it does when nobody talks to it.
    pub failsafe: Failsafe,
}

/// Seconds after which a box opens the contactor under load when the car ignores the end of the offer.
const OPENS_AFTER_S: f64 = 6.0;
/// Seconds a change of the phase relays keeps the pilot off.
const PHASE_SWITCH_S: f64 = 2.0;

/// A wallbox and the car at it.
#[derive(Debug, Clone)]
pub struct Evse {
    options: EvseOptions,
    /// What it does when nobody talks to it; registers may change it.
    pub failsafe: Failsafe,
    active: Settings,
    wanted: Settings,
    car: Car,
    plugged: bool,
    fault: bool,
    t: f64,
    silent_s: f64,
    break_s: f64,
    switch_s: f64,
    unoffered_s: f64,
    amps: f64,
    energy_wh: f64,
    session_wh: f64,
}

impl Evse {
    /// A box with a car that is plugged in or still away.
    #[must_use]
    pub fn new(options: EvseOptions, car: Car, plugged: bool) -> Self {
        let initial = options.initial;
        Self {
            failsafe: options.failsafe,
            options,
            active: initial,
            wanted: initial,
            car,
            plugged,
            fault: false,
            t: 0.0,
            silent_s: 0.0,
            break_s: 0.0,
            switch_s: 0.0,
            unoffered_s: 0.0,
            amps: 0.0,
            energy_wh: 0.0,
            session_wh: 0.0,
        }
    }

    /// Lets `dt` seconds pass at `volts` per site phase; returns the current on each phase of the site.
    pub fn step(&mut self, dt: f64, volts: &Phases) -> Phases {
        self.t += dt;
        self.silent_s += dt;
        self.apply_settings(dt);
        let offer = self.offer();
        let waking = self.break_s > 0.0 && self.break_s <= dt;
        self.break_s = (self.break_s - dt).max(0.0);
        self.switch_s = (self.switch_s - dt).max(0.0);
        if !self.plugged {
            self.amps = 0.0;
            return [0.0; 3];
        }
        if waking {
            self.car.wake();
        }
        let wish = self.car.step(dt, offer);
        self.unoffered_s = if offer < 6.0 { self.unoffered_s + dt } else { 0.0 };
        let forced_open = self.break_s > 0.0 || self.switch_s > 0.0 || self.fault || self.unoffered_s > OPENS_AFTER_S;
        if forced_open {
            self.car.cut_off();
        }
        self.amps = if forced_open { 0.0 } else { wish };
        let currents = self.currents();
        let wh: f64 = currents.iter().zip(volts).map(|(a, v)| a * v).sum::<f64>() * dt / 3600.0;
        self.energy_wh += wh;
        self.session_wh += wh;
        self.car.take(wh);
        currents
    }

    fn apply_settings(&mut self, dt: f64) {
        if self.active == self.wanted {
            return;
        }
        let period = self.options.logic_period_s;
        let boundary = period <= 0.0 || (self.t / period).floor() > ((self.t - dt) / period).floor();
        if boundary {
            if self.active.one_phase != self.wanted.one_phase {
                self.switch_s = PHASE_SWITCH_S;
            }
            self.active = self.wanted;
        }
    }

    /// What a manager asked for; it takes effect when the box's own logic runs.
    pub fn set(&mut self, settings: Settings) {
        self.wanted = settings;
    }

    /// Somebody talked to the box: the failsafe starts anew.
    pub fn touch(&mut self) {
        self.silent_s = 0.0;
    }

    /// Interrupts the pilot for `seconds`, as if the car had been unplugged.
    pub fn interrupt_pilot(&mut self, seconds: f64) {
        self.break_s = seconds.max(0.0);
    }

    /// Seconds left of an interruption of the pilot.
    #[must_use]
    pub fn interruption_left_s(&self) -> f64 {
        self.break_s
    }

    /// Plugs the car in; a new session begins.
    pub fn plug_in(&mut self) {
        if !self.plugged {
            self.plugged = true;
            self.session_wh = 0.0;
            self.car = Car::new(self.car.options.clone());
        }
    }

    /// The car leaves.
    pub fn unplug(&mut self) {
        self.plugged = false;
        self.amps = 0.0;
    }

    /// Breaks or mends the box.
    pub fn set_fault(&mut self, fault: bool) {
        self.fault = fault;
    }

    /// What is on the pilot now, A; 0 = nothing offered.
    #[must_use]
    pub fn offer(&self) -> f64 {
        if self.break_s > 0.0 || self.switch_s > 0.0 || self.fault {
            return 0.0;
        }
        self.limited(self.active)
    }

    /// What these settings put on the pilot of this box, its fail-safe included.
    fn limited(&self, mut settings: Settings) -> f64 {
        if self.is_failsafe() {
            settings.limit_a = settings.limit_a.min(self.failsafe.limit_a);
        }
        settings.offer().min(self.options.max_a)
    }

    /// True while the failsafe limits the box.
    #[must_use]
    pub fn is_failsafe(&self) -> bool {
        self.failsafe.after_s > 0.0 && self.silent_s > self.failsafe.after_s
    }

    /// State after IEC 61851-1.
    #[must_use]
    pub fn state(&self) -> State {
        if self.fault {
            State::F
        } else if !self.plugged {
            State::A
        } else if self.amps > 0.0 || (self.car.asks() && self.offer() >= 6.0) {
            State::C
        } else {
            State::B
        }
    }

    /// Conductors in use: the box's relays and the car's phases.
    #[must_use]
    pub fn used_conductors(&self) -> usize {
        let connected = if self.active.one_phase { 1 } else { self.options.wiring.len() };
        connected.min(self.car.phases())
    }

    /// Current on each phase of the site, A.
    #[must_use]
    pub fn currents(&self) -> Phases {
        self.spread(self.amps, self.used_conductors())
    }

    /// Current per conductor of the box, A.
    #[must_use]
    pub fn conductor_currents(&self) -> Phases {
        let used = self.used_conductors();
        std::array::from_fn(|n| if n < used { self.amps } else { 0.0 })
    }

    /// Where the current will settle with what has been asked for, on each phase of the site, A.
    #[must_use]
    pub fn prospective(&self) -> Phases {
        if !self.plugged || self.fault || !self.car.wants() {
            return [0.0; 3];
        }
        let used = if self.wanted.one_phase { 1 } else { self.options.wiring.len() }.min(self.car.phases());
        self.spread(self.car.would_draw(self.limited(self.wanted)), used)
    }

    fn spread(&self, amps: f64, used: usize) -> Phases {
        let mut out = [0.0; 3];
        for place in self.options.wiring.iter().take(used) {
            if let Some(slot) = out.get_mut(*place) {
                *slot += amps;
            }
        }
        out
    }

    /// Voltage at each conductor, from the voltages of the site.
    #[must_use]
    pub fn conductor_volts(&self, volts: &Phases) -> Phases {
        std::array::from_fn(|n| self.options.wiring.get(n).and_then(|p| volts.get(*p)).copied().unwrap_or(0.0))
    }

    /// Device id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.options.id
    }

    /// Largest current, A.
    #[must_use]
    pub fn max_a(&self) -> f64 {
        self.options.max_a
    }

    /// What was asked for last.
    #[must_use]
    pub fn wanted(&self) -> Settings {
        self.wanted
    }

    /// What is in effect.
    #[must_use]
    pub fn active(&self) -> Settings {
        self.active
    }

    /// True with a car at it.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        self.plugged
    }

    /// The car, plugged in or away.
    #[must_use]
    pub fn car(&self) -> &Car {
        &self.car
    }

    /// The car, to change its behaviour.
    pub fn car_mut(&mut self) -> &mut Car {
        &mut self.car
    }

    /// Energy since the start, Wh.
    #[must_use]
    pub fn energy_wh(&self) -> f64 {
        self.energy_wh
    }

    /// Energy since the car was plugged in, Wh.
    #[must_use]
    pub fn session_wh(&self) -> f64 {
        self.session_wh
    }
}
