//! One guest per limit, which breaks it: what comes of it, that the message names the setting, and that nobody else
//! notices. Each test fails when its limit is taken away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::time::Duration;

use ladekern::runtime::{CallError, DriverError, Instance, Limits, error};
use ladekern_tests::guests::{Device, SURELY, load, misbehave, misbehave_and, registry};
use tokio::time::{Instant, timeout};

/// Opens the guest, polls it once and hands both over.
async fn poll(device: &Device, what: &str, n: usize) -> (Result<f64, CallError>, Instance) {
    let mut instance = device.open(what, n).await.unwrap();
    let polled = timeout(SURELY, instance.poll()).await.expect("the call ends");
    let last = polled.map(|outcome| outcome.readings.last().unwrap().1.unwrap());
    (last, instance)
}

/// What is true after every broken limit: the setting is named, to people too, and the instance is gone for good.
async fn assert_limit(result: Result<f64, CallError>, instance: &mut Instance, wanted: &str) {
    let error = result.unwrap_err();
    let CallError::Limit { setting, .. } = &error else { panic!("{wanted} should be broken, but: {error}") };
    assert_eq!(*setting, wanted);
    assert!(error.to_string().contains(wanted), "{error}");
    assert!(error.is_fault());
    assert_dead(instance).await;
}

async fn assert_dead(instance: &mut Instance) {
    assert!(!instance.is_live());
    assert_eq!(instance.poll().await, Err(CallError::NotRunning));
    assert_eq!(instance.on_message("a", "b", b"c").await, Err(CallError::NotRunning));
    assert_eq!(instance.close().await, Err(CallError::NotRunning));
}

/// A limit that the guest learns about as an error of its own; it lives on.
fn assert_refused(result: Result<f64, CallError>, instance: &Instance, wanted: &str) {
    let Err(CallError::Driver(error)) = &result else { panic!("{wanted}: {result:?}") };
    assert!(error.to_string().contains(wanted), "\"{wanted}\" not in \"{error}\"");
    assert!(instance.is_live());
}

// === Computing and waiting ===

#[tokio::test]
async fn a_spinning_guest_is_stopped_by_its_computing_time() {
    let device = Device::default();
    let (result, mut instance) = poll(&device, "spin", 0).await;
    let cpu = instance.usage().cpu;
    assert!((Duration::from_millis(150)..Duration::from_millis(1500)).contains(&cpu), "{cpu:?}");
    assert_limit(result, &mut instance, "limits.cpu_ms").await;
}

#[tokio::test]
async fn more_computing_time_can_be_given() {
    let device = Device::with(|limits| limits.cpu = Duration::from_millis(600));
    let (result, mut instance) = poll(&device, "spin", 0).await;
    assert!(instance.usage().cpu > Duration::from_millis(500), "{:?}", instance.usage());
    assert_limit(result, &mut instance, "limits.cpu_ms").await;
}

#[tokio::test]
async fn open_close_and_messages_are_limited_too() {
    let device = Device::default();
    let error = device.open("spin-in-open", 0).await.err().unwrap();
    assert!(matches!(error, CallError::Limit { setting: "limits.cpu_ms", .. }), "{error}");

    let mut instance = device.open("spin-in-close", 0).await.unwrap();
    let error = instance.close().await.unwrap_err();
    assert!(matches!(error, CallError::Limit { setting: "limits.cpu_ms", .. }), "{error}");
    assert_dead(&mut instance).await;

    let mut instance = device.open("behave", 0).await.unwrap();
    let error = instance.on_message("broker", "spin", b"").await.unwrap_err();
    assert!(matches!(error, CallError::Limit { setting: "limits.cpu_ms", .. }), "{error}");
    assert_dead(&mut instance).await;
}

/// Waiting is not computing: ten waits of 100 ms pass under a limit of 50 ms, beside a guest that spins.
#[tokio::test]
async fn a_guest_that_waits_is_not_charged_for_it() {
    let guests = registry().await.runtime().guests().clone();
    let spinner = guests.spawn(async { poll(&Device::default(), "spin", 0).await.0 });
    let waiter = guests.spawn(async {
        let device = Device::with(|limits| limits.cpu = Duration::from_millis(50));
        let (result, instance) = poll(&device, "wait", 10).await;
        (result, instance.is_live(), instance.usage().cpu)
    });
    let (result, live, cpu) = waiter.await.unwrap();
    assert_eq!(result, Ok(1.0));
    assert!(live && cpu < Duration::from_millis(500), "{cpu:?}");
    assert!(spinner.await.unwrap().is_err());
}

