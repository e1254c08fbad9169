//! The daemon as its users start it: the built program, its output read line by line.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::SOON;

/// A running `ladekern`.
pub struct Daemon {
    child: Child,
    output: Output,
    /// Read the pipes until the process has closed them.
    readers: Vec<tokio::task::JoinHandle<()>>,
}

/// Everything the process has printed so far.
#[derive(Clone)]
struct Output {
    text: Arc<Mutex<String>>,
    grown: watch::Sender<usize>,
}

impl Daemon {
    /// Starts `ladekern` with these arguments in the root of the workspace.
    ///
    /// # Panics
    /// If the program was not built.
    #[must_use]
    pub fn start<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::start_with(args, &[])
    }

    /// The same with further environment variables.
    ///
    /// # Panics
    /// If the program was not built.
    #[must_use]
    #[expect(clippy::panic, reason = "a program that is missing is a failed test")]
    pub fn start_with<S: AsRef<std::ffi::OsStr>>(
        args: impl IntoIterator<Item = S>,
        environment: &[(&str, &str)],
    ) -> Self {
        let program = program();
        let mut child = Command::new(&program)
            .args(args)
            .envs(environment.iter().copied())
            .current_dir(crate::root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let output = Output { text: Arc::default(), grown: watch::Sender::new(0) };
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(tokio::spawn(output.clone().collect(stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(tokio::spawn(output.clone().collect(stderr)));
        }
        Self { child, output, readers }
    }

    /// Waits until a line of the output contains `words`, and returns that line.
    ///
    /// # Panics
    /// If none does in time; the message holds the whole output.
    pub async fn line_with(&self, words: &str) -> String {
        self.output.line_with(words).await
    }

    /// The address the HTTP server says that it listens on.
    ///
    /// # Panics
    /// If it does not say one in time.
    #[expect(clippy::panic, reason = "an address that does not come is a failed test")]
    pub async fn http_address(&self) -> std::net::SocketAddr {
        let line = self.line_with("http://127").await;
        let address = line.split("http://").nth(1).unwrap_or_default();
        let address = address.split(|c: char| c.is_whitespace() || c == '/').next().unwrap_or_default();
        address.parse().unwrap_or_else(|error| panic!("\"{line}\" names no address: {error}"))
    }

    /// Everything printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Asks the process to end (SIGTERM) and waits for it. Exit code and the whole output.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn stop(self) -> (Option<i32>, String) {
        if let Some(pid) = self.child.id() {
            // `kill` is there wherever these tests run; signals need unsafe code otherwise.
            let _ = Command::new("kill").arg(pid.to_string()).status().await;
        }
        self.ended(SOON).await
    }

    /// Kills the process (SIGKILL), as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// If it cannot be killed.
    #[expect(clippy::expect_used, reason = "a process that cannot be killed is a failed test")]
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child of ours");
    }

    /// Waits until the process ends by itself. Exit code and the whole output.
    ///
    /// # Panics
    /// If it does not end within `limit`.
    #[expect(clippy::panic, reason = "a process that does not end is a failed test")]
    pub async fn ended(mut self, limit: std::time::Duration) -> (Option<i32>, String) {
        let ended = async {
            let status = self.child.wait().await;
            // The process may be gone before the last lines are read.
            for reader in self.readers.drain(..) {
                let _ = reader.await;
            }
            status
        };
        match tokio::time::timeout(limit, ended).await {
            Ok(status) => (status.ok().and_then(|status| status.code()), self.output.text()),
            Err(_) => panic!("ladekern did not end within {limit:?}:\n{}", self.output.text()),
        }
    }

    /// Process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

impl Output {
    async fn collect(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
            let length = text.len();
            drop(text);
            self.grown.send_replace(length);
        }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[expect(clippy::panic, reason = "output that does not come is a failed test")]
    async fn line_with(&self, words: &str) -> String {
        let mut grown = self.grown.subscribe();
        let found = async {
            loop {
                if let Some(line) = self.text().lines().find(|line| line.contains(words)) {
                    return line.to_owned();
                }
                // The sender lives in `self`, so this waits rather than fails.
                let _ = grown.changed().await;
            }
        };
        match tokio::time::timeout(SOON, found).await {
            Ok(line) => line,
            Err(_) => panic!("no line with \"{words}\" within {SOON:?}; the output was:\n{}", self.text()),
        }
    }
}

/// The program cargo built beside this test: `target/<profile>/ladekern`.
#[must_use]
pub fn program() -> PathBuf {
    let mut dir = std::env::current_exe().unwrap_or_default();
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir.join(format!("ladekern{}", std::env::consts::EXE_SUFFIX))
}
