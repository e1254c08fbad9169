//! Polling, faults, and what keeps a driver from running.

use super::scripted::{Bench, Log, Scripted, device, offline, protocol, trap};
use crate::device::guest::{Opened, Plugged, StartError};
use crate::device::mailbox::Request;
use crate::device::task::Rebinding;
use crate::runtime::DriverError;
use crate::site::{Command, CommandError, Health, Info, Moment};
use std::time::Duration;

fn reconfigure(device: crate::config::DeviceConfig) -> Request<Plugged, Rebinding> {
    Request::Reconfigure(Rebinding { device, rewire: false })
}

#[tokio::test(start_paused = true)]
async fn polls_are_aligned_and_readings_carry_their_moment() {
    let bench = Bench::run(Scripted::new("1", &Log::default()), device());
    bench.pass(3_500).await;
    let status = bench.status();
    assert_eq!(status.health, Health::Running);
    assert_eq!(status.driver, "scripted 1");
    assert_eq!(status.stale_after, Duration::from_secs(10));
    // At once, then at 2 000, 3 000 and 4 000 of the host's clock.
    assert_eq!((bench.count(), status.successes), (Some(4.0), 4));
    assert_eq!(status.values.get("energy.import").map(|m| m.at), Some(Moment(4_000)));
}

#[tokio::test(start_paused = true)]
async fn a_silent_device_is_polled_less_often_and_its_driver_is_never_restarted() {
    let log = Log::default();
    let plugin = Scripted::new("1", &log).polling(|n| if n == 0 || n > 6 { Ok(()) } else { Err(offline()) });
    let bench = Bench::run(plugin, device());
    bench.pass(1_500).await;
    let status = bench.status();
    assert!(matches!(&status.health, Health::Offline(why) if why.contains("no answer")), "{:?}", status.health);
    assert_eq!(status.failing_since, Some(Moment(2_000)));
    bench.pass(58_500).await;
    // 1, 2, then aligned to 2, 4, 8, 16 and 30 s: 4, 8, 16, 32 and 60.
    assert_eq!(bench.calls("").len(), 1 + 7);
    assert_eq!(bench.status().errors, 6);
    bench.pass(32_000).await;
    let status = bench.status();
    assert_eq!((status.health, status.failing_since), (Health::Running, None));
    assert!(status.last_error.contains("no answer"), "stays after recovery");
    assert_eq!(bench.count(), Some(4.0), "the instance kept its memory");
}

