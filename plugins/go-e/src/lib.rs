//! The go-e Charger over its local HTTP API, version 2 or 1: reads, current, pause and phases. What an answer means stands in
//! [`decode`]; here is the order of requests. It never leaves the charger forced on when the manager stops.

mod decode;

use decode::{Api, RELEASE, Wish};
use ladekern_plugin_sdk::{ChargeControl, Device, Error, Handover, HttpPort, Info, Json, Outcome, PhaseControl, http};

/// One box behind its endpoint.
struct GoE<P> {
    port: P,
    api: Api,
    /// This driver has forced the box on, and the box would stay on when nobody manages it any more.
    forced_on: bool,
    release_on_close: bool,
}

impl<P: HttpPort> GoE<P> {
    fn start(port: P, config: &Json<'_>) -> Result<(Self, Info), Error> {
        let (first, second) = match config.get("api").and_then(Json::text) {
            Some("v1") => (Api::V1, None),
            Some("v2") => (Api::V2, None),
            _ => (Api::V2, Some(Api::V1)),
        };
        let release_on_close = config.get("release_on_close").and_then(Json::flag).unwrap_or(true);
        let mut driver = Self { port, api: first, forced_on: false, release_on_close };
        let info = match (driver.identify(), second) {
            // A box that does not know this API says so; one that says nothing will not answer the other question either.
            (Err(Error::Protocol(_)), Some(second)) => {
                driver.api = second;
                driver.identify().map_err(|error| match error {
                    Error::Protocol(text) => Error::protocol(format!(
                        "neither API v2 nor v1 answers ({text}): switch on \"Local HTTP API\" in the app"
                    )),
                    other => other,
                })
            }
            (result, _) => result,
        }?;
        Ok((driver, info))
    }

    fn identify(&self) -> Result<Info, Error> {
        let body = self.fetch(self.api.status_path())?;
        Ok(self.api.info(&self.api.read(&body)?))
    }

    fn fetch(&self, path: &str) -> Result<String, Error> {
        let answer = self.port.send(&http::Request::get(path))?;
        let route = path.split('?').next().unwrap_or(path);
        match answer.status {
            200..=299 => {
                String::from_utf8(answer.body).map_err(|_| Error::protocol(format!("{route}: the answer is no text")))
            }
            401 | 403 => Err(Error::config(format!("{route}: the charger refuses access (status {})", answer.status))),
            status => Err(Error::protocol(format!("{route}: status {status}"))),
        }
    }

    fn read_all(&self) -> Result<Outcome, Error> {
        let body = self.fetch(self.api.status_path())?;
        Ok(self.api.outcome(&self.api.read(&body)?))
    }

    fn send(&self, wish: Wish) -> Result<(), Error> {
        self.api.accepted(wish, &self.fetch(&self.api.path(wish))?)
    }

    fn enable(&mut self, enabled: bool) -> Result<(), Error> {
        // On also when the answer gets lost: the box may have heard it. Off only when it has surely heard it.
        self.forced_on |= enabled && self.api == Api::V2;
        self.send(self.api.enabled(enabled))?;
        self.forced_on &= enabled;
        Ok(())
    }

    /// A box that was forced off stays off: whoever paused it, because there was no current left for it, is gone, and
    /// nobody would see what it draws.
    fn release(&mut self) -> Result<(), Error> {
        if !(self.forced_on && self.release_on_close) {
            return Ok(());
        }
        self.send(RELEASE)?;
        self.forced_on = false;
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        format!("{{\"forced_on\":{}}}", self.forced_on).into_bytes()
    }

    fn take_over(&mut self, snapshot: &[u8]) -> bool {
        let text = core::str::from_utf8(snapshot).unwrap_or_default();
        let forced = Json::parse(text).ok().and_then(|json| json.get("forced_on")?.flag());
        self.forced_on |= forced == Some(true);
        forced.is_some()
    }
}

// === What the component exports ===

type Driver = GoE<http::Endpoint>;

impl Device for Driver {
    fn open(config: &Json<'_>) -> Result<(Self, Info), Error> {
        Self::start(http::Endpoint::open("main")?, config)
    }

    fn poll(&mut self) -> Result<Outcome, Error> {
        self.read_all()
    }

    fn close(&mut self) {
        if let Err(error) = self.release() {
            ladekern_plugin_sdk::log::warn(&format!("the charger was not given its own decision back: {error:?}"));
        }
    }
}

impl ChargeControl for Driver {
    fn set_enabled(&mut self, enabled: bool) -> Result<(), Error> {
        self.enable(enabled)
    }

    fn set_current_limit(&mut self, milliamps: u32) -> Result<(), Error> {
        self.send(self.api.current(milliamps)?)
    }
    // It has no command that wakes a vehicle up.
}

impl PhaseControl for Driver {
    fn set_phases(&mut self, phases: u8) -> Result<(), Error> {
        self.send(self.api.phases(phases)?)
    }
}

impl Handover for Driver {
    fn save(&mut self) -> Vec<u8> {
        self.snapshot()
    }

    fn restore(&mut self, _version: &str, snapshot: &[u8]) -> bool {
        self.take_over(snapshot)
    }
}

ladekern_plugin_sdk::export!(Driver: Device, ChargeControl, PhaseControl, Handover);

#[cfg(test)]
mod tests;
