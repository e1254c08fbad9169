//! The Power Brain against the numbers of its fact sheet, read with frames written by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod common;

use std::sync::Arc;

use common::{Tcp, hex};
use ladekern_sim::World;
use ladekern_sim::physics::{Car, CarOptions, Evse, Failsafe, House, HouseOptions, Script};
use ladekern_sim::power_brain::{PowerBrain, PowerBrainOptions, evse_options};

async fn start(options: PowerBrainOptions) -> (Arc<World>, PowerBrain, Tcp) {
    let car = CarOptions { phases: 2, reaction_s: 0.5, ..Default::default() };
    let evse = Evse::new(evse_options("E1", &[0, 1, 2]), Car::new(car), true);
    let world = World::new(House::new(HouseOptions::default(), vec![evse], Script::new()));
    let device = PowerBrain::start(world.clone(), 0, options).await.unwrap();
    let client = Tcp::connect(device.address()).await;
    (world, device, client)
}

async fn one(client: &mut Tcp, at: u16) -> u16 {
    client.read(1, 3, at, 1).await.unwrap()[0]
}

#[tokio::test]
async fn identification() {
    let (_world, _device, mut client) = start(PowerBrainOptions::default()).await;
    assert_eq!(client.read(1, 3, 8000, 4).await.unwrap(), [0x0000, 0xCF05, 1, 0x0100]);
    let name: Vec<u8> = client.read(1, 3, 8016, 16).await.unwrap().iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(String::from_utf8(name).unwrap().trim_end_matches('\0'), "cFos Power Brain");
    assert_eq!(one(&mut client, 8040).await, 1);
    assert_eq!(one(&mut client, 8112).await, 1);
    assert_eq!(one(&mut client, 8113).await & 0x0100, 0x0100);
}

