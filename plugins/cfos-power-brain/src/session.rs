//! Energy since the vehicle was plugged in: the box has no counter of its own for it. Never guesses: who was not there when the
//! vehicle came does not know.

use ladekern_plugin_sdk::{Connector, Json};

/// Memory of the connector and the counter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// A vehicle was there at the last poll; unknown before the first.
    plugged: Option<bool>,
    /// The counter when it came.
    start: Option<f64>,
    /// The counter at the last poll that knew it.
    last: Option<f64>,
}

impl Session {
    /// Takes one poll in. Energy of this session in Wh, if it is known.
    pub fn update(&mut self, connector: Connector, energy: Option<f64>) -> Option<f64> {
        let plugged = match connector {
            Connector::Available => Some(false),
            Connector::Connected | Connector::Charging | Connector::Ventilation => Some(true),
            // A fault or a lost pilot says nothing about the vehicle.
            Connector::Unknown | Connector::NoPilot | Connector::Fault => self.plugged,
        };
        if plugged == Some(true) && self.plugged == Some(false) {
            // Nothing flows while nobody is there: the last count is that of the arrival.
            self.start = self.last.or(energy);
        } else if plugged != Some(true) {
            self.start = None;
        }
        self.plugged = plugged;
        self.last = energy.or(self.last);
        // A counter that went backwards was reset or exchanged.
        energy.zip(self.start).map(|(now, start)| now - start).filter(|wh| *wh >= 0.0)
    }

    /// For the next version of the driver.
    pub fn save(&self) -> String {
        fn number(value: Option<f64>) -> String {
            value.map_or_else(|| "null".into(), |value| value.to_string())
        }
        let plugged = self.plugged.map_or("null", |plugged| if plugged { "true" } else { "false" });
        format!("{{\"plugged\":{plugged},\"start\":{},\"last\":{}}}", number(self.start), number(self.last))
    }

    /// What [`Session::save`] wrote; none for anything else.
    pub fn restore(snapshot: &[u8]) -> Option<Self> {
        let json = Json::parse(core::str::from_utf8(snapshot).ok()?).ok()?;
        let number = |key| json.get(key).and_then(Json::number);
        Some(Self {
            plugged: json
                .get("plugged")
                .filter(|plugged| !plugged.is_null())
                .map(|plugged| plugged.flag() == Some(true)),
            start: number("start"),
            last: number("last"),
        })
        .filter(|_| json.get("plugged").is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_the_moment_the_vehicle_came() {
        let mut session = Session::default();
        assert_eq!(session.update(Connector::Available, Some(1000.0)), None);
        assert_eq!(session.update(Connector::Connected, Some(1000.0)), Some(0.0));
        assert_eq!(session.update(Connector::Charging, Some(1500.0)), Some(500.0));
        assert_eq!(session.update(Connector::Charging, None), None);
        assert_eq!(session.update(Connector::Fault, Some(1600.0)), Some(600.0));
        assert_eq!(session.update(Connector::Available, Some(1600.0)), None);
        assert_eq!(session.update(Connector::Charging, Some(1700.0)), Some(100.0), "came between two polls");
    }

    #[test]
    fn a_vehicle_that_was_there_before_us_has_no_known_session() {
        let mut session = Session::default();
        assert_eq!(session.update(Connector::Charging, Some(1000.0)), None);
        assert_eq!(session.update(Connector::Charging, Some(2000.0)), None);
    }

    #[test]
    fn a_counter_that_starts_with_0_does_not_make_a_session_of_its_whole_life() {
        let mut session = Session::default();
        session.update(Connector::Available, Some(5000.0));
        assert_eq!(session.update(Connector::Connected, None), None);
        assert_eq!(session.update(Connector::Charging, Some(5100.0)), Some(100.0));
    }

    #[test]
    fn the_next_version_goes_on_counting() {
        let mut old = Session::default();
        old.update(Connector::Available, Some(1000.5));
        old.update(Connector::Charging, Some(1001.25));
        let mut new = Session::restore(old.save().as_bytes()).unwrap();
        assert_eq!(new, old);
        assert_eq!(new.update(Connector::Charging, Some(1100.0)), Some(99.5));
        assert_eq!(Session::restore(Session::default().save().as_bytes()), Some(Session::default()));
        for snapshot in [&b""[..], b"{}", b"[]", b"\xff", b"{\"polls\":3}"] {
            assert_eq!(Session::restore(snapshot), None);
        }
    }
}
