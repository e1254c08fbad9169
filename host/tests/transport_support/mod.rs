//! A Modbus server that is written by hand, so that it shares no mistake with the library under test: it answers,
//! refuses, hesitates, hangs up and writes down what it was asked and when.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ladekern::config::{EndpointConfig, EndpointUrl, Timing};
use ladekern::transport::{Block, Endpoint, Modbus, Table, Transports};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How a request went over the wire.
#[derive(Clone, Debug)]
pub struct Asked {
    pub unit: u8,
    pub function: u8,
    pub address: u16,
    /// Count of a read or of a multiple write; the value of a single write.
    pub count: u16,
    /// When it was complete, and when the answer before it was out.
    pub at: Instant,
    pub previous_answer: Option<Instant>,
    pub connection: usize,
}

impl Asked {
    /// `1r0+2`: unit 1 reads two values from 0; `1w5`: unit 1 writes at 5.
    pub fn short(&self) -> String {
        let Asked { unit, function, address, count, .. } = self;
        if *function <= 4 { format!("{unit}r{address}+{count}") } else { format!("{unit}w{address}") }
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Each register holds its own address; bits are 1 at odd addresses.
    Answer,
    AnswerAfter(Duration),
    Refuse(u8),
    Ignore,
    HangUp,
}

pub type Script = Arc<dyn Fn(&Asked) -> Act + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Tcp,
    Rtu,
}

#[derive(Clone)]
pub struct Server {
    pub log: Arc<Mutex<Vec<Asked>>>,
    pub connections: Arc<Mutex<Vec<bool>>>,
    pub changed: Arc<Notify>,
    pub port: u16,
}

impl Server {
    pub async fn start(framing: Framing, script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        Self::start_at(0, framing, Arc::new(script)).await.0
    }

    /// Also the task that listens: abort it to take the server away.
    pub async fn start_at(port: u16, framing: Framing, script: Script) -> (Self, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let server = Self {
            log: Arc::default(),
            connections: Arc::default(),
            changed: Arc::default(),
            port: listener.local_addr().unwrap().port(),
        };
        let shared = server.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, so that a server that goes away takes its connections along.
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                open.spawn(shared.clone().serve(stream, framing, script.clone()));
            }
        });
        (server, task)
    }

    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, mut stream: S, framing: Framing, script: Script) {
        let connection = {
            let mut connections = self.connections.lock().unwrap();
            connections.push(true);
            connections.len() - 1
        };
        let mut previous_answer = None;
        while let Some((head, pdu, unit)) = read_frame(&mut stream, framing).await {
            let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
            let (function, address, count) = (pdu[0], word(1), word(3));
            let asked = Asked { unit, function, address, count, at: Instant::now(), previous_answer, connection };
            let act = script(&asked);
            self.log.lock().unwrap().push(asked);
            self.changed.notify_waiters();
            let answer = match act {
                Act::Answer => answer_of(&pdu),
                Act::AnswerAfter(wait) => {
                    tokio::time::sleep(wait).await;
                    answer_of(&pdu)
                }
                Act::Refuse(code) => vec![function | 0x80, code],
                Act::Ignore => continue,
                Act::HangUp => break,
            };
            if stream.write_all(&frame(framing, &head, unit, &answer)).await.is_err() {
                break;
            }
            previous_answer = Some(Instant::now());
        }
        self.connections.lock().unwrap()[connection] = false;
        self.changed.notify_waiters();
    }

    pub fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(Asked::short).collect()
    }

    /// Waits for something to be seen in the log or in the connections.
    pub async fn until(&self, seen: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if seen(self) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the server never saw it");
    }

    pub fn config(&self, framing: Framing) -> EndpointConfig {
        let (host, port) = ("127.0.0.1".to_owned(), Some(self.port));
        config(match framing {
            Framing::Tcp => EndpointUrl::ModbusTcp { host, port },
            Framing::Rtu => EndpointUrl::ModbusRtuTcp { host, port },
        })
    }
}

/// Header bytes to be repeated, the PDU, and the unit.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S, framing: Framing) -> Option<(Vec<u8>, Vec<u8>, u8)> {
    if framing == Framing::Tcp {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut pdu = vec![0; length - 1];
        stream.read_exact(&mut pdu).await.ok()?;
        return Some((head[..4].to_vec(), pdu, head[6]));
    }
    let mut frame = vec![0; 7];
    stream.read_exact(&mut frame).await.ok()?;
    let rest = if frame[1] == 15 || frame[1] == 16 { usize::from(frame[6]) + 2 } else { 1 };
    let mut tail = vec![0; rest];
    stream.read_exact(&mut tail).await.ok()?;
    frame.extend(tail);
    let end = frame.len() - 2;
    assert_eq!(frame[end..], crc(&frame[..end]).to_le_bytes(), "bad checksum from the host");
    Some((Vec::new(), frame[1..end].to_vec(), frame[0]))
}

fn frame(framing: Framing, head: &[u8], unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    if framing == Framing::Tcp {
        bytes.extend((pdu.len() as u16 + 1).to_be_bytes());
    }
    bytes.push(unit);
    bytes.extend(pdu);
    if framing == Framing::Rtu {
        let crc = crc(&bytes);
        bytes.extend(crc.to_le_bytes());
    }
    bytes
}

fn answer_of(pdu: &[u8]) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
    match pdu[0] {
        function @ (1 | 2) => {
            let (address, count) = (usize::from(word(1)), usize::from(word(3)));
            let mut bits = vec![0u8; count.div_ceil(8)];
            for bit in (0..count).filter(|bit| (address + bit) % 2 == 1) {
                bits[bit / 8] |= 1 << (bit % 8);
            }
            [vec![function, bits.len() as u8], bits].concat()
        }
        function @ (3 | 4) => {
            let words = (0..word(3)).flat_map(|offset| word(1).wrapping_add(offset).to_be_bytes());
            [vec![function, (word(3) * 2) as u8], words.collect()].concat()
        }
        _ => pdu[..5].to_vec(),
    }
}

/// Modbus over serial line 1.02, 6.2.2.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |mut crc, byte| {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
        }
        crc
    })
}

pub fn config(url: EndpointUrl) -> EndpointConfig {
    EndpointConfig {
        url,
        unit: None,
        timeout: Some(Duration::from_secs(2)),
        min_gap: Some(Duration::ZERO),
        read_only: false,
        topic_prefix: String::new(),
        user: None,
        password_file: None,
        timing: Timing::default(),
    }
}

pub fn modbus(transports: &Transports, cfg: &EndpointConfig, unit: u8) -> Arc<dyn Modbus> {
    let cfg = EndpointConfig { unit: Some(unit), ..cfg.clone() };
    match transports.endpoint(&"M1".parse().unwrap(), "main", &cfg, None, None).unwrap() {
        Endpoint::Modbus(endpoint) => endpoint,
        other => panic!("{other:?}"),
    }
}

pub fn holding(address: u16, count: u16) -> Block {
    Block { table: Table::Holding, address, count }
}

pub fn own(address: u16, count: u16) -> Vec<u16> {
    (address..address + count).collect()
}
