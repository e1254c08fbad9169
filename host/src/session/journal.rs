//! What waits to be written: one commit at a time with all that has come together, tried again while the disk fails.
//! Nobody waits for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::store::{Change, Transactions};

/// Changes that wait at most while the disk fails: some thousand transactions.
const MOST: usize = 20_000;
/// Pauses between two tries.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30);

/// The queue and the commit that is under way.
pub struct Journal {
    transactions: Transactions,
    waiting: VecDeque<Change>,
    writing: Option<Writing>,
    retry: Option<(Instant, Duration)>,
}

struct Writing {
    changes: Arc<Vec<Change>>,
    task: JoinHandle<Result<(), String>>,
}

impl Journal {
    pub fn new(transactions: Transactions) -> Self {
        Self { transactions, waiting: VecDeque::new(), writing: None, retry: None }
    }

    /// Adds what is to be written, in this order. A newer state of a wallbox takes the place of an older one that
    /// still waits: all that waits is one commit.
    pub fn push(&mut self, changes: Vec<Change>) {
        for change in changes {
            match &change {
                Change::Progress(newer) => {
                    self.waiting.retain(|old| !matches!(old, Change::Progress(old) if old.device == newer.device));
                }
                Change::Wallbox(newer, _) => {
                    self.waiting.retain(|old| !matches!(old, Change::Wallbox(old, _) if old == newer));
                }
                Change::Begin(_) | Change::End(_) => {}
            }
            self.waiting.push_back(change);
        }
        while self.waiting.len() > MOST {
            let lost = self.waiting.pop_front();
            tracing::error!("the disk has failed for so long that a transaction is lost: {lost:?}");
        }
    }

    /// Begins the next commit if nothing is being written. `queue`: its events go to a broker too.
    pub fn start(&mut self, queue: bool) {
        let pausing = self.retry.is_some_and(|(at, _)| Instant::now() < at);
        if self.writing.is_some() || self.waiting.is_empty() || pausing {
            return;
        }
        let changes = Arc::new(Vec::from(std::mem::take(&mut self.waiting)));
        let (transactions, written) = (self.transactions.clone(), Arc::clone(&changes));
        let task = tokio::spawn(async move { transactions.write(written, queue).await });
        self.writing = Some(Writing { changes, task });
    }

    /// Waits until there may be something to begin: a commit has ended or a pause is over. Never if nothing is under
    /// way. Cancel-safe.
    pub async fn progress(&mut self) {
        match (&mut self.writing, self.retry) {
            (Some(writing), _) => {
                let result = (&mut writing.task).await.unwrap_or_else(|error| Err(error.to_string()));
                let changes = self.writing.take().map(|writing| writing.changes);
                self.ended(result, changes);
            }
            (None, Some((at, _))) if !self.waiting.is_empty() => {
                tokio::time::sleep_until(at).await;
            }
            _ => std::future::pending().await,
        }
    }

    fn ended(&mut self, result: Result<(), String>, changes: Option<Arc<Vec<Change>>>) {
        match result {
            Ok(()) => {
                if self.retry.take().is_some() {
                    tracing::info!("transactions are written again; nothing was lost");
                }
            }
            Err(error) => {
                let pause = self.retry.map_or(*RETRY.start(), |(_, pause)| (pause * 2).min(*RETRY.end()));
                let seconds = pause.as_secs();
                tracing::error!("transactions cannot be written, tried again in {seconds} s: {error}");
                self.retry = Some((Instant::now() + pause, pause));
                // Back to the front, and what came meanwhile behind it.
                let meanwhile = std::mem::take(&mut self.waiting);
                self.waiting = changes.map(|changes| VecDeque::from(changes.to_vec())).unwrap_or_default();
                self.push(meanwhile.into());
            }
        }
    }

    /// Writes what waits before the end, without pauses.
    pub async fn flush(&mut self, queue: bool) {
        for _ in 0..3 {
            if self.writing.is_some() {
                self.progress().await;
            }
            if self.waiting.is_empty() {
                return;
            }
            if let Some((at, _)) = &mut self.retry {
                *at = Instant::now();
            }
            self.start(queue);
        }
        if self.writing.is_some() {
            self.progress().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::DeviceId;
    use crate::store::Record;

    fn record(device: &str, energy_wh: f64) -> Record {
        Record {
            device: device.parse().unwrap(),
            name: String::new(),
            start_s: 1,
            end_s: None,
            energy_wh,
            meter_start_wh: None,
            meter_end_wh: None,
            rfid: None,
            user_id: None,
            reason: None,
        }
    }

    fn state(device: &str, text: &str) -> Change {
        Change::Wallbox(device.parse::<DeviceId>().unwrap(), text.into())
    }

    #[tokio::test]
    async fn what_waits_is_the_newest_of_each_wallbox_and_every_event_in_order() {
        let mut journal = Journal::new(Transactions::in_memory().unwrap());
        let end = Change::End(record("E1", 5.0));
        journal.push(vec![Change::Progress(record("E1", 1.0)), state("E1", "a"), state("E2", "b")]);
        journal.push(vec![end.clone(), Change::Begin(record("E1", 0.0)), state("E1", "c")]);
        journal.push(vec![Change::Progress(record("E1", 2.0)), state("E1", "d")]);
        let begin = Change::Begin(record("E1", 0.0));
        let newest = [state("E2", "b"), end, begin, Change::Progress(record("E1", 2.0)), state("E1", "d")];
        assert_eq!(Vec::from(journal.waiting.clone()), newest);
        journal.flush(true).await;
        assert!(journal.waiting.is_empty() && journal.writing.is_none());
        assert_eq!(journal.transactions.waiting(9).await.unwrap().len(), 3);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_the_oldest_goes_first() {
        let mut journal = Journal::new(Transactions::in_memory().unwrap());
        journal.push(vec![Change::End(record("E7", 1.0))]);
        journal.push(vec![Change::End(record("E1", 1.0)); MOST]);
        assert_eq!(journal.waiting.len(), MOST);
        assert!(!journal.waiting.contains(&Change::End(record("E7", 1.0))));
    }
}
