//! `get_dev_info` of a large site over keep-alive connections, while its devices are fed: how many answers one core
//! gives, by the daemon's own computing time, and how long a client waits for one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern_tests::daemon::Daemon;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::measure::{ms, percentile, process_cpu};
use crate::report::Number;

const WALLBOXES: usize = 100;
const METERS: usize = 100;
/// Clients that ask at the same time, each for its next answer when it has the last one.
const CLIENTS: usize = 4;
/// Answers that are counted.
const ANSWERS: usize = 8_000;
/// One device is fed in each such time: every device about once a second.
const FEED: Duration = Duration::from_millis(5);
/// A client that gets nothing for so long ends the measurement.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn dev_info_of_200_devices() -> anyhow::Result<Vec<Number>> {
    let mut text =
        "[http]\nlisten = \"127.0.0.1:0\"\n[[circuit]]\nid = \"main\"\nlimit_ma = [630000, 630000, 630000]\n"
            .to_owned();
    let ids: Vec<String> =
        (1..=WALLBOXES).map(|n| format!("E{n}")).chain((1..=METERS).map(|n| format!("M{n}"))).collect();
    for id in &ids {
        text.push_str(&format!("[[device]]\nid = \"{id}\"\nname = \"Device {id}\"\ntype = \"http-input\"\n"));
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, text)?;
    let (config, state) = (file.display().to_string(), folder.path().join("state").display().to_string());
    let daemon = Daemon::start(["run", "--config", &config, "--state", &state]);
    let line = daemon.line_with("http://").await;
    let address = line.split("http://").nth(1).and_then(|rest| rest.split(['/', ' ']).next());
    let address: SocketAddr = address.context("no address in the first line")?.trim().parse()?;
    let pid = daemon.pid().context("the daemon has ended")?.to_string();

    let mut feeder = Client::connect(address).await?;
    for (n, id) in ids.iter().enumerate() {
        feeder.feed(id, n).await?;
    }
    let feeding = tokio::spawn(async move {
        let mut tick = tokio::time::interval(FEED);
        for (n, id) in (1..).zip(ids.iter().cycle()) {
            tick.tick().await;
            feeder.feed(id, n).await?;
        }
        anyhow::Ok(())
    });
    ask(address, ANSWERS / 10).await?;
    let before = process_cpu(&pid)?;
    let waits = ask(address, ANSWERS).await?;
    let computed = process_cpu(&pid)?.saturating_sub(before);
    feeding.abort();
    daemon.stop().await;
    let answers = waits.len() as f64;
    Ok(vec![
        Number::at_least("http_dev_info_200_per_s", answers / computed.as_secs_f64(), "/s", 2000.0),
        Number::at_most("http_dev_info_200_p99_ms", percentile(waits, 0.99), "ms", 20.0),
    ])
}

/// The waits in ms of so many answers.
async fn ask(address: SocketAddr, answers: usize) -> anyhow::Result<Vec<f64>> {
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(async move {
            let mut client = Client::connect(address).await?;
            let mut waits = Vec::new();
            for _ in 0..answers / CLIENTS {
                let began = Instant::now();
                let body = client.send("GET /cnf?cmd=get_dev_info HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await?;
                waits.push(ms(began.elapsed()));
                anyhow::ensure!(body.len() > 1000 * (WALLBOXES + METERS) / 2, "this is no list of 200 devices");
            }
            anyhow::Ok(waits)
        });
    }
    let mut all = Vec::new();
    while let Some(waits) = clients.join_next().await {
        all.extend(waits??);
    }
    Ok(all)
}

/// One keep-alive connection.
struct Client {
    stream: TcpStream,
    inbound: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, inbound: Vec::new() })
    }

    async fn feed(&mut self, id: &str, n: usize) -> anyhow::Result<()> {
        let (kind, body) = if id.starts_with('E') {
            ("evse", format!("{{\"state\":3,\"current\":[{n},0,0],\"total_energy\":{n}}}"))
        } else {
            ("meter", format!("{{\"power_w\":{n},\"current\":[{n},0,0],\"voltage\":[230,231,232],\"import_wh\":{n}}}"))
        };
        let length = body.len();
        let request = format!(
            "POST /cnf?cmd=set_ajax_{kind}&dev_id={id} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.send(&request).await.map(drop)
    }

    /// The body of the answer, which has to be 200.
    async fn send(&mut self, request: &str) -> anyhow::Result<Vec<u8>> {
        self.stream.write_all(request.as_bytes()).await?;
        let end = b"\r\n\r\n";
        loop {
            if let Some(head) = self.inbound.windows(end.len()).position(|window| window == end) {
                let text = String::from_utf8_lossy(&self.inbound[..head]).into_owned();
                anyhow::ensure!(text.starts_with("HTTP/1.1 200 "), "{text}");
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.context("no content-length")?.trim().parse()?;
                let whole = head + end.len() + length;
                while self.inbound.len() < whole {
                    self.receive().await?;
                }
                let rest = self.inbound.split_off(whole);
                return Ok(std::mem::replace(&mut self.inbound, rest).split_off(head + end.len()));
            }
            self.receive().await?;
        }
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        self.inbound.reserve(64 << 10);
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.inbound)).await??;
        anyhow::ensure!(read > 0, "the daemon closed the connection");
        Ok(())
    }
}
