//! What the end-to-end tests share: a real Mosquitto, the real daemon as a process, a client that waits for what it
//! wants to see. Every wait has a deadline and says at its end what was seen instead.

pub mod authority;
pub mod bad_broker;
pub mod daemon;
pub mod expect;
pub mod guests;
pub mod http;
pub mod mosquitto;
pub mod mqtt;
pub mod rig;
pub mod site;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test waits for something that should happen at once. Generous, because two cores may be busy.
pub const SOON: Duration = Duration::from_secs(20);

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The folder with built plugins and guests.
///
/// # Panics
/// If `cargo xtask build-plugins` has not run.
#[must_use]
#[expect(clippy::panic, reason = "a missing build is a failed test")]
pub fn dist() -> PathBuf {
    let dist = std::env::var_os("LADEKERN_DIST").map_or_else(|| root().join("dist"), PathBuf::from);
    if !dist.join("plugins").is_dir() {
        panic!("{} has no plugins: run `cargo xtask build-plugins`", dist.display());
    }
    dist
}

/// A TCP port on loopback that nobody listened on a moment ago.
///
/// # Panics
/// If loopback has no free port.
#[must_use]
#[expect(clippy::expect_used, reason = "without a port there is no test")]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
    listener.local_addr().expect("a bound listener has an address").port()
}
