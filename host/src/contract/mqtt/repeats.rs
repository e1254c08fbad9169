//! Messages that arrive again: some brokers deliver the same PUBLISH twice, and a call must run once (contract rule
//! B6). Pure: the moments come from the caller.

use std::collections::VecDeque;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::site::Moment;

/// Messages that are remembered at most; with the longest answers of the default this is 16 MiB.
const MOST: usize = 256;

/// The same for the same topic and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub fn of(topic: &str, payload: &[u8]) -> Self {
        let mut digest = Sha256::new();
        // The length keeps topic and payload apart.
        digest.update((topic.len() as u64).to_le_bytes());
        digest.update(topic);
        digest.update(payload);
        Self(digest.finalize().into())
    }
}

/// What was seen within the window, with what is remembered of it.
#[derive(Debug)]
pub(crate) struct Repeats<T> {
    seen: VecDeque<(Fingerprint, Moment, T)>,
}

impl<T> Default for Repeats<T> {
    fn default() -> Self {
        Self { seen: VecDeque::new() }
    }
}

impl<T> Repeats<T> {
    /// What is remembered of the same message, if its first arrival is not longer ago than `window`. A window of
    /// zero finds nothing.
    pub fn find(&mut self, fingerprint: Fingerprint, at: Moment, window: Duration) -> Option<&T> {
        self.seen.retain(|(_, first, _)| !window.is_zero() && at.since(*first) <= window);
        self.seen.iter().find(|(seen, ..)| *seen == fingerprint).map(|(.., what)| what)
    }

    /// Remembers the first arrival of a message.
    pub fn remember(&mut self, fingerprint: Fingerprint, at: Moment, what: T) {
        if self.seen.len() >= MOST {
            self.seen.pop_front();
        }
        self.seen.push_back((fingerprint, at, what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(500);

    #[test]
    fn b6_a_repeat_counts_from_the_first_arrival() {
        let mut repeats = Repeats::default();
        let call = Fingerprint::of("api/cmd=x", b"1");
        assert_eq!(repeats.find(call, Moment(1_000), WINDOW), None);
        repeats.remember(call, Moment(1_000), "first");
        assert_eq!(repeats.find(call, Moment(1_400), WINDOW), Some(&"first"));
        assert_eq!(repeats.find(call, Moment(1_500), WINDOW), Some(&"first"));
        assert_eq!(repeats.find(call, Moment(1_501), WINDOW), None, "not from the last repeat");
    }

    #[test]
    fn b6_topic_and_payload_both_count() {
        let one = Fingerprint::of("ab", b"c");
        for (topic, payload) in [("a", "bc"), ("abc", ""), ("ab", "d"), ("ab", "")] {
            assert_ne!(one, Fingerprint::of(topic, payload.as_bytes()), "{topic} {payload}");
        }
        assert_eq!(one, Fingerprint::of("ab", b"c"));
    }

    #[test]
    fn b6_a_window_of_zero_is_off_and_memory_is_bounded() {
        let mut repeats = Repeats::default();
        let call = Fingerprint::of("t", b"");
        repeats.remember(call, Moment(1), ());
        assert_eq!(repeats.find(call, Moment(1), Duration::ZERO), None);
        for n in 0..1_000_u32 {
            repeats.remember(Fingerprint::of("t", &n.to_le_bytes()), Moment(1), ());
        }
        assert_eq!(repeats.seen.len(), MOST);
    }
}
