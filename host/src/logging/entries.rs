//! Every entry of the log, handed on to whoever publishes it (`mqtt.log`). Bounded: a reader that is slow loses the
//! oldest entries and is told how many.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::redact;

/// Entries that wait for a slow reader; the oldest give way and are counted.
const WAITING: usize = 512;
/// Longest message in bytes that is handed on; an error of a stranger may hold anything.
const LONGEST: usize = 4096;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was written.
    pub time: SystemTime,
    /// How bad it is.
    pub level: Level,
    /// The device it is about, if it names one.
    pub device: Option<String>,
    /// The part of the program that wrote it, `ladekern::device::task`.
    pub target: &'static str,
    /// The text with its fields, without passwords.
    pub message: String,
    /// The broker it is about, if it names one; no part of the text a second time.
    pub broker: Option<String>,
}

/// Reads entries as they are written.
pub type Entries = broadcast::Receiver<Arc<Entry>>;

/// The entries of this process. The first reader gets those since the start, too.
struct Tap {
    sender: broadcast::Sender<Arc<Entry>>,
    since_start: Mutex<Option<Entries>>,
}

static TAP: OnceLock<Tap> = OnceLock::new();

fn tap() -> &'static Tap {
    TAP.get_or_init(|| {
        let (sender, receiver) = broadcast::channel(WAITING);
        Tap { sender, since_start: Mutex::new(Some(receiver)) }
    })
}

/// Follows the log. It stays silent in a process that has not called [`super::start`].
#[must_use]
pub fn entries() -> Entries {
    let tap = tap();
    let first = tap.since_start.lock().unwrap_or_else(PoisonError::into_inner).take();
    first.unwrap_or_else(|| tap.sender.subscribe())
}

/// The layer that hands every event on that the filter lets through.
pub(super) fn layer() -> Collect {
    Collect { sender: tap().sender.clone() }
}

/// See [`layer`].
pub(super) struct Collect {
    sender: broadcast::Sender<Arc<Entry>>,
}

impl<S: Subscriber> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.sender.receiver_count() == 0 {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let Words { message, fields, device, broker } = words;
        let entry = Entry {
            time: SystemTime::now(),
            level: *event.metadata().level(),
            device,
            target: event.metadata().target(),
            message: shortened(redact(&format!("{message}{fields}")).into_owned()),
            broker,
        };
        // An error means that the last reader has just gone.
        let _ = self.sender.send(Arc::new(entry));
    }
}

/// The parts of an event: its message, `device`, and all other fields as text.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    device: Option<String>,
    broker: Option<String>,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "device" => {
                self.device = Some(format!("{value:?}"));
                Ok(())
            }
            name => {
                if name == "broker" {
                    self.broker = Some(format!("{value:?}"));
                }
                write!(self.fields, " {name}={value:?}")
            }
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        // Without the quotes of Debug.
        self.record_debug(field, &format_args!("{value}"));
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What a layer with this filter makes of `log`.
    fn collected(filter: &str, log: impl FnOnce()) -> Vec<Entry> {
        let (sender, mut entries) = broadcast::channel(100);
        let targets = Targets::from_str(filter).unwrap();
        let subscriber = tracing_subscriber::registry().with(targets).with(Collect { sender });
        tracing::subscriber::with_default(subscriber, log);
        std::iter::from_fn(|| entries.try_recv().ok()).map(|entry| Entry::clone(&entry)).collect()
    }

    #[test]
    fn a7_an_entry_holds_what_the_line_says() {
        let entries = collected("info", || {
            tracing::warn!(device = %"E1", ma = 8000, reason = "mqtt://u:geheim@h", "cannot be set");
            tracing::info!("{} started", 3);
        });
        let [one, two] = entries.as_slice() else { panic!("{entries:?}") };
        assert_eq!((one.level, one.device.as_deref()), (Level::WARN, Some("E1")));
        assert_eq!(one.message, "cannot be set ma=8000 reason=mqtt://u:***@h");
        assert_eq!(one.target, "ladekern::logging::entries::tests");
        assert_eq!((two.message.as_str(), &two.device), ("3 started", &None));
    }

    #[test]
    fn a7_the_filter_is_that_of_standard_error() {
        let entries = collected("warn,ladekern=info", || {
            tracing::debug!("ours, too fine");
            tracing::info!(target: "somebody", "not ours");
            tracing::info!("ours");
        });
        assert_eq!(entries.iter().map(|entry| entry.message.as_str()).collect::<Vec<_>>(), ["ours"]);
    }

    #[test]
    fn a_long_message_is_cut() {
        let entries = collected("info", || tracing::info!("{}", "ä".repeat(5_000)));
        assert!(entries[0].message.len() <= LONGEST + 4 && entries[0].message.ends_with("ä…"));
    }
}
