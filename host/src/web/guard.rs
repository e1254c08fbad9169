//! The bytes of one connection on their way between the socket and hyper. Tells the connection's [`Pulse`] what goes
//! by, and gives the bare answers that hyper writes itself (to what is no HTTP) the JSON body that every error has.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pulse::Pulse;

/// hyper's own answers are shorter.
const BARE: usize = 256;

/// A socket that is watched.
pub(super) struct Guard<S> {
    inner: S,
    pulse: Arc<Pulse>,
    /// Our words in the place of hyper's, and how many of them are written.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Guard<S> {
    pub fn new(inner: S, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, instead: None }
    }

    /// The socket, and whether hyper has refused what came.
    pub fn into_inner(self) -> (S, bool) {
        (self.inner, self.instead.is_some())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            self.pulse.read(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = match bare_answer(buf) {
            // What is written before it goes out as it is.
            Some((start, _)) if start > 0 => {
                Pin::new(&mut this.inner).poll_write(cx, buf.get(..start).unwrap_or_default())
            }
            Some((_, status)) => {
                let pulse = &this.pulse;
                let (words, done) = this.instead.get_or_insert_with(|| (refusal(status, pulse.has_line()), 0));
                loop {
                    let rest = words.get(*done..).unwrap_or_default();
                    if rest.is_empty() {
                        break Poll::Ready(Ok(buf.len()));
                    }
                    match Pin::new(&mut this.inner).poll_write(cx, rest) {
                        Poll::Ready(Ok(0)) => break Poll::Ready(Ok(0)),
                        Poll::Ready(Ok(written)) => *done += written,
                        other => break other,
                    }
                }
            }
            None => Pin::new(&mut this.inner).poll_write(cx, buf),
        };
        this.pulse.wrote(written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.pulse.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Where hyper's own answer to a head that cannot be read begins, and its status. It is the last thing on a
/// connection, has no body and, unlike every answer of ours, no content type.
fn bare_answer(buf: &[u8]) -> Option<(usize, u16)> {
    if !buf.ends_with(b"\r\n\r\n") {
        return None;
    }
    let tail = buf.len().saturating_sub(BARE);
    let text = buf.get(tail..)?;
    let at = text.windows(9).rposition(|window| window.starts_with(b"HTTP/1.") && window.ends_with(b" "))?;
    let head = std::str::from_utf8(text.get(at..)?).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let bare = [400, 414, 431].contains(&status)
        && head.contains("content-length: 0\r\n")
        && !head.contains("content-type")
        && head.matches("\r\n\r\n").count() == 1;
    bare.then_some((tail + at, status))
}

/// Our answer for it. A request line that never ended is a URI that is too long, whatever hyper calls it.
fn refusal(status: u16, has_line: bool) -> Vec<u8> {
    match status {
        431 if has_line => plain(431, "Request Header Fields Too Large", "the headers of the request are too large"),
        414 | 431 => plain(414, "URI Too Long", "the address of the request is too long"),
        _ => plain(400, "Bad Request", "this is no HTTP/1.1 request"),
    }
}

/// A whole answer, after which the connection ends.
pub(super) fn plain(status: u16, reason: &str, message: &str) -> Vec<u8> {
    let body = serde_json::json!({ "error": message }).to_string();
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nx-content-type-options: nosniff\r\n\
         cache-control: no-store\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_refusals_at_the_end_are_replaced() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 18:41:10 GMT\r\n\r\n";
        assert_eq!(bare_answer(bare.as_bytes()), Some((0, 431)));
        let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(bare_answer(format!("{ok}{bare}").as_bytes()), Some((ok.len(), 431)));
        for other in [
            ok,
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n",
            "\r\n\r\n",
            "",
        ] {
            assert_eq!(bare_answer(other.as_bytes()), None, "{other}");
        }
    }
}
