//! Listening sockets that can be switched: silent, closed, slow, or wrong on purpose; they count what they see.
//!
//! Knows no protocol: a session function speaks it and asks its [`Control`] what to do wrong.

use std::collections::VecDeque;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What to do to one request instead of answering it properly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Read the request and never answer it.
    Drop,
    /// Close the connection without an answer.
    Close,
    /// Send only the first so many bytes of the answer, then close.
    Cut(usize),
    /// Answer after this time.
    Delay(Duration),
    /// Send these bytes instead of the answer.
    Garbage(Vec<u8>),
    /// Modbus: answer with this exception code.
    Exception(u8),
    /// Modbus TCP: answer with a transaction id that was never asked for.
    WrongTransaction,
    /// Modbus: answer in the name of the next unit id.
    WrongUnit,
    /// Modbus RTU: spoil the checksum.
    BadCrc,
    /// HTTP: answer with this status and an empty object.
    Status(u16),
    /// Hand the answer out byte by byte.
    Dribble,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Online,
    Paused,
    Offline,
}

#[derive(Debug)]
struct Inner {
    mode: watch::Sender<Mode>,
    requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicU64,
    faults: Mutex<(Duration, VecDeque<Fault>)>,
}

/// The switches and counters of one device; clones share them.
#[derive(Debug, Clone)]
pub struct Control(Arc<Inner>);

impl Default for Control {
    fn default() -> Self {
        Self(Arc::new(Inner {
            mode: watch::channel(Mode::Online).0,
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            faults: Mutex::new((Duration::ZERO, VecDeque::new())),
        }))
    }
}

impl Control {
    /// Keeps its connections but answers and publishes nothing: a lost device behind a live link.
    pub fn pause(&self) {
        self.0.mode.send_replace(Mode::Paused);
    }

    /// Back to normal, after [`Control::pause`] or [`Control::offline`].
    pub fn resume(&self) {
        self.0.mode.send_replace(Mode::Online);
    }

    /// Closes the listening socket and every connection.
    pub fn offline(&self) {
        self.0.mode.send_replace(Mode::Offline);
    }

    /// True while it answers.
    #[must_use]
    pub fn is_online(&self) -> bool {
        *self.0.mode.borrow() == Mode::Online
    }

    /// True while its sockets are closed.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        *self.0.mode.borrow() == Mode::Offline
    }

    /// Requests received (for a publisher: messages sent) since the start.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Ordering::Relaxed)
    }

    /// Connections accepted (for a publisher: made) since the start.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Does this to the next request that has no fault waiting yet.
    pub fn inject(&self, fault: Fault) {
        self.faults().1.push_back(fault);
    }

    /// Lets every answer wait this long from now on.
    pub fn delay(&self, time: Duration) {
        self.faults().0 = time;
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, (Duration, VecDeque<Fault>)> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_request(&self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_connection(&self) -> OpenConnection {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }

    /// Counts a request, waits as long as ordered, and says what to do wrong; a paused device never answers.
    pub(crate) async fn admit(&self) -> Option<Fault> {
        self.count_request();
        let (delay, fault) = {
            let mut faults = self.faults();
            (faults.0, faults.1.pop_front())
        };
        if delay > Duration::ZERO {
            tokio::time::sleep(delay).await;
        }
        if let Some(Fault::Delay(more)) = fault {
            tokio::time::sleep(more).await;
            return self.is_online().then_some(()).map_or(Some(Fault::Drop), |()| None);
        }
        if self.is_online() { fault } else { Some(Fault::Drop) }
    }

    pub(crate) async fn wait_online(&self) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.0.mode.subscribe().wait_for(|mode| *mode == Mode::Online).await;
    }

    pub(crate) async fn wait_offline(&self) {
        let _ = self.0.mode.subscribe().wait_for(|mode| *mode == Mode::Offline).await;
    }

    async fn wait_listening(&self) {
        let _ = self.0.mode.subscribe().wait_for(|mode| *mode != Mode::Offline).await;
    }
}

/// Counts a connection as open until it is dropped.
pub(crate) struct OpenConnection(Control);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A task that ends when this is dropped.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    pub(crate) async fn stop(mut self) {
        self.0.abort();
        // The error is the cancellation that was just asked for.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A listening socket with its sessions; dropping it closes all of them.
pub struct Server {
    address: SocketAddr,
    control: Control,
    task: Task,
}

impl Server {
    /// Listens on `address` (port 0: any free one) and runs `session` for every connection.
    ///
    /// # Errors
    /// The address cannot be bound; the message names it.
    pub async fn listen<F, S>(address: SocketAddr, control: Control, session: F) -> anyhow::Result<Self>
    where
        F: Fn(TcpStream, Control) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr().context("cannot read the address of a new socket")?;
        let task = Task::spawn(supervise(listener, address, control.clone(), session));
        Ok(Self { address, control, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its switches and counters.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Closes everything and waits until the port is free.
    pub async fn stop(self) {
        self.task.stop().await;
    }
}

async fn supervise<F, S>(listener: TcpListener, address: SocketAddr, control: Control, session: F)
where
    F: Fn(TcpStream, Control) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let mut listener = Some(listener);
    loop {
        if let Some(socket) = listener.take() {
            tokio::select! {
                () = accept(socket, &control, &session) => {}
                () = control.wait_offline() => {}
            }
        }
        control.wait_listening().await;
        match TcpListener::bind(address).await {
            Ok(socket) => listener = Some(socket),
            Err(error) => {
                tracing::warn!(%address, %error, "simulated device cannot listen again, trying on");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn accept<F, S>(listener: TcpListener, control: &Control, session: &F)
where
    F: Fn(TcpStream, Control) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    // The set aborts every session when this future is dropped.
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            stream = listener.accept() => match stream {
                Ok((stream, _)) => {
                    let open = control.count_connection();
                    let work = session(stream, control.clone());
                    sessions.spawn(async move {
                        work.await;
                        drop(open);
                    });
                }
                // Out of handles: the next connection may fit again.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}
