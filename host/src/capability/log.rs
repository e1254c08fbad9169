//! `ladekern:host/log`: what a guest says becomes a `tracing` event with its device and plugin. Long lines are
//! cut, floods are dropped and counted; a guest can fill no disk.

use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::Guest;
use crate::runtime::bindings::ladekern::host::log::{Host, Level};
use crate::runtime::limits::{LOG_BURST_SECONDS, LOG_LINE};
use crate::site::{Clock, DeviceId, Moment};

/// One line of a guest, cut to its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The device the instance serves.
    pub device: DeviceId,
    /// The plugin's id.
    pub plugin: Arc<str>,
    /// How serious.
    pub level: tracing::Level,
    /// The text, fields appended as `key=value`.
    pub message: String,
}

/// Sees every line that was not dropped, beside the host's own log.
pub type LogTap = Arc<dyn Fn(&LogLine) + Send + Sync>;

/// The log of one instance.
pub(crate) struct PluginLog {
    device: DeviceId,
    plugin: Arc<str>,
    clock: Clock,
    /// Lines per second.
    rate: u32,
    tap: Option<LogTap>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Thousandths of a line that may still come now.
    tokens: u64,
    filled: Moment,
    dropped: u64,
    /// Of `dropped`, those already reported.
    reported: u64,
    report_at: Moment,
    last_error: Option<String>,
}

impl PluginLog {
    pub(crate) fn new(device: DeviceId, plugin: Arc<str>, clock: Clock, rate: u32, tap: Option<LogTap>) -> Self {
        let inner = Inner {
            tokens: Self::burst(rate),
            filled: clock.now(),
            dropped: 0,
            reported: 0,
            report_at: Moment::default(),
            last_error: None,
        };
        Self { device, plugin, clock, rate, tap, inner: Mutex::new(inner) }
    }

    fn burst(rate: u32) -> u64 {
        u64::from(rate) * u64::from(LOG_BURST_SECONDS) * 1000
    }

    /// A line of the guest.
    pub(crate) fn write(&self, level: tracing::Level, message: &str, fields: &[(String, String)]) {
        let line = render(message, fields);
        if self.admit(level, &line) {
            self.emit(level, line);
        }
    }

    /// A line of the host about what the guest did. Counts as one of the guest's: it may cause them at will.
    pub(crate) fn note(&self, message: &str) {
        self.write(tracing::Level::WARN, message, &[]);
    }

    /// Lines dropped since the instance started.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Takes the last line the guest logged as an error: after a panic that is its message.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    /// A new call begins: what was said in earlier ones explains nothing any more.
    pub(crate) fn forget_last_error(&self) {
        self.lock().last_error = None;
    }

    /// Tells how many lines were dropped, at most once a second.
    pub(crate) fn report_dropped(&self, at_once: bool) {
        let now = self.clock.now();
        let count = {
            let mut inner = self.lock();
            let count = inner.dropped - inner.reported;
            if count == 0 || (!at_once && now < inner.report_at) {
                return;
            }
            inner.reported = inner.dropped;
            inner.report_at = now.after(std::time::Duration::from_secs(1));
            count
        };
        let message = format!("{count} log lines dropped: more than {} a second (limits.log)", self.rate);
        self.emit(tracing::Level::WARN, message);
    }

    fn admit(&self, level: tracing::Level, line: &str) -> bool {
        let now = self.clock.now();
        let mut inner = self.lock();
        if level == tracing::Level::ERROR {
            inner.last_error = Some(line.to_owned());
        }
        let passed = u64::try_from(now.since(inner.filled).as_millis()).unwrap_or(u64::MAX);
        let tokens = inner.tokens.saturating_add(passed.saturating_mul(u64::from(self.rate)));
        inner.tokens = tokens.min(Self::burst(self.rate));
        inner.filled = now;
        if inner.tokens < 1000 {
            inner.dropped += 1;
            return false;
        }
        inner.tokens -= 1000;
        true
    }

