//! Outputs against a server on a socket, a manager that remembers what it is asked, and cycles made by hand.

mod edges;

use std::path::PathBuf;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::*;
use crate::control::PlanView;
use crate::site::{Board, Clock, Health, Outcome, StatusSender};
use crate::variables::Variables;

/// A deadline for what happens at once on an idle machine.
const SOON: Duration = Duration::from_secs(20);

/// What reached somebody: `POST /x HTTP/1.1` and so on up to the body, or a query and a body.
type Seen = mpsc::UnboundedReceiver<String>;

async fn next(seen: &mut Seen) -> String {
    tokio::time::timeout(SOON, seen.recv()).await.expect("nothing comes").unwrap()
}

/// Answers every request with this status; `None`: never.
async fn server(status: Option<u16>) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, status, sender.clone()));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, status: Option<u16>, seen: mpsc::UnboundedSender<String>) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        // Nobody waits for it any more where the test is over.
        let _ = seen.send(std::mem::take(&mut text));
        let Some(status) = status else { return std::future::pending().await };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// The first line without the version, and the body.
fn short(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
    format!("{line} {body}").trim_end().to_owned()
}

/// Remembers each call, refuses as long as it is told to, and answers nobody as long as it is told not to.
struct Remember {
    calls: mpsc::UnboundedSender<String>,
    refuse: Mutex<bool>,
    hang: watch::Sender<bool>,
}

impl Manager for Remember {
    fn call<'a>(&'a self, query: &'a str, body: &'a str) -> BoxFuture<'a, Result<(), String>> {
        self.calls.send(format!("{query} {body}").trim_end().to_owned()).unwrap();
        let refuse = *self.refuse.lock().unwrap();
        let mut hang = self.hang.subscribe();
        Box::pin(async move {
            hang.wait_for(|hang| !hang).await.unwrap();
            if refuse { Err("not now".into()) } else { Ok(()) }
        })
    }
}

/// The definitions in force by type.
type Files = Arc<Mutex<BTreeMap<String, Arc<DefinitionFile>>>>;

struct Rig {
    board: Board,
    devices: Vec<StatusSender>,
    clock: Clock,
    config: watch::Sender<Arc<Config>>,
    files: Files,
    plan: watch::Sender<Arc<PlanView>>,
    failures: Failures,
    manager: Arc<Remember>,
    calls: Seen,
    outputs: Outputs,
}

fn config(text: &str) -> Arc<Config> {
    Arc::new(crate::config::parse("f", text, &[]).unwrap_or_else(|errors| panic!("{errors}")))
}

fn device(id: &str, kind: &str, address: &str) -> String {
    format!("[[device]]\nid = \"{id}\"\ntype = \"{kind}\"\naddress = \"http://{address}\"\n")
}

/// A definition with a variable and this.
fn file(kind: &str, outputs: &str) -> Arc<DefinitionFile> {
    let text = format!(
        r#"{{"dev_type":"{kind}","rtype":1,"power_w":{{"address":"/p","query":"p","type":"float"}},{outputs}}}"#
    );
    let parsed = ladekern_definition::parse("d.json", &text).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    let path = PathBuf::from("d.json");
    Arc::new(DefinitionFile { definition: parsed.definition, path, fingerprint: outputs.to_owned() })
}

impl Rig {
    /// `definitions`: types and what stands in them beside a variable.
    fn new(text: &str, definitions: &[(&str, &str)]) -> Self {
        let files = definitions.iter().map(|(kind, outputs)| ((*kind).to_owned(), file(kind, outputs)));
        let files: Files = Arc::new(Mutex::new(files.collect()));
        let (board, clock) = (Board::default(), Clock::start());
        let config = watch::Sender::new(config(text));
        let devices = config.borrow().devices.iter().map(|device| board.register(device.id.clone())).collect();
        let (calls, seen) = mpsc::unbounded_channel();
        let manager = Arc::new(Remember { calls, refuse: Mutex::default(), hang: watch::Sender::default() });
        let (plan, failures) = (watch::Sender::default(), Failures::default());
        let world = World::new(board.clone(), config.subscribe(), clock);
        let cycles = Variables::new(world.clone()).follow(plan.subscribe());
        let parts = OutputParts {
            world,
            config: config.subscribe(),
            definitions: Arc::new({
                let files = Arc::clone(&files);
                move |kind| files.lock().unwrap().get(kind).cloned()
            }),
            transports: Transports::new(tokio::runtime::Handle::current(), clock, None, "test".into()),
            manager: manager.clone(),
            failures: failures.clone(),
        };
        let outputs = spawn(parts, cycles);
        Self { board, devices, clock, config, files, plan, failures, manager, calls: seen, outputs }
    }

