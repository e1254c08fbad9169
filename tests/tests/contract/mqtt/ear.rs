//! An MQTT client that remembers every message in its order and waits for what it wants to hear.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ladekern_tests::SOON;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use serde_json::Value;
use tokio::sync::watch;

/// One message as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
}

/// A connected client that has subscribed to everything.
pub struct Ear {
    pub client: AsyncClient,
    heard: Arc<Mutex<Vec<Heard>>>,
    count: watch::Sender<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl Ear {
    pub async fn connect(port: u16) -> Self {
        Self::connect_to(port, "#").await
    }

    pub async fn connect_to(port: u16, filter: &str) -> Self {
        let mut options = MqttOptions::new(format!("ear-{}", ladekern_tests::free_port()), "127.0.0.1", port);
        options.set_max_packet_size(8 << 20, 8 << 20);
        let (client, mut events) = AsyncClient::new(options, 1000);
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let count = watch::Sender::new(0);
        let (ready, acknowledged) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let task = tokio::spawn({
            let (heard, count) = (Arc::clone(&heard), count.clone());
            async move {
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(Packet::Publish(publish))) => {
                            let (topic, payload) = (publish.topic, publish.payload.to_vec());
                            heard.lock().unwrap().push(Heard { topic, payload, retained: publish.retain });
                            count.send_modify(|count| *count += 1);
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => {
                            if let Some(ready) = ready.take() {
                                let _ = ready.send(());
                            }
                        }
                        Ok(_) => {}
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        });
        tokio::time::timeout(SOON, acknowledged).await.expect("a SUBACK in time").unwrap();
        Self { client, heard, count, task }
    }

    /// Publishes at QoS 1.
    pub async fn publish(&self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload).await.unwrap();
    }

    /// Publishes at QoS 1 what the broker is to keep.
    pub async fn retain(&self, topic: &str, payload: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, true, payload).await.unwrap();
    }

    /// All payloads of a topic so far.
    pub fn all(&self, topic: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let of = heard.iter().filter(|heard| heard.topic == topic);
        of.map(|heard| String::from_utf8_lossy(&heard.payload).into_owned()).collect()
    }

    /// Every message so far.
    pub fn everything(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until a message is as wanted, those that came before included.
    pub async fn hear(&self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let mut count = self.count.subscribe();
        let mut looked = 0;
        let found = async {
            loop {
                {
                    let heard = self.heard.lock().unwrap();
                    if let Some(found) = heard[looked..].iter().find(|heard| wanted(heard)) {
                        return found.clone();
                    }
                    looked = heard.len();
                }
                count.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(SOON, found).await {
            Ok(heard) => heard,
            Err(_) => {
                let heard = self.heard.lock().unwrap();
                let lines = heard.iter().rev().take(20).map(|heard| {
                    let text = String::from_utf8_lossy(&heard.payload);
                    format!("{} {}", heard.topic, text.chars().take(300).collect::<String>())
                });
                panic!("{what} did not come; the newest were:\n{}", lines.collect::<Vec<_>>().join("\n"));
            }
        }
    }

    /// Waits until a payload of this topic is JSON as wanted.
    pub async fn json(&self, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let parse = |heard: &Heard| serde_json::from_slice::<Value>(&heard.payload).ok();
        let good = |heard: &Heard| heard.topic == topic && parse(heard).is_some_and(|json| wanted(&json));
        parse(&self.hear(topic, good).await).unwrap()
    }

    /// Waits until this many messages of a topic have come, and returns them all as JSON.
    pub async fn several(&self, topic: &str, number: usize) -> Vec<Value> {
        let mut count = self.count.subscribe();
        let enough = async {
            while self.all(topic).len() < number {
                count.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(SOON, enough).await.is_err() {
            panic!("{number} messages on {topic} did not come, only {:?}", self.all(topic));
        }
        self.all(topic).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// Calls the API and waits for the answer of its own.
    pub async fn call(&self, prefix: &str, query: &str, body: &str) -> Value {
        let id = ladekern_tests::free_port().to_string() + &self.heard.lock().unwrap().len().to_string();
        self.publish(&format!("{prefix}/api/{query}&_rid={id}"), body).await;
        self.json(&format!("{prefix}/api_res/{id}"), |_| true).await
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.task.abort();
    }
}
