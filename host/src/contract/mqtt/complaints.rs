//! The same complaint at most every ten seconds, with a count of those that were left out: who sends nonsense sends
//! it often.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// One kind of complaint is logged at most this often.
const EVERY: Duration = Duration::from_secs(10);
/// Kinds that are remembered; names come from outside.
const MOST_KINDS: usize = 1024;

/// When which complaint was made last.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    made: HashMap<String, (Instant, u64)>,
}

/// What stands behind a complaint that others like it were left out before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            left_out => write!(f, " ({left_out} more like this were not logged)"),
        }
    }
}

impl Complaints {
    /// Calls `log` unless the same `kind` was logged a moment ago.
    pub fn say(&mut self, kind: &str, log: impl FnOnce(More)) {
        if let Some((last, left_out)) = self.made.get_mut(kind) {
            if last.elapsed() < EVERY {
                *left_out += 1;
                return;
            }
            log(More(*left_out));
            (*last, *left_out) = (Instant::now(), 0);
            return;
        }
        if self.made.len() >= MOST_KINDS {
            self.made.clear();
        }
        self.made.insert(kind.to_owned(), (Instant::now(), 0));
        log(More(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_complaint_is_made_again_later_with_a_count() {
        let mut complaints = Complaints::default();
        let mut said = Vec::new();
        for (kind, seconds) in [("a", 1), ("a", 1), ("b", 1), ("a", 8), ("a", 0)] {
            complaints.say(kind, |more| said.push(format!("{kind}{more}")));
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        assert_eq!(said, ["a", "b", "a (2 more like this were not logged)"]);
    }
}
