//! Slows the guessing of passwords and PINs: after a few wrong ones an address has to wait, longer with each further one.
//! Nobody is shut out for good, and the memory is bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

/// The wait after the first wrong one that costs a wait; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// After so long without a wrong one all is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(900);
/// Addresses that are remembered.
const REMEMBERED: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Who has given wrong ones lately.
#[derive(Debug)]
pub(super) struct Throttle {
    /// So many cost nothing.
    free: u32,
    /// The longest wait.
    longest: Duration,
    addresses: HashMap<IpAddr, Failures>,
}

impl Throttle {
    /// After `free` wrong ones an address waits, at most `longest`.
    pub fn new(free: u32, longest: Duration) -> Self {
        Self { free, longest, addresses: HashMap::new() }
    }

    /// How long the address still has to wait; zero: it may try.
    pub fn wait(&self, address: IpAddr) -> Duration {
        let now = Instant::now();
        let Some(failures) = self.addresses.get(&network(address)) else { return Duration::ZERO };
        let Some(further) = failures.count.checked_sub(self.free) else { return Duration::ZERO };
        let wait = FIRST_WAIT.saturating_mul(1 << further.min(20)).min(self.longest);
        (failures.last + wait).saturating_duration_since(now)
    }

    /// A wrong one.
    pub fn failed(&mut self, address: IpAddr) {
        let now = Instant::now();
        let address = network(address);
        if self.addresses.len() >= REMEMBERED && !self.addresses.contains_key(&address) {
            self.make_room(now);
        }
        let failures = self.addresses.entry(address).or_insert(Failures { count: 0, last: now });
        if now.saturating_duration_since(failures.last) >= FORGOTTEN {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// The right one.
    pub fn succeeded(&mut self, address: IpAddr) {
        self.addresses.remove(&network(address));
    }

    /// Forgets what is over, else the one with the fewest failures, the oldest of these.
    fn make_room(&mut self, now: Instant) {
        self.addresses.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGOTTEN);
        if self.addresses.len() >= REMEMBERED {
            let least = self.addresses.iter().min_by_key(|(_, failures)| (failures.count, failures.last));
            if let Some(least) = least.map(|(address, _)| *address) {
                self.addresses.remove(&least);
            }
        }
    }
}

/// Whoever has one IPv6 address has the 2⁶⁴ beside it too.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_begins_after_five_and_doubles() {
        let mut throttle = Throttle::new(5, S(300));
        let (one, other) = (address("10.0.0.1"), address("10.0.0.2"));
        for _ in 0..4 {
            throttle.failed(one);
            assert_eq!(throttle.wait(one), Duration::ZERO);
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            throttle.failed(one);
            assert_eq!((throttle.wait(one), throttle.wait(other)), (S(wait), Duration::ZERO));
            tokio::time::advance(S(wait) - Duration::from_millis(1)).await;
            assert_eq!(throttle.wait(one), Duration::from_millis(1));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert_eq!(throttle.wait(one), Duration::ZERO);
        }
        throttle.succeeded(one);
        throttle.failed(one);
        assert_eq!(throttle.wait(one), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_forgotten_in_time() {
        let mut throttle = Throttle::new(5, S(300));
        let one = address("10.0.0.1");
        for _ in 0..9 {
            throttle.failed(one);
        }
        assert_eq!(throttle.wait(one), S(16));
        tokio::time::advance(FORGOTTEN).await;
        throttle.failed(one);
        assert_eq!(throttle.wait(one), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_counts_as_one_address() {
        let mut throttle = Throttle::new(5, S(300));
        for n in 0..5 {
            throttle.failed(address(&format!("2001:db8:1:2::{n}")));
        }
        assert_eq!(throttle.wait(address("2001:db8:1:2:ffff::")), S(1));
        assert_eq!(throttle.wait(address("2001:db8:1:3::")), Duration::ZERO);
        for _ in 0..5 {
            throttle.failed(address("::ffff:10.0.0.1"));
        }
        assert_eq!(throttle.wait(address("10.0.0.1")), S(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded_and_keeps_the_worst() {
        let mut throttle = Throttle::new(5, S(300));
        let worst = address("10.0.0.1");
        for _ in 0..20 {
            throttle.failed(worst);
        }
        for n in 0..10_000_u32 {
            throttle.failed(IpAddr::V4((0x0b00_0000 + n).into()));
        }
        assert_eq!(throttle.addresses.len(), REMEMBERED);
        assert_eq!(throttle.wait(worst), S(300));
    }
}
