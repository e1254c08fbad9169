//! How decoders get their registers, messages and bodies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::scripted::{Bench, Log, Scripted, device};
use crate::config::{EndpointConfig, EndpointUrl, Timing};
use crate::device::guest::Opened;
use crate::runtime::{DriverError, Fetch, PlannedBlock, Subscription, Wants};
use crate::site::{Health, Moment, Outcome};
use crate::transport::{
    Block, BoxFuture, Endpoint, Http, HttpError, HttpRequest, HttpResponse, Inbox, Message, Modbus, ModbusError, Mqtt,
    MqttError, Qos, Table,
};

pub fn slot(url: EndpointUrl) -> EndpointConfig {
    EndpointConfig {
        url,
        unit: None,
        timeout: Some(Duration::from_secs(1)),
        min_gap: None,
        read_only: false,
        topic_prefix: String::new(),
        user: None,
        password_file: None,
        timing: Timing::default(),
    }
}

/// Answers each block by its address: 100 and up with an exception, 200 and up not at all.
struct Registers;

impl Modbus for Registers {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        Box::pin(async move {
            match block.address {
                0..100 => Ok(vec![block.address; block.count.into()]),
                100..200 => Err(ModbusError::Exception(2)),
                _ => Err(ModbusError::Timeout),
            }
        })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        Box::pin(async move {
            let mut answers = Vec::new();
            for block in blocks {
                answers.push(self.read(block).await);
            }
            answers
        })
    }

    fn write_coil(&self, _: u16, _: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        Box::pin(async { Err(ModbusError::Denied("a decoder never writes".into())) })
    }

    fn write_register(&self, _: u16, _: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        self.write_coil(0, false)
    }

    fn write_registers(&self, _: u16, _: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        self.write_coil(0, false)
    }
}

fn register_decoder(blocks: &[(u16, bool)]) -> Scripted {
    let plan: Vec<PlannedBlock> = blocks
        .iter()
        .map(|(address, optional)| PlannedBlock {
            endpoint: "main".into(),
            block: Block { table: Table::Input, address: *address, count: 2 },
            optional: *optional,
        })
        .collect();
    Scripted::new("1", &Log::default())
        .opening(move |_| Ok(Opened::Registers(plan.clone())))
        .with(|s| s.endpoints.extend([("main".to_owned(), Endpoint::Modbus(Arc::new(Registers)))]))
}

