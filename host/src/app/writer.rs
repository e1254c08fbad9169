//! Serves changes of the configuration: makes them, passes them on, writes them, and follows what others write into the
//! file. Everything in one task, so that each change is made to the result of the one before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::keeper::{Found, Keeper};
use super::schedule::Schedule;
use crate::config::file::{Disk, Replaced};
use crate::config::{Config, Request, SettingsError, Writes};
use crate::plugin::PluginEvent;

/// How long the last write may take, for disks that answer no more.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Who waits for a change.
pub(super) type Waiting = oneshot::Sender<Result<(), SettingsError>>;

/// Whom changes are passed on to.
pub(super) trait Follow: Send + 'static {
    /// The configuration that was passed on last.
    fn running(&self) -> Arc<Config>;
    /// Passes on another one; `waiting` is told when everybody has gone over to it. Never blocks.
    fn follow(&self, running: &Config, config: Arc<Config>, waiting: Option<Waiting>);
    /// Passes on what happened in the plugin folders.
    fn plugin_event(&self, event: &PluginEvent);
    /// Ends what is under way.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// Where the work comes from.
pub(super) struct Arrivals {
    /// Told when somebody may have changed the file.
    pub looks: Arc<Notify>,
    pub plugins: mpsc::Receiver<PluginEvent>,
    pub requests: mpsc::Receiver<Request>,
    /// Closed when the host stops.
    pub stopped: oneshot::Receiver<()>,
}

/// What was done with the disk.
enum Done {
    Read(Result<String, String>),
    Written { text: String, outcome: Result<Replaced, String> },
}

pub(super) struct Writer<F> {
    followers: F,
    keeper: Arc<Mutex<Keeper>>,
    /// Its name, for messages.
    file: String,
    disk: Arc<dyn Disk>,
    schedule: Schedule,
    writes: Writes,
    /// The file is to be read again.
    look: bool,
    /// Why the last attempt to write failed.
    complaint: Option<String>,
}

impl<F: Follow> Writer<F> {
    pub fn new(file: String, keeper: Keeper, disk: Arc<dyn Disk>, writes: Writes, followers: F) -> Self {
        Self {
            followers,
            keeper: Arc::new(Mutex::new(keeper)),
            file,
            disk,
            schedule: Schedule::default(),
            writes,
            look: false,
            complaint: None,
        }
    }

    pub async fn run(mut self, mut from: Arrivals) {
        // One thing at a time with the disk, so that what is read is never older than what was written.
        let mut io: Option<JoinHandle<Done>> = None;
        let mut plugins_open = true;
        loop {
            if io.is_none() {
                io = self.next_io();
            }
            let due = self.schedule.due().filter(|_| io.is_none());
            let until_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let until_done = async {
                match io.as_mut() {
                    Some(io) => io.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = &mut from.stopped => break,
                () = from.looks.notified() => self.look = true,
                () = until_due => {}
                done = until_done => {
                    io = None;
                    // The runtime is shutting down.
                    let Ok(done) = done else { return };
                    self.done(done).await;
                }
                event = from.plugins.recv(), if plugins_open => match event {
                    Some(event) => self.followers.plugin_event(&event),
                    // That watch could not be started; the other one goes on.
                    None => plugins_open = false,
                },
                Some(request) = from.requests.recv() => self.request(request).await,
            }
        }
        // What arrives from now on is refused, and so is what has not been looked at.
        drop(from);
        if tokio::time::timeout(LAST_WRITE, self.finish(io)).await.is_err() {
            tracing::error!("{}: the disk does not answer; the last changes of settings are lost", self.file);
        }
        self.followers.stop().await;
    }

    /// What the disk is to do next, if anything.
    fn next_io(&mut self) -> Option<JoinHandle<Done>> {
        let disk = Arc::clone(&self.disk);
        if std::mem::take(&mut self.look) {
            return Some(tokio::task::spawn_blocking(move || Done::Read(disk.read())));
        }
        if self.schedule.due().is_none_or(|due| due > Instant::now()) {
            return None;
        }
        let Some((expected, text)) = self.keeper().to_write() else {
            self.schedule.set(false, Instant::now());
            return None;
        };
        Some(tokio::task::spawn_blocking(move || {
            let outcome = disk.replace(&expected, &text);
            Done::Written { text, outcome }
        }))
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Read(disk) => self.found(disk).await,
            Done::Written { text, outcome: Ok(Replaced::Yes) } => {
                self.writes.count();
                self.keeper().written(text);
                self.schedule.written(Instant::now());
                if self.complaint.take().is_some() {
                    tracing::info!("{}: the changes of settings are written now", self.file);
                }
            }
            // Somebody changed the file: look at it first.
            Done::Written { outcome: Ok(Replaced::Not), .. } => self.look = true,
            Done::Written { outcome: Err(why), .. } => {
                let wait = self.schedule.failed(Instant::now()).as_secs();
                if self.complaint.as_ref() != Some(&why) {
                    tracing::error!(
                        "{}: {why}. The changed settings are in force, but lost at a restart until this is \
                         mended; the next attempt is in {wait} s",
                        self.file
                    );
                    self.complaint = Some(why);
                }
            }
        }
        self.reschedule();
    }

