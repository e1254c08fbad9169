//! A reader of `ta_log` that keeps every message in order, and a wire to the broker that can be cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ladekern_tests::SOON;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Every message of `cfos_mqtt/ta_log` in the order of its arrival.
pub struct Log {
    seen: Arc<Mutex<Vec<Value>>>,
    count: watch::Sender<usize>,
    subscribed: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Log {
    /// Subscribes, and does so again whenever the connection was lost.
    pub async fn follow(port: u16) -> Self {
        let mut options = MqttOptions::new(format!("log-{port}"), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        let (client, mut events) = AsyncClient::new(options, 100);
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (count, subscriptions) = (watch::Sender::new(0), watch::Sender::new(0));
        let subscribed = subscriptions.subscribe();
        let (all, grown) = (seen.clone(), count.clone());
        let task = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => {
                        client.subscribe("cfos_mqtt/ta_log", QoS::AtLeastOnce).await.unwrap();
                    }
                    Ok(Event::Incoming(Packet::SubAck(_))) => subscriptions.send_modify(|count| *count += 1),
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        all.lock().unwrap().push(serde_json::from_slice(&publish.payload).unwrap());
                        grown.send_modify(|count| *count += 1);
                    }
                    Ok(_) => {}
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        let log = Self { seen, count, subscribed, task };
        log.subscribed(1).await;
        log
    }

    /// Waits until it has been subscribed so many times.
    pub async fn subscribed(&self, times: usize) {
        let mut subscribed = self.subscribed.clone();
        let waiting = subscribed.wait_for(|count| *count >= times);
        tokio::time::timeout(SOON, waiting).await.expect("subscribed in time").unwrap();
    }

    /// Waits until an event has this number, then gives all.
    pub async fn until(&self, seq: u64) -> Vec<Value> {
        let mut count = self.count.subscribe();
        let reached = async {
            while self.seen.lock().unwrap().iter().all(|event| event["seq"] != seq) {
                count.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(SOON * 3, reached).await.is_err() {
            panic!("number {seq} did not come; {} came, the last: {:?}", self.all().len(), self.all().last());
        }
        self.all()
    }

    pub fn all(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a receiver makes of it: events that come a second time are dropped by their number. Fails if a number is
/// missing, comes late, or comes again with another content.
pub fn without_doubles(events: &[Value]) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for event in events {
        let seq = usize::try_from(event["seq"].as_u64().unwrap()).unwrap();
        match kept.get(seq - 1) {
            Some(known) => assert_eq!(known, event, "the same number is the same event"),
            None => {
                assert_eq!(seq, kept.len() + 1, "a number is missing before {event}");
                kept.push(event.clone());
            }
        }
    }
    kept
}

/// A wire that can be cut: what is on its way then is lost, in both directions.
pub struct Wire {
    port: u16,
    up: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Wire {
    pub async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let up = watch::Sender::new(true);
        let task = tokio::spawn(carry(listener, broker, up.subscribe()));
        Self { port, up, task }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(listener: TcpListener, broker: SocketAddr, mut up: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut client, _)) = accepted else { return };
                if !*up.borrow() {
                    continue;
                }
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(broker).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
            changed = up.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*up.borrow_and_update() {
                    connections.shutdown().await;
                }
            }
        }
    }
}
