//! A driver whose every answer a test writes down, and the bench it runs on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::{DeviceConfig, EndpointUrl, LimitsConfig};
use crate::device::guest::{
    Artefact, Guest, Opened, Plugged, Seat, StartError, Started, Step, Traits, Wired, WiredSlot,
};
use crate::device::mailbox::Request;
use crate::device::task::{DeviceMailbox, Task, TaskParts};
use crate::runtime::{CallError, DriverError};
use crate::site::{Board, Clock, Command, CommandError, DeviceStatus, Info, Outcome, Role};
use crate::transport::{BoxFuture, Endpoint, Inbox, Message};

type Script<I, O> = Arc<dyn Fn(I) -> Result<O, CallError> + Send + Sync>;

/// One version of a driver. Polls are numbered from 0 over all instances of the version.
#[derive(Clone)]
pub struct Scripted {
    pub version: &'static str,
    pub traits: Traits,
    pub opened: Script<u64, Opened>,
    pub poll: Script<u64, ()>,
    pub step: Script<Step, ()>,
    pub decode: Script<Message, Option<Outcome>>,
    pub start: Result<(), StartError>,
    /// How long a poll takes.
    pub poll_takes: Duration,
    pub endpoints: BTreeMap<String, Endpoint>,
    pub polls: Arc<AtomicU64>,
    pub opens: Arc<AtomicU64>,
    pub log: Log,
}

/// Calls in their order, with the version that got them.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub fn offline() -> CallError {
    DriverError::Offline("no answer".into()).into()
}

pub fn protocol() -> CallError {
    DriverError::Protocol("garbage".into()).into()
}

pub fn trap() -> CallError {
    CallError::Trap { reason: "unreachable".into() }
}

impl Scripted {
    pub fn new(version: &'static str, log: &Log) -> Self {
        Self {
            version,
            traits: Traits { handover: true, charge_control: true, ..Traits::default() },
            opened: Arc::new(|_| Ok(Opened::Driver(Info::default()))),
            poll: Arc::new(|_| Ok(())),
            step: Arc::new(|_| Ok(())),
            decode: Arc::new(|_| Ok(None)),
            start: Ok(()),
            poll_takes: Duration::ZERO,
            endpoints: BTreeMap::new(),
            polls: Arc::default(),
            opens: Arc::default(),
            log: log.clone(),
        }
    }

    pub fn polling(mut self, poll: impl Fn(u64) -> Result<(), CallError> + Send + Sync + 'static) -> Self {
        self.poll = Arc::new(poll);
        self
    }

    pub fn opening(mut self, open: impl Fn(u64) -> Result<Opened, CallError> + Send + Sync + 'static) -> Self {
        self.opened = Arc::new(open);
        self
    }

    pub fn stepping(mut self, step: impl Fn(Step) -> Result<(), CallError> + Send + Sync + 'static) -> Self {
        self.step = Arc::new(step);
        self
    }

    pub fn decoding(
        mut self,
        decode: impl Fn(Message) -> Result<Option<Outcome>, CallError> + Send + Sync + 'static,
    ) -> Self {
        self.decode = Arc::new(decode);
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn plug(self) -> Plugged {
        Arc::new(self)
    }
}

impl Artefact for Scripted {
    fn id(&self) -> &str {
        "scripted"
    }

    fn version(&self) -> &str {
        self.version
    }

    fn fingerprint(&self) -> &str {
        self.version
    }

    fn traits(&self) -> Traits {
        self.traits
    }

    fn start<'a>(&'a self, seat: Seat<'a>) -> BoxFuture<'a, Result<Started, StartError>> {
        Box::pin(async move {
            self.start.clone()?;
            let slots = self.endpoints.iter().map(|(name, endpoint)| {
                let made_from = super::feeding::slot(EndpointUrl::Http(name.clone()));
                let slot = WiredSlot { made_from, endpoint: endpoint.clone() };
                (name.clone(), seat.wired.0.get(name).cloned().unwrap_or(slot))
            });
            let wired = Wired(slots.collect());
            let guest = Box::new(ScriptedGuest { script: self.clone(), count: 0, _inbox: seat.inbox });
            Ok(Started { guest, wired, config: seat.device.config.to_string(), http_body: 1024 })
        })
    }
}

/// Counts its polls in memory, like the counting driver of the hot reload test.
struct ScriptedGuest {
    script: Scripted,
    count: u64,
    _inbox: Inbox,
}

impl ScriptedGuest {
    fn note(&self, what: impl std::fmt::Display) {
        self.script.log.push(format!("{} {what}", self.script.version));
    }
}

impl Guest for ScriptedGuest {
    fn open<'a>(&'a mut self, config: &'a str) -> BoxFuture<'a, Result<Opened, CallError>> {
        self.note(format!("open {config}"));
        let opened = (self.script.opened)(self.script.opens.fetch_add(1, Ordering::Relaxed));
        Box::pin(async { opened })
    }

