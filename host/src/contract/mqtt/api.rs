//! The API over MQTT (contract A5, rules B5 to B8 and B21): what stands behind `api/` in a topic is a call, its
//! answer goes to `api_res`. Calls that change something run in their order; calls that wait for a device on the
//! network run beside them. Decides nothing about commands: that is `contract::api`.

mod request;
mod waiting;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::super::api::{Answer, Api, Call, Caller};
use super::complaints::Complaints;
use super::repeats::{Fingerprint, Repeats};
use crate::transport::{Inbox, Message, MqttConnection, MqttError, Overflow, Qos};
use request::{Request, Target};
use waiting::{Lanes, Started};

/// Messages that wait to be looked at.
const INBOX: usize = 1024;
/// How long one call may take. Longer than any device's own time-out.
const LONGEST: Duration = Duration::from_secs(30);
/// How long an answer may wait for a broker that takes nothing.
const PUBLISH_WITHIN: Duration = Duration::from_secs(10);
/// How long calls that run may go on when the host stops or the broker changes.
const FAREWELL: Duration = Duration::from_secs(2);

/// A running API at one broker.
pub(super) struct ApiLink {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ApiLink {
    /// Subscribes, and starts to answer. `None`: the broker can never be spoken to.
    pub async fn start(api: Api, connection: MqttConnection, prefix: &str) -> Option<Self> {
        let inbox = Inbox::new(Overflow::KeepOrder, INBOX);
        let filter = format!("{prefix}/api/#");
        if let Err(error) = connection.subscribe(&filter, Qos::AtLeastOnce, "api", "", inbox.clone()).await {
            tracing::error!("mqtt.api: {filter} cannot be subscribed: {error}");
            return None;
        }
        let (stop, stopped) = watch::channel(false);
        let server = Server {
            out: Out { connection, prefix: prefix.into() },
            api,
            inbox,
            repeats: Repeats::default(),
            lanes: Lanes::default(),
            answering: JoinSet::new(),
            complaints: Complaints::default(),
            overflowed: 0,
        };
        Some(Self { stop, task: tokio::spawn(server.run(stopped)) })
    }

    /// Takes no more calls; those that run are answered, within two seconds.
    pub async fn end(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!("the API over MQTT broke down: {error}");
        }
    }
}

/// What became of a call, shared by the call and those who ask for its answer again.
#[derive(Debug)]
enum State {
    /// It waits or runs; these want the answer too.
    Running(Vec<Target>),
    Done(Bytes),
}

type Shared = Arc<Mutex<State>>;

/// A call on its way.
struct Job {
    call: Call,
    target: Target,
    state: Shared,
    most: usize,
}

struct Server {
    api: Api,
    out: Out,
    inbox: Inbox,
    repeats: Repeats<Shared>,
    lanes: Lanes<Job>,
    /// Answers that need no call.
    answering: JoinSet<()>,
    complaints: Complaints,
    overflowed: u64,
}

