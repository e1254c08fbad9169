//! Messages through Mosquitto, a decoder plugin in the real daemon and Mosquitto again, beside the same client's
//! plain echo through the same broker in the same run.
//!
//! Values are published newest-wins, so a flood would count messages that nobody decoded. Here every device has one
//! message on its way: its next one, with another power, is sent when the power of the last has come back. So every
//! message that counts was decoded and published, and no queue can grow.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;

use crate::guest::SENSOR;
use crate::measure::{median, ms, percentile, process_cpu, us};
use crate::report::Number;
use crate::wire::Wire;

/// Devices, each with one message on its way.
const DEVICES: usize = 64;
/// Pairs of measurements of which the median counts.
const PAIRS: usize = 5;
/// Length of one measurement of throughput.
const WINDOW: Duration = Duration::from_secs(3);
/// Single messages whose way is timed.
const SINGLES: usize = 1_000;
/// Silence between two of them.
const PAUSE: Duration = Duration::from_millis(2);

pub async fn through_plugin() -> anyhow::Result<Vec<Number>> {
    let broker = Mosquitto::start();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, config(&broker.url()))?;
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
    daemon.line_with("http://").await;
    let addr = broker.addr();
    let pid = daemon.pid().context("the daemon has ended")?.to_string();
    let numbers = tokio::task::spawn_blocking(move || measure(addr, &pid)).await?;
    daemon.stop().await;
    numbers
}

fn config(broker: &str) -> String {
    let mut text = format!("[http]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nbroker = \"{broker}\"\npublish = \"mqtt\"\n");
    for n in 0..DEVICES {
        text.push_str(&format!(
            "[[device]]\nid = \"M{}\"\ntype = \"tasmota\"\n\
             endpoint.mqtt = {{ url = \"mqtt\", topic_prefix = \"tele/plug{n}\" }}\n",
            n + 1
        ));
    }
    text
}

/// A way through the broker and back.
struct Path {
    wire: Wire,
    input: Vec<String>,
    output: Vec<String>,
    /// What stands before the power in what comes back.
    key: &'static str,
    /// The power that is on its way, for each device.
    awaited: Vec<u64>,
    sent: u64,
}

impl Path {
    fn echo(broker: SocketAddr) -> anyhow::Result<Self> {
        let topics = || (0..DEVICES).map(|n| format!("echo/plug{n}")).collect();
        let wire = Wire::connect(broker, "bench-echo", "echo/#")?;
        Ok(Self { wire, input: topics(), output: topics(), key: "\"Power\":", awaited: vec![0; DEVICES], sent: 0 })
    }

    fn plugin(broker: SocketAddr) -> anyhow::Result<Self> {
        let input = (0..DEVICES).map(|n| format!("tele/plug{n}/SENSOR")).collect();
        let output = (0..DEVICES).map(|n| format!("cfos_mqtt/get/M{}", n + 1)).collect();
        let wire = Wire::connect(broker, "bench-plugin", "cfos_mqtt/get/+")?;
        Ok(Self { wire, input, output, key: "\"power_w\":", awaited: vec![0; DEVICES], sent: 0 })
    }

    fn send(&mut self, device: usize) {
        self.sent += 1;
        self.awaited[device] = self.sent;
        let payload = SENSOR.replacen("{}", &self.sent.to_string(), 1);
        self.wire.publish(&self.input[device], &payload);
    }

    /// Waits for bytes; the devices whose message has come back. The retained picture of a device and a second one
    /// of the same values are no answers.
    fn arrived(&mut self) -> anyhow::Result<Vec<usize>> {
        self.wire.receive()?;
        let mut arrived = Vec::new();
        while let Some((topic, payload)) = self.wire.next_message() {
            let Some(device) = self.output.iter().position(|output| *output == topic) else { continue };
            let power = payload.split_once(self.key).map(|(_, rest)| rest.trim_start());
            let digits = power.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            if digits.and_then(|digits| digits.parse().ok()) == Some(self.awaited[device]) && self.awaited[device] > 0 {
                self.awaited[device] = 0;
                arrived.push(device);
            }
        }
        Ok(arrived)
    }

    /// Messages per second that came back with all devices busy.
    fn throughput(&mut self, window: Duration) -> anyhow::Result<f64> {
        (0..DEVICES).for_each(|device| self.send(device));
        self.wire.flush()?;
        let start = Instant::now();
        let mut count = 0u32;
        while start.elapsed() < window {
            for device in self.arrived()? {
                count += 1;
                self.send(device);
            }
            self.wire.flush()?;
        }
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        while self.awaited.iter().any(|awaited| *awaited > 0) {
            self.arrived()?;
        }
        Ok(rate)
    }

    /// Times in ms of single messages there and back.
    fn latencies(&mut self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::new();
        for n in 0..SINGLES {
            std::thread::sleep(PAUSE);
            let start = Instant::now();
            self.send(n % DEVICES);
            self.wire.flush()?;
            while self.arrived()?.is_empty() {}
            times.push(ms(start.elapsed()));
        }
        Ok(times)
    }
}

fn measure(broker: SocketAddr, daemon: &str) -> anyhow::Result<Vec<Number>> {
    wait_for_site(broker)?;
    let (mut echo, mut plugin) = (Path::echo(broker)?, Path::plugin(broker)?);
    for path in [&mut echo, &mut plugin] {
        path.throughput(Duration::from_millis(500))?;
    }
    let (mut plain, mut decoded) = (Vec::new(), Vec::new());
    let mut cpu_us = Vec::new();
    for _ in 0..PAIRS {
        plain.push(echo.throughput(WINDOW)?);
        let (before, sent) = (process_cpu(daemon)?, plugin.sent);
        decoded.push(plugin.throughput(WINDOW)?);
        cpu_us.push(us(process_cpu(daemon)?.saturating_sub(before)) / (plugin.sent - sent) as f64);
    }
    let ratio = median(decoded.iter().zip(&plain).map(|(decoded, plain)| decoded / plain).collect());
    let (echo_ms, plugin_ms) = (echo.latencies()?, plugin.latencies()?);
    let beside = Number::beside;
    Ok(vec![
        Number::at_least("mqtt_through_plugin_vs_echo", ratio, "", 0.6),
        beside("mqtt_through_plugin_per_s", median(decoded), "1/s"),
        beside("mqtt_echo_per_s", median(plain), "1/s"),
        beside("mqtt_daemon_cpu_us", median(cpu_us), "µs"),
        beside("mqtt_latency_p50_ms", percentile(plugin_ms.clone(), 0.5), "ms"),
        beside("mqtt_latency_p99_ms", percentile(plugin_ms, 0.99), "ms"),
        beside("mqtt_echo_p50_ms", percentile(echo_ms.clone(), 0.5), "ms"),
        beside("mqtt_echo_p99_ms", percentile(echo_ms, 0.99), "ms"),
    ])
}

fn wait_for_site(broker: SocketAddr) -> anyhow::Result<()> {
    let mut wire = Wire::connect(broker, "bench-start", "cfos_mqtt/get/dev_info")?;
    let deadline = Instant::now() + ladekern_tests::SOON;
    loop {
        wire.receive()?;
        while let Some((_, payload)) = wire.next_message() {
            // No driver is starting any more, so each has told the broker what it wants.
            if !payload.contains("\"status\":\"starting") && !payload.contains("\"status\":\"missing") {
                // Their subscriptions are on the way; nothing tells when the last one has arrived.
                std::thread::sleep(Duration::from_millis(500));
                return Ok(());
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "the daemon's devices do not start");
    }
}
