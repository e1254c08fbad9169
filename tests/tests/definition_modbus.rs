//! A Modbus device of a definition file, with everything between the file and the board, on real sockets.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed assertion")]

use std::sync::Arc;

use ladekern::site::{Health, quantities};
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve};
use ladekern_sim::net::{Control, Fault};
use ladekern_tests::rig::Rig;

const DEFINITION: &str = r#"{
    // A meter that nobody knows.
    "rtype": 0, "mtype": 1, "name": "Mystery", "manufacturer": "Nobody", "dev_type": "mystery", "modbus_read": 3,
    "upd_delay": 100,
    "serial": {"type": "uint32", "address": 0x64},
    "power_w": {"type": "int32", "address": 0},
    "temperature": {"type": "int16", "address": 200, "resolution": 0.1},
}"#;

#[tokio::test]
async fn garbage_keeps_the_last_good_value_and_a_refused_register_costs_only_itself() {
    let bank = Arc::new(Bank::new().with(Table::Holding, 0, &[0, 1234]).with(Table::Holding, 100, &[1, 1]));
    let bus = Bus::new().with(1, bank.clone());
    let server = serve(([127, 0, 0, 1], 0).into(), Framing::Tcp, bus, Control::default()).await.unwrap();
    let config = format!("[[device]]\nid = \"M1\"\ntype = \"mystery\"\naddress = \"tcp://{}\"\n", server.address());
    let rig = Rig::start(&config, |plugins| {
        let definitions = plugins.parent().unwrap().join("definitions");
        std::fs::create_dir_all(&definitions).unwrap();
        std::fs::write(definitions.join("mystery.json"), DEFINITION).unwrap();
    })
    .await;
    let power =
        |status: &ladekern::site::DeviceStatus| status.values.get(quantities::POWER_TOTAL).map(|power| power.value);
    let status = rig.wait("M1", "measured", |status| power(status) == Some(1234.0)).await;
    assert_eq!(status.info.model.as_deref(), Some("Nobody,Mystery,"));
    assert_eq!(status.info.serial.as_deref(), Some("65537"));
    assert!(status.values.get("var.temperature").is_none());
    assert!(status.last_error.contains("temperature: reading 1 register from 200"), "{}", status.last_error);

    // Twice per poll: the bus asks a second time.
    for _ in 0..6 {
        server.control().inject(Fault::WrongTransaction);
    }
    let status = rig.wait("M1", "garbled", |status| status.last_error.contains("bad answer")).await;
    assert_eq!((power(&status), &status.health), (Some(1234.0), &Health::Running), "{}", status.last_error);
    bank.set(Table::Holding, 0, &[0, 99]);
    rig.wait("M1", "measured again", |status| power(status) == Some(99.0)).await;

    server.control().offline();
    rig.wait("M1", "offline", |status| matches!(&status.health, Health::Offline(text) if text.contains("not answer")))
        .await;
}
