//! The daemon with twenty drivers: what the kernel says it holds in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve};
use ladekern_sim::net::{Control, Server};
use ladekern_tests::daemon::Daemon;
use ladekern_tests::{SOON, http};

use crate::guest::recorded;
use crate::measure::{median, resident_kib};
use crate::report::Number;

const WALLBOXES: usize = 14;
const METERS: usize = 6;
/// How long it runs before it is looked at, and between two looks.
const SETTLE: Duration = Duration::from_secs(2);

pub async fn rss_20_drivers() -> anyhow::Result<Vec<Number>> {
    let mut servers = Vec::new();
    let mut text =
        "[http]\nlisten = \"127.0.0.1:0\"\n[[circuit]]\nid = \"main\"\nlimit_ma = [63000, 63000, 63000]\n".to_owned();
    for n in 1..=WALLBOXES {
        let server = device(Table::Holding, "cfos-power-brain", "one-run-with-cable-and-serial").await?;
        let url = format!("tcp://{}", server.address());
        text.push_str(&entry(&format!("E{n}"), "cfos-power-brain", &url, "circuit = \"main\""));
        servers.push(server);
    }
    for n in 1..=METERS {
        let server = device(Table::Input, "eastron-sdm", "sdm630-export").await?;
        let url = format!("tcp://{}", server.address());
        text.push_str(&entry(&format!("M{n}"), "eastron-sdm", &url, "config = { model = \"three-phase\" }"));
        servers.push(server);
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, text)?;
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    // The first start compiles the plugins, the second is what a site does for years.
    let first = Daemon::start(["run", "--config", &config, "--state", &state]);
    let after_compiling = resident(&first).await?;
    first.stop().await;
    let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
    let value = resident(&daemon).await?;
    daemon.stop().await;
    drop(servers);
    Ok(vec![
        Number::at_most("rss_20_drivers_mb", value, "MB", 64.0),
        Number::beside("rss_20_drivers_first_start_mb", after_compiling, "MB"),
    ])
}

fn entry(id: &str, plugin: &str, url: &str, more: &str) -> String {
    format!("[[device]]\nid = \"{id}\"\ntype = \"{plugin}\"\nendpoint.main = {{ url = \"{url}\", unit = 1 }}\n{more}\n")
}

/// A Modbus server with the registers of a recorded device.
pub async fn device(table: Table, plugin: &str, case: &str) -> anyhow::Result<Server> {
    let bank = Bank::new();
    for (start, words) in recorded(plugin, case)? {
        bank.set(table, start, &words);
    }
    let bus = Bus::new().with(1, Arc::new(bank));
    serve(([127, 0, 0, 1], 0).into(), Framing::Tcp, bus, Control::default()).await
}

/// MB (10⁶ bytes) in memory when every device has answered.
async fn resident(daemon: &Daemon) -> anyhow::Result<f64> {
    let line = daemon.line_with("http://").await;
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(['/', ' ']).next());
    let address: SocketAddr = address.context("no address in the first line")?.trim().parse()?;
    let all_answer = async {
        loop {
            let answer = http::get(address, "/cnf?cmd=get_dev_info").await?;
            let info = answer.json();
            let devices = info["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
            let well = devices.iter().filter(|device| device["com_err"] == serde_json::json!(false)).count();
            if well == WALLBOXES + METERS {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(SOON, all_answer).await.context("not all devices answer")??;
    let pid = daemon.pid().context("the daemon has ended")?.to_string();
    let mut looks = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(SETTLE).await;
        looks.push(resident_kib(&pid)? * 1024.0 / 1e6);
    }
    Ok(median(looks))
}
