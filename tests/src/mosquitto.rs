//! A Mosquitto of our own: free port, temporary folder, ended with the test.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{SOON, free_port};

/// A running broker.
pub struct Mosquitto {
    port: u16,
    child: Child,
    // Holds the configuration file until the broker is gone.
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts a broker that lets everybody in.
    ///
    /// # Panics
    /// If Mosquitto is not installed or does not come up; the message says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::start_on(free_port())
    }

    /// Starts a broker on a given port, for tests that stop one and start another in its place.
    ///
    /// # Panics
    /// As [`Mosquitto::start`].
    #[must_use]
    #[expect(clippy::expect_used, clippy::panic, reason = "a broker that does not start is a failed test")]
    pub fn start_on(port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("mosquitto.conf");
        // Started as root it would drop its rights and could no longer read files of the test.
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nuser root\nmax_queued_messages 0\n"
        );
        std::fs::write(&file, config).expect("the temporary folder can be written");
        let program = program();
        let child = Command::new(&program)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {} ({error}): apt-get install mosquitto", program.display()));
        let broker = Self { port, child, _folder: folder };
        let deadline = Instant::now() + SOON;
        while TcpStream::connect_timeout(&broker.addr(), Duration::from_secs(1)).is_err() {
            assert!(Instant::now() < deadline, "Mosquitto does not listen on {}", broker.addr());
            std::thread::yield_now();
        }
        broker
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// As a broker URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian installs daemons into /usr/sbin, which is not on every user's path.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join("mosquitto"))
        .find(|program| program.is_file())
        .unwrap_or_else(|| "mosquitto".into())
}
