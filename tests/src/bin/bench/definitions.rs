//! A thousand meters that a definition file describes, each with a message a second at Mosquitto: what reading them costs
//! the daemon. Nothing is published, nothing is asked meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;

use crate::measure::process_cpu;
use crate::report::Number;
use crate::wire::Wire;

const COUNTERS: usize = 1_000;
/// They speak in so many portions a second.
const PORTIONS: usize = 20;
/// Seconds until every device has subscribed and spoken, and seconds that count.
const WARM_UP: usize = 5;
const COUNTED: usize = 10;

const DEFINITION: &str = r#"{
    "rtype": 2, "mtype": 1, "dev_type": "counter", "name": "Counter", "manufacturer": "Bench",
    "power_w": {"address": "state", "type": "float", "query": "power"},
    "import_wh": {"address": "state", "type": "float", "query": "energy.import", "resolution": 1000},
    "export_wh": {"address": "state", "type": "float", "query": "energy.export", "resolution": 1000},
    "voltage_l1": {"address": "state", "type": "float", "query": "voltage[0]"},
    "current_l1": {"address": "state", "type": "float", "query": "current[0]", "resolution": 1000},
    "current_l2": {"address": "state", "type": "float", "query": "current[1]", "resolution": 1000},
    "current_l3": {"address": "state", "type": "float", "query": "current[2]", "resolution": 1000},
    "temperature": {"address": "state", "type": "float", "query": "temperature"}
}"#;

pub async fn mqtt_counters() -> anyhow::Result<Vec<Number>> {
    let broker = Mosquitto::start();
    let folder = tempfile::tempdir()?;
    let definitions = folder.path().join("definitions");
    std::fs::create_dir_all(&definitions)?;
    std::fs::write(definitions.join("counter.json"), DEFINITION)?;
    let mut text = format!("[http]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nbroker = \"{}\"\n", broker.url());
    for n in 1..=COUNTERS {
        text.push_str(&format!(
            "[[device]]\nid = \"M{n}\"\ntype = \"counter\"\n\
             endpoint.main = {{ url = \"mqtt\", topic_prefix = \"counter/{n}\" }}\n"
        ));
    }
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, text)?;
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
    let address = daemon.http_address().await;
    let (addr, pid) = (broker.addr(), daemon.pid().context("the daemon has ended")?.to_string());
    let percent = tokio::task::spawn_blocking(move || speak(addr, &pid)).await??;
    let info = ladekern_tests::http::get(address, "/cnf?cmd=get_dev_info").await?.json();
    let shown = info.get("devices").and_then(|devices| devices.as_array()).context("no devices")?;
    let newest = |(n, device): &(usize, &serde_json::Value)| {
        let power = device.get("power_w").and_then(serde_json::Value::as_f64);
        power == Some(power_of(WARM_UP + COUNTED - 1, n + 1) as f64)
    };
    let seen = shown.iter().enumerate().filter(newest).count();
    daemon.stop().await;
    anyhow::ensure!(seen == COUNTERS, "only {seen} of {COUNTERS} counters show their last message");
    Ok(vec![Number::at_most("mqtt_counters_core_pct", percent, "%", 5.0)])
}

/// Lets every counter speak once a second; the share of a core that the daemon used meanwhile.
fn speak(broker: SocketAddr, daemon: &str) -> anyhow::Result<f64> {
    let mut wire = Wire::connect(broker, "bench-counters", "bench/nothing")?;
    let mut before = None;
    let start = Instant::now();
    for second in 0..WARM_UP + COUNTED {
        if second == WARM_UP {
            before = Some((process_cpu(daemon)?, Instant::now()));
        }
        for portion in 0..PORTIONS {
            for n in (1..=COUNTERS).filter(|n| n % PORTIONS == portion) {
                let power = power_of(second, n);
                let payload = format!(
                    "{{\"time\": \"2024-05-01T12:00:{second:02}\", \"power\": {power}, \
                     \"energy\": {{\"import\": {power}.25, \"export\": 0}}, \"voltage\": [230.1, 231.2, 229.8], \
                     \"current\": [1.25, 2.5, 3.75], \"temperature\": 41.5, \"rssi\": -61}}"
                );
                wire.publish(&format!("counter/{n}/state"), &payload);
            }
            wire.flush()?;
            let next =
                Duration::from_secs(second as u64) + Duration::from_secs(1) * (portion as u32 + 1) / PORTIONS as u32;
            std::thread::sleep(next.saturating_sub(start.elapsed()));
        }
    }
    let (cpu, since) = before.context("nothing was counted")?;
    let spent = process_cpu(daemon)?.saturating_sub(cpu);
    Ok(spent.as_secs_f64() / since.elapsed().as_secs_f64() * 100.0)
}

/// Another one for each counter and second.
fn power_of(second: usize, counter: usize) -> usize {
    second * 10_000 + counter
}
