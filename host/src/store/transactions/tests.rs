//! The store of transactions: order, numbers without gaps, the outbox, and what a failed write leaves behind.

use proptest::prelude::*;
use rusqlite::params;

use super::*;

fn record(device: &str, start_s: u64) -> Record {
    Record {
        device: device.parse().unwrap(),
        name: "Carport".into(),
        start_s,
        end_s: None,
        energy_wh: 0.0,
        meter_start_wh: Some(1_000.0),
        meter_end_wh: Some(1_000.0),
        rfid: None,
        user_id: None,
        reason: None,
    }
}

fn ended(device: &str, start_s: u64, energy_wh: f64) -> Record {
    Record {
        end_s: Some(start_s + 60),
        energy_wh,
        meter_end_wh: Some(1_000.0 + energy_wh),
        rfid: Some("04AB".into()),
        user_id: Some("1111".into()),
        reason: Some("unplugged".into()),
        ..record(device, start_s)
    }
}

async fn write(store: &Transactions, changes: Vec<Change>) {
    store.write(Arc::new(changes), true).await.unwrap();
}

async fn all(store: &Transactions) -> Vec<Transaction> {
    store.list(&TransactionFilter::default()).await.unwrap()
}

fn json(waiting: &Waiting) -> serde_json::Value {
    serde_json::from_str(&waiting.payload).unwrap()
}

