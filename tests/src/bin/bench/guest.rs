//! What a plugin costs: calls, a poll, an instance, loading. Everything in this process and on one thread; a call is
//! timed from outside, so that limits, conversion and checks of the host are in it. Calls and polls are counted in
//! computing time: nothing in them waits, and others on the machine are not their cost.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use ladekern::plugin::{Plugin, Registry};
use ladekern::runtime::{DeviceContext, Instance, Runtime, RuntimeOptions};
use ladekern::transport::{Block, BoxFuture, Endpoint, Modbus, ModbusError};
use ladekern_plugin_sdk::Json;
use ladekern_tests::guests::{Device, registry};

use crate::measure::{Cpu, ROUNDS, median, ms, resident_kib, us};
use crate::report::Number;

/// The very source of the plugin, compiled for this machine.
#[path = "../../../../plugins/tasmota/src/decode.rs"]
#[allow(dead_code, reason = "the request over HTTP is not decoding")]
mod tasmota;

/// What a plug with an energy monitor sends; `{}` is its power in W.
pub const SENSOR: &str = r#"{"Time":"2026-05-01T12:00:01","ENERGY":{"TotalStartTime":"2025-01-01T00:00:00","Total":1234.567,"Yesterday":1.234,"Today":0.567,"Period":5,"Power":{},"ApparentPower":1250,"ReactivePower":90,"Factor":0.99,"Voltage":231,"Current":5.412}}"#;

const WALLBOX: &str = "cfos-power-brain";

/// An installed plugin.
pub async fn plugin(id: &str) -> anyhow::Result<Arc<Plugin>> {
    Ok(registry().await.load_dir(&ladekern_tests::dist().join("plugins").join(id)).await?)
}

/// One message through the decoder, in the sandbox and as native code.
pub async fn decode() -> anyhow::Result<Vec<Number>> {
    let text = SENSOR.replacen("{}", "1234", 1);
    let mut instance = Instance::start(&plugin("tasmota").await?, Device::default().context).await?;
    instance.payload_open("{}").await?;
    let native = tasmota::Settings::new(&Json::parse("{}").map_err(|error| anyhow::anyhow!("{error:?}"))?);
    let (mut plugged, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        let start = Cpu::now()?;
        for _ in 0..CALLS {
            black_box(instance.payload_decode("mqtt", "SENSOR", text.as_bytes()).await?);
        }
        plugged.push(us(start.elapsed()?) / f64::from(CALLS));
        // Right after it, so that both see the same machine.
        let start = Cpu::now()?;
        for _ in 0..CALLS {
            let decoded = native.message("SENSOR", Some(black_box(&text)));
            anyhow::ensure!(black_box(decoded).is_ok_and(|outcome| outcome.is_some()), "the native decoder fails");
        }
        bare.push(us(start.elapsed()?) / f64::from(CALLS));
    }
    let ratio = median(plugged.iter().zip(&bare).skip(1).map(|(plugged, bare)| plugged / bare).collect());
    Ok(vec![
        Number::at_most("decode_call_us", median(plugged), "µs", 10.0),
        Number::beside("decode_native_us", median(bare), "µs"),
        Number::at_most("decode_vs_native", ratio, "times", 3.0),
    ])
}

const CALLS: u32 = 40_000;

/// One poll of a wallbox that reads two blocks.
pub async fn driver_poll() -> anyhow::Result<Vec<Number>> {
    let mut instance = opened(&plugin(WALLBOX).await?, &wallbox()?).await?;
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let start = Cpu::now()?;
        for _ in 0..CALLS {
            black_box(instance.poll().await?);
        }
        rounds.push(us(start.elapsed()?) / f64::from(CALLS));
    }
    Ok(vec![Number::at_most("driver_poll_us", median(rounds), "µs", 10.0)])
}

/// From nothing to an instance that can be opened, beside others that live.
pub async fn instantiate() -> anyhow::Result<Vec<Number>> {
    let (plugin, context) = (plugin(WALLBOX).await?, wallbox()?);
    let _neighbour = opened(&plugin, &context).await?;
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let context = context.clone();
        let start = Instant::now();
        let instance = Instance::start(&plugin, context).await?;
        times.push(us(start.elapsed()));
        drop(instance);
    }
    Ok(vec![Number::at_most("instantiate_us", median(times), "µs", 50.0)])
}

