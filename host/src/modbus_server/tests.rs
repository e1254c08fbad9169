//! What writes do to wallboxes, and what happens when their writer falls silent.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::*;
use crate::config::{self, LoadMode};
use crate::contract::SiteSource;
use crate::contract::registers::RegisterError;
use crate::session::{SessionParts, Sessions};
use crate::site::{Board, Clock, Command, CommandError, Commands, DeviceId, Health, Outcome, StatusSender, quantities};
use crate::store::{DriverState, Transactions};

/// Wallboxes that take everything, or refuse everything.
#[derive(Default)]
struct Wallboxes {
    told: Mutex<Vec<Command>>,
    refuse: Mutex<Option<CommandError>>,
}

impl Wallboxes {
    fn told(&self) -> Vec<Command> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn refuse(&self, error: Option<CommandError>) {
        *self.refuse.lock().unwrap() = error;
    }
}

impl Commands for Wallboxes {
    fn command<'a>(
        &'a self,
        _device: &'a DeviceId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
        let answer = self.refuse.lock().unwrap().clone().map_or(Ok(()), Err);
        if answer.is_ok() {
            self.told.lock().unwrap().push(command);
        }
        Box::pin(async { answer })
    }
}

struct Bench {
    registers: Registers,
    wallboxes: Arc<Wallboxes>,
    sessions: Sessions,
    config: watch::Sender<Arc<Config>>,
    e1: DeviceId,
    device: StatusSender,
    clock: Clock,
    _plan: watch::Sender<Arc<crate::control::PlanView>>,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn start(mode: &str) -> Self {
        Self::with(mode, DriverState::in_memory().unwrap()).await
    }

    async fn with(mode: &str, state: DriverState) -> Self {
        let text = format!(
            "[load]\nmode = \"{mode}\"\n[[circuit]]\nid = \"main\"\nlimit_ma = [63000, 63000, 63000]\n\
             [[device]]\nid = \"E1\"\ntype = \"some-box\"\n"
        );
        let (config, follow) = watch::channel(Arc::new(config::parse("f", &text, &[]).unwrap()));
        let (board, clock) = (Board::default(), Clock::start());
        let e1: DeviceId = "E1".parse().unwrap();
        let device = board.register(e1.clone());
        device.update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(100_000);
            let mut outcome = Outcome::default();
            outcome.push(quantities::CHARGING_ENABLED, 1.0);
            status.values.merge(outcome, clock.now());
        });
        let wallboxes = Arc::new(Wallboxes::default());
        let folder = tempfile::tempdir().unwrap();
        let sessions = Sessions::start(SessionParts {
            board: board.clone(),
            config: follow.clone(),
            commands: wallboxes.clone(),
            clock,
            transactions: Transactions::open(folder.path()).unwrap(),
        });
        let (_plan, plan) = watch::channel(Arc::default());
        let source = SiteSource::new(
            board,
            follow,
            plan,
            sessions.view(),
            clock,
            "S-1".into(),
            watch::channel(Arc::default()).1,
        );
        let parts = RegisterParts { source, sessions: sessions.clone(), commands: wallboxes.clone(), state };
        let registers = Registers::start(parts);
        Self { registers, wallboxes, sessions, config, e1, device, clock, _plan, _folder: folder }
    }

    async fn write(&self, address: u16, words: &[u16]) -> Result<(), RegisterError> {
        self.registers.write(Writer::Controller, &self.e1, address, words).await
    }

    async fn word(&self, address: u16) -> u16 {
        self.registers.read(&self.e1, |shown| shown.read(address, 1)).await.unwrap()[0]
    }

    fn says_enabled(&self, enabled: bool) {
        let mut outcome = Outcome::default();
        outcome.push(quantities::CHARGING_ENABLED, f64::from(u8::from(enabled)));
        self.device.update(|status| status.values.merge(outcome, self.clock.now()));
    }

    /// What the wallbox was told within so many seconds.
    async fn after(&self, seconds: u64) -> Vec<Command> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        self.wallboxes.told()
    }
}

