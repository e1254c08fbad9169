//! A house with sun, a grid meter, cars that obey late, the control loop and the rules, in virtual time: what the car
//! really draws, what is imported for it, and how often its contactor moves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::super::{Assign, LiveRules, SharedSets};
use crate::config::Config;
use crate::control::{self, ControlHandle};
use crate::formulas::World;
use crate::load::Reason;
use crate::session::{Overrides, Session, SessionView};
use crate::site::quantities::{CURRENT, POWER_TOTAL};
use crate::site::{
    Because, Board, Clock, Command, CommandError, Commands, Connector, DeviceId, Health, Measured, Outcome,
    StatusSender,
};

/// Cars begin to obey so late.
const LAG_S: usize = 3;

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn site(limit_ma: u32, rules: &str) -> String {
    format!(
        r#"
[[circuit]]
id = "main"
limit_ma = [{limit_ma}, {limit_ma}, {limit_ma}]
meter = "M1"
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
phases = "L1L2L3"
{rules}
[[device]]
id = "E2"
type = "http-input"
phases = "L1L2L3"
[[user]]
id = "4711"
name = "Ada"
devices = []
charging_rules = [{{ ctype = 51, aexpr = 7000 }}]
"#
    )
}

const SUN: &str = "charging_rules = [{ ctype = 1, cexpr = 6000, atype = 10, flags = 18 }]";

fn config(text: &str) -> Arc<Config> {
    Arc::new(crate::config::parse("test.toml", text, &[]).unwrap_or_else(|errors| panic!("{errors}")))
}

struct Boxes {
    clock: Clock,
    senders: Vec<StatusSender>,
    told: Mutex<[f64; 2]>,
}

impl Boxes {
    fn say(&self, device: &str, outcome: Outcome) {
        let sender = self.senders.iter().find(|sender| *sender.id() == id(device)).unwrap();
        let now = self.clock.now();
        sender.update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(10);
            status.values.merge(outcome, now);
        });
    }
}

impl Commands for Boxes {
    fn command<'a>(
        &'a self,
        device: &'a DeviceId,
        command: Command,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
        Box::pin(async move {
            let Command::Current(ma) = command else { panic!("only currents are sent") };
            let at = self.clock.now();
            self.told.lock().unwrap()[usize::from(*device == id("E2"))] = f64::from(ma) / 1_000.0;
            let sender = self.senders.iter().find(|sender| sender.id() == device).unwrap();
            sender.update(|status| status.commanded = Some(Measured { value: ma, at }));
            Ok(())
        })
    }
}

struct House {
    clock: Clock,
    boxes: Arc<Boxes>,
    config: watch::Sender<Arc<Config>>,
    sessions: watch::Sender<Arc<SessionView>>,
    handle: ControlHandle,
    limit: f64,
    /// What each car was told in the last seconds.
    coming: [VecDeque<f64>; 2],
    draws: [f64; 2],
    plugged: [bool; 2],
    meter_works: bool,
    second: usize,
    /// Seconds in which the first car began and stopped.
    changes: Vec<usize>,
    imported_wh: f64,
    charged_wh: f64,
    /// Ampere-seconds above the limit.
    overload: f64,
    assigned: Arc<Mutex<Vec<(String, f64)>>>,
}

impl House {
    /// Starts at this local time.
    fn new(limit_ma: u32, rules: &str, time: &str) -> Self {
        let (board, clock) = (Board::default(), Clock::start());
        let senders = ["M1", "E1", "E2"].map(|name| board.register(id(name))).into();
        let boxes = Arc::new(Boxes { clock, senders, told: Mutex::default() });
        let (config, follow) = watch::channel(config(&site(limit_ma, rules)));
        let start: jiff::Zoned = time.parse().unwrap();
        let wall = Arc::new(move || start.checked_add(jiff::SignedDuration::from_millis(clock.now().0 as i64)).ok());
        let world = World::with_wall(board.clone(), follow.clone(), clock, wall);
        let (sessions, seen) = watch::channel(Arc::<SessionView>::default());
        let (_, shared) = watch::channel(Arc::<SharedSets>::default());
        let assigned: Arc<Mutex<Vec<(String, f64)>>> = Arc::default();
        let sink = Arc::clone(&assigned);
        let assign: Assign = Box::new(move |values| {
            sink.lock().unwrap().extend(values.into_iter().map(|(name, value)| (name.to_string(), value)));
        });
        let rules = LiveRules::new(world.clone(), seen.clone(), shared, assign);
        let (_, allowed) = watch::channel(Arc::default());
        let handle =
            control::spawn(board, Arc::clone(&boxes) as _, clock, follow, allowed, Box::new(rules), world.clone());
        world.connect(handle.plan(), seen);
        Self {
            clock,
            boxes,
            config,
            sessions,
            handle,
            limit: f64::from(limit_ma) / 1_000.0,
            coming: Default::default(),
            draws: [0.0; 2],
            plugged: [true, false],
            meter_works: true,
            second: 0,
            changes: Vec::new(),
            imported_wh: 0.0,
            charged_wh: 0.0,
            overload: 0.0,
            assigned,
        }
    }

