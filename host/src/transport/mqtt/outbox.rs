//! What waits to be published on one connection: measurements, of which the newest per topic wins, and messages that
//! keep their order. Bounded; never waits.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::newest::{Gave, NewestQueue};
use crate::transport::{MqttError, Qos};

/// Most topics that may wait for a slow or absent broker.
const MOST_TOPICS: usize = 8192;

/// Waiting messages among which those that nobody waits for any more are looked for.
const PURGE: usize = 256;

/// One message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    /// Which request this answers (MQTT 5).
    pub(crate) correlation: Option<Bytes>,
    /// Who waits for the broker's acknowledgement.
    pub(crate) done: Option<oneshot::Sender<Result<(), MqttError>>>,
}

impl Outgoing {
    /// A message nobody waits for.
    pub(crate) fn new(topic: String, payload: Bytes, qos: Qos, retain: bool) -> Self {
        Self { topic, payload, qos, retain, correlation: None, done: None }
    }

    /// Who waited for it has gone.
    fn is_withdrawn(&self) -> bool {
        self.done.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    ordered: VecDeque<Outgoing>,
    latest: NewestQueue<Outgoing>,
    hasher: RandomState,
    /// Messages that gave way to newer ones.
    superseded: u64,
    /// How many may wait before withdrawn ones are looked for.
    purge_at: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.ordered.is_empty() && self.latest.is_empty()
    }

    pub(crate) fn ordered_len(&self) -> usize {
        self.ordered.len()
    }

    pub(crate) fn superseded(&self) -> u64 {
        self.superseded
    }

    /// Queues a measurement: it takes the place of a waiting one of the same topic.
    pub(crate) fn push_latest(&mut self, message: Outgoing) {
        let key = self.hasher.hash_one(message.topic.as_str());
        let same = |waiting: &Outgoing, new: &Outgoing| waiting.topic == new.topic;
        if !matches!(self.latest.push(key, message, same, MOST_TOPICS), Gave::Nothing) {
            self.superseded += 1;
        }
    }

    /// Queues a message behind all that keep their order.
    pub(crate) fn push_ordered(&mut self, message: Outgoing) {
        self.ordered.push_back(message);
        if self.ordered.len() >= self.purge_at.max(PURGE) {
            self.ordered.retain(|message| !message.is_withdrawn());
            self.purge_at = self.ordered.len() * 2;
        }
    }

    /// Hands over messages as long as `take` does not give them back; what keeps its order goes first. Where that
    /// waits for acknowledgements, measurements go past it.
    pub(crate) fn feed(&mut self, mut take: impl FnMut(Outgoing) -> Result<(), Outgoing>) {
        while let Some(message) = self.ordered.pop_front() {
            if message.is_withdrawn() {
                continue;
            }
            if let Err(message) = take(message) {
                self.ordered.push_front(message);
                break;
            }
        }
        while let Some(message) = self.latest.pop() {
            if let Err(message) = take(message) {
                self.put_back_latest(message);
                return;
            }
        }
    }

    /// Puts back what was handed over and lost with its connection: QoS 1 and 2 in their order, of QoS 0 the newest
    /// per topic unless it was superseded in the meantime.
    pub(crate) fn put_back(&mut self, messages: Vec<Outgoing>) {
        for message in messages.into_iter().rev() {
            if message.qos == Qos::AtMostOnce {
                self.put_back_latest(message);
            } else {
                self.ordered.push_front(message);
            }
        }
    }

    fn put_back_latest(&mut self, message: Outgoing) {
        let key = self.hasher.hash_one(message.topic.as_str());
        if self.latest.find(key, |waiting| waiting.topic == message.topic).is_none() {
            self.latest.push_back(key, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, payload: &str, qos: Qos) -> Outgoing {
        Outgoing::new(topic.to_owned(), payload.to_owned().into(), qos, false)
    }

    /// What a link takes that has room for `most`.
    fn take(outbox: &mut Outbox, most: usize) -> Vec<String> {
        let mut taken = Vec::new();
        outbox.feed(|message| {
            if taken.len() == most {
                return Err(message);
            }
            taken.push(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload)));
            Ok(())
        });
        taken
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        take(outbox, usize::MAX)
    }

