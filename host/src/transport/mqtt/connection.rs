//! The task of one connection: connects, falls back to the older version of the protocol, and starts again with a
//! growing pause when the connection is lost, forever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::BrokerState;
use super::life::{self, End};
use super::open::Failure;
use super::shared::{Shared, lock};
use crate::transport::backoff::Backoff;

/// Runs until [`Shared::close`].
pub(in crate::transport) async fn run(shared: Arc<Shared>) {
    if wait_for_use(&shared).await {
        keep_alive(&shared).await;
    }
    // Who waits for an acknowledgement learns that none will come.
    let left = std::mem::take(&mut *shared.outbox());
    drop(left);
    lock(&shared.times).connected_since = None;
    shared.state.send_replace(BrokerState::Down(format!("{}: the connection is closed", shared.url)));
    shared.room.notify_waiters();
}

async fn keep_alive(shared: &Arc<Shared>) {
    let mut backoff = Backoff::default();
    let mut older = false;
    loop {
        let settled = lock(&shared.versions).get(&shared.url).copied();
        let version_5 = shared.url.v5 && settled.unwrap_or(!older);
        lock(&shared.times).next_attempt = None;
        // A task of its own: should a library panic on strange bytes, one life is lost and not the host.
        let life = tokio::spawn(life::live(shared.clone(), version_5));
        let (end, up) = life.await.unwrap_or_else(|_| {
            let failure = Failure::new("the MQTT client failed on what the broker sent");
            (End::Lost { failure, was_connected: false }, Duration::ZERO)
        });
        backoff.has_held(up);
        shared.routes().forget_broker();
        lock(&shared.times).connected_since = None;
        let (failure, was_connected) = match end {
            End::Closed => return,
            End::Renew => continue,
            End::Lost { failure, was_connected } => (failure, was_connected),
        };
        // A version that has worked is not given up for another one.
        let fall_back = version_5 && failure.try_older && !was_connected && settled.is_none();
        if fall_back {
            tracing::info!(broker = %shared.url, reason = failure.text, "trying MQTT 3.1.1 instead of 5");
            *lock(&shared.last_error) = Some(format!("{}: {}", shared.url, failure.text));
            older = true;
            continue;
        }
        older = false;
        let wait = backoff.next();
        lock(&shared.times).next_attempt = Some(shared.clock.now().after(wait));
        report(shared, &failure.text, was_connected);
        if !pause(shared, wait).await {
            return;
        }
    }
}

/// `false` if the connection is closed before anybody needed it.
async fn wait_for_use(shared: &Shared) -> bool {
    while !shared.started.load(Ordering::Acquire) {
        if shared.is_closing() {
            return false;
        }
        shared.wake.notified().await;
    }
    true
}

fn report(shared: &Shared, reason: &str, was_connected: bool) {
    let text = format!("{}: {reason}", shared.url);
    *lock(&shared.last_error) = Some(text.clone());
    if was_connected {
        shared.counters.lost.fetch_add(1, Ordering::Relaxed);
    }
    let down = BrokerState::Down(text);
    let changed = *shared.state.borrow() != down;
    if changed {
        tracing::warn!(broker = %shared.url, reason, "no connection to the broker");
        shared.state.send_replace(down);
        shared.room.notify_waiters();
    }
}

/// Waits before the next attempt; `false` if the connection is closed meanwhile. Changed settings may be what was
/// wrong: they are tried at once.
async fn pause(shared: &Shared, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    loop {
        if shared.is_closing() {
            return false;
        }
        if shared.renew.load(Ordering::Acquire) {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            () = shared.wake.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::site::Clock;
    use crate::transport::Transports;

    /// Takes a client of MQTT 3.1.1, answers its pings, and drops it after this time.
    async fn hold(listener: &TcpListener, time: Duration) {
        let client = tokio::time::timeout(Duration::from_secs(60), listener.accept()).await;
        let (mut client, _) = client.expect("a client within twice the longest wait").unwrap();
        let mut packet = [0; 256];
        let serve = async {
            while let Ok(1..) = client.read(&mut packet).await {
                // CONNACK without a session, PINGRESP (3.1.1: 3.2, 3.13).
                let answer: &[u8] = if packet[0] == 0xC0 { &[0xD0, 0] } else { &[0x20, 2, 0, 0] };
                client.write_all(answer).await.unwrap();
                if time.is_zero() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(time.max(Duration::from_secs(1)), serve).await;
    }

    #[tokio::test(start_paused = true)]
    async fn b1_a_broker_that_drops_its_clients_at_once_is_tried_ever_more_rarely_until_it_holds_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap()).parse().unwrap();
        let registry = Transports::new(tokio::runtime::Handle::current(), Clock::start(), None, "ours".to_owned());
        let ours = registry.mqtt(&url);
        let _used = ours.state();
        hold(&listener, Duration::ZERO).await;
        for least_ms in [500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000] {
            let dropped = Instant::now();
            hold(&listener, Duration::ZERO).await;
            let wait = dropped.elapsed().as_millis();
            assert!(wait >= least_ms, "only {wait} ms of {least_ms}");
        }
        hold(&listener, Duration::from_secs(31)).await;
        let dropped = Instant::now();
        hold(&listener, Duration::ZERO).await;
        assert!(dropped.elapsed() < Duration::from_secs(15), "{:?} after it had held", dropped.elapsed());
        assert!(registry.brokers().remove(0).connections >= 9, "it was connected each time");
    }
}