#[tokio::test]
async fn charges_as_told_and_the_attached_meter_shows_it() {
    let (world, device, mut client) = start(PowerBrainOptions::default()).await;
    assert_eq!(client.read(1, 3, 8092, 3).await.unwrap(), [1, 60, 0], "vehicle, 6 A, not enabled");
    // The very bytes of the command table: 10.4 A, enable.
    assert_eq!(client.ask(1, &hex("06 1F9D 0068")).await, hex("06 1F9D 0068"));
    assert_eq!(client.ask(1, &hex("06 1F9E 0001")).await, hex("06 1F9E 0001"));
    world.advance(20.0);
    assert_eq!(client.read(1, 3, 8092, 4).await.unwrap(), [2, 104, 1, 104]);
    assert_eq!(
        client.read(1, 3, 8064, 6).await.unwrap(),
        [0, 104, 0, 104, 0, 0],
        "two phases in 0.1 A, high word first"
    );
    let watts = client.read(1, 3, 8062, 2).await.unwrap();
    assert!(watts[0] == 0 && (4700..4900).contains(&watts[1]), "{watts:?}");
    let wh = client.read(1, 3, 8058, 4).await.unwrap();
    assert!(wh[..3] == [0, 0, 0] && (15..30).contains(&wh[3]), "{wh:?}");
    assert_eq!(client.read(1, 3, 8057, 13).await.unwrap().len(), 13, "one block as in the sample");
    assert_eq!(client.ask(1, &hex("06 1F9E 0000")).await, hex("06 1F9E 0000"));
    world.advance(5.0);
    assert_eq!(client.read(1, 3, 8092, 3).await.unwrap(), [1, 104, 0], "the limit stays stored");
    world.with(|house| house.evse_mut(0).unwrap().unplug());
    assert_eq!(one(&mut client, 8092).await, 0);
    world.with(|house| house.evse_mut(0).unwrap().set_fault(true));
    assert_eq!(one(&mut client, 8092).await, 5);
    assert_eq!(device.writes(), [(8093, 104), (8094, 1), (8094, 0)]);
    assert_eq!(device.flash_writes(), 0);
    assert_eq!(device.control().connections(), 1);
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed() {
    let (_world, device, mut client) = start(PowerBrainOptions::default()).await;
    for (at, count) in [(7999, 1), (8031, 2), (8048, 1), (8069, 2), (8089, 1), (8113, 2), (9000, 10)] {
        assert_eq!(client.read(1, 3, at, count).await, Err(2), "{at}");
    }
    assert_eq!(client.read(1, 4, 8092, 1).await, Err(1), "no input registers");
    assert_eq!(client.read(2, 3, 8092, 1).await, Err(0x0B), "another unit");
    for (at, value) in [(8093, 0), (8093, 59), (8093, 161), (8094, 2), (8087, 2), (8080, 30)] {
        assert_eq!(client.write(1, at, value).await, Err(3), "{at} = {value}");
    }
    assert_eq!(client.write(1, 8092, 1).await, Err(2), "the state is read only");
    // A write of several registers is refused as a whole.
    assert_eq!(client.ask(1, &hex("10 1F9D 0002 04 0064 0007")).await, hex("90 03"));
    assert_eq!(one(&mut client, 8093).await, 60);
    assert_eq!(client.ask(1, &hex("10 1F9D 0002 04 0064 0001")).await, hex("10 1F9D 0002"));
    assert_eq!(client.read(1, 3, 8093, 2).await.unwrap(), [100, 1]);
    assert_eq!(device.flash_writes(), 0);
    let bare = PowerBrainOptions { has_meter: false, phase_switch: false, ..Default::default() };
    let (_world, _device, mut client) = start(bare).await;
    assert_eq!(client.read(1, 3, 8058, 4).await, Err(2));
    assert_eq!(client.read(1, 3, 8112, 2).await.unwrap(), [0, 0]);
    assert_eq!(client.write(1, 8087, 1).await, Err(3));
}

#[tokio::test]
async fn phases_and_pilot_interruption() {
    let (world, _device, mut client) = start(PowerBrainOptions::default()).await;
    client.write(1, 8094, 1).await.unwrap();
    world.advance(10.0);
    client.write(1, 8087, 1).await.unwrap();
    world.advance(10.0);
    assert_eq!(client.read(1, 3, 8064, 6).await.unwrap(), [0, 60, 0, 0, 0, 0]);
    assert_eq!(one(&mut client, 8087).await, 1);
    client.write(1, 8086, 5).await.unwrap();
    world.advance(2.0);
    assert_eq!(one(&mut client, 8086).await, 3, "seconds left");
    assert_eq!(one(&mut client, 8092).await, 2, "the state is frozen meanwhile");
    assert_eq!(client.read(1, 3, 8064, 2).await.unwrap(), [0, 0]);
    world.advance(10.0);
    assert_eq!((one(&mut client, 8086).await, one(&mut client, 8092).await), (0, 2));
}

#[tokio::test]
async fn failsafe_acts_on_silence_and_ends_with_the_next_request() {
    let (world, device, mut client) = start(PowerBrainOptions::default()).await;
    assert_eq!(client.read(1, 3, 8083, 3).await.unwrap(), [0, 300, 60], "300 s and 6 A from the factory");
    client.write(1, 8093, 160).await.unwrap();
    client.write(1, 8094, 1).await.unwrap();
    client.write(1, 8084, 30).await.unwrap();
    assert_eq!(device.flash_writes(), 1);
    assert_eq!(world.with(|house| house.evses()[0].failsafe), Failsafe { after_s: 30.0, limit_a: 6.0 });
    world.advance(29.0);
    let offer = || world.with(|house| house.evses()[0].offer());
    assert_eq!(offer(), 16.0);
    world.advance(2.0);
    assert_eq!(offer(), 6.0);
    assert_eq!(one(&mut client, 8093).await, 160);
    assert_eq!(offer(), 16.0);
    client.write(1, 8085, 0).await.unwrap();
    world.advance(31.0);
    assert_eq!(offer(), 0.0);
}

#[tokio::test]
async fn cards_and_the_forgetful_counter() {
    let (world, device, mut client) = start(PowerBrainOptions::default()).await;
    assert_eq!(client.read(1, 3, 8096, 15).await.unwrap(), [0; 15]);
    device.tap_rfid("04A2B3C4D5E680");
    let tag: Vec<u8> = client.read(1, 3, 8096, 15).await.unwrap().iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(tag, [b"04A2B3C4D5E680".to_vec(), vec![0; 16]].concat());
    assert_eq!(one(&mut client, 8111).await, 1);
    client.write(1, 8094, 1).await.unwrap();
    world.advance(60.0);
    device.forget_energy(1);
    assert_eq!(client.read(1, 3, 8058, 4).await.unwrap(), [0; 4]);
    assert!(client.read(1, 3, 8058, 4).await.unwrap()[3] > 0);
}