    fn surplus_site() -> Self {
        Self::new(40_000, SUN, "2026-06-01T12:00:00[Europe/Berlin]")
    }

    /// `rest` is what the house draws less what the sun gives, in W on three phases, in the second it is asked for.
    async fn run(&mut self, seconds: usize, rest: impl Fn(usize) -> f64) {
        for _ in 0..seconds {
            let told = *self.boxes.told.lock().unwrap();
            for (number, told) in told.into_iter().enumerate() {
                self.coming[number].push_back(if self.plugged[number] { told } else { 0.0 });
                let obeys =
                    if self.coming[number].len() > LAG_S { self.coming[number].pop_front().unwrap() } else { 0.0 };
                if number == 0 && (self.draws[0] > 0.0) != (obeys > 0.0) {
                    self.changes.push(self.second);
                }
                self.draws[number] = obeys;
            }
            let rest = rest(self.second);
            let ampere = rest / 690.0 + self.draws.iter().sum::<f64>();
            self.overload += (ampere - self.limit * 1.02).max(0.0);
            self.charged_wh += self.draws[0] * 690.0 / 3_600.0;
            self.imported_wh += (ampere - (rest / 690.0).max(0.0)).max(0.0) * 690.0 / 3_600.0;
            if self.meter_works {
                let mut meter = Outcome::default();
                meter.push(POWER_TOTAL, ampere * 690.0);
                CURRENT.iter().for_each(|name| meter.push(name, ampere.abs() * 1_000.0));
                self.boxes.say("M1", meter);
            }
            for (number, name) in ["E1", "E2"].into_iter().enumerate() {
                let connector = match (self.plugged[number], self.draws[number] > 0.0) {
                    (false, _) => Connector::Available,
                    (true, false) => Connector::Connected,
                    (true, true) => Connector::Charging,
                };
                let mut outcome = Outcome { connector: Some(connector), ..Outcome::default() };
                CURRENT.iter().for_each(|name| outcome.push(name, self.draws[number] * 1_000.0));
                self.boxes.say(name, outcome);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.second += 1;
        }
    }

    /// Another configuration, with the plan that it causes.
    async fn configure(&self, text: &str) {
        let mut plan = self.handle.plan();
        plan.mark_unchanged();
        self.config.send_replace(config(text));
        plan.changed().await.unwrap();
    }

    fn granted(&self) -> i64 {
        self.handle.plan().borrow().plan.chargers[&id("E1")].granted.0
    }

    fn reason(&self) -> Reason {
        self.handle.plan().borrow().plan.chargers[&id("E1")].reason.clone()
    }

    fn sessions(&self, session: Session) {
        self.sessions.send_replace(Arc::new([(id("E1"), session)].into()));
    }
}

/// Sun of 9 kW over a house of 500 W; clouds of 30 s to 8 min that leave 1 kW.
fn cloudy(second: usize) -> f64 {
    let clouds = [300..330, 500..590, 900..1_380, 1_700..1_760, 1_850..1_880, 1_950..2_000, 2_600..2_900];
    let sun = if clouds.iter().any(|cloud| cloud.contains(&second)) { 1_000.0 } else { 9_000.0 };
    500.0 - sun
}

#[tokio::test(start_paused = true)]
async fn clouds_neither_make_it_flap_nor_import_much() {
    let mut house = House::surplus_site();
    house.run(3_600, cloudy).await;
    let gaps: Vec<usize> = house.changes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().step_by(2).all(|gap| *gap >= 60 - LAG_S), "it charges at least a minute: {:?}", house.changes);
    assert!(gaps.iter().skip(1).step_by(2).all(|gap| *gap >= 180 - LAG_S), "and pauses three: {:?}", house.changes);
    // Once at the beginning, and at most a pause and a start for each cloud.
    assert!(house.changes.len() <= 1 + 2 * 7, "{:?}", house.changes);
    // Seven clouds: each costs at most what was flowing for some seconds until it is believed and obeyed.
    let bound = 7.0 * (9_000.0 * 12.0 + 4_140.0 * 60.0) / 3_600.0;
    assert!(house.imported_wh < bound, "{} Wh imported, {bound} at most", house.imported_wh);
    assert!(house.imported_wh < 0.06 * house.charged_wh, "{} of {} Wh", house.imported_wh, house.charged_wh);
    assert!(house.charged_wh > 4_000.0, "and it charges: {} Wh", house.charged_wh);
    assert_eq!(house.overload, 0.0);
}

