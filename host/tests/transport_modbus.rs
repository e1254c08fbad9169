//! Modbus buses over real sockets and a real pseudo terminal, against a server written by hand.
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

use ladekern::config::{EndpointConfig, EndpointUrl, Parity, SerialLine};
use ladekern::site::Clock;
use ladekern::transport::{Block, Modbus, ModbusError, Table, Transports};
use tokio::runtime::Handle;
use tokio::time::Instant;
use transport_support::{Act, Framing, Server, config, holding, modbus, own};

fn transports() -> Transports {
    Transports::new(Handle::current(), Clock::start(), None, "test".to_owned())
}

/// All functions the host speaks, on a unit whose registers hold their own addresses.
async fn speak_every_function(unit: &Arc<dyn Modbus>) {
    let read = |table, address, count| unit.read(Block { table, address, count });
    assert_eq!(read(Table::Coils, 3, 10).await.unwrap(), [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]);
    assert_eq!(read(Table::Discrete, 0, 3).await.unwrap(), [0, 1, 0]);
    assert_eq!(read(Table::Holding, 100, 125).await.unwrap(), own(100, 125));
    assert_eq!(read(Table::Input, 65_535, 1).await.unwrap(), [65_535]);
    unit.write_coil(7, true).await.unwrap();
    unit.write_register(8, 1600).await.unwrap();
    unit.write_registers(9, vec![1, 2, 3]).await.unwrap();
}

#[tokio::test]
async fn every_function_works_over_tcp_and_rtu_over_tcp() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let server = Server::start(framing, |_| Act::Answer).await;
        let transports = transports();
        speak_every_function(&modbus(&transports, &server.config(framing), 17)).await;
        let log = server.log.lock().unwrap().clone();
        let functions: Vec<_> = log.iter().map(|asked| (asked.unit, asked.function)).collect();
        assert_eq!(functions, [1, 2, 3, 4, 5, 6, 16].map(|function| (17, function)));
        assert_eq!((log[4].count, log[5].count, log[6].count), (0xff00, 1600, 3));
    }
}

#[tokio::test]
async fn a_serial_line_works() {
    let (master, mut slave) = tokio_serial::SerialStream::pair().unwrap();
    let path = tokio_serial::SerialPort::name(&slave).unwrap();
    // The host locks the line when it opens it, so ours is swapped for a plain file that only keeps it alive.
    slave.set_exclusive(false).unwrap();
    let _keep = std::fs::File::open(&path).unwrap();
    drop(slave);
    let server = Server { log: Arc::default(), connections: Arc::default(), changed: Arc::default(), port: 0 };
    tokio::spawn(server.clone().serve(master, Framing::Rtu, Arc::new(|_| Act::Answer)));
    let line = SerialLine { path, baud: 19_200, parity: Parity::Even, stop_bits: 1 };
    let transports = transports();
    let cfg = config(EndpointUrl::ModbusRtu(line));
    speak_every_function(&modbus(&transports, &cfg, 1)).await;
    assert!(transports.buses()[0].connected);
    assert_eq!(transports.buses()[0].requests, 7);
}

#[tokio::test]
async fn exceptions_pass_through() {
    let server = Server::start(Framing::Tcp, |asked| Act::Refuse(asked.address as u8)).await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    for code in 1..=11 {
        assert_eq!(unit.read(holding(u16::from(code), 1)).await, Err(ModbusError::Exception(code)));
        assert_eq!(unit.write_register(u16::from(code), 1).await, Err(ModbusError::Exception(code)));
    }
    assert_eq!(transports.buses()[0].errors, 0, "an exception is an answer");
}

#[tokio::test]
async fn two_units_share_one_connection() {
    let server = Server::start(Framing::Tcp, |_| Act::Answer).await;
    let transports = transports();
    let cfg = server.config(Framing::Tcp);
    let (one, two) = (modbus(&transports, &cfg, 1), modbus(&transports, &cfg, 2));
    let (a, b) = tokio::join!(one.read(holding(0, 2)), two.read(holding(5, 2)));
    assert_eq!((a.unwrap(), b.unwrap()), (own(0, 2), own(5, 2)));
    assert_eq!(server.connections.lock().unwrap().len(), 1);
    assert_eq!(transports.buses().len(), 1);
}

