//! Clients written byte by byte, so that a simulated device is never judged by its own code.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "shared by several test programs; a failed unwrap is a failed assertion"
)]

pub mod broker;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Deadline of everything that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; panics with `what` after the deadline.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn hex(text: &str) -> Vec<u8> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

/// A Modbus TCP client: every request has transaction id 0x0102.
pub struct Tcp(pub TcpStream);

impl Tcp {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, unit: u8, pdu: &[u8]) {
        let mut frame = vec![1, 2, 0, 0, 0, (pdu.len() + 1) as u8, unit];
        frame.extend(pdu);
        self.0.write_all(&frame).await.unwrap();
    }

    /// Sends a PDU and returns the PDU of the answer.
    pub async fn ask(&mut self, unit: u8, pdu: &[u8]) -> Vec<u8> {
        self.send(unit, pdu).await;
        let mut header = [0; 7];
        tokio::time::timeout(DEADLINE, self.0.read_exact(&mut header)).await.expect("answer").unwrap();
        assert_eq!(&header[..4], &[1, 2, 0, 0]);
        assert_eq!(header[6], unit);
        let mut answer = vec![0; header[5] as usize - 1];
        self.0.read_exact(&mut answer).await.unwrap();
        answer
    }

    /// Reads registers; an exception is an error with its code.
    pub async fn read(&mut self, unit: u8, function: u8, at: u16, count: u16) -> Result<Vec<u16>, u8> {
        let [a1, a0] = at.to_be_bytes();
        let [c1, c0] = count.to_be_bytes();
        let answer = self.ask(unit, &[function, a1, a0, c1, c0]).await;
        if answer[0] & 0x80 != 0 {
            assert_eq!((answer[0], answer.len()), (function | 0x80, 2));
            return Err(answer[1]);
        }
        assert_eq!(answer[1] as usize, answer.len() - 2);
        Ok(answer[2..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
    }

    /// Function 6; an exception is an error with its code.
    pub async fn write(&mut self, unit: u8, at: u16, value: u16) -> Result<(), u8> {
        let [a1, a0] = at.to_be_bytes();
        let [v1, v0] = value.to_be_bytes();
        let request = [6, a1, a0, v1, v0];
        let answer = self.ask(unit, &request).await;
        if answer[0] == 0x86 {
            return Err(answer[1]);
        }
        assert_eq!(answer, request);
        Ok(())
    }
}

/// `GET`, one connection per request: status and body.
pub async fn get(address: SocketAddr, target: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text)).await.expect("answer").unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

pub fn socket(url: &str) -> SocketAddr {
    url.split("://").nth(1).unwrap().parse().unwrap()
}
