//! A bounded first-in-first-out queue in which a newer item takes the place of a waiting one with the same key.
//! Finding the waiting one costs one hash, however many wait.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// The hash of an item's key, made by the caller.
pub(crate) type KeyHash = u64;

/// What [`NewestQueue::push`] had to give up.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gave<T> {
    /// Nothing.
    Nothing,
    /// The older item of the same key.
    Replaced(T),
    /// The oldest item, because there are too many keys.
    Evicted(T),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct NewestQueue<T> {
    items: VecDeque<(KeyHash, T)>,
    /// Key to the serial number of the waiting item. Items leave at the front only, so the serial number minus
    /// that of the front is the place in `items`.
    places: HashMap<KeyHash, u64, BuildHasherDefault<AlreadyHashed>>,
    front: u64,
}

impl<T> Default for NewestQueue<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), places: HashMap::default(), front: 0 }
    }
}

impl<T> NewestQueue<T> {
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The waiting item with this key. `same` decides between keys with the same hash.
    pub(crate) fn find(&mut self, key: KeyHash, same: impl Fn(&T) -> bool) -> Option<&mut T> {
        let place = self.places.get(&key)?.checked_sub(self.front)?;
        self.items.get_mut(usize::try_from(place).ok()?).map(|(_, item)| item).filter(|item| same(item))
    }

    /// Puts `item` in the place of the waiting one with the same key, or at the end.
    /// `same` says whether a waiting item and the new one have the same key.
    pub(crate) fn push(&mut self, key: KeyHash, item: T, same: impl Fn(&T, &T) -> bool, capacity: usize) -> Gave<T> {
        if let Some(waiting) = self.find(key, |waiting| same(waiting, &item)) {
            return Gave::Replaced(std::mem::replace(waiting, item));
        }
        let evicted = if self.items.len() >= capacity.max(1) { self.pop() } else { None };
        self.push_back(key, item);
        evicted.map_or(Gave::Nothing, Gave::Evicted)
    }

    /// Puts `item` at the end whatever waits already.
    pub(crate) fn push_back(&mut self, key: KeyHash, item: T) {
        self.places.insert(key, self.front + self.items.len() as u64);
        self.items.push_back((key, item));
    }

    /// Takes the oldest item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (key, item) = self.items.pop_front()?;
        if self.places.get(&key) == Some(&self.front) {
            self.places.remove(&key);
        }
        self.front += 1;
        Some(item)
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(queue: &mut NewestQueue<(u8, u32)>, key: u8, value: u32, capacity: usize) -> Gave<(u8, u32)> {
        // Only four hashes for more keys: different keys share one, as they may with real hashes.
        queue.push(u64::from(key % 4), (key, value), |waiting, new| waiting.0 == new.0, capacity)
    }

    #[test]
    fn a_newer_item_takes_the_place_of_the_waiting_one() {
        let mut queue = NewestQueue::default();
        assert_eq!(push(&mut queue, 1, 10, 2), Gave::Nothing);
        assert_eq!(push(&mut queue, 2, 20, 2), Gave::Nothing);
        assert_eq!(push(&mut queue, 1, 11, 2), Gave::Replaced((1, 10)));
        assert_eq!(push(&mut queue, 3, 30, 2), Gave::Evicted((1, 11)));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some((2, 20)), Some((3, 30)), None]);
    }

    proptest! {
        /// Nothing is lost that was not given back, the bound holds, and with keys that do not share a hash each
        /// key waits once.
        #[test]
        fn agrees_with_a_plain_list(steps in prop::collection::vec((0u8..8, any::<bool>()), 0..200), capacity in 1usize..6) {
            let mut queue = NewestQueue::default();
            let mut pushed = 0u32;
            let mut left = 0u32;
            for (key, pop) in steps {
                if pop {
                    left += u32::from(queue.pop().is_some());
                } else {
                    pushed += 1;
                    left += u32::from(push(&mut queue, key, pushed, capacity) != Gave::Nothing);
                }
                prop_assert!(queue.len() <= capacity);
                prop_assert_eq!(pushed, left + queue.len() as u32);
            }
        }

        #[test]
        fn each_key_waits_once(keys in prop::collection::vec(0u8..4, 0..100)) {
            let mut queue = NewestQueue::default();
            for (value, key) in keys.iter().enumerate() {
                push(&mut queue, *key, value as u32, 100);
            }
            let mut seen = std::collections::BTreeSet::new();
            while let Some((key, value)) = queue.pop() {
                prop_assert!(seen.insert(key));
                let newest = keys.iter().rposition(|k| *k == key);
                prop_assert_eq!(newest, Some(value as usize));
            }
        }
    }
}
