//! The timing that a type of devices gives to its wire: kept on real sockets, beaten by the device's own entry.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod transport_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ladekern::config::{EndpointConfig, EndpointUrl, Timing};
use ladekern::site::Clock;
use ladekern::transport::{Endpoint, Http, HttpMethod, HttpRequest, ModbusError, Transports};
use tokio::runtime::Handle;
use tokio::time::Instant;
use transport_support::{Act, Framing, Server, config, holding, modbus, own};

const MS: Duration = Duration::from_millis(1);

fn transports() -> Transports {
    Transports::new(Handle::current(), Clock::start(), None, "test".to_owned())
}

/// A binding that says nothing itself.
fn silent(server: &Server, framing: Framing, timing: Timing) -> EndpointConfig {
    EndpointConfig { timeout: None, min_gap: None, timing, ..server.config(framing) }
}

/// Silences before the second, third, … request.
async fn silences(timing: Timing, min_gap: Option<Duration>) -> Vec<Duration> {
    let server = Server::start(Framing::Rtu, |_| Act::Answer).await;
    let transports = transports();
    let cfg = EndpointConfig { min_gap, ..silent(&server, Framing::Rtu, timing) };
    let (one, two) = (modbus(&transports, &cfg, 1), modbus(&transports, &cfg, 2));
    one.read(holding(0, 1)).await.unwrap();
    one.read(holding(5, 1)).await.unwrap();
    two.read(holding(0, 1)).await.unwrap();
    let log = server.log.lock().unwrap().clone();
    log[1..].iter().map(|asked| asked.at - asked.previous_answer.unwrap()).collect()
}

#[tokio::test]
async fn the_silence_of_a_line_lies_between_units_or_between_all_requests() {
    let timing = |gap_between_units| Timing { gap: Some(200 * MS), gap_between_units, ..Timing::default() };
    let between_units = silences(timing(true), None).await;
    assert!(between_units[0] >= 3 * MS && between_units[0] < 150 * MS, "one unit: {between_units:?}");
    assert!(between_units[1] >= 199 * MS, "another unit: {between_units:?}");
    let always = silences(timing(false), None).await;
    assert!(always.iter().all(|silence| *silence >= 199 * MS), "{always:?}");
    let own = silences(timing(false), Some(10 * MS)).await;
    assert!(own.iter().all(|silence| *silence >= 9 * MS && *silence < 150 * MS), "the entry's own: {own:?}");
}

#[tokio::test]
async fn a_read_without_an_answer_is_made_again_as_often_as_said() {
    for (retries, expected) in [(0, 1), (1, 2), (2, 3)] {
        let server = Server::start(Framing::Rtu, |_| Act::Ignore).await;
        let transports = transports();
        let timing = Timing { retries, timeout: Some(50 * MS), ..Timing::default() };
        let unit = modbus(&transports, &silent(&server, Framing::Rtu, timing), 1);
        assert_eq!(unit.read(holding(0, 1)).await, Err(ModbusError::Timeout));
        assert_eq!(server.asked().len(), expected, "{retries} retries");
        assert_eq!(unit.write_register(0, 1).await, Err(ModbusError::Timeout));
        assert_eq!(server.asked().len(), expected + 1, "a write is never made twice");
    }
}

#[tokio::test]
async fn only_what_failed_is_read_again() {
    let calls = AtomicUsize::new(0);
    // Of two blocks the second one is lost twice.
    let server = Server::start(Framing::Rtu, move |asked| match asked.address {
        10 if calls.fetch_add(1, Ordering::Relaxed) < 2 => Act::Ignore,
        20 => Act::Refuse(2),
        _ => Act::Answer,
    })
    .await;
    let transports = transports();
    let timing = Timing { retries: 2, timeout: Some(50 * MS), gap: Some(MS), ..Timing::default() };
    let unit = modbus(&transports, &silent(&server, Framing::Rtu, timing), 1);
    let results = unit.read_many(vec![holding(0, 1), holding(10, 2), holding(20, 1)]).await;
    assert_eq!(results, [Ok(own(0, 1)), Ok(own(10, 2)), Err(ModbusError::Exception(2))]);
    assert_eq!(server.asked(), ["1r0+1", "1r10+2", "1r20+1", "1r10+2", "1r10+2"]);
}

