//! The Modbus server against frames written by hand: every function, exceptions, both framings, every fault.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{DEADLINE, Tcp, hex, until};
use ladekern_sim::home::loopback;
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, crc16, serve, serve_stream};
use ladekern_sim::net::Server;
use ladekern_sim::{Control, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn bank() -> Arc<Bank> {
    Arc::new(
        Bank::new()
            .with(Table::Holding, 100, &[1, 2, 3, 4])
            .with(Table::Input, 200, &[0xABCD, 0x1234])
            .with(Table::Coils, 0, &[1, 0, 1, 1, 0, 0, 0, 0, 1])
            .with(Table::Discrete, 7, &[1])
            .on_write(|_, values| if values.contains(&0xDEAD) { Err(3) } else { Ok(()) }),
    )
}

async fn server() -> (Server, Arc<Bank>) {
    let bank = bank();
    let bus = Bus::new().with(1, bank.clone()).with(2, Arc::new(Bank::new().with(Table::Holding, 0, &[77])));
    (serve(loopback(0), Framing::Tcp, bus, Control::default()).await.unwrap(), bank)
}

#[tokio::test]
async fn every_function_over_tcp() {
    let (server, bank) = server().await;
    let mut client = Tcp::connect(server.address()).await;
    assert_eq!(client.ask(1, &hex("01 0000 0009")).await, hex("01 02 0D 01"));
    assert_eq!(client.ask(1, &hex("02 0007 0001")).await, hex("02 01 01"));
    assert_eq!(client.ask(1, &hex("03 0064 0004")).await, hex("03 08 0001 0002 0003 0004"));
    assert_eq!(client.ask(1, &hex("04 00C8 0002")).await, hex("04 04 ABCD 1234"));
    assert_eq!(client.ask(1, &hex("05 0001 FF00")).await, hex("05 0001 FF00"));
    assert_eq!(client.ask(1, &hex("06 0065 0099")).await, hex("06 0065 0099"));
    assert_eq!(client.ask(1, &hex("0F 0002 0003 01 02")).await, hex("0F 0002 0003"));
    assert_eq!(client.ask(1, &hex("10 0066 0002 04 AAAA BBBB")).await, hex("10 0066 0002"));
    assert_eq!(client.ask(1, &hex("03 0064 0004")).await, hex("03 08 0001 0099 AAAA BBBB"));
    assert_eq!(client.ask(1, &hex("01 0000 0005")).await, hex("01 01 0B"));
    assert_eq!(client.ask(2, &hex("03 0000 0001")).await, hex("03 02 004D"));
    assert_eq!(bank.writes(), [(1, vec![1]), (0x65, vec![0x99]), (2, vec![0, 1, 0]), (0x66, vec![0xAAAA, 0xBBBB])]);
    assert_eq!((server.control().requests(), server.control().connections()), (11, 1));
    assert_eq!(bank.requests(), 10);
}

#[tokio::test]
async fn exceptions() {
    let (server, _) = server().await;
    let mut client = Tcp::connect(server.address()).await;
    assert_eq!(client.ask(1, &hex("07")).await, hex("87 01"), "unknown function");
    assert_eq!(client.ask(1, &hex("03 0063 0002")).await, hex("83 02"), "starts outside");
    assert_eq!(client.ask(1, &hex("03 0067 0002")).await, hex("83 02"), "ends outside");
    assert_eq!(client.ask(1, &hex("03 FFFF 0002")).await, hex("83 02"), "beyond the address space");
    assert_eq!(client.ask(1, &hex("03 0064 0000")).await, hex("83 03"), "no registers");
    assert_eq!(client.ask(1, &hex("03 0064 007E")).await, hex("83 03"), "126 registers");
    assert_eq!(client.ask(1, &hex("06 0064 DEAD")).await, hex("86 03"), "refused by the device");
    assert_eq!(client.ask(1, &hex("05 0000 1234")).await, hex("85 03"), "neither on nor off");
    assert_eq!(client.ask(1, &hex("10 0064 0002 02 0000")).await, hex("90 03"), "count and bytes disagree");
    assert_eq!(client.ask(9, &hex("03 0064 0001")).await, hex("83 0B"), "no such unit");
}

#[tokio::test]
async fn rtu_frames_in_pieces_and_with_noise() {
    // The checksum of a well known frame: 01 03 0000 000A has C5 CD on the wire.
    assert_eq!(crc16(&hex("01 03 0000 000A")).to_le_bytes(), [0xC5, 0xCD]);
    let (mut line, far) = tokio::io::duplex(512);
    let bank = bank();
    let control = Control::default();
    tokio::spawn(serve_stream(far, Framing::Rtu, Bus::new().with(1, bank.clone()), control.clone()));
    let with_crc = |text: &str| {
        let mut frame = hex(text);
        frame.extend(crc16(&frame).to_le_bytes());
        frame
    };
    let mut answer = vec![0; 9];
    for piece in with_crc("01 04 00C8 0002").chunks(3) {
        line.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    line.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, with_crc("01 04 04 ABCD 1234"));
    // A wrong checksum, another's address and a broadcast are not answered; the broadcast is obeyed.
    line.write_all(&hex("01 03 0064 0001 0000")).await.unwrap();
    until("noise is read", || control.requests() == 1).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    line.write_all(&with_crc("05 03 0064 0001")).await.unwrap();
    line.write_all(&with_crc("00 10 0064 0001 02 0042")).await.unwrap();
    line.write_all(&with_crc("01 03 0064 0001")).await.unwrap();
    let mut answer = vec![0; 7];
    line.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, with_crc("01 03 02 0042"));
    control.inject(Fault::BadCrc);
    line.write_all(&with_crc("01 03 0064 0001")).await.unwrap();
    line.read_exact(&mut answer).await.unwrap();
    assert_ne!(answer, with_crc("01 03 02 0042"));
    assert_eq!(answer[..5], hex("01 03 02 0042"));
}

