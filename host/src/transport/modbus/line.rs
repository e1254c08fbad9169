//! The wire below a bus: opens TCP connections and serial lines, sends one request and takes its answer, and empties
//! the input of what nobody waits for. Decides nothing about retries.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_modbus::client::{Client, Context as Modbus};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Error, Request, Response, Slave};
use tokio_serial::SerialPortBuilderExt;

use super::queue::Work;
use crate::config::{EndpointUrl, Parity, SerialLine};
use crate::transport::{Block, ModbusError, Table};

/// Where Modbus TCP listens unless something else is said (Modbus messaging on TCP/IP 1.0b, 3.1.3).
const MODBUS_PORT: u16 = 502;

/// What tells one bus from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::transport) enum Wire {
    Tcp(String, u16),
    RtuTcp(String, u16),
    Rtu(SerialLine),
}

impl Wire {
    /// `None` if the address is no Modbus address.
    pub(in crate::transport) fn of(url: &EndpointUrl, default_port: Option<u16>) -> Option<Self> {
        let port_of = |port: &Option<u16>| port.or(default_port).unwrap_or(MODBUS_PORT);
        match url {
            EndpointUrl::ModbusTcp { host, port } => Some(Wire::Tcp(host.clone(), port_of(port))),
            EndpointUrl::ModbusRtuTcp { host, port } => Some(Wire::RtuTcp(host.clone(), port_of(port))),
            EndpointUrl::ModbusRtu(line) => Some(Wire::Rtu(line.clone())),
            EndpointUrl::Http(_) | EndpointUrl::Mqtt(_) => None,
        }
    }

    /// Frames carry no transaction number: which answer belongs to which request is a matter of time.
    pub(super) fn is_rtu(&self) -> bool {
        !matches!(self, Wire::Tcp(..))
    }

    /// Silence between two requests unless the configuration says otherwise.
    pub(super) fn default_gap(&self) -> Duration {
        if self.is_rtu() { Duration::from_millis(50) } else { Duration::ZERO }
    }

    /// The silence that ends a frame: 3.5 characters of 11 bits, at least 1.75 ms (Modbus over serial line 1.02,
    /// 2.5.1.1). Behind a converter the line is unknown and counts as one of 9600 bit/s.
    pub(super) fn frame_gap(&self) -> Duration {
        const LEAST: Duration = Duration::from_micros(1_750);
        let baud = match self {
            Wire::Tcp(..) => return Duration::ZERO,
            Wire::RtuTcp(..) => 9_600,
            Wire::Rtu(line) => line.baud,
        };
        (Duration::from_micros(38_500_000) / baud.max(1)).max(LEAST)
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wire::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Wire::RtuTcp(host, port) => write!(f, "rtutcp://{host}:{port}"),
            Wire::Rtu(line) => write!(f, "rtu://{}?baud={}", line.path, line.baud),
        }
    }
}

/// Any byte stream below the protocol.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A stream that the protocol client owns and that we can still listen to between two requests.
#[derive(Clone)]
struct Tap(Arc<Mutex<Box<dyn Bytes>>>);

impl Tap {
    fn stream(&self) -> MutexGuard<'_, Box<dyn Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

impl AsyncRead for Tap {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tap {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream()).poll_shutdown(cx)
    }
}

/// Why a request got no good answer, by what has to be done about the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The device has answered that it does not want to: the line is fine.
    Exception(u8),
    /// Something else came than the answer.
    Confused(String),
    /// The line is gone.
    Gone(String),
    Timeout,
}

impl Trouble {
    pub(super) fn into_error(self) -> ModbusError {
        match self {
            Trouble::Exception(code) => ModbusError::Exception(code),
            Trouble::Confused(text) => ModbusError::Protocol(text),
            Trouble::Gone(text) => ModbusError::Unreachable(text),
            Trouble::Timeout => ModbusError::Timeout,
        }
    }
}

/// An open line.
pub(super) struct Line {
    tap: Tap,
    modbus: Modbus,
    /// Requests sent since it was opened.
    pub(super) used: bool,
}

