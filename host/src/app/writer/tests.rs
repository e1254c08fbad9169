//! The writer with a disk in memory and a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::app::schedule::GAP;
use crate::config::{self, Edit, Settings, Volatile};

const HOME: &str = "[variables]\nx = 0 # counts\n";

/// A disk in memory, which can fail.
#[derive(Debug)]
struct Memory {
    text: Mutex<String>,
    fault: Mutex<Option<&'static str>>,
    written: Mutex<Vec<Instant>>,
    attempts: AtomicUsize,
    failures: AtomicUsize,
}

impl Memory {
    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn writes(&self) -> usize {
        self.written.lock().unwrap().len()
    }
}

impl Disk for Memory {
    fn read(&self) -> Result<String, String> {
        Ok(self.text())
    }

    fn replace(&self, expected: &str, text: &str) -> Result<Replaced, String> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = *self.fault.lock().unwrap() {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return Err(fault.into());
        }
        let mut now = self.text.lock().unwrap();
        if *now != expected {
            return Ok(Replaced::Not);
        }
        text.clone_into(&mut now);
        self.written.lock().unwrap().push(Instant::now());
        Ok(Replaced::Yes)
    }
}

/// Counts what is passed on. Changes of the title are never taken over by everybody.
struct Counting {
    config: Mutex<Arc<Config>>,
    passed_on: Arc<AtomicUsize>,
    slow: Mutex<Vec<Waiting>>,
}

impl Follow for Counting {
    fn running(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap())
    }

    fn follow(&self, running: &Config, config: Arc<Config>, waiting: Option<Waiting>) {
        self.passed_on.fetch_add(1, Ordering::Relaxed);
        let slow = running.site != config.site;
        *self.config.lock().unwrap() = config;
        match waiting {
            Some(waiting) if slow => self.slow.lock().unwrap().push(waiting),
            Some(waiting) => waiting.send(Ok(())).unwrap(),
            None => {}
        }
    }

    fn plugin_event(&self, _: &PluginEvent) {}

    async fn stop(self) {}
}

