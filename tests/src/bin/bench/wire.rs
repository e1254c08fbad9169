//! The load generator: an MQTT 3.1.1 client of a few lines on a blocking socket, QoS 0 only. A general client would
//! spend more time on a message than the broker and would measure itself.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

/// A message must come within this time, or the benchmark says so.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Wire {
    stream: TcpStream,
    inbound: Vec<u8>,
    /// Bytes at the front of `inbound` that have been taken.
    taken: usize,
    outbound: Vec<u8>,
}

impl Wire {
    /// Connects and subscribes.
    pub fn connect(broker: SocketAddr, name: &str, filter: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut wire = Self { stream, inbound: Vec::new(), taken: 0, outbound: Vec::new() };
        // CONNECT: protocol MQTT level 4, clean session, no keep-alive.
        let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
        text(&mut body, name);
        wire.packet(0x10, &body);
        // SUBSCRIBE: packet 1, one filter at QoS 0.
        let mut body = vec![0, 1];
        text(&mut body, filter);
        body.push(0);
        wire.packet(0x82, &body);
        wire.flush()?;
        let mut subscribed = false;
        while !subscribed {
            wire.receive()?;
            while let Some((kind, _)) = wire.next() {
                subscribed |= kind >> 4 == 9;
            }
        }
        Ok(wire)
    }

    /// Puts a message into the buffer that [`Wire::flush`] sends.
    pub fn publish(&mut self, topic: &str, payload: &str) {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 2);
        text(&mut body, topic);
        body.extend_from_slice(payload.as_bytes());
        self.packet(0x30, &body);
    }

    pub fn flush(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.outbound)?;
        self.outbound.clear();
        Ok(())
    }

    /// Waits for bytes.
    pub fn receive(&mut self) -> anyhow::Result<()> {
        self.inbound.drain(..self.taken);
        self.taken = 0;
        let mut chunk = [0; 64 * 1024];
        let count = self.stream.read(&mut chunk).context("the expected message did not come")?;
        anyhow::ensure!(count > 0, "the broker closed the connection");
        self.inbound.extend_from_slice(&chunk[..count]);
        Ok(())
    }

    /// The next complete PUBLISH among the received bytes: topic and payload.
    pub fn next_message(&mut self) -> Option<(String, String)> {
        loop {
            let (kind, body) = self.next()?;
            if kind >> 4 != 3 {
                continue;
            }
            let length = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
            let as_text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Some((as_text(body.get(2..2 + length)?), as_text(body.get(2 + length..)?)));
        }
    }

    /// The next complete packet: first byte and body.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let rest = &self.inbound[self.taken..];
        let kind = *rest.first()?;
        let (mut length, mut at) = (0, 1);
        loop {
            // Seven bits a byte, the low ones first.
            let byte = *rest.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = rest.get(at..at + length)?.to_vec();
        self.taken += at + length;
        Some((kind, body))
    }

    fn packet(&mut self, kind: u8, body: &[u8]) {
        self.outbound.push(kind);
        let mut length = body.len();
        loop {
            let more = if length > 0x7f { 0x80 } else { 0 };
            self.outbound.push((length & 0x7f) as u8 | more);
            length >>= 7;
            if length == 0 {
                break;
            }
        }
        self.outbound.extend_from_slice(body);
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}
