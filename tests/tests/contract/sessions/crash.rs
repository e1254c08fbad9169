//! The built daemon, killed (SIGKILL) at random moments and started again on the same files: numbers without gaps, no
//! finished transaction lost, no energy lost but that of the last ten seconds.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ladekern::store::{Transaction, TransactionFilter, Transactions};
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::{http, until};

use super::log::{Log, without_doubles};

const ROUNDS: u32 = 10;

/// One daemon after another on the same files.
struct Runs {
    folder: tempfile::TempDir,
}

impl Runs {
    fn new(broker: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nta_log = \"{broker}\"\n\
             [[device]]\nid = \"E1\"\ntype = \"http-input\"\n[[device]]\nid = \"E2\"\ntype = \"http-input\"\n"
        );
        std::fs::write(folder.path().join("ladekern.toml"), text).unwrap();
        Self { folder }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn start(&self) -> (Daemon, SocketAddr) {
        let config = self.folder.path().join("ladekern.toml").display().to_string();
        let state = self.state().display().to_string();
        let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
        let address = daemon.http_address().await;
        (daemon, address)
    }

    /// What lies on the disk, also while a daemon runs.
    async fn on_disk(&self) -> Vec<Transaction> {
        on_disk(&self.state()).await
    }
}

async fn on_disk(state: &Path) -> Vec<Transaction> {
    Transactions::open(state).unwrap().list(&TransactionFilter::default()).await.unwrap()
}

/// A car that comes and goes at E1, whose counter only grows.
#[derive(Clone)]
struct Car {
    plugged: bool,
    counter: f64,
    /// Messages until it comes or goes.
    left: u32,
}

impl Car {
    fn step(&mut self, random: &mut Random) {
        if self.left == 0 {
            self.plugged = !self.plugged;
            self.left = random.below(12);
        } else {
            self.left -= 1;
        }
        if self.plugged {
            self.counter += 2.5;
        }
    }

    fn message(&self) -> String {
        let state = if self.plugged { 3 } else { 1 };
        format!("{{\"state\":{state},\"total_energy\":{}}}", self.counter)
    }
}

/// Numbers that differ from run to run; a failure names the seed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = RandomState::new().build_hasher().finish() | 1;
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(end)).unwrap()
    }
}

/// Lives the car's life until nobody answers any more.
async fn feed(address: SocketAddr, car: &mut Car, random: &mut Random) {
    loop {
        let was = car.plugged;
        car.step(random);
        http::post(address, "/cnf?cmd=set_ajax_evse&dev_id=E1", &car.message()).await.unwrap();
        // Nobody pulls a plug out again at once.
        let pause = if car.plugged == was { random.below(20) } else { 100 };
        tokio::time::sleep(Duration::from_millis(u64::from(pause))).await;
    }
}