impl Server {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                () = self.lanes.finished() => self.start(),
                Some(_) = self.answering.join_next() => {}
                message = self.inbox.recv() => self.take(message),
            }
        }
        let last = async {
            self.lanes.drain().await;
            while self.answering.join_next().await.is_some() {}
        };
        // What still runs then is given up.
        let _ = tokio::time::timeout(FAREWELL, last).await;
    }

    fn take(&mut self, message: Message) {
        self.note_overflow();
        let topic = &message.topic;
        if message.retained {
            self.complaints.say("retained", |more| {
                // Not the topic: it may hold a card.
                let filter = format!("{}/api/#", self.out.prefix);
                tracing::warn!("{filter}: a retained call is ignored, it would run again at each connect{more}");
            });
            return;
        }
        let fingerprint = Fingerprint::of(topic, &message.payload);
        let config = Arc::clone(&self.api.source.config.borrow());
        let request = Request::read(&self.out.prefix, topic, message.reply_to);
        if let Some(state) = self.repeats.find(fingerprint, message.at, config.mqtt.duplicate_window) {
            tracing::debug!("the same call again within the duplicate window: answered and not run");
            let answer = match &mut *lock(state) {
                State::Running(also) => {
                    // Once is enough for those who listen on the same topic for the same request.
                    if also.len() < MOST_TARGETS {
                        also.push(request.target);
                    }
                    return;
                }
                State::Done(answer) => answer.clone(),
            };
            self.answer(request.target, answer);
            return;
        }
        let call = match request.args {
            Ok(args) => Call { args, body: message.payload, caller: Caller { admin: true, address: None } },
            Err(error) => return self.answer(request.target, Answer::error(400, &error).body.into()),
        };
        let state = Arc::new(Mutex::new(State::Running(Vec::new())));
        let lane = waiting::lane(&call.args);
        let job = Job { call, target: request.target, state: Arc::clone(&state), most: config.mqtt.api_max_response };
        match self.lanes.add(lane, job) {
            Ok(()) => {
                self.repeats.remember(fingerprint, message.at, state);
                self.start();
            }
            Err(job) => {
                self.complaints.say("busy", |more| {
                    tracing::warn!("api: a call was refused, {} wait already{more}", waiting::MOST);
                });
                let error = format!("too many calls: {} wait already; try again later", waiting::MOST);
                self.answer(job.target, Answer::error(503, &error).body.into());
            }
        }
    }

    /// What did not even fit into the inbox cannot be answered: nobody has read it.
    fn note_overflow(&mut self) {
        let dropped = self.inbox.dropped();
        let new = dropped.saturating_sub(self.overflowed);
        if new > 0 {
            self.overflowed = dropped;
            tracing::warn!("api: {new} calls came faster than they could be read and were dropped");
        }
    }

    fn start(&mut self) {
        while let Some(Started { lane, job }) = self.lanes.next() {
            self.lanes.run(lane, run(self.api.clone(), self.out.clone(), job));
        }
    }

    fn answer(&mut self, target: Target, answer: Bytes) {
        let out = self.out.clone();
        self.answering.spawn(async move { out.send(&target, answer).await });
    }
}

/// Who else may want the answer to a call that runs: a broker that repeats everything, a few clients.
const MOST_TARGETS: usize = 16;

/// Runs one call and answers it. The next one of its lane starts when the answer is on its way, so answers keep their
/// order too.
async fn run(api: Api, out: Out, job: Job) {
    let answer = match tokio::time::timeout(LONGEST, api.call(&job.call)).await {
        Ok(answer) => answer,
        Err(_) => Answer::error(504, &format!("no result within {} s", LONGEST.as_secs())),
    };
    let answer = Bytes::from(shortened(answer, job.most).body);
    let also = match std::mem::replace(&mut *lock(&job.state), State::Done(answer.clone())) {
        State::Running(also) => also,
        State::Done(_) => Vec::new(),
    };
    for target in std::iter::once(job.target).chain(also) {
        out.send(&target, answer.clone()).await;
    }
}

/// Rule B8.
fn shortened(answer: Answer, most: usize) -> Answer {
    let length = answer.body.len();
    if length <= most {
        return answer;
    }
    let text = format!("the answer has {length} bytes, mqtt.api_max_response allows {most}; use HTTP for this call");
    Answer::error(413, &text)
}

/// Where answers leave.
#[derive(Clone)]
struct Out {
    connection: MqttConnection,
    prefix: Arc<str>,
}

impl Out {
    async fn send(&self, target: &Target, answer: Bytes) {
        let (topic, sending) = match target {
            Target::Plain => (format!("{}/api_res", self.prefix), None),
            Target::Request(id) => (format!("{}/api_res/{id}", self.prefix), None),
            Target::Response(reply) => (reply.topic.clone(), Some(reply)),
        };
        let sending = async {
            match sending {
                Some(reply) => self.connection.reply(reply, answer).await,
                None => self.publish(&topic, answer).await,
            }
        };
        let late = || Err(MqttError::Unreachable("the broker takes nothing".into()));
        let sent = tokio::time::timeout(PUBLISH_WITHIN, sending).await.unwrap_or_else(|_| late());
        if let Err(error) = sent {
            tracing::warn!("api: the answer on {topic} was not sent: {error}");
        }
    }
}

impl Out {
    /// At QoS 0: an acknowledgement that the caller waits behind costs 40 ms at a broker that collects small packets
    /// (Mosquitto's default), because nothing goes back that could carry its TCP acknowledgement. Only an answer
    /// that finds no connection waits for the next one, at QoS 1.
    async fn publish(&self, topic: &str, answer: Bytes) -> Result<(), MqttError> {
        match self.connection.publish(topic, answer.clone(), Qos::AtMostOnce, false).await {
            Err(MqttError::Unreachable(_)) => self.connection.publish(topic, answer, Qos::AtLeastOnce, false).await,
            sent => sent,
        }
    }
}

/// Every change of a state is complete before anything could panic.
fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
