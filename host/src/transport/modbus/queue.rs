//! The waiting requests of one bus and whose turn it is: commands before reads, the units in turn, reads that can
//! share a request together, and never two silent units one after the other while another one could be served.
//! Sends nothing itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::plan;
use crate::transport::{Block, ModbusError};

/// Requests that may wait on one bus.
pub(super) const MAX_WAITING: usize = 256;

/// Merged requests a device has refused that are remembered.
const MAX_REFUSED: usize = 256;

/// The answer to a job; empty for a write.
pub(super) type Answer = Result<Vec<u16>, ModbusError>;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Read(Block),
    WriteCoil(u16, bool),
    WriteRegister(u16, u16),
    WriteRegisters(u16, Vec<u16>),
}

/// The times a request keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// Silence before and behind it if another unit is asked next to it.
    pub(super) gap: Duration,
    /// Likewise if the same unit is.
    pub(super) gap_within: Duration,
    /// How long the answer may take.
    pub(super) timeout: Duration,
    /// How long a connection may take.
    pub(super) connect: Duration,
    /// How old a connection must be.
    pub(super) settle: Duration,
}

impl Pace {
    /// What suits both.
    fn slower(self, other: Self) -> Self {
        Self {
            gap: self.gap.max(other.gap),
            gap_within: self.gap_within.max(other.gap_within),
            timeout: self.timeout.max(other.timeout),
            connect: self.connect.max(other.connect),
            settle: self.settle.max(other.settle),
        }
    }
}

/// One request of one caller.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) unit: u8,
    pub(super) work: Work,
    pub(super) pace: Pace,
    /// Most values a request that it shares with others may ask this unit for.
    pub(super) most: u16,
    /// Not to be merged: its merged request was refused.
    pub(super) alone: bool,
    pub(super) reply: oneshot::Sender<Answer>,
}

impl Job {
    fn block(&self) -> Option<Block> {
        if let Work::Read(block) = self.work { Some(block) } else { None }
    }
}

/// What goes out as one request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) unit: u8,
    pub(super) work: Work,
    /// More than one only for reads.
    pub(super) jobs: Vec<Job>,
    pub(super) pace: Pace,
}

