//! A small HTTP/1.1 server for simulated devices: GET with a query, keep-alive, faults on order. No other method, no TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::net::{Control, Fault, Server};

/// A request, its query decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Path without query.
    pub path: String,
    /// Pairs in their order, percent and plus decoded.
    pub query: Vec<(String, String)>,
}

impl Request {
    /// The first value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

impl Response {
    /// 200 with JSON.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: 200, body: value.to_string() }
    }

    /// An error with an empty object.
    #[must_use]
    pub fn error(status: u16) -> Self {
        Self { status, body: "{}".to_owned() }
    }
}

/// Longest request head.
const HEAD: usize = 16 * 1024;

/// Serves `handler` on a socket.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve<H>(address: SocketAddr, control: Control, handler: H) -> anyhow::Result<Server>
where
    H: Fn(&Request) -> Response + Send + Sync + 'static,
{
    let handler = Arc::new(handler);
    Server::listen(address, control, move |stream, control| {
        let _ = stream.set_nodelay(true);
        let handler = handler.clone();
        async move {
            if let Err(error) = session(stream, &control, handler.as_ref()).await {
                tracing::debug!(%error, "simulated HTTP connection ended");
            }
        }
    })
    .await
}

async fn session<H>(mut stream: TcpStream, control: &Control, handler: &H) -> io::Result<()>
where
    H: Fn(&Request) -> Response,
{
    let mut buffer = Vec::new();
    while let Some(head) = head(&mut stream, &mut buffer).await? {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            head.lines().skip(1).filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let close = header("connection").is_some_and(|(_, v)| v.trim().eq_ignore_ascii_case("close"));
        let has_body = header("content-length").is_some_and(|(_, v)| v.trim() != "0");
        let fault = control.admit().await;
        if fault == Some(Fault::Drop) {
            continue;
        }
        let response = match (&fault, method) {
            (Some(Fault::Status(status)), _) => Response::error(*status),
            (_, "GET") if !has_body => handler(&request(target)),
            _ => Response::error(405),
        };
        let text = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {}\r\n\r\n{}",
            response.status,
            reason(response.status),
            response.body.len(),
            if close || has_body { "close" } else { "keep-alive" },
            response.body
        );
        let go_on = crate::modbus::send(&mut stream, text.into_bytes(), fault.as_ref()).await?;
        if !go_on || close || has_body {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

/// Reads up to the blank line; none at the end of the connection.
async fn head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        if buffer.len() > HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "request head too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn request(target: &str) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    Request { path: decode(path), query: pairs.map(|(k, v)| (decode(k), decode(v))).collect() }
}

/// Percent and plus decoding; a broken escape stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes().collect::<std::collections::VecDeque<_>>();
    while let Some(byte) = bytes.pop_front() {
        let escape = (byte == b'%').then(|| Some((hex(*bytes.front()?)?, hex(*bytes.get(1)?)?))).flatten();
        match (byte, escape) {
            (_, Some((high, low))) => {
                bytes.drain(..2);
                out.push(high << 4 | low);
            }
            (b'+', None) => out.push(b' '),
            (other, None) => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
