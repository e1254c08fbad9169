//! The site of `examples/home`: grid meter M1 (Tasmota over MQTT), PV meter M2 (SDM630, RTU over TCP), wallbox E1
//! (Power Brain, three-phase car), wallbox E2 (go-e, one-phase car), 35 A main fuse. With a script, switches, a live
//! picture and a summary with the verdict of the breaker. It never talks to the manager except through the devices.

mod report;
mod script;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

pub use report::{Site, SiteBox, Summary};
pub use script::demo_script;

use crate::goe::{self, GoE, GoEOptions};
use crate::net::{Control, Task};
use crate::physics::{Action, Car, CarOptions, Event, Evse, House, HouseOptions, Phases, Script, Trace, unit};
use crate::power_brain::{self, PowerBrain, PowerBrainOptions};
use crate::sdm::{Sdm, SdmOptions};
use crate::tasmota::{Tasmota, TasmotaOptions};
use crate::world::World;

/// `127.0.0.1:<port>`
#[must_use]
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Where the devices listen; 0 takes a free port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// E1, Modbus TCP.
    pub power_brain: u16,
    /// E2, HTTP.
    pub goe: u16,
    /// M2, RTU over TCP.
    pub sdm: u16,
    /// Web server of M1's reader.
    pub tasmota: u16,
}

impl Ports {
    /// The ports that `examples/home/ladekern.toml` names: 4701 (the vendor's own), 47080, 47502, 47081.
    pub const EXAMPLE: Self = Self { power_brain: 4701, goe: 47080, sdm: 47502, tasmota: 47081 };
    /// Any free ports.
    pub const FREE: Self = Self { power_brain: 0, goe: 0, sdm: 0, tasmota: 0 };
}

/// What the site is started with.
#[derive(Debug, Clone)]
pub struct HomeOptions {
    /// Broker that M1 publishes to, `mqtt://host:port`; none: M1 only answers over HTTP.
    pub broker: Option<String>,
    /// M1 publishes to `tele/<topic>/SENSOR`.
    pub topic: String,
    /// Real time between two values of M1.
    pub meter_interval: Duration,
    /// Where the devices listen.
    pub ports: Ports,
    /// Take a free port where the wanted one is in use, instead of failing.
    pub avoid_busy: bool,
    /// Same seed, same house and cars.
    pub seed: u64,
    /// Simulated seconds per real second.
    pub speed: f64,
    /// Main fuse, A.
    pub fuse_a: f64,
    /// Reports up to this much above the fuse are measuring noise and start no reaction time, A.
    pub tolerance_a: f64,
    /// What happens.
    pub script: Script,
    /// The three-phase car at E1, plugged in from the start; none: one that reacts in 0.3 to 2 s, by the seed.
    pub car1: Option<CarOptions>,
    /// The one-phase car for E2, which plugs in by the script; none: as above.
    pub car2: Option<CarOptions>,
}

impl Default for HomeOptions {
    fn default() -> Self {
        Self {
            broker: None,
            topic: "hichi".into(),
            meter_interval: Duration::from_secs(1),
            ports: Ports::FREE,
            avoid_busy: false,
            seed: 1,
            speed: 1.0,
            fuse_a: 35.0,
            tolerance_a: 0.1,
            script: Script::new(),
            car1: None,
            car2: None,
        }
    }
}

/// The running site; dropping it closes everything.
pub struct Home {
    world: Arc<World>,
    e1: PowerBrain,
    e2: GoE,
    m1: Tasmota,
    m2: Sdm,
    site: watch::Receiver<Site>,
    tasks: Vec<Task>,
}