#[tokio::test]
async fn the_answer_may_take_as_long_as_the_entry_says_else_as_the_type_says() {
    let server = Server::start(Framing::Tcp, |_| Act::AnswerAfter(300 * MS)).await;
    let transports = transports();
    let timing = Timing { timeout: Some(100 * MS), ..Timing::default() };
    let cfg = silent(&server, Framing::Tcp, timing);
    assert_eq!(modbus(&transports, &cfg, 1).read(holding(0, 1)).await, Err(ModbusError::Timeout));
    let patient = EndpointConfig { timeout: Some(2_000 * MS), ..cfg };
    assert_eq!(modbus(&transports, &patient, 1).read(holding(0, 1)).await, Ok(vec![0]));
}

#[tokio::test]
async fn a_connection_that_does_not_come_is_given_up_in_time() {
    // Whose queue of connections is full answers nothing.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(100 * MS, tokio::net::TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let url = EndpointUrl::ModbusTcp { host: "127.0.0.1".into(), port: Some(address.port()) };
    let timing = Timing { connect_timeout: Some(150 * MS), ..Timing::default() };
    let transports = transports();
    let unit = modbus(&transports, &EndpointConfig { timing, ..config(url) }, 1);
    let start = Instant::now();
    let error = unit.read(holding(0, 1)).await.unwrap_err();
    assert!(matches!(&error, ModbusError::Unreachable(text) if text.contains("within 150 ms")), "{error}");
    assert!(start.elapsed() < 900 * MS, "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_first_request_waits_behind_the_connection() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let server = Server::start(framing, |_| Act::Answer).await;
        let transports = transports();
        let timing = Timing { delay_after_connect: 250 * MS, gap: Some(MS), ..Timing::default() };
        let unit = modbus(&transports, &silent(&server, framing, timing), 1);
        let start = Instant::now();
        unit.read(holding(0, 1)).await.unwrap();
        unit.read(holding(5, 1)).await.unwrap();
        let log = server.log.lock().unwrap().clone();
        assert!(log[0].at - start >= 249 * MS, "{:?}", log[0].at - start);
        assert!(log[1].at - log[0].at < 150 * MS, "only the first one waits");
    }
}

#[tokio::test]
async fn the_bus_merges_no_more_than_a_device_takes_at_once() {
    let server = Server::start(Framing::Tcp, |_| Act::Answer).await;
    let transports = transports();
    let alone = Timing { max_registers: Some(1), ..Timing::default() };
    let unit = modbus(&transports, &silent(&server, Framing::Tcp, alone), 1);
    assert!(unit.read_many(vec![holding(0, 2), holding(2, 2)]).await.iter().all(Result::is_ok));
    let four = Timing { max_registers: Some(4), ..Timing::default() };
    let unit = modbus(&transports, &silent(&server, Framing::Tcp, four), 2);
    assert!(unit.read_many(vec![holding(0, 2), holding(2, 2), holding(4, 2)]).await.iter().all(Result::is_ok));
    assert_eq!(server.asked(), ["1r0+2", "1r2+2", "2r0+4", "2r4+2"]);
}

fn http(transports: &Transports, url: String, timing: Timing) -> Arc<dyn Http> {
    let cfg = EndpointConfig { timing, ..config(EndpointUrl::Http(url)) };
    match transports.endpoint(&"M1".parse().unwrap(), "", &cfg, None, None).unwrap() {
        Endpoint::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

fn get() -> HttpRequest {
    HttpRequest { method: HttpMethod::Get, path: "/".into(), headers: Vec::new(), body: Vec::new() }
}

#[tokio::test]
async fn an_http_connection_that_does_not_come_is_given_up_in_time() {
    // Whose queue of connections is full answers nothing.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(100 * MS, tokio::net::TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    let timing = Timing { connect_timeout: Some(150 * MS), ..Timing::default() };
    let start = Instant::now();
    let failed = http(&transports(), format!("http://{address}"), timing).send(get(), 100).await;
    assert!(failed.is_err() && start.elapsed() < 900 * MS, "{failed:?} after {:?}", start.elapsed());
}

#[tokio::test]
async fn the_first_http_request_of_a_connection_waits_and_the_next_does_not() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let accepted = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..2 {
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            waits.push(accepted.elapsed());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
        }
        waits
    });
    let timing = Timing { delay_after_connect: 300 * MS, ..Timing::default() };
    let http = http(&transports(), url, timing);
    let asked = Instant::now();
    http.send(get(), 100).await.unwrap();
    let first = asked.elapsed();
    let asked = Instant::now();
    http.send(get(), 100).await.unwrap();
    let second = asked.elapsed();
    let waits = served.await.unwrap();
    assert!(waits[0] >= 290 * MS && first >= 300 * MS, "{waits:?}");
    assert!(second < first, "the same connection: {first:?}, then {second:?}");
}
