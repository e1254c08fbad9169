//! Request bodies: how large, how fast, and how many large ones at a time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use hyper::body::Body as _;
use tokio::sync::Semaphore;

use super::error;

/// Largest body that is read.
pub(super) const MAX_BODY: usize = 1 << 20;
/// A client that sends slower than this is not waited for.
pub(super) const BODY_TIME: Duration = Duration::from_secs(10);
/// A body that is larger counts as a large one.
const LARGE: usize = 64 << 10;
/// Large bodies that are held in memory at the same time.
const LARGE_BODIES: usize = 32;

/// Reads bodies.
pub(super) struct Bodies {
    large: Semaphore,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { large: Semaphore::new(LARGE_BODIES) }
    }
}

impl Bodies {
    /// The whole body, or the answer why not. What is said to be too large is not even begun.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Response> {
        let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if told.is_some_and(|length| length > MAX_BODY as u64) {
            return Err(too_large());
        }
        match tokio::time::timeout(BODY_TIME, self.collect(body)).await {
            Ok(read) => read,
            Err(_) => {
                let message = format!("the body did not come within {} s", BODY_TIME.as_secs());
                Err(error(StatusCode::REQUEST_TIMEOUT, &message))
            }
        }
    }

    async fn collect(&self, mut body: Body) -> Result<Bytes, Response> {
        let mut bytes = BytesMut::new();
        let mut large = None;
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame =
                frame.map_err(|_| error(StatusCode::BAD_REQUEST, "the body breaks off or is framed wrongly"))?;
            // Trailers say nothing here.
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > MAX_BODY {
                return Err(too_large());
            }
            if large.is_none() && bytes.len() + data.len() > LARGE {
                large = self.large.acquire().await.ok();
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes.freeze())
    }
}

fn too_large() -> Response {
    error(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is larger than {MAX_BODY} bytes"))
}