/// What to do now.
#[derive(Debug)]
pub(super) enum Turn {
    Serve(Batch),
    /// All that waits is for units that must be left alone until then.
    Wait(Instant),
    Nothing,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    commands: VecDeque<Job>,
    reads: VecDeque<Job>,
    /// Units that did not answer last time, and until when they are left alone.
    silent: HashMap<u8, Instant>,
    just_timed_out: bool,
    last_unit: u8,
    refused: HashSet<(u8, Block)>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.commands.len() + self.reads.len()
    }

    /// All jobs or none: `false` if they do not fit.
    pub(super) fn push(&mut self, jobs: Vec<Job>) -> bool {
        if self.len() + jobs.len() > MAX_WAITING {
            self.forget_cancelled();
        }
        if self.len() + jobs.len() > MAX_WAITING {
            return false;
        }
        for job in jobs {
            if job.block().is_some() { self.reads.push_back(job) } else { self.commands.push_back(job) }
        }
        true
    }

    /// Puts the parts of a refused request back, to be asked one by one.
    pub(super) fn retry_alone(&mut self, jobs: Vec<Job>) {
        for mut job in jobs.into_iter().rev() {
            job.alone = true;
            self.reads.push_front(job);
        }
    }

    /// The device does not take this merged request; its parts are not merged to it again.
    pub(super) fn remember_refused(&mut self, unit: u8, block: Block) {
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        self.refused.insert((unit, block));
    }

    /// The unit has answered.
    pub(super) fn answered(&mut self, unit: u8) {
        self.silent.remove(&unit);
        self.just_timed_out = false;
    }

    /// The unit has not answered and is left alone until `until`: an answer that comes late must not be taken for
    /// the next one.
    pub(super) fn timed_out(&mut self, unit: u8, until: Instant) {
        self.silent.insert(unit, until);
        self.just_timed_out = true;
    }

    /// Takes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        self.commands.drain(..).chain(self.reads.drain(..)).collect()
    }

    fn forget_cancelled(&mut self) {
        self.commands.retain(|job| !job.reply.is_closed());
        self.reads.retain(|job| !job.reply.is_closed());
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self, now: Instant) -> Turn {
        self.forget_cancelled();
        let Some((unit, is_command)) = self.choose(now) else {
            let until = self.commands.iter().chain(&self.reads).filter_map(|job| self.silent.get(&job.unit));
            return until.min().map_or(Turn::Nothing, |until| Turn::Wait(*until));
        };
        self.last_unit = unit;
        let jobs = if is_command { take_first(&mut self.commands, unit) } else { self.take_reads(unit) };
        match jobs {
            Some((work, jobs)) => {
                let pace = jobs.iter().map(|job| job.pace).fold(Pace::default(), Pace::slower);
                Turn::Serve(Batch { unit, work, jobs, pace })
            }
            None => Turn::Nothing,
        }
    }

    fn choose(&self, now: Instant) -> Option<(u8, bool)> {
        let ready = |job: &&Job| self.silent.get(&job.unit).is_none_or(|until| *until <= now);
        let answers = |job: &&Job| !self.silent.contains_key(&job.unit);
        let first = |jobs: &VecDeque<Job>, only_answering: bool| {
            let units = jobs.iter().filter(ready).filter(|job| !only_answering || answers(job)).map(|job| job.unit);
            // The smallest distance behind the unit served last is the next one in turn.
            units.min_by_key(|unit| unit.wrapping_sub(self.last_unit).wrapping_sub(1))
        };
        let among = |only_answering: bool| {
            let command = first(&self.commands, only_answering).map(|unit| (unit, true));
            command.or_else(|| first(&self.reads, only_answering).map(|unit| (unit, false)))
        };
        let answering = if self.just_timed_out { among(true) } else { None };
        answering.or_else(|| among(false))
    }

    /// The oldest read of `unit` with all that can share its request.
    fn take_reads(&mut self, unit: u8) -> Option<(Work, Vec<Job>)> {
        let oldest = self.reads.iter().position(|job| job.unit == unit)?;
        let first = self.reads.get(oldest)?;
        let block = first.block()?;
        let most = first.most.min(block.table.max_count());
        let mergeable = |job: &Job| {
            job.unit == unit && !job.alone && job.most >= most && job.block().is_some_and(|b| b.table == block.table)
        };
        if first.alone {
            return take_first(&mut self.reads, unit);
        }
        let (places, blocks): (Vec<usize>, Vec<Block>) = self
            .reads
            .iter()
            .enumerate()
            .filter(|(_, job)| mergeable(job))
            .filter_map(|(place, job)| Some((place, job.block()?)))
            .unzip();
        let requests = plan::merge(&blocks, most);
        let place_of = |part: &usize| places.get(*part).copied();
        let request = requests.into_iter().find(|request| request.parts.iter().any(|p| place_of(p) == Some(oldest)))?;
        if request.parts.len() == 1 || self.refused.contains(&(unit, request.block)) {
            return take_first(&mut self.reads, unit);
        }
        let chosen: HashSet<usize> = request.parts.iter().filter_map(place_of).collect();
        let (mut taken, mut left) = (Vec::new(), VecDeque::new());
        for (place, job) in self.reads.drain(..).enumerate() {
            if chosen.contains(&place) { taken.push(job) } else { left.push_back(job) }
        }
        self.reads = left;
        Some((Work::Read(request.block), taken))
    }
}

