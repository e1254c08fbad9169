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

use std::fmt::Debug;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test waits for something that should happen at once. Generous, because two cores may be busy.
pub const SOON: Duration = Duration::from_secs(20);

/// How often [`until`] looks.
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until what it sees is as wanted, and returns that. For what tells nobody when it changes.
///
/// # Panics
/// If it is not within [`SOON`]; says what was seen last.
#[expect(clippy::panic, reason = "what does not come is a failed test")]
pub async fn until<T: Debug>(what: &str, mut look: impl AsyncFnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let mut last = None;
    let looking = async {
        loop {
            let seen = look().await;
            if wanted(&seen) {
                return seen;
            }
            last = Some(seen);
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(SOON, looking).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}, but {last:#?}"))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_was_wanted() {
        let mut looks = 0;
        let look = async || {
            looks += 1;
            looks
        };
        assert_eq!(until("three looks", look, |looks| *looks == 3).await, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "a second: not within 20s, but Some(\n    1,\n)")]
    async fn who_waits_in_vain_learns_what_was_there_instead() {
        until("a second", async || 1, |seen| *seen == 2).await;
    }
}
