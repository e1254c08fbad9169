//! The system's log on `log` (contract A7, rule B14). Never speaks about its own broker and rarely at all, because what
//! it says would be published too; what comes too fast is dropped and counted.

use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::to_json;
use crate::logging::{Entries, Entry};
use crate::transport::{BrokerState, MqttConnection, Qos};

/// Entries per second in the long run, and how many may come at once.
const PER_SECOND: u32 = 50;
const AT_ONCE: u32 = 100;

/// After so much silence the count of dropped entries is told, though nothing follows.
const CALM: Duration = Duration::from_secs(1);
/// How long the last entries may take when the host stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Parts that speak whenever something is published.
const PUBLISHERS: [&str; 5] = ["ladekern::contract::mqtt::log", "rumqttc", "mqtt5", "mio", "tokio"];
/// Speaks about connections, ours among them.
const CONNECTIONS: &str = "ladekern::transport::mqtt";

/// A running log at one broker.
pub(super) struct LogLink {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl LogLink {
    pub fn start(entries: Entries, connection: MqttConnection, topic: String) -> Self {
        let (stop, stopped) = watch::channel(false);
        let log = Log { entries, connection, topic, allowance: Allowance::new(), dropped: 0 };
        Self { stop, task: tokio::spawn(log.run(stopped)) }
    }

    /// Publishes what has been written so far, and ends.
    pub async fn end(self) {
        self.stop.send_replace(true);
        // The broker may take nothing any more; what this task would say of itself nobody would hear.
        let _ = tokio::time::timeout(FAREWELL, self.task).await;
    }
}

struct Log {
    entries: Entries,
    connection: MqttConnection,
    topic: String,
    allowance: Allowance,
    /// Entries that came too fast since the last line about that.
    dropped: u64,
}

impl Log {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        let mut state = self.connection.state();
        loop {
            // While the broker is away entries wait where the oldest give way, not in its outbox.
            tokio::select! {
                _ = stopped.changed() => break,
                up = state.wait_for(|state| matches!(state, BrokerState::Connected { .. })) => if up.is_err() {
                    return;
                },
            }
            let entry = tokio::select! {
                _ = stopped.changed() => break,
                entry = self.entries.recv() => entry,
                // The flood is over and nothing follows that could carry the count.
                () = tokio::time::sleep(CALM), if self.dropped > 0 => {
                    self.tell_dropped().await;
                    continue;
                }
            };
            match entry {
                Ok(entry) => self.publish(&entry).await,
                Err(RecvError::Lagged(missed)) => self.dropped += missed,
                Err(RecvError::Closed) => return,
            }
        }
        loop {
            match self.entries.try_recv() {
                Ok(entry) => self.publish(&entry).await,
                Err(TryRecvError::Lagged(missed)) => self.dropped += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if self.dropped > 0 {
            self.tell_dropped().await;
        }
    }

    async fn publish(&mut self, entry: &Entry) {
        if is_own(entry, &self.connection) {
            return;
        }
        if !self.allowance.take() {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            self.tell_dropped().await;
        }
        send(&self.connection, &self.topic, &Line::of(entry)).await;
    }

    async fn tell_dropped(&mut self) {
        let line = dropped(std::mem::take(&mut self.dropped));
        send(&self.connection, &self.topic, &line).await;
    }
}

/// Errors are not logged: that would be one more entry.
async fn send(connection: &MqttConnection, topic: &str, line: &Line<'_>) {
    let _ = connection.publish(topic, to_json(line), Qos::AtLeastOnce, false).await;
}

/// Whether publishing this entry could bring about another one like it.
fn is_own(entry: &Entry, connection: &MqttConnection) -> bool {
    let within =
        |part: &str| entry.target.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    if PUBLISHERS.into_iter().any(within) {
        return true;
    }
    within(CONNECTIONS)
        && (entry.level > tracing::Level::INFO
            || entry.broker.as_ref().is_none_or(|broker| *broker == connection.url()))
}

/// The payload.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'static str,
    device: Option<&'a str>,
    target: &'a str,
    message: std::borrow::Cow<'a, str>,
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let level = match entry.level {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        let (device, message) = (entry.device.as_deref(), entry.message.as_str().into());
        Self { time: time(entry.time), level, device, target: entry.target, message }
    }
}

fn dropped(count: u64) -> Line<'static> {
    let message = format!("{count} log entries came too fast and were not published").into();
    Line {
        time: time(SystemTime::now()),
        level: "warn",
        device: None,
        target: "ladekern::contract::mqtt::log",
        message,
    }
}

/// RFC 3339 with milliseconds, UTC.
fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// How many entries may go out now.
struct Allowance {
    tokens: f64,
    counted: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self { tokens: f64::from(AT_ONCE), counted: Instant::now() }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let more = now.duration_since(self.counted).as_secs_f64() * f64::from(PER_SECOND);
        self.counted = now;
        self.tokens = (self.tokens + more).min(f64::from(AT_ONCE));
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b14_a_flood_is_cut_to_a_rate_and_counted() {
        let mut allowance = Allowance::new();
        let passed = (0..1_000).filter(|_| allowance.take()).count();
        assert_eq!(passed, AT_ONCE as usize);
        tokio::time::advance(Duration::from_secs(1)).await;
        let passed = (0..1_000).filter(|_| allowance.take()).count();
        assert_eq!(passed, PER_SECOND as usize);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!((0..1_000).filter(|_| allowance.take()).count(), AT_ONCE as usize, "silence is not saved up");
    }

    #[test]
    fn a7_the_shape_of_an_entry() {
        let entry = Entry {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            level: tracing::Level::WARN,
            device: Some("E1".into()),
            target: "ladekern::device",
            message: "silent".into(),
            broker: None,
        };
        assert_eq!(
            String::from_utf8(to_json(&Line::of(&entry))).unwrap(),
            "{\"time\":\"2023-11-14T22:13:20.123Z\",\"level\":\"warn\",\"device\":\"E1\",\
             \"target\":\"ladekern::device\",\"message\":\"silent\"}"
        );
    }
}
