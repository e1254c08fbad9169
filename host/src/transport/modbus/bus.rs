//! The task of one bus: takes the requests in turn, keeps the gap between them, opens the line when it is needed and
//! opens it again when it is lost. One request at a time; nobody else touches the wire.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::line::{Line, Trouble, Wire};
use super::plan;
use super::queue::{Batch, Job, MAX_WAITING, Pace, Queue, Turn, Work};
use super::status::{BusStatus, Counters};
use crate::transport::ModbusError;
use crate::transport::backoff::Backoff;

/// Silence after which a serial line that brought the wrong thing counts as empty.
const SHORTEST_SILENCE: Duration = Duration::from_millis(20);

/// One bus, shared by the endpoints of all units on it.
pub(in crate::transport) struct Bus {
    wire: Wire,
    queue: Mutex<Queue>,
    wake: Notify,
    closing: AtomicBool,
    counters: Counters,
}

impl Bus {
    /// Starts the task; the line is opened with the first request.
    pub(in crate::transport) fn start(io: &Handle, wire: Wire) -> Arc<Self> {
        let bus = Arc::new(Self {
            wire,
            queue: Mutex::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            counters: Counters::default(),
        });
        let task = bus.clone();
        io.spawn(async move {
            // A task of its own: should a library panic on strange bytes, the bus starts anew.
            while tokio::spawn(Driver::new(task.clone()).run()).await.is_err() {
                task.counters.note_error(format!("{}: the bus failed on what a device sent", task.wire));
            }
        });
        bus
    }

    pub(in crate::transport) fn status(&self) -> BusStatus {
        self.counters.snapshot(self.wire.to_string(), self.queue().len())
    }

    /// Closes the line and refuses everything from now on.
    pub(in crate::transport) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Queues all jobs or none.
    pub(super) fn submit(&self, jobs: Vec<Job>) -> Result<(), ModbusError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(closed(&self.wire));
        }
        if !self.queue().push(jobs) {
            let wire = &self.wire;
            return Err(ModbusError::Limit(format!("{MAX_WAITING} requests already wait on {wire}")));
        }
        self.wake.notify_one();
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn closed(wire: &Wire) -> ModbusError {
    ModbusError::Unreachable(format!("{wire} is closed"))
}

/// The state of the task.
struct Driver {
    bus: Arc<Bus>,
    line: Option<Line>,
    backoff: Backoff,
    /// No attempt to open the line before this, and why.
    blocked: Option<(Instant, String)>,
    /// When the line was opened.
    opened: Instant,
    /// When the line was last used, for which unit, and the times that request keeps.
    last_use: Instant,
    last_unit: u8,
    last_pace: Pace,
}

impl Driver {
    fn new(bus: Arc<Bus>) -> Self {
        bus.counters.connected.store(false, Ordering::Relaxed);
        let now = Instant::now();
        let (line, backoff) = (None, Backoff::default());
        Self { bus, line, backoff, blocked: None, opened: now, last_use: now, last_unit: 0, last_pace: Pace::default() }
    }