#[tokio::test]
async fn adjacent_reads_share_a_request() {
    let server = Server::start(Framing::Tcp, |_| Act::Answer).await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    let blocks = vec![holding(2, 2), holding(0, 2), holding(10, 1), holding(0, 3), holding(0, 0), holding(65_535, 2)];
    let results = unit.read_many(blocks).await;
    assert_eq!(results[0], Ok(own(2, 2)));
    assert_eq!(results[1], Ok(own(0, 2)));
    assert_eq!(results[2], Ok(own(10, 1)));
    assert_eq!(results[3], Ok(own(0, 3)));
    assert!(matches!(&results[4], Err(ModbusError::Limit(_))));
    assert!(matches!(&results[5], Err(ModbusError::Limit(_))));
    assert_eq!(server.asked(), ["1r0+4", "1r10+1"]);
    assert_eq!((transports.buses()[0].requests, transports.buses()[0].merged), (2, 2));
}

#[tokio::test]
async fn a_refused_merged_request_is_asked_in_parts_and_not_tried_again() {
    let refuse_large = |asked: &transport_support::Asked| if asked.count > 2 { Act::Refuse(2) } else { Act::Answer };
    let server = Server::start(Framing::Tcp, refuse_large).await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    let blocks = vec![holding(0, 2), holding(2, 2), holding(4, 3)];
    for _ in 0..2 {
        let results = unit.read_many(blocks.clone()).await;
        assert_eq!(results, [Ok(own(0, 2)), Ok(own(2, 2)), Err(ModbusError::Exception(2))]);
    }
    let asked = server.asked();
    assert_eq!(asked[..4], ["1r0+7", "1r0+2", "1r2+2", "1r4+3"]);
    assert!(!asked[4..].contains(&"1r0+7".to_owned()), "{asked:?}");
}

#[tokio::test]
async fn commands_go_before_waiting_reads() {
    let server = Server::start(Framing::Tcp, |asked| match asked.address {
        0 => Act::AnswerAfter(Duration::from_millis(100)),
        _ => Act::Answer,
    })
    .await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    let busy = tokio::spawn({
        let unit = unit.clone();
        async move { unit.read(holding(0, 1)).await }
    });
    server.until(|server| !server.asked().is_empty()).await;
    let reads = unit.read_many(vec![holding(10, 1), holding(20, 1)]);
    let (reads, command) = tokio::join!(reads, unit.write_register(5, 1));
    command.unwrap();
    assert_eq!(reads, [Ok(vec![10]), Ok(vec![20])]);
    busy.await.unwrap().unwrap();
    assert_eq!(server.asked(), ["1r0+1", "1w5", "1r10+1", "1r20+1"]);
}

#[tokio::test]
async fn an_absent_unit_costs_the_others_one_timeout() {
    let server = Server::start(Framing::Rtu, |asked| if asked.unit == 9 { Act::Ignore } else { Act::Answer }).await;
    let transports = transports();
    let mut cfg = server.config(Framing::Rtu);
    cfg.timeout = Some(Duration::from_millis(300));
    let (absent, present) = (modbus(&transports, &cfg, 9), modbus(&transports, &cfg, 1));
    let hanging = tokio::spawn(async move {
        let commands: Vec<_> = (0..4).map(|n| absent.write_register(n, 1)).collect();
        let mut results = Vec::new();
        for command in commands {
            results.push(command.await);
        }
        results
    });
    server.until(|server| !server.asked().is_empty()).await;
    for n in 0..4 {
        let start = Instant::now();
        assert_eq!(present.read(holding(n * 10, 1)).await, Ok(vec![n * 10]));
        assert!(start.elapsed() < Duration::from_millis(550), "waited {:?}", start.elapsed());
    }
    assert_eq!(hanging.await.unwrap(), vec![Err(ModbusError::Timeout); 4]);
}

