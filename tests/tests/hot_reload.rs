//! A plugin is replaced while its device runs: real components, a real watch over the folder, a real connection to a
//! simulated wallbox that sees everything.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::time::Duration;

use ladekern::plugin::COMPONENT_FILE;
use ladekern::site::{DeviceStatus, Health, Moment};
use ladekern_tests::guests::guest_dir;
use ladekern_tests::rig::{CounterBox, Rig, device_id, install_counter, put};
use ladekern_tests::until;

async fn running() -> (Rig, CounterBox) {
    let wallbox = CounterBox::start().await;
    let rig = Rig::start(&wallbox.entry("E1", ""), |plugins| install_counter(plugins, "1.0.0", "well")).await;
    rig.wait("E1", "running", |status| status.health == Health::Running && status.successes >= 3).await;
    (rig, wallbox)
}

async fn until_driver(rig: &Rig, version: &str) -> DeviceStatus {
    rig.wait("E1", version, |status| status.driver == format!("counter {version}")).await
}

async fn until_refused(rig: &Rig, says: &str) -> String {
    let what = format!("refusing with \"{says}\"");
    let refused = |status: &DeviceStatus| status.update_failed.as_ref().is_some_and(|why| why.contains(says));
    rig.wait("E1", &what, refused).await.update_failed.unwrap()
}

/// Watches the board for readings that come late or count wrong.
struct Readings {
    task: tokio::task::JoinHandle<()>,
    seen: std::sync::Arc<std::sync::Mutex<Vec<(f64, Moment)>>>,
}