/// A plugin's folder whose component was compiled by an earlier run.
pub async fn load_cached() -> anyhow::Result<Vec<Number>> {
    let cache = tempfile::tempdir()?;
    let options = RuntimeOptions { cache_dir: Some(cache.path().to_owned()), guest_threads: 1 };
    let folder = ladekern_tests::dist().join("plugins").join(WALLBOX);
    Registry::new(Runtime::new(&options)?).load_dir(&folder).await?;
    // Another engine: nothing is left of the first load but its files.
    let runtime = Runtime::new(&options)?;
    let registry = Registry::new(runtime.clone());
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        let loaded = registry.load_dir(&folder).await?;
        times.push(ms(start.elapsed()));
        drop(loaded);
    }
    anyhow::ensure!(runtime.cache_hits_and_misses().1 == 0, "the cache was not used");
    Ok(vec![Number::at_most("load_cached_ms", median(times), "ms", 1.0)])
}

/// What 200 more drivers that have been polled take of the machine's memory.
pub async fn memory_per_driver() -> anyhow::Result<Vec<Number>> {
    const DRIVERS: u32 = 200;
    let (plugin, context) = (plugin(WALLBOX).await?, wallbox()?);
    let mut drivers = Vec::new();
    for _ in 0..20 {
        drivers.push(polled(&plugin, &context).await?);
    }
    let before = resident_kib("self")?;
    for _ in 0..DRIVERS {
        drivers.push(polled(&plugin, &context).await?);
    }
    let each = (resident_kib("self")? - before) / f64::from(DRIVERS);
    drop(drivers);
    Ok(vec![Number::at_most("memory_per_driver_kib", each, "KiB", 64.0)])
}

async fn polled(plugin: &Arc<Plugin>, context: &DeviceContext) -> anyhow::Result<Instance> {
    let mut instance = opened(plugin, context).await?;
    for _ in 0..3 {
        instance.poll().await?;
    }
    Ok(instance)
}

async fn opened(plugin: &Arc<Plugin>, context: &DeviceContext) -> anyhow::Result<Instance> {
    let mut instance = Instance::start(plugin, context.clone()).await?;
    instance.open("{}").await?;
    Ok(instance)
}

/// A device on a wire that answers at once, with the registers of a recorded wallbox.
fn wallbox() -> anyhow::Result<DeviceContext> {
    let mut context = Device::default().context;
    let blocks = recorded(WALLBOX, "one-run-with-cable-and-serial")?;
    let registers = Registers(blocks.into_iter().map(|(start, words)| (u32::from(start), words)).collect());
    context.endpoints = BTreeMap::from([("main".to_owned(), Endpoint::Modbus(Arc::new(registers)))]);
    Ok(context)
}

/// The blocks of a fixture: start and words.
pub fn recorded(plugin: &str, case: &str) -> anyhow::Result<Vec<(u16, Vec<u16>)>> {
    let file = ladekern_tests::root().join("plugins").join(plugin).join("fixtures").join(case).join("input.json");
    let input: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let blocks = input["blocks"].as_array().into_iter().flatten();
    let block = |block: &serde_json::Value| {
        let hex = block["hex"].as_str().unwrap_or_default();
        let word = |at: usize| u16::from_str_radix(hex.get(at..at + 4).unwrap_or_default(), 16);
        let words: Result<Vec<u16>, _> = (0..hex.len()).step_by(4).map(word).collect();
        Ok((u16::try_from(block["start"].as_u64().unwrap_or_default())?, words?))
    };
    blocks.map(block).collect()
}

/// Runs of registers by their start.
struct Registers(BTreeMap<u32, Vec<u16>>);

impl Registers {
    fn get(&self, block: Block) -> Result<Vec<u16>, ModbusError> {
        let (address, count) = (u32::from(block.address), usize::from(block.count));
        let (start, words) = self.0.range(..=address).next_back().ok_or(ModbusError::Exception(2))?;
        let from = (address - start) as usize;
        words.get(from..from + count).map(<[u16]>::to_vec).ok_or(ModbusError::Exception(2))
    }
}

impl Modbus for Registers {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        Box::pin(async move { self.get(block) })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        Box::pin(async move { blocks.into_iter().map(|block| self.get(block)).collect() })
    }

    fn write_coil(&self, _: u16, _: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Ok(()) })
    }

    fn write_register(&self, _: u16, _: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Ok(()) })
    }

    fn write_registers(&self, _: u16, _: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Ok(()) })
    }
}