#[tokio::test]
async fn the_gap_is_kept() {
    let server = Server::start(Framing::Rtu, |_| Act::Answer).await;
    let transports = transports();
    let mut cfg = server.config(Framing::Rtu);
    // The default of RTU lines.
    cfg.min_gap = None;
    let (one, two) = (modbus(&transports, &cfg, 1), modbus(&transports, &cfg, 2));
    let (a, b) = tokio::join!(
        one.read_many(vec![holding(0, 1), holding(5, 1)]),
        two.read_many(vec![holding(0, 1), holding(5, 1)]),
    );
    assert!(a.iter().chain(&b).all(Result::is_ok));
    let log = server.log.lock().unwrap().clone();
    assert_eq!(log.len(), 4);
    for asked in &log[1..] {
        let gap = asked.at - asked.previous_answer.unwrap();
        assert!(gap >= Duration::from_millis(49), "only {gap:?} of silence");
        assert!(gap < Duration::from_millis(500), "{gap:?} of silence");
    }
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_one() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let server = Server::start(framing, |asked| match asked.address {
            0 => Act::AnswerAfter(Duration::from_millis(300)),
            _ => Act::Answer,
        })
        .await;
        let transports = transports();
        let mut cfg = server.config(framing);
        cfg.timeout = Some(Duration::from_millis(200));
        let unit = modbus(&transports, &cfg, 1);
        assert_eq!(unit.read(holding(0, 2)).await, Err(ModbusError::Timeout));
        // Same unit, same function, same size: only its time tells the late answer from this one.
        assert_eq!(unit.read(holding(100, 2)).await, Ok(own(100, 2)));
        assert_eq!(unit.read(holding(200, 2)).await, Ok(own(200, 2)));
        assert_eq!(transports.buses()[0].errors, 1);
    }
}

#[tokio::test]
async fn a_late_answer_of_one_unit_does_not_disturb_another() {
    let server = Server::start(Framing::Rtu, |asked| match (asked.unit, asked.address) {
        (1, 0) => Act::AnswerAfter(Duration::from_millis(260)),
        _ => Act::Answer,
    })
    .await;
    let transports = transports();
    let mut cfg = server.config(Framing::Rtu);
    cfg.timeout = Some(Duration::from_millis(200));
    let (late, other) = (modbus(&transports, &cfg, 1), modbus(&transports, &cfg, 2));
    let (first, second) = tokio::join!(late.read(holding(0, 2)), async {
        server.until(|server| !server.asked().is_empty()).await;
        other.read(holding(100, 2)).await
    });
    assert_eq!((first, second), (Err(ModbusError::Timeout), Ok(own(100, 2))));
}

#[tokio::test]
async fn a_caller_that_goes_away_is_forgotten_before_and_after_sending() {
    let server = Server::start(Framing::Rtu, |asked| match asked.address {
        0 => Act::AnswerAfter(Duration::from_millis(100)),
        _ => Act::Answer,
    })
    .await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Rtu), 1);
    let in_flight = tokio::spawn({
        let unit = unit.clone();
        async move { unit.read(holding(0, 2)).await }
    });
    let waiting = tokio::spawn({
        let unit = unit.clone();
        async move { unit.read(holding(50, 2)).await }
    });
    server.until(|server| !server.asked().is_empty()).await;
    in_flight.abort();
    waiting.abort();
    assert!(in_flight.await.is_err() && waiting.await.is_err());
    assert_eq!(unit.read(holding(100, 2)).await, Ok(own(100, 2)));
    assert_eq!(server.asked(), ["1r0+2", "1r100+2"]);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_made_anew() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        // Every second request finds a closed line instead of an answer.
        let server = Server::start(framing, move |_| match count.fetch_add(1, Ordering::Relaxed) {
            1 => Act::HangUp,
            _ => Act::Answer,
        })
        .await;
        let transports = transports();
        let unit = modbus(&transports, &server.config(framing), 1);
        assert_eq!(unit.read(holding(0, 1)).await, Ok(vec![0]));
        assert_eq!(unit.read(holding(1, 1)).await, Ok(vec![1]), "a read is asked again on a new connection");
        assert_eq!(server.connections.lock().unwrap().len(), 2);
        assert_eq!(transports.buses()[0].reconnects, 1);
    }
}

