//! Who may do what: the admin's password, requests that need none, and what is never allowed. The whole of it for
//! people is `docs/security.md`; contract rule B24.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use argon2::password_hash::rand_core::{OsRng, RngCore as _};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::config::{HttpConfig, PasswordHash};

use super::throttle::Throttle;
use super::{cross_site, error};

/// Passwords that are checked at the same time: each takes a core for tens of milliseconds, and some megabytes.
const CHECKS: usize = 2;
/// How long a password waits for its turn.
const CHECK_TIME: Duration = Duration::from_secs(5);
/// Wrong passwords that cost an address nothing, and the longest wait for one that goes on.
const WRONG_PASSWORDS: (u32, Duration) = (5, Duration::from_secs(300));
/// The same for cards and PINs.
const WRONG_CARDS: (u32, Duration) = (20, Duration::from_secs(30));
/// The one user.
const USER: &str = "admin";

/// Why a request is refused before it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Sent by a page of somebody else.
    Foreign,
    /// No password protects, and the name in `Host` is not ours.
    Host,
    /// No or wrong credentials.
    Password,
    /// There is no password that could be given, and the listener is open to others.
    NoPassword,
    /// Too many wrong passwords from this address.
    Throttled(Duration),
    /// Too many passwords to check.
    Busy,
}

impl From<Denied> for Response {
    fn from(denied: Denied) -> Self {
        let mut response = match &denied {
            Denied::Foreign => error(StatusCode::FORBIDDEN, "requests of other web pages are not taken"),
            Denied::Host => error(
                StatusCode::FORBIDDEN,
                "this name in Host is not taken while no password protects; use the address, localhost or the machine's name, or set a password with `ladekern password`",
            ),
            Denied::Password => error(StatusCode::UNAUTHORIZED, "the admin password is needed, or is wrong"),
            Denied::NoPassword => error(
                StatusCode::UNAUTHORIZED,
                "there is no admin password, so nothing can be changed here; `ladekern password` makes the line for http.admin_password_hash",
            ),
            Denied::Throttled(_) => {
                error(StatusCode::TOO_MANY_REQUESTS, "too many wrong passwords, cards or PINs, try again later")
            }
            Denied::Busy => error(StatusCode::SERVICE_UNAVAILABLE, "too many passwords to check, try again"),
        };
        let headers = response.headers_mut();
        match denied {
            Denied::Password | Denied::NoPassword => challenge(headers),
            Denied::Throttled(wait) => retry_after(headers, wait.as_millis().div_ceil(1000)),
            Denied::Busy => retry_after(headers, 1),
            Denied::Foreign | Denied::Host => {}
        }
        response
    }
}

/// What makes a browser ask for the password.
pub(super) fn challenge(headers: &mut HeaderMap) {
    let basic = HeaderValue::from_static("Basic realm=\"Ladekern\", charset=\"UTF-8\"");
    headers.insert(header::WWW_AUTHENTICATE, basic);
}

fn retry_after(headers: &mut HeaderMap, seconds: u128) {
    if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
        headers.insert(header::RETRY_AFTER, seconds);
    }
}

/// A password that was right.
struct Known {
    /// Against this hash.
    hash: PasswordHash,
    /// A keyed digest of it.
    digest: [u8; 32],
}

/// The door.
pub(super) struct Access {
    listen: SocketAddr,
    passwords: Mutex<Throttle>,
    /// Apart from passwords and more patient: at a reader in public every passer-by shows a wrong card.
    cards: Mutex<Throttle>,
    /// Clients send the password with every request; checking it anew each time would cost more than all the rest.
    known: Mutex<Option<Known>>,
    /// Of this process alone.
    key: [u8; 32],
    checks: Arc<Semaphore>,
}

impl Access {
    pub fn new(listen: SocketAddr) -> Self {
        let mut key = [0; 32];
        OsRng.fill_bytes(&mut key);
        Self {
            listen,
            passwords: Mutex::new(Throttle::new(WRONG_PASSWORDS.0, WRONG_PASSWORDS.1)),
            cards: Mutex::new(Throttle::new(WRONG_CARDS.0, WRONG_CARDS.1)),
            known: Mutex::default(),
            key,
            checks: Arc::new(Semaphore::new(CHECKS)),
        }
    }