    /// Brings everything to the disk that is not there yet.
    async fn finish(&mut self, io: Option<JoinHandle<Done>>) {
        if let Some(io) = io {
            let Ok(done) = io.await else { return };
            self.done(done).await;
        }
        // More than once only if somebody changes the file at this very moment.
        for _ in 0..3 {
            let disk = Arc::clone(&self.disk);
            let Some((expected, text)) = self.keeper().to_write() else { return };
            let written = tokio::task::spawn_blocking(move || (disk.replace(&expected, &text), text, disk.read()));
            let Ok((outcome, text, now)) = written.await else { return };
            match outcome {
                Ok(Replaced::Yes) => {
                    self.writes.count();
                    return self.keeper().written(text);
                }
                Ok(Replaced::Not) => self.found(now).await,
                Err(why) => return tracing::error!("{}: {why}; the last changes of settings are lost", self.file),
            }
        }
        tracing::error!("{}: does not stay the same; the last changes of settings are lost", self.file);
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        // Each of its methods changes it at its end only.
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that takes as long as reading a large file may.
    async fn think<T: Send + 'static>(&self, what: impl FnOnce(&mut Keeper) -> T + Send + 'static) -> Option<T> {
        let keeper = Arc::clone(&self.keeper);
        let task =
            tokio::task::spawn_blocking(move || what(&mut keeper.lock().unwrap_or_else(PoisonError::into_inner)));
        task.await.ok()
    }

    fn reschedule(&mut self) {
        let dirty = self.keeper().to_write().is_some();
        self.schedule.set(dirty, Instant::now());
    }

    async fn request(&mut self, request: Request) {
        let Request { edits, volatile, done } = request;
        let result = if edits.is_empty() {
            self.keeper().change(&[], &volatile)
        } else {
            let result = self.think(move |keeper| keeper.change(&edits, &volatile)).await;
            result.unwrap_or_else(|| Err(SettingsError::Cannot("the host is stopping".into())))
        };
        match result {
            Ok(()) => {
                self.reschedule();
                self.publish(Some(done));
            }
            // Whoever has gone does not want to know.
            Err(error) => _ = done.send(Err(error)),
        }
    }

    async fn found(&mut self, disk: Result<String, String>) {
        let Some(found) = self.think(move |keeper| keeper.found(disk)).await else { return };
        match found {
            Found::Same => {}
            Found::Changed { lost } => {
                for lost in lost {
                    tracing::error!("{}: a change of settings that was not yet written is lost: {lost}", self.file);
                }
                if self.publish(None) {
                    tracing::info!("the changed configuration is in force");
                }
            }
            Found::Broken(errors) => {
                for error in &errors.0 {
                    tracing::error!("{error}");
                }
                tracing::error!("the configuration was not taken over; the one before stays in force");
            }
        }
        self.reschedule();
    }

    /// Passes on the configuration in force if it is another one than before.
    fn publish(&self, waiting: Option<Waiting>) -> bool {
        let config = self.keeper().in_force();
        let running = self.followers.running();
        if config == *running {
            waiting.into_iter().for_each(|waiting| _ = waiting.send(Ok(())));
            return false;
        }
        self.followers.follow(&running, Arc::new(config), waiting);
        true
    }
}

#[cfg(test)]
mod tests {
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
}