#[tokio::test(start_paused = true)]
async fn too_little_surplus_is_a_pause_that_says_why() {
    let mut house = House::surplus_site();
    house.run(60, |_| -4_000.0).await;
    assert_eq!((house.granted(), house.charged_wh), (0, 0.0));
    assert_eq!(house.reason(), Reason::Rules(Because::NoRule));
    assert_eq!(house.reason().to_string(), "no charging rule is met");
    house.run(60, |_| -4_500.0).await;
    assert_eq!(house.granted(), 6_000);
    assert_eq!(house.reason(), Reason::Rules(Because::Surplus));
    // The car follows the sun, and never takes more than that.
    house.run(300, |_| -8_000.0).await;
    assert_eq!(house.granted(), 11_000, "whole amperes of 11.6");
}

#[tokio::test(start_paused = true)]
async fn a_time_to_go_on_carries_over_a_cloud_with_the_minimum() {
    let rules = SUN.replace("flags = 18", "flags = 18, udur = 300");
    let mut house = House::new(40_000, &rules, "2026-06-01T12:00:00[Europe/Berlin]");
    house.run(120, |_| -8_500.0).await;
    let starts = house.changes.len();
    house.run(250, |_| 500.0).await;
    assert_eq!((house.granted(), house.changes.len()), (6_000, starts), "it goes on");
    assert_eq!(house.reason(), Reason::Rules(Because::Undercut));
    house.run(90, |_| 500.0).await;
    assert_eq!((house.granted(), house.changes.len()), (0, starts + 1), "and pauses after five minutes");
}

#[tokio::test(start_paused = true)]
async fn a_window_opens_and_closes_with_the_clock() {
    let rules = "charging_rules = [{ ctype = 0, time = 1320, dur = 10, atype = 0, aexpr = 16000, flags = 16 }]";
    let mut house = House::new(40_000, rules, "2026-06-01T21:58:00[Europe/Berlin]");
    house.run(115, |_| 500.0).await;
    assert_eq!((house.granted(), house.reason()), (0, Reason::Rules(Because::NoRule)));
    house.run(60, |_| 500.0).await;
    assert_eq!(house.granted(), 16_000);
    let (start, _) = (house.changes[0], ());
    assert!((119..=125 + LAG_S).contains(&start), "{start}");
    house.run(600, |_| 500.0).await;
    assert_eq!(house.granted(), 0);
    assert!((719..=722 + LAG_S).contains(&house.changes[1]), "{:?}", house.changes);
}

