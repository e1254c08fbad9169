//! Who gets a received message: the subscriptions of one connection by filter, and what the broker has been told
//! about each filter. Never talks to a broker.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::packet::Publish;
use super::topic;
use crate::site::Moment;
use crate::transport::{Message, Qos, WeakInbox};

/// One reader of one filter.
#[derive(Debug)]
struct Reader {
    endpoint: Arc<str>,
    strip_prefix: String,
    inbox: WeakInbox,
}

/// What the broker knows of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing, or something older.
    No,
    /// The request is on its way.
    Asked,
    /// The broker has answered.
    Yes,
    /// The broker does not allow it.
    Refused,
}

#[derive(Debug)]
struct Filter {
    qos: Qos,
    told: Told,
    readers: Vec<Reader>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Filters without a wildcard: found by the topic itself.
    exact: HashMap<String, Filter>,
    wild: BTreeMap<String, Filter>,
    /// Filters that the broker may forget.
    abandoned: Vec<String>,
    /// Whether there may be filters the broker has to be asked for. This is asked with each message, and there may be
    /// thousands of filters.
    unasked: bool,
}

impl Routes {
    /// Adds a reader. The broker has to be asked (again, so that a late reader gets the retained messages too).
    pub(crate) fn add(&mut self, filter: &str, qos: Qos, endpoint: &str, strip_prefix: &str, inbox: WeakInbox) {
        self.abandoned.retain(|abandoned| abandoned != filter);
        let filters: &mut dyn FilterMap = if is_wild(filter) { &mut self.wild } else { &mut self.exact };
        let entry = filters.entry_of(filter, qos);
        entry.qos = entry.qos.max(qos);
        entry.told = Told::No;
        entry.readers.push(Reader { endpoint: endpoint.into(), strip_prefix: strip_prefix.to_owned(), inbox });
        self.unasked = true;
    }

    /// How many filters match: so many times a broker may send one message (MQTT 3.1.1 and 5, 3.3.5).
    pub(crate) fn matching(&self, topic: &str) -> usize {
        self.matches(topic).count()
    }

    fn matches(&self, topic: &str) -> impl Iterator<Item = &Filter> {
        let wild = self.wild.iter().filter(move |(filter, _)| topic::matches(filter, topic));
        self.exact.get(topic).into_iter().chain(wild.map(|(_, found)| found))
    }

    /// Hands a message to all readers whose filter matches; how many took it.
    pub(crate) fn deliver(&self, publish: &Publish, at: Moment) -> usize {
        let mut delivered = 0;
        for reader in self.matches(&publish.topic).flat_map(|filter| &filter.readers) {
            let message = Message {
                endpoint: reader.endpoint.clone(),
                topic: topic::strip(&reader.strip_prefix, &publish.topic).to_owned(),
                payload: publish.payload.clone(),
                retained: publish.retained,
                at,
                reply_to: publish.reply_to.clone(),
            };
            delivered += usize::from(reader.inbox.push(message));
        }
        delivered
    }

    /// Forgets readers that are gone, and filters without a reader.
    pub(crate) fn sweep(&mut self) {
        let abandoned = &mut self.abandoned;
        let mut keep = |name: &String, filter: &mut Filter| {
            filter.readers.retain(|reader| reader.inbox.is_alive());
            if filter.readers.is_empty() && filter.told != Told::No {
                abandoned.push(name.clone());
            }
            !filter.readers.is_empty()
        };
        self.exact.retain(&mut keep);
        self.wild.retain(&mut keep);
    }

    /// A new connection: the broker knows nothing.
    pub(crate) fn forget_broker(&mut self) {
        self.abandoned.clear();
        self.unasked = true;
        for filter in self.exact.values_mut().chain(self.wild.values_mut()) {
            filter.told = Told::No;
        }
    }

    /// At most `most` filters the broker has to be asked for; they count as asked from now on.
    pub(crate) fn take_unasked(&mut self, most: usize) -> Vec<(String, Qos)> {
        if !self.unasked {
            return Vec::new();
        }
        let untold = self.filters_mut().filter(|(_, filter)| filter.told == Told::No).take(most);
        let asked: Vec<_> = untold
            .map(|(name, filter)| {
                filter.told = Told::Asked;
                (name.clone(), filter.qos)
            })
            .collect();
        self.unasked = asked.len() == most;
        asked
    }

    /// The broker has answered for this filter. A reader that came after the question asks again.
    pub(crate) fn answered(&mut self, filter: &str, granted: bool) {
        if let Some(filter) = self.filter_mut(filter)
            && filter.told == Told::Asked
        {
            filter.told = if granted { Told::Yes } else { Told::Refused };
        }
    }

    /// Filters the broker does not allow, in order.
    pub(crate) fn refused(&self) -> Vec<String> {
        let all = self.exact.iter().chain(&self.wild);
        let mut refused: Vec<_> =
            all.filter(|(_, filter)| filter.told == Told::Refused).map(|(name, _)| name.clone()).collect();
        refused.sort_unstable();
        refused
    }

    /// Filters the broker may forget, once.
    pub(crate) fn take_abandoned(&mut self) -> Option<String> {
        self.abandoned.pop()
    }

    /// Whether the broker has answered for every filter.
    pub(crate) fn all_answered(&self) -> bool {
        self.exact.values().chain(self.wild.values()).all(|filter| matches!(filter.told, Told::Yes | Told::Refused))
    }

    /// Whether anybody reads.
    pub(crate) fn has_readers(&self) -> bool {
        let mut filters = self.exact.values().chain(self.wild.values());
        filters.any(|filter| filter.readers.iter().any(|reader| reader.inbox.is_alive()))
    }