#[tokio::test]
async fn a_guest_that_asks_the_host_for_ever_is_stopped_by_the_wall_clock() {
    let device = Device::with(|limits| limits.call_timeout = Duration::from_millis(400));
    let (result, mut instance) = poll(&device, "spin-asking", 0).await;
    let error = result.unwrap_err();
    assert_eq!(error, CallError::Timeout { call: "poll", after: Duration::from_millis(400) });
    assert_eq!(error.to_string(), "poll took longer than 400ms (limits.call_timeout_ms)");
    assert_dead(&mut instance).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_too_long_is_cut_off() {
    let start = Instant::now();
    let mut instance = Device::default().open("sleep", 60_000).await.unwrap();
    let error = instance.poll().await.unwrap_err();
    assert_eq!(error, CallError::Timeout { call: "poll", after: Duration::from_secs(10) });
    let waited = start.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&waited), "{waited:?}");
    assert_dead(&mut instance).await;
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_call_leaves_the_instance_dead() {
    let mut instance = Device::default().open("sleep", 60_000).await.unwrap();
    timeout(Duration::from_millis(50), instance.poll()).await.unwrap_err();
    assert_dead(&mut instance).await;
}

/// Three guests spin on the guests' only thread; a fourth is polled all the while.
#[tokio::test]
async fn neighbours_of_spinning_guests_keep_working() {
    let guests = registry().await.runtime().guests().clone();
    let spinners: Vec<_> =
        (0..3).map(|_| guests.spawn(async { poll(&Device::default(), "spin", 0).await.0.is_err() })).collect();
    let neighbour = guests.spawn(async move {
        let mut instance = Device::default().open("behave", 0).await.unwrap();
        let (mut polls, mut worst) = (0, Duration::ZERO);
        while spinners.iter().any(|spinner| !spinner.is_finished()) {
            let start = Instant::now();
            instance.poll().await.unwrap();
            worst = worst.max(start.elapsed());
            polls += 1;
            tokio::task::yield_now().await;
        }
        for spinner in spinners {
            assert!(spinner.await.unwrap());
        }
        (polls, worst)
    });
    let (polls, worst) = timeout(SURELY, neighbour).await.unwrap().unwrap();
    assert!(polls >= 10, "only {polls} polls");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}

// === Memory, tables, stack, parts ===

#[tokio::test]
async fn a_guest_that_eats_memory_is_stopped() {
    let (result, mut instance) = poll(&Device::default(), "eat", 0).await;
    let peak = instance.usage().memory_peak;
    assert!((6 << 20..=8 << 20).contains(&peak), "{peak}");
    assert_limit(result, &mut instance, "limits.memory").await;
}

#[tokio::test]
async fn more_memory_can_be_given() {
    let (result, mut instance) = poll(&Device::default(), "eat-some", 9 << 20).await;
    assert_limit(result, &mut instance, "limits.memory").await;
    // More than one reservation of address space: the memory has to move.
    let device = Device::with(|limits| limits.memory = 32 << 20);
    let (result, instance) = poll(&device, "eat-some", 20 << 20).await;
    assert_eq!(result, Ok(1.0));
    assert!(instance.usage().memory_peak > 20 << 20);
}

/// Starts the guest with `more` in its component, under the default limits and under changed ones.
async fn assert_start(more: &str, setting: &str, enough: impl FnOnce(&mut Limits)) {
    let plugin = load(&misbehave_and(more)).await.unwrap();
    let error = Instance::start(&plugin, Device::default().context).await.err().unwrap();
    assert!(matches!(&error, CallError::Limit { setting: s, .. } if *s == setting), "{error}");
    Instance::start(&plugin, Device::with(enough).context).await.unwrap();
}