impl Readings {
    fn follow(rig: &Rig) -> Self {
        let mut changes = rig.board.follow(&device_id("E1")).unwrap();
        let seen: std::sync::Arc<std::sync::Mutex<Vec<_>>> = std::sync::Arc::default();
        let list = seen.clone();
        let task = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                if let Some(count) = changes.borrow_and_update().values.get("energy.import") {
                    let mut list = list.lock().unwrap();
                    if list.last() != Some(&(count.value, count.at)) {
                        list.push((count.value, count.at));
                    }
                }
            }
        });
        Self { task, seen }
    }

    /// Never back, never twice the same, and never longer apart than `longest`.
    fn assert_gapless(self, longest: Duration) {
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        for pair in seen.windows(2) {
            let [(before, then), (after, now)] = pair else { unreachable!() };
            assert!(after > before, "the count went from {before} to {after}");
            assert!(now.since(*then) <= longest, "{:?} without a reading before count {after}", now.since(*then));
        }
        assert!(seen.len() > 10, "only {} readings", seen.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_come_and_go_and_the_count_goes_on_over_one_connection() {
    let (rig, wallbox) = running().await;
    let readings = Readings::follow(&rig);
    let plugins = rig.plugins();

    install_counter(&plugins, "2.0.0", "well");
    let status = until_driver(&rig, "2.0.0").await;
    assert_eq!((status.health, status.update_failed), (Health::Running, None));
    rig.goes_on("E1", 3).await;

    // A third version that is broken in every way it can be: cut off, trapping, talking nonsense.
    let whole = std::fs::read(guest_dir("counter").join(COMPONENT_FILE)).unwrap();
    put(&plugins, COMPONENT_FILE, &whole[..whole.len() / 2]);
    let said = until_refused(&rig, COMPONENT_FILE).await;
    assert!(said.contains("still being copied"), "{said}");
    rig.goes_on("E1", 3).await;
    install_counter(&plugins, "3.0.0", "trap");
    until_refused(&rig, "counter 3.0.0: the driver broke down").await;
    rig.goes_on("E1", 3).await;
    install_counter(&plugins, "3.0.1", "garbage");
    until_refused(&rig, "counter 3.0.1: the device answered nonsense").await;
    rig.goes_on("E1", 3).await;
    assert_eq!(rig.status("E1").driver, "counter 2.0.0");

    // The good one is put back.
    install_counter(&plugins, "2.0.0", "well");
    rig.wait("E1", "well again", |status| status.update_failed.is_none()).await;
    rig.goes_on("E1", 3).await;

    let status = rig.status("E1");
    assert_eq!((status.driver.as_str(), status.errors), ("counter 2.0.0", 0));
    // Every poll that succeeded is in the memory of the instance that runs now: nothing was lost, nothing counted twice.
    assert_eq!(status.values.get("energy.import").unwrap().value, status.successes as f64);
    readings.assert_gapless(Duration::from_secs(2));
    assert_eq!(wallbox.control.connections(), 1);
    assert!(!wallbox.closed(), "a swap must not put the box into its safe state");
    rig.devices.shutdown().await;
    assert!(wallbox.closed(), "a stop must");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_faults_three_times_at_first_is_taken_back() {
    let (rig, wallbox) = running().await;
    let before = rig.count("E1");
    install_counter(&rig.plugins(), "2.0.0", "trap-later");
    until_driver(&rig, "2.0.0").await;
    let said = until_refused(&rig, "back to 1.0.0").await;
    assert!(said.starts_with("counter 2.0.0 faulted 3 times in its first five minutes"), "{said}");
    rig.wait("E1", "running", |status| status.health == Health::Running).await;
    assert!(rig.count("E1") > before, "the count of the first version goes on: {} after {before}", rig.count("E1"));
    assert_eq!(rig.status("E1").driver, "counter 1.0.0");
    rig.goes_on("E1", 3).await;
    assert_eq!(wallbox.control.connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_folder_closes_the_device_and_a_new_one_starts_it() {
    let (rig, wallbox) = running().await;
    std::fs::remove_dir_all(rig.plugins()).unwrap();
    let status = rig.wait("E1", "missing", |status| matches!(status.health, Health::MissingDriver(_))).await;
    assert!(status.health.describe().contains("no plugin \"counter\" in "), "{:?}", status.health);
    assert!(wallbox.closed());
    install_counter(&rig.plugins(), "1.1.0", "well");
    rig.wait("E1", "running again", |status| status.health == Health::Running).await;
    assert_eq!(rig.status("E1").driver, "counter 1.1.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_device_stays_with_its_file() {
    let wallbox = CounterBox::start().await;
    let plugins = tempfile::tempdir().unwrap();
    install_counter(plugins.path(), "1.0.0", "well");
    let registry = ladekern_tests::guests::registry().await;
    let pinned = registry.load_dir(&plugins.path().join("counter")).await.unwrap().digest().to_owned();
    let config = wallbox.entry("E1", &format!("sha256 = \"{pinned}\"")) + &wallbox.entry("E2", "");
    let rig = Rig::start(&config, |plugins| install_counter(plugins, "1.0.0", "well")).await;
    rig.wait("E1", "running", |status| status.health == Health::Running).await;
    install_counter(&rig.plugins(), "2.0.0", "well");
    rig.wait("E2", "2.0.0", |status| status.driver == "counter 2.0.0").await;
    let said = until_refused(&rig, "sha256").await;
    assert!(said.contains(&pinned), "{said}");
    rig.goes_on("E1", 2).await;
    assert_eq!(rig.status("E1").driver, "counter 1.0.0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_copied_slowly_is_taken_when_it_is_complete() {
    let wallbox = CounterBox::start().await;
    let rig = Rig::start(&wallbox.entry("E1", ""), |_| {}).await;
    assert!(matches!(rig.status("E1").health, Health::MissingDriver(_)));
    install_counter(&rig.plugins(), "1.0.0", "well");
    let whole = std::fs::read(rig.plugins().join("counter").join(COMPONENT_FILE)).unwrap();
    put(&rig.plugins(), COMPONENT_FILE, &whole[..whole.len() - 100]);
    rig.wait("E1", "told why", |status| status.health.describe().contains("still being copied")).await;
    put(&rig.plugins(), COMPONENT_FILE, &whole);
    rig.wait("E1", "running", |status| status.health == Health::Running).await;
    until("one connection", async || wallbox.control.open_connections(), |open| *open == 1).await;
}