    #[test]
    fn what_a_full_link_does_not_take_stays_in_its_place() {
        let mut outbox = Outbox::default();
        for value in ["1", "2", "3"] {
            outbox.push_ordered(message("c", value, Qos::AtMostOnce));
        }
        outbox.push_latest(message("get/M1", "x", Qos::AtMostOnce));
        assert_eq!(take(&mut outbox, 1), ["c=1"]);
        assert_eq!(take(&mut outbox, 2), ["c=2", "c=3"]);
        assert_eq!(take(&mut outbox, 0), Vec::<String>::new());
        assert_eq!(take(&mut outbox, 5), ["get/M1=x"]);
    }

    #[test]
    fn the_newest_measurement_wins_and_commands_keep_their_order() {
        let mut outbox = Outbox::default();
        for value in ["1", "2", "3"] {
            outbox.push_latest(message("get/M1", value, Qos::AtMostOnce));
            outbox.push_ordered(message("set/E1", value, Qos::AtLeastOnce));
        }
        assert_eq!(outbox.ordered_len(), 3);
        assert_eq!(drain(&mut outbox), ["set/E1=1", "set/E1=2", "set/E1=3", "get/M1=3"]);
        assert_eq!(outbox.superseded(), 2);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_was_not_sent_comes_back_in_order_unless_it_is_outdated() {
        let mut outbox = Outbox::default();
        outbox.push_latest(message("get/M1", "new", Qos::AtMostOnce));
        outbox.push_ordered(message("c", "3", Qos::AtLeastOnce));
        outbox.put_back(vec![
            message("c", "1", Qos::AtLeastOnce),
            message("get/M1", "old", Qos::AtMostOnce),
            message("get/M2", "only", Qos::AtMostOnce),
            message("c", "2", Qos::AtLeastOnce),
        ]);
        assert_eq!(drain(&mut outbox), ["c=1", "c=2", "c=3", "get/M1=new", "get/M2=only"]);
    }

    #[test]
    fn a_message_nobody_waits_for_any_more_is_not_sent_and_takes_no_room() {
        let mut outbox = Outbox::default();
        let mut kept = Vec::new();
        for value in 0..10 * PURGE {
            let (done, waiting) = oneshot::channel();
            let value = message("c", &value.to_string(), Qos::AtLeastOnce);
            outbox.push_ordered(Outgoing { done: Some(done), ..value });
            if kept.len() < 2 {
                kept.push(waiting);
            }
        }
        assert!(outbox.ordered_len() < 2 * PURGE, "{}", outbox.ordered_len());
        assert_eq!(drain(&mut outbox), ["c=0", "c=1"]);
    }

    #[test]
    fn measurements_go_past_what_waits_for_acknowledgements() {
        let mut outbox = Outbox::default();
        outbox.push_ordered(message("c", "1", Qos::AtLeastOnce));
        outbox.push_latest(message("get/M1", "x", Qos::AtMostOnce));
        let mut taken = Vec::new();
        outbox.feed(|message| {
            if message.qos == Qos::AtLeastOnce {
                return Err(message);
            }
            taken.push(message.topic);
            Ok(())
        });
        assert_eq!((taken, outbox.ordered_len()), (vec!["get/M1".to_owned()], 1));
    }

    #[test]
    fn topics_are_bounded() {
        let mut outbox = Outbox::default();
        for n in 0..MOST_TOPICS + 10 {
            outbox.push_latest(message(&n.to_string(), "", Qos::AtMostOnce));
        }
        assert_eq!(outbox.latest.len(), MOST_TOPICS);
        assert_eq!(take(&mut outbox, 1), ["10="]);
    }
}
