//! What reading a JSON message costs: with the queries of a definition, and beside it the same message through a decoder
//! plugin. Computing time of this thread; nothing in it waits.

use std::hint::black_box;

use anyhow::Context as _;
use ladekern::runtime::Instance;
use ladekern_definition::{Address, Document, DocumentField, Extract, Number as Kind, Query, Shape};
use ladekern_tests::guests::Device;

use crate::guest::plugin;
use crate::measure::{Cpu, ROUNDS, median, time_us, us};
use crate::report::Number;

/// 200 bytes, as a plug with an energy monitor sends them.
const MESSAGE: &str = r#"{"Time":"2026-05-01T12:00:01","ENERGY":{"Total":1234.567,"Today":0.5671,"Period":5,"Power":1234,"ApparentPower":1250,"ReactivePower":90,"Factor":0.987,"Voltage":231,"Current":5.412,"Frequency":49.98}}"#;

const QUERIES: [&str; 8] = [
    "ENERGY.Power",
    "ENERGY.ApparentPower",
    "ENERGY.ReactivePower",
    "ENERGY.Voltage",
    "ENERGY.Current",
    "ENERGY.Total",
    "ENERGY.Today",
    "ENERGY.Frequency",
];

const CALLS: u32 = 40_000;

/// 200 bytes into eight variables.
pub async fn eight_variables() -> anyhow::Result<Vec<Number>> {
    anyhow::ensure!(MESSAGE.len() == 200, "the message has {} bytes", MESSAGE.len());
    let field = |query| -> anyhow::Result<DocumentField> {
        Ok(DocumentField {
            address: Address::Mqtt { topic: "tele/plug/SENSOR".into() },
            extract: Extract::Query(Query::parse(query)?),
            shape: Shape::Number { number: Kind::Float, factor: 1000.0 },
        })
    };
    let fields = QUERIES.into_iter().map(field).collect::<anyhow::Result<Vec<_>>>()?;
    let document = Document::new(&fields.iter().collect::<Vec<_>>(), &[]);
    for value in document.read(MESSAGE.as_bytes())? {
        value?;
    }
    let read = time_us(CALLS * 5, || {
        // What comes out was checked above; here only the time counts.
        let _ = black_box(document.read(black_box(MESSAGE.as_bytes())));
    })?;

    let mut instance = Instance::start(&plugin("tasmota").await?, Device::default().context).await?;
    instance.payload_open("{}").await?;
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let start = Cpu::now()?;
        for _ in 0..CALLS {
            black_box(instance.payload_decode("mqtt", "SENSOR", MESSAGE.as_bytes()).await.context("the plugin")?);
        }
        rounds.push(us(start.elapsed()?) / f64::from(CALLS));
    }
    Ok(vec![
        Number::at_most("decode_json_us", read, "µs", 2.0),
        Number::beside("decode_json_plugin_us", median(rounds), "µs"),
    ])
}
