//! Calls that wait and calls that run. A lane runs one call after the other; lanes run side by side. All commands of
//! the site share one lane, so that a change is in force before the next call is looked at; registers of devices
//! have one for each device, so that a silent one holds up only who asks for it too.

use std::collections::{HashMap, HashSet, VecDeque};

use tokio::task::JoinSet;

use super::super::super::api::Args;

/// Calls that wait at most.
pub(super) const MOST: usize = 256;
/// Lanes that run at the same time, beside the site's own.
const SIDE_BY_SIDE: usize = 16;

/// Which calls keep their order among each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// The site's commands.
    Site,
    /// Registers behind this address.
    Registers(String),
}

/// The lane of a call.
pub(super) fn lane(args: &Args) -> Lane {
    let place = match args.get("cmd") {
        Some("modbus_get" | "modbus_set") => args.get("addr"),
        Some("modbus") => args.get("device"),
        _ => return Lane::Site,
    };
    Lane::Registers(place.unwrap_or_default().to_owned())
}

/// A call whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Started<T> {
    pub lane: Lane,
    pub job: T,
}

/// See the module.
pub(super) struct Lanes<T> {
    /// In the order of arrival.
    waiting: VecDeque<(Lane, T)>,
    busy: HashSet<Lane>,
    running: JoinSet<()>,
    lanes: HashMap<tokio::task::Id, Lane>,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), busy: HashSet::new(), running: JoinSet::new(), lanes: HashMap::new() }
    }
}

impl<T> Lanes<T> {
    /// Puts a call at the end of its lane; gives it back if too many wait.
    pub fn add(&mut self, lane: Lane, job: T) -> Result<(), T> {
        if self.waiting.len() >= MOST {
            return Err(job);
        }
        self.waiting.push_back((lane, job));
        Ok(())
    }

    /// The next call whose lane is free. It counts as running from now on.
    pub fn next(&mut self) -> Option<Started<T>> {
        let others = self.busy.len() - usize::from(self.busy.contains(&Lane::Site));
        let free = |lane: &Lane| !self.busy.contains(lane) && (*lane == Lane::Site || others < SIDE_BY_SIDE);
        let at = self.waiting.iter().position(|(lane, _)| free(lane))?;
        let (lane, job) = self.waiting.remove(at)?;
        self.busy.insert(lane.clone());
        Some(Started { lane, job })
    }

    /// Runs what [`Lanes::next`] gave.
    pub fn run(&mut self, lane: Lane, work: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(work).id();
        self.lanes.insert(id, lane);
    }

    /// Waits until a call has ended; for ever if none runs. Cancel-safe.
    pub async fn finished(&mut self) {
        let id = match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!("a call broke down: {error}");
                error.id()
            }
            None => std::future::pending().await,
        };
        if let Some(lane) = self.lanes.remove(&id) {
            self.busy.remove(&lane);
        }
    }

    /// Drops what waits, and waits for what runs.
    pub async fn drain(&mut self) {
        self.waiting.clear();
        while self.running.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(place: &str) -> Lane {
        Lane::Registers(place.into())
    }

    #[test]
    fn only_calls_to_devices_leave_the_common_lane() {
        let lane = |query: &str| lane(&Args::parse(query).unwrap());
        assert_eq!(lane("cmd=set_params"), Lane::Site);
        assert_eq!(lane("cmd=get_params"), Lane::Site, "a read sees the changes before it");
        assert_eq!(lane("cmd=modbus_get&addr=10.0.0.1:502&reg=1"), registers("10.0.0.1:502"));
        assert_eq!(lane("cmd=modbus_set&addr=10.0.0.1:502&reg=1"), registers("10.0.0.1:502"));
        assert_eq!(lane("cmd=modbus&device=evse&read=8092"), registers("evse"));
    }

    #[tokio::test]
    async fn a_lane_keeps_its_order_and_holds_up_no_other() {
        let mut lanes = Lanes::default();
        for (lane, job) in [(registers("a"), 1), (registers("a"), 2), (Lane::Site, 3), (Lane::Site, 4)] {
            lanes.add(lane, job).unwrap();
        }
        let next = |lanes: &mut Lanes<i32>| lanes.next().map(|started| (started.lane, started.job));
        assert_eq!(next(&mut lanes), Some((registers("a"), 1)));
        assert_eq!(next(&mut lanes), Some((Lane::Site, 3)), "the site does not wait for a device");
        assert_eq!(next(&mut lanes), None, "both lanes are busy");
        lanes.run(Lane::Site, async {});
        lanes.run(registers("a"), std::future::pending());
        lanes.finished().await;
        assert_eq!(next(&mut lanes), Some((Lane::Site, 4)));
        assert_eq!(next(&mut lanes), None, "the device still answers the first one");
    }

    #[test]
    fn what_waits_is_bounded_and_the_site_always_has_its_turn() {
        let mut lanes = Lanes::default();
        for n in 0..MOST {
            lanes.add(registers(&n.to_string()), n).unwrap();
        }
        assert_eq!(lanes.add(Lane::Site, MOST), Err(MOST));
        let running = std::iter::from_fn(|| lanes.next()).count();
        assert_eq!(running, SIDE_BY_SIDE);
        lanes.add(Lane::Site, MOST).unwrap();
        assert_eq!(lanes.next().map(|started| started.job), Some(MOST));
    }
}
