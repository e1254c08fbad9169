//! A Tasmota reader on the grid meter: publishes `tele/<topic>/SENSOR`, `STATE` and `LWT`, answers `/cm?cmnd=Status%208`.
//!
//! Two switches of its [`Control`]: paused it stays connected and publishes nothing (the optical head fell off),
//! offline it drops the connection without a word, and the broker publishes its last will.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rumqttc::{AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{self, Request, Response};
use crate::net::{Control, Server, Task};
use crate::physics::{House, Phases, Source};
use crate::world::World;

/// How the values are named and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Section `SML`: `power_curr`, `total_in`, `power_l1`, `voltage_l1`, `current_l1`, … as numbers.
    Sml,
    /// Section `MT681`: `Watt_summe`, `Total_in`, `Watt_L1`, … as strings, no voltages and currents.
    Mt681Strings,
    /// Section `ENERGY` of a plug with three channels: arrays, one common voltage.
    Energy,
}

/// How the reader is set up.
#[derive(Debug, Clone)]
pub struct TasmotaOptions {
    /// `mqtt://[user:password@]host:port`, or none for HTTP only.
    pub broker: Option<String>,
    /// Topic between `tele/` and `/SENSOR`.
    pub topic: String,
    /// Real time between two SENSOR messages.
    pub interval: Duration,
    /// How the values are written.
    pub style: Style,
    /// What it reads.
    pub source: Source,
    /// Where its web server listens, if it has one.
    pub http: Option<SocketAddr>,
}

impl Default for TasmotaOptions {
    fn default() -> Self {
        Self {
            broker: None,
            topic: "hichi".into(),
            interval: Duration::from_secs(1),
            style: Style::Sml,
            source: Source::Grid,
            http: Some(crate::home::loopback(0)),
        }
    }
}

/// A running reader.
pub struct Tasmota {
    control: Control,
    topic: String,
    connected: watch::Receiver<bool>,
    web: Option<Server>,
    task: Option<Task>,
}

impl Tasmota {
    /// Starts the reader; a broker that is not there yet is tried again every half second.
    ///
    /// # Errors
    /// The broker's URL is no `mqtt://host:port`, or the web server's address cannot be bound.
    pub async fn start(world: Arc<World>, options: TasmotaOptions) -> anyhow::Result<Self> {
        let control = Control::default();
        let (flag, connected) = watch::channel(false);
        let task = match &options.broker {
            Some(url) => {
                let mqtt = mqtt_options(url, &options.topic)?;
                let (world, options, control) = (world.clone(), options.clone(), control.clone());
                Some(Task::spawn(publish(world, options, mqtt, control, flag)))
            }
            None => None,
        };
        let topic = options.topic.clone();
        let web = match options.http {
            Some(address) => {
                let handler = move |request: &Request| answer(&world, &options, request);
                Some(http::serve(address, control.clone(), handler).await?)
            }
            None => None,
        };
        Ok(Self { control, topic, connected, web, task })
    }

    /// Prefix of its topics, `tele/<topic>`.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("tele/{}", self.topic)
    }

    /// `http://127.0.0.1:<port>` if it has a web server.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.web.as_ref().map(|web| format!("http://{}", web.address()))
    }

    /// Its switches; requests and connections count the broker's side and the web server's together.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Waits until the broker has accepted it.
    pub async fn connected(&self) {
        let mut connected = self.connected.clone();
        if connected.wait_for(|on| *on).await.is_err() {
            // Without a broker there is nothing to wait for, ever.
            std::future::pending::<()>().await;
        }
    }

    /// Ends without saying goodbye: the broker publishes its last will.
    pub async fn stop(self) {
        if let Some(task) = self.task {
            task.stop().await;
        }
        if let Some(web) = self.web {
            web.stop().await;
        }
    }
}

fn mqtt_options(url: &str, topic: &str) -> anyhow::Result<MqttOptions> {
    let mut mqtt = broker_options(url, &format!("DVES-{topic}"))?;
    mqtt.set_last_will(LastWill::new(format!("tele/{topic}/LWT"), "Offline", QoS::AtLeastOnce, true));
    Ok(mqtt)
}

/// A client of the broker at `mqtt://[user:password@]host:port`.
pub(crate) fn broker_options(url: &str, name: &str) -> anyhow::Result<MqttOptions> {
    let wrong = || format!("broker {url:?}: expected mqtt://[user:password@]host:port");
    let rest = url.strip_prefix("mqtt://").or_else(|| url.strip_prefix("tcp://")).with_context(wrong)?;
    let rest = rest.trim_end_matches('/');
    let (login, host) = rest.rsplit_once('@').map_or((None, rest), |(login, host)| (Some(login), host));
    let (host, port) = host.rsplit_once(':').map_or((host, "1883"), |(host, port)| (host, port));
    let port: u16 = port.parse().with_context(wrong)?;
    anyhow::ensure!(!host.is_empty(), wrong());
    // Two simulations may share a broker, so the process is part of the name.
    let id = format!("{name}-{}-{port}", std::process::id());
    let mut mqtt = MqttOptions::new(id, host, port);
    if let Some((user, password)) = login.and_then(|login| login.split_once(':')) {
        mqtt.set_credentials(user, password);
    }
    mqtt.set_keep_alive(Duration::from_secs(10));
    Ok(mqtt)
}

