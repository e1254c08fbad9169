//! What the site shows: a picture for a live table, and the summary with the verdict. Only reads the house.

use std::fmt;

use crate::physics::{Episode, Evse, House, Phases, Source, State};

/// A wallbox in the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteBox {
    /// `E1`, `E2`.
    pub id: String,
    /// IEC 61851 letter.
    pub state: char,
    /// Set-point that arrived last, A; 0 when charging is not allowed.
    pub set_a: f64,
    /// What is on the pilot, A.
    pub offer_a: f64,
    /// Current per site phase, A.
    pub amps: Phases,
    /// Energy since the start, Wh.
    pub energy_wh: f64,
    /// Its own fail-safe limits it.
    pub failsafe: bool,
}

/// The true state of the site at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Simulated seconds since the start.
    pub t_s: f64,
    /// Current at the main fuse per phase, A, positive = import.
    pub grid_a: Phases,
    /// Voltage per phase, V.
    pub volts: Phases,
    /// Consumption of the house without wallboxes, A.
    pub load_a: Phases,
    /// Generation, A.
    pub pv_a: Phases,
    /// Main fuse, A.
    pub fuse_a: f64,
    /// Heat of the breaker per phase: 0 cold, 1 trips.
    pub heat: Phases,
    /// The grid meter delivers.
    pub meter_online: bool,
    /// The wallboxes.
    pub boxes: Vec<SiteBox>,
}

impl Site {
    pub(super) fn of(house: &House, meter_online: bool) -> Self {
        Self {
            t_s: house.t(),
            grid_a: house.amps(Source::Grid),
            volts: house.volts(),
            load_a: house.amps(Source::Load),
            pv_a: house.amps(Source::Pv),
            fuse_a: house.options().fuse_a,
            heat: house.breakers().each_ref().map(|breaker| breaker.heat()),
            meter_online,
            boxes: house.evses().iter().map(SiteBox::of).collect(),
        }
    }
}

impl SiteBox {
    fn of(evse: &Evse) -> Self {
        let state = match evse.state() {
            State::A => 'A',
            State::B => 'B',
            State::C => 'C',
            State::F => 'F',
        };
        Self {
            id: evse.id().to_owned(),
            state,
            set_a: evse.wanted().offer(),
            offer_a: evse.offer(),
            amps: evse.currents(),
            energy_wh: evse.energy_wh(),
            failsafe: evse.is_failsafe(),
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Real seconds.
    pub real_s: f64,
    /// Simulated seconds.
    pub simulated_s: f64,
    /// Simulated seconds above the main fuse, per phase.
    pub overload_s: Phases,
    /// Largest current above the main fuse, per phase, A.
    pub worst_overload_a: Phases,
    /// Overloads that the grid meter reported.
    pub episodes: Vec<Episode>,
    /// Longest real time from a reported overload to the cut, ms, rounded up; 0 without overload.
    pub worst_reaction_ms: u64,
    /// Longest real time from a reported overload until the true current was below the fuse, ms, rounded up.
    pub worst_physical_ms: u64,
    /// The most heat the breaker has had per phase, 1 = trips.
    pub peak_heat: Phases,
    /// Simulated second at which the breaker's curve was exceeded, per phase.
    pub tripped_s: [Option<f64>; 3],
    /// Energy per device since the start, Wh: E1, E2, `grid import`, `grid export`, `pv`.
    pub energy_wh: Vec<(String, f64)>,
}

impl Summary {
    pub(super) fn of(house: &House) -> Self {
        let now = house.wall_s();
        let audit = house.audit();
        let options = house.options();
        let millis = |s: f64| (s * 1000.0).ceil() as u64;
        let (import, export) = house.energy_wh(Source::Grid);
        let mut energy_wh: Vec<(String, f64)> =
            house.evses().iter().map(|evse| (evse.id().to_owned(), evse.energy_wh())).collect();
        energy_wh.push(("grid import".into(), import - options.counters_wh.0));
        energy_wh.push(("grid export".into(), export - options.counters_wh.1));
        energy_wh.push(("pv".into(), house.energy_wh(Source::Pv).0 - options.pv_counter_wh));
        Self {
            real_s: now,
            simulated_s: house.t(),
            overload_s: audit.overload_s(),
            worst_overload_a: audit.worst_overload_a(),
            episodes: audit.episodes(),
            worst_reaction_ms: millis(audit.worst_reaction_s(now)),
            worst_physical_ms: millis(audit.worst_physical_s(now)),
            peak_heat: house.breakers().each_ref().map(|breaker| breaker.peak_heat()),
            tripped_s: house.breakers().each_ref().map(|breaker| breaker.tripped_s()),
            energy_wh,
        }
    }

    /// True if the breaker tripped on any phase.
    #[must_use]
    pub fn tripped(&self) -> bool {
        self.tripped_s.iter().any(Option::is_some)
    }

    /// The verdict: no trip, and every cut at most 1 s after the overload was measured.
    #[must_use]
    pub fn ok(&self) -> bool {
        !self.tripped() && self.worst_reaction_ms <= 1000
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [o1, o2, o3] = self.overload_s;
        let [w1, w2, w3] = self.worst_overload_a;
        writeln!(f, "ran            {:.1} s ({:.1} s simulated)", self.real_s, self.simulated_s)?;
        writeln!(
            f,
            "overload       L1 {o1:.1} s, L2 {o2:.1} s, L3 {o3:.1} s; at most {w1:.1}, {w2:.1}, {w3:.1} A above the fuse"
        )?;
        writeln!(
            f,
            "reaction       {} overloads measured; worst {} ms until the cut, {} ms until the current was below the fuse",
            self.episodes.len(),
            self.worst_reaction_ms,
            self.worst_physical_ms
        )?;
        let energy: Vec<String> = self.energy_wh.iter().map(|(id, wh)| format!("{id} {wh:.1} Wh")).collect();
        writeln!(f, "energy         {}", energy.join(", "))?;
        match self.tripped_s.iter().zip(["L1", "L2", "L3"]).find_map(|(at, phase)| at.map(|at| (at, phase))) {
            Some((at, phase)) => write!(f, "main breaker   TRIPPED on {phase} after {at:.1} s"),
            None => {
                let hottest = self.peak_heat.iter().fold(0.0, |most: f64, heat| most.max(*heat));
                write!(f, "main breaker   held (at most {:.0} % of its tripping heat)", hottest * 100.0)
            }
        }
    }
}
