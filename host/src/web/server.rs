//! Connections: plain and TLS on one port, told apart by the first byte. No client can hold up another one: whatever
//! a client has to do has a time limit, and when there are too many, the one that has waited longest goes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::guard::{Guard, plain};
use super::pulse::{HEAD_TIME, LOOK, Overdue, Pulse};
use super::tls::Tls;

/// Connections at the same time.
pub(super) const MAX_CONNECTIONS: usize = 512;
/// What hyper reads of a head before it gives up. Our own limits are lower.
const HEAD_BUFFER: usize = 128 << 10;
/// Requests that are being answered get this long when the server stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// A client that is still sending when it has its answer may send so much more, so that it can read the answer before
/// the connection is gone, ...
const LINGER: usize = 16 << 20;
/// ... for so long, ...
const LINGER_TIME: Duration = Duration::from_secs(10);
/// ... as long as it does send.
const LINGER_GAP: Duration = Duration::from_secs(1);
/// The first byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// Answers one request.
type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Whatever answers requests.
pub(super) trait Answers: Send + Sync + 'static {
    /// Answers one.
    fn answer(self: Arc<Self>, request: Request, peer: IpAddr) -> impl Future<Output = Response> + Send;
}

/// Who is connected.
#[derive(Default)]
struct Connections {
    next: u64,
    open: HashMap<u64, Arc<Pulse>>,
}

impl Connections {
    /// Room for one more, for which another one may have to go; `None`: all are being answered.
    fn enter(&mut self) -> Option<(u64, Arc<Pulse>)> {
        if self.open.len() >= MAX_CONNECTIONS {
            let waiting = self.open.iter().filter_map(|(id, pulse)| Some((pulse.expendable()?, *id)));
            let (_, longest) = waiting.min()?;
            if let Some(pulse) = self.open.remove(&longest) {
                pulse.leave.notify_one();
            }
        }
        self.next += 1;
        let pulse = Pulse::new();
        self.open.insert(self.next, Arc::clone(&pulse));
        Some((self.next, pulse))
    }
}

/// Accepts until `shutdown` is done; then says goodbye.
pub(super) async fn run(
    listener: TcpListener,
    tls: Tls,
    app: Arc<impl Answers>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let connections = Arc::new(Mutex::new(Connections::default()));
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of files, mostly. Not a loop that takes a whole core until one is closed.
                tracing::warn!("no HTTP connection can be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let entered = lock(&connections).enter();
        let Some((id, pulse)) = entered else {
            // One write without waiting: whoever is refused takes no time of the others.
            let _ = stream.try_write(&plain(503, "Service Unavailable", "too many connections, try again"));
            continue;
        };
        let (app, tls, stopped, connections) =
            (Arc::clone(&app), tls.clone(), stopped.clone(), Arc::clone(&connections));
        tasks.spawn(async move {
            talk(stream, peer.ip(), app, &tls, pulse, stopped).await;
            lock(&connections).open.remove(&id);
        });
    }
    drop(listener);
    stop.send_replace(true);
    // A client that keeps its connection open does not keep the host from ending: what is left ends with the set.
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, all).await;
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn talk(
    stream: TcpStream,
    peer: IpAddr,
    app: Arc<impl Answers>,
    tls: &Tls,
    pulse: Arc<Pulse>,
    mut stopped: watch::Receiver<bool>,
) {
    // Without it small answers wait for the client's acknowledgement. If it fails they do.
    let _ = stream.set_nodelay(true);
    let mut first = [0];
    let began = tokio::time::timeout(HEAD_TIME, stream.peek(&mut first));
    let began = tokio::select! {
        began = began => began,
        () = pulse.leave.notified() => return,
        _ = stopped.changed() => return,
    };
    match began {
        Ok(Ok(1)) if first == [TLS_HANDSHAKE] => {
            let shaken = tokio::time::timeout(HEAD_TIME, tls.acceptor.accept(stream));
            let shaken = tokio::select! {
                shaken = shaken => shaken,
                () = pulse.leave.notified() => return,
                _ = stopped.changed() => return,
            };
            match shaken {
                Ok(Ok(stream)) => speak(stream, peer, app, pulse, stopped).await,
                Ok(Err(error)) => tracing::debug!("no TLS with {peer}: {error}"),
                Err(_) => tracing::debug!("no TLS with {peer}: the handshake took too long"),
            }
        }
        Ok(Ok(1)) => speak(stream, peer, app, pulse, stopped).await,
        Ok(_) => {}
        Err(_) => goodbye(stream, Some(too_slow())).await,
    }
}

