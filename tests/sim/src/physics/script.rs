//! What happens in the house and when. Only says it: the house and the runner do it.

use super::Phases;

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// An additional load of so many amperes per phase, for so many seconds.
    Load {
        /// Amperes per phase.
        amps: Phases,
        /// Duration in seconds.
        for_s: f64,
    },
    /// Nothing; only the text is told.
    Note,
    /// The sun changes: generation times this factor.
    Sun(f64),
    /// A car is plugged in at the wallbox with this id.
    PlugIn(String),
    /// The car leaves the wallbox with this id.
    Unplug(String),
    /// The device with this id stops delivering for so many seconds, its sockets stay.
    Silence {
        /// Id of the device.
        id: String,
        /// Duration in seconds.
        for_s: f64,
    },
    /// The device with this id closes its sockets for so many seconds.
    Offline {
        /// Id of the device.
        id: String,
        /// Duration in seconds.
        for_s: f64,
    },
}

/// An action, its time and what to tell the people watching.
#[derive(Debug, Clone)]
pub struct Event {
    /// Simulated seconds after the start.
    pub at_s: f64,
    /// What happens.
    pub action: Action,
    /// One sentence for the log.
    pub text: String,
}

/// Events in the order of their time.
#[derive(Debug, Clone, Default)]
pub struct Script {
    events: Vec<Event>,
    next: usize,
}

impl Script {
    /// No events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event at `at_s` seconds.
    #[must_use]
    pub fn at(mut self, at_s: f64, action: Action, text: impl Into<String>) -> Self {
        self.push(at_s, action, text);
        self
    }

    /// Adds an event at `at_s` seconds; one in the past happens with the next step.
    pub fn push(&mut self, at_s: f64, action: Action, text: impl Into<String>) {
        let from = self.next.min(self.events.len());
        let place = self.events.iter().skip(from).position(|e| e.at_s > at_s).map_or(self.events.len(), |n| from + n);
        self.events.insert(place, Event { at_s, action, text: text.into() });
    }

    /// The events that are due at `t` seconds; each is handed out once.
    pub fn due(&mut self, t: f64) -> Vec<Event> {
        let due: Vec<Event> = self.events.iter().skip(self.next).take_while(|e| e.at_s <= t + 1e-9).cloned().collect();
        self.next += due.len();
        due
    }

    /// Everything in it, done or not.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}