#[tokio::test]
async fn memories_count_together() {
    // Each of 3 MiB alone is far below the 8 MiB.
    let memory = "(core module $m{} (memory 48)) (core instance (instantiate $m{}))";
    let more: String = (0..3).map(|n| memory.replace("{}", &n.to_string())).collect();
    assert_start(&more, "limits.memory", |limits| limits.memory = 16 << 20).await;
}

#[tokio::test]
async fn tables_count_together() {
    let table = "(core module $t{} (table 6000 funcref)) (core instance (instantiate $t{}))";
    let more: String = (0..3).map(|n| table.replace("{}", &n.to_string())).collect();
    assert_start(&more, "limits.tables", |limits| limits.tables = 20_000).await;
}

#[tokio::test]
async fn memories_are_counted() {
    let memory = "(core module $m{} (memory 0)) (core instance (instantiate $m{}))";
    let more: String = (0..4).map(|n| memory.replace("{}", &n.to_string())).collect();
    assert_start(&more, error::PARTS, |limits| limits.memories = 8).await;
}

#[tokio::test]
async fn core_instances_are_counted() {
    let more = format!("(core module $m) {}", "(core instance (instantiate $m))".repeat(17));
    assert_start(&more, error::PARTS, |limits| limits.instances = 64).await;
}

/// A start function runs before any function of the driver; it is under the same limits.
#[tokio::test]
async fn a_guest_that_spins_while_it_starts_is_stopped() {
    let more = "(core module $s (func $f (loop $l (br $l))) (start $f)) (core instance (instantiate $s))";
    let plugin = load(&misbehave_and(more)).await.unwrap();
    let error = Instance::start(&plugin, Device::default().context).await.err().unwrap();
    assert!(matches!(error, CallError::Limit { setting: "limits.cpu_ms", .. }), "{error}");
}

#[tokio::test]
async fn endless_recursion_is_stopped_by_the_stack() {
    let (result, mut instance) = poll(&Device::default(), "recurse", 100_000_000).await;
    assert_limit(result, &mut instance, error::STACK).await;
    // One step costs 32 bytes on x86-64; with 24 to 48 on any processor a stack of another size falls out of the range.
    let (mut fits, mut breaks) = (0, 100_000);
    while breaks - fits > 100 {
        let middle = (fits + breaks) / 2;
        match poll(&Device::default(), "recurse", middle).await.0 {
            Ok(_) => fits = middle,
            Err(_) => breaks = middle,
        }
    }
    assert!((256 * 1024 / 48..=256 * 1024 / 24).contains(&fits), "{fits} steps");
}

// === What crosses the border ===

#[tokio::test]
async fn too_much_data_at_once_is_refused() {
    let device = Device::default();
    assert_eq!(poll(&device, "shout", 900 << 10).await.0, Ok(1.0));
    let (result, mut instance) = poll(&device, "shout", 1100 << 10).await;
    assert_limit(result, &mut instance, error::HOSTCALL).await;

    let mut instance = device.open("big-snapshot", 1100 << 10).await.unwrap();
    let error = instance.save().await.unwrap_err();
    assert!(matches!(error, CallError::Limit { setting: error::HOSTCALL, .. }), "{error}");
    assert_dead(&mut instance).await;
}

#[tokio::test]
async fn handles_are_counted_and_come_back() {
    let device = Device::default();
    assert_eq!(poll(&device, "handles", 64).await.0, Ok(1.0));
    assert_eq!(poll(&device, "handles-given-back", 1000).await.0, Ok(1.0));
    let (result, mut instance) = poll(&device, "handles", 65).await;
    assert_limit(result, &mut instance, error::HANDLES).await;
}

