//! An MQTT client for tests: remembers the newest payload of every topic and waits until one is as it should be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tokio::sync::watch;

use crate::SOON;

/// A connected client that has subscribed to one filter.
pub struct Probe {
    client: AsyncClient,
    seen: Seen,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Seen {
    newest: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    count: watch::Sender<u64>,
}

impl Probe {
    /// Connects to `127.0.0.1:port` and waits until the subscription is acknowledged.
    ///
    /// # Panics
    /// If the broker does not acknowledge in time.
    #[expect(clippy::expect_used, reason = "without a broker there is no test")]
    pub async fn connect(port: u16, filter: &str) -> Self {
        let mut options = MqttOptions::new(format!("probe-{port}-{}", rand_id()), "127.0.0.1", port);
        options.set_keep_alive(Duration::from_secs(30));
        options.set_max_packet_size(4 << 20, 4 << 20);
        let (client, mut events) = AsyncClient::new(options, 100);
        client.subscribe(filter, QoS::AtLeastOnce).await.expect("the request queue is open");
        let seen = Seen { newest: Arc::default(), count: watch::Sender::new(0) };
        let (ready, acknowledged) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                loop {
                    match events.poll().await {
                        Ok(Event::Incoming(Packet::Publish(publish))) => {
                            seen.newest
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .insert(publish.topic, publish.payload.to_vec());
                            seen.count.send_modify(|count| *count += 1);
                        }
                        Ok(Event::Incoming(Packet::SubAck(_))) => {
                            if let Some(ready) = ready.take() {
                                let _ = ready.send(());
                            }
                        }
                        Ok(_) => {}
                        // The broker may be restarted by the test; rumqttc connects again at the next poll.
                        Err(_) => tokio::task::yield_now().await,
                    }
                }
            }
        });
        tokio::time::timeout(SOON, acknowledged).await.expect("a SUBACK in time").expect("the client task runs");
        Self { client, seen, task }
    }

    /// Publishes at QoS 1.
    ///
    /// # Panics
    /// If the client is gone.
    #[expect(clippy::expect_used, reason = "a client that is gone is a failed test")]
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        self.client.publish(topic, QoS::AtLeastOnce, retain, payload).await.expect("the request queue is open");
    }

    /// The newest payload of a topic as JSON, if there was one.
    #[must_use]
    pub fn json(&self, topic: &str) -> Option<serde_json::Value> {
        let newest = self.seen.newest.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::from_slice(newest.get(topic)?).ok()
    }

    /// Waits until the newest payload of `topic` satisfies `wanted`, and returns it.
    ///
    /// # Panics
    /// If it does not in time; the message holds the newest payload.
    #[expect(clippy::panic, reason = "a message that does not come is a failed test")]
    pub async fn wait(&self, topic: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let mut count = self.seen.count.subscribe();
        let found = async {
            loop {
                if let Some(json) = self.json(topic).filter(|json| wanted(json)) {
                    return json;
                }
                // The sender lives in `self`, so this waits rather than fails.
                let _ = count.changed().await;
            }
        };
        match tokio::time::timeout(SOON, found).await {
            Ok(json) => json,
            Err(_) => panic!("{topic} did not become what it should within {SOON:?}; newest: {:?}", self.json(topic)),
        }
    }

    /// Topics seen so far.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.seen.newest.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rand_id() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