#[tokio::test(start_paused = true)]
async fn an_optional_block_that_is_refused_arrives_as_none() {
    let bench = Bench::run(register_decoder(&[(7, false), (100, true), (9, false)]), device());
    bench.settle().await;
    assert_eq!(bench.calls("decode"), ["1 decode [Some([7, 7]), None, Some([9, 9])]"]);
    assert_eq!(bench.status().health, Health::Running);
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_unanswered_block_fails_the_poll_with_its_address() {
    for (address, optional, says) in [
        (
            100,
            false,
            "reading 2 input from 100 on endpoint \"main\": the device answered with Modbus exception 2 (no such register)",
        ),
        (200, true, "reading 2 input from 200 on endpoint \"main\": no answer in time"),
    ] {
        let bench = Bench::run(register_decoder(&[(7, false), (address, optional)]), device());
        bench.settle().await;
        assert_eq!(bench.status().health, Health::Offline(says.into()));
        assert_eq!(bench.calls("decode"), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_for_an_unbound_slot_is_a_wrong_configuration() {
    let bench = Bench::run(register_decoder(&[(7, false)]).with(|s| s.endpoints.clear()), device());
    bench.settle().await;
    assert!(matches!(&bench.status().health, Health::Misconfigured(why) if why.contains("\"main\"")));
}

/// A broker that only notes who subscribed.
#[derive(Clone, Default)]
pub struct Topics(pub Arc<Mutex<Vec<(String, Inbox)>>>);

impl Topics {
    pub fn send(&self, topic: &str, payload: &str, retained: bool, at: Moment) {
        for (_, inbox) in self.0.lock().unwrap().iter() {
            inbox.push(Message {
                endpoint: "main".into(),
                topic: topic.into(),
                payload: payload.to_owned().into(),
                retained,
                at,
                reply_to: None,
            });
        }
    }
}

impl Mqtt for Topics {
    fn subscribe(&self, filter: String, _: Qos, inbox: Inbox) -> BoxFuture<'_, Result<(), MqttError>> {
        self.0.lock().unwrap().push((filter, inbox));
        Box::pin(async { Ok(()) })
    }

    fn publish(&self, _: String, _: bytes::Bytes, _: Qos, _: bool) -> BoxFuture<'_, Result<(), MqttError>> {
        Box::pin(async { Err(MqttError::Denied("a decoder never publishes".into())) })
    }
}

/// Decodes a payload that is a number into `power.total`, `-` into nothing and anything else into an error.
pub fn payload_decoder(version: &'static str, log: &Log, topics: &Topics) -> Scripted {
    let wants = Wants {
        subscriptions: vec![Subscription { endpoint: "main".into(), filter: "SENSOR".into() }],
        fetches: vec![],
    };
    Scripted::new(version, log)
        .opening(move |_| Ok(Opened::Payload(wants.clone())))
        .decoding(|message| {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            if text == "-" {
                return Ok(None);
            }
            let watts: f64 = text.parse().map_err(|_| DriverError::Protocol(format!("{text} is no number")))?;
            Ok(Some(Outcome { readings: vec![("power.total".into(), Some(watts))], ..Outcome::default() }))
        })
        .with(|s| {
            s.traits.handover = false;
            s.endpoints.extend([("main".to_owned(), Endpoint::Mqtt(Arc::new(topics.clone())))]);
        })
}

#[tokio::test(start_paused = true)]
async fn messages_are_decoded_with_their_own_age_and_a_retained_one_is_never_fresh() {
    let topics = Topics::default();
    let bench = Bench::run(payload_decoder("1", &Log::default(), &topics), device());
    bench.settle().await;
    assert_eq!(topics.0.lock().unwrap()[0].0, "SENSOR");
    assert_eq!((bench.status().health, bench.status().stale_after), (Health::Running, Duration::from_secs(60)));
    topics.send("SENSOR", "11", true, bench.clock.now());
    bench.settle().await;
    let status = bench.status();
    assert_eq!(status.values.get("power.total").map(|m| (m.value, m.at)), Some((11.0, Moment(0))));
    assert!(status.com_err(bench.clock.now()));
    for _ in 0..3 {
        bench.pass(5_000).await;
        topics.send("SENSOR", "12", false, bench.clock.now());
    }
    bench.settle().await;
    let status = bench.status();
    assert_eq!(status.values.get("power.total").map(|m| (m.value, m.at)), Some((12.0, Moment(16_000))));
    assert_eq!(status.stale_after, Duration::from_secs(15), "three times the interval at which it is fed");
    bench.pass(15_001).await;
    assert!(bench.status().com_err(bench.clock.now()), "silent for longer than that");
}

#[tokio::test(start_paused = true)]
async fn a_bad_message_is_counted_and_takes_nothing_away() {
    let topics = Topics::default();
    let bench = Bench::run(payload_decoder("1", &Log::default(), &topics), device());
    bench.settle().await;
    for payload in ["5", "x", "-"] {
        topics.send("SENSOR", payload, false, bench.clock.now());
        bench.settle().await;
    }
    let status = bench.status();
    assert_eq!((status.errors, status.successes, status.health), (1, 1, Health::Running));
    assert!(status.last_error.contains("x is no number"));
    assert_eq!(status.values.get("power.total").map(|m| m.value), Some(5.0));
}

/// Serves bodies by path.
struct Pages(BTreeMap<&'static str, Result<(u16, &'static str), HttpError>>);

impl Http for Pages {
    fn send(&self, request: HttpRequest, _: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        let page = self.0[request.path.as_str()].clone();
        Box::pin(async { page.map(|(status, body)| HttpResponse { status, headers: vec![], body: body.into() }) })
    }
}

#[tokio::test(start_paused = true)]
async fn each_path_is_fetched_at_each_poll_and_one_that_fails_does_not_hide_the_others() {
    let wants = Wants {
        subscriptions: vec![],
        fetches: ["/a", "/b", "/c"].map(|path| Fetch { endpoint: "web".into(), path: path.into() }).into(),
    };
    let pages =
        Pages(BTreeMap::from([("/a", Ok((200, "-"))), ("/b", Ok((404, "no such page"))), ("/c", Ok((200, "42")))]));
    let plugin = payload_decoder("1", &Log::default(), &Topics::default())
        .opening(move |_| Ok(Opened::Payload(wants.clone())))
        .with(|s| s.endpoints.extend([("web".to_owned(), Endpoint::Http(Arc::new(pages)))]));
    let bench = Bench::run(plugin, device());
    bench.settle().await;
    assert_eq!(bench.calls("decode"), ["1 decode /a=-", "1 decode /c=42"]);
    let status = bench.status();
    assert_eq!(status.health, Health::Offline("GET /b on endpoint \"web\" answered with status 404".into()));
    assert_eq!(status.values.get("power.total").map(|m| m.value), Some(42.0));
    assert_eq!(status.stale_after, Duration::from_secs(10), "fetched, not fed");
}