    fn emit(&self, level: tracing::Level, message: String) {
        let (device, plugin) = (self.device.as_str(), &*self.plugin);
        // The level of an event is part of its call site, hence one call site per level.
        match level {
            tracing::Level::TRACE => tracing::trace!(target: "plugin", device, plugin, "{message}"),
            tracing::Level::DEBUG => tracing::debug!(target: "plugin", device, plugin, "{message}"),
            tracing::Level::INFO => tracing::info!(target: "plugin", device, plugin, "{message}"),
            tracing::Level::WARN => tracing::warn!(target: "plugin", device, plugin, "{message}"),
            tracing::Level::ERROR => tracing::error!(target: "plugin", device, plugin, "{message}"),
        }
        if let Some(tap) = &self.tap {
            tap(&LogLine { device: self.device.clone(), plugin: self.plugin.clone(), level, message });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PluginLog {
    fn drop(&mut self) {
        self.report_dropped(true);
    }
}

/// One line of at most [`LOG_LINE`] bytes without control characters: a guest must not forge further lines.
fn render(message: &str, fields: &[(String, String)]) -> String {
    let mut line = String::with_capacity(message.len().min(LOG_LINE));
    push_bounded(&mut line, message);
    for (key, value) in fields {
        for part in [" ", key, "=", value] {
            push_bounded(&mut line, part);
        }
    }
    line
}

fn push_bounded(line: &mut String, text: &str) {
    const CUT: &str = "…";
    for c in text.chars() {
        if line.len() + c.len_utf8() > LOG_LINE - CUT.len() {
            if !line.ends_with(CUT) {
                line.push_str(CUT);
            }
            return;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
}

impl Host for Guest {
    fn log(&mut self, level: Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.host_call();
        let level = match level {
            Level::Trace => tracing::Level::TRACE,
            Level::Debug => tracing::Level::DEBUG,
            Level::Info => tracing::Level::INFO,
            Level::Warn => tracing::Level::WARN,
            Level::Error => tracing::Level::ERROR,
        };
        self.log.write(level, &message, &fields);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn log(rate: u32) -> (PluginLog, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        let tap: LogTap = Arc::new(move |line| seen.lock().unwrap().push(line.message.clone()));
        (PluginLog::new("E1".parse().unwrap(), "acme".into(), Clock::start(), rate, Some(tap)), lines)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_dropped_counted_and_told() {
        let (log, lines) = log(2);
        for _ in 0..25 {
            log.write(tracing::Level::INFO, "again", &[]);
        }
        assert_eq!((lines.lock().unwrap().len(), log.dropped()), (10, 15));
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..3 {
            log.write(tracing::Level::INFO, "again", &[]);
        }
        assert_eq!((lines.lock().unwrap().len(), log.dropped()), (12, 16));
        log.report_dropped(false);
        log.report_dropped(false);
        let last = lines.lock().unwrap().last().unwrap().clone();
        assert_eq!(last, "16 log lines dropped: more than 2 a second (limits.log)");
        assert_eq!(lines.lock().unwrap().len(), 13);
    }

    #[test]
    fn lines_are_cut_and_cannot_forge_further_ones() {
        let long = render(&"ä".repeat(2000), &[("k".into(), "v".into())]);
        assert!(long.len() <= LOG_LINE && long.ends_with('…') && !long.ends_with("……"), "{}", long.len());
        assert_eq!(render("a\nERROR b", &[("k".into(), "1\r2".into())]), "a ERROR b k=1 2");
    }

    #[tokio::test]
    async fn the_last_error_is_kept_even_when_it_is_dropped() {
        let (log, _) = log(1);
        for n in 0..20 {
            log.write(tracing::Level::ERROR, &format!("panic {n}"), &[]);
        }
        assert_eq!(log.last_error().unwrap(), "panic 19");
        log.forget_last_error();
        assert_eq!(log.last_error(), None);
    }
}
