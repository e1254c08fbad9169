//! One life of a connection: restores the subscriptions, hands messages on, sends what waits, acknowledges, and ends
//! when the broker does. Never waits for a reader of messages.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::flight::{Flight, Outcome};
use super::open::{Failure, KEEP_ALIVE_S, open};
use super::outbox::Outgoing;
use super::packet::{self, Answer, Limits, Packet, Publish};
use super::shared::{Shared, lock};
use super::wire::{Frame, TooLarge, Turn, Wire};
use super::{BrokerState, MAX_PAYLOAD, tls};
use crate::transport::{MqttError, Qos};

/// Filters in one SUBSCRIBE packet.
const FILTERS_PER_REQUEST: usize = 32;

/// Messages of QoS 1 and 2 on their way without an answer. Most brokers queue few more for one client.
const IN_FLIGHT: u16 = 64;

/// Bytes handed to the wire ahead of the socket. Few: what waits longer waits where newer measurements replace older
/// ones.
const AHEAD: usize = 64 * 1024;

/// How long a closing connection may take to send what waits.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often readers that are gone and answers that never came are looked for.
const SWEEP: Duration = Duration::from_secs(5);

/// How long the broker may take for an answer while it lives otherwise. Then only a new connection may send again
/// (MQTT 5, 4.4).
const ANSWER: Duration = Duration::from_secs(60);

/// Packets of received QoS 2 messages whose handshake is open.
const MOST_OPEN: usize = 4096;

/// How one life of the connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Closed on our wish.
    Closed,
    /// Closed by us to come back with other settings.
    Renew,
    Lost {
        failure: Failure,
        was_connected: bool,
    },
}

/// Connects and lives until the connection ends. How it ended, and how long it was up.
pub(super) async fn live(shared: Arc<Shared>, version_5: bool) -> (End, Duration) {
    shared.renew.store(false, Ordering::Release);
    let opened = tokio::select! {
        opened = open(&shared, version_5) => opened,
        end = leaving(&shared) => return (end, Duration::ZERO),
    };
    let (wire, limits) = match opened {
        Ok(opened) => opened,
        Err(failure) => return (End::Lost { failure, was_connected: false }, Duration::ZERO),
    };
    let since = Instant::now();
    let mut life = Life {
        shared: &shared,
        wire,
        limits,
        version_5,
        flight: Flight::default(),
        asked: HashMap::new(),
        open: HashSet::new(),
        last_id: 0,
        ping: Ping::new(limits),
        said_goodbye: false,
    };
    life.came_up();
    let end = life.drive().await;
    let up = since.elapsed();
    let unacknowledged = life.flight.lost();
    if !unacknowledged.is_empty() {
        // They may exceed the bound of the queue by what was on its way, which is bounded itself.
        shared.outbox().put_back(unacknowledged);
    }
    (end, up)
}

/// Resolves when a connection that is not up yet is no longer wanted as it is.
async fn leaving(shared: &Shared) -> End {
    loop {
        if shared.is_closing() {
            return End::Closed;
        }
        if shared.renew.load(Ordering::Acquire) {
            return End::Renew;
        }
        shared.wake.notified().await;
    }
}

/// When the broker is asked whether it is there.
struct Ping {
    every: Duration,
    next: Instant,
    /// Asked, and not answered.
    waiting: bool,
}

impl Ping {
    fn new(limits: Limits) -> Self {
        // 0 switches it off at the broker; we still want to know.
        let seconds = limits.keep_alive_s.filter(|seconds| *seconds > 0).unwrap_or(KEEP_ALIVE_S);
        let every = Duration::from_secs(u64::from(seconds.min(KEEP_ALIVE_S)));
        Self { every, next: Instant::now() + every, waiting: false }
    }
}

struct Life<'a> {
    shared: &'a Shared,
    wire: Wire,
    limits: Limits,
    version_5: bool,
    flight: Flight,
    /// Subscribe requests without an answer.
    asked: HashMap<u16, (Instant, Vec<(String, Qos)>)>,
    /// Packet ids of received QoS 2 messages that the broker may still repeat.
    open: HashSet<u16>,
    last_id: u16,
    ping: Ping,
    said_goodbye: bool,
}

