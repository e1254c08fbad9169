//! A healthy Modbus device beside three guests that compute as long as they may, again and again: how much later its
//! answers come. The sockets are on one tokio runtime and the guests on their own, as in the daemon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern::config;
use ladekern::plugin::Plugin;
use ladekern::runtime::{DeviceContext, Instance};
use ladekern::site::Clock;
use ladekern::transport::{Block, Endpoint, Endpoints, Modbus, Table, Transports};
use ladekern_sim::modbus;
use ladekern_tests::guests::{Device, registry};
use tokio::runtime::Handle;

use crate::measure::{median, ms};
use crate::report::Number;
use crate::site::device;

/// Round trips that are timed, alone and beside the spinning guests.
const TRIPS: usize = 400;
/// Between two round trips.
const PAUSE: Duration = Duration::from_millis(5);
const SPINNERS: usize = 3;
/// A whole main block of the meter.
const BLOCK: Block = Block { table: Table::Input, address: 0, count: 76 };

pub async fn neighbour_delay() -> anyhow::Result<Vec<Number>> {
    let server = device(modbus::Table::Input, "eastron-sdm", "sdm630-export").await?;
    let text = format!(
        "[[device]]\nid = \"M1\"\ntype = \"eastron-sdm\"\nendpoint.main = {{ url = \"tcp://{}\", unit = 1 }}\n",
        server.address()
    );
    let parsed = config::parse("bench", &text, &[]).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let meter = parsed.devices.first().context("one device")?;
    let transports = Transports::new(Handle::current(), Clock::start(), None, "bench".into());
    let binding = meter.endpoints.values().next().context("one endpoint")?;
    let endpoint = transports.endpoint(&meter.id, "main", binding, Some(502), Some(1))?;
    let Endpoint::Modbus(modbus) = endpoint.clone() else { anyhow::bail!("a Modbus endpoint") };
    let mut context = Device::default().context;
    context.endpoints = Endpoints::from([("main".to_owned(), endpoint)]);
    let plugin = registry().await.load_dir(&ladekern_tests::dist().join("plugins/eastron-sdm")).await?;

    let alone = round_trips(modbus.clone()).await?;
    let polls_alone = polls(plugin.clone(), context.clone(), modbus.clone()).await?;
    let spinning = Spinning::start().await;
    let beside = round_trips(modbus.clone()).await?;
    let polls_beside = polls(plugin, context, modbus).await?;
    spinning.stop().await;
    let extra = |alone: Vec<f64>, beside: Vec<f64>| beside.into_iter().fold(0.0, f64::max) - median(alone);
    let worst_alone = alone.iter().copied().fold(0.0, f64::max) - median(alone.clone());
    Ok(vec![
        Number::at_most("spin_neighbour_delay_ms", extra(alone, beside), "ms", 10.0),
        Number::beside("spin_nobody_delay_ms", worst_alone, "ms"),
        Number::beside("spin_neighbour_poll_ms", extra(polls_alone, polls_beside), "ms"),
    ])
}

/// Request and answer on the wire.
async fn round_trips(modbus: Arc<dyn Modbus>) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..TRIPS {
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        modbus.read(BLOCK).await?;
        times.push(ms(start.elapsed()));
    }
    Ok(times)
}

/// Request, answer and decoding, by a task on the guests' thread, which is the spinning ones' as well.
async fn polls(plugin: Arc<Plugin>, context: DeviceContext, modbus: Arc<dyn Modbus>) -> anyhow::Result<Vec<f64>> {
    let guests = registry().await.runtime().guests().clone();
    let task = guests.spawn(async move {
        let mut instance = Instance::start(&plugin, context).await?;
        instance.decoder_open(r#"{"model":"three-phase"}"#).await?;
        let mut times = Vec::new();
        for _ in 0..TRIPS {
            tokio::time::sleep(PAUSE).await;
            let start = Instant::now();
            let words = modbus.read(BLOCK).await?;
            instance.decoder_decode(&[Some(words)]).await?;
            times.push(ms(start.elapsed()));
        }
        anyhow::Ok(times)
    });
    task.await?
}

/// Guests that spin until they are killed, and are started again.
struct Spinning {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Spinning {
    async fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let guests = registry().await.runtime().guests().clone();
        let tasks = (0..SPINNERS).map(|_| guests.spawn(spin(Arc::clone(&stop)))).collect();
        Self { stop, tasks }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // Its end is all that matters.
            let _ = task.await;
        }
    }
}

async fn spin(stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut instance) = Device::default().open("spin", 0).await {
            // Ends with the limit of its computing time.
            let _ = instance.poll().await;
        }
    }
}
