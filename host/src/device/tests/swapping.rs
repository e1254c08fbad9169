//! Another version of the plugin while the device runs.

use super::feeding::{Topics, payload_decoder};
use super::scripted::{Bench, Log, Scripted, device, offline, protocol, trap};
use crate::config::DeviceConfig;
use crate::device::guest::{Opened, Plugged, StartError};
use crate::device::mailbox::Request;
use crate::device::task::Rebinding;
use crate::runtime::{CallError, DriverError};
use crate::site::{Health, Info, Moment};

async fn running(version: &'static str) -> Bench {
    let bench = Bench::run(Scripted::new(version, &Log::default()), device());
    bench.pass(2_500).await;
    bench.log.take();
    bench
}

#[tokio::test(start_paused = true)]
async fn the_new_version_runs_before_the_old_one_goes_and_its_memory_goes_on() {
    let bench = running("1").await;
    bench.swap(Scripted::new("2", &bench.log)).await;
    assert_eq!(bench.log.take(), ["1 save", "2 open {}", "2 restore 1", "2 poll"], "no close");
    let status = bench.status();
    assert_eq!((status.driver.as_str(), status.health, status.update_failed), ("scripted 2", Health::Running, None));
    assert_eq!(bench.count(), Some(4.0), "the canary's reading is not lost");
    bench.pass(1_000).await;
    assert_eq!(bench.count(), Some(5.0));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_the_new_version_the_old_one_goes_on() {
    let broken: [fn(&mut Scripted); 5] = [
        |s| s.start = Err(StartError::Misconfigured("endpoint \"aux\" is not bound".into())),
        |s| s.start = Err(StartError::Fault(trap())),
        |s| *s = s.clone().opening(|_| Err(DriverError::Config("bad".into()).into())),
        |s| *s = s.clone().polling(|_| Err(trap())),
        |s| *s = s.clone().polling(|_| Err(protocol())),
    ];
    for (n, damage) in broken.into_iter().enumerate() {
        let bench = running("1").await;
        bench.swap(Scripted::new("3", &bench.log).with(damage)).await;
        bench.pass(1_000).await;
        let status = bench.status();
        assert_eq!((status.driver.as_str(), &status.health), ("scripted 1", &Health::Running), "case {n}");
        assert!(status.update_failed.as_ref().is_some_and(|why| why.starts_with("scripted 3: ")), "case {n}");
        assert_eq!((bench.count(), status.errors), (Some(4.0), 0), "case {n}: no reading is missing");
        bench.swap(Scripted::new("4", &bench.log)).await;
        assert_eq!(bench.status().update_failed, None, "case {n}: a good file ends it");
    }
}

fn rebind(change: impl FnOnce(&mut DeviceConfig)) -> Request<Plugged, Rebinding> {
    let mut device = device();
    change(&mut device);
    Request::Reconfigure(Rebinding { device, rewire: false })
}

/// Opens at the first time, or only from the second time on.
fn at_first(only: bool) -> impl Fn(u64) -> Result<Opened, CallError> + Send + Sync + 'static {
    move |n| match (n == 0) == only {
        true => Ok(Opened::Driver(Info::default())),
        false => Err(DriverError::Config("no such phase".into()).into()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_version_is_tried_again_with_another_binding() {
    // The older one may get along with the new binding too, or not.
    for older_stays in [true, false] {
        let mut old = Scripted::new("1", &Log::default());
        if !older_stays {
            old = old.opening(at_first(true));
        }
        let bench = Bench::run(old, device());
        bench.pass(2_500).await;
        bench.swap(Scripted::new("3", &bench.log).opening(at_first(false))).await;
        bench.mailbox.push(rebind(|device| device.name = "Carport".into()));
        bench.pass(1_000).await;
        let status = bench.status();
        assert_eq!((status.driver.as_str(), status.update_failed.is_some()), ("scripted 1", true), "only a name");
        bench.mailbox.push(rebind(|device| device.config = serde_json::json!({"phase": 1})));
        bench.pass(1_000).await;
        let status = bench.status();
        assert_eq!(
            (status.driver.as_str(), status.health, status.update_failed),
            ("scripted 3", Health::Running, None)
        );
        assert_eq!(bench.calls("open").last().unwrap(), r#"3 open {"phase":1}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_refused_again_leaves_the_older_one_where_it_is() {
    let bench = running("1").await;
    let bad = Scripted::new("3", &bench.log).opening(|_| Err(DriverError::Config("bad".into()).into()));
    bench.swap(bad).await;
    for phase in 1..3 {
        bench.log.take();
        bench.mailbox.push(rebind(|device| device.config = serde_json::json!({"phase": phase})));
        bench.pass(30_000).await;
        let status = bench.status();
        assert_eq!((status.driver.as_str(), status.health), ("scripted 1", Health::Running));
        assert!(status.update_failed.is_some_and(|why| why.starts_with("scripted 3: ")));
        assert_eq!(bench.calls("open").len(), 2, "each once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_answer_is_no_reason_against_the_new_version() {
    let bench = running("1").await;
    bench.swap(Scripted::new("2", &bench.log).polling(|n| if n == 0 { Err(offline()) } else { Ok(()) })).await;
    let status = bench.status();
    assert_eq!((status.driver.as_str(), status.update_failed), ("scripted 2", None));
    assert!(matches!(status.health, Health::Offline(_)));
    bench.pass(3_000).await;
    assert_eq!(bench.count(), Some(6.0), "three of the old one were handed over");
}

#[tokio::test(start_paused = true)]
async fn three_faults_in_five_minutes_bring_the_old_version_back() {
    let bench = running("1").await;
    bench.swap(Scripted::new("2", &bench.log).polling(|n| if n > 0 { Err(trap()) } else { Ok(()) })).await;
    assert_eq!(bench.status().driver, "scripted 2");
    bench.pass(20_000).await;
    let status = bench.status();
    assert_eq!((status.driver.as_str(), &status.health), ("scripted 1", &Health::Running));
    let said = status.update_failed.unwrap();
    assert!(said.starts_with("scripted 2 faulted 3 times in its first five minutes, back to 1"), "{said}");
    assert!(bench.count() > Some(3.0), "the old version's memory goes on: {:?}", bench.count());
}

#[tokio::test(start_paused = true)]
async fn after_five_minutes_a_fault_is_an_ordinary_one() {
    let bench = running("1").await;
    bench.swap(Scripted::new("2", &bench.log).polling(|n| if n > 301 { Err(trap()) } else { Ok(()) })).await;
    bench.pass(400_000).await;
    let status = bench.status();
    assert_eq!(status.driver, "scripted 2");
    assert!(matches!(status.health, Health::Quarantined(_)), "{:?}", status.health);
}

#[tokio::test(start_paused = true)]
async fn a_new_file_ends_a_quarantine() {
    let bench = Bench::run(Scripted::new("1", &Log::default()).polling(|_| Err(trap())), device());
    bench.pass(600_000).await;
    assert!(matches!(bench.status().health, Health::Quarantined(_)));
    bench.swap(Scripted::new("2", &bench.log)).await;
    assert_eq!((bench.status().driver.as_str(), bench.status().health), ("scripted 2", Health::Running));
}

#[tokio::test(start_paused = true)]
async fn a_decoder_is_tried_with_the_last_message_and_no_message_gets_lost() {
    let (topics, log) = (Topics::default(), Log::default());
    let bench = Bench::run(payload_decoder("1", &log, &topics), device());
    bench.settle().await;
    topics.send("SENSOR", "5", false, bench.clock.now());
    bench.settle().await;
    log.take();
    let broken = payload_decoder("3", &log, &Topics::default())
        .decoding(|_| Err(DriverError::Protocol("cannot read this".into()).into()));
    bench.swap(broken).await;
    assert!(bench.status().update_failed.is_some_and(|why| why.contains("cannot read this")));
    // Arrives while the swap request waits: the task sees the request first.
    topics.send("SENSOR", "6", false, Moment(1_001));
    bench.swap(payload_decoder("2", &log, &Topics::default())).await;
    assert_eq!(log.take(), ["3 open {}", "3 decode SENSOR=5", "2 open {}", "2 decode SENSOR=5", "2 decode SENSOR=6"]);
    assert_eq!(bench.status().values.get("power.total").map(|m| m.value), Some(6.0));
    assert_eq!(bench.status().driver, "scripted 2");
}

#[tokio::test(start_paused = true)]
async fn a_spoiled_file_is_told_until_the_good_one_is_back() {
    let bench = running("1").await;
    bench.mailbox.push(crate::device::mailbox::Request::Spoiled("driver.wasm is cut off".into()));
    bench.pass(1_000).await;
    assert_eq!(bench.status().update_failed.as_deref(), Some("driver.wasm is cut off"));
    assert_eq!((bench.count(), bench.status().health), (Some(4.0), Health::Running));
    bench.log.take();
    bench.swap(Scripted::new("1", &bench.log)).await;
    assert_eq!(bench.status().update_failed, None);
    assert_eq!(bench.log.take(), Vec::<String>::new(), "the same file needs no swap");
    bench.mailbox.push(crate::device::mailbox::Request::Spoiled("driver.wasm is cut off".into()));
    bench.mailbox.push(crate::device::mailbox::Request::Lose("no such plugin".into()));
    bench.settle().await;
    assert_eq!(bench.status().update_failed, None, "there is none beside which another one could go on");
    let missing = Bench::start(Err("no such plugin".into()), device(), &Log::default());
    missing.mailbox.push(crate::device::mailbox::Request::Spoiled("driver.wasm is cut off".into()));
    missing.settle().await;
    assert_eq!(missing.status().health, Health::MissingDriver("driver.wasm is cut off".into()));
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_told_what_each_topic_said_last_and_may_miss_what_is_older() {
    let (topics, log) = (Topics::default(), Log::default());
    let described = |version, log: &Log, topics: &Topics| {
        payload_decoder(version, log, topics).with(|scripted| scripted.traits.described = true)
    };
    let bench = Bench::run(described("1", &log, &topics), device());
    bench.settle().await;
    for (topic, payload) in [("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
        topics.send(topic, payload, false, bench.clock.now());
        bench.pass(10).await;
    }
    let errors = bench.status().errors;
    log.take();
    let picky = described("2", &log, &topics).decoding(|message| match &*message.topic {
        "a" => Err(DriverError::Protocol("topic a: cannot read this".into()).into()),
        _ => Ok(None),
    });
    bench.swap(picky).await;
    assert_eq!(log.take(), ["2 open {}", "2 decode b=2", "2 decode a=3", "2 decode c=4"]);
    let status = bench.status();
    assert_eq!((status.driver.as_str(), status.update_failed.as_ref()), ("scripted 2", None));
    assert!(status.last_error.contains("topic a: cannot read this") && status.errors == errors + 1, "{status:?}");
    // A plugin may do more with a message than decode it.
    bench.swap(payload_decoder("3", &log, &topics)).await;
    assert_eq!(log.take(), ["3 open {}", "3 decode c=4"]);
}