    /// For requests that only an admin may send.
    pub async fn admin(&self, config: &HttpConfig, headers: &HeaderMap, peer: IpAddr) -> Result<(), Denied> {
        match self.caller(config, headers, peer).await {
            Ok(true) => Ok(()),
            Ok(false) if config.admin_password.is_none() => Err(Denied::NoPassword),
            Ok(false) => Err(Denied::Password),
            Err(denied) => Err(denied),
        }
    }

    /// For requests that others may send too: whether it is the admin. Wrong credentials are refused, not ignored.
    pub async fn caller(&self, config: &HttpConfig, headers: &HeaderMap, peer: IpAddr) -> Result<bool, Denied> {
        if cross_site::is_foreign(headers) {
            return Err(Denied::Foreign);
        }
        if self.is_open(config, headers, peer) {
            let ours = cross_site::is_our_host(headers, self.listen);
            return if ours { Ok(true) } else { Err(Denied::Host) };
        }
        let (Some(hash), Some(given)) = (&config.admin_password, headers.get(header::AUTHORIZATION)) else {
            return Ok(false);
        };
        self.check(hash, given, peer).await.map(|()| true)
    }

    /// For requests that everybody may send, but no page of somebody else: whether it is the admin, as far as that
    /// is known without credentials. These are not looked at.
    pub fn anybody(&self, config: &HttpConfig, headers: &HeaderMap, peer: IpAddr) -> Result<bool, Denied> {
        if cross_site::is_foreign(headers) {
            return Err(Denied::Foreign);
        }
        if config.admin_password.is_none() && !cross_site::is_our_host(headers, self.listen) {
            return Err(Denied::Host);
        }
        Ok(self.is_open(config, headers, peer))
    }

    /// Whether an address that has shown wrong cards or PINs may show one again.
    pub fn may_show_card(&self, peer: IpAddr) -> Result<(), Denied> {
        may_try(&self.cards, peer)
    }

    /// A card or PIN that is nobody's. Right ones forgive nothing: whoever has one could guess on for ever.
    pub fn wrong_card(&self, peer: IpAddr) {
        lock(&self.cards).failed(peer);
    }

    /// Whether whoever reaches us from there is the admin without a password.
    fn is_open(&self, config: &HttpConfig, headers: &HeaderMap, peer: IpAddr) -> bool {
        let here = peer.to_canonical().is_loopback() && !cross_site::is_proxied(headers);
        let closed = config.admin_password.is_some() || !self.listen.ip().to_canonical().is_loopback();
        here && (!closed || config.localhost_is_admin)
    }

    async fn check(&self, hash: &PasswordHash, given: &HeaderValue, peer: IpAddr) -> Result<(), Denied> {
        may_try(&self.passwords, peer)?;
        // What is no Basic authentication is no guess either.
        let Some((user, password)) = basic(given) else { return Err(Denied::Password) };
        let digest = self.digest(&password);
        if user == USER && self.is_known(hash, &digest) {
            lock(&self.passwords).succeeded(peer);
            return Ok(());
        }
        let turn = tokio::time::timeout(CHECK_TIME, Arc::clone(&self.checks).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Denied::Busy) };
        // Others from this address may have failed, or succeeded, meanwhile.
        may_try(&self.passwords, peer)?;
        if user == USER && self.is_known(hash, &digest) {
            return Ok(());
        }
        let checked = hash.clone();
        // Who goes away meanwhile does not free the turn: the computing goes on.
        let checking = tokio::task::spawn_blocking(move || (crate::password::verify(&checked, &password), turn));
        // An error means that the host is ending.
        let Ok((right, _turn)) = checking.await else { return Err(Denied::Busy) };
        // A wrong user takes as long as a wrong password.
        let right = right && user == USER;
        if right {
            *lock(&self.known) = Some(Known { hash: hash.clone(), digest });
            lock(&self.passwords).succeeded(peer);
            return Ok(());
        }
        lock(&self.passwords).failed(peer);
        tracing::warn!("a wrong admin password came from {}", peer.to_canonical());
        Err(Denied::Password)
    }

    fn is_known(&self, hash: &PasswordHash, digest: &[u8; 32]) -> bool {
        lock(&self.known).as_ref().is_some_and(|known| known.hash == *hash && known.digest == *digest)
    }

    fn digest(&self, password: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.key).chain_update(password).finalize().into()
    }
}

