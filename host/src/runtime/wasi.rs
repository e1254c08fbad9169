//! The compatibility profile: WASI with nothing in it. No files, no environment, no arguments, no sockets; what the
//! guest prints goes to its log; clocks and random numbers are real.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::limits::LOG_LINE;
use crate::capability::PluginLog;

pub(crate) fn empty_context(log: &Arc<PluginLog>) -> WasiCtx {
    let stream = |level| Lines { log: log.clone(), level, partial: Arc::default() };
    WasiCtx::builder().stdout(stream(tracing::Level::INFO)).stderr(stream(tracing::Level::WARN)).build()
}

/// Standard output or error: each line becomes a log line.
#[derive(Clone)]
struct Lines {
    log: Arc<PluginLog>,
    level: tracing::Level,
    /// The line that has no end yet.
    partial: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    fn take_in(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            if *byte != b'\n' {
                partial.push(*byte);
            }
            if *byte == b'\n' || partial.len() >= LOG_LINE {
                self.log.write(self.level, &String::from_utf8_lossy(&partial), &[]);
                partial.clear();
            }
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take_in(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::LogLine;
    use crate::site::Clock;

    #[tokio::test]
    async fn what_is_printed_becomes_log_lines() {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = lines.clone();
        let tap = Arc::new(move |line: &LogLine| seen.lock().unwrap().push(line.message.clone()));
        let log = PluginLog::new("E1".parse().unwrap(), "acme".into(), Clock::start(), 20, Some(tap));
        let stdout = Lines { log: Arc::new(log), level: tracing::Level::INFO, partial: Arc::default() };
        // Two streams of one standard output write to the same line.
        let (mut one, mut two) = (Pin::from(stdout.async_stream()), Pin::from(stdout.async_stream()));
        let write = |stream: &mut Pin<Box<dyn AsyncWrite + Send + Sync>>, text: &str| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            assert!(matches!(stream.as_mut().poll_write(&mut context, text.as_bytes()), Poll::Ready(Ok(_))));
        };
        write(&mut one, "hel");
        write(&mut two, "lo\nwor");
        assert_eq!(*lines.lock().unwrap(), ["hello"]);
        write(&mut one, &"l".repeat(LOG_LINE));
        assert_eq!(lines.lock().unwrap().len(), 2);
        assert!(lines.lock().unwrap()[1].starts_with("worlll"));
    }
}
