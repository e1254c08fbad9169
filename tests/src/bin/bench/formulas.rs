//! A thousand formulas as a site's definitions, variables and rules hold them, once over, as at the end of each control
//! cycle: against the live site of 20 wallboxes and 20 meters, and against a scope that costs nothing.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ladekern::config;
use ladekern::formulas::World;
use ladekern::site::{Board, Clock, Connector, Health, Outcome, StatusSender};
use ladekern::variables::Variables;
use ladekern_definition::formula::{Formula, Name, Object, Scope};
use tokio::sync::watch;

use crate::measure::time_us;
use crate::report::Number;

/// Each comes as often as the others; `#` becomes the number of a device.
const FORMULAS: [&str; 10] = [
    "M#.power_w",
    "power_w / 1000",
    "M#.power_w < 0 ? -M#.power_w : 0",
    "clamp(round((CM._org_surplus + E#.power_w) / 230 / 3 * 1000), 6000, 16000)",
    "date.hour >= 6 && date.hour < 22 && date.weekday != 0",
    "exists(M#.soc) ? M#.soc > 80 || GM.grid_demand.power_w < -500 : 0",
    "max(E#.current_l1, E#.current_l2, E#.current_l3) * 0.001",
    "(E#.state == 3) + (M#.com_err & 1 | 2) % 4",
    "min(M#.import_wh - M#.export_wh, 2 ^ 31) + abs(current_l1 - current_l2)",
    "missing_variable > 0 ? sqrt(power_w ^ 2) : 1",
];
/// Wallboxes, and meters.
const DEVICES: u32 = 20;

pub fn thousand() -> anyhow::Result<Vec<Number>> {
    let (world, _senders) = world(DEVICES, "")?;
    let formulas = formulas()?;
    let own = (1..=DEVICES).map(|n| Ok(format!("M{n}").parse()?)).collect::<anyhow::Result<Vec<_>>>()?;
    let known = {
        let look = world.look();
        let values = formulas.iter().zip(own.iter().cycle());
        values.filter(|(formula, own)| formula.value(&look.scope(Some(own))).is_some()).count()
    };
    // All but the one in ten that asks for what nobody has.
    anyhow::ensure!(known == formulas.len() / 10 * 9, "only {known} of the formulas have a value");
    let live = time_us(200, || {
        let look = world.look();
        for (formula, own) in formulas.iter().zip(own.iter().cycle()) {
            black_box(formula.value(&look.scope(Some(own))));
        }
    })?;
    let bare = time_us(1_000, || {
        for formula in &formulas {
            black_box(formula.value(&Same));
        }
    })?;
    Ok(vec![
        Number::at_most("formulas_1000_us", live, "µs", 1_000.0),
        Number::beside("formulas_1000_bare_us", bare, "µs"),
    ])
}

/// The same formulas as user variables of 100 meters beside 100 wallboxes, one in ten naming the variable before it: all
/// that happens at the end of a cycle, from the look at the site to the values that everybody sees.
pub fn cycle() -> anyhow::Result<Vec<Number>> {
    let mut variables = String::from("[variables]\n");
    for n in 0..1_000_usize {
        let device = n % 100 + 1;
        let text = match (n % 10, n) {
            (0, 2..) => format!("M{}.v{} + 1", (n - 2) % 100 + 1, n - 2),
            (kind, _) => FORMULAS[kind].replace('#', &device.to_string()),
        };
        variables.push_str(&format!("\"M{device}.v{n}\" = \"{text}\"\n"));
    }
    let (world, _senders) = world(100, &variables)?;
    let cycles = Variables::new(world.clone());
    let values = world.variables();
    let known =
        (0..1_000).filter(|n| values.borrow().get(&Name::new(Object::Meter(n % 100 + 1), &format!("v{n}"))).is_some());
    // All but those that ask for what nobody has.
    let known = known.count();
    anyhow::ensure!(known == 900, "{known} of the variables have a value");
    let value = time_us(200, || cycles.recompute())?;
    Ok(vec![Number::at_most("formulas_cycle_us", value, "µs", 1_000.0)])
}

fn formulas() -> anyhow::Result<Vec<Formula>> {
    let texts = (1..=1_000 / FORMULAS.len()).flat_map(|round| {
        let device = (round as u32 % DEVICES + 1).to_string();
        FORMULAS.map(|text| text.replace('#', &device))
    });
    texts.map(|text| Formula::parse(&text).with_context(|| text)).collect()
}

/// Every name is there.
struct Same;

impl Scope for Same {
    fn get(&self, name: &Name) -> Option<f64> {
        Some(black_box(name).member.len() as f64)
    }
}

/// `devices` wallboxes and as many meters, and the rest of the file.
fn world(devices: u32, more: &str) -> anyhow::Result<(World, Vec<StatusSender>)> {
    let mut text =
        "[load]\nmode = \"observe\"\n[[circuit]]\nid = \"main\"\nlimit_ma = [160000, 160000, 160000]\n".to_owned();
    text.push_str(more);
    for n in 1..=devices {
        let role = if n == 1 { "role = \"grid\"\n" } else { "" };
        text.push_str(&format!("[[device]]\nid = \"M{n}\"\ntype = \"http-input\"\n{role}"));
        text.push_str(&format!("[[device]]\nid = \"E{n}\"\ntype = \"http-input\"\n"));
    }
    let config = Arc::new(config::parse("bench", &text, &[])?);
    let (board, clock) = (Board::default(), Clock::start());
    let mut senders = Vec::new();
    for device in &config.devices {
        let sender = board.register(device.id.clone());
        let mut outcome = Outcome { connector: Some(Connector::Charging), ..Outcome::default() };
        for (n, name) in
            ["power.total", "current.l1", "current.l2", "current.l3", "voltage.l1", "voltage.l2"].iter().enumerate()
        {
            outcome.push(name, 230.0 * (n + 1) as f64);
        }
        for name in ["voltage.l3", "energy.import", "energy.export", "battery.soc"] {
            outcome.push(name, 90.0);
        }
        sender.update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(3_600);
            status.values.merge(outcome, clock.now());
        });
        senders.push(sender);
    }
    Ok((World::new(board, watch::channel(config).1, clock), senders))
}
