//! The task of one connection: connects, restores the subscriptions, hands messages on, sends what waits, and starts
//! again when the connection is lost. Never waits for a reader of messages.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::session::{Client, Event, Failure, Link, open};
use super::{BrokerState, MAX_PAYLOAD, Shared, lock, no_tls};
use crate::transport::Qos;
use crate::transport::backoff::Backoff;

/// Filters in one SUBSCRIBE packet.
const FILTERS_PER_REQUEST: usize = 32;

/// How long a closing connection may take to send what waits.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often readers that are gone are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// How one life of the connection ended.
#[derive(Debug)]
enum End {
    /// Closed on our wish.
    Closed,
    /// Closed by us to come back with another last will.
    Renew,
    Lost {
        failure: Failure,
        was_connected: bool,
    },
}

/// Runs until [`Shared::close`].
pub(in crate::transport) async fn run(shared: Arc<Shared>) {
    if no_tls(&shared.url).is_err() || !wait_for_use(&shared).await {
        return;
    }
    let mut backoff = Backoff::default();
    let mut use_v5 = shared.url.v5;
    // A broker that did not like version 5 and then took 3.1.1 is not asked again.
    let mut settled_on_v4 = false;
    loop {
        // A task of its own: should the client library panic on strange bytes, one life is lost and not the host.
        let life = tokio::spawn(live(shared.clone(), use_v5));
        let end = life.await.unwrap_or_else(|_| End::Lost {
            failure: Failure { text: "the MQTT client failed on what the broker sent".to_owned(), try_older: false },
            was_connected: false,
        });
        shared.routes().forget_broker();
        let (failure, was_connected) = match end {
            End::Closed => return,
            End::Renew => continue,
            End::Lost { failure, was_connected } => (failure, was_connected),
        };
        if was_connected {
            backoff.reset();
            settled_on_v4 |= shared.url.v5 && !use_v5;
        }
        report(&shared, &failure.text, was_connected);
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        if use_v5 && failure.try_older && !was_connected {
            tracing::info!(broker = %shared.url, reason = failure.text, "trying MQTT 3.1.1 instead of 5");
            use_v5 = false;
            continue;
        }
        use_v5 = shared.url.v5 && !settled_on_v4;
        if !pause(&shared, backoff.next()).await {
            return;
        }
    }
}