    /// `M<n>` measures this.
    fn measure(&self, n: usize, watts: f64) {
        let outcome = Outcome { readings: vec![("power.total".into(), Some(watts))], ..Outcome::default() };
        self.devices[n - 1].update(|status| {
            status.health = Health::Running;
            status.stale_after = Duration::from_secs(3_600);
            status.values.merge(outcome, self.clock.now());
        });
    }

    fn cycle(&self) {
        self.plan.send_replace(Arc::default());
    }

    fn failed(&self, id: &str) -> Option<u64> {
        self.failures.count(&id.parse().unwrap())
    }

    /// Whatever is under way has come as far as it can when this returns; for tests without sockets.
    async fn settle(&self) {
        // Each time every task that can go on does. The longest way is that of 32 outputs, one after the other.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// A cycle in which this is measured.
    fn measured(&self, watts: f64) {
        self.measure(1, watts);
        self.cycle();
    }
}

#[tokio::test]
async fn what_has_changed_is_sent_once() {
    let (address, mut seen) = server(Some(200)).await;
    let outputs = r#""outputs":[
        {"address":"/set?w=${power_w}&at=${address}&id=${id}"},
        {"address":"PUT /mode","body":"{\"on\":${power_w > 100}}"},
        {"address":"/never?x=${missing}"},
        {"address":"${if power_w > 250`/high`}"},
        {"address":"/end?w=${power_w}"}]"#;
    let rig = Rig::new(&device("M1", "relay", &address), &[("relay", outputs)]);
    rig.measured(200.0);
    assert_eq!(short(&next(&mut seen).await), format!("GET /set?w=200&at={address}&id=1"));
    let put = next(&mut seen).await;
    assert_eq!(short(&put), "PUT /mode {\"on\":1}");
    assert!(put.to_lowercase().contains("content-type: application/json"), "{put}");
    assert_eq!(short(&next(&mut seen).await), "GET /end?w=200");
    // Cycles in which nothing changes; then one request changes, and what came before it would be seen before it.
    rig.cycle();
    tokio::task::yield_now().await;
    rig.measured(200.0);
    // What was away is sent when it is back, though it be the same.
    for (watts, high) in [(300.5, true), (150.0, false), (300.5, true)] {
        rig.measured(watts);
        assert_eq!(short(&next(&mut seen).await), format!("GET /set?w={watts}&at={address}&id=1"));
        if high {
            assert_eq!(short(&next(&mut seen).await), "GET /high");
        }
        assert_eq!(short(&next(&mut seen).await), format!("GET /end?w={watts}"));
    }
    drop(rig.board);
}

