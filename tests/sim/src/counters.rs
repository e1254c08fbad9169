//! Three counters that no driver knows, for user-defined counters (`examples/custom-counters`): a meter on Modbus TCP,
//! an inverter that answers JSON over HTTP, a battery that publishes over MQTT. What they say is a function of time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{AsyncClient, QoS};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::http::{self, Request, Response};
use crate::modbus::{self, Answer, Bus, Framing, Table, Unit, exception};
use crate::net::{Control, Server, Task};

/// Topic of the battery's JSON; below it lies `temperature`, a bare number.
pub const BATTERY_TOPIC: &str = "counters/battery";

/// Where they are.
#[derive(Debug, Clone)]
pub struct CountersOptions {
    /// The meter, unit 1.
    pub modbus: SocketAddr,
    /// The inverter.
    pub http: SocketAddr,
    /// `mqtt://[user:password@]host:port` for the battery; none leaves it out.
    pub broker: Option<String>,
    /// Time between two messages of the battery.
    pub interval: Duration,
}

/// The running counters.
pub struct Counters {
    meter: Server,
    inverter: Server,
    battery: Option<Task>,
}

impl Counters {
    /// Starts them. A broker that is not there yet is tried again every half second.
    ///
    /// # Errors
    /// An address cannot be bound, or the broker's URL is none.
    pub async fn start(options: CountersOptions) -> anyhow::Result<Self> {
        let start = Instant::now();
        let now = move || Moment(start.elapsed().as_secs_f64());
        let unit = Meter { now: Box::new(now) };
        let bus = Bus::new().with(1, Arc::new(unit));
        let meter = modbus::serve(options.modbus, Framing::Tcp, bus, Control::default()).await?;
        let handler = move |request: &Request| match request.path.as_str() {
            "/status" => Response::json(&now().inverter()),
            _ => Response::error(404),
        };
        let inverter = http::serve(options.http, Control::default(), handler).await?;
        let battery = match &options.broker {
            Some(url) => {
                let mqtt = crate::tasmota::broker_options(url, "counters")?;
                Some(Task::spawn(publish(mqtt, options.interval, now)))
            }
            None => None,
        };
        Ok(Self { meter, inverter, battery })
    }

    /// `tcp://127.0.0.1:<port>`
    #[must_use]
    pub fn modbus_url(&self) -> String {
        format!("tcp://{}", self.meter.address())
    }

    /// `http://127.0.0.1:<port>`
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.inverter.address())
    }

    /// Ends all three.
    pub async fn stop(self) {
        if let Some(battery) = self.battery {
            battery.stop().await;
        }
        self.inverter.stop().await;
        self.meter.stop().await;
    }
}

/// Seconds since the start.
#[derive(Debug, Clone, Copy)]
pub struct Moment(pub f64);

impl Moment {
    /// Swings around `middle` by `by`, once in `seconds`.
    fn swing(self, middle: f64, by: f64, seconds: f64) -> f64 {
        middle + by * (self.0 / seconds * std::f64::consts::TAU).sin()
    }

    fn volts(self) -> [f64; 3] {
        [37.0, 41.0, 43.0].map(|seconds| self.swing(230.5, 1.5, seconds))
    }

    /// What the meter counts: W of one phase, and Wh with what it had at the start.
    fn meter(self) -> (f64, f64) {
        let energy = 1_234_560.0 + self.0 * 700.0 * 3.0 / 3600.0;
        (self.swing(700.0, 300.0, 60.0), energy)
    }

    /// The meter's registers from 0 (function 3): voltages, currents in A and powers of three phases and the power of all
    /// as floats at 0 to 19, the counter in units of 10 Wh as an uint32 with the low word first at 30. From 100: its
    /// type, 8 registers of text; its serial number, an uint32; its version, 2.7.
    #[must_use]
    pub fn register(self, address: u16) -> Option<u16> {
        let (power, energy) = self.meter();
        let volts = self.volts();
        let pair = |bits: u32| [(bits >> 16) as u16, bits as u16];
        let float = |value: f64| pair((value as f32).to_bits());
        let mut floats: Vec<f64> = volts.to_vec();
        floats.extend(volts.map(|volts| power / volts));
        floats.extend([power, power, power, power * 3.0]);
        let values: Vec<u16> = floats.into_iter().flat_map(float).collect();
        let [high, low] = pair((energy / 10.0) as u32);
        let mut text: Vec<u16> = b"HP-METER 3000\0\0\0"
            .chunks(2)
            .map(|two| two.iter().fold(0, |word, byte| word << 8 | u16::from(*byte)))
            .collect();
        text.extend(pair(20_260_117));
        text.push(0x0207);
        match address {
            30 => Some(low),
            31 => Some(high),
            0..=29 => values.get(usize::from(address)).copied(),
            address => text.get(usize::from(address.checked_sub(100)?)).copied(),
        }
    }

    /// `GET /status` of the inverter; generation is negative.
    #[must_use]
    pub fn inverter(self) -> Value {
        let roof = self.swing(1800.0, 500.0, 90.0).round();
        let garage = self.swing(900.0, 300.0, 70.0).round();
        json!({
            "device": { "model": "SUN-3K", "serial": "S3K-0042" },
            "ac": { "power": -(roof + garage), "voltage": self.volts().map(|volts| (volts * 10.0).round() / 10.0) },
            "strings": [{ "id": "roof", "w": roof }, { "id": "garage", "w": garage }],
            "energy": { "total_kwh": ((8_765.4 + self.0 * 2.7 / 3600.0) * 1000.0).round() / 1000.0 },
        })
    }

    /// The battery's message; charging is positive.
    #[must_use]
    pub fn battery(self) -> Value {
        json!({ "p": self.swing(0.0, 1500.0, 120.0).round(), "soc": self.swing(60.0, 20.0, 480.0).round() })
    }

    fn temperature(self) -> String {
        format!("{:.1}", self.swing(24.0, 2.0, 300.0))
    }
}

struct Meter {
    now: Box<dyn Fn() -> Moment + Send + Sync>,
}

impl Unit for Meter {
    fn read_words(&self, table: Table, address: u16, count: u16) -> Answer<Vec<u16>> {
        if table != Table::Holding {
            return Err(exception::FUNCTION);
        }
        let now = (self.now)();
        let last = address.checked_add(count - 1).ok_or(exception::ADDRESS)?;
        (address..=last).map(|address| now.register(address).ok_or(exception::ADDRESS)).collect()
    }
}

async fn publish(mqtt: rumqttc::MqttOptions, interval: Duration, now: impl Fn() -> Moment) {
    loop {
        let (client, mut wire) = AsyncClient::new(mqtt.clone(), 32);
        let speak = async {
            let mut tick = tokio::time::interval(interval);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let now = now();
                // Full: there is no broker, and the next message says more.
                let _ = client.try_publish(BATTERY_TOPIC, QoS::AtMostOnce, false, now.battery().to_string());
                let topic = format!("{BATTERY_TOPIC}/temperature");
                let _ = client.try_publish(topic, QoS::AtMostOnce, false, now.temperature());
            }
        };
        let pump = async { while wire.poll().await.is_ok() {} };
        // Side by side: a poll of the wire must not be abandoned half way.
        tokio::select! {
            () = speak => {}
            () = pump => {}
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
