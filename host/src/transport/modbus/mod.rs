//! Modbus buses: TCP, RTU over TCP and serial RTU. One task per wire with one queue for all units on it. Knows
//! registers by number only.

mod bus;
mod line;
mod plan;
mod queue;
mod status;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub(super) use self::bus::Bus;
pub(super) use self::line::Wire;
pub use self::status::BusStatus;

use self::bus::closed;
use self::queue::{Answer, Job, Pace, Work};
use super::{Block, BoxFuture, Modbus, ModbusError};
use crate::config::EndpointConfig;

/// Most registers one request may write (Modbus application protocol 1.1b3, 6.12).
const MAX_WRITE: usize = 123;

/// A connection may take longer than the shortest timeout of a request.
const SHORTEST_CONNECT: Duration = Duration::from_secs(1);

/// One unit on a bus as a device sees it. Waiting for an answer needs no runtime of its own.
pub(super) struct ModbusEndpoint {
    bus: Arc<Bus>,
    /// Keeps the bus in use.
    _user: Arc<dyn Send + Sync>,
    unit: u8,
    pace: Pace,
    /// How often a read without a good answer is made again.
    retries: u8,
    /// Most registers in a request.
    most: u16,
    read_only: bool,
    slot: String,
}

impl ModbusEndpoint {
    pub(super) fn new(bus: Arc<Bus>, user: Arc<dyn Send + Sync>, unit: u8, cfg: &EndpointConfig, slot: &str) -> Self {
        let (timing, timeout) = (&cfg.timing, cfg.request_timeout());
        let gap = cfg.min_gap.or(timing.gap).unwrap_or_else(|| bus.wire().default_gap());
        let within = cfg.min_gap.is_none() && timing.gap.is_some() && timing.gap_between_units;
        let pace = Pace {
            gap,
            gap_within: if within { bus.wire().frame_gap().min(gap) } else { gap },
            timeout,
            connect: timing.connect_timeout.unwrap_or(timeout.max(SHORTEST_CONNECT)),
            settle: timing.delay_after_connect,
        };
        let (retries, most) = (timing.retries, timing.max_registers.unwrap_or(u16::MAX));
        Self { bus, _user: user, unit, pace, retries, most, read_only: cfg.read_only, slot: slot.to_owned() }
    }

    fn job(&self, work: Work) -> (Job, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let most = if let Work::Read(block) = &work { block.table.max_count().min(self.most) } else { 0 };
        (Job { unit: self.unit, work, pace: self.pace, most, alone: false, reply }, answer)
    }

    /// Reads all blocks, and those without a good answer again.
    async fn read_retrying(&self, blocks: Vec<Block>) -> Vec<Result<Vec<u16>, ModbusError>> {
        let mut results = self.read_once(&blocks).await;
        for _ in 0..self.retries {
            let failed = |result: &Result<_, _>| matches!(result, Err(ModbusError::Timeout | ModbusError::Protocol(_)));
            let again: Vec<Block> =
                blocks.iter().zip(&results).filter(|(_, result)| failed(result)).map(|(block, _)| *block).collect();
            if again.is_empty() {
                break;
            }
            let answers = self.read_once(&again).await;
            for (place, answer) in results.iter_mut().filter(|result| failed(result)).zip(answers) {
                *place = answer;
            }
        }
        results
    }

    async fn read_once(&self, blocks: &[Block]) -> Vec<Result<Vec<u16>, ModbusError>> {
        let mut jobs = Vec::new();
        let mut answers = Vec::with_capacity(blocks.len());
        for block in blocks.iter().copied() {
            answers.push(check(block).map(|()| {
                let (job, answer) = self.job(Work::Read(block));
                jobs.push(job);
                answer
            }));
        }
        // All at once, so that the bus sees what it can merge.
        let refused = self.bus.submit(jobs).err();
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(match (answer, &refused) {
                (Err(error), _) => Err(error),
                (Ok(_), Some(error)) => Err(error.clone()),
                (Ok(answer), None) => self.answer(answer).await,
            });
        }
        results
    }

    async fn answer(&self, answer: oneshot::Receiver<Answer>) -> Answer {
        answer.await.unwrap_or_else(|_| Err(closed(self.bus.wire())))
    }

    async fn write(&self, work: Work) -> Result<(), ModbusError> {
        if self.read_only {
            let slot = &self.slot;
            return Err(ModbusError::Denied(format!("the endpoint `{slot}` is read-only; nothing is written")));
        }
        let (job, answer) = self.job(work);
        self.bus.submit(vec![job])?;
        self.answer(answer).await.map(|_| ())
    }
}

/// Whether the protocol can carry the request.
fn check(block: Block) -> Result<(), ModbusError> {
    let Block { table, address, count } = block;
    if count == 0 || count > table.max_count() {
        let most = table.max_count();
        return Err(ModbusError::Limit(format!("{count} values at {address}; one read takes 1 to {most}")));
    }
    if u32::from(address) + u32::from(count) > 65_536 {
        return Err(ModbusError::Limit(format!("{count} values at {address} reach beyond address 65535")));
    }
    Ok(())
}

impl Modbus for ModbusEndpoint {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        Box::pin(async move {
            let mut results = self.read_retrying(vec![block]).await;
            results.pop().unwrap_or_else(|| Err(closed(self.bus.wire())))
        })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        Box::pin(self.read_retrying(blocks))
    }

    fn write_coil(&self, address: u16, value: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(self.write(Work::WriteCoil(address, value)))
    }

    fn write_register(&self, address: u16, value: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(self.write(Work::WriteRegister(address, value)))
    }

    fn write_registers(&self, address: u16, values: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async move {
            let count = values.len();
            if count == 0 || count > MAX_WRITE || usize::from(address) + count > 65_536 {
                let text =
                    format!("{count} registers at {address}; one write takes 1 to {MAX_WRITE} up to address 65535");
                return Err(ModbusError::Limit(text));
            }
            self.write(Work::WriteRegisters(address, values)).await
        })
    }
}
