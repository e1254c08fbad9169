//! One decision of the load manager for twenty wallboxes: two circuits below a metered house connection that is too
//! small for all of them, every car charging, the meter saying something else each second.

use std::hint::black_box;

use ladekern::load::{self, Charger, Circuit, Metering, Milliamps, PerPhase, Sample, Site, State};
use ladekern::site::{Connector, Measured, Moment};

use crate::measure::time_us;
use crate::report::Number;

pub fn twenty_chargers() -> anyhow::Result<Vec<Number>> {
    let mut site = site()?;
    let mut state = State::default();
    let mut now = Moment(1_000);
    let value = time_us(10_000, || {
        now = Moment(now.0 + 1_000);
        move_on(&mut site, now);
        let plan = load::plan(&mut state, &site, now);
        for order in &plan.commands {
            if let Some(charger) = site.chargers.iter_mut().find(|charger| charger.id == order.device) {
                charger.accepted = Some(Measured { value: order.current, at: now });
            }
        }
        black_box(&plan);
    })?;
    Ok(vec![Number::at_most("plan_20_chargers_us", value, "µs", 50.0)])
}

fn site() -> anyhow::Result<Site> {
    let circuit = |id: &str, parent: Option<&str>, ampere: i64| Circuit {
        id: id.into(),
        parent: parent.map(Into::into),
        limit: PerPhase::all(Milliamps(ampere * 1_000)),
        sum_limit: None,
        metering: Metering::Unmetered { fixed: PerPhase::default() },
    };
    let mut chargers = Vec::new();
    for n in 1..=20 {
        let garage = if n % 2 == 0 { "north" } else { "south" };
        let mut charger = Charger::new(format!("E{n}").parse()?, garage.into(), Milliamps(16_000));
        charger.connector = Connector::Charging;
        charger.priority = n % 3;
        chargers.push(charger);
    }
    let circuits =
        vec![circuit("main", None, 160), circuit("north", Some("main"), 80), circuit("south", Some("main"), 80)];
    Ok(Site { circuits, chargers, ..Site::default() })
}

/// A second later: every car draws what it was told, the house a little more or less.
fn move_on(site: &mut Site, now: Moment) {
    let mut total = 0;
    for charger in &mut site.chargers {
        let draws = charger.accepted.map_or(0, |accepted| accepted.value.0);
        total += draws;
        charger.measured = Some(Sample { current: PerPhase::all(Some(Milliamps(draws))), at: now });
    }
    let house = 20_000 + i64::try_from(now.0 / 1_000 % 17).unwrap_or_default() * 500;
    let sample = Sample { current: PerPhase::all(Some(Milliamps(total + house))), at: now };
    if let Some(main) = site.circuits.first_mut() {
        let failsafe = PerPhase::all(Milliamps(30_000));
        main.metering = Metering::Metered { sample: Some(sample), stale_after_ms: 10_000, failsafe };
    }
}