/// Looks again and again what is finished.
async fn note_finished(runs: &Runs, finished: &mut BTreeMap<u64, Transaction>) {
    loop {
        for done in runs.on_disk().await.into_iter().filter(|done| done.end.is_some()) {
            finished.insert(done.id, done);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn b3_b23_a_daemon_that_is_killed_loses_no_transaction_and_no_number() {
    let broker = Mosquitto::start();
    let log = Log::follow(broker.port()).await;
    let runs = Runs::new(&broker.url());
    let (mut random, mut moments) = (Random::new(), Random::new());
    let mut car = Car { plugged: false, counter: 50_000.0, left: 2 };
    let start = car.counter;
    // Finished before a kill, as they stood on the disk.
    let mut finished: BTreeMap<u64, Transaction> = BTreeMap::new();
    for _ in 0..ROUNDS {
        let (daemon, address) = runs.start().await;
        let living = async {
            tokio::join!(feed(address, &mut car, &mut random), note_finished(&runs, &mut finished));
        };
        // Whatever is under way at that moment, a message, a look or a write, ends there.
        let life = Duration::from_millis(u64::from(moments.below(2_500)));
        assert!(tokio::time::timeout(life, living).await.is_err(), "fed until the end");
        daemon.kill().await;
        let found = runs.on_disk().await;
        for (id, done) in &finished {
            assert_eq!(found.iter().find(|found| found.id == *id), Some(done), "finished before the kill");
        }
    }
    // The last one goes on.
    let (daemon, address) = runs.start().await;
    car.plugged = false;
    http::post(address, "/cnf?cmd=set_ajax_evse&dev_id=E1", &car.message()).await.unwrap();
    let ended = |found: &Vec<Transaction>| found.iter().all(|found| found.end.is_some());
    let found = until("the running one ends when it is seen unplugged", async || runs.on_disk().await, ended).await;
    assert!(found.len() >= 5, "{} transactions are too few to say anything", found.len());
    let ids: Vec<u64> = found.iter().map(|found| found.id).collect();
    assert_eq!(ids, (1..=found.len() as u64).collect::<Vec<_>>());

    // Every event has reached the broker, in order, at least once.
    let events = without_doubles(&log.until(2 * found.len() as u64).await);
    assert_eq!(events.len(), 2 * found.len());
    for done in &found {
        let end = events.iter().find(|event| event["id"] == done.id && event["event"] == "end").unwrap();
        assert_eq!(end["energy_wh"], done.energy_wh);
    }

    // Counters are read by difference: what is not in any transaction is at most what flowed unseen around a kill.
    let counted: f64 = found.iter().map(|found| found.energy_wh).sum();
    let fed = car.counter - start;
    assert!(counted <= fed, "{counted} Wh of {fed} Wh");
    assert!(counted >= fed * 0.8, "{counted} Wh of {fed} Wh");
    assert!(found.iter().all(|found| found.energy_wh >= 0.0));
    daemon.stop().await;
}

#[tokio::test]
async fn b23_a_killed_daemon_has_written_all_energy_but_that_of_ten_seconds() {
    let runs = Runs::new("");
    let (daemon, address) = runs.start().await;
    // One with a counter, one with nothing but its power.
    let begin = Instant::now();
    let mut fed: Vec<(Instant, f64)> = Vec::new();
    while begin.elapsed() < Duration::from_secs(13) {
        let counter = 7_000.0 + 3.0 * begin.elapsed().as_secs_f64();
        let own = format!("{{\"state\":3,\"total_energy\":{counter}}}");
        http::post(address, "/cnf?cmd=set_ajax_evse&dev_id=E1", &own).await.unwrap();
        http::post(address, "/cnf?cmd=set_ajax_evse&dev_id=E2", "{\"state\":3,\"power_w\":7200}").await.unwrap();
        fed.push((Instant::now(), counter));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let killed = Instant::now();
    daemon.kill().await;
    let found = runs.on_disk().await;
    let energy = |device: &str| found.iter().find(|found| found.dev_id == device).unwrap().energy_wh;
    let promised = killed - Duration::from_secs(10);
    let last_promised = fed.iter().rfind(|(at, _)| *at <= promised).unwrap();
    let counted = last_promised.1 - fed[0].1;
    assert!(counted > 0.0 && energy("E1") >= counted, "{} Wh, at least {counted} Wh", energy("E1"));
    let by_power = 2.0 * (promised - begin).as_secs_f64();
    assert!(energy("E2") >= by_power * 0.8, "{} Wh, at least about {by_power} Wh", energy("E2"));
    assert!(energy("E2") <= 2.0 * 14.0, "{} Wh", energy("E2"));

    // The next process goes on: the counter tells everything, power what has been written.
    let (daemon, address) = runs.start().await;
    let last = fed.last().unwrap().1;
    let gone = format!("{{\"state\":1,\"total_energy\":{}}}", last + 100.0);
    http::post(address, "/cnf?cmd=set_ajax_evse&dev_id=E1", &gone).await.unwrap();
    let ended = async || runs.on_disk().await.into_iter().find(|found| found.dev_id == "E1" && found.end.is_some());
    let done = until("seen unplugged", ended, Option::is_some).await.unwrap();
    let whole = last + 100.0 - fed[0].1;
    assert!((done.energy_wh - whole).abs() < 0.01, "{} Wh of {whole} Wh", done.energy_wh);
    assert_eq!(done.reason.as_deref(), Some("unplugged while the manager was away"));
    daemon.stop().await;
}
