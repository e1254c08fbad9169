//! A broker that misbehaves on purpose, in ways a test chooses, and remembers what clients sent. It speaks 3.1.1 and
//! 5 on one port, keeps retained messages, and forwards messages between its clients at QoS 0 and 1. With
//! [`Faults::default`] it behaves.
//!
//! ```no_run
//! # async fn example() {
//! use ladekern_tests::bad_broker::{BadBroker, Faults, Publish, Twice};
//! let broker = BadBroker::start(Faults { twice: Twice::WithDup, ..Faults::default() }).await;
//! // … let the daemon connect to broker.url() …
//! broker.subscribed("cfos_mqtt/api/#").await;
//! broker.deliver(&Publish::new("cfos_mqtt/api/cmd=get_params", ""));
//! let answers = broker.wait(|all| all.iter().any(|sent| sent.topic == "cfos_mqtt/api_res")).await;
//! # }
//! ```

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broker that cannot do its part is a failed test")]

mod clients;
mod faults;
mod frames;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::clients::{Client, State, ack, acknowledge, puback, subscribe, unsubscribe};
pub use self::faults::{Acks, Faults, OnConnect, Twice};
pub use self::frames::{Connect, Publish};
use self::frames::{Cursor, read_frame};
use crate::SOON;

/// A running broker. Dropped, it is gone with all its connections.
pub struct BadBroker {
    port: u16,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl BadBroker {
    /// Listens on a free loopback port.
    ///
    /// # Panics
    /// If there is none.
    pub async fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { faults, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changes: watch::Sender::new(0) });
        let accepting = Mutex::new(Some(tokio::spawn(accept(listener, Arc::clone(&shared)))));
        Self { port, shared, accepting }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As a broker URL of version 3.1.1.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// As a broker URL of version 5.
    #[must_use]
    pub fn url5(&self) -> String {
        format!("mqtt5://127.0.0.1:{}", self.port)
    }

    /// Behaves differently from now on.
    pub fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.state().faults);
    }

    /// Sends a message to every client with a matching subscription, as if another client had published it. Its QoS
    /// is lowered to that of the subscription. A packet id that is given is used as it is.
    pub fn deliver(&self, publish: &Publish) {
        self.shared.state().deliver(publish);
    }

    /// Sends `count` messages on one topic, with their number as payload.
    pub fn flood(&self, topic: &str, count: usize) {
        let mut state = self.shared.state();
        for number in 0..count {
            state.deliver(&Publish { qos: 0, ..Publish::new(topic, number.to_string()) });
        }
    }

    /// Sends these bytes to every client.
    pub fn send_raw(&self, bytes: &[u8]) {
        for client in self.shared.state().clients.values() {
            // A client that has gone misses it.
            let _ = client.out.send(bytes.to_vec());
        }
    }

    /// Sends the acknowledgements that [`Acks::Held`] kept back.
    pub fn release_acks(&self) {
        for client in self.shared.state().clients.values_mut() {
            for id in client.held.drain(..) {
                // A client that has gone misses it.
                let _ = client.out.send(puback(id));
            }
        }
    }

    /// What clients have published so far, in order, repetitions included.
    #[must_use]
    pub fn received(&self) -> Vec<Publish> {
        self.shared.state().received.clone()
    }

    /// All CONNECTs so far.
    #[must_use]
    pub fn connects(&self) -> Vec<Connect> {
        self.shared.state().connects.clone()
    }

    /// PUBACKs of clients so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.state().acknowledged
    }

    /// Waits until what was published satisfies `wanted`, and returns all of it.
    ///
    /// # Panics
    /// If it does not in time.
    pub async fn wait(&self, wanted: impl Fn(&[Publish]) -> bool) -> Vec<Publish> {
        self.until(|state| wanted(&state.received).then(|| state.received.clone()), "messages").await
    }

    /// Waits for so many CONNECTs since the start.
    ///
    /// # Panics
    /// If they do not come in time.
    pub async fn connected(&self, times: usize) -> Vec<Connect> {
        self.until(|state| (state.connects.len() >= times).then(|| state.connects.clone()), "connections").await
    }

    /// Waits for so many PUBACKs of clients since the start.
    ///
    /// # Panics
    /// If they do not come in time.
    pub async fn wait_acknowledged(&self, times: u64) {
        self.until(|state| (state.acknowledged >= times).then_some(()), "acknowledgements").await;
    }

    /// Waits until a connected client has subscribed to exactly this filter.
    ///
    /// # Panics
    /// If none does in time.
    pub async fn subscribed(&self, filter: &str) {
        let is = |state: &State| state.clients.values().any(|client| client.filters.contains_key(filter));
        self.until(|state| is(state).then_some(()), filter).await;
    }

    /// Closes all connections without a word.
    pub fn kick(&self) {
        self.shared.state().clients.clear();
        self.shared.changed();
    }

    /// Closes all connections and the port, and forgets retained messages.
    pub async fn stop(&self) {
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = accepting {
            task.abort();
            // Aborted on purpose.
            let _ = task.await;
        }
        let mut state = self.shared.state();
        state.clients.clear();
        state.retained.clear();
    }

    /// Listens again after [`BadBroker::stop`].
    ///
    /// # Panics
    /// If the port has been taken.
    pub async fn start_again(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    async fn until<T>(&self, found: impl Fn(&State) -> Option<T>, what: &str) -> T {
        let mut changes = self.shared.changes.subscribe();
        let search = async {
            loop {
                if let Some(found) = found(&self.shared.state()) {
                    return found;
                }
                // The sender lives in `self`, so this waits rather than fails.
                let _ = changes.changed().await;
            }
        };
        match tokio::time::timeout(SOON, search).await {
            Ok(found) => found,
            Err(_) => panic!("{what} did not come within {SOON:?}; received: {:?}", self.received()),
        }
    }
}

