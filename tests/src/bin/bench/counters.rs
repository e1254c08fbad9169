//! A hundred Modbus counters on ten buses, polled every second by the daemon: what that costs it, and which polls come
//! late. Made of a definition, of a definition that reads what a plugin reads, and of that plugin.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern_sim::modbus::{Answer, Bank, Bus, Framing, Table, Unit, serve};
use ladekern_sim::net::{Control, Server};
use ladekern_tests::daemon::Daemon;
use ladekern_tests::{SOON, http};

use crate::guest::recorded;
use crate::measure::process_cpu;
use crate::report::Number;

const BUSES: usize = 10;
const UNITS: u8 = 10;
/// How long is counted.
const WINDOW: Duration = Duration::from_secs(20);
/// How long all run before that.
const SETTLE: Duration = Duration::from_secs(3);
/// A poll that comes so long after the one before is late: it was due 200 ms earlier.
const LATE: Duration = Duration::from_millis(1_200);

/// Ten values in twenty registers, one block.
const PLAIN: &str = r#"{"rtype": 0, "mtype": 1, "name": "Bench", "manufacturer": "Bench", "dev_type": "bench_plain",
    "modbus_read": 4, "delay_accumulated": false,
    "voltage_l1": {"type": "float", "address": 0}, "voltage_l2": {"type": "float", "address": 2},
    "voltage_l3": {"type": "float", "address": 4},
    "current_l1": {"type": "float", "address": 6, "resolution": 1000},
    "current_l2": {"type": "float", "address": 8, "resolution": 1000},
    "current_l3": {"type": "float", "address": 10, "resolution": 1000},
    "power_w_l1": {"type": "float", "address": 12}, "power_w_l2": {"type": "float", "address": 14},
    "power_w_l3": {"type": "float", "address": 16}, "va_l1": {"type": "float", "address": 18}}"#;

/// What `eastron-sdm` reads and tells of a three-phase meter: 76 registers in one block, 16 values.
const LIKE_THE_PLUGIN: &str = r#"{"rtype": 0, "mtype": 1, "name": "Bench", "manufacturer": "Bench",
    "dev_type": "bench_sdm", "modbus_read": 4, "modbus_allow_gaps": true, "delay_accumulated": false,
    "voltage_l1": {"type": "float", "address": 0}, "voltage_l2": {"type": "float", "address": 2},
    "voltage_l3": {"type": "float", "address": 4},
    "current_l1": {"type": "float", "address": 6, "resolution": 1000},
    "current_l2": {"type": "float", "address": 8, "resolution": 1000},
    "current_l3": {"type": "float", "address": 10, "resolution": 1000},
    "power_w_l1": {"type": "float", "address": 12}, "power_w_l2": {"type": "float", "address": 14},
    "power_w_l3": {"type": "float", "address": 16}, "power_w": {"type": "float", "address": 52},
    "power_va": {"type": "float", "address": 56}, "power_var": {"type": "float", "address": 60},
    "hertz": {"type": "float", "address": 70},
    "import_wh": {"type": "float", "address": 72, "resolution": 1000},
    "export_wh": {"type": "float", "address": 74, "resolution": 1000}}"#;

/// What a run came to.
struct Run {
    /// Share of one core that the daemon computed.
    core_pct: f64,
    polls: usize,
    late: usize,
    registers: usize,
}

pub async fn hundred_on_ten_buses() -> anyhow::Result<Vec<Number>> {
    let plain = run("type = \"bench_plain\"").await?;
    anyhow::ensure!(plain.registers == 20, "a poll read {} registers", plain.registers);
    let like = run("type = \"bench_sdm\"").await?;
    let plugin = run("type = \"eastron-sdm\"\nconfig = { model = \"three-phase\" }").await?;
    anyhow::ensure!(like.registers == plugin.registers, "{} and {} registers", like.registers, plugin.registers);
    Ok(vec![
        Number::at_most("modbus_counters_late", plain.late as f64, "polls", 0.0),
        Number::beside("modbus_counters_polls", plain.polls as f64, "polls"),
        Number::beside("modbus_counters_core_pct", plain.core_pct, "%"),
        Number::beside("modbus_counters_76_core_pct", like.core_pct, "%"),
        Number::beside("modbus_counters_plugin_core_pct", plugin.core_pct, "%"),
        Number::beside("modbus_counters_plugin_late", plugin.late as f64, "polls"),
    ])
}