/// The numbers of all events, as they stand with the transactions.
fn numbers(store: &Transactions) -> Vec<i64> {
    let connection = store.connection.lock().unwrap();
    let get = "SELECT begin_seq FROM transactions UNION SELECT end_seq FROM transactions WHERE end_seq IS NOT NULL
               ORDER BY 1";
    let mut statement = connection.prepare(get).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn b15_events_have_exactly_these_members() {
    let store = Transactions::in_memory().unwrap();
    write(&store, vec![Change::Begin(record("E1", 1_800_000_000))]).await;
    write(&store, vec![Change::End(ended("E1", 1_800_000_000, 12.5))]).await;
    let waiting = store.waiting(10).await.unwrap();
    assert_eq!(
        json(&waiting[0]),
        serde_json::json!({
            "event": "begin", "seq": 1, "id": 1, "dev_id": "E1", "name": "Carport", "start": "2027-01-15T08:00:00Z",
            "end": null, "energy_wh": 0.0, "meter_start_wh": 1000.0, "meter_end_wh": 1000.0, "rfid": null,
            "user_id": null, "reason": null
        })
    );
    assert_eq!(
        json(&waiting[1]),
        serde_json::json!({
            "event": "end", "seq": 2, "id": 1, "dev_id": "E1", "name": "Carport", "start": "2027-01-15T08:00:00Z",
            "end": "2027-01-15T08:01:00Z", "energy_wh": 12.5, "meter_start_wh": 1000.0, "meter_end_wh": 1012.5,
            "rfid": "04AB", "user_id": "1111", "reason": "unplugged"
        })
    );
}

#[tokio::test]
async fn b3_an_event_waits_on_the_disk_until_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store = Transactions::open(folder.path()).unwrap();
    let mut queued = store.queued();
    queued.borrow_and_update();
    for n in 0..3 {
        let start = 1_800_000_000 + n * 100;
        write(&store, vec![Change::Begin(record("E1", start)), Change::End(ended("E1", start, 1.0))]).await;
    }
    assert!(queued.has_changed().unwrap());
    let seqs = |waiting: Vec<Waiting>| waiting.iter().map(|waiting| waiting.seq).collect::<Vec<_>>();
    assert_eq!(seqs(store.waiting(4).await.unwrap()), [1, 2, 3, 4]);
    store.acknowledged(2).await.unwrap();
    drop(store);
    let store = Transactions::open(folder.path()).unwrap();
    assert_eq!(*store.queued().borrow(), 6, "whoever sends them knows at once that there is something");
    assert_eq!(seqs(store.waiting(100).await.unwrap()), [3, 4, 5, 6]);
    store.acknowledged(6).await.unwrap();
    // Numbers go on when all are gone, and what is not for a broker has its number too.
    store.write(Arc::new(vec![Change::Begin(record("E1", 1_800_001_000))]), false).await.unwrap();
    assert!(store.waiting(100).await.unwrap().is_empty());
    write(&store, vec![Change::End(ended("E1", 1_800_001_000, 1.0))]).await;
    assert_eq!(seqs(store.waiting(100).await.unwrap()), [8]);
    assert_eq!(numbers(&store), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_list_is_filtered_and_holds_the_running_ones() {
    let store = Transactions::in_memory().unwrap();
    for (device, start) in [("E1", 100), ("E2", 200), ("E1", 300)] {
        write(&store, vec![Change::Begin(record(device, start)), Change::End(ended(device, start, 5.0))]).await;
    }
    let running = Record { energy_wh: 7.5, ..record("E2", 400) };
    write(&store, vec![Change::Begin(record("E2", 400)), Change::Progress(running)]).await;
    let found = all(&store).await;
    assert_eq!(found.iter().map(|found| found.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((found[3].end.clone(), found[3].energy_wh), (None, 7.5));
    assert_eq!(found[0].end.as_deref(), Some("1970-01-01T00:02:40Z"));
    assert!(!format!("{found:?}").contains("04AB") && !format!("{found:?}").contains("1111"));
    let ids = async |filter: TransactionFilter| {
        store.list(&filter).await.unwrap().iter().map(|found| found.id).collect::<Vec<_>>()
    };
    let filter = TransactionFilter::default();
    assert_eq!(ids(TransactionFilter { device: "E1".parse().ok(), ..filter.clone() }).await, [1, 3]);
    assert_eq!(ids(TransactionFilter { from: Some(200), to: Some(400), ..filter.clone() }).await, [2, 3]);
    assert_eq!(ids(TransactionFilter { after: Some(2), limit: Some(1), ..filter.clone() }).await, [3]);
    assert_eq!(ids(TransactionFilter { from: Some(u64::MAX), ..filter }).await, [0_u64; 0]);
}

#[tokio::test]
async fn all_of_a_write_or_nothing_of_it() {
    let store = Transactions::in_memory().unwrap();
    write(&store, vec![Change::Begin(record("E1", 100))]).await;
    // A disk that fails half way: the second table of the commit is gone.
    store.connection.lock().unwrap().execute_batch("ALTER TABLE wallboxes RENAME TO gone").unwrap();
    let changes = Arc::new(vec![
        Change::End(ended("E1", 100, 3.0)),
        Change::Begin(record("E1", 200)),
        Change::Wallbox("E1".parse().unwrap(), "{}".into()),
    ]);
    store.write(Arc::clone(&changes), true).await.unwrap_err();
    assert_eq!((all(&store).await.len(), numbers(&store)), (1, vec![1]));
    store.connection.lock().unwrap().execute_batch("ALTER TABLE gone RENAME TO wallboxes").unwrap();
    store.write(changes, true).await.unwrap();
    assert_eq!((all(&store).await.len(), numbers(&store)), (2, vec![1, 2, 3]));
    assert_eq!(store.wallboxes().unwrap(), [("E1".to_owned(), "{}".to_owned())]);
}

#[tokio::test]
async fn a_lost_beginning_is_made_up_for_and_a_second_one_ends_the_first() {
    let store = Transactions::in_memory().unwrap();
    write(&store, vec![Change::End(ended("E1", 100, 3.0))]).await;
    write(&store, vec![Change::Begin(record("E1", 200)), Change::Begin(record("E1", 300))]).await;
    let found = all(&store).await;
    assert_eq!(found.len(), 3);
    assert_eq!(found[1].reason.as_deref(), Some("followed by another one"));
    assert_eq!(found[2].end, None);
    let events: Vec<String> = store.waiting(10).await.unwrap().iter().map(|w| json(w)["event"].to_string()).collect();
    assert_eq!(events, ["\"begin\"", "\"end\"", "\"begin\"", "\"end\"", "\"begin\""]);
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Transactions::open(folder.path()).unwrap());
    let raw = Connection::open(folder.path().join("ladekern.db")).unwrap();
    raw.execute("UPDATE schema_version SET version = ?1 WHERE module = 'transactions'", params![2]).unwrap();
    let error = Transactions::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("newer version") && error.contains("ladekern.db"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes in whatever order, in commits of any size, some of which fail and come again.
    #[test]
    fn numbers_have_no_gap(
        steps in prop::collection::vec((0..4_u8, 0..3_usize, any::<bool>()), 1..60),
        size in 1..9_usize,
        fails in prop::collection::vec(any::<bool>(), 60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Transactions::in_memory().unwrap();
        let mut queued = Vec::new();
        let mut seq = 0;
        for (number, (chunk, fails)) in steps.chunks(size).zip(fails).enumerate() {
            let changes: Vec<Change> = chunk.iter().zip(0_u64..).map(|((kind, device, _), n)| {
                let device = ["E1", "E2", "E3"][*device];
                let start = number as u64 * 1_000 + n;
                match kind {
                    0 => Change::Begin(record(device, start)),
                    1 => Change::Progress(ended(device, start, 1.0)),
                    2 => Change::End(ended(device, start, 2.0)),
                    _ => Change::Wallbox(device.parse().unwrap(), "{}".into()),
                }
            }).collect();
            let changes = Arc::new(changes);
            let queue = chunk[0].2;
            if fails {
                let sql = |sql: &str| store.connection.lock().unwrap().execute_batch(sql).unwrap();
                sql("ALTER TABLE transaction_seq RENAME TO gone");
                // Only what needs no number can be written then.
                let needs = runtime.block_on(store.write(Arc::clone(&changes), queue)).is_err();
                sql("ALTER TABLE gone RENAME TO transaction_seq");
                if needs {
                    runtime.block_on(store.write(changes, queue)).unwrap();
                }
            } else {
                runtime.block_on(store.write(changes, queue)).unwrap();
            }
            let now = numbers(&store).last().copied().unwrap_or(0);
            if queue {
                queued.extend(seq + 1..=now);
            }
            seq = now;
        }
        let found = numbers(&store);
        prop_assert_eq!(&found, &(1..=found.len() as i64).collect::<Vec<_>>());
        let waiting = runtime.block_on(store.waiting(1_000)).unwrap();
        let waiting: Vec<i64> = waiting.iter().map(|waiting| waiting.seq as i64).collect();
        prop_assert_eq!(waiting, queued);
        let ids: Vec<u64> = runtime.block_on(all(&store)).iter().map(|found| found.id).collect();
        prop_assert_eq!(&ids, &(1..=ids.len() as u64).collect::<Vec<_>>());
    }
}
