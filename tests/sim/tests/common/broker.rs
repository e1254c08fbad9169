//! A broker of one page, MQTT 3.1.1 by hand: accepts publishers and remembers what they say and what they bequeath.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared by several test programs; a failed unwrap is a failed assertion"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: String,
    pub retain: bool,
}

#[derive(Clone)]
pub struct Broker {
    pub address: SocketAddr,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Broker {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self { address: listener.local_addr().unwrap(), messages: Arc::default() };
        let messages = broker.messages.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(client(stream, messages.clone()));
            }
        });
        broker
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    pub fn messages(&self, topic: &str) -> Vec<Message> {
        self.messages.lock().unwrap().iter().filter(|m| m.topic == topic).cloned().collect()
    }
}

async fn client(mut stream: TcpStream, messages: Arc<Mutex<Vec<Message>>>) {
    let mut will = None;
    while let Some((head, body)) = packet(&mut stream).await {
        match head >> 4 {
            1 => {
                assert_eq!(&body[..7], b"\0\x04MQTT\x04");
                let (flags, mut rest) = (body[7], &body[10..]);
                let _id = text(&mut rest);
                if flags & 4 != 0 {
                    let (topic, payload) = (text(&mut rest), text(&mut rest));
                    will = Some(Message { topic, payload, retain: flags & 0x20 != 0 });
                }
                stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
            }
            3 => {
                let mut rest = &body[..];
                let topic = text(&mut rest);
                if head & 6 != 0 {
                    stream.write_all(&[0x40, 2, rest[0], rest[1]]).await.unwrap();
                    rest = &rest[2..];
                }
                let payload = String::from_utf8(rest.to_vec()).unwrap();
                messages.lock().unwrap().push(Message { topic, payload, retain: head & 1 != 0 });
            }
            12 => stream.write_all(&[0xD0, 0]).await.unwrap(),
            14 => return,
            other => panic!("a publisher does not send packet type {other}"),
        }
    }
    messages.lock().unwrap().extend(will);
}

async fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let head = stream.read_u8().await.ok()?;
    let mut length = 0usize;
    for shift in [0, 7, 14, 21] {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

fn text(rest: &mut &[u8]) -> String {
    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let text = String::from_utf8(rest[2..2 + length].to_vec()).unwrap();
    *rest = &rest[2 + length..];
    text
}