    fn poll(&mut self) -> BoxFuture<'_, Result<Outcome, CallError>> {
        Box::pin(async move {
            tokio::time::sleep(self.script.poll_takes).await;
            self.note("poll");
            (self.script.poll)(self.script.polls.fetch_add(1, Ordering::Relaxed))?;
            self.count += 1;
            let mut outcome = Outcome::default();
            outcome.push("energy.import", self.count as f64);
            Ok(outcome)
        })
    }

    fn decode_blocks(&mut self, blocks: Vec<Option<Vec<u16>>>) -> BoxFuture<'_, Result<Outcome, CallError>> {
        self.note(format!("decode {blocks:?}"));
        Box::pin(async { Ok(Outcome::default()) })
    }

    fn decode_message<'a>(&'a mut self, message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        self.note(format!("decode {}={}", message.topic, String::from_utf8_lossy(&message.payload)));
        let decoded = (self.script.decode)(message.clone());
        Box::pin(async { decoded })
    }

    fn on_message<'a>(&'a mut self, message: &'a Message) -> BoxFuture<'a, Result<Option<Outcome>, CallError>> {
        self.note(format!("message {}", message.topic));
        let decoded = (self.script.decode)(message.clone());
        Box::pin(async { decoded })
    }

    fn step(&mut self, step: Step) -> BoxFuture<'_, Result<(), CallError>> {
        self.note(format!("{step:?}"));
        let done = (self.script.step)(step);
        Box::pin(async { done })
    }

    fn arm(&mut self, milliamps: u32, timeout_s: u32) -> BoxFuture<'_, Result<(), CallError>> {
        self.note(format!("arm {milliamps} {timeout_s}"));
        Box::pin(async { Ok(()) })
    }

    fn save(&mut self) -> BoxFuture<'_, Result<Vec<u8>, CallError>> {
        self.note("save");
        let saved = self.count.to_le_bytes().to_vec();
        Box::pin(async { Ok(saved) })
    }

    fn restore<'a>(&'a mut self, version: &'a str, snapshot: &'a [u8]) -> BoxFuture<'a, Result<bool, CallError>> {
        self.note(format!("restore {version}"));
        self.count = u64::from_le_bytes(snapshot.try_into().unwrap());
        Box::pin(async { Ok(true) })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), CallError>> {
        self.note("close");
        Box::pin(async { Ok(()) })
    }
}

/// A device E1 and its task.
pub struct Bench {
    pub board: Board,
    pub clock: Clock,
    pub mailbox: DeviceMailbox,
    pub log: Log,
}

pub fn device() -> DeviceConfig {
    DeviceConfig {
        id: "E1".parse().unwrap(),
        name: "E1".into(),
        desc: String::new(),
        device_type: "scripted".into(),
        role: Role::Display,
        enabled: true,
        endpoints: BTreeMap::new(),
        feed: crate::config::BrokerRef::Off,
        publish: None,
        config: serde_json::json!({}),
        timeout: None,
        poll: None,
        circuit: None,
        phases: None,
        min_ma: 6_000,
        max_ma_expr: None,
        max_ma: 16_000,
        priority: 1,
        failsafe: None,
        sha256: None,
        wasi: false,
        label: String::new(),
        number: None,
        meter: None,
        fixed_rfid: None,
        charging_rules: None,
        limits: LimitsConfig::default(),
    }
}

impl Bench {
    pub fn start(plugin: Result<Plugged, String>, device: DeviceConfig, log: &Log) -> Self {
        let (board, clock) = (Board::default(), Clock::start());
        let status = board.register(device.id.clone());
        let jitter = Box::new(|| 0.5);
        let (task, mailbox) = Task::new(TaskParts { device, plugin, status, clock, jitter });
        tokio::spawn(task.run());
        Self { board, clock, mailbox, log: log.clone() }
    }

    pub fn run(plugin: Scripted, device: DeviceConfig) -> Self {
        let log = plugin.log.clone();
        Self::start(Ok(plugin.plug()), device, &log)
    }

    pub fn status(&self) -> DeviceStatus {
        self.board.device(&"E1".parse().unwrap()).unwrap()
    }

    pub fn count(&self) -> Option<f64> {
        self.status().values.get("energy.import").map(|m| m.value)
    }

    /// Lets virtual time pass.
    pub async fn pass(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Lets the task serve what waits, without time passing.
    pub async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    pub async fn command(&self, command: Command) -> Result<(), CommandError> {
        self.mailbox.command(command).await
    }

    pub async fn swap(&self, plugin: Scripted) {
        self.mailbox.push(Request::Swap(plugin.plug()));
        self.settle().await;
    }

    pub fn calls(&self, of: &str) -> Vec<String> {
        self.log.take().into_iter().filter(|line| line.contains(of)).collect()
    }
}