    fn filters_mut(&mut self) -> impl Iterator<Item = (&String, &mut Filter)> {
        self.exact.iter_mut().chain(self.wild.iter_mut())
    }

    fn filter_mut(&mut self, name: &str) -> Option<&mut Filter> {
        if is_wild(name) { self.wild.get_mut(name) } else { self.exact.get_mut(name) }
    }
}

fn is_wild(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// The two kinds of map, so that adding a reader is written once.
trait FilterMap {
    fn entry_of(&mut self, filter: &str, qos: Qos) -> &mut Filter;
}

impl FilterMap for HashMap<String, Filter> {
    fn entry_of(&mut self, filter: &str, qos: Qos) -> &mut Filter {
        self.entry(filter.to_owned()).or_insert_with(|| Filter { qos, told: Told::No, readers: Vec::new() })
    }
}

impl FilterMap for BTreeMap<String, Filter> {
    fn entry_of(&mut self, filter: &str, qos: Qos) -> &mut Filter {
        self.entry(filter.to_owned()).or_insert_with(|| Filter { qos, told: Told::No, readers: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{Inbox, Overflow};

    fn inbox() -> Inbox {
        Inbox::new(Overflow::KeepOrder, 16)
    }

    fn publish(topic: &str) -> Publish {
        Publish {
            topic: topic.to_owned(),
            payload: bytes::Bytes::new(),
            qos: Qos::AtMostOnce,
            retained: false,
            dup: false,
            id: 0,
            reply_to: None,
        }
    }

    fn topics(inbox: &Inbox) -> Vec<String> {
        std::iter::from_fn(|| inbox.try_recv()).map(|m| format!("{}:{}", m.endpoint, m.topic)).collect()
    }

    #[test]
    fn every_reader_of_a_matching_filter_gets_the_message_below_its_prefix() {
        let mut routes = Routes::default();
        let (a, b) = (inbox(), inbox());
        routes.add("box/+/amp", Qos::AtMostOnce, "main", "box", a.downgrade());
        routes.add("box/1/amp", Qos::AtMostOnce, "feed", "", b.downgrade());
        routes.add("box/1/amp", Qos::AtMostOnce, "again", "box/1", b.downgrade());
        assert_eq!(routes.deliver(&publish("box/1/amp"), Moment(1)), 3);
        assert_eq!(routes.deliver(&publish("box/1/other"), Moment(1)), 0);
        assert_eq!([routes.matching("box/1/amp"), routes.matching("box/2/amp"), routes.matching("x")], [2, 1, 0]);
        assert_eq!(topics(&a), ["main:1/amp"]);
        assert_eq!(topics(&b), ["feed:box/1/amp", "again:amp"]);
    }

    #[test]
    fn one_filter_is_asked_for_once_and_again_for_a_late_reader_and_after_a_reconnect() {
        let mut routes = Routes::default();
        let (a, b) = (inbox(), inbox());
        routes.add("set/#", Qos::AtMostOnce, "a", "", a.downgrade());
        routes.add("set/#", Qos::AtLeastOnce, "b", "", b.downgrade());
        assert_eq!(routes.take_unasked(10), [("set/#".to_owned(), Qos::AtLeastOnce)]);
        assert_eq!(routes.take_unasked(10), []);
        assert!(!routes.all_answered());
        routes.answered("set/#", true);
        assert!(routes.all_answered());

        routes.add("set/#", Qos::AtMostOnce, "c", "", a.downgrade());
        assert_eq!(routes.take_unasked(10).len(), 1);
        routes.add("set/#", Qos::AtMostOnce, "d", "", a.downgrade());
        routes.answered("set/#", true);
        assert!(!routes.all_answered(), "the answer was to the question before the last reader");

        routes.forget_broker();
        let asked = routes.take_unasked(10);
        assert_eq!(asked.len(), 1);
        routes.answered("set/#", false);
        assert!(routes.all_answered(), "a refusal is an answer");
        assert_eq!(routes.refused(), ["set/#"]);
    }

    #[test]
    fn filters_are_asked_for_in_portions_until_none_is_left() {
        let (inbox, mut routes) = (inbox(), Routes::default());
        let filters = ["a", "b/+", "c", "d", "e/#"];
        filters.iter().for_each(|filter| routes.add(filter, Qos::AtMostOnce, "main", "", inbox.downgrade()));
        let portions = [2, 2, 2, 2].map(|most| routes.take_unasked(most).len());
        assert_eq!(portions, [2, 2, 1, 0]);
        routes.forget_broker();
        assert_eq!(routes.take_unasked(5).len(), 5, "a new broker knows none of them");
        assert_eq!(routes.take_unasked(5), []);
        routes.add("f", Qos::AtMostOnce, "main", "", inbox.downgrade());
        assert_eq!(routes.take_unasked(5), [("f".to_owned(), Qos::AtMostOnce)]);
    }

    #[test]
    fn a_filter_without_a_reader_is_given_up() {
        let mut routes = Routes::default();
        let (a, b) = (inbox(), inbox());
        routes.add("x", Qos::AtMostOnce, "a", "", a.downgrade());
        routes.add("y/#", Qos::AtMostOnce, "b", "", b.downgrade());
        routes.take_unasked(10);
        drop(b);
        routes.sweep();
        assert_eq!(routes.take_abandoned(), Some("y/#".to_owned()));
        assert_eq!(routes.take_abandoned(), None);
        assert!(routes.has_readers());
        drop(a);
        assert!(!routes.has_readers());
    }
}
