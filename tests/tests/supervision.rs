//! Devices that fail in all the ways they can, beside one that works: real components on real connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::Path;

use ladekern::plugin::{COMPONENT_FILE, MANIFEST_FILE};
use ladekern::site::{Command, CommandError, Commands, Health};
use ladekern_tests::guests::guest_dir;
use ladekern_tests::rig::{CounterBox, Rig, device_id, install_counter};
use ladekern_tests::until;

fn well(plugins: &Path) {
    install_counter(plugins, "1.0.0", "well");
}

async fn command(rig: &Rig, id: &str, command: Command) -> Result<(), CommandError> {
    rig.devices.command(&device_id(id), command).await
}

fn install_misbehave(plugins: &Path) {
    let folder = plugins.join("misbehave");
    std::fs::create_dir_all(&folder).unwrap();
    for name in [MANIFEST_FILE, COMPONENT_FILE] {
        std::fs::copy(guest_dir("misbehave").join(name), folder.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_may_be_broken_and_each_says_why_while_the_others_run() {
    let wallbox = CounterBox::start().await;
    let broken = [
        ("M1", "type = \"nothing-like-it\"", "missing driver: no plugin \"nothing-like-it\" in "),
        ("M2", "type = \"counter\"", "misconfigured: endpoint.main: is missing"),
        ("M3", "type = \"counter\"\naddress = \"mqtt://127.0.0.1:1\"", "misconfigured: address"),
        ("M4", "type = \"counter\"\naddress = \"tcp://127.0.0.1:1\"\nconfig = { behave = 1 }", "config.behave"),
        ("M5", "type = \"counter\"\naddress = \"tcp://127.0.0.1:1\"", "offline: "),
        ("M6", "type = \"half\"", "driver.wasm is no valid component"),
        ("M7", "type = \"misbehave\"\nconfig = { do = \"spin\" }\naddress = \"http://127.0.0.1:1\"", "limits.cpu_ms"),
        ("M8", "type = \"misbehave\"\nconfig = { do = \"eat\" }\naddress = \"http://127.0.0.1:1\"", "limits.memory"),
    ];
    let mut config = wallbox.entry("E1", "");
    for (id, lines, _) in &broken {
        config.push_str(&format!("[[device]]\nid = \"{id}\"\n{lines}\n"));
    }
    let rig = Rig::start(&config, |plugins| {
        well(plugins);
        install_misbehave(plugins);
        let half = plugins.join("half");
        std::fs::create_dir_all(&half).unwrap();
        let manifest = std::fs::read_to_string(guest_dir("counter").join(MANIFEST_FILE)).unwrap();
        std::fs::write(half.join(MANIFEST_FILE), manifest.replace("id = \"counter\"", "id = \"half\"")).unwrap();
        let whole = std::fs::read(guest_dir("counter").join(COMPONENT_FILE)).unwrap();
        std::fs::write(half.join(COMPONENT_FILE), &whole[..whole.len() / 2]).unwrap();
    })
    .await;
    for (id, _, says) in broken {
        let status = rig.wait(id, says, |status| status.health.describe().contains(says)).await;
        assert!(!status.health.is_running());
        let refused = command(&rig, id, Command::Current(0)).await;
        // A driver whose device does not answer runs, and tries.
        let sorted = matches!(refused, Err(CommandError::NotRunning(_) | CommandError::Offline(_)));
        assert!(sorted, "{id}: {refused:?}");
    }
    rig.goes_on("E1", 5).await;
    assert_eq!(rig.status("E1").health, Health::Running);
    let unknown = command(&rig, "E9", Command::Current(0)).await;
    assert!(matches!(unknown, Err(CommandError::NotRunning(_))), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_box_that_is_away_for_a_while_keeps_its_driver() {
    let wallbox = CounterBox::start().await;
    let rig = Rig::start(&wallbox.entry("E1", ""), well).await;
    rig.wait("E1", "running", |status| status.successes >= 3).await;
    wallbox.control.offline();
    let status = rig.wait("E1", "offline", |status| matches!(status.health, Health::Offline(_))).await;
    assert!(status.failing_since.is_some() && status.errors > 0 && !status.last_error.is_empty());
    let before = rig.count("E1");
    wallbox.control.resume();
    let status = rig.wait("E1", "running", |status| status.health == Health::Running).await;
    assert_eq!(status.failing_since, None);
    assert!(rig.count("E1") > before, "the same instance counts on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_traps_is_started_again_and_a_retry_does_not_wait() {
    let wallbox = CounterBox::start().await;
    let rig = Rig::start(&wallbox.entry("E1", ""), |plugins| install_counter(plugins, "1.0.0", "trap")).await;
    let status = rig.wait("E1", "faulted", |status| matches!(status.health, Health::Faulted { .. })).await;
    assert!(status.last_error.contains("broke down"), "{}", status.last_error);
    let refused = command(&rig, "E1", Command::Current(0)).await;
    assert!(matches!(&refused, Err(CommandError::NotRunning(why)) if why.contains("faulted")), "{refused:?}");
    let polls = wallbox.bank.requests();
    rig.devices.handle(&device_id("E1")).unwrap().retry();
    until("polled again", async || wallbox.bank.requests(), |now| *now > polls).await;
    install_counter(&rig.plugins(), "1.0.1", "well");
    rig.wait("E1", "repaired by a new file", |status| status.health == Health::Running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_reach_the_wire_in_their_order() {
    let wallbox = CounterBox::start().await;
    let entry = wallbox.entry("E1", "max_ma = 16000\nfailsafe = { ma = 6000, timeout_s = 60 }");
    let rig = Rig::start(&entry, well).await;
    rig.wait("E1", "running", |status| status.health == Health::Running).await;
    assert_eq!(command(&rig, "E1", Command::Current(10_000)).await, Ok(()));
    assert_eq!(command(&rig, "E1", Command::Current(0)).await, Ok(()));
    assert_eq!(rig.status("E1").commanded.map(|ma| ma.value), Some(0));
    let phases = command(&rig, "E1", Command::Phases(1)).await;
    assert_eq!(phases, Err(CommandError::Unsupported("counter 1.0.0 has no phase-control".into())));
    let wake_up = command(&rig, "E1", Command::WakeUp).await;
    assert!(matches!(&wake_up, Err(CommandError::Unsupported(why)) if why.starts_with("counter 1.0.0")), "{wake_up:?}");
    let writes = wallbox.bank.writes();
    assert_eq!(writes, [(4, vec![60, 60]), (1, vec![100]), (2, vec![1]), (2, vec![0])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_touches_only_what_changed() {
    let [one, two, three, four] =
        [CounterBox::start().await, CounterBox::start().await, CounterBox::start().await, CounterBox::start().await];
    let config = one.entry("E1", "") + &two.entry("E2", "") + &three.entry("E3", "");
    let rig = Rig::start(&config, well).await;
    for id in ["E1", "E2", "E3"] {
        rig.wait(id, "running", |status| status.successes >= 3).await;
    }
    let before = rig.count("E1");
    // E1 gets a name, E2 another address, E3 goes, M1 comes.
    let config = one.entry("E1", "name = \"Carport\"")
        + &four.entry("E2", "")
        + "[[device]]\nid = \"M1\"\ntype = \"http-input\"\n";
    rig.apply(&config).await;
    assert!(three.closed(), "a removed device is left in its safe state");
    assert_eq!(rig.board.device(&device_id("E3")), None);
    rig.goes_on("E1", 2).await;
    assert!(rig.count("E1") > before && one.control.connections() == 1 && !one.closed(), "E1 was not touched");
    until("E2 at its new address", async || four.bank.requests(), |now| *now > 0).await;
    assert!(two.closed(), "nobody talks to the old address any more");
    assert!(rig.devices.feeds().get(&device_id("M1")).is_some());
    rig.devices.shutdown().await;
    assert!(one.closed() && four.closed());
    assert!(
        rig.board.snapshot(ladekern::site::Moment(1)).devices.len() <= 1,
        "only a fed device may be held elsewhere"
    );
}
