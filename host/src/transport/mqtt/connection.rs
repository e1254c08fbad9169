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
        let end = life.await.unwrap_or_else(|_| End::Lost {
            failure: Failure::new("the MQTT client failed on what the broker sent"),
            was_connected: false,
        });
        shared.routes().forget_broker();
        lock(&shared.times).connected_since = None;
        let (failure, was_connected) = match end {
            End::Closed => return,
            End::Renew => continue,
            End::Lost { failure, was_connected } => (failure, was_connected),
        };
        if was_connected {
            backoff.reset();
        }
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
