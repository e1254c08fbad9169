//! `ladekern:http/client`: requests to the one origin that the user bound. Base URL and credentials never reach
//! the guest.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::runtime::Guest;
use crate::runtime::bindings::ladekern::http::client::{
    Error, Host, HostEndpoint, Method, Request as GuestRequest, Response as GuestResponse,
};
use crate::runtime::limits::bytes;
use crate::transport::{Endpoint, Http, HttpError, HttpMethod, HttpRequest};

/// An open HTTP slot of a guest.
pub struct HttpSlot {
    name: String,
    wire: Arc<dyn Http>,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Guest {
    fn http_error(&self, slot: &str, error: HttpError) -> Error {
        match error {
            HttpError::Denied(why) => Error::Denied(self.refused(slot, &why)),
            HttpError::Timeout => Error::Timeout,
            HttpError::Unreachable(why) => Error::Unreachable(why),
            HttpError::Tls(why) => Error::Tls(why),
            HttpError::Protocol(why) => Error::Protocol(why),
            HttpError::Limit(why) => Error::Limit(format!("{why} (limits.http_body)")),
        }
    }

    /// The sentence for a body above the limit.
    fn body_too_large(&self, what: &str, len: usize) -> Error {
        let max = bytes(self.context.limits.http_body);
        let why = format!("{what} has {}, {max} are allowed (limits.http_body)", bytes(len as u64));
        self.log.note(&why);
        Error::Limit(why)
    }
}

fn request(request: GuestRequest) -> HttpRequest {
    let method = match request.method {
        Method::Get => HttpMethod::Get,
        Method::Head => HttpMethod::Head,
        Method::Post => HttpMethod::Post,
        Method::Put => HttpMethod::Put,
        Method::Patch => HttpMethod::Patch,
        Method::Delete => HttpMethod::Delete,
    };
    HttpRequest { method, path: request.path, headers: request.headers, body: request.body }
}

impl Host for Guest {}

impl HostEndpoint for Guest {
    async fn open(&mut self, name: String) -> Answer<Resource<HttpSlot>> {
        self.host_call();
        let wire = match self.bound(&name) {
            Ok(Endpoint::Http(wire)) => wire.clone(),
            Ok(other) => return Ok(Err(Error::Denied(self.wrong_kind(&name, other, "http")))),
            Err(why) => return Ok(Err(Error::Denied(why))),
        };
        Ok(Ok(self.hand_out(HttpSlot { name, wire })?))
    }

    async fn send(&mut self, slot: Resource<HttpSlot>, what: GuestRequest) -> Answer<GuestResponse> {
        self.host_call();
        let slot = self.table.get(&slot)?;
        let max = self.context.limits.http_body;
        if what.body.len() as u64 > max {
            return Ok(Err(self.body_too_large("the body of the request", what.body.len())));
        }
        let answer = slot.wire.send(request(what), max).await;
        let answer = match answer {
            // The transport stops reading at the limit; this line holds whatever stands behind the endpoint.
            Ok(response) if response.body.len() as u64 > max => {
                Err(self.body_too_large("the body of the answer", response.body.len()))
            }
            Ok(response) => {
                Ok(GuestResponse { status: response.status, headers: response.headers, body: response.body })
            }
            Err(error) => Err(self.http_error(&slot.name, error)),
        };
        self.host_call();
        Ok(answer)
    }

    async fn drop(&mut self, slot: Resource<HttpSlot>) -> wasmtime::Result<()> {
        self.table.delete(slot)?;
        Ok(())
    }
}
