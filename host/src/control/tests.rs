//! The loop with a board, recorded commands and paused time: what it sends, when, and to whom in spite of whom.

use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::load::{Milliamps, Reason};
use crate::site::{
    Command, CommandError, Connector, DeviceId, Forbidden, Health, Measured, Outcome, Restriction, StatusSender,
};

const SITE: &str = r#"
[[circuit]]
id = "main"
limit_ma = [20000, 20000, 20000]
meter = "M1"
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
phases = "L1L2L3"
[[device]]
id = "E2"
type = "http-input"
phases = "L1L2L3"
"#;

fn id(text: &str) -> DeviceId {
    text.parse().unwrap()
}

fn config(text: &str) -> Arc<Config> {
    Arc::new(crate::config::parse("test.toml", text, &[]).unwrap_or_else(|errors| panic!("{errors}")))
}

/// Wallboxes that obey at once, except the ones that hang.
struct Wallboxes {
    clock: Clock,
    boxes: Vec<StatusSender>,
    hanging: Vec<DeviceId>,
    log: Mutex<Vec<(u64, DeviceId, u32)>>,
}

impl Wallboxes {
    fn log(&self) -> Vec<(u64, DeviceId, u32)> {
        self.log.lock().unwrap().clone()
    }

    fn last(&self, device: &str) -> Option<u32> {
        self.log().iter().rev().find(|(_, other, _)| *other == id(device)).map(|(_, _, ma)| *ma)
    }

    fn say(&self, device: &str, connector: Connector, ampere: f64) {
        let sender = self.boxes.iter().find(|sender| *sender.id() == id(device)).unwrap();
        let mut outcome = Outcome { connector: Some(connector), ..Outcome::default() };
        for name in crate::site::quantities::CURRENT {
            outcome.push(name, ampere * 1_000.0);
        }
        let now = self.clock.now();
        sender.update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(10);
            status.values.merge(outcome, now);
        });
    }
}

impl Commands for Wallboxes {
    fn command<'a>(
        &'a self,
        device: &'a DeviceId,
        command: Command,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
        Box::pin(async move {
            let Command::Current(ma) = command else { panic!("only currents are sent") };
            let now = self.clock.now();
            self.log.lock().unwrap().push((now.0, device.clone(), ma));
            if self.hanging.contains(device) {
                std::future::pending::<()>().await;
            }
            let sender = self.boxes.iter().find(|sender| sender.id() == device).unwrap();
            sender.update(|status| status.commanded = Some(Measured { value: ma, at: now }));
            Ok(())
        })
    }
}

struct Bench {
    clock: Clock,
    boxes: Arc<Wallboxes>,
    config: watch::Sender<Arc<Config>>,
    restrictions: watch::Sender<Arc<Restrictions>>,
    handle: ControlHandle,
}

impl Bench {
    fn start(text: &str, hanging: &[&str]) -> Bench {
        let (board, clock) = (Board::default(), Clock::start());
        let boxes = ["M1", "E1", "E2"].map(|name| board.register(id(name))).into();
        let hanging = hanging.iter().map(|name| id(name)).collect();
        let boxes = Arc::new(Wallboxes { clock, boxes, hanging, log: Mutex::default() });
        let (config, follow) = watch::channel(config(text));
        let (restrictions, allowed) = watch::channel(Arc::default());
        let world = World::new(board.clone(), follow.clone(), clock);
        let commands = Arc::clone(&boxes) as Arc<dyn Commands>;
        let handle = spawn(board, commands, clock, follow, allowed, Box::new(NoAdvice), world);
        Bench { clock, boxes, config, restrictions, handle }
    }