#[tokio::test(start_paused = true)]
async fn a_trap_starts_the_driver_anew_after_a_second_then_two() {
    let plugin = Scripted::new("1", &Log::default()).polling(|n| if n == 1 || n == 2 { Err(trap()) } else { Ok(()) });
    let bench = Bench::run(plugin, device());
    bench.pass(1_500).await;
    let retry_at = match bench.status().health {
        Health::Faulted { retry_at, reason } => {
            assert!(reason.contains("unreachable"), "{reason}");
            retry_at
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(retry_at, Moment(3_000));
    let refused = bench.command(Command::Current(0)).await;
    assert!(matches!(&refused, Err(CommandError::NotRunning(why)) if why.contains("faulted")), "{refused:?}");
    bench.pass(1_000).await;
    assert!(matches!(bench.status().health, Health::Faulted { retry_at: Moment(5_000), .. }));
    bench.pass(2_500).await;
    assert_eq!(bench.status().health, Health::Running);
    assert_eq!(bench.calls("open").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn five_traps_are_quarantined_until_somebody_retries() {
    let plugin = Scripted::new("1", &Log::default()).polling(|n| if n < 5 { Err(trap()) } else { Ok(()) });
    let bench = Bench::run(plugin, device());
    bench.pass(60_000).await;
    assert!(matches!(bench.status().health, Health::Quarantined(_)), "{:?}", bench.status().health);
    bench.pass(24 * 3_600_000).await;
    assert_eq!(bench.calls("poll").len(), 5);
    bench.mailbox.push(Request::Retry);
    bench.settle().await;
    assert_eq!(bench.status().health, Health::Running);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_is_not_retried_and_a_changed_one_is() {
    let plugin = Scripted::new("1", &Log::default()).opening(|n| {
        if n == 0 {
            Err(DriverError::Config("no such phase".into()).into())
        } else {
            Ok(Opened::Driver(Info::default()))
        }
    });
    let bench = Bench::run(plugin, device());
    bench.pass(3_600_000).await;
    assert!(matches!(&bench.status().health, Health::Misconfigured(why) if why.contains("no such phase")));
    assert_eq!(bench.calls("open").len(), 1);
    let changed = crate::config::DeviceConfig { config: serde_json::json!({"phase": 1}), ..device() };
    bench.mailbox.push(reconfigure(changed));
    bench.settle().await;
    assert_eq!(bench.status().health, Health::Running);
    assert_eq!(bench.calls("open"), [r#"1 open {"phase":1}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_device_without_a_plugin_or_with_an_unbound_slot_says_so() {
    let bench = Bench::start(Err("no plugin \"acme\"".into()), device(), &Log::default());
    bench.pass(100_000).await;
    assert_eq!(bench.status().health, Health::MissingDriver("no plugin \"acme\"".into()));
    let bench = Bench::run(
        Scripted::new("1", &Log::default())
            .with(|s| s.start = Err(StartError::Misconfigured("endpoint \"main\" is not bound".into()))),
        device(),
    );
    bench.settle().await;
    assert_eq!(bench.status().health, Health::Misconfigured("endpoint \"main\" is not bound".into()));
}

#[tokio::test(start_paused = true)]
async fn an_open_without_an_answer_is_tried_again_with_a_new_instance() {
    let plugin = Scripted::new("1", &Log::default())
        .opening(|n| if n < 2 { Err(offline()) } else { Ok(Opened::Driver(Info::default())) });
    let bench = Bench::run(plugin, device());
    bench.pass(500).await;
    assert!(matches!(bench.status().health, Health::Offline(_)));
    bench.pass(5_000).await;
    assert_eq!(bench.status().health, Health::Running);
    assert_eq!(bench.calls("open").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_driver_wishes_its_pace_and_the_host_clamps_it() {
    let bench = Bench::run(
        Scripted::new("1", &Log::default()).with(|s| {
            s.traits.min_poll = Duration::from_secs(5);
        }),
        device(),
    );
    bench.pass(21_000).await;
    assert_eq!(bench.count(), Some(5.0), "at once, then at 5, 10, 15 and 20 s");
    assert_eq!(bench.status().stale_after, Duration::from_secs(15));
}

#[tokio::test(start_paused = true)]
async fn nonsense_counts_as_an_error_and_is_no_fault() {
    let bench = Bench::run(Scripted::new("1", &Log::default()).polling(|_| Err(protocol())), device());
    bench.pass(600_000).await;
    assert!(matches!(&bench.status().health, Health::Offline(why) if why.contains("garbage")));
    assert_eq!(bench.calls("open").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_stop_and_a_lost_plugin_close_the_device() {
    let bench = Bench::run(Scripted::new("1", &Log::default()), device());
    bench.pass(1_500).await;
    bench.mailbox.push(Request::Lose("its folder is gone".into()));
    bench.settle().await;
    assert_eq!(bench.status().health, Health::MissingDriver("its folder is gone".into()));
    assert_eq!(bench.calls("close").len(), 1);
    bench.swap(Scripted::new("2", &bench.log)).await;
    assert_eq!(bench.status().health, Health::Running);
    let (stopped, done) = tokio::sync::oneshot::channel();
    bench.mailbox.push(Request::Stop(stopped));
    done.await.unwrap();
    assert_eq!(bench.calls("close"), ["2 close"]);
    bench.settle().await;
    assert_eq!(bench.board.device(&"E1".parse().unwrap()), None, "a stopped device leaves the board");
    let late = bench.command(Command::WakeUp).await;
    assert!(matches!(late, Err(CommandError::NotRunning(_))), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_changed_name_restarts_nothing_and_a_changed_address_closes_the_old_device() {
    let bench = Bench::run(Scripted::new("1", &Log::default()), device());
    bench.pass(1_500).await;
    bench.mailbox.push(reconfigure(crate::config::DeviceConfig { name: "Carport".into(), ..device() }));
    bench.pass(1_000).await;
    assert_eq!(bench.count(), Some(3.0));
    assert_eq!(bench.calls("open").len(), 1);
    let mut moved = device();
    let url = crate::config::EndpointUrl::Http("http://127.0.0.1:9".into());
    moved.endpoints.insert("main".into(), super::feeding::slot(url));
    bench.mailbox.push(reconfigure(moved));
    bench.settle().await;
    assert_eq!(bench.log.take()[..3], ["1 close", "1 open {}", "1 poll"]);
    assert_eq!(bench.count(), Some(1.0), "another device, another count");
}