/// Resources of its own need no function of the host to fill the host's tables.
#[tokio::test]
async fn handles_of_the_guests_own_are_counted() {
    let more = |count: u32| {
        format!(
            "(type $r (resource (rep i32))) (core func $new (canon resource.new $r))
             (core module $m (import \"\" \"new\" (func $new (param i32) (result i32))) (global $n (mut i32) (i32.const {count}))
               (func $f (loop $l (drop (call $new (i32.const 0)))
                 (br_if $l (global.set $n (i32.sub (global.get $n) (i32.const 1))) (global.get $n))))
               (start $f))
             (core instance (instantiate $m (with \"\" (instance (export \"new\" (func $new))))))"
        )
    };
    let start = async |count| {
        let plugin = load(&misbehave_and(&more(count))).await.unwrap();
        Instance::start(&plugin, Device::default().context).await.map(|_| ())
    };
    start(256).await.unwrap();
    let error = start(257).await.unwrap_err();
    assert!(matches!(error, CallError::Limit { setting: error::HANDLES, .. }), "{error}");
}

#[tokio::test]
async fn outcomes_have_a_size_and_hold_numbers() {
    let device = Device::default();
    // With the count of polls these are 256.
    for (what, most) in [("readings", 255), ("long-name", 64), ("texts", 64), ("long-text", 1024)] {
        assert!(poll(&device, what, most).await.0.is_ok(), "{what} {most}");
        let (result, mut instance) = poll(&device, what, most + 1).await;
        assert_limit(result, &mut instance, error::OUTCOME).await;
    }
    for what in ["nan", "infinity"] {
        let (result, mut instance) = poll(&device, what, 0).await;
        assert!(result.clone().unwrap_err().to_string().contains("power.total"), "{result:?}");
        assert_limit(result, &mut instance, error::OUTCOME).await;
    }
    let error = device.open("long-model", 1025).await.err().unwrap();
    assert!(matches!(error, CallError::Limit { setting: error::OUTCOME, .. }), "{error}");
    device.open("long-model", 1024).await.unwrap();
}

#[tokio::test]
async fn long_error_texts_are_cut() {
    let (result, instance) = poll(&Device::default(), "long-error", 100_000).await;
    let Err(CallError::Driver(DriverError::Other(text))) = result else { panic!("{result:?}") };
    assert!(text.len() < 1100 && instance.is_live(), "{}", text.len());
}

#[tokio::test]
async fn registers_of_one_request_are_limited() {
    let device = Device::default();
    assert_eq!(poll(&device, "read", 125).await.0, Ok(125.0));
    let (result, instance) = poll(&device, "read", 126).await;
    assert_refused(result, &instance, "one request reads 1 to 125 values, 126 were asked for");
    assert_eq!(poll(&device, "write", 123).await.0, Ok(1.0));
    let (result, instance) = poll(&device, "write", 124).await;
    assert_refused(result, &instance, "one request writes 1 to 123 registers, 124 were given");
}

#[tokio::test]
async fn http_bodies_are_limited_both_ways() {
    let device = Device::default();
    assert_eq!(poll(&device, "http-out", 256 << 10).await.0, Ok(200.0));
    for (what, n) in [("http-out", (256 << 10) + 1), ("http-in", 0)] {
        let (result, instance) = poll(&device, what, n).await;
        assert_refused(result, &instance, "limits.http_body");
    }
    assert!(device.log().contains("the body of the answer has 300 KiB, 256 KiB are allowed (limits.http_body)"));
    let generous = Device::with(|limits| limits.http_body = 1 << 20);
    assert_eq!(poll(&generous, "http-in", 0).await.0, Ok(300.0 * 1024.0));
}

#[tokio::test]
async fn endpoints_that_were_not_bound_are_refused_by_name() {
    let device = Device::default();
    let (result, instance) = poll(&device, "other-endpoint", 0).await;
    assert_refused(result, &instance, "device E1 has no endpoint \"neighbour\", bound are: broker, main, web");
    let (result, instance) = poll(&device, "wrong-kind", 0).await;
    assert_refused(result, &instance, "endpoint \"web\" of device E1 speaks http, not modbus");
}

// === Log and state ===

#[tokio::test]
async fn a_flood_of_log_lines_is_dropped_and_counted() {
    let device = Device::default();
    let (result, instance) = poll(&device, "flood", 5000).await;
    assert_eq!(result, Ok(1.0));
    let (log, dropped) = (device.log(), instance.usage().log_dropped);
    let kept = log.lines().filter(|line| *line == "again").count();
    assert!((100..300).contains(&kept), "{kept}");
    assert_eq!(kept as u64 + dropped, 5000);
    assert!(log.contains(&format!("{dropped} log lines dropped: more than 20 a second (limits.log)")), "{log}");

    let generous = Device::with(|limits| limits.log = 1000);
    poll(&generous, "flood", 5000).await.0.unwrap();
    assert_eq!(generous.log().lines().filter(|line| *line == "again").count(), 5000);
}

#[tokio::test]
async fn state_has_a_size_and_a_number_of_keys() {
    let device = Device::default();
    assert_eq!(poll(&device, "state-bytes", (16 << 10) - 3).await.0, Ok(1.0));
    let (result, instance) = poll(&device, "state-bytes", (16 << 10) - 2).await;
    assert_refused(result, &instance, "too large");
    assert!(
        device.log().contains("state \"big\" is larger than the device's 16 KiB (limits.state)"),
        "{}",
        device.log()
    );

    let device = Device::default();
    let (result, instance) = poll(&device, "state-two", 9 << 10).await;
    assert_refused(result, &instance, "quota");
    assert!(device.log().contains("(limits.state)"), "{}", device.log());
    let generous = Device::with(|limits| limits.state = 32 << 10);
    assert_eq!(poll(&generous, "state-two", 9 << 10).await.0, Ok(1.0));

    let device = Device::default();
    assert_eq!(poll(&device, "state-keys", 64).await.0, Ok(1.0));
    let (result, instance) = poll(&Device::default(), "state-keys", 65).await;
    assert_refused(result, &instance, "quota");
}

#[tokio::test]
async fn state_outlives_the_instance() {
    let device = Device::default();
    let (_, mut instance) = poll(&device, "remember", 0).await;
    instance.close().await.unwrap();
    assert_eq!(poll(&device, "remember", 0).await.0, Ok(1.0));
}

// === Breaking down ===

#[tokio::test]
async fn a_panic_ends_the_instance_and_its_message_is_kept() {
    let (result, mut instance) = poll(&Device::default(), "panic", 3).await;
    let error = result.unwrap_err();
    let CallError::Trap { reason } = &error else { panic!("{error}") };
    assert!(reason.contains("unreachable") && reason.contains("the len is 0 but the index is 3"), "{reason}");
    assert_dead(&mut instance).await;
}

#[tokio::test]
async fn a_trap_ends_the_instance() {
    let (result, mut instance) = poll(&Device::default(), "trap", 0).await;
    assert!(matches!(result.unwrap_err(), CallError::Trap { reason } if reason.contains("unreachable")));
    assert_dead(&mut instance).await;
    // The next one finds the same wires and is as good as new.
    let mut next = Device::default().open("behave", 0).await.unwrap();
    next.poll().await.unwrap();
}

#[tokio::test]
async fn an_error_of_the_driver_is_no_fault() {
    let (result, mut instance) = poll(&Device::default(), "offline", 0).await;
    let error = result.unwrap_err();
    assert_eq!(error, CallError::Driver(DriverError::Offline("nobody at home".into())));
    assert!(!error.is_fault() && instance.is_live());
    assert!(matches!(instance.poll().await, Err(CallError::Driver(_))));
}

// === What is left when nothing is broken ===

#[tokio::test]
async fn messages_snapshots_and_close_work() {
    let device = Device::default();
    let mut old = device.open("subscribe", 0).await.unwrap();
    let message = device.context.inbox.try_recv().unwrap();
    let outcome = old.on_message(&message.endpoint, &message.topic, &message.payload).await.unwrap().unwrap();
    assert_eq!(outcome.texts, [("status".to_owned(), "broker hello world".to_owned())]);
    for _ in 0..3 {
        old.poll().await.unwrap();
    }
    let snapshot = old.save().await.unwrap();
    let mut new = device.open("behave", 0).await.unwrap();
    assert!(new.restore("0.1.0", &snapshot).await.unwrap());
    assert_eq!(new.poll().await.unwrap().readings, [("polls".into(), Some(4.0))]);
    new.close().await.unwrap();
    assert!(device.log().contains("closed"));
    assert_dead(&mut new).await;
    assert!(old.is_live());
}

#[tokio::test]
async fn what_a_driver_does_not_export_is_unsupported() {
    let mut instance = Device::default().open("behave", 0).await.unwrap();
    let error = instance.set_current_limit(6000).await.unwrap_err();
    assert_eq!(error.to_string(), "this device cannot do that: driver misbehave does not export charge-control");
    assert!(instance.is_live());
    assert_eq!(misbehave().await.exports().names().collect::<Vec<_>>(), ["device", "push", "handover"]);
}