/// The switches of the site.
#[derive(Clone)]
pub struct HomeControl {
    world: Arc<World>,
    devices: [(&'static str, Control); 4],
}

impl HomeControl {
    /// The switches of a device: `E1`, `E2`, `M1`, `M2`.
    #[must_use]
    pub fn device(&self, id: &str) -> Option<&Control> {
        self.devices.iter().find(|(name, _)| *name == id).map(|(_, control)| control)
    }

    /// Lets something happen now, as if it stood in the script.
    pub fn happen(&self, action: Action, text: impl Into<String>) {
        self.world.with(|house| house.happen(action, text));
    }

    /// A car is plugged in at `E1` or `E2`.
    pub fn plug_in(&self, id: &str) {
        self.happen(Action::PlugIn(id.into()), format!("a car plugs in at {id}"));
    }

    /// The car at `E1` or `E2` leaves.
    pub fn unplug(&self, id: &str) {
        self.happen(Action::Unplug(id.into()), format!("the car at {id} leaves"));
    }

    /// The house draws more for some simulated seconds.
    pub fn load(&self, amps: Phases, for_s: f64) {
        self.happen(Action::Load { amps, for_s }, format!("the house draws {amps:?} A more for {for_s} s"));
    }
}

impl Home {
    /// Starts the site.
    ///
    /// # Errors
    /// A port is in use (the message names device and port) or the broker's URL is wrong.
    pub async fn start(options: HomeOptions) -> anyhow::Result<Self> {
        let world = World::new(house(&options));
        let at = |id, port| place(id, port, options.avoid_busy);
        let e1 = PowerBrainOptions { address: at("E1", options.ports.power_brain).await?, ..Default::default() };
        let e1 = PowerBrain::start(world.clone(), 0, e1).await?;
        let e2 = GoEOptions { address: at("E2", options.ports.goe).await?, ..Default::default() };
        let e2 = GoE::start(world.clone(), 1, e2).await?;
        let m2 = SdmOptions { address: at("M2", options.ports.sdm).await?, ..Default::default() };
        let m2 = Sdm::start(world.clone(), m2).await?;
        let m1 = TasmotaOptions {
            broker: options.broker.clone(),
            topic: options.topic.clone(),
            interval: options.meter_interval,
            http: Some(at("M1", options.ports.tasmota).await?),
            ..Default::default()
        };
        let m1 = Tasmota::start(world.clone(), m1).await?;
        let devices = devices(&e1, &e2, &m1, &m2);
        let (picture, site) = watch::channel(world.with(|house| Site::of(house, true)));
        let tasks = vec![
            Task::spawn(direct(world.clone(), devices.clone())),
            Task::spawn(paint(world.clone(), picture, devices)),
            Task::spawn(world.clone().run()),
        ];
        Ok(Self { world, e1, e2, m1, m2, site, tasks })
    }

    /// Device ids and the URLs to reach them: `tcp://`, `http://`, `rtutcp://`, and for M1 its web server.
    #[must_use]
    pub fn addresses(&self) -> Vec<(&'static str, String)> {
        let m1 = self.m1.url().unwrap_or_default();
        vec![("M1", m1), ("M2", self.m2.url()), ("E1", self.e1.url()), ("E2", self.e2.url())]
    }

    /// The URL of one device.
    #[must_use]
    pub fn address(&self, id: &str) -> Option<String> {
        self.addresses().into_iter().find(|(name, _)| *name == id).map(|(_, url)| url)
    }

    /// Topic prefix of M1, `tele/<topic>`.
    #[must_use]
    pub fn meter_prefix(&self) -> String {
        self.m1.prefix()
    }

    /// Waits until the broker has accepted M1.
    pub async fn meter_connected(&self) {
        self.m1.connected().await;
    }

    /// The switches.
    #[must_use]
    pub fn control(&self) -> HomeControl {
        HomeControl { world: self.world.clone(), devices: devices(&self.e1, &self.e2, &self.m1, &self.m2) }
    }

    /// The house itself.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The Power Brain.
    #[must_use]
    pub fn e1(&self) -> &PowerBrain {
        &self.e1
    }

    /// The go-e.
    #[must_use]
    pub fn e2(&self) -> &GoE {
        &self.e2
    }

    /// What happens, as it happens.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.world.events()
    }

    /// A picture of the site, renewed every 200 ms.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Site> {
        self.site.clone()
    }

