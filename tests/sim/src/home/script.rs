//! The script of the demo: a second car, a load spike, a lost meter, recovery; fits into 20 s and repeats.

use std::time::Duration;

use crate::physics::{Action, Script};

/// One round of the demo in seconds.
const ROUND_S: f64 = 20.0;

/// The demo for a run of `duration`: rounds of 20 s, of which a shorter run shows the beginning.
///
/// In each round: 3 s car at E2 plugs in; 8 s the house draws 21 A more on L1 (and 4 A on L2, L3) for 3.5 s, which
/// with both cars at their least is more than 35 A; 12 s M1 falls silent for 4 s; 16 s M1 is back. From the
/// second round on the car at E2 leaves first.
#[must_use]
pub fn demo_script(duration: Duration) -> Script {
    let rounds = (duration.as_secs_f64() / ROUND_S).ceil().clamp(1.0, 10_000.0) as u32;
    (0..rounds).fold(Script::new(), |script, round| {
        let start = f64::from(round) * ROUND_S;
        let script = if round > 0 {
            script.at(start + 0.5, Action::Unplug("E2".into()), "the car at E2 leaves")
        } else {
            script
        };
        let spike = Action::Load { amps: [21.0, 4.0, 4.0], for_s: 3.5 };
        let silence = Action::Silence { id: "M1".into(), for_s: 4.0 };
        script
            .at(start + 3.0, Action::PlugIn("E2".into()), "a car plugs in at E2")
            .at(start + 8.0, spike, "load spike: the house draws 21 A more on L1")
            .at(start + 11.5, Action::Note, "the load spike ends")
            .at(start + 12.0, silence, "the grid meter M1 falls silent")
            .at(start + 16.0, Action::Note, "the grid meter M1 is back")
    })
}
