//! Opening a connection: the socket, TLS, CONNECT and the broker's answer. Knows at which of these steps it failed,
//! because only what happens after CONNECT can be due to the version of the protocol.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::packet::{self, Hello, Limits, Welcome};
use super::shared::Shared;
use super::tls;
use super::wire::{Frame, Socket, Wire};

/// How long reaching the broker may take, TLS included.
const REACH: Duration = Duration::from_secs(10);

/// How long the broker may take to answer CONNECT.
const ANSWER: Duration = Duration::from_secs(5);

/// Silence after which the broker is asked whether it is there; twice that and the connection is given up.
pub(super) const KEEP_ALIVE_S: u16 = 15;

/// Why there is no connection.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    /// Protocol version 5 is probably what the broker did not like.
    pub(super) try_older: bool,
}

impl Failure {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), try_older: false }
    }
}

/// Connects. Cancel-safe: nothing is left behind.
pub(super) async fn open(shared: &Shared, version_5: bool) -> Result<(Wire, Limits), Failure> {
    let socket = match timeout(REACH, reach(shared)).await {
        Ok(socket) => socket?,
        Err(_) => return Err(Failure::new("the broker cannot be reached in time")),
    };
    let mut wire = Wire::new(socket);
    let will = shared.will();
    let hello = Hello {
        client_id: &shared.client_id,
        keep_alive_s: KEEP_ALIVE_S,
        login: shared.url.login.as_ref(),
        will: will.as_ref(),
    };
    packet::connect(&mut wire.output, &hello, version_5).map_err(Failure::new)?;
    let perhaps_older = |text: String| Failure { text, try_older: true };
    match timeout(ANSWER, answer(&mut wire)).await {
        Err(_) => Err(perhaps_older("the broker does not answer CONNECT".to_owned())),
        Ok(Err(error)) => Err(match tls::explain(&error) {
            // Under TLS 1.3 the broker judges our certificate only now.
            Some(text) => Failure::new(text),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                perhaps_older("the broker closed the connection after CONNECT".to_owned())
            }
            None => perhaps_older(error.to_string()),
        }),
        Ok(Ok(Frame::TooLarge(_))) => Err(perhaps_older("the broker's first packet is too large".to_owned())),
        Ok(Ok(Frame::Whole(frame))) => match packet::welcome(frame, version_5).map_err(perhaps_older)? {
            Welcome::Accepted(limits) => Ok((wire, limits)),
            Welcome::Refused { text, try_older } => Err(Failure { text, try_older }),
        },
    }
}

async fn answer(wire: &mut Wire) -> io::Result<Frame> {
    loop {
        wire.turn().await?;
        match wire.next_frame() {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(text) => return Err(io::Error::new(io::ErrorKind::InvalidData, text)),
        }
    }
}

async fn reach(shared: &Shared) -> Result<Box<dyn Socket>, Failure> {
    let url = &shared.url;
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    let secure = if url.tls { Some(secure(shared, host).await?) } else { None };
    let tcp = TcpStream::connect((host, url.port)).await.map_err(|error| Failure::new(error.to_string()))?;
    tcp.set_nodelay(true).map_err(|error| Failure::new(error.to_string()))?;
    let Some((connector, name)) = secure else { return Ok(Box::new(tcp)) };
    let explain = |error: io::Error| {
        let broken = || format!("the TLS handshake broke off: {error}; does the broker speak TLS on this port?");
        Failure::new(tls::explain(&error).unwrap_or_else(broken))
    };
    Ok(Box::new(connector.connect(name, tcp).await.map_err(explain)?))
}

async fn secure(
    shared: &Shared,
    host: &str,
) -> Result<(tokio_rustls::TlsConnector, rustls::pki_types::ServerName<'static>), Failure> {
    let name = tls::server_name(host).map_err(Failure::new)?;
    let settings = shared.tls();
    if !settings.verify {
        tracing::warn!(
            broker = %shared.url,
            "TLS without verification: anybody may pretend to be this broker (mqtt.tls, verify = false)"
        );
    }
    let connector = tokio::task::spawn_blocking(move || tls::connector(&settings)).await;
    let connector = connector.map_err(|_| Failure::new("TLS cannot be prepared"))?.map_err(Failure::new)?;
    Ok((connector, name))
}
