//! A Mosquitto of our own: free port, temporary folder, ended with the test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::authority::Identity;
use crate::{SOON, free_port};

/// How a broker is set up. The default lets everybody in.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The loopback address to listen on.
    pub address: IpAddr,
    /// Speaks TLS with this certificate.
    pub tls: Option<Identity>,
    /// PEM of the authority that clients must show a certificate of.
    pub client_authority: Option<String>,
    /// User names and passwords; if there are any, nobody else is let in.
    pub users: Vec<(String, String)>,
    /// What users may do, in the form of Mosquitto's `acl_file`.
    pub acl: Option<String>,
}

impl Default for Setup {
    fn default() -> Self {
        let address = Ipv4Addr::LOCALHOST.into();
        Self { address, tls: None, client_authority: None, users: Vec::new(), acl: None }
    }
}

/// A running broker.
pub struct Mosquitto {
    address: SocketAddr,
    child: Child,
    // Holds the configuration file until the broker is gone.
    folder: tempfile::TempDir,
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
    pub fn start_on(port: u16) -> Self {
        Self::launch(port, &Setup::default())
    }

    /// Starts a broker with TLS, passwords or rules of access.
    ///
    /// # Panics
    /// As [`Mosquitto::start`].
    #[must_use]
    pub fn with(setup: &Setup) -> Self {
        Self::launch(free_port(), setup)
    }

    #[expect(clippy::expect_used, reason = "a broker that does not start is a failed test")]
    fn launch(port: u16, setup: &Setup) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("mosquitto.conf");
        let config = configuration(folder.path(), port, setup);
        std::fs::write(&file, config).expect("the temporary folder can be written");
        let address = SocketAddr::new(setup.address, port);
        let child = spawn(folder.path());
        let broker = Self { address, child, folder };
        broker.wait();
        broker
    }

    fn wait(&self) {
        let deadline = Instant::now() + SOON;
        while TcpStream::connect_timeout(&self.addr(), Duration::from_secs(1)).is_err() {
            assert!(Instant::now() < deadline, "Mosquitto does not listen on {}", self.addr());
            std::thread::yield_now();
        }
    }

    /// Ends the broker without a farewell to its clients.
    pub fn stop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`Mosquitto::stop`], as it was.
    ///
    /// # Panics
    /// As [`Mosquitto::start`].
    pub fn start_again(&mut self) {
        self.child = spawn(self.folder.path());
        self.wait();
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// As a broker URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

#[expect(clippy::expect_used, reason = "a broker that cannot be set up is a failed test")]
fn configuration(folder: &Path, port: u16, setup: &Setup) -> String {
    use std::fmt::Write as _;
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("the temporary folder can be written");
        file.display().to_string()
    };
    // Started as root it would drop its rights and could no longer read files of the test. Without a limit of queued
    // messages (0) version 2.0 disconnects who publishes what is forbidden, so the limit is only high.
    let mut text = String::from("persistence false\nuser root\nmax_queued_messages 1000000\n");
    let anonymous = setup.users.is_empty();
    let mut line = |key: &str, value: &str| writeln!(text, "{key} {value}").expect("a text takes more text");
    line("allow_anonymous", if anonymous { "true" } else { "false" });
    if !anonymous {
        let file = write("passwords", "");
        for (user, password) in &setup.users {
            let done = Command::new("mosquitto_passwd").args(["-b", file.as_str(), user, password]).output();
            let done = done.expect("mosquitto_passwd runs: apt-get install mosquitto");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        line("password_file", &file);
    }
    if let Some(acl) = &setup.acl {
        line("acl_file", &write("acl", acl));
    }
    line("listener", &format!("{port} {}", setup.address));
    if let Some(identity) = &setup.tls {
        line("certfile", &write("cert.pem", &identity.certificate));
        line("keyfile", &write("key.pem", &identity.key));
    }
    if let Some(authority) = &setup.client_authority {
        line("cafile", &write("clients.pem", authority));
        line("require_certificate", "true");
    }
    text
}

#[expect(clippy::panic, reason = "a broker that does not start is a failed test")]
fn spawn(folder: &Path) -> Child {
    let program = program();
    Command::new(&program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {} ({error}): apt-get install mosquitto", program.display()))
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.stop();
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