    /// The result so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.world.with(|house| Summary::of(house))
    }

    /// Ends the site, frees its ports and gives the result.
    pub async fn stop(self) -> Summary {
        let summary = self.summary();
        for task in self.tasks {
            task.stop().await;
        }
        self.m1.stop().await;
        self.m2.stop().await;
        self.e1.stop().await;
        self.e2.stop().await;
        summary
    }
}

fn devices(e1: &PowerBrain, e2: &GoE, m1: &Tasmota, m2: &Sdm) -> [(&'static str, Control); 4] {
    [
        ("E1", e1.control().clone()),
        ("E2", e2.control().clone()),
        ("M1", m1.control().clone()),
        ("M2", m2.control().clone()),
    ]
}

/// The address for a device: the wanted port, or any free one where it is in use and that is allowed.
async fn place(id: &str, port: u16, avoid_busy: bool) -> anyhow::Result<SocketAddr> {
    match tokio::net::TcpListener::bind(loopback(port)).await {
        Ok(_) => Ok(loopback(port)),
        Err(_) if avoid_busy => Ok(loopback(0)),
        Err(error) => Err(error).with_context(|| format!("device {id} cannot listen on port {port} of 127.0.0.1")),
    }
}

/// The site without its sockets, for tests that step it by hand. Wallbox 0 is E1, 1 is E2.
#[must_use]
pub fn house(options: &HomeOptions) -> House {
    let reaction = |lane| 0.3 + 1.7 * unit(options.seed, lane, 0);
    let car1 = CarOptions { phases: 3, reaction_s: reaction(1), over_a: 0.2, ..Default::default() };
    let car2 = CarOptions { phases: 1, reaction_s: reaction(2), over_a: 0.2, ..Default::default() };
    let car1 = Car::new(options.car1.clone().unwrap_or(car1));
    let car2 = Car::new(options.car2.clone().unwrap_or(car2));
    let evses = vec![
        Evse::new(power_brain::evse_options("E1", &[0, 1, 2]), car1, true),
        Evse::new(goe::evse_options("E2", &[0, 1, 2]), car2, false),
    ];
    let pv = Trace { points: vec![(0.0, 3.0), (60.0, 4.0), (120.0, 3.0)], repeat_s: Some(120.0), noise: 0.3 };
    let properties = HouseOptions {
        seed: options.seed,
        fuse_a: options.fuse_a,
        tolerance_a: options.tolerance_a,
        base: [Trace::constant(8.0, 0.5), Trace::constant(5.0, 0.4), Trace::constant(4.0, 0.4)],
        pv: [pv.clone(), pv.clone(), pv],
        speed: options.speed,
        ..Default::default()
    };
    House::new(properties, evses, options.script.clone())
}

/// Does what the script orders the devices themselves to do.
async fn direct(world: Arc<World>, devices: [(&'static str, Control); 4]) {
    let mut events = world.events();
    let mut endings = JoinSet::new();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => {
                    let (id, for_s, closed) = match &event.action {
                        Action::Silence { id, for_s } => (id, *for_s, false),
                        Action::Offline { id, for_s } => (id, *for_s, true),
                        _ => continue,
                    };
                    let Some((_, control)) = devices.iter().find(|(name, _)| name == id) else { continue };
                    if closed { control.offline() } else { control.pause() }
                    let control = control.clone();
                    let back = Duration::from_secs_f64((for_s / world.speed()).clamp(0.0, 1e9));
                    endings.spawn(async move {
                        tokio::time::sleep(back).await;
                        control.resume();
                    });
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            Some(_) = endings.join_next() => {}
        }
    }
}

async fn paint(world: Arc<World>, picture: watch::Sender<Site>, devices: [(&'static str, Control); 4]) {
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        tick.tick().await;
        let meter = devices.iter().any(|(id, control)| *id == "M1" && control.is_online());
        picture.send_replace(world.with(|house| Site::of(house, meter)));
    }
}
