//! A bounded queue of messages for one reader. A flood on one topic delays nobody: of measurements the newest per
//! topic wins, of commands the order is kept and what does not fit is counted.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

use super::Message;
use super::newest::{Gave, NewestQueue};

/// Payload bytes one inbox holds at most, whatever its capacity: a flood of large messages must not fill the memory.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Which messages give way when they come faster than they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// A newer message of the same endpoint and topic takes the place of the waiting one; if there are too many
    /// topics the oldest message goes.
    NewestPerTopic,
    /// Order is kept; a message that does not fit is dropped.
    KeepOrder,
}

/// A cloneable handle: producers push, one consumer receives.
#[derive(Clone, Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
}

/// A producer's handle that does not keep the inbox alive: a subscription ends when its reader is gone.
#[derive(Clone, Debug)]
pub struct WeakInbox {
    shared: Weak<Shared>,
}

#[derive(Debug)]
struct Shared {
    overflow: Overflow,
    capacity: usize,
    queue: Mutex<Waiting>,
    hasher: RandomState,
    arrived: Notify,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: NewestQueue<Message>,
    /// Of all payloads.
    bytes: usize,
}

impl Waiting {
    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop()?;
        self.bytes -= message.payload.len();
        Some(message)
    }
}

impl Inbox {
    /// An empty inbox for at most `capacity` messages, and for at most 16 MiB of payloads.
    #[must_use]
    pub fn new(overflow: Overflow, capacity: usize) -> Self {
        let shared = Shared {
            overflow,
            capacity: capacity.max(1),
            queue: Mutex::default(),
            hasher: RandomState::new(),
            arrived: Notify::new(),
            dropped: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Puts a message in. Never waits.
    pub fn push(&self, message: Message) {
        self.shared.push(message);
    }

    /// The next message; waits for one. Cancel-safe.
    pub async fn recv(&self) -> Message {
        loop {
            let arrived = self.shared.arrived.notified();
            if let Some(message) = self.try_recv() {
                return message;
            }
            arrived.await;
        }
    }

    /// The next message, if one is waiting.
    #[must_use]
    pub fn try_recv(&self) -> Option<Message> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Messages that gave way to newer ones or did not fit.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Whether other handles of this inbox exist. A producer that holds the last one may forget it.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// A handle that does not keep the inbox alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakInbox {
        WeakInbox { shared: Arc::downgrade(&self.shared) }
    }
}

impl WeakInbox {
    /// Puts a message in; `false` if the reader is gone. Never waits.
    pub fn push(&self, message: Message) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        shared.push(message);
        true
    }

    /// Whether a reader is left.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.strong_count() > 0
    }
}

impl Shared {
    fn push(&self, message: Message) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = &mut *queue;
        let size = message.payload.len();
        match self.overflow {
            Overflow::NewestPerTopic => {
                while queue.bytes + size > MOST_BYTES && queue.pop().is_some() {
                    self.count_dropped();
                }
                let key = self.hasher.hash_one((&*message.endpoint, message.topic.as_str()));
                let same = |old: &Message, new: &Message| old.endpoint == new.endpoint && old.topic == new.topic;
                queue.bytes += size;
                match queue.messages.push(key, message, same, self.capacity) {
                    Gave::Nothing => {}
                    Gave::Replaced(old) | Gave::Evicted(old) => {
                        queue.bytes -= old.payload.len();
                        self.count_dropped();
                    }
                }
            }
            Overflow::KeepOrder if queue.messages.len() >= self.capacity || queue.bytes + size > MOST_BYTES => {
                self.count_dropped();
            }
            Overflow::KeepOrder => {
                queue.bytes += size;
                queue.messages.push_back(0, message);
            }
        }
        self.arrived.notify_one();
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Moment;

    fn message(topic: &str, payload: &str) -> Message {
        Message {
            endpoint: "main".into(),
            topic: topic.into(),
            payload: payload.to_owned().into(),
            retained: false,
            at: Moment(1),
            reply_to: None,
        }
    }

    fn drain(inbox: &Inbox) -> Vec<String> {
        std::iter::from_fn(|| inbox.try_recv())
            .map(|m| format!("{}={}", m.topic, String::from_utf8_lossy(&m.payload)))
            .collect()
    }

    #[test]
    fn the_newest_measurement_of_a_topic_wins() {
        let inbox = Inbox::new(Overflow::NewestPerTopic, 2);
        for (topic, payload) in [("a", "1"), ("b", "1"), ("a", "2")] {
            inbox.push(message(topic, payload));
        }
        assert_eq!(drain(&inbox), ["a=2", "b=1"]);
        assert_eq!(inbox.dropped(), 1);
    }

    #[test]
    fn too_many_topics_push_the_oldest_out() {
        let inbox = Inbox::new(Overflow::NewestPerTopic, 2);
        for topic in ["a", "b", "c"] {
            inbox.push(message(topic, "1"));
        }
        assert_eq!(drain(&inbox), ["b=1", "c=1"]);
    }

    #[test]
    fn b13_large_messages_are_bounded_by_their_bytes() {
        let large = || Message { payload: vec![0; MOST_BYTES / 4].into(), ..message("a", "") };
        let orders = Inbox::new(Overflow::KeepOrder, 1000);
        (0..6).for_each(|_| orders.push(large()));
        assert_eq!((orders.dropped(), drain(&orders).len()), (2, 4));
        orders.push(large());
        assert_eq!(drain(&orders).len(), 1, "there is room again");

        let newest = Inbox::new(Overflow::NewestPerTopic, 1000);
        (0..6).for_each(|n| newest.push(Message { topic: n.to_string(), ..large() }));
        (0..6).for_each(|_| newest.push(Message { topic: "5".to_owned(), ..large() }));
        let topics: Vec<_> = std::iter::from_fn(|| newest.try_recv()).map(|message| message.topic).collect();
        assert!(topics.len() <= 4 && topics.last().is_some_and(|topic| topic == "5"), "{topics:?}");
    }

    #[test]
    fn commands_keep_their_order_and_repeat() {
        let inbox = Inbox::new(Overflow::KeepOrder, 2);
        for payload in ["1", "2", "3"] {
            inbox.push(message("a", payload));
        }
        assert_eq!(drain(&inbox), ["a=1", "a=2"]);
        assert_eq!(inbox.dropped(), 1);
    }
}
