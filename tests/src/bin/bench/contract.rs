//! The contract over MQTT at Mosquitto: a call of the API there and back, beside the same client's plain echo; and what
//! the status of a thousand devices costs that all say something else each second.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern_tests::SOON;
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;

use crate::measure::{ms, percentile, process_cpu};
use crate::report::Number;
use crate::wire::Wire;

/// Single calls whose way is timed, and the silence between two of them.
const CALLS: usize = 1_000;
const PAUSE: Duration = Duration::from_millis(2);

const DEVICES: usize = 1_000;
/// Devices are fed in so many portions a second.
const PORTIONS: usize = 20;
/// Seconds until every device has been fed and published, and seconds that count.
const WARM_UP: usize = 3;
const COUNTED: usize = 10;

/// A daemon at a broker of its own.
struct Site {
    daemon: Daemon,
    broker: Mosquitto,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn start(mqtt: &str, devices: &str) -> anyhow::Result<Self> {
        let broker = Mosquitto::start();
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("ladekern.toml");
        let (url, http) = (broker.url(), "[http]\nlisten = \"127.0.0.1:0\"\n");
        std::fs::write(&file, format!("{http}[mqtt]\nbroker = \"{url}\"\npublish = \"mqtt\"\n{mqtt}\n{devices}"))?;
        let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
        let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
        daemon.line_with("http://").await;
        Ok(Self { daemon, broker, _folder: folder })
    }
}

fn meters(count: usize) -> String {
    (1..=count).map(|n| format!("[[device]]\nid = \"M{n}\"\ntype = \"http-input\"\naddress = \"mqtt\"\n")).collect()
}

/// Waits for a message on this topic.
fn wait_for(broker: SocketAddr, topic: &str) -> anyhow::Result<()> {
    let mut wire = Wire::connect(broker, "bench-start", topic)?;
    let deadline = Instant::now() + SOON;
    while wire.next_message().is_none() {
        anyhow::ensure!(Instant::now() < deadline, "nothing on {topic}");
        wire.receive()?;
    }
    Ok(())
}

pub async fn api_round_trip() -> anyhow::Result<Vec<Number>> {
    let site = Site::start("api = \"mqtt\"", &meters(3)).await?;
    let addr = site.broker.addr();
    let numbers = tokio::task::spawn_blocking(move || {
        wait_for(addr, "cfos_mqtt/get/dev_info")?;
        // Every call is another one, or those after the first would be answered from memory.
        let api = round_trips(addr, "cfos_mqtt/api_res/#", |n| {
            (format!("cfos_mqtt/api/cmd=get_params&_rid=r{n}"), format!("cfos_mqtt/api_res/r{n}"))
        })?;
        let echo = round_trips(addr, "bench/echo/#", |n| (format!("bench/echo/{n}"), format!("bench/echo/{n}")))?;
        let beside = |name, values: &[f64], share| Number::beside(name, percentile(values.to_vec(), share), "ms");
        anyhow::Ok(vec![
            Number::at_most("mqtt_api_p50_ms", percentile(api.clone(), 0.5), "ms", 2.0),
            beside("mqtt_api_p99_ms", &api, 0.99),
            beside("mqtt_echo_p50_ms", &echo, 0.5),
        ])
    });
    let numbers = numbers.await?;
    site.daemon.stop().await;
    numbers
}

/// Times in ms from a message until the one that answers it.
fn round_trips(
    broker: SocketAddr,
    filter: &str,
    topics: impl Fn(usize) -> (String, String),
) -> anyhow::Result<Vec<f64>> {
    let mut wire = Wire::connect(broker, "bench-caller", filter)?;
    let mut times = Vec::new();
    for n in 0..CALLS {
        std::thread::sleep(PAUSE);
        let (question, answer) = topics(n);
        let start = Instant::now();
        wire.publish(&question, "");
        wire.flush()?;
        loop {
            wire.receive()?;
            match wire.next_message() {
                Some((topic, _)) if topic == answer => break,
                Some((topic, payload)) => anyhow::bail!("{topic} came in the place of {answer}: {payload}"),
                None => {}
            }
        }
        times.push(ms(start.elapsed()));
    }
    Ok(times)
}

pub async fn thousand_devices() -> anyhow::Result<Vec<Number>> {
    let site = Site::start("", &meters(DEVICES)).await?;
    let addr = site.broker.addr();
    let pid = site.daemon.pid().context("the daemon has ended")?.to_string();
    let numbers = tokio::task::spawn_blocking(move || feed_all(addr, &pid)).await?;
    site.daemon.stop().await;
    numbers
}

/// Feeds every device another value each second, and sees it come out again.
fn feed_all(broker: SocketAddr, daemon: &str) -> anyhow::Result<Vec<Number>> {
    wait_for(broker, &format!("cfos_mqtt/get/M{DEVICES}"))?;
    let reader = Wire::connect(broker, "bench-reader", "cfos_mqtt/get/+")?;
    let counted = std::thread::spawn(move || published(reader));
    let mut feeder = Wire::connect(broker, "bench-feeder", "bench/nothing")?;
    let mut before = None;
    let start = Instant::now();
    for second in 0..WARM_UP + COUNTED {
        if second == WARM_UP {
            before = Some((process_cpu(daemon)?, Instant::now()));
        }
        for portion in 0..PORTIONS {
            for n in (1..=DEVICES).filter(|n| n % PORTIONS == portion) {
                feeder.publish(&format!("cfos_mqtt/set/M{n}"), &format!("{{\"power_w\": {}}}", value(second, n)));
            }
            feeder.flush()?;
            let next =
                Duration::from_secs(second as u64) + Duration::from_secs(1) * (portion as u32 + 1) / PORTIONS as u32;
            std::thread::sleep(next.saturating_sub(start.elapsed()));
        }
    }
    let (cpu, since) = before.context("nothing was counted")?;
    let spent = process_cpu(daemon)?.saturating_sub(cpu);
    let percent = spent.as_secs_f64() / since.elapsed().as_secs_f64() * 100.0;
    let seen = counted.join().ok().context("the reader broke down")??;
    let seen = seen as f64 / (DEVICES * COUNTED) as f64;
    anyhow::ensure!(seen > 0.9, "only {:.0} % of the values were published", seen * 100.0);
    Ok(vec![
        Number::at_most("get_publish_1000_devices_core_pct", percent, "%", 5.0),
        Number::beside("get_publish_1000_devices_seen", seen, ""),
    ])
}

/// Other than every other value of that device.
fn value(second: usize, device: usize) -> usize {
    second * 10_000 + device
}

/// How many of the counted values came out, each once, by the last of the last second.
fn published(mut wire: Wire) -> anyhow::Result<usize> {
    let mut seen = HashSet::new();
    let deadline = Instant::now() + Duration::from_secs((WARM_UP + COUNTED) as u64) + SOON;
    let last = value(WARM_UP + COUNTED - 1, DEVICES - 1);
    while !seen.contains(&last) && Instant::now() < deadline {
        wire.receive()?;
        while let Some((_, payload)) = wire.next_message() {
            let power = payload.split_once("\"power_w\":").map(|(_, rest)| rest);
            let digits = power.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
            // dev_info holds the power of its first device only here, which counts once like any other.
            if let Some(power) = digits.and_then(|digits| digits.parse::<usize>().ok())
                && power >= value(WARM_UP, 0)
            {
                seen.insert(power);
            }
        }
    }
    Ok(seen.len())
}
