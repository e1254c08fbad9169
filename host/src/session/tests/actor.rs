//! The task around the sessions: what callers get, what is written, and a disk that fails.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use super::super::{OverrideChange, SessionParts, SessionView, Sessions};
use super::*;
use crate::site::{Board, Clock, Command, CommandError, Commands, StatusSender};
use crate::store::{Transaction, TransactionFilter, Transactions};
use tokio::sync::watch;

const USERS: &str = "[[user]]\nid = \"1111\"\nname = \"Ann\"\ndevices = [\"E1\"]\n\
                     [[user.card]]\nid = \"04AB\"\nphases = 1\n";

/// Remembers what it was told.
#[derive(Default)]
struct Told(Mutex<Vec<(DeviceId, Command)>>);

impl Commands for Told {
    fn command<'a>(
        &'a self,
        device: &'a DeviceId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
        self.0.lock().unwrap().push((device.clone(), command));
        Box::pin(std::future::ready(Err(CommandError::Unsupported("one phase only".into()))))
    }
}

struct Site {
    sessions: Sessions,
    clock: Clock,
    e1: StatusSender,
    told: Arc<Told>,
    _config: watch::Sender<Arc<Config>>,
}

impl Site {
    fn start(folder: &Path, more: &str) -> Self {
        let (board, clock, told) = (Board::default(), Clock::start(), Arc::new(Told::default()));
        let e1 = board.register(id("E1"));
        let (config, follow) = watch::channel(Arc::new(config(&format!("{SITE}{more}"))));
        let transactions = Transactions::open(folder).unwrap();
        let commands = told.clone();
        let sessions = Sessions::start(SessionParts { board, config: follow, commands, clock, transactions });
        Self { sessions, clock, e1, told, _config: config }
    }

    fn say(&self, connector: Connector, own_wh: f64) {
        let mut outcome = Outcome { connector: Some(connector), ..Outcome::default() };
        outcome.push("energy.import", own_wh);
        let now = self.clock.now();
        self.e1.update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(60);
            status.values.merge(outcome, now);
        });
    }

    async fn seen(&self, wanted: impl Fn(&SessionView) -> bool) {
        let mut view = self.sessions.view();
        let waiting = view.wait_for(|view| wanted(view));
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("in time").unwrap();
    }

    async fn written(&self, wanted: impl Fn(&[Transaction]) -> bool) -> Vec<Transaction> {
        let look = async {
            loop {
                if let Ok(found) = self.sessions.transactions().list(&TransactionFilter::default()).await
                    && wanted(&found)
                {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(300), look).await.expect("written in time")
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_changes_is_shown_when_the_call_returns() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path(), USERS);
    assert!(site.sessions.restrictions().borrow().contains_key(&id("E1")), "before anything is heard");
    site.say(Connector::Connected, 10.0);
    assert_eq!(site.sessions.enter_card("04ab", None).await, Ok(id("E1")));
    assert_eq!(site.sessions.view().borrow()[&id("E1")].user.as_deref(), Some("Ann"));
    assert_eq!(site.sessions.restrictions().borrow().get(&id("E1")), None);
    assert!(site.sessions.is_user("1111", &id("E1")) && !site.sessions.is_user("1111", &id("E2")));
    let change = OverrideChange { max_ma: Some(Some(8_000)), ..OverrideChange::default() };
    site.sessions.override_device(&id("E1"), change).await.unwrap();
    assert_eq!(site.sessions.restrictions().borrow()[&id("E1")].max_ma, Some(8_000));
    assert!(site.sessions.override_device(&id("E7"), change).await.is_err());
    // The wallbox cannot do what the card asks for; that is logged and stops nobody.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*site.told.0.lock().unwrap(), [(id("E1"), Command::Phases(1))]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_program_writes_what_was_counted() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path(), "");
    site.say(Connector::Charging, 1_000.0);
    site.seen(|view| view[&id("E1")].plugged).await;
    site.say(Connector::Charging, 1_007.5);
    site.sessions.shutdown().await;
    assert_eq!(site.written(|_| true).await[0].energy_wh, 7.5);
    let error = site.sessions.enter_card("1", Some(&id("E1"))).await.unwrap_err().to_string();
    assert_eq!(error, "the host is stopping");
    drop(site);
    let site = Site::start(folder.path(), "");
    assert!(site.sessions.view().borrow()[&id("E1")].plugged);
    site.say(Connector::Available, 1_010.0);
    let found = site.written(|found| found[0].end.is_some()).await;
    assert_eq!((found.len(), found[0].energy_wh), (1, 10.0));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_delays_nobody_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path(), "");
    site.say(Connector::Connected, 1_000.0);
    site.written(|found| found.len() == 1).await;
    let disk = rusqlite::Connection::open(folder.path().join("ladekern.db")).unwrap();
    disk.busy_timeout(Duration::from_secs(5)).unwrap();
    disk.execute_batch("ALTER TABLE transactions RENAME TO gone").unwrap();
    for n in 0..20_u32 {
        let wh = 1_000.0 + 5.0 * f64::from(n);
        site.say(Connector::Available, wh);
        site.seen(|view| !view[&id("E1")].plugged).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        site.say(Connector::Charging, wh);
        site.seen(|view| view[&id("E1")].plugged).await;
    }
    disk.execute_batch("ALTER TABLE gone RENAME TO transactions").unwrap();
    let found = site.written(|found| found.len() == 21).await;
    assert!(found[..20].iter().all(|found| found.end.is_some()) && found[20].end.is_none());
    let numbers: i64 = disk.query_row("SELECT seq FROM transaction_seq", [], |row| row.get(0)).unwrap();
    assert_eq!(numbers, 41, "one for each beginning and end");
}
