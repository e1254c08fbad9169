//! What a command does to the driver and to the published status.

use super::scripted::{Bench, Log, Scripted, device, offline, trap};
use crate::config::{DeviceConfig, FailsafeConfig};
use crate::device::guest::Step;
use crate::device::mailbox::Request;
use crate::runtime::DriverError;
use crate::site::{Command, CommandError, Health, Moment};
use std::time::Duration;

fn running(change: impl FnOnce(&mut Scripted)) -> Bench {
    Bench::run(Scripted::new("1", &Log::default()).with(change), device())
}

#[tokio::test(start_paused = true)]
async fn a_current_is_written_enabled_and_published() {
    let bench = running(|_| {});
    bench.pass(500).await;
    bench.log.take();
    assert_eq!(bench.command(Command::Current(10_000)).await, Ok(()));
    assert_eq!(bench.log.take(), ["1 SetCurrentLimit(10000)", "1 SetEnabled(true)"]);
    assert_eq!(bench.status().commanded.map(|m| (m.value, m.at)), Some((10_000, Moment(1_500))));
    bench.command(Command::Current(0)).await.unwrap();
    assert_eq!(bench.log.take(), ["1 SetEnabled(false)"]);
    assert_eq!(bench.status().commanded.map(|m| m.value), Some(0));
}

#[tokio::test(start_paused = true)]
async fn the_bindings_bounds_hold_whatever_is_asked() {
    let bench = running(|_| {});
    bench.pass(500).await;
    bench.log.take();
    bench.command(Command::Current(32_000)).await.unwrap();
    bench.command(Command::Current(5_999)).await.unwrap();
    assert_eq!(bench.log.take(), ["1 SetCurrentLimit(16000)", "1 SetEnabled(true)", "1 SetEnabled(false)"]);
}

#[tokio::test(start_paused = true)]
async fn commands_overtake_polls_and_the_newest_current_wins() {
    let bench = running(|s| s.poll_takes = Duration::from_millis(400));
    // The first poll is running: it ends at 400 ms.
    bench.pass(100).await;
    bench.mailbox.push(Request::Poll);
    let (first, second) = tokio::join!(bench.command(Command::Current(8_000)), bench.command(Command::Current(6_000)));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert_eq!(bench.log.take(), ["1 open {}", "1 poll", "1 SetCurrentLimit(6000)", "1 SetEnabled(true)"]);
    bench.pass(450).await;
    assert_eq!(bench.log.take(), ["1 poll"]);
}

#[tokio::test(start_paused = true)]
async fn a_raise_within_the_write_interval_is_refused_with_the_time_to_wait() {
    let bench = running(|s| s.traits.min_write_interval = Duration::from_secs(5));
    bench.pass(500).await;
    bench.command(Command::Current(8_000)).await.unwrap();
    bench.pass(1_000).await;
    bench.log.take();
    let raise = bench.command(Command::Current(9_000)).await;
    assert_eq!(raise, Err(CommandError::NotYet(Duration::from_secs(4))));
    assert_eq!(bench.status().commanded.map(|m| m.value), Some(8_000));
    assert_eq!(bench.status().errors, 0, "waiting is no error");
    assert_eq!(bench.command(Command::Current(7_000)).await, Ok(()));
    assert_eq!(bench.log.take(), ["1 SetCurrentLimit(7000)"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_does_not_export_is_named() {
    let bench = running(|s| s.traits.charge_control = false);
    bench.pass(500).await;
    for (command, interface) in [(Command::Current(8_000), "charge-control"), (Command::Phases(1), "phase-control")] {
        let refused = bench.command(command).await;
        assert_eq!(refused, Err(CommandError::Unsupported(format!("scripted 1 has no {interface}"))));
    }
}

#[tokio::test(start_paused = true)]
async fn the_drivers_own_errors_keep_their_meaning() {
    let log = Log::default();
    let plugin = Scripted::new("1", &log).with(|s| s.traits.phase_control = true).stepping(|step| match step {
        Step::SetPhases(_) => Err(DriverError::Unsupported("one-phase model".into()).into()),
        Step::SetCurrentLimit(8_000) => Err(offline()),
        Step::SetCurrentLimit(9_000) => Err(DriverError::Other("locked".into()).into()),
        Step::WakeUp => Err(trap()),
        _ => Ok(()),
    });
    let bench = Bench::run(plugin, device());
    bench.pass(500).await;
    let phases = bench.command(Command::Phases(3)).await;
    assert_eq!(phases, Err(CommandError::Unsupported("scripted 1: one-phase model".into())));
    assert_eq!(bench.command(Command::Current(8_000)).await, Err(CommandError::Offline("no answer".into())));
    assert_eq!(bench.command(Command::Current(9_000)).await, Err(CommandError::Refused("locked".into())));
    assert_eq!(bench.status().commanded, None);
    let died = bench.command(Command::WakeUp).await;
    assert!(matches!(&died, Err(CommandError::NotRunning(why)) if why.contains("unreachable")), "{died:?}");
    assert!(matches!(bench.status().health, Health::Faulted { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_failsafe_is_armed_after_each_open() {
    let log = Log::default();
    let plugin = Scripted::new("1", &log)
        .with(|s| s.traits.failsafe = true)
        .polling(|n| if n == 1 { Err(trap()) } else { Ok(()) });
    let failsafe = Some(FailsafeConfig { ma: 6_000, timeout_s: 60 });
    let bench = Bench::run(plugin, DeviceConfig { failsafe, ..device() });
    bench.pass(5_000).await;
    let calls: Vec<String> = bench.log.take().into_iter().filter(|l| l.contains("open") || l.contains("arm")).collect();
    assert_eq!(calls, ["1 open {}", "1 arm 6000 60", "1 open {}", "1 arm 6000 60"]);
}
