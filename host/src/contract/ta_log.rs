//! The transaction log over MQTT (`ta_log`, contract rules B3 and B15): sends what waits in the outbox, in order, and
//! takes an event out only when the broker has acknowledged it. Keeps nothing in memory that a crash could lose.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{BrokerRef, Config};
use crate::store::{Transactions, Waiting};
use crate::transport::{MqttConnection, Transports};

use super::topics;

/// Events under way at a time.
const BATCH: u32 = 64;
/// A broker that has not acknowledged an event in this time gets it again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses after a failure of the broker or of the database.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(30);

/// The running log. Ends when dropped; what was not acknowledged is sent at the next start.
#[derive(Debug)]
pub struct TaLog {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TaLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts on the present runtime and follows the configuration. Events wait from the moment `mqtt.ta_log` is on; what
/// waits when it is switched off is kept, and sent when it is on again.
#[must_use]
pub fn spawn(
    transactions: Transactions,
    config: watch::Receiver<Arc<Config>>,
    transports: Transports,
    serial: Arc<str>,
) -> TaLog {
    let log = Log { transactions, config, transports, serial };
    TaLog { task: tokio::spawn(log.run()) }
}

struct Log {
    transactions: Transactions,
    config: watch::Receiver<Arc<Config>>,
    transports: Transports,
    serial: Arc<str>,
}

impl Log {
    /// Ends with the configuration's owner.
    async fn run(mut self) {
        loop {
            let config = Arc::clone(&self.config.borrow_and_update());
            let mqtt = &config.mqtt;
            let changed = changed(&mut self.config, |newer| newer.mqtt != *mqtt);
            let going = tokio::select! {
                going = changed => going,
                never = send_all(&self.transactions, &self.transports, &config, &self.serial) => match never {},
            };
            if !going {
                return;
            }
        }
    }
}

/// Waits for a configuration in which `matters`. `false`: there will be none.
async fn changed(config: &mut watch::Receiver<Arc<Config>>, matters: impl Fn(&Config) -> bool) -> bool {
    loop {
        if config.changed().await.is_err() {
            return false;
        }
        if matters(&config.borrow_and_update()) {
            return true;
        }
    }
}

/// Sends to the broker of this configuration for as long as it is in force.
async fn send_all(
    transactions: &Transactions,
    transports: &Transports,
    config: &Config,
    serial: &str,
) -> std::convert::Infallible {
    let broker = &config.mqtt.ta_log;
    if *broker == BrokerRef::Off {
        return std::future::pending().await;
    }
    let url = match transports.resolve(broker) {
        Ok(url) => url,
        Err(error) => {
            tracing::error!("mqtt.ta_log: {error}");
            return std::future::pending().await;
        }
    };
    let connection = transports.mqtt(&url);
    let topic = format!("{}/ta_log", topics::prefix(&config.mqtt, serial));
    let mut queued = transactions.queued();
    // After the first failure the pause until the next try.
    let mut failing: Option<Duration> = None;
    loop {
        queued.borrow_and_update();
        match send_some(transactions, &connection, &topic).await {
            Ok(sent) => {
                if failing.take().is_some() {
                    tracing::info!(broker = %connection.url(), "the transaction log is sent again; nothing was lost");
                }
                // Fails only if the store is gone, and it is ours.
                if sent == 0 && queued.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
            Err(error) => {
                // Once for each outage: the connection itself says when it is away.
                if failing.is_none() {
                    let broker = connection.url();
                    tracing::warn!(%broker, "the transaction log waits on the disk, tried again: {error}");
                }
                let pause = failing.unwrap_or(*RETRY.start());
                tokio::time::sleep(pause).await;
                failing = Some((pause * 2).min(*RETRY.end()));
            }
        }
    }
}

/// Sends the oldest events and takes out what was acknowledged. How many that were.
async fn send_some(transactions: &Transactions, connection: &MqttConnection, topic: &str) -> Result<usize, String> {
    let waiting = transactions.waiting(BATCH).await?;
    // Queued in this order, and by one connection sent in this order.
    let sent: Vec<_> = waiting
        .into_iter()
        .map(|Waiting { seq, payload }| (seq, connection.publish_acknowledged(topic, payload, false)))
        .collect();
    let mut done = 0;
    let mut last = None;
    let mut failure = None;
    for (seq, acknowledged) in sent {
        match tokio::time::timeout(PATIENCE, acknowledged).await {
            Ok(Ok(())) => (done, last) = (done + 1, Some(seq)),
            // What follows is sent again as well, so that the order stays.
            Ok(Err(error)) => failure = Some(error.to_string()),
            Err(_) => failure = Some(format!("no acknowledgement within {} s", PATIENCE.as_secs())),
        }
        if failure.is_some() {
            break;
        }
    }
    if let Some(seq) = last {
        transactions.acknowledged(seq).await?;
    }
    failure.map_or(Ok(done), Err)
}
