//! The registers of cfos-interfaces.md 4.1: over Modbus TCP (7.5), over `cmd=modbus` (1.11; 7.2 rows 13 and 14), and
//! `modbus_get` and `modbus_set` (2.6; row 20).

mod calls;
mod server;

use std::net::SocketAddr;

use ladekern_tests::SOON;
use ladekern_tests::site::Site;
use serde_json::Value;
use tokio_modbus::Slave;
use tokio_modbus::client::{Context, Reader, tcp};

const DEVICES: &str = r#"
[[device]]
id = "M1"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
[[device]]
id = "M2"
type = "http-input"
"#;

const OBSERVE: &str = "[load]\nmode = \"observe\"\n";
const SERVER: &str = "[modbus_server]\nenabled = true\nports = [0, 0, 0]\n";

const CHARGING: &str =
    r#"{"state":3,"max_charging_current":16000,"current":[10000,10000,0],"total_energy":1234567,"rfid":"0A1B2C3D"}"#;

async fn site(more: &str) -> Site {
    let site = Site::start(&format!("{more}{DEVICES}")).await;
    feed(&site, CHARGING).await;
    let meter = r#"{"import_wh":70000000001,"voltage":[231,232,233],"current":[1000,2000,-3000],"power_w":-821.4}"#;
    assert_eq!(site.post("cmd=set_ajax_meter&dev_id=M1", meter).await.status, 200);
    site
}

async fn feed(site: &Site, body: &str) -> Value {
    let answer = site.post("cmd=set_ajax_evse&dev_id=E1", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

/// `cmd=modbus` with these arguments.
async fn modbus(site: &Site, arguments: &str) -> Value {
    let answer = site.get(&format!("cmd=modbus&{arguments}")).await;
    assert_eq!(answer.status, 200, "{arguments}: {}", answer.body);
    answer.json()
}

/// Why `cmd=…` is refused.
async fn refused(site: &Site, query: &str) -> String {
    let answer = site.get(query).await;
    assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    answer.json()["error"].as_str().unwrap().to_owned()
}

/// Waits until the ports listen, or no longer do.
async fn ports(site: &Site, listening: bool) -> Vec<SocketAddr> {
    let mut addresses = site.app.modbus_addresses();
    let found = tokio::time::timeout(SOON, addresses.wait_for(|all| all.iter().all(|one| one.is_some() == listening)));
    let found = found.await.expect("the ports do as configured").unwrap();
    found.iter().flatten().copied().collect()
}

async fn client(address: SocketAddr, unit: u8) -> Context {
    tcp::connect_slave(address, Slave(unit)).await.unwrap()
}

async fn read(client: &mut Context, address: u16, count: u16) -> Vec<u16> {
    client.read_holding_registers(address, count).await.unwrap().unwrap()
}

// === cmd=modbus ===