#[tokio::test]
async fn an_output_sees_the_variables_of_its_own_cycle() {
    let (address, mut seen) = server(Some(200)).await;
    let text = format!("[variables]\ntwice = \"M1.power_w * 2\"\n{}", device("M1", "relay", &address));
    let rig = Rig::new(&text, &[("relay", r#""outputs":[{"address":"/set?w=${power_w}&twice=${CM.twice}"}]"#)]);
    for watts in 1..=5 {
        rig.measured(f64::from(watts));
        assert_eq!(short(&next(&mut seen).await), format!("GET /set?w={watts}&twice={}", watts * 2));
    }
    // A changed formula is not mixed with the value of the one before.
    rig.config.send_replace(config(&text.replace("* 2", "* 3").replace("[variables]", "[variables]\nnew = 1")));
    tokio::task::yield_now().await;
    rig.cycle();
    assert_eq!(short(&next(&mut seen).await), "GET /set?w=5&twice=15");
}

/// Each cycle is one try, and there are no variables that could end one.
#[tokio::test(start_paused = true)]
async fn without_variables_too_each_cycle_is_one_evaluation() {
    let outputs = r#""outputs":[{"address":"http://localhost/cnf?cmd=a"}]"#;
    let mut rig = Rig::new(&device("M1", "relay", "192.0.2.1"), &[("relay", outputs)]);
    *rig.manager.refuse.lock().unwrap() = true;
    for tries in 1..=4 {
        rig.cycle();
        assert_eq!(next(&mut rig.calls).await, "cmd=a");
        rig.settle().await;
        assert_eq!((rig.failed("M1"), rig.calls.try_recv().is_err()), (Some(tries), true));
    }
    // What changes between two cycles is no end of one.
    rig.config.send_replace(config(&device("M1", "relay", "192.0.2.1")));
    rig.settle().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    rig.settle().await;
    assert_eq!(rig.failed("M1"), Some(4));
}

#[tokio::test]
async fn a_target_that_hangs_delays_nobody_else() {
    let (hanging, mut hung) = server(None).await;
    let (well, mut seen) = server(Some(200)).await;
    let hangs = format!(r#""outputs":[{{"address":"http://{hanging}/x?w=${{power_w}}"}}]"#);
    let other = r#""outputs":[{"address":"/y?w=${M1.power_w}"}]"#;
    let text = device("M1", "hangs", &well) + &device("M2", "other", &well);
    let rig = Rig::new(&text, &[("hangs", &hangs), ("other", other)]);
    rig.measured(1.0);
    assert_eq!(short(&next(&mut hung).await), "GET /x?w=1");
    for watts in 1..=5 {
        rig.measured(f64::from(watts));
        assert_eq!(short(&next(&mut seen).await), format!("GET /y?w={watts}"));
    }
    assert!(hung.try_recv().is_err(), "one after the other");
    // Nor does it delay the end.
    tokio::time::timeout(SOON, rig.outputs.shutdown()).await.unwrap();
}

#[tokio::test]
async fn what_failed_is_tried_again_in_the_next_cycle() {
    let (address, _seen) = server(Some(200)).await;
    let outputs = r#""outputs":[{"address":"http://localhost/cnf?cmd=set&val=${power_w}","body":"b${power_w}"}]"#;
    let mut rig = Rig::new(&device("M1", "relay", &address), &[("relay", outputs)]);
    *rig.manager.refuse.lock().unwrap() = true;
    for _ in 0..3 {
        rig.measured(7.0);
        assert_eq!(next(&mut rig.calls).await, "cmd=set&val=7 b7");
    }
    *rig.manager.refuse.lock().unwrap() = false;
    rig.measured(7.0);
    assert_eq!(next(&mut rig.calls).await, "cmd=set&val=7 b7");
    rig.measured(7.0);
    rig.measured(8.0);
    assert_eq!(next(&mut rig.calls).await, "cmd=set&val=8 b8");

    let (address, mut seen) = server(Some(500)).await;
    let rig =
        Rig::new(&device("M1", "relay", &address), &[("relay", r#""outputs":[{"address":"/a"},{"address":"/b"}]"#)]);
    for _ in 0..3 {
        rig.cycle();
        assert_eq!(short(&next(&mut seen).await), "GET /a");
        assert_eq!(short(&next(&mut seen).await), "GET /b", "the next one goes all the same");
    }
}

#[tokio::test]
async fn localhost_is_the_manager_unless_a_star_says_otherwise() {
    let (address, mut seen) = server(Some(200)).await;
    let port = address.rsplit(':').next().unwrap();
    let outputs = format!(
        r#""outputs":[{{"address":"http://localhost:{port}/cnf?cmd=modbus_set&addr=${{address}}&val=${{power_w}}"}},
           {{"address":"*POST http://me:s%20t@127.0.0.1:{port}/real?x=1","body":"on"}}]"#
    );
    let mut rig = Rig::new(&device("M1", "relay", &address), &[("relay", &outputs)]);
    rig.measured(5.0);
    assert_eq!(next(&mut rig.calls).await, format!("cmd=modbus_set&addr={address}&val=5"));
    let real = next(&mut seen).await;
    assert_eq!(short(&real), "POST /real?x=1 on");
    assert!(real.to_lowercase().contains("authorization: basic bwu6cyb0"), "{real}");
}

#[tokio::test]
async fn resets_run_when_a_device_goes_and_when_the_host_stops() {
    let (address, mut seen) = server(Some(200)).await;
    let outputs =
        r#""outputs":[{"address":"/on?w=${power_w}"}],"resets":[{"address":"/off?w=${power_w}"},{"address":"/out"}]"#;
    let text = device("M1", "relay", &address);
    let rig = Rig::new(&text, &[("relay", outputs)]);
    for gone in [format!("{text}enabled = false\n"), "[[device]]\nid = \"M2\"\ntype = \"http-input\"\n".to_owned()] {
        rig.measured(3.0);
        assert_eq!(short(&next(&mut seen).await), "GET /on?w=3");
        rig.config.send_replace(config(&gone));
        assert_eq!(short(&next(&mut seen).await), "GET /off?w=3", "with the values of the last cycle");
        assert_eq!(short(&next(&mut seen).await), "GET /out");
        rig.config.send_replace(config(&text));
        rig.cycle();
        assert_eq!(short(&next(&mut seen).await), "GET /on?w=3");
        // The same again is nothing new.
        rig.config.send_replace(config(&text));
        rig.measured(4.0);
        assert_eq!(short(&next(&mut seen).await), "GET /on?w=4");
    }
    rig.outputs.shutdown().await;
    assert_eq!(seen.try_recv().map(|request| short(&request)).as_deref(), Ok("GET /off?w=4"));
    assert_eq!(seen.try_recv().map(|request| short(&request)).as_deref(), Ok("GET /out"));
}

/// Without sockets, so that the clock may be paused.
#[tokio::test(start_paused = true)]
async fn what_is_to_be_repeated_is() {
    let outputs =
        r##""outputs":[{"address":"#30#http://localhost/cnf?cmd=a"},{"address":"http://localhost/cnf?cmd=b"}]"##;
    let mut rig = Rig::new(&device("M1", "relay", "192.0.2.1"), &[("relay", outputs)]);
    rig.cycle();
    assert_eq!(next(&mut rig.calls).await, "cmd=a");
    assert_eq!(next(&mut rig.calls).await, "cmd=b");
    rig.settle().await;
    let begin = Instant::now();
    let call = loop {
        tokio::time::advance(Duration::from_secs(3)).await;
        rig.cycle();
        rig.settle().await;
        if let Ok(call) = rig.calls.try_recv() {
            break call;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "never");
    };
    assert_eq!(call, "cmd=a");
    let after = begin.elapsed().as_secs();
    assert!((30..=33).contains(&after), "{after} s");
}

#[test]
fn addresses_of_templates_have_no_scheme_and_no_password() {
    for (url, expected) in [
        ("http://192.0.2.1:80/api/", "192.0.2.1:80/api"),
        ("tcp://192.0.2.1:502", "192.0.2.1:502"),
        ("rtutcp://192.0.2.1:8899", "rtutcp://192.0.2.1:8899"),
        ("rtu:///dev/ttyUSB0?baud=19200&parity=e&stop=2", "/dev/ttyUSB0,19200,8,e,2"),
        ("mqtt://me:secret@192.0.2.1", "192.0.2.1:1883"),
        ("mqtt", ""),
    ] {
        let device = format!("[[device]]\nid = \"M1\"\ntype = \"x\"\naddress = \"{url}\"\n");
        let text = format!("[mqtt]\nbroker = \"mqtt://192.0.2.9\"\n{device}");
        let config = config(&text);
        assert_eq!(address(&config.devices[0].endpoints[""].url), expected, "{url}");
    }
}
