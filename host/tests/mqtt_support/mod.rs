//! A real mosquitto on a free port, a proxy that dislikes MQTT 5, and short words for what the tests do often.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ladekern::config::BrokerUrl;
use ladekern::site::Clock;
use ladekern::transport::{BrokerState, Inbox, Message, MqttConnection, Overflow, Qos, Transports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct Mosquitto {
    child: Child,
    pub port: u16,
    folder: tempfile::TempDir,
}

impl Mosquitto {
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n");
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let child = spawn(&folder);
        let broker = Self { child, port, folder };
        broker.listening().await;
        broker
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(&self.folder);
        self.listening().await;
    }

    async fn listening(&self) {
        let listens = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, listens).await.expect("mosquitto does not listen");
    }

    pub fn url(&self, v5: bool) -> BrokerUrl {
        url(SocketAddr::from(([127, 0, 0, 1], self.port)), v5)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &tempfile::TempDir) -> Child {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let mut command = Command::new("mosquitto");
    command.env("PATH", path).arg("-c").arg(folder.path().join("mosquitto.conf"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("these tests need mosquitto: apt-get install mosquitto")
}

pub fn url(at: SocketAddr, v5: bool) -> BrokerUrl {
    BrokerUrl { host: at.ip().to_string(), port: at.port(), v5, tls: false, login: None }
}

pub fn transports(name: &str) -> Transports {
    Transports::new(Handle::current(), Clock::start(), None, name.to_owned())
}

/// How a broker of old turns a client of MQTT 5 away.
#[derive(Clone, Copy)]
pub enum Dislike {
    /// Closes without a word.
    Silent,
    /// The refusal of 3.1.1: unacceptable protocol version.
    Refusal,
}

/// Lets 3.1.1 through to `target`.
pub async fn proxy_without_v5(target: u16, dislike: Dislike) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // Fixed header 2, name 6, then the protocol level (MQTT 3.1.1, 3.1.2.2).
                let mut head = [0; 9];
                client.read_exact(&mut head).await.unwrap();
                if head[8] == 5 {
                    if let Dislike::Refusal = dislike {
                        client.write_all(&[0x20, 2, 0, 1]).await.unwrap();
                    }
                    return;
                }
                let mut broker = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                broker.write_all(&head).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    });
    addr
}

pub async fn subscribed(connection: &MqttConnection, filter: &str, qos: Qos) -> Inbox {
    let inbox = Inbox::new(Overflow::KeepOrder, 100_000);
    connection.subscribe(filter, qos, "main", "", inbox.clone()).await.unwrap();
    tokio::time::timeout(DEADLINE, connection.acknowledged()).await.expect("no answer to the subscription");
    inbox
}

pub async fn next(inbox: &Inbox) -> Message {
    tokio::time::timeout(DEADLINE, inbox.recv()).await.expect("no message")
}

pub async fn connected(connection: &MqttConnection) -> bool {
    let mut state = connection.state();
    let up = state.wait_for(|state| matches!(state, BrokerState::Connected { .. }));
    let state = tokio::time::timeout(DEADLINE, up).await.expect("not connected").unwrap().clone();
    state == BrokerState::Connected { v5: true }
}

pub async fn down(connection: &MqttConnection) -> String {
    let mut state = connection.state();
    let down = state.wait_for(|state| matches!(state, BrokerState::Down(_)));
    let state = tokio::time::timeout(DEADLINE, down).await.expect("still connected").unwrap().clone();
    let BrokerState::Down(reason) = state else { unreachable!() };
    reason
}

/// Waits until the only connection of `registry` has been made more than `before` times: a changed last will costs one.
pub async fn up_again(registry: &Transports, before: u64) {
    let again = async {
        while registry.brokers().remove(0).connections <= before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("not connected again");
}
