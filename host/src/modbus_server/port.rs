//! One port: takes connections, keeps their number and their patience within bounds, and answers requests from the
//! registers of the device that stands there.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::Server;
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use super::{Registers, Writer};
use crate::contract::registers::RegisterError;
use crate::site::{DeviceId, DeviceKind};

/// Connections at once on one port; further ones are closed at once.
pub const CONNECTIONS: usize = 16;
/// A connection on which nothing moves for so long is closed, half a frame or none.
pub const IDLE: Duration = Duration::from_secs(120);
/// Between two attempts to listen on a port that is taken.
const AGAIN: Duration = Duration::from_secs(2);

/// A port; ends with all its connections when dropped.
pub(super) struct Port {
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where the three ports really listen.
pub(super) type Bound = Arc<watch::Sender<[Option<SocketAddr>; 3]>>;

impl Port {
    /// `port` is 0 for the wallbox, 1 and 2 for the meters.
    pub fn start(port: usize, address: SocketAddr, registers: Registers, bound: Bound) -> Self {
        Self { task: tokio::spawn(listen(port, address, registers, bound)) }
    }

    /// Ends it; afterwards its number is free.
    pub async fn end(mut self) {
        self.task.abort();
        // An error is the abort itself.
        let _ = (&mut self.task).await;
    }
}

async fn listen(port: usize, address: SocketAddr, registers: Registers, bound: Bound) {
    let mut failing = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                failing = false;
                let listens = listener.local_addr().unwrap_or(address);
                tracing::info!("the Modbus server listens on {listens}, unit {}", port + 1);
                bound.send_modify(|all| {
                    if let Some(one) = all.get_mut(port) {
                        *one = Some(listens);
                    }
                });
                serve(port, listener, &registers).await;
            }
            Err(error) if !failing => {
                failing = true;
                tracing::error!("modbus_server: cannot listen on {address}: {error}; it is tried again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Returns when connections can no longer be accepted.
async fn serve(port: usize, listener: TcpListener, registers: &Registers) {
    let server = Server::new(listener);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let connected = |stream: TcpStream, peer: SocketAddr| {
        let places = Arc::clone(&places);
        let answers = Answers { port, registers: registers.clone() };
        async move {
            let Ok(place) = places.try_acquire_owned() else {
                tracing::debug!("the Modbus connection of {peer} is closed: there are {CONNECTIONS} already");
                return Ok(None);
            };
            // Failing here would end the whole server.
            let _ = stream.set_nodelay(true);
            Ok(Some((answers, Patient::new(stream, place))))
        }
    };
    let lost = |error: io::Error| tracing::debug!("a Modbus connection has ended: {error}");
    // An error is one of accepting, too many open files for instance: the others go on with a new listener.
    if let Err(error) = server.serve(&connected, lost).await {
        tracing::warn!("modbus_server: cannot accept connections: {error}");
    }
}

/// A connection with an end to its patience.
struct Patient<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl<S> Patient<S> {
    fn new(stream: S, place: OwnedSemaphorePermit) -> Self {
        Self { stream, idle: Box::pin(tokio::time::sleep(IDLE)), _place: place }
    }

    /// Whatever moved starts the patience anew; what does not move ends with it.
    fn watched<T>(&mut self, cx: &mut Context<'_>, moved: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return moved;
        }
        match self.idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched(cx, moved)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(cx, moved)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What is answered on one port.
struct Answers {
    port: usize,
    registers: Registers,
}

impl Service for Answers {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Response, ExceptionCode>> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        Box::pin(answer(self.port, self.registers.clone(), request))
    }
}

async fn answer(
    port: usize,
    registers: Registers,
    SlaveRequest { slave, request }: SlaveRequest<'static>,
) -> Result<Response, ExceptionCode> {
    // On TCP a server is found by its address and its port; 0 and 255 stand for "whoever is there" (Modbus messaging
    // on TCP/IP 1.0b, 4.4.2.1). A number that is meant for somebody else is told so.
    if !(slave == 0 || slave == 255 || usize::from(slave) == port + 1) {
        return Err(ExceptionCode::GatewayTargetDevice);
    }
    let device = Registers::on_port(&registers.source().config.borrow(), port);
    let device = device.ok_or(ExceptionCode::GatewayTargetDevice)?;
    if device.kind() == DeviceKind::Evse {
        registers.heard(&device).await;
    }
    match request {
        Request::ReadHoldingRegisters(address, count) => {
            read(&registers, &device, address, count).await.map(Response::ReadHoldingRegisters)
        }
        Request::ReadInputRegisters(address, count) => {
            read(&registers, &device, address, count).await.map(Response::ReadInputRegisters)
        }
        Request::WriteSingleRegister(address, word) => {
            write(&registers, &device, address, &[word]).await?;
            Ok(Response::WriteSingleRegister(address, word))
        }
        Request::WriteMultipleRegisters(address, words) => {
            write(&registers, &device, address, &words).await?;
            let count = u16::try_from(words.len()).map_err(|_| ExceptionCode::IllegalDataValue)?;
            Ok(Response::WriteMultipleRegisters(address, count))
        }
        _ => Err(ExceptionCode::IllegalFunction),
    }
}

async fn read(registers: &Registers, device: &DeviceId, address: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
    registers.read(device, |shown| shown.read(address, count)).await.map_err(|error| code(&error))
}

async fn write(registers: &Registers, device: &DeviceId, address: u16, words: &[u16]) -> Result<(), ExceptionCode> {
    registers.write(Writer::Controller, device, address, words).await.map_err(|error| code(&error))
}

fn code(error: &RegisterError) -> ExceptionCode {
    match error {
        RegisterError::Address(_) => ExceptionCode::IllegalDataAddress,
        RegisterError::Value(_) => ExceptionCode::IllegalDataValue,
        RegisterError::Device(_) => ExceptionCode::ServerDeviceFailure,
        RegisterError::Busy(_) => ExceptionCode::ServerDeviceBusy,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stands_still_is_not_waited_for_ever() {
        let (mut near, far) = tokio::io::duplex(4);
        let places = Arc::new(Semaphore::new(1));
        let mut patient = Patient::new(far, Arc::clone(&places).try_acquire_owned().unwrap());
        tokio::time::advance(IDLE / 2).await;
        near.write_all(&[7]).await.unwrap();
        assert_eq!(patient.read_u8().await.unwrap(), 7);
        // Half a frame and then nothing; and a client that takes no answers.
        let begin = Instant::now();
        assert_eq!(patient.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), IDLE);
        near.write_all(&[8]).await.unwrap();
        patient.read_u8().await.unwrap();
        assert_eq!(patient.write_all(&[0; 9]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(patient);
        assert_eq!(places.available_permits(), 1, "its place is free again");
    }
}