#[tokio::test]
async fn rtu_forgets_half_a_frame() {
    let (mut line, far) = tokio::io::duplex(512);
    tokio::spawn(serve_stream(far, Framing::Rtu, Bus::new().with(1, bank()), Control::default()));
    line.write_all(&hex("01 03 00")).await.unwrap();
    let whole = hex("01 03 0064 0001 C5D5");
    let mut answer = vec![0; 7];
    // Sent again and again, as a master does, until the line has been silent long enough for the half frame to go.
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < DEADLINE, "never answered again");
        if tokio::time::timeout(Duration::from_millis(300), line.read_exact(&mut answer)).await.is_ok() {
            break;
        }
        line.write_all(&whole).await.unwrap();
    }
    assert_eq!(answer[..5], hex("01 03 02 0001"));
}

async fn ask_raw(stream: &mut TcpStream) {
    stream.write_all(&hex("0102 0000 0006 01 03 0064 0001")).await.unwrap();
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("closed").unwrap();
    bytes
}

#[tokio::test]
async fn faults_hit_one_request() {
    let (server, _) = server().await;
    let control = server.control().clone();
    let good = hex("0102 0000 0005 01 03 02 0001");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let mut answer = vec![0; good.len()];
    for (fault, expected) in [
        (Fault::WrongTransaction, hex("4423 0000 0005 01 03 02 0001")),
        (Fault::WrongUnit, hex("0102 0000 0005 02 03 02 0001")),
        (Fault::Dribble, good.clone()),
        (Fault::Garbage(hex("00112233445566778899AA")), hex("00112233445566778899AA")),
    ] {
        control.inject(fault);
        ask_raw(&mut stream).await;
        answer.resize(expected.len(), 0);
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, expected);
    }
    control.inject(Fault::Exception(6));
    ask_raw(&mut stream).await;
    answer.resize(9, 0);
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, hex("0102 0000 0003 01 83 06"));
    // Dropped: the next one on the same connection is answered, this one never.
    control.inject(Fault::Drop);
    ask_raw(&mut stream).await;
    ask_raw(&mut stream).await;
    answer.resize(good.len(), 0);
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!((answer.clone(), control.requests()), (good.clone(), 7));
    control.inject(Fault::Cut(9));
    ask_raw(&mut stream).await;
    assert_eq!(rest(&mut stream).await, good[..9]);
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    control.inject(Fault::Close);
    ask_raw(&mut stream).await;
    assert_eq!(rest(&mut stream).await, Vec::<u8>::new());
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    control.inject(Fault::Delay(Duration::from_millis(80)));
    let before = Instant::now();
    ask_raw(&mut stream).await;
    answer.resize(good.len(), 0);
    stream.read_exact(&mut answer).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(80));
    assert_eq!(control.connections(), 3);
}

#[tokio::test]
async fn paused_offline_and_back_on_the_same_port() {
    let (server, _) = server().await;
    let control = server.control().clone();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    control.pause();
    ask_raw(&mut stream).await;
    until("it is read", || control.requests() == 1).await;
    control.resume();
    ask_raw(&mut stream).await;
    let mut answer = vec![0; 11];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, hex("0102 0000 0005 01 03 02 0001"), "only the second is answered");
    control.offline();
    assert_eq!(rest(&mut stream).await, Vec::<u8>::new());
    until("open connections are counted down", || control.open_connections() == 0).await;
    let start = Instant::now();
    while TcpStream::connect(server.address()).await.is_ok() {
        assert!(start.elapsed() < DEADLINE, "still accepts");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    control.resume();
    let start = Instant::now();
    let mut stream = loop {
        if let Ok(stream) = TcpStream::connect(server.address()).await {
            break stream;
        }
        assert!(start.elapsed() < DEADLINE, "does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    ask_raw(&mut stream).await;
    stream.read_exact(&mut answer).await.unwrap();
    let address = server.address();
    server.stop().await;
    tokio::net::TcpListener::bind(address).await.expect("the port is free");
}