/// A unit that writes down when it was read.
struct Watched {
    bank: Bank,
    reads: Mutex<Vec<(Instant, u16)>>,
}

impl Unit for Watched {
    fn read_words(&self, table: Table, address: u16, count: u16) -> Answer<Vec<u16>> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), count));
        self.bank.read_words(table, address, count)
    }
}

async fn run(device: &str) -> anyhow::Result<Run> {
    let folder = tempfile::tempdir()?;
    let definitions = folder.path().join("definitions");
    std::fs::create_dir(&definitions)?;
    std::fs::write(definitions.join("plain.json"), PLAIN)?;
    std::fs::write(definitions.join("sdm.json"), LIKE_THE_PLUGIN)?;
    let (mut units, mut servers): (Vec<Arc<Watched>>, Vec<Server>) = (Vec::new(), Vec::new());
    let mut text = "[http]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for bus in 0..BUSES {
        let mut wire = Bus::new();
        for unit in 1..=UNITS {
            let bank = Bank::new();
            for (start, words) in recorded("eastron-sdm", "sdm630-export")? {
                bank.set(Table::Input, start, &words);
            }
            let watched = Arc::new(Watched { bank, reads: Mutex::default() });
            wire = wire.with(unit, watched.clone());
            units.push(watched);
        }
        let server = serve(([127, 0, 0, 1], 0).into(), Framing::Tcp, wire, Control::default()).await?;
        for unit in 1..=UNITS {
            let (id, url) = (bus * usize::from(UNITS) + usize::from(unit), server.address());
            text.push_str(&format!(
                "[[device]]\nid = \"M{id}\"\n{device}\nendpoint.main = {{ url = \"tcp://{url}\", unit = {unit} }}\n"
            ));
        }
        servers.push(server);
    }
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, text)?;
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
    all_answer(daemon.http_address().await, units.len()).await?;
    tokio::time::sleep(SETTLE).await;
    let pid = daemon.pid().context("the daemon has ended")?.to_string();
    let (before, start) = (process_cpu(&pid)?, Instant::now());
    tokio::time::sleep(WINDOW).await;
    let (spent, end) = (process_cpu(&pid)?.saturating_sub(before), Instant::now());
    daemon.stop().await;
    let mut run = Run { core_pct: 0.0, polls: 0, late: 0, registers: 0 };
    run.core_pct = spent.as_secs_f64() / (end - start).as_secs_f64() * 100.0;
    for unit in units {
        let reads = unit.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let counted: Vec<Instant> = reads.iter().map(|(at, _)| *at).filter(|at| (start..end).contains(at)).collect();
        run.polls += counted.len();
        run.registers = reads.last().map_or(0, |(_, count)| usize::from(*count));
        // The beginning and the end of the time count too: who is not asked at all is late.
        let mut moments = vec![counted.first().copied().unwrap_or(start).min(start + LATE)];
        moments.extend(counted);
        moments.push(end);
        run.late += moments.windows(2).filter(|pair| pair[1] - pair[0] > LATE).count();
    }
    drop(servers);
    Ok(run)
}

async fn all_answer(address: SocketAddr, wanted: usize) -> anyhow::Result<()> {
    let all = async {
        loop {
            let info = http::get(address, "/cnf?cmd=get_dev_info").await?.json();
            let devices = info["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
            if devices.iter().filter(|device| device["com_err"] == serde_json::json!(false)).count() == wanted {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, all).await.context("not all counters answer")?
}