    async fn run(mut self) {
        while !self.bus.closing.load(Ordering::Acquire) {
            let turn = self.bus.queue().next(Instant::now());
            match turn {
                Turn::Serve(batch) => self.serve(batch).await,
                Turn::Nothing => self.bus.wake.notified().await,
                Turn::Wait(until) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(until) => {}
                        () = self.bus.wake.notified() => {}
                    }
                }
            }
        }
        self.drop_line();
        let waiting = self.bus.queue().drain();
        answer_all(waiting, &closed(&self.bus.wire));
    }

    async fn serve(&mut self, batch: Batch) {
        let result = self.ask(&batch).await;
        let mut queue = self.bus.queue();
        match &result {
            Err(Trouble::Timeout) => {
                // On a serial line the late answer looks like the answer to the next request, so the unit is left
                // alone for as long as it had; a TCP connection is simply made anew.
                let quiet = if self.bus.wire.is_rtu() { batch.pace.timeout } else { Duration::ZERO };
                queue.timed_out(batch.unit, Instant::now() + quiet);
            }
            Err(Trouble::Gone(_)) => {}
            Ok(_) | Err(Trouble::Exception(_) | Trouble::Confused(_)) => queue.answered(batch.unit),
        }
        match (result, batch.work) {
            (Ok(values), Work::Read(whole)) => {
                let shared = batch.jobs.len().saturating_sub(1) as u64;
                self.bus.counters.merged.fetch_add(shared, Ordering::Relaxed);
                for job in batch.jobs {
                    let Work::Read(part) = job.work else { continue };
                    let short = || ModbusError::Protocol("the answer is shorter than the request".to_owned());
                    // A caller that has gone away does not want its answer.
                    let _ = job.reply.send(plan::slice(whole, &values, part).ok_or_else(short));
                }
            }
            (Ok(_), _) => {
                for job in batch.jobs {
                    let _ = job.reply.send(Ok(Vec::new()));
                }
            }
            (Err(Trouble::Exception(code)), Work::Read(whole)) if batch.jobs.len() > 1 => {
                // Function, address or value: the device will say so again. Anything else may pass.
                if (1..=3).contains(&code) {
                    queue.remember_refused(batch.unit, whole);
                }
                queue.retry_alone(batch.jobs);
            }
            (Err(trouble), _) => {
                let error = trouble.into_error();
                if !matches!(error, ModbusError::Exception(_)) {
                    self.bus.counters.errors.fetch_add(1, Ordering::Relaxed);
                    self.bus.counters.note_error(format!("{}, unit {}: {error}", self.bus.wire, batch.unit));
                }
                answer_all(batch.jobs, &error);
            }
        }
    }

    /// Sends the request, a second time where that is safe and the first one cannot have failed because of the unit.
    async fn ask(&mut self, batch: &Batch) -> Result<Vec<u16>, Trouble> {
        let is_read = matches!(batch.work, Work::Read(_));
        for attempt in 0..2 {
            let was_open = self.ready(batch).await.map_err(Trouble::Gone)?;
            let Some(line) = &mut self.line else { continue };
            self.bus.counters.requests.fetch_add(1, Ordering::Relaxed);
            let result = line.ask(batch.unit, &batch.work, batch.pace.timeout).await;
            self.last_use = Instant::now();
            (self.last_unit, self.last_pace) = (batch.unit, batch.pace);
            match &result {
                Ok(_) | Err(Trouble::Exception(_)) => self.backoff.reset(),
                Err(Trouble::Gone(reason)) => {
                    self.drop_line();
                    if !was_open {
                        // It was opened for this request and has failed at once: wait before the next time.
                        self.blocked = Some((Instant::now() + self.backoff.next(), reason.clone()));
                    }
                }
                Err(Trouble::Timeout | Trouble::Confused(_)) => self.settle(batch).await,
            }
            let again = match &result {
                Err(Trouble::Gone(_)) => was_open && is_read,
                // On a serial line this may have been the late answer of another unit.
                Err(Trouble::Confused(_)) => self.bus.wire.is_rtu() && is_read,
                _ => false,
            };
            if !again || attempt == 1 {
                return result;
            }
        }
        Err(Trouble::Gone(format!("{} closes every connection at once", self.bus.wire)))
    }

    /// An open, quiet line, with the gap behind the last request kept. Whether it was open before.
    async fn ready(&mut self, batch: &Batch) -> Result<bool, String> {
        let gap = match self.last_unit == batch.unit {
            true => self.last_pace.gap_within.max(batch.pace.gap_within),
            false => self.last_pace.gap.max(batch.pace.gap),
        };
        tokio::time::sleep_until(self.last_use + gap).await;
        if self.line.is_some() {
            tokio::time::sleep_until(self.opened + batch.pace.settle).await;
        }
        if let Some(line) = &mut self.line {
            // What is there now is no answer to anything.
            if line.quiet(Duration::ZERO).await {
                return Ok(line.used);
            }
            self.drop_line();
        }
        if let Some((until, reason)) = &self.blocked
            && Instant::now() < *until
        {
            return Err(reason.clone());
        }
        match Line::open(&self.bus.wire, batch.pace.connect).await {
            Ok(line) => {
                self.line = Some(line);
                self.opened = Instant::now();
                tokio::time::sleep(batch.pace.settle).await;
                self.blocked = None;
                self.bus.counters.opened.fetch_add(1, Ordering::Relaxed);
                self.bus.counters.connected.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(reason) => {
                self.blocked = Some((Instant::now() + self.backoff.next(), reason.clone()));
                Err(reason)
            }
        }
    }

    /// After a missing or a wrong answer: nothing of it may be taken for the next one.
    async fn settle(&mut self, batch: &Batch) {
        let silence = batch.pace.gap.max(SHORTEST_SILENCE);
        let keep = match &mut self.line {
            Some(line) if self.bus.wire.is_rtu() => line.quiet(silence).await,
            _ => false,
        };
        if !keep {
            self.drop_line();
        }
        self.last_use = Instant::now();
    }

    fn drop_line(&mut self) {
        self.line = None;
        self.bus.counters.connected.store(false, Ordering::Relaxed);
    }
}

fn answer_all(jobs: Vec<Job>, error: &ModbusError) {
    for job in jobs {
        let _ = job.reply.send(Err(error.clone()));
    }
}
