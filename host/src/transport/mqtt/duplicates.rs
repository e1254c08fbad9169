//! Which received messages have been handled already: those a broker repeats with the DUP flag, and the copies of
//! one message that it sends because several of our filters match. Bounded; pure.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::packet::Publish;
use crate::site::Moment;

/// Handled packet ids that are remembered.
const REMEMBERED: usize = 1024;

/// How long a broker may take to repeat a message. Long after that the same packet id with the same content is more
/// likely a new message whose first delivery was lost.
const REPEATED: Duration = Duration::from_secs(300);

/// Messages with several filters that are remembered.
const COPIES: usize = 64;

/// How far the copies of one message may lie apart: a broker sends them together.
const TOGETHER: Duration = Duration::from_millis(250);

/// The memory of one connection, across reconnects.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    hasher: RandomState,
    handled: VecDeque<Handled>,
    copied: VecDeque<Copied>,
}

#[derive(Debug)]
struct Handled {
    id: u16,
    content: u64,
    at: Moment,
}

#[derive(Debug)]
struct Copied {
    content: u64,
    at: Moment,
    /// How many more may come.
    left: usize,
}

impl Duplicates {
    /// Whether this repeats a message that has been handled: the DUP flag, a known packet id and the same content.
    /// Remembers it if not. Messages of QoS 0 have no packet id and are never repeated.
    pub(super) fn is_repeated(&mut self, publish: &Publish, now: Moment) -> bool {
        if publish.id == 0 {
            return false;
        }
        let content = self.content(publish);
        if publish.dup {
            let last = self.handled.iter().rev().find(|handled| handled.id == publish.id);
            if last.is_some_and(|last| last.content == content && now.since(last.at) <= REPEATED) {
                return true;
            }
        }
        if self.handled.len() >= REMEMBERED {
            self.handled.pop_front();
        }
        self.handled.push_back(Handled { id: publish.id, content, at: now });
        false
    }

    /// Whether this is one more copy of a message that has been handed to all readers already. `filters` is how many
    /// of our filters match it: no broker sends more copies. Retained messages are answers to a subscription and
    /// never count as copies.
    pub(super) fn is_copy(&mut self, publish: &Publish, filters: usize, now: Moment) -> bool {
        if filters < 2 || publish.retained {
            return false;
        }
        let content = self.content(publish);
        while self.copied.front().is_some_and(|copied| now.since(copied.at) > TOGETHER) {
            self.copied.pop_front();
        }
        if let Some(copied) = self.copied.iter_mut().find(|copied| copied.content == content && copied.left > 0) {
            copied.left -= 1;
            return true;
        }
        if self.copied.len() >= COPIES {
            self.copied.pop_front();
        }
        self.copied.push_back(Copied { content, at: now, left: filters - 1 });
        false
    }

    fn content(&self, publish: &Publish) -> u64 {
        let correlation = publish.reply_to.as_ref().map(|to| (to.topic.as_str(), to.correlation.as_ref()));
        self.hasher.hash_one((publish.topic.as_str(), &publish.payload, correlation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Qos;

    fn publish(id: u16, dup: bool, payload: &str) -> Publish {
        Publish {
            topic: "api/cmd=x".to_owned(),
            payload: payload.to_owned().into(),
            qos: if id == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
            retained: false,
            dup,
            id,
            reply_to: None,
        }
    }

    #[test]
    fn b6_dup_only_the_same_content_under_the_same_packet_id_is_a_repetition() {
        let mut memory = Duplicates::default();
        let mut repeated = |publish, at| memory.is_repeated(&publish, Moment(at));
        assert!(!repeated(publish(1, false, "a"), 0));
        assert!(repeated(publish(1, true, "a"), 1));
        assert!(repeated(publish(1, true, "a"), 2), "as often as it comes");
        assert!(!repeated(publish(1, true, "b"), 3), "the packet id was used again");
        assert!(repeated(publish(1, true, "b"), 4));
        assert!(!repeated(publish(2, true, "a"), 5), "the first delivery never arrived");
        assert!(!repeated(publish(1, false, "b"), 6), "without the flag it is new");
        assert!(!repeated(publish(0, true, "a"), 7) && !repeated(publish(0, true, "a"), 8));
        assert!(!repeated(publish(1, true, "b"), 7 + REPEATED.as_millis() as u64), "too long ago");
        for id in 10..=u16::MAX {
            assert!(!repeated(publish(id, false, "a"), 400_000));
        }
        assert_eq!(memory.handled.len(), REMEMBERED);
    }

    #[test]
    fn only_as_many_copies_are_dropped_as_filters_match() {
        let mut memory = Duplicates::default();
        let mut copy = |payload, filters, at| memory.is_copy(&publish(1, false, payload), filters, Moment(at));
        assert!(!copy("a", 1, 0) && !copy("a", 1, 0), "one filter has no copies");
        assert!(!copy("a", 3, 0));
        assert!(copy("a", 3, 1) && copy("a", 3, 2));
        assert!(!copy("a", 3, 3), "a fourth is a message of its own");
        assert!(!copy("b", 2, 4));
        assert!(!copy("b", 2, 5 + TOGETHER.as_millis() as u64), "copies come together");
        let retained = Publish { retained: true, ..publish(1, false, "r") };
        assert!(!memory.is_copy(&retained, 2, Moment(9)) && !memory.is_copy(&retained, 2, Moment(9)));
    }
}