    /// Lets `seconds` pass in which all three say the same again and again: the meter `house` plus what they draw.
    async fn run(&self, seconds: u64, house: f64, draws: [f64; 2]) {
        for _ in 0..seconds {
            self.boxes.say("M1", Connector::Unknown, house + draws[0] + draws[1]);
            for (name, drawn) in ["E1", "E2"].into_iter().zip(draws) {
                self.boxes.say(name, if drawn > 0.0 { Connector::Charging } else { Connector::Connected }, drawn);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn both_cars_are_started_and_share_the_limit() {
    let bench = Bench::start(SITE, &[]);
    bench.run(40, 4.0, [0.0, 0.0]).await;
    let plan = bench.handle.plan().borrow().clone();
    assert_eq!(plan.mode, LoadMode::Manage);
    assert_eq!(plan.plan.chargers[&id("E1")].granted, Milliamps(8_000), "{:#?}", plan.plan);
    assert_eq!(plan.plan.chargers[&id("E2")].granted, Milliamps(8_000));
    assert_eq!((bench.boxes.last("E1"), bench.boxes.last("E2")), (Some(8_000), Some(8_000)));
    assert!(matches!(plan.plan.chargers[&id("E1")].reason, Reason::Limit(_)));
}

#[tokio::test(start_paused = true)]
async fn an_overload_is_answered_at_once_and_not_in_the_next_cycle() {
    // A cycle so long that only the event can be the cause.
    let bench = Bench::start(&format!("[load]\ncycle_ms = 5000\n{SITE}"), &[]);
    bench.run(60, 4.0, [8.0, 8.0]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let measured = bench.clock.now().0;
    bench.boxes.say("M1", Connector::Unknown, 35.0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let log = bench.boxes.log();
    let cuts: Vec<_> = log.iter().filter(|(at, _, ma)| *at >= measured && *ma < 8_000).collect();
    assert!(!cuts.is_empty() && cuts.iter().all(|(at, ..)| *at <= measured + 50), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_holds_at_once() {
    let bench = Bench::start(&format!("[load]\ncycle_ms = 5000\n{SITE}"), &[]);
    bench.run(60, 4.0, [8.0, 8.0]).await;
    let changed = bench.clock.now().0;
    bench.config.send_replace(config(&format!("[load]\ncycle_ms = 5000\nmax_total_cur_prc = 90\n{SITE}")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let log = bench.boxes.log();
    let after: Vec<_> = log.iter().filter(|(at, ..)| *at >= changed).map(|(_, id, ma)| (id.clone(), *ma)).collect();
    // 18 A less 4 A for two.
    assert_eq!(after, [(id("E1"), 7_000), (id("E2"), 7_000)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_stops_at_once() {
    let bench = Bench::start(&format!("[load]\ncycle_ms = 5000\n{SITE}"), &[]);
    bench.run(60, 4.0, [8.0, 8.0]).await;
    let changed = bench.clock.now().0;
    let forbidden = Restriction { forbidden: Some(Forbidden::Override), max_ma: None };
    bench.restrictions.send_replace(Arc::new([(id("E1"), forbidden)].into()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    let log = bench.boxes.log();
    let after: Vec<_> = log.iter().filter(|(at, ..)| *at >= changed).map(|(_, id, ma)| (id.clone(), *ma)).collect();
    assert!(after.contains(&(id("E1"), 0)), "{after:?}");
    assert!(after.iter().all(|(device, ma)| *device == id("E1") || *ma <= 8_000), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn observing_enforces_no_restriction() {
    let bench = Bench::start(&format!("[load]\nmode = \"observe\"\n{SITE}"), &[]);
    let forbidden = Restriction { forbidden: Some(Forbidden::NeedsAuthorisation), max_ma: None };
    bench.restrictions.send_replace(Arc::new([(id("E1"), forbidden)].into()));
    bench.run(10, 4.0, [8.0, 8.0]).await;
    assert_eq!(bench.boxes.log(), []);
}

#[tokio::test(start_paused = true)]
async fn a_wallbox_that_hangs_delays_nobody_and_gets_the_newest_command() {
    let bench = Bench::start(SITE, &["E1"]);
    bench.run(60, 4.0, [0.0, 0.0]).await;
    assert!(bench.boxes.last("E2").is_some_and(|ma| ma == 0), "{:?}", bench.boxes.log());
    let plan = bench.handle.plan().borrow().clone();
    // It never accepted a command, so it may still draw its 16 A, and 20 - 4 - 16 leaves nothing.
    assert_eq!(plan.plan.chargers[&id("E1")].reason, Reason::NotAccepting);
    assert!(matches!(plan.plan.chargers[&id("E2")].reason, Reason::NotAdmitted(_) | Reason::WaitsForRelease(_)));
    let tries = bench.boxes.log().iter().filter(|(_, device, _)| *device == id("E1")).count();
    assert!((5..=7).contains(&tries), "one at a time, each given up after 10 s: {tries}");
}

#[tokio::test(start_paused = true)]
async fn observing_commands_nobody() {
    let bench = Bench::start(&format!("[load]\nmode = \"observe\"\n{SITE}"), &[]);
    bench.run(40, 4.0, [8.0, 8.0]).await;
    assert_eq!(bench.boxes.log(), []);
    let view = bench.handle.plan().borrow().clone();
    assert_eq!(view.plan.chargers[&id("E1")].reason, Reason::Observe);
    assert_eq!(view.plan.chargers[&id("E1")].share, Milliamps(8_000));
    bench.handle.shutdown().await;
    assert_eq!(bench.boxes.log(), []);
}

/// Runs two charging cars, ends control as `policy` says, and returns what the wallboxes were told last.
async fn ended(policy: &str, house: f64, draws: [f64; 2]) -> [Option<u32>; 2] {
    let bench = Bench::start(&format!("[load]\ndisable_policy = {policy}\n{SITE}"), &[]);
    bench.run(60, house, draws).await;
    bench.handle.shutdown().await;
    [bench.boxes.last("E1"), bench.boxes.last("E2")]
}

#[tokio::test(start_paused = true)]
async fn the_end_is_as_the_policy_says() {
    assert_eq!(ended("0", 4.0, [7.0, 7.0]).await, [Some(0), Some(0)]);
    assert_eq!(ended("-1", 4.0, [7.0, 7.0]).await, [Some(16_000), Some(16_000)]);
    assert_eq!(ended("1", 4.0, [7.0, 7.0]).await, [Some(6_000), Some(6_000)]);
    // Two minimums and the house would be 21 A of 20 A: one has to stop.
    assert_eq!(ended("1", 9.0, [7.0, 0.0]).await, [Some(6_000), Some(0)]);
}

#[tokio::test(start_paused = true)]
async fn changing_to_observe_ends_control_too() {
    let bench = Bench::start(&format!("[load]\ndisable_policy = 0\n{SITE}"), &[]);
    bench.run(60, 4.0, [8.0, 8.0]).await;
    bench.config.send_replace(config(&format!("[load]\nmode = \"observe\"\ndisable_policy = 0\n{SITE}")));
    bench.run(30, 4.0, [8.0, 8.0]).await;
    assert_eq!([bench.boxes.last("E1"), bench.boxes.last("E2")], [Some(0), Some(0)]);
    let ends = bench.boxes.log().iter().filter(|(_, _, ma)| *ma == 0).count();
    // Once at the start, before anything was known of the cars, and once at the end.
    assert!(ends <= 4, "{:?}", bench.boxes.log());
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_a_formula_only_lowers_and_without_a_value_leaves_nothing() {
    let with = |expr: &str| SITE.replace("id = \"E1\"\n", &format!("id = \"E1\"\nmax_ma_expr = \"{expr}\"\n"));
    let bench = Bench::start(&with("M1.power_w / 230 * 1000"), &[]);
    let told = async |bench: &Bench| {
        bench.run(40, 0.0, [1.0, 0.0]).await;
        bench.boxes.last("E1")
    };
    // The meter tells currents and no power.
    assert_eq!(told(&bench).await.unwrap_or_default(), 0, "no value: nothing");
    bench.config.send_replace(config(&with("8000 + 0")));
    assert_eq!(told(&bench).await, Some(8_000));
    bench.config.send_replace(config(&with("-5000")));
    assert_eq!(told(&bench).await, Some(0));
    bench.config.send_replace(config(&with("5999")));
    assert_eq!(told(&bench).await, Some(0), "below the minimum");
    bench.config.send_replace(config(&with("1e300")));
    assert!((8_001..=16_000).contains(&told(&bench).await.unwrap()), "never above max_ma");
    let limit = |expr: &str| SITE.replace("meter = \"M1\"\n", &format!("meter = \"M1\"\nlimit_ma_expr = \"{expr}\"\n"));
    bench.config.send_replace(config(&limit("7000 * 1")));
    assert!(told(&bench).await.unwrap() <= 7_000);
    bench.config.send_replace(config(&limit("CM.nobody")));
    assert_eq!(told(&bench).await, Some(0));
    bench.config.send_replace(config(&limit("1e9")));
    assert!((8_001..=16_000).contains(&told(&bench).await.unwrap()), "never above limit_ma and max_ma");
}
