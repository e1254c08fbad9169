//! The messages a decoder has understood, so that its successor knows what it knew: what does not change may not be
//! said again for a long time.

use std::collections::BTreeMap;

use crate::transport::Message;

/// Bytes of payloads that are kept for a device. Of a topic whose message does not fit, what was decoded stays, and only
/// that.
const MOST_BYTES: usize = 256 << 10;

/// The last message of each topic that brought something.
#[derive(Debug, Default)]
pub struct Kept {
    topics: BTreeMap<String, Message>,
    /// Of the payloads of `topics`.
    bytes: usize,
    last: Option<Message>,
}

impl Kept {
    /// A message was understood.
    pub fn note(&mut self, message: Message) {
        let topic = format!("{}/{}", message.endpoint, message.topic);
        if let Some(older) = self.topics.remove(&topic) {
            self.bytes = self.bytes.saturating_sub(older.payload.len());
        }
        if self.bytes + message.payload.len() <= MOST_BYTES {
            self.bytes += message.payload.len();
            self.topics.insert(topic, message.clone());
        }
        self.last = Some(message);
    }

    /// What a new version is tried with, the newest at the end: for a definition the last of each topic, for a plugin,
    /// which may do more with a message than decode it, the last alone.
    #[must_use]
    pub fn trial(&self, described: bool) -> Vec<Message> {
        let Some(last) = &self.last else { return Vec::new() };
        let others = self.topics.values().filter(|other| described && *other != last);
        let mut all: Vec<Message> = others.cloned().collect();
        all.sort_by_key(|message| message.at);
        all.push(last.clone());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::Moment;

    fn message(topic: &str, bytes: usize, at: u64) -> Message {
        Message {
            endpoint: "main".into(),
            topic: topic.into(),
            payload: vec![b'x'; bytes].into(),
            retained: false,
            at: Moment(at),
            reply_to: None,
        }
    }

    fn told(kept: &Kept, described: bool) -> Vec<(String, u64)> {
        kept.trial(described).into_iter().map(|message| (message.topic, message.at.0)).collect()
    }

    #[test]
    fn the_last_of_each_topic_is_kept_in_the_order_of_time() {
        let mut kept = Kept::default();
        assert_eq!(told(&kept, true), []);
        for (topic, at) in [("b", 1), ("a", 2), ("b", 3), ("c", 4), ("a", 5)] {
            kept.note(message(topic, 10, at));
        }
        let wanted = [("b", 3), ("c", 4), ("a", 5)].map(|(topic, at)| (topic.to_owned(), at));
        assert_eq!(told(&kept, true), wanted);
        assert_eq!(told(&kept, false), wanted[2..]);
        assert_eq!(kept.bytes, 30);
    }

    #[test]
    fn large_payloads_are_not_hoarded() {
        let mut kept = Kept::default();
        for at in 0..10 {
            kept.note(message(&format!("t{at}"), MOST_BYTES / 4, at));
        }
        assert_eq!((kept.topics.len(), kept.bytes), (4, MOST_BYTES));
        assert_eq!(told(&kept, true).len(), 5, "the last one is tried all the same");
        // One that has become larger is not kept with its old content either.
        kept.note(message("t0", MOST_BYTES / 2, 10));
        assert_eq!((kept.topics.len(), kept.bytes), (3, MOST_BYTES / 4 * 3));
        kept.note(message("t0", 1, 11));
        assert_eq!(kept.bytes, MOST_BYTES / 4 * 3 + 1);
    }
}
