//! The Eastron meters against their fact sheet: values, gaps, exception 2, both framings.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod common;

use std::sync::Arc;

use common::{DEADLINE, Tcp, hex};
use ladekern_sim::World;
use ladekern_sim::modbus::{Framing, crc16};
use ladekern_sim::physics::{House, HouseOptions, Script, Source, Trace};
use ladekern_sim::sdm::{Model, Sdm, SdmOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn world() -> Arc<World> {
    let options = HouseOptions {
        base: [Trace::constant(40.0, 0.0), Trace::constant(5.0, 0.0), Trace::constant(3.0, 0.0)],
        pv: [0, 1, 2].map(|_| Trace::constant(10.0, 0.0)),
        counters_wh: (12_345_670.0, 7_654_320.0),
        ..Default::default()
    };
    World::new(House::new(options, vec![], Script::new()))
}

async fn tcp(source: Source, model: Model, inverted: bool) -> (Arc<World>, Sdm, Tcp) {
    let world = world();
    let options = SdmOptions { framing: Framing::Tcp, source, model, inverted, ..Default::default() };
    let device = Sdm::start(world.clone(), options).await.unwrap();
    let client = Tcp::connect(device.address()).await;
    (world, device, client)
}

async fn floats(client: &mut Tcp, at: u16, values: u16) -> Vec<f32> {
    let words = client.read(1, 4, at, values * 2).await.unwrap();
    words.chunks(2).map(|pair| f32::from_bits(u32::from(pair[0]) << 16 | u32::from(pair[1]))).collect()
}

#[tokio::test]
async fn sdm630_at_the_grid() {
    let (_world, device, mut client) = tcp(Source::Grid, Model::Sdm630, false).await;
    let block = floats(&mut client, 0, 40).await;
    assert!(block[..3].iter().all(|u| (226.0..235.0).contains(u)), "{block:?}");
    assert_eq!(block[3..6], [30.0, 5.0, 7.0], "currents are magnitudes");
    assert!(block[6] > 0.0 && block[7] < 0.0 && block[8] < 0.0, "powers have a sign: {block:?}");
    let total: f32 = block[6..9].iter().sum();
    assert!((block[26] - total).abs() < 0.1, "0x0034 is the sum");
    assert!((block[35] - 50.0).abs() < 0.1, "0x0046 is the frequency");
    assert_eq!((block[36], block[37]), (12_345.67, 7_654.32), "0x0048 and 0x004A in kWh");
    assert!((floats(&mut client, 0x0156, 1).await[0] - 19_999.99).abs() < 0.01, "import and export together");
    device.spoil_frequency(true);
    assert!(floats(&mut client, 0x0046, 1).await[0] > 499.0);
    assert!(device.url().starts_with("tcp://127.0.0.1:"));
}

#[tokio::test]
async fn exception_2_beyond_the_map_and_other_refusals() {
    let (_world, _device, mut client) = tcp(Source::Grid, Model::Sdm630, false).await;
    assert_eq!(client.read(1, 4, 0x006A, 4).await, Err(2), "the whole block");
    assert_eq!(client.read(1, 4, 0x017E, 2).await, Err(2));
    assert_eq!(client.read(1, 4, 0x0001, 2).await, Err(2), "odd address");
    assert_eq!(client.read(1, 4, 0, 82).await, Err(3), "more than 40 values");
    assert_eq!(client.read(1, 3, 0x0014, 2).await.unwrap(), [0x3F80, 0], "unit 1 as a float");
    assert_eq!(client.read(1, 3, 0, 2).await, Err(2), "values are input registers");
    assert_eq!(client.ask(1, &hex("06 0014 0002")).await, hex("86 01"), "settings cannot be written here");
    let (_world, _device, mut client) = tcp(Source::Grid, Model::Sdm72V1, false).await;
    assert_eq!(client.read(1, 4, 0, 2).await, Err(2), "the probe for the first version");
    assert_eq!(client.read(1, 4, 0x0046, 2).await, Err(2));
    assert_eq!(floats(&mut client, 0x0048, 2).await, [12_345.67, 7_654.32]);
    assert_eq!(floats(&mut client, 0x0034, 1).await.len(), 1);
}

#[tokio::test]
async fn upside_down_every_sign_flips_and_the_counters_swap() {
    let (_world, _device, mut client) = tcp(Source::Pv, Model::Sdm630, false).await;
    let upright = floats(&mut client, 0x000C, 3).await;
    assert!(upright.iter().all(|p| *p > 2000.0), "generation is positive: {upright:?}");
    assert_eq!(floats(&mut client, 0x0048, 2).await, [7_654.32, 0.0]);
    let (_world, _device, mut client) = tcp(Source::Pv, Model::Sdm630, true).await;
    assert_eq!(floats(&mut client, 0x000C, 3).await, upright.iter().map(|p| -p).collect::<Vec<_>>());
    assert_eq!(floats(&mut client, 0x0048, 2).await, [0.0, 7_654.32]);
}

#[tokio::test]
async fn rtu_over_tcp() {
    let device = Sdm::start(world(), SdmOptions::default()).await.unwrap();
    assert!(device.url().starts_with("rtutcp://"));
    let mut stream = TcpStream::connect(device.address()).await.unwrap();
    let mut request = hex("01 04 0006 0006");
    request.extend(crc16(&request).to_le_bytes());
    stream.write_all(&request).await.unwrap();
    let mut answer = [0; 17];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer[..3], [1, 4, 12]);
    assert_eq!(answer[3..7], 10f32.to_be_bytes());
    assert_eq!(crc16(&answer), 0);
}

#[tokio::test]
async fn as_grid_meter_it_tells_the_audit_what_it_has_delivered() {
    let world = world();
    world.with(|house| house.happen(ladekern_sim::physics::Action::Sun(0.0), "night"));
    world.advance(0.1);
    let options = SdmOptions { framing: Framing::Tcp, source: Source::Grid, is_grid_meter: true, ..Default::default() };
    let device = Sdm::start(world.clone(), options).await.unwrap();
    let mut client = Tcp::connect(device.address()).await;
    floats(&mut client, 0x0000, 3).await;
    assert!(world.with(|house| house.audit().episodes().is_empty()), "voltages tell nothing");
    floats(&mut client, 0x0006, 3).await;
    let episodes = world.with(|house| house.audit().episodes());
    assert_eq!((episodes.len(), episodes[0].phases, episodes[0].peak_a), (1, [true, false, false], 40.0));
}
