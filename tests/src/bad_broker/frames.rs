//! As much of the bytes of MQTT 3.1.1 and 5 as a broker needs, written down a second time: what the daemon sends is
//! judged by the standard here and not by the daemon's own codec.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a frame that is no MQTT is a failed test")]

use tokio::io::{AsyncRead, AsyncReadExt};

/// First byte and body; `None` at the end of the stream.
pub(super) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

/// A frame around a body.
pub(super) fn frame(first: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    varint(&mut frame, body.len());
    frame.extend_from_slice(body);
    frame
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads a body from the front.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let byte = self.0[0];
        self.0 = &self.0[1..];
        byte
    }

    pub(super) fn number(&mut self) -> u16 {
        u16::from(self.byte()) << 8 | u16::from(self.byte())
    }

    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.number());
        self.take(length)
    }

    pub(super) fn text(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn varint(&mut self) -> usize {
        let (mut number, mut shift) = (0usize, 0);
        loop {
            let byte = self.byte();
            number |= usize::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }

    /// The properties of version 5: response topic and correlation data, the others are read past (MQTT 5, 2.2.2).
    pub(super) fn properties(&mut self) -> (Option<String>, Option<Vec<u8>>) {
        let length = self.varint();
        let mut inside = Cursor(self.take(length));
        let (mut response, mut correlation) = (None, None);
        while !inside.is_empty() {
            match inside.byte() {
                0x08 => response = Some(inside.text()),
                0x09 => correlation = Some(inside.bytes().to_vec()),
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => drop(inside.take(1)),
                0x13 | 0x21..=0x23 => drop(inside.take(2)),
                0x02 | 0x11 | 0x18 | 0x27 => drop(inside.take(4)),
                0x0B => drop(inside.varint()),
                0x26 => drop((inside.bytes(), inside.bytes())),
                _ => drop(inside.bytes()),
            }
        }
        (response, correlation)
    }
}

/// A PUBLISH as it is sent or was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Who sent it; empty for the broker itself.
    pub client_id: String,
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// The retain flag.
    pub retain: bool,
    /// The DUP flag.
    pub dup: bool,
    /// Packet id; 0 at QoS 0. On the way out 0 means: the next free one.
    pub id: u16,
    /// Response Topic (MQTT 5).
    pub response_topic: Option<String>,
    /// Correlation Data (MQTT 5).
    pub correlation: Option<Vec<u8>>,
}

impl Publish {
    /// A plain message of QoS 1.
    #[must_use]
    pub fn new(topic: &str, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.to_owned(), payload: payload.into(), qos: 1, ..Self::default() }
    }

    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub(super) fn read(first: u8, body: &[u8], version_5: bool, client_id: &str) -> Self {
        let mut body = Cursor(body);
        let topic = body.text();
        let qos = first >> 1 & 3;
        let id = if qos > 0 { body.number() } else { 0 };
        let (response_topic, correlation) = if version_5 { body.properties() } else { (None, None) };
        Self {
            client_id: client_id.to_owned(),
            topic,
            payload: body.0.to_vec(),
            qos,
            retain: first & 1 != 0,
            dup: first & 8 != 0,
            id,
            response_topic,
            correlation,
        }
    }

    pub(super) fn write(&self, version_5: bool) -> Vec<u8> {
        let mut body = Vec::new();
        text(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend_from_slice(&self.id.to_be_bytes());
        }
        if version_5 {
            let mut properties = Vec::new();
            if let Some(topic) = &self.response_topic {
                properties.push(0x08);
                text(&mut properties, topic.as_bytes());
            }
            if let Some(data) = &self.correlation {
                properties.push(0x09);
                text(&mut properties, data);
            }
            varint(&mut body, properties.len());
            body.extend_from_slice(&properties);
        }
        body.extend_from_slice(&self.payload);
        frame(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain), &body)
    }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text);
}

/// A CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The client id.
    pub client_id: String,
    /// 4 is 3.1.1, 5 is 5.
    pub version: u8,
    /// User name.
    pub user: Option<String>,
    /// Topic and payload of the last will.
    pub will: Option<(String, Vec<u8>)>,
}

impl Connect {
    pub(super) fn read(body: &[u8]) -> Self {
        let mut body = Cursor(body);
        assert_eq!(body.text(), "MQTT");
        let (version, flags, _keep_alive) = (body.byte(), body.byte(), body.number());
        if version == 5 {
            body.properties();
        }
        let client_id = body.text();
        let will = (flags & 4 != 0).then(|| {
            if version == 5 {
                body.properties();
            }
            (body.text(), body.bytes().to_vec())
        });
        let user = (flags & 0x80 != 0).then(|| body.text());
        Self { client_id, version, user, will }
    }
}

/// Whether `topic` matches `filter` (MQTT 4.7).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let (mut wanted, mut found) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}
