//! The counters that no driver knows, as their clients see them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is a failed assertion")]

use std::time::Duration;

use ladekern_sim::counters::{Counters, CountersOptions, Moment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[test]
fn values_are_plausible_and_change() {
    let float = |moment: Moment, address: u16| {
        let word = |address| u32::from(moment.register(address).unwrap());
        f64::from(f32::from_bits(word(address) << 16 | word(address + 1)))
    };
    for second in 0..600 {
        let moment = Moment(f64::from(second));
        let powers: f64 = [12, 14, 16].map(|address| float(moment, address)).iter().sum();
        assert!((float(moment, 18) - powers).abs() < 0.1);
        assert!((float(moment, 0) * float(moment, 6) - float(moment, 12)).abs() < 0.1, "U times I");
        assert!((1_000.0..3_100.0).contains(&powers), "{powers}");
        let inverter = moment.inverter();
        let strings: f64 = inverter["strings"].as_array().unwrap().iter().map(|one| one["w"].as_f64().unwrap()).sum();
        assert_eq!(inverter["ac"]["power"].as_f64(), Some(-strings));
        assert!((0.0..=100.0).contains(&moment.battery()["soc"].as_f64().unwrap()));
    }
    assert_ne!(Moment(1.0).inverter(), Moment(9.0).inverter());
    assert_eq!([20, 29, 32, 99, 111].map(|address| Moment(0.0).register(address)), [None; 5]);
    let counter =
        |moment: Moment| u32::from(moment.register(31).unwrap()) << 16 | u32::from(moment.register(30).unwrap());
    assert_eq!((counter(Moment(0.0)), counter(Moment(3600.0))), (123_456, 123_666), "2.1 kW for an hour, in 10 Wh");
}

#[tokio::test]
async fn the_meter_and_the_inverter_answer() {
    let free = ([127, 0, 0, 1], 0).into();
    let options = CountersOptions { modbus: free, http: free, broker: None, interval: Duration::from_secs(1) };
    let counters = Counters::start(options).await.unwrap();
    let mut wire = TcpStream::connect(counters.modbus_url().trim_start_matches("tcp://")).await.unwrap();
    // Function 3, seven registers from 100.
    wire.write_all(&[0, 1, 0, 0, 0, 6, 1, 3, 0, 100, 0, 7]).await.unwrap();
    let mut answer = [0; 9 + 14];
    wire.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer[9..], b"HP-METER 3000\0");
    let mut wire = TcpStream::connect(counters.http_url().trim_start_matches("http://")).await.unwrap();
    wire.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.unwrap();
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["device"]["model"], "SUN-3K");
    counters.stop().await;
}