/// `false` if the connection is closed before anybody needed it.
async fn wait_for_use(shared: &Shared) -> bool {
    while !shared.started.load(Ordering::Acquire) {
        if shared.closing.load(Ordering::Acquire) {
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

/// Waits before the next attempt; `false` if the connection is closed meanwhile.
async fn pause(shared: &Shared, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    loop {
        if shared.closing.load(Ordering::Acquire) {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => return true,
            () = shared.wake.notified() => {}
        }
    }
}

/// One life of the connection.
async fn live(shared: Arc<Shared>, use_v5: bool) -> End {
    shared.will_changed.store(false, Ordering::Release);
    let will = lock(&shared.will).clone();
    let (client, mut link) = open(&shared.url, &shared.client_id, use_v5, will);
    let mut life = Life {
        shared: &shared,
        client,
        use_v5,
        connected: false,
        said_goodbye: false,
        asked: VecDeque::new(),
        unanswered: HashMap::new(),
    };
    let end = life.drive(&mut link).await;
    let unsent = link.unsent();
    if !unsent.is_empty() {
        // They may exceed the bound of the queue by what was on its way, which is bounded itself.
        shared.outbox().put_back(unsent);
    }
    end
}

struct Life<'a> {
    shared: &'a Shared,
    client: Client,
    use_v5: bool,
    connected: bool,
    /// The link has been told to disconnect and takes nothing more.
    said_goodbye: bool,
    /// Subscribe requests whose packet id is not known yet, in order.
    asked: VecDeque<Vec<(String, Qos)>>,
    unanswered: HashMap<u16, Vec<(String, Qos)>>,
}

impl Life<'_> {
    async fn drive(&mut self, link: &mut Link) -> End {
        let mut sweep = tokio::time::interval(SWEEP);
        let mut farewell: Option<Instant> = None;
        loop {
            let result = {
                // Never cancelled: the client library loses packets when it is.
                let mut poll = pin!(link.poll());
                loop {
                    let closing = self.shared.closing.load(Ordering::Acquire);
                    let leaving = closing || self.shared.will_changed.load(Ordering::Acquire);
                    if leaving && !self.connected {
                        return if closing { End::Closed } else { End::Renew };
                    }
                    if leaving && farewell.is_none() {
                        farewell = Some(Instant::now() + FAREWELL);
                    }
                    if leaving && !self.said_goodbye && self.shared.outbox().is_empty() {
                        // Behind all that was handed over before: the link keeps the order.
                        self.said_goodbye = self.client.disconnect();
                    }
                    let deadline = farewell.unwrap_or_else(|| Instant::now() + SWEEP);
                    tokio::select! {
                        biased;
                        result = &mut poll => break result,
                        () = self.shared.wake.notified() => self.feed(),
                        _ = sweep.tick() => self.sweep(),
                        () = tokio::time::sleep_until(deadline), if farewell.is_some() => return self.left(),
                    }
                }
            };
            match result {
                Ok(event) => {
                    if self.take_in(event, link) {
                        return self.left();
                    }
                }
                Err(failure) => return End::Lost { failure, was_connected: self.connected },
            }
            self.feed();
        }
    }

    fn left(&self) -> End {
        if self.shared.closing.load(Ordering::Acquire) { End::Closed } else { End::Renew }
    }

    /// Takes in one event and all that was read together with it; `true` after the last packet of this life.
    fn take_in(&mut self, first: Event, link: &mut Link) -> bool {
        let mut received = 0;
        let mut sent = 0;
        let mut next = Some(first);
        let now = self.shared.clock.now();
        while let Some(event) = next {
            match event {
                Event::Message { topic, payload, .. } if payload.len() > MAX_PAYLOAD => {
                    self.shared.counters.too_large.fetch_add(1, Ordering::Relaxed);
                    let bytes = payload.len();
                    tracing::warn!(broker = %self.shared.url, topic, bytes, most = MAX_PAYLOAD, "message dropped: too large");
                }
                Event::Message { topic, payload, retained } => {
                    received += 1;
                    self.shared.routes().deliver(&topic, &payload, retained, now);
                }
                Event::Connected => self.came_up(),
                Event::Asked(id) => {
                    if let Some(filters) = self.asked.pop_front() {
                        self.unanswered.insert(id, filters);
                    }
                }
                Event::Answered(id, granted) => self.answered(id, &granted),
                Event::Published => sent += 1,
                Event::Disconnected => return true,
                Event::Other => {}
            }
            next = link.next_buffered();
        }
        self.shared.counters.received.fetch_add(received, Ordering::Relaxed);
        self.shared.counters.sent.fetch_add(sent, Ordering::Relaxed);
        false
    }

    fn came_up(&mut self) {
        if self.connected {
            return;
        }
        self.connected = true;
        tracing::info!(broker = %self.shared.url, v5 = self.use_v5, "connected to the broker");
        self.shared.routes().forget_broker();
        self.shared.state.send_replace(BrokerState::Connected { v5: self.use_v5 });
        self.shared.progress.notify_waiters();
    }

    fn answered(&mut self, id: u16, granted: &[bool]) {
        let Some(filters) = self.unanswered.remove(&id) else { return };
        {
            let mut routes = self.shared.routes();
            for (index, (filter, _)) in filters.iter().enumerate() {
                if granted.get(index) != Some(&true) {
                    tracing::warn!(broker = %self.shared.url, filter, "the broker refuses the subscription");
                }
                routes.answered(filter);
            }
        }
        self.shared.progress.notify_waiters();
    }

    fn sweep(&mut self) {
        self.shared.routes().sweep();
        self.feed();
    }

    /// Hands to the link what it takes.
    fn feed(&mut self) {
        if self.connected && !self.said_goodbye && self.feed_filters() {
            self.feed_messages();
        }
    }

    /// `false` if the link takes no more.
    fn feed_filters(&mut self) -> bool {
        let mut routes = self.shared.routes();
        loop {
            let filters = routes.take_unasked(FILTERS_PER_REQUEST);
            if filters.is_empty() {
                break;
            }
            if !self.client.subscribe(&filters) {
                routes.not_asked(&filters);
                return false;
            }
            self.asked.push_back(filters);
        }
        while let Some(filter) = routes.take_abandoned() {
            // Where the link is full the broker keeps a subscription nobody reads, until the next reconnect.
            if !self.client.unsubscribe(&filter) {
                return false;
            }
        }
        true
    }

    fn feed_messages(&mut self) {
        let mut outbox = self.shared.outbox();
        let waited = outbox.ordered_len();
        outbox.feed(|message| self.client.publish(message));
        if outbox.ordered_len() < waited {
            self.shared.room.notify_waiters();
        }
    }
}