impl Life<'_> {
    fn came_up(&mut self) {
        let shared = self.shared;
        tracing::info!(broker = %shared.url, v5 = self.version_5, client_id = shared.client_id, "connected to the broker");
        lock(&shared.versions).insert(shared.url.clone(), self.version_5);
        lock(&shared.times).connected_since = Some(shared.clock.now());
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        shared.routes().forget_broker();
        shared.state.send_replace(BrokerState::Connected { v5: self.version_5 });
        shared.progress.notify_waiters();
    }

    async fn drive(&mut self) -> End {
        let mut sweep = tokio::time::interval(SWEEP);
        let mut farewell: Option<Instant> = None;
        loop {
            if let Err(text) = self.feed() {
                return lost(text);
            }
            let closing = self.shared.is_closing();
            if closing || self.shared.renew.load(Ordering::Acquire) {
                let end = if closing { End::Closed } else { End::Renew };
                let until = *farewell.get_or_insert_with(|| Instant::now() + FAREWELL);
                if !self.said_goodbye && self.flight.is_empty() && self.shared.outbox().is_empty() {
                    packet::disconnect(&mut self.wire.output);
                    self.said_goodbye = true;
                }
                if Instant::now() >= until || (self.said_goodbye && self.wire.is_flushed()) {
                    return end;
                }
            }
            let deadline = farewell.unwrap_or(self.ping.next).min(self.ping.next);
            tokio::select! {
                biased;
                // First, so that a flood does not keep it from its turn.
                _ = sweep.tick() => {
                    self.shared.routes().sweep();
                    if let Some(text) = self.overdue() {
                        return lost(text);
                    }
                }
                result = self.wire.turn() => match result {
                    Ok(Turn::Wrote) => {}
                    Ok(Turn::Read) => {
                        self.ping.waiting = false;
                        if let Err(text) = self.take_in() {
                            return lost(text);
                        }
                    }
                    Err(_) if self.said_goodbye => return if closing { End::Closed } else { End::Renew },
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        return lost("the broker closed the connection");
                    }
                    Err(error) => return lost(tls::explain(&error).unwrap_or_else(|| error.to_string())),
                },
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            if Instant::now() >= self.ping.next {
                if self.ping.waiting {
                    return lost("the broker has gone silent");
                }
                packet::ping(&mut self.wire.output);
                self.ping.waiting = true;
                self.ping.next = Instant::now() + self.ping.every;
            }
        }
    }

    /// Answers that should have come long ago.
    fn overdue(&self) -> Option<&'static str> {
        let late = |since: Instant| since.elapsed() > ANSWER;
        if self.flight.oldest().is_some_and(late) {
            return Some("the broker does not acknowledge what is published");
        }
        let subscribe = self.asked.values().any(|(since, _)| late(*since));
        subscribe.then_some("the broker does not answer subscriptions")
    }

    /// Takes in all frames that have been read whole.
    fn take_in(&mut self) -> Result<(), String> {
        while let Some(frame) = self.wire.next_frame()? {
            match frame {
                Frame::TooLarge(too_large) => self.too_large(&too_large),
                Frame::Whole(frame) => {
                    let packet = packet::decode(frame, self.version_5);
                    self.take(packet.map_err(|error| format!("the broker sends what is no MQTT: {error}"))?)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, packet: Packet) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => self.message(publish),
            Packet::PubAck { id, refused } => {
                let outcome = self.flight.acknowledged(id, refused.clone());
                self.judge(&outcome, id, refused);
            }
            Packet::PubRec { id, refused } => {
                let is_refused = refused.is_some();
                let outcome = self.flight.received(id, refused.clone());
                self.judge(&outcome, id, refused);
                if !is_refused {
                    // Also for one that is not known: the broker must come to an end with it.
                    packet::answer(&mut self.wire.output, Answer::Rel, id);
                }
            }
            Packet::PubRel(id) => {
                self.open.remove(&id);
                packet::answer(&mut self.wire.output, Answer::Comp, id);
            }
            Packet::PubComp(id) => {
                let outcome = self.flight.completed(id);
                self.judge(&outcome, id, None);
            }
            Packet::SubAck(id, granted) => self.subscribed(id, &granted),
            Packet::Disconnect(text) => return Err(text),
            Packet::Pong | Packet::Other => {}
        }
        Ok(())
    }

    fn judge(&self, outcome: &Outcome, id: u16, refused: Option<String>) {
        match outcome {
            Outcome::Taken => {}
            Outcome::Refused(topic) => {
                let reason = refused.unwrap_or_default();
                tracing::warn!(broker = %self.shared.url, topic, reason, "the broker does not take a message");
                self.shared.counters.refused.fetch_add(1, Ordering::Relaxed);
                *lock(&self.shared.last_error) =
                    Some(format!("{}: the message on `{topic}` is refused: {reason}", self.shared.url));
            }
            Outcome::Stray => {
                tracing::debug!(broker = %self.shared.url, id, "the broker acknowledges what is not on its way");
            }
        }
    }

    /// Hands a message on and answers it. It is answered also when nobody wants it: the broker would repeat it.
    fn message(&mut self, publish: Publish) {
        let shared = self.shared;
        let now = shared.clock.now();
        let (qos, id) = (publish.qos, publish.id);
        if publish.payload.len() > MAX_PAYLOAD {
            self.drop_large(&publish.topic, publish.payload.len());
        } else if self.is_new(&publish) {
            let routes = shared.routes();
            shared.counters.received.fetch_add(1, Ordering::Relaxed);
            routes.deliver(&publish, now);
        } else {
            shared.counters.duplicates.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(broker = %shared.url, topic = publish.topic, id, "message dropped: delivered before");
        }
        self.acknowledge(qos, id);
    }

    fn is_new(&mut self, publish: &Publish) -> bool {
        if publish.qos == Qos::ExactlyOnce && self.open.contains(&publish.id) {
            return false;
        }
        let now = self.shared.clock.now();
        let filters = self.shared.routes().matching(&publish.topic);
        let mut duplicates = lock(&self.shared.duplicates);
        !duplicates.is_repeated(publish, now) && !duplicates.is_copy(publish, filters, now)
    }

    fn acknowledge(&mut self, qos: Qos, id: u16) {
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => packet::answer(&mut self.wire.output, Answer::Ack, id),
            Qos::ExactlyOnce => {
                if self.open.len() < MOST_OPEN {
                    self.open.insert(id);
                }
                packet::answer(&mut self.wire.output, Answer::Rec, id);
            }
        }
    }

    fn too_large(&mut self, skipped: &TooLarge) {
        self.drop_large(&skipped.topic, skipped.bytes);
        match skipped.qos {
            0 => {}
            1 => self.acknowledge(Qos::AtLeastOnce, skipped.id),
            _ => self.acknowledge(Qos::ExactlyOnce, skipped.id),
        }
    }

    fn drop_large(&self, topic: &str, bytes: usize) {
        self.shared.counters.too_large.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(broker = %self.shared.url, topic, bytes, most = MAX_PAYLOAD, "message dropped: too large");
    }

    fn subscribed(&mut self, id: u16, granted: &[bool]) {
        let Some((_, filters)) = self.asked.remove(&id) else { return };
        {
            let mut routes = self.shared.routes();
            for (index, (filter, _)) in filters.iter().enumerate() {
                let granted = granted.get(index) == Some(&true);
                if !granted {
                    tracing::warn!(broker = %self.shared.url, filter, "the broker refuses the subscription");
                }
                routes.answered(filter, granted);
            }
        }
        self.shared.progress.notify_waiters();
    }

    /// Hands to the wire what it takes.
    fn feed(&mut self) -> Result<(), String> {
        if self.said_goodbye {
            return Ok(());
        }
        self.feed_filters()?;
        self.feed_messages();
        Ok(())
    }

    fn feed_filters(&mut self) -> Result<(), String> {
        while self.wire.output.len() < AHEAD {
            let filters = self.shared.routes().take_unasked(FILTERS_PER_REQUEST);
            if filters.is_empty() {
                break;
            }
            let id = self.next_id();
            packet::subscribe(&mut self.wire.output, &filters, id, self.version_5)?;
            self.asked.insert(id, (Instant::now(), filters));
        }
        while self.wire.output.len() < AHEAD {
            let Some(filter) = self.shared.routes().take_abandoned() else { break };
            let id = self.next_id();
            packet::unsubscribe(&mut self.wire.output, &filter, id, self.version_5)?;
        }
        Ok(())
    }

    fn feed_messages(&mut self) {
        let shared = self.shared;
        let mut outbox = shared.outbox();
        let waited = outbox.ordered_len();
        outbox.feed(|message| self.send(message));
        if outbox.ordered_len() < waited {
            shared.room.notify_waiters();
        }
    }

    /// Hands one message to the wire; gives it back if it has to wait.
    fn send(&mut self, message: Outgoing) -> Result<(), Outgoing> {
        if self.wire.output.len() >= AHEAD {
            return Err(message);
        }
        let most = usize::from(self.limits.in_flight.unwrap_or(IN_FLIGHT).clamp(1, IN_FLIGHT));
        if message.qos != Qos::AtMostOnce && self.flight.len() >= most {
            return Err(message);
        }
        let id = if message.qos == Qos::AtMostOnce { 0 } else { self.next_id() };
        let before = self.wire.output.len();
        let written = packet::send(&mut self.wire.output, &message, id, self.version_5);
        let size = self.wire.output.len() - before;
        let too_large = self.limits.packet.filter(|most| size > usize::try_from(*most).unwrap_or(usize::MAX));
        let unsendable = match (written, too_large) {
            (Err(error), _) => Some(error),
            (Ok(()), Some(most)) => Some(format!("a packet of {size} bytes; this broker takes {most}")),
            (Ok(()), None) => None,
        };
        if let Some(why) = unsendable {
            self.wire.output.truncate(before);
            tracing::warn!(broker = %self.shared.url, topic = message.topic, why, "message not published");
            if let Some(done) = message.done {
                // Who waited may have gone.
                let _ = done.send(Err(MqttError::Limit(why)));
            }
            return Ok(());
        }
        self.shared.counters.sent.fetch_add(1, Ordering::Relaxed);
        if id != 0 {
            self.flight.add(id, message, Instant::now());
        }
        Ok(())
    }

    /// A packet id that is not in use. Walks through all of them, so that an acknowledgement which comes late or
    /// twice does not meet a new message.
    fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.flight.has(self.last_id) && !self.asked.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

fn lost(text: impl Into<String>) -> End {
    End::Lost { failure: Failure::new(text), was_connected: true }
}