fn may_try(throttle: &Mutex<Throttle>, peer: IpAddr) -> Result<(), Denied> {
    match lock(throttle).wait(peer) {
        Duration::ZERO => Ok(()),
        wait => Err(Denied::Throttled(wait)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// User and password of `Basic …`.
fn basic(given: &HeaderValue) -> Option<(String, String)> {
    let (scheme, coded) = given.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(BASE64.decode(coded.trim()).ok()?).ok()?;
    let (user, password) = plain.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::quick;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn http(password: Option<&str>, localhost_is_admin: bool) -> HttpConfig {
        let listen = "127.0.0.1:4712".parse().unwrap();
        HttpConfig { listen, admin_password: password.map(quick), localhost_is_admin, tls: None }
    }

    fn headers(login: Option<&str>, more: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers: HeaderMap =
            more.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect();
        if let Some(login) = login {
            let value = format!("Basic {}", BASE64.encode(login));
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    fn access(listen: &str) -> Access {
        Access::new(listen.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_password_only_a_loopback_listener_is_open() {
        let none = http(None, false);
        let (closed, open) = (access("0.0.0.0:1"), access("127.0.0.1:1"));
        let plain = headers(None, &[("host", "127.0.0.1")]);
        assert_eq!(open.admin(&none, &plain, LOOPBACK).await, Ok(()));
        assert_eq!(open.admin(&none, &headers(Some("admin:x"), &[]), LOOPBACK).await, Ok(()), "whatever is given");
        assert_eq!(closed.admin(&none, &plain, LOOPBACK).await, Err(Denied::NoPassword));
        assert_eq!(closed.admin(&none, &headers(Some("admin:"), &[]), ADDRESS).await, Err(Denied::NoPassword));
        // Told explicitly.
        assert_eq!(closed.admin(&http(None, true), &plain, LOOPBACK).await, Ok(()));
        assert_eq!(closed.admin(&http(None, true), &plain, ADDRESS).await, Err(Denied::NoPassword));
        // Names that strangers can point here.
        let rebound = headers(None, &[("host", "evil.example")]);
        assert_eq!(open.admin(&none, &rebound, LOOPBACK).await, Err(Denied::Host));
        assert_eq!(closed.admin(&http(Some("geheim"), true), &rebound, LOOPBACK).await, Err(Denied::Host));
        // Who came through a proxy is somewhere else.
        let proxied = headers(None, &[("host", "127.0.0.1"), ("x-forwarded-for", "10.9.9.9")]);
        assert_eq!(open.admin(&none, &proxied, LOOPBACK).await, Err(Denied::NoPassword));
        assert_eq!(closed.admin(&http(Some("geheim"), true), &proxied, LOOPBACK).await, Err(Denied::Password));
    }

    #[tokio::test]
    async fn the_password_opens_and_anything_else_does_not() {
        let access = access("0.0.0.0:1");
        let config = http(Some("geheim:1"), false);
        let try_ = async |login: Option<&str>, peer| access.admin(&config, &headers(login, &[]), peer).await;
        assert_eq!(try_(Some("admin:geheim:1"), ADDRESS).await, Ok(()));
        assert_eq!(try_(Some("admin:geheim:1"), LOOPBACK).await, Ok(()));
        for login in [None, Some("admin:geheim"), Some("root:geheim:1"), Some("admin:")] {
            assert_eq!(try_(login, ADDRESS).await, Err(Denied::Password), "{login:?}");
        }
        for value in ["Bearer x", "Basic", "Basic !", "Basic Zm9v", "basic"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(access.admin(&config, &headers, ADDRESS).await, Err(Denied::Password), "{value}");
        }
        // A page of somebody else, with the password the browser knows.
        let foreign = headers(Some("admin:geheim:1"), &[("sec-fetch-site", "cross-site")]);
        assert_eq!(access.admin(&config, &foreign, ADDRESS).await, Err(Denied::Foreign));
    }

    #[tokio::test]
    async fn a_password_that_was_right_is_not_computed_again_until_the_hash_changes() {
        let access = access("0.0.0.0:1");
        let config = http(Some("geheim"), false);
        let right = headers(Some("admin:geheim"), &[]);
        assert_eq!(access.admin(&config, &right, ADDRESS).await, Ok(()));
        // Nothing can be computed from here on.
        access.checks.close();
        for _ in 0..1000 {
            assert_eq!(access.admin(&config, &right, ADDRESS).await, Ok(()));
        }
        assert_eq!(access.admin(&config, &headers(Some("root:geheim"), &[]), ADDRESS).await, Err(Denied::Busy));
        // The same password, hashed anew, is checked again; so is another one.
        assert_eq!(access.admin(&http(Some("geheim"), false), &right, ADDRESS).await, Err(Denied::Busy));
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_has_to_wait_and_others_do_not() {
        let access = access("0.0.0.0:1");
        let config = http(Some("geheim"), false);
        let (wrong, right) = (headers(Some("admin:falsch"), &[]), headers(Some("admin:geheim"), &[]));
        for _ in 0..5 {
            assert_eq!(access.admin(&config, &wrong, ADDRESS).await, Err(Denied::Password));
        }
        let Err(Denied::Throttled(wait)) = access.admin(&config, &right, ADDRESS).await else {
            panic!("the right one too")
        };
        assert!(wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(access.admin(&config, &right, LOOPBACK).await, Ok(()));
        // Known by now, and still not told to who guesses.
        assert!(matches!(access.admin(&config, &right, ADDRESS).await, Err(Denied::Throttled(_))));
        tokio::time::advance(wait).await;
        assert_eq!(access.admin(&config, &right, ADDRESS).await, Ok(()));
        assert_eq!(access.admin(&config, &wrong, ADDRESS).await, Err(Denied::Password), "forgiven");
        // What asks for nothing is not held up.
        assert_eq!(access.caller(&config, &headers(None, &[]), ADDRESS).await, Ok(false));
    }

    #[tokio::test(start_paused = true)]
    async fn cards_are_throttled_apart_from_passwords() {
        let access = access("0.0.0.0:1");
        for _ in 0..19 {
            access.wrong_card(ADDRESS);
        }
        assert_eq!(access.may_show_card(ADDRESS), Ok(()));
        for _ in 0..20 {
            access.wrong_card(ADDRESS);
        }
        assert_eq!(access.may_show_card(ADDRESS), Err(Denied::Throttled(Duration::from_secs(30))));
        assert_eq!(access.may_show_card(LOOPBACK), Ok(()));
        let config = http(Some("geheim"), false);
        assert_eq!(access.admin(&config, &headers(Some("admin:geheim"), &[]), ADDRESS).await, Ok(()));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(access.may_show_card(ADDRESS), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_guesses_at_once_are_no_way_around() {
        let access = Arc::new(access("0.0.0.0:1"));
        let config = http(Some("geheim"), false);
        let tries = (0..100).map(|n| {
            let (access, config) = (Arc::clone(&access), config.clone());
            tokio::spawn(
                async move { access.admin(&config, &headers(Some(&format!("admin:{n}")), &[]), ADDRESS).await },
            )
        });
        let mut checked = 0;
        for one in tries.collect::<Vec<_>>() {
            match one.await.unwrap() {
                Err(Denied::Password) => checked += 1,
                Err(Denied::Throttled(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(checked <= 5 + CHECKS, "{checked}");
    }
}