/// HTTP/1.1 on one connection until its end.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: IpAddr,
    app: Arc<impl Answers>,
    pulse: Arc<Pulse>,
    mut stopped: watch::Receiver<bool>,
) {
    let service = {
        let pulse = Arc::clone(&pulse);
        service_fn(move |request: hyper::Request<Incoming>| -> Answering {
            pulse.request();
            let (app, pulse) = (Arc::clone(&app), Arc::clone(&pulse));
            Box::pin(async move {
                let response = app.answer(request.map(Body::new), peer).await;
                pulse.answered();
                Ok(response)
            })
        })
    };
    let io = TokioIo::new(Guard::new(stream, Arc::clone(&pulse)));
    let mut connection = http1::Builder::new().max_buf_size(HEAD_BUFFER).serve_connection(io, service);
    let mut stopping = false;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let ended = loop {
        tokio::select! {
            done = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break Ok(done),
            () = pulse.leave.notified() => break Err(Overdue::Quiet),
            _ = look.tick() => if let Some(overdue) = pulse.overdue() { break Err(overdue) },
            _ = stopped.changed(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let (stream, told) = connection.into_parts().io.into_inner().into_inner();
    let word = match &ended {
        Err(Overdue::Slow) => Some(too_slow()),
        Ok(Err(error)) if error.is_parse() && !told => Some(plain(400, "Bad Request", "this is no HTTP/1.1 request")),
        _ => None,
    };
    if matches!(ended, Err(Overdue::Quiet)) {
        return;
    }
    pulse.ended();
    tokio::select! {
        () = goodbye(stream, word) => {}
        () = pulse.leave.notified() => {}
    }
}

fn too_slow() -> Vec<u8> {
    plain(408, "Request Timeout", "the request did not come in time")
}

/// Ends a connection such that the client can read the answer: closing it while bytes come in would take the answer
/// away again.
async fn goodbye<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, word: Option<Vec<u8>>) {
    let end = async {
        if let Some(word) = word {
            stream.write_all(&word).await?;
        }
        stream.shutdown().await?;
        let (mut rest, mut room) = (LINGER, vec![0; 16 << 10]);
        while rest > 0 {
            match tokio::time::timeout(LINGER_GAP, stream.read(&mut room)).await?? {
                0 => break,
                read => rest = rest.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // Whatever goes wrong here goes wrong for a client that is leaving.
    let _ = tokio::time::timeout(LINGER_TIME, end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_connection_makes_room() {
        let mut connections = Connections::default();
        let (first, oldest) = connections.enter().unwrap();
        let mut all: Vec<_> = (1..MAX_CONNECTIONS).map(|_| connections.enter().unwrap().1).collect();
        // Waits between two requests, though it came last.
        let idle = all.pop().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        idle.request();
        idle.answered();
        idle.flushed();
        connections.enter().unwrap();
        idle.leave.notified().await;
        assert!(connections.open.contains_key(&first));
        connections.enter().unwrap();
        oldest.leave.notified().await;
        assert_eq!(connections.open.len(), MAX_CONNECTIONS);
        connections.open.values().for_each(|pulse| pulse.request());
        assert!(connections.enter().is_none());
    }
}