async fn publish(
    world: Arc<World>,
    options: TasmotaOptions,
    mqtt: MqttOptions,
    control: Control,
    flag: watch::Sender<bool>,
) {
    loop {
        let (client, wire) = AsyncClient::new(mqtt.clone(), 32);
        // Two loops side by side and never one inside the other: a poll of the wire must not be abandoned half way.
        tokio::select! {
            () = pump(wire, &client, &options, &control, &flag) => {}
            () = speak(&world, &options, &client, &control, flag.subscribe()) => {}
            () = control.wait_offline() => {}
        }
        // The wire is dropped without DISCONNECT: the broker sees a reader that has lost its network.
        flag.send_replace(false);
        if control.is_offline() {
            control.wait_online().await;
        } else {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Keeps one connection to the broker going until it breaks.
async fn pump(
    mut wire: EventLoop,
    client: &AsyncClient,
    options: &TasmotaOptions,
    control: &Control,
    flag: &watch::Sender<bool>,
) {
    let mut open = None;
    loop {
        match wire.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) if open.is_none() => {
                open = Some(control.count_connection());
                say(client, options, "LWT", "Online".into(), true);
                flag.send_replace(true);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "simulated reader has no broker");
                return;
            }
        }
    }
}

/// Publishes at every interval once connected, unless the reader is paused.
async fn speak(
    world: &World,
    options: &TasmotaOptions,
    client: &AsyncClient,
    control: &Control,
    mut connected: watch::Receiver<bool>,
) {
    if connected.wait_for(|on| *on).await.is_err() {
        return;
    }
    let mut tick = tokio::time::interval(options.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut messages = 0u64;
    loop {
        tick.tick().await;
        if !control.is_online() {
            continue;
        }
        if messages.is_multiple_of(10) {
            say(client, options, "STATE", state(world).to_string(), false);
        }
        messages += 1;
        let (sensor, amps) = world.with(|house| (sensor(house, options), house.amps(Source::Grid)));
        // Queued is as good as sent: the connection stands and nothing else is waiting.
        if say(client, options, "SENSOR", sensor.to_string(), false) {
            control.count_request();
            delivered(world, options, &amps);
        }
    }
}

fn say(client: &AsyncClient, options: &TasmotaOptions, leaf: &str, payload: String, retain: bool) -> bool {
    let qos = if retain { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    client.try_publish(format!("tele/{}/{leaf}", options.topic), qos, retain, payload).is_ok()
}

fn delivered(world: &World, options: &TasmotaOptions, amps: &Phases) {
    if options.source == Source::Grid {
        world.with(|house| house.delivered(amps));
    }
}

fn answer(world: &World, options: &TasmotaOptions, request: &Request) -> Response {
    if request.path != "/cm" {
        return Response::error(404);
    }
    match request.get("cmnd").map(str::to_ascii_lowercase).as_deref() {
        Some("status 8" | "status 10") => {
            let (sensor, amps) = world.with(|house| (sensor(house, options), house.amps(Source::Grid)));
            delivered(world, options, &amps);
            Response::json(&json!({ "StatusSNS": sensor }))
        }
        Some("power") => Response::json(&json!({ "POWER": "ON" })),
        _ => Response::json(&json!({ "Command": "Unknown" })),
    }
}

fn state(world: &World) -> Value {
    let s = world.with(|house| house.t());
    let uptime = format!("{}T{}", (s / 86400.0) as u64, time_of_day(s));
    json!({ "Time": date(s), "Uptime": uptime, "Heap": 25, "SleepMode": "Dynamic" })
}

/// Local time without a zone, counted from the start of the simulation.
fn date(s: f64) -> String {
    format!("2026-01-01T{}", time_of_day(s))
}

fn time_of_day(s: f64) -> String {
    let s = s as u64;
    format!("{:02}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60)
}

/// The object of a SENSOR message.
#[must_use]
pub fn sensor(house: &House, options: &TasmotaOptions) -> Value {
    let [u1, u2, u3] = house.volts().map(|u| round(u, 1));
    let amps = house.amps(options.source);
    let [p1, p2, p3] = std::array::from_fn(|n| {
        let (u, i) = (house.volts().get(n).copied().unwrap_or(0.0), amps.get(n).copied().unwrap_or(0.0));
        round(u * i, 1)
    });
    // Like most meters it tells magnitudes; the sign of a phase is the sign of its power.
    let [i1, i2, i3] = amps.map(|i| round(i.abs(), 3));
    let (import, export) = house.energy_wh(options.source);
    let (total_in, total_out) = (round(import / 1000.0, 4), round(export / 1000.0, 4));
    let time = date(house.t());
    let total = round(p1 + p2 + p3, 1);
    match options.style {
        Style::Sml => json!({ "Time": time, "SML": {
            "total_in": total_in, "total_out": total_out, "power_curr": total,
            "power_l1": p1, "power_l2": p2, "power_l3": p3,
            "voltage_l1": u1, "voltage_l2": u2, "voltage_l3": u3,
            "current_l1": i1, "current_l2": i2, "current_l3": i3,
            "meter_id": "0a014954520003ab1234",
        }}),
        Style::Mt681Strings => json!({ "Time": time, "MT681": {
            "Total_in": format!("{total_in:.4}"), "Total_out": format!("{total_out:.4}"),
            "Watt_summe": format!("{total:.0}"),
            "Watt_L1": format!("{p1:.0}"), "Watt_L2": format!("{p2:.0}"), "Watt_L3": format!("{p3:.0}"),
            "Meter_id": "0a014954520003ab1234",
        }}),
        Style::Energy => json!({ "Time": time, "ENERGY": {
            "TotalStartTime": "2026-01-01T00:00:00", "Total": [total_in, 0.0, 0.0],
            "Power": [p1.round(), p2.round(), p3.round()], "Voltage": u1.round(), "Current": [i1, i2, i3],
            "Frequency": round(house.hertz(), 0),
        }, "TempUnit": "C" }),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