fn take_first(jobs: &mut VecDeque<Job>, unit: u8) -> Option<(Work, Vec<Job>)> {
    let place = jobs.iter().position(|job| job.unit == unit)?;
    let job = jobs.remove(place)?;
    Some((job.work.clone(), vec![job]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Table;

    struct Bench {
        queue: Queue,
        replies: Vec<oneshot::Receiver<Answer>>,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { queue: Queue::default(), replies: Vec::new(), now: Instant::now() }
        }

        fn job(&mut self, unit: u8, work: Work) -> Job {
            let (reply, answer) = oneshot::channel();
            self.replies.push(answer);
            let pace = Pace { timeout: Duration::from_secs(1), ..Pace::default() };
            Job { unit, work, pace, most: 125, alone: false, reply }
        }

        fn read(&mut self, unit: u8, address: u16, count: u16) {
            let job = self.job(unit, Work::Read(Block { table: Table::Holding, address, count }));
            assert!(self.queue.push(vec![job]));
        }

        fn write(&mut self, unit: u8, address: u16) {
            let job = self.job(unit, Work::WriteRegister(address, 1));
            assert!(self.queue.push(vec![job]));
        }

        fn served(&mut self) -> String {
            match self.queue.next(self.now) {
                Turn::Serve(batch) => match batch.work {
                    Work::Read(block) => format!("{}r{}+{}", batch.unit, block.address, block.count),
                    _ => format!("{}w", batch.unit),
                },
                Turn::Wait(until) => format!("wait {}", (until - self.now).as_millis()),
                Turn::Nothing => "-".to_owned(),
            }
        }
    }

    #[test]
    fn commands_go_first_and_units_take_turns() {
        let mut bench = Bench::new();
        for address in [0, 10, 20] {
            bench.read(1, address, 2);
        }
        bench.read(2, 0, 2);
        bench.write(3, 5);
        let order: Vec<_> = (0..6).map(|_| bench.served()).collect();
        assert_eq!(order, ["3w", "1r0+2", "2r0+2", "1r10+2", "1r20+2", "-"]);
    }

    #[test]
    fn reads_of_one_unit_share_a_request_unless_it_was_refused() {
        let mut bench = Bench::new();
        for unit in [1, 2] {
            bench.read(unit, 0, 2);
            bench.read(unit, 2, 2);
        }
        let Turn::Serve(batch) = bench.queue.next(bench.now) else { panic!("nothing to serve") };
        assert_eq!((batch.unit, batch.jobs.len()), (1, 2));
        bench.queue.remember_refused(1, Block { table: Table::Holding, address: 0, count: 4 });
        bench.queue.retry_alone(batch.jobs);
        let order: Vec<_> = (0..4).map(|_| bench.served()).collect();
        assert_eq!(order, ["2r0+4", "1r0+2", "1r2+2", "-"]);
        bench.read(1, 0, 2);
        bench.read(1, 2, 2);
        assert_eq!([bench.served(), bench.served()], ["1r0+2", "1r2+2"]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_dropped() {
        let mut bench = Bench::new();
        bench.write(1, 5);
        bench.read(1, 0, 2);
        bench.read(1, 8, 2);
        bench.replies.drain(..2);
        assert_eq!([bench.served(), bench.served()], ["1r8+2", "-"]);
    }

    #[test]
    fn a_silent_unit_costs_the_others_one_timeout_each_time() {
        let mut bench = Bench::new();
        for _ in 0..3 {
            bench.write(5, 1);
            bench.write(6, 1);
            bench.read(1, 0, 1);
        }
        assert_eq!(bench.served(), "5w");
        bench.queue.timed_out(5, bench.now);
        assert_eq!(bench.served(), "6w");
        bench.queue.timed_out(6, bench.now);
        assert_eq!(bench.served(), "1r0+1", "a unit that answers comes between two that do not");
        bench.queue.answered(1);
        assert_eq!(bench.served(), "5w");
    }

    #[test]
    fn a_unit_is_left_alone_while_a_late_answer_may_come() {
        let mut bench = Bench::new();
        bench.read(1, 0, 1);
        bench.queue.timed_out(1, bench.now + Duration::from_millis(300));
        assert_eq!(bench.served(), "wait 300");
        bench.read(2, 0, 1);
        assert_eq!(bench.served(), "2r0+1");
        bench.now += Duration::from_millis(300);
        assert_eq!(bench.served(), "1r0+1");
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut bench = Bench::new();
        for _ in 0..MAX_WAITING {
            bench.read(1, 0, 1);
        }
        let job = bench.job(1, Work::WriteCoil(1, true));
        assert!(!bench.queue.push(vec![job]));
        bench.replies.clear();
        let job = bench.job(1, Work::WriteCoil(1, true));
        assert!(bench.queue.push(vec![job]), "cancelled requests take no room");
    }
}
