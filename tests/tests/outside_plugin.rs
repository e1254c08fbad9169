//! A driver that is not part of this repository: its folder lies elsewhere, it is built there, and the host loads it
//! without knowing anything of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::Path;
use std::process::Command;

use ladekern_tests::daemon::Daemon;
use ladekern_tests::{http, root, until};
use serde_json::json;

/// Copies the template as a stranger would, with the SDK by its path.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.is_dir() {
            if name != "target" && name != "dist" {
                copy(&path, &to.join(name));
            }
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let sdk = root().join("plugins/sdk");
        std::fs::write(to.join(name), text.replace("../../plugins/sdk", sdk.to_str().unwrap())).unwrap();
    }
}

#[tokio::test]
async fn a_driver_built_elsewhere_runs_without_a_change_to_the_host() {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("my-meter");
    copy(&root().join("examples/driver-template"), &folder);
    let built = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--", "build-plugin"])
        .arg(&folder)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    // A meter with the registers of one of the template's fixtures, on a real socket.
    let bank = ladekern_sim::modbus::Bank::new();
    let bank = registers(&folder.join("fixtures/phases-in-opposite-directions/input.json"), bank);
    let control = ladekern_sim::Control::default();
    let bus = ladekern_sim::modbus::Bus::new().with(1, std::sync::Arc::new(bank));
    let address = "127.0.0.1:0".parse().unwrap();
    let server = ladekern_sim::modbus::serve(address, ladekern_sim::modbus::Framing::Tcp, bus, control).await.unwrap();

    let config = outside.path().join("ladekern.toml");
    let text = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[[device]]\nid = \"M1\"\ntype = \"janitza-umg\"\nrole = \"grid\"\n\
         endpoint.main = {{ url = \"tcp://{}\", unit = 1 }}\n",
        server.address()
    );
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start([
        "run",
        "--config",
        config.to_str().unwrap(),
        "--plugins",
        folder.join("dist").to_str().unwrap(),
    ]);
    let http = daemon.http_address().await;
    let look = async || {
        let info = http::get(http, "/cnf?cmd=get_dev_info").await.unwrap().json();
        (info["devices"][0].clone(), daemon.output())
    };
    let (meter, _) = until("read", look, |(meter, _)| meter["com_err"] == json!(false)).await;
    let expected = std::fs::read_to_string(folder.join("fixtures/phases-in-opposite-directions/expect.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&expected).unwrap();
    let power = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!((power(&meter["power_w"]) - power(&expected["power_w"])).abs() < 0.1, "{meter}\n{expected}");
}

/// The recorded blocks of a fixture as the registers of a simulated unit.
fn registers(file: &Path, mut bank: ladekern_sim::modbus::Bank) -> ladekern_sim::modbus::Bank {
    let text = std::fs::read_to_string(file).unwrap();
    let ladekern::sample::Sample::Modbus(blocks) = ladekern::sample::Sample::parse(&text, None).unwrap() else {
        panic!("{} holds no registers", file.display());
    };
    for block in blocks {
        let table = match block.table {
            ladekern::transport::Table::Holding => ladekern_sim::modbus::Table::Holding,
            ladekern::transport::Table::Input => ladekern_sim::modbus::Table::Input,
            other => panic!("the template reads registers, not {other:?}"),
        };
        bank = bank.with(table, block.start, &block.values);
    }
    bank
}