struct Rig {
    settings: Settings,
    disk: Arc<Memory>,
    looks: Arc<Notify>,
    passed_on: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Rig {
    fn start() -> Self {
        let disk = Arc::new(Memory {
            text: Mutex::new(HOME.into()),
            fault: Mutex::default(),
            written: Mutex::default(),
            attempts: AtomicUsize::default(),
            failures: AtomicUsize::default(),
        });
        let config = config::parse("f.toml", HOME, &[]).unwrap();
        let passed_on = Arc::new(AtomicUsize::new(0));
        let followers = Counting {
            config: Mutex::new(Arc::new(config.clone())),
            passed_on: Arc::clone(&passed_on),
            slow: Mutex::default(),
        };
        let (settings, requests) = Settings::channel();
        let keeper = Keeper::new("f.toml".into(), Vec::new(), HOME.into(), config);
        let writer = Writer::new("f.toml".into(), keeper, disk.clone(), requests.writes, followers);
        let (stop, stopped) = oneshot::channel();
        let looks = Arc::new(Notify::new());
        let (_, plugins) = mpsc::channel(1);
        let arrivals = Arrivals { looks: Arc::clone(&looks), plugins, requests: requests.requests, stopped };
        let task = tokio::spawn(writer.run(arrivals));
        Self { settings, disk, looks, passed_on, stop, task }
    }

    async fn count(&self, n: i64) {
        let edit = Edit::Set { key: vec!["variables".into(), "x".into()], value: n.into() };
        self.settings.change(vec![edit], Vec::new()).await.unwrap();
    }

    async fn until(&self, what: &str, is: impl Fn(&Memory) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(1000);
        while !is(&self.disk) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.disk);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn fault(&self, fault: Option<&'static str>) {
        *self.disk.fault.lock().unwrap() = fault;
    }

    async fn stop(self) -> String {
        drop(self.stop);
        self.task.await.unwrap();
        let error = self.settings.change(Vec::new(), Vec::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "the host is stopping");
        assert_eq!(self.settings.writes(), self.disk.writes() as u64);
        assert_eq!(self.settings.failed_writes(), self.disk.failures.load(Ordering::Relaxed) as u64);
        self.disk.text()
    }
}

fn counted(n: i64) -> String {
    HOME.replace("x = 0", &format!("x = {n}"))
}

#[tokio::test(start_paused = true)]
async fn a_thousand_changes_are_one_write_in_ten_seconds() {
    let rig = Rig::start();
    let start = Instant::now();
    for n in 1..=1000 {
        rig.count(n).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let end = Instant::now();
    rig.until("all written", |disk| disk.text() == counted(1000)).await;
    let written = rig.disk.written.lock().unwrap().clone();
    assert!(written[0] - start <= Duration::from_secs(1), "the first change is written soon");
    assert!(written.windows(2).all(|pair| pair[1] - pair[0] >= GAP), "{written:?}");
    assert!(*written.last().unwrap() - end <= GAP, "the last one too");
    assert_eq!(written.len(), 6);
    assert_eq!(rig.passed_on.load(Ordering::Relaxed), 1000);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_last_changes_are_written_at_the_end_without_waiting() {
    let rig = Rig::start();
    rig.count(1).await;
    rig.until("the first write", |disk| disk.writes() == 1).await;
    rig.count(2).await;
    let before = Instant::now();
    assert_eq!(rig.stop().await, counted(2));
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_temporary_is_not_written_and_own_writes_pass_nothing_on() {
    let rig = Rig::start();
    for share in 0..100 {
        rig.settings.change(Vec::new(), vec![Volatile::MaxTotalCurPrc(share)]).await.unwrap();
    }
    tokio::time::sleep(GAP * 2).await;
    assert_eq!(rig.disk.attempts.load(Ordering::Relaxed), 0);
    rig.count(1).await;
    rig.until("one write", |disk| disk.writes() == 1).await;
    rig.looks.notify_one();
    tokio::time::sleep(GAP * 2).await;
    assert_eq!(rig.passed_on.load(Ordering::Relaxed), 101);
    // Nor does what says the same in other words.
    rig.disk.text.lock().unwrap().push('\n');
    rig.looks.notify_one();
    tokio::time::sleep(GAP * 2).await;
    assert_eq!(rig.passed_on.load(Ordering::Relaxed), 101);
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_tried_again_ever_more_rarely_until_it_is_well() {
    let rig = Rig::start();
    rig.fault(Some("no space left on device"));
    rig.count(1).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let attempts = rig.disk.attempts.load(Ordering::Relaxed);
    assert!((10..=20).contains(&attempts), "{attempts} in ten minutes");
    assert_eq!(rig.disk.text(), HOME);
    rig.count(2).await;
    rig.fault(None);
    rig.until("the write", |disk| disk.text() == counted(2)).await;
    rig.fault(Some("no space left on device"));
    rig.count(3).await;
    assert_eq!(rig.stop().await, counted(2), "the end does not wait for it");
}

#[tokio::test(start_paused = true)]
async fn a_human_who_edits_at_the_same_time_keeps_every_word() {
    let rig = Rig::start();
    rig.count(1).await;
    // The watch says nothing: it is noticed when the file is to be written.
    let theirs = format!("# theirs\n{HOME}y = 5\n");
    *rig.disk.text.lock().unwrap() = theirs.clone();
    rig.until("both", |disk| disk.text() == theirs.replace("x = 0", "x = 1")).await;
    rig.count(2).await;
    *rig.disk.text.lock().unwrap() = "[half".into();
    tokio::time::sleep(GAP * 3).await;
    assert_eq!(rig.disk.text(), "[half");
    *rig.disk.text.lock().unwrap() = theirs.replace("x = 0", "x = 1").replace('5', "6");
    rig.looks.notify_one();
    rig.until("both", |disk| disk.text() == theirs.replace("x = 0", "x = 2").replace('5', "6")).await;
    // At the last moment.
    rig.count(3).await;
    *rig.disk.text.lock().unwrap() = theirs.replace("x = 0", "x = 2");
    assert_eq!(rig.stop().await, theirs.replace("x = 0", "x = 3"));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_slow_to_go_over_holds_up_nobody_else() {
    let rig = Rig::start();
    let edit = Edit::Set { key: vec!["site".into(), "title".into()], value: "x".into() };
    let settings = rig.settings.clone();
    let slow = tokio::spawn(async move { settings.change(vec![edit], Vec::new()).await });
    rig.until("the slow one", |disk| disk.text().contains("title")).await;
    rig.count(1).await;
    assert!(!slow.is_finished());
    rig.stop().await;
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn half_a_file_is_not_believed_while_it_is_being_written() {
    let rig = Rig::start();
    let whole = "[variables]\nx = 7\ny = 8\n";
    // Each of these is a configuration, or an error, of its own.
    for half in ["", "[variables]\n", "[variables]\nx = 7\ny =", whole] {
        half.clone_into(&mut rig.disk.text.lock().unwrap());
        rig.looks.notify_one();
        tokio::time::sleep(SETTLE / 2).await;
        assert_eq!(rig.passed_on.load(Ordering::Relaxed), 0, "{half:?} was believed at once");
    }
    let start = Instant::now();
    while rig.passed_on.load(Ordering::Relaxed) == 0 {
        assert!(start.elapsed() < SETTLE * 2, "the whole file was not taken over");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(SETTLE * 3).await;
    assert_eq!(rig.passed_on.load(Ordering::Relaxed), 1, "only the whole file is passed on, once");
    assert_eq!(rig.stop().await, whole);
}