impl Drop for BadBroker {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        self.shared.state().clients.clear();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Ends its clients when it is aborted.
    let mut clients = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        clients.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let Some((0x10, body)) = read_frame(&mut reader).await else { return };
    let connect = Connect::read(&body);
    let version_5 = connect.version == 5;
    let (out, mut outgoing) = mpsc::unbounded_channel::<Vec<u8>>();
    let (number, mut packets_left, verdict) = {
        let mut state = shared.state();
        let client_id = connect.client_id.clone();
        state.connects.push(connect);
        let faults = &state.faults;
        let verdict =
            if version_5 && faults.version_5 != OnConnect::Accept { faults.version_5 } else { faults.connect };
        let packets_left = faults.close_after;
        let number = state.next_client;
        state.next_client += 1;
        if verdict == OnConnect::Accept {
            let filters = BTreeMap::new();
            let client = Client { version_5, out: out.clone(), filters, held: Vec::new(), next_id: 0 };
            state.clients.insert(number, client);
        }
        ((number, client_id), packets_left, verdict)
    };
    drop(out);
    shared.changed();
    let (number, client_id) = number;
    let answer: &[u8] = match verdict {
        OnConnect::Accept if version_5 => &[0x20, 3, 0, 0, 0],
        OnConnect::Accept => &[0x20, 2, 0, 0],
        OnConnect::Refuse(code) => &[0x20, 2, 0, code],
        OnConnect::Refuse5(code) => &[0x20, 3, 0, code, 0],
        OnConnect::Close => return,
        OnConnect::Hang => return std::future::pending().await,
    };
    if writer.write_all(answer).await.is_err() || verdict != OnConnect::Accept {
        return;
    }
    let writing = async move {
        // Ends when the client is removed, and the connection with it.
        while let Some(bytes) = outgoing.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        while let Some((first, body)) = read_frame(&mut reader).await {
            if packets_left == Some(0) {
                return;
            }
            packets_left = packets_left.map(|left| left - 1);
            if !take(&shared, number, &client_id, first, &body, version_5) {
                return;
            }
            shared.changed();
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
    shared.state().clients.remove(&number);
    shared.changed();
}

/// `false` when the client leaves.
fn take(shared: &Shared, number: u64, client_id: &str, first: u8, body: &[u8], version_5: bool) -> bool {
    let mut state = shared.state();
    let faults = state.faults.clone();
    match first >> 4 {
        3 => {
            let publish = Publish::read(first, body, version_5, client_id);
            state.received.push(publish.clone());
            if publish.retain && publish.payload.is_empty() {
                state.retained.remove(&publish.topic);
            } else if publish.retain {
                let kept = Publish { id: 0, dup: false, ..publish.clone() };
                state.retained.insert(publish.topic.clone(), kept);
            }
            state.deliver(&Publish { id: 0, retain: false, dup: false, ..publish.clone() });
            let Some(client) = state.clients.get_mut(&number) else { return false };
            match publish.qos {
                0 => {}
                1 => acknowledge(client, publish.id, faults.acks),
                _ => drop(client.out.send(ack(0x50, publish.id))),
            }
        }
        4 => state.acknowledged += 1,
        6 => {
            let Some(client) = state.clients.get_mut(&number) else { return false };
            drop(client.out.send(ack(0x70, Cursor(body).number())));
        }
        8 => subscribe(&mut state, number, body, version_5, &faults),
        10 => unsubscribe(&mut state, number, body, version_5),
        12 => {
            let Some(client) = state.clients.get_mut(&number) else { return false };
            drop(client.out.send(vec![0xD0, 0]));
        }
        14 => return false,
        other => panic!("a client does not send packets of type {other}"),
    }
    true
}