#[tokio::test]
async fn a_server_that_is_away_fails_fast_and_is_found_again() {
    let answer: transport_support::Script = Arc::new(|_| Act::Answer);
    let (server, task) = Server::start_at(0, Framing::Tcp, answer.clone()).await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    unit.read(holding(0, 1)).await.unwrap();
    task.abort();
    assert!(task.await.is_err());
    let start = Instant::now();
    for _ in 0..5 {
        let error = unit.read(holding(0, 1)).await.unwrap_err();
        assert!(matches!(&error, ModbusError::Unreachable(text) if text.contains("127.0.0.1")), "{error}");
    }
    assert!(start.elapsed() < Duration::from_millis(500), "failing took {:?}", start.elapsed());
    assert!(!transports.buses()[0].connected);

    let (_server, _task) = Server::start_at(server.port, Framing::Tcp, answer).await;
    let found = async {
        while unit.read(holding(0, 1)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), found).await.expect("not found again");
}

#[tokio::test]
async fn read_only_and_impossible_requests_never_reach_the_wire() {
    let server = Server::start(Framing::Tcp, |_| Act::Answer).await;
    let transports = transports();
    let mut cfg = server.config(Framing::Tcp);
    let unit = modbus(&transports, &cfg, 1);
    assert!(matches!(unit.read(holding(0, 126)).await, Err(ModbusError::Limit(_))));
    assert!(matches!(unit.write_registers(0, vec![0; 124]).await, Err(ModbusError::Limit(_))));
    assert!(matches!(unit.write_registers(65_535, vec![0; 2]).await, Err(ModbusError::Limit(_))));
    cfg.read_only = true;
    let unit = modbus(&transports, &cfg, 1);
    assert!(matches!(unit.write_coil(0, true).await, Err(ModbusError::Denied(_))));
    assert!(matches!(unit.write_register(0, 1).await, Err(ModbusError::Denied(_))));
    assert!(matches!(unit.write_registers(0, vec![1]).await, Err(ModbusError::Denied(_))));
    assert_eq!(unit.read(holding(3, 1)).await, Ok(vec![3]));
    assert_eq!(server.asked(), ["1r3+1"]);
}

#[tokio::test]
async fn too_many_waiting_requests_are_refused() {
    let server = Server::start(Framing::Tcp, |_| Act::AnswerAfter(Duration::from_millis(50))).await;
    let transports = transports();
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    let blocks: Vec<_> = (0..300).map(|n| holding(n * 2, 1)).collect();
    let results = unit.read_many(blocks).await;
    assert!(results.iter().all(|result| matches!(result, Err(ModbusError::Limit(_)))));
    assert_eq!(unit.read(holding(0, 1)).await, Ok(vec![0]));
}

#[test]
fn an_endpoint_can_be_awaited_on_a_runtime_without_sockets_and_timers() {
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let guests = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let server = io.block_on(Server::start(Framing::Tcp, |_| Act::Answer));
    let transports = {
        let _entered = io.enter();
        Transports::new(io.handle().clone(), Clock::start(), None, "test".to_owned())
    };
    let unit = modbus(&transports, &server.config(Framing::Tcp), 1);
    assert_eq!(guests.block_on(unit.read(holding(5, 2))), Ok(own(5, 2)));
    guests.block_on(transports.shutdown());
    assert!(matches!(guests.block_on(unit.read(holding(5, 2))), Err(ModbusError::Unreachable(_))));
}

#[tokio::test]
async fn a_bus_outlives_its_last_user_for_a_moment() {
    let server = Server::start(Framing::Tcp, |_| Act::Answer).await;
    let transports = transports();
    let cfg: EndpointConfig = server.config(Framing::Tcp);
    modbus(&transports, &cfg, 1).read(holding(0, 1)).await.unwrap();
    // The endpoint is gone; the next one finds the connection.
    modbus(&transports, &cfg, 1).read(holding(0, 1)).await.unwrap();
    assert_eq!(server.connections.lock().unwrap().len(), 1);
    server.until(|server| server.connections.lock().unwrap().iter().all(|open| !open)).await;
    assert!(transports.buses().is_empty());
}