#[tokio::test(start_paused = true)]
async fn rules_never_get_more_than_the_circuit_has() {
    let run = async |rules: &str| {
        let mut house = House::new(20_000, rules, "2026-06-01T12:00:00[Europe/Berlin]");
        house.plugged = [true, true];
        house.run(600, |second| if second / 60 % 2 == 0 { 2_000.0 } else { 5_500.0 }).await;
        (house.overload, house.charged_wh)
    };
    let (with, without) = (run("charging_rules = [{ ctype = 51, aexpr = 80000 }]").await, run("").await);
    assert_eq!(with, without, "as without rules: overload in As, energy in Wh");
    // Three amperes too much for the seconds until a step of the house is seen and obeyed.
    assert!(with.0 < 10.0 * 5.0 * 4.0, "{} As above the limit", with.0);
    assert!(with.1 > 300.0, "{} Wh", with.1);
    // A negative surplus does not become a permission either.
    let mut house = House::new(20_000, SUN, "2026-06-01T12:00:00[Europe/Berlin]");
    house.run(120, |_| 13_000.0).await;
    assert_eq!((house.granted(), house.overload), (0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_silent_meter_pauses_charging_from_surplus() {
    let mut house = House::surplus_site();
    house.run(200, |_| -8_500.0).await;
    assert!(house.granted() >= 10_000);
    house.meter_works = false;
    house.run(13, |_| -8_500.0).await;
    assert_eq!((house.granted(), house.reason()), (0, Reason::Rules(Because::Missing)));
    // It comes back: after the shortest pause it charges again.
    house.meter_works = true;
    house.run(150, |_| -8_500.0).await;
    assert_eq!((house.granted(), house.reason()), (0, Reason::Rules(Because::ShortestPause)));
    house.run(60, |_| -8_500.0).await;
    assert!(house.granted() >= 6_000);
}

#[tokio::test(start_paused = true)]
async fn h6_overrides_switch_rules_off_and_the_user_s_rules_count_beside_them() {
    let rules = "charging_rules = [{ ctype = 51, aexpr = 10000 }]";
    let mut house = House::new(40_000, rules, "2026-06-01T12:00:00[Europe/Berlin]");
    let user = |rules_off: bool, user_rules_off: bool| Session {
        plugged: true,
        overrides: Overrides { rules_off, user_rules_off, ..Overrides::default() },
        user_id: Some(crate::session::UserId::from("4711")),
        ..Session::default()
    };
    house.run(60, |_| 500.0).await;
    assert_eq!((house.granted(), house.reason()), (10_000, Reason::Rules(Because::Rule(0))));
    house.sessions(user(false, false));
    house.run(60, |_| 500.0).await;
    assert_eq!(house.granted(), 7_000, "the user's rule is lower");
    house.sessions(user(true, false));
    house.run(60, |_| 500.0).await;
    assert_eq!(house.granted(), 7_000);
    house.sessions(user(false, true));
    house.run(60, |_| 500.0).await;
    assert_eq!(house.granted(), 10_000);
    house.sessions(user(true, true));
    house.run(60, |_| 500.0).await;
    assert_eq!((house.granted(), house.reason()), (16_000, Reason::OwnMaximum));
}

#[tokio::test(start_paused = true)]
async fn changed_rules_are_in_force_with_the_plan_they_cause() {
    let mut house = House::new(40_000, "", "2026-06-01T12:00:00[Europe/Berlin]");
    house.run(60, |_| 500.0).await;
    assert_eq!(house.granted(), 16_000, "without rules nothing is limited");
    let rules = "charging_rules = [{ ctype = 51, aexpr = 8000 }, { ctype = 51, atype = 3, name = \"CM.seen\", aexpr = \"_rule_val\" }]";
    house.configure(&site(40_000, rules)).await;
    assert_eq!(house.granted(), 8_000);
    assert_eq!(house.assigned.lock().unwrap().last().unwrap(), &("CM.seen".to_owned(), 8_000.0));
    assert!(house.clock.now().0 > 0);
    // One that cannot be found is no permission, and neither is one with a mistake beside one without.
    let bad = "charging_rules = [\n  { ctype = 51, aexpr = 8000 },\n  { ctype = 50, cexpr = \"M1.x >\", aexpr = 0, flags = 16 },\n]";
    let wanted = [
        (
            "charging_rules = { selected_id = \"gone\" }",
            "test.toml:14: device.E1.charging_rules: selected_id: there is no",
        ),
        (bad, "test.toml:16: device.E1.charging_rules: rule 1.cexpr: "),
    ];
    for (text, said) in wanted {
        house.configure(&site(40_000, text)).await;
        assert_eq!((house.granted(), house.reason()), (0, Reason::Rules(Because::Mistake)));
        let mistakes = house.handle.plan().borrow().rule_mistakes.clone();
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[&id("E1")].starts_with(said), "{mistakes:?}");
        assert!(mistakes[&id("E1")].ends_with("; nothing is charged until it is mended"), "{mistakes:?}");
    }
    // An override lets the car charge; what is wrong stays to be seen.
    let overrides = Overrides { rules_off: true, ..Overrides::default() };
    house.sessions(Session { plugged: true, overrides, ..Session::default() });
    house.run(60, |_| 500.0).await;
    assert_eq!(house.granted(), 16_000);
    let mistakes = house.handle.plan().borrow().rule_mistakes.clone();
    assert!(mistakes[&id("E1")].contains("cexpr: ") && !mistakes[&id("E1")].contains("nothing is charged"));
    house.sessions(Session { plugged: true, ..Session::default() });
    house.config.send_replace(config(&site(40_000, &bad.replace(" >", " > 0"))));
    house.run(60, |_| 500.0).await;
    assert_eq!((house.granted(), house.reason()), (8_000, Reason::Rules(Because::Rule(0))));
    assert!(house.handle.plan().borrow().rule_mistakes.is_empty());
}