#[tokio::test(start_paused = true)]
async fn in_mode_observe_writes_are_commands() {
    let bench = Bench::start("observe").await;
    for (address, value, told) in [
        (8093, 100, Command::Current(10_000)),
        (8094, 0, Command::Enable(false)),
        // Only a limit: any current would be a permission.
        (8093, 120, Command::Enable(false)),
        (8094, 1, Command::Current(12_000)),
        (8091, 80, Command::Current(8_000)),
        (8093, 630, Command::Current(8_000)),
        (8091, 0, Command::Current(16_000)),
        (8093, 0, Command::Current(0)),
        (8093, 59, Command::Current(0)),
        (8086, 5, Command::WakeUp),
        (8087, 1, Command::Phases(1)),
        (8087, 0, Command::Phases(3)),
    ] {
        bench.write(address, &[value]).await.unwrap();
        assert_eq!(bench.wallboxes.told(), [told], "{value} to {address}");
        assert_eq!(bench.word(address).await, value);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_alone_allows_nothing_and_a_limit_of_0_is_no_ban() {
    let bench = Bench::start("observe").await;
    bench.says_enabled(false);
    bench.write(8093, &[100]).await.unwrap();
    assert_eq!(bench.wallboxes.told(), []);
    bench.says_enabled(true);
    bench.write(8093, &[0]).await.unwrap();
    assert_eq!(bench.wallboxes.told(), [Command::Current(0)]);
    // The pause shows in what the wallbox says, and a limit ends it.
    bench.says_enabled(false);
    bench.write(8093, &[100]).await.unwrap();
    assert_eq!(bench.wallboxes.told(), [Command::Current(10_000)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_wallbox_does_not_take_is_an_error_and_changes_nothing() {
    let bench = Bench::start("observe").await;
    bench.write(8093, &[100]).await.unwrap();
    for (error, wanted) in [
        (CommandError::Unsupported("no".into()), "Value"),
        (CommandError::Offline("no".into()), "Device"),
        (CommandError::NotYet(Duration::from_secs(1)), "Busy"),
    ] {
        bench.wallboxes.refuse(Some(error));
        for (address, value) in [(8093, 160), (8087, 1), (8086, 5)] {
            let refused = bench.write(address, &[value]).await.unwrap_err();
            assert!(format!("{refused:?}").starts_with(wanted), "{refused:?}");
        }
    }
    assert_eq!((bench.word(8093).await, bench.word(8087).await, bench.word(8086).await), (100, 0, 0));
    // A request that is wrong at its end is not begun.
    bench.wallboxes.refuse(None);
    bench.wallboxes.told();
    assert!(bench.write(8093, &[160, 2]).await.is_err());
    assert_eq!((bench.wallboxes.told(), bench.word(8093).await), (Vec::new(), 100));
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_falls_silent_is_not_believed_for_ever() {
    let bench = Bench::start("observe").await;
    bench.write(8093, &[160]).await.unwrap();
    assert_eq!(bench.after(1).await, [Command::Current(16_000)]);
    // Whoever only reads is heard too.
    bench.after(200).await;
    bench.registers.heard(&bench.e1).await;
    assert_eq!(bench.after(299).await, []);
    assert_eq!(bench.after(2).await, [Command::Current(6_000)], "the smallest current after 300 s");
    assert_eq!(bench.word(8093).await, 160, "what was written still stands there");
    assert_eq!(bench.after(10_000).await, [], "once");
    bench.registers.heard(&bench.e1).await;
    assert_eq!(bench.after(1).await, [Command::Current(16_000)], "it is back");

    // Another duration and another current; and a wallbox that does not take it at once.
    bench.write(8083, &[0, 10, 0]).await.unwrap();
    bench.wallboxes.refuse(Some(CommandError::Offline("busy".into())));
    assert_eq!(bench.after(15).await, []);
    bench.wallboxes.refuse(None);
    assert_eq!(bench.after(3).await, [Command::Current(0)]);
    // 0 switches it off.
    bench.registers.heard(&bench.e1).await;
    bench.write(8083, &[0, 0]).await.unwrap();
    bench.after(5).await;
    assert_eq!(bench.after(100_000).await, []);
}

#[tokio::test(start_paused = true)]
async fn only_a_controller_s_silence_counts() {
    let bench = Bench::start("observe").await;
    bench.registers.write(Writer::Call, &bench.e1, 8093, &[160]).await.unwrap();
    bench.write(8086, &[1]).await.unwrap();
    bench.wallboxes.told();
    assert_eq!(bench.after(10_000).await, [], "a call over HTTP and a wake-up are no control");
}

#[tokio::test(start_paused = true)]
async fn silence_of_a_controller_that_only_enabled_gives_the_old_limit_back() {
    let bench = Bench::start("observe").await;
    bench.device.update(|status| {
        status.commanded = Some(crate::site::Measured { value: 13_000, at: bench.clock.now() });
    });
    bench.write(8094, &[1]).await.unwrap();
    assert_eq!(bench.after(1).await, [Command::Enable(true)]);
    assert_eq!(bench.after(300).await, [Command::Current(6_000)]);
    bench.registers.heard(&bench.e1).await;
    assert_eq!(bench.after(1).await, [Command::Current(13_000)]);
}

#[tokio::test(start_paused = true)]
async fn in_mode_manage_writes_are_wishes_that_cap_the_load_manager() {
    let bench = Bench::start("manage").await;
    let mut restrictions = bench.sessions.restrictions();
    let mut restriction = async |wanted: &str, is: fn(crate::site::Restriction) -> bool| {
        let e1 = bench.e1.clone();
        let found = tokio::time::timeout(
            Duration::from_secs(5),
            restrictions.wait_for(|all| is(all.get(&e1).copied().unwrap_or_default())),
        );
        assert!(
            found.await.is_ok_and(|found| found.is_ok()),
            "not {wanted}: {:?}",
            bench.sessions.restrictions().borrow()
        );
    };
    bench.write(8093, &[100]).await.unwrap();
    restriction("10 A", |r| r.max_ma == Some(10_000) && r.forbidden.is_none()).await;
    bench.write(8094, &[0]).await.unwrap();
    restriction("forbidden", |r| r.forbidden == Some(crate::site::Forbidden::Outside)).await;
    bench.write(8094, &[1]).await.unwrap();
    restriction("allowed again", |r| r.max_ma == Some(10_000) && r.forbidden.is_none()).await;
    tokio::time::sleep(Duration::from_secs(301)).await;
    restriction("the failsafe current", |r| r.max_ma == Some(6_000)).await;
    bench.registers.heard(&bench.e1).await;
    restriction("as before", |r| r.max_ma == Some(10_000)).await;
    bench.registers.release_controllers().await;
    restriction("free", |r| r.max_ma.is_none() && r.forbidden.is_none()).await;
    assert_eq!(bench.wallboxes.told(), [], "the load manager commands, and nobody beside it");
}

#[tokio::test(start_paused = true)]
async fn defaults_count_after_a_restart() {
    let state = DriverState::in_memory().unwrap();
    let bench = Bench::with("observe", state.clone()).await;
    bench.write(8081, &[100]).await.unwrap();
    bench.write(8085, &[80]).await.unwrap();
    bench.write(8093, &[160]).await.unwrap();
    drop(bench);
    let bench = Bench::with("observe", state).await;
    assert_eq!(bench.after(1).await, [Command::Current(10_000)], "without anybody asking");
    assert_eq!((bench.word(8081).await, bench.word(8085).await, bench.word(8093).await), (100, 80, 100));
    assert_eq!(bench.config.borrow().load.mode, LoadMode::Observe);
}