impl Line {
    /// # Errors
    /// One sentence with the wire and the reason.
    pub(super) async fn open(wire: &Wire, timeout: Duration) -> Result<Self, String> {
        let opened = tokio::time::timeout(timeout, open_stream(wire)).await;
        let stream = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(format!("{wire}: {error}")),
            Err(_) => return Err(format!("{wire}: no connection within {} ms", timeout.as_millis())),
        };
        let tap = Tap(Arc::new(Mutex::new(stream)));
        let modbus = match wire {
            Wire::Tcp(..) => tokio_modbus::client::tcp::attach_slave(tap.clone(), Slave(1)),
            Wire::RtuTcp(..) | Wire::Rtu(_) => tokio_modbus::client::rtu::attach_slave(tap.clone(), Slave(1)),
        };
        Ok(Self { tap, modbus, used: false })
    }

    /// Reads away what is there until nothing came for `silence`. `false` if the other side has closed the line, or
    /// does not stop talking.
    pub(super) async fn quiet(&mut self, silence: Duration) -> bool {
        const MOST: usize = 64 * 1024;
        let mut buffer = [0u8; 512];
        let mut total = 0;
        loop {
            let mut buf = ReadBuf::new(&mut buffer);
            let read = poll_fn(|cx| Pin::new(&mut self.tap).poll_read(cx, &mut buf));
            match tokio::time::timeout(silence, read).await {
                Err(_) => return true,
                Ok(Err(_)) => return false,
                Ok(Ok(())) if buf.filled().is_empty() => return false,
                Ok(Ok(())) => total += buf.filled().len(),
            }
            if total > MOST {
                return false;
            }
        }
    }

    /// Sends one request and waits for its answer. After [`Trouble::Timeout`] the input may still bring it.
    pub(super) async fn ask(&mut self, unit: u8, work: &Work, timeout: Duration) -> Result<Vec<u16>, Trouble> {
        self.used = true;
        self.modbus.set_slave(Slave(unit));
        let answer = match tokio::time::timeout(timeout, self.modbus.call(request_of(work))).await {
            Err(_) => return Err(Trouble::Timeout),
            Ok(Ok(Ok(response))) => values_of(work, response),
            Ok(Ok(Err(exception))) => return Err(Trouble::Exception(exception.into())),
            Ok(Err(Error::Protocol(error))) => return Err(Trouble::Confused(first_line(&error.to_string()))),
            Ok(Err(Error::Transport(error))) => return Err(broken(&error)),
        };
        answer.ok_or_else(|| Trouble::Confused("the answer does not fit the request".to_owned()))
    }
}

async fn open_stream(wire: &Wire) -> io::Result<Box<dyn Bytes>> {
    match wire {
        Wire::Tcp(host, port) | Wire::RtuTcp(host, port) => {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((bare, *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        Wire::Rtu(line) => {
            let parity = match line.parity {
                Parity::None => tokio_serial::Parity::None,
                Parity::Even => tokio_serial::Parity::Even,
                Parity::Odd => tokio_serial::Parity::Odd,
            };
            let stop_bits = if line.stop_bits == 2 { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One };
            let port = tokio_serial::new(&line.path, line.baud)
                .data_bits(tokio_serial::DataBits::Eight)
                .parity(parity)
                .stop_bits(stop_bits)
                .open_native_async()?;
            Ok(Box::new(port))
        }
    }
}

fn broken(error: &io::Error) -> Trouble {
    match error.kind() {
        // The codec reports a bad checksum and a malformed frame like this.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Trouble::Confused(error.to_string()),
        // What the protocol client says when the stream has ended depends on the last error of the system.
        _ if error.raw_os_error().is_none_or(|code| code == 0) => {
            Trouble::Gone("the other side closed the line".to_owned())
        }
        _ => Trouble::Gone(error.to_string()),
    }
}

/// The library puts the whole answer into its messages.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn request_of(work: &Work) -> Request<'_> {
    match work {
        Work::Read(Block { table, address, count }) => match table {
            Table::Coils => Request::ReadCoils(*address, *count),
            Table::Discrete => Request::ReadDiscreteInputs(*address, *count),
            Table::Holding => Request::ReadHoldingRegisters(*address, *count),
            Table::Input => Request::ReadInputRegisters(*address, *count),
        },
        Work::WriteCoil(address, value) => Request::WriteSingleCoil(*address, *value),
        Work::WriteRegister(address, value) => Request::WriteSingleRegister(*address, *value),
        Work::WriteRegisters(address, values) => Request::WriteMultipleRegisters(*address, Cow::Borrowed(values)),
    }
}

/// `None` if the response does not belong to the request. The library checks the function, not the size.
fn values_of(work: &Work, response: Response) -> Option<Vec<u16>> {
    match (work, response) {
        (Work::Read(block), Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) => {
            // Bits come in whole bytes.
            let count = usize::from(block.count);
            let whole_bytes = count.div_ceil(8) * 8;
            (bits.len() == count || bits.len() == whole_bytes)
                .then(|| bits.into_iter().take(count).map(u16::from).collect())
        }
        (Work::Read(block), Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)) => {
            (words.len() == usize::from(block.count)).then_some(words)
        }
        // The echoed value is not compared: devices clamp what they are told and echo what they took.
        (Work::WriteCoil(address, _), Response::WriteSingleCoil(echo, _))
        | (Work::WriteRegister(address, _), Response::WriteSingleRegister(echo, _))
        | (Work::WriteRegisters(address, _), Response::WriteMultipleRegisters(echo, _)) => {
            (*address == echo).then(Vec::new)
        }
        _ => None,
    }
}
