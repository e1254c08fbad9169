//! A go-e Charger on HTTP: API v2 (`/api/status`, `/api/set`) and the old v1 (`/status`, `/mqtt`).
//!
//! Its logic runs once a second, so a change shows up to a second late. Never decides anything: settings go to the
//! house's wallbox.

mod v1;
mod v2;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::http::{self, Request, Response};
use crate::net::{Control, Server};
use crate::physics::{EvseOptions, Failsafe, Settings, State};
use crate::world::World;

/// How the charger is built.
#[derive(Debug, Clone)]
pub struct GoEOptions {
    /// Where to listen; port 0 takes a free one, a real charger uses 80.
    pub address: SocketAddr,
    /// API v2 is switched on.
    pub v2: bool,
    /// API v1 is switched on.
    pub v1: bool,
    /// Serial number, six digits.
    pub serial: String,
}

impl Default for GoEOptions {
    fn default() -> Self {
        Self { address: crate::home::loopback(0), v2: true, v1: true, serial: "123456".into() }
    }
}

/// The electrical side of an 11 kW charger: 16 A, neutral (it may charge), logic once a second, no fail-safe.
#[must_use]
pub fn evse_options(id: &str, wiring: &[usize]) -> EvseOptions {
    EvseOptions {
        id: id.into(),
        wiring: wiring.to_vec(),
        max_a: 16.0,
        initial: Settings { limit_a: 6.0, enabled: true, one_phase: false },
        logic_period_s: 1.0,
        failsafe: Failsafe { after_s: 0.0, limit_a: 0.0 },
    }
}

/// Settings of the charger that are not the wallbox's own.
#[derive(Debug, Clone)]
struct Store {
    /// 0 neutral, 1 off, 2 on.
    frc: i64,
    /// 0 automatic, 1 one phase, 2 three phases.
    psm: i64,
    /// 0 open, 1 waits for authorisation.
    acs: i64,
    /// Transaction: none, 0 without card, n card n-1.
    trx: Option<i64>,
    lmo: i64,
    dwo: Option<f64>,
    sua: bool,
    /// v1: charging allowed by its own switch.
    alw: bool,
    /// Writes of the v1 key `amp`, which wear the flash out.
    flash_writes: u64,
    sets: Vec<(String, String)>,
}

impl Store {
    fn enabled(&self) -> bool {
        self.frc != 1 && self.alw && (self.acs == 0 || self.trx.is_some() || self.frc == 2)
    }
}

struct Charger {
    world: Arc<World>,
    evse: usize,
    options: GoEOptions,
    store: Mutex<Store>,
}

impl Charger {
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what has been set to the wallbox; `amp` replaces the current limit.
    fn command(&self, store: &Store, amp: Option<f64>) {
        self.world.with(|house| {
            let Some(evse) = house.evses().get(self.evse) else { return };
            let limit_a = amp.unwrap_or(evse.wanted().limit_a);
            let settings = Settings { limit_a, enabled: store.enabled(), one_phase: store.psm == 1 };
            house.command(self.evse, settings);
        });
    }

    fn handle(&self, request: &Request) -> Response {
        self.world.with(|house| {
            if let Some(evse) = house.evse_mut(self.evse) {
                evse.touch();
            }
        });
        match request.path.as_str() {
            "/api/status" if self.options.v2 => v2::status(self, request),
            "/api/set" if self.options.v2 => v2::set(self, request),
            "/status" if self.options.v1 => v1::status(self),
            "/mqtt" if self.options.v1 => v1::set(self, request),
            _ => Response::error(404),
        }
    }
}

/// `car`: 1 no vehicle, 2 charging, 3 waiting for the car, 4 complete, 5 error.
fn car_code(state: State, full: bool, session_wh: f64) -> i64 {
    match state {
        State::A => 1,
        State::C => 2,
        State::F => 5,
        State::B if full || session_wh > 0.0 => 4,
        State::B => 3,
    }
}

/// A running charger.
pub struct GoE {
    server: Server,
    charger: Arc<Charger>,
}

impl GoE {
    /// Starts the charger for wallbox `evse` of the world's house.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(world: Arc<World>, evse: usize, options: GoEOptions) -> anyhow::Result<Self> {
        let address = options.address;
        let store = Store {
            frc: 0,
            psm: 0,
            acs: 0,
            trx: None,
            lmo: 3,
            dwo: None,
            sua: false,
            alw: true,
            flash_writes: 0,
            sets: Vec::new(),
        };
        let charger = Arc::new(Charger { world, evse, options, store: Mutex::new(store) });
        let handler = charger.clone();
        let server = http::serve(address, Control::default(), move |request| handler.handle(request)).await?;
        Ok(Self { server, charger })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its switches and counters.
    #[must_use]
    pub fn control(&self) -> &Control {
        self.server.control()
    }

    /// Writes that went to flash (v1 `amp`).
    #[must_use]
    pub fn flash_writes(&self) -> u64 {
        self.charger.store().flash_writes
    }

    /// Every accepted setting in order: key and JSON value.
    #[must_use]
    pub fn sets(&self) -> Vec<(String, String)> {
        self.charger.store().sets.clone()
    }

    /// From now on a car needs an authorisation (`acs` 1), and has none.
    pub fn require_authorisation(&self) {
        let mut store = self.charger.store();
        (store.acs, store.trx) = (1, None);
        self.charger.command(&store, None);
    }

    /// Closes the port.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}
