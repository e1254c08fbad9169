//! Contract A8 and what goes with it: devices that a definition file describes, over MQTT and HTTP, and what becomes of
//! them when their file changes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ladekern::site::{DeviceStatus, Health, Measured, Moment};
use ladekern_sim::http::{Request, Response, serve};
use ladekern_sim::net::{Control, Server};
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::mqtt::Probe;
use ladekern_tests::rig::{Rig, device_id};
use ladekern_tests::site::Site;
use ladekern_tests::until;
use serde_json::json;

const MQTT: &str = r#"{
    // Two on one topic, and three with their own.
    "rtype": 2, "mtype": 1, "dev_type": "acme", "name": "Meter", "manufacturer": "ACME",
    "power_w": {"address": "/test_topic3", "type": "float", "query": "power_w"},
    "import_wh": {"address": "/test_topic3", "type": "float", "query": "e.import", "resolution": 1000},
    "voltage_l1": {"address": "acme/u", "type": "float"},
    "soc": {"address": "acme/soc", "type": "float", "regex": "is (\\d+)"},
    "serial": {"address": "acme/serial", "type": "string"},
    "*Twice": {"expr": "power_w * 2"},
    "grown": {"expr": "power_w + voltage_l1"}
}"#;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join(name), text).unwrap();
}

fn value(status: &DeviceStatus, name: &str) -> Option<f64> {
    status.values.get(name).map(|measured| measured.value)
}

fn power(watts: f64) -> impl Fn(&DeviceStatus) -> bool {
    move |status| value(status, "power.total") == Some(watts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_topics_feed_a_meter_and_each_value_has_its_own_age() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "nothing").await;
    probe.publish("acme/soc", "it is 55 %", true).await;
    let rig = Rig::start("", |_| {}).await;
    write(&rig.root.path().join("definitions"), "acme.json", MQTT);
    rig.apply(&format!("[[device]]\nid = \"M1\"\ntype = \"acme\"\naddress = \"{}\"\n", broker.url())).await;

    // What the broker had stored is shown, and is of no age that could be used.
    let stored = rig.wait("M1", "told what was stored", |status| value(status, "battery.soc").is_some()).await;
    assert_eq!(stored.values.get("battery.soc"), Some(Measured { value: 55.0, at: Moment(0) }));
    assert!(stored.com_err(Moment(1)), "nobody knows how old it is");

    probe.publish("/test_topic3", r#"{"power_w": 1234.5, "e": {"import": 7}}"#, false).await;
    let status = rig.wait("M1", "at 1234.5 W", power(1234.5)).await;
    let first = status.values.get("power.total").unwrap();
    assert_eq!((value(&status, "energy.import"), value(&status, "var.twice")), (Some(7_000.0), Some(2_469.0)));
    assert!(!status.com_err(first.at) && value(&status, "var.grown").is_none());

    probe.publish("acme/u", "231.5", false).await;
    probe.publish("acme/serial", "S1", false).await;
    let status = rig.wait("M1", "known by its serial number", |status| status.info.serial.is_some()).await;
    assert_eq!(status.info.model.as_deref(), Some("ACME,Meter,"));
    assert_eq!(status.values.get("power.total"), Some(first), "the other topics say nothing of it");
    // A formula is as old as the oldest value in it.
    assert_eq!(status.values.get("var.grown"), Some(Measured { value: 1_466.0, at: first.at }));

    // Nonsense costs nothing but an error, a part that is missing only itself.
    probe.publish("/test_topic3", "{\"power_w\": 1, ", false).await;
    let status = rig.wait("M1", "told of nonsense", |status| status.errors == 1).await;
    assert!(status.last_error.contains("topic /test_topic3"), "{}", status.last_error);
    assert_eq!((status.values.get("power.total"), &status.health), (Some(first), &Health::Running));
    probe.publish("/test_topic3", r#"{"power_w": null, "e": {"import": 8}}"#, false).await;
    let status = rig.wait("M1", "at 8 kWh", |status| value(status, "energy.import") == Some(8_000.0)).await;
    // What the device says it does not know is unknown from then on, and no error.
    assert_eq!((status.values.get("power.total"), status.errors), (None, 1), "{}", status.last_error);
    assert!(status.values.get("energy.import").unwrap().at >= first.at);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a8_the_contract_shows_the_meter_and_says_why_it_fell_silent() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "nothing").await;
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("definitions"), "acme.json", MQTT);
    let device = "[[device]]\nid = \"M1\"\ntype = \"acme\"\naddress = \"mqtt\"\ntimeout_s = 2\n";
    write(folder.path(), "ladekern.toml", &format!("[mqtt]\nbroker = \"{}\"\n{device}", broker.url()));
    let site = Site::start_in(folder).await;
    let fed = async || {
        probe.publish("/test_topic3", r#"{"power_w": 1234.5, "e": {"import": 7}}"#, false).await;
        site.device("M1").await
    };
    let shown = until("M1 in the contract", fed, |device| device["power_w"] == 1234.5).await;
    for (key, value) in [
        ("dev_type", json!("meter_acme")),
        ("address", json!("mqtt")),
        ("import", json!(7_000)),
        ("com_err", json!(false)),
        ("model", json!("ACME,Meter,,,")),
        ("user_info", json!({"Twice": 2_469})),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    assert_eq!(site.get("cmd=get_dev_types").await.json()["meter_acme"], "Meter (meter)");
    probe.publish("/test_topic3", "off", false).await;
    let silent = until("M1 silent", async || site.device("M1").await, |device| device["com_err"] == true).await;
    assert!(silent["status"].as_str().unwrap().contains("topic /test_topic3"), "{silent}");
    assert_eq!(silent["power_w"], 1234.5, "the last good value");
}

/// A device that answers over HTTP.
struct Box1 {
    server: Server,
    /// Requests by path.
    seen: Arc<Mutex<Vec<String>>>,
    well: Arc<AtomicBool>,
    polls: Arc<AtomicU64>,
}

impl Box1 {
    async fn start() -> Self {
        let (seen, well, polls) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(true)), Arc::default());
        let server = {
            let (seen, well, polls) = (Arc::clone(&seen), Arc::clone(&well), Arc::<AtomicU64>::clone(&polls));
            let handler = move |request: &Request| {
                seen.lock().unwrap().push(request.path.clone());
                match request.path.as_str() {
                    _ if !well.load(Ordering::Relaxed) => Response { status: 200, body: "<html>".into() },
                    "/values" => {
                        let n = polls.fetch_add(1, Ordering::Relaxed) + 1;
                        Response::json(&json!({"p": 1, "q": 2, "n": n}))
                    }
                    "/info" => Response::json(&json!({"sn": "X7"})),
                    _ => Response::error(500),
                }
            };
            serve(([127, 0, 0, 1], 0).into(), Control::default(), handler).await.unwrap()
        };
        Self { server, seen, well, polls }
    }

    fn entry(&self, id: &str, dev_type: &str, more: &str) -> String {
        let address = self.server.address();
        format!(
            "[[device]]\nid = \"{id}\"\ntype = \"{dev_type}\"\naddress = \"http://{address}\"\npoll_ms = 200\n{more}\n"
        )
    }

    fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| *seen == path).count()
    }
}

fn http(dev_type: &str, query: &str) -> String {
    format!(
        r#"{{"rtype": 1, "mtype": 1, "dev_type": "{dev_type}",
        "power_w": {{"address": "GET /values", "type": "float", "query": "{query}"}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_address_does_not_give_costs_only_itself() {
    let wire = Box1::start().await;
    let rig = Rig::start("", |_| {}).await;
    let text = r#"{"rtype": 1, "dev_type": "acme", "serial": {"address": "/info", "type": "string", "query": "sn"},
        "soc": {"address": "/gone", "type": "float", "query": "x"},
        "power_w": {"address": "/values", "type": "float", "query": "p"},
        "counted": {"address": "/values", "type": "float", "query": "n"}}"#;
    write(&rig.root.path().join("definitions"), "acme.json", text);
    rig.apply(&wire.entry("M1", "acme", "timeout_s = 2")).await;
    let status = rig.wait("M1", "polled four times", |status| value(status, "var.counted") >= Some(4.0)).await;
    assert_eq!((&status.health, value(&status, "power.total")), (&Health::Running, Some(1.0)));
    assert_eq!(status.info.serial.as_deref(), Some("X7"));
    assert_eq!(wire.count("/info"), 1, "identity is read once");
    assert!(status.last_error.contains("GET /gone: answered with status 500"), "{}", status.last_error);
    assert!(status.errors >= 3 && status.successes >= 4 && value(&status, "battery.soc").is_none());

    // Nonsense from everywhere: the last values stay until they are too old, then the reason is told.
    wire.well.store(false, Ordering::Relaxed);
    let before = rig.status("M1").errors;
    let status = rig.wait("M1", "garbled", |status| status.last_error.contains("/values")).await;
    assert_eq!((&status.health, value(&status, "power.total")), (&Health::Running, Some(1.0)));
    assert!(status.errors > before);
    let status = rig.wait("M1", "given up", |status| matches!(status.health, Health::Offline(_))).await;
    assert!(status.health.describe().contains("GET "), "{:?}", status.health);
    wire.well.store(true, Ordering::Relaxed);
    rig.wait("M1", "back", |status| status.health == Health::Running).await;
}

/// The longest time between two values of a device.
struct Gaps(Arc<Mutex<(Option<Moment>, Duration)>>);

impl Gaps {
    fn follow(rig: &Rig, id: &str) -> Self {
        let mut changes = rig.board.follow(&device_id(id)).unwrap();
        let seen: Arc<Mutex<(Option<Moment>, Duration)>> = Arc::default();
        let list = Arc::clone(&seen);
        tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let at = changes.borrow_and_update().values.get("power.total").map(|measured| measured.at);
                let mut seen = list.lock().unwrap();
                if let (Some(at), Some(last)) = (at, seen.0) {
                    seen.1 = seen.1.max(at.since(last));
                }
                seen.0 = at.or(seen.0);
            }
        });
        Self(seen)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_is_in_force_as_soon_as_it_is_written_and_costs_nobody_a_poll() {
    let (wire, other) = (Box1::start().await, Box1::start().await);
    let rig = Rig::start("", |_| {}).await;
    let (own, supplied) = (rig.root.path().join("definitions"), rig.root.path().join("supplied"));
    write(&supplied, "neighbour.json", &http("neighbour", "n"));
    rig.apply(&format!("{}{}", wire.entry("M1", "acme", ""), other.entry("M2", "neighbour", ""))).await;
    let missing = |status: &DeviceStatus| matches!(status.health, Health::MissingDriver(_));
    rig.wait("M2", "running", |status| status.health == Health::Running).await;
    let gaps = Gaps::follow(&rig, "M2");
    let status = rig.wait("M1", "missing", missing).await;
    let folder = own.display().to_string();
    assert!(
        status.health.describe().contains(&format!("no definition of \"acme\" in {folder}")),
        "{:?}",
        status.health
    );

    // It comes, and changes.
    let written = Instant::now();
    write(&own, "acme.json", &http("acme", "p"));
    let status = rig.wait("M1", "at 1 W", power(1.0)).await;
    assert_eq!(status.driver, "acme acme.json");
    eprintln!("a new definition was in force after {:?}", written.elapsed());
    let written = Instant::now();
    write(&own, "acme.json", &http("acme", "q"));
    rig.wait("M1", "at 2 W", power(2.0)).await;
    eprintln!("a changed definition was in force after {:?}", written.elapsed());

    // A broken one leaves it running and is told with its place; one that is only half there is not even that.
    write(&own, "acme.json", &http("acme", "p").replace("\"float\"", "\"flaot\""));
    let refused = |status: &DeviceStatus| status.update_failed.is_some();
    let status = rig.wait("M1", "refusing", refused).await;
    let why = status.update_failed.unwrap();
    assert!(why.contains(&format!("{folder}/acme.json:2:")) && why.contains("power_w.type"), "{why}");
    let polls = wire.polls.load(Ordering::Relaxed);
    let going = |status: &DeviceStatus| status.successes > 0 && value(status, "power.total") == Some(2.0);
    rig.wait("M1", "going on", |status| going(status) && wire.polls.load(Ordering::Relaxed) > polls + 2).await;
    write(&own, "acme.json", &http("acme", "q"));
    rig.wait("M1", "well again", |status| status.update_failed.is_none()).await;
    let whole = http("acme", "p");
    let mut changes = rig.board.follow(&device_id("M1")).unwrap();
    write(&own, "acme.json", &whole[..whole.len() / 2]);
    write(&own, "acme.json", &whole);
    while value(&changes.borrow_and_update(), "power.total") != Some(1.0) {
        assert_eq!(changes.borrow().update_failed, None, "half a file is not believed");
        tokio::time::timeout(ladekern_tests::SOON, changes.changed()).await.expect("a change in time").unwrap();
    }

    // One that reads well and gets nothing out of the device is not taken into use.
    write(&own, "acme.json", &http("acme", "nowhere"));
    let status = rig.wait("M1", "refusing what finds nothing", refused).await;
    assert!(status.update_failed.unwrap().contains("power_w"), "it says what is missing");
    assert_eq!(rig.status("M1").health, Health::Running);

    // The user's own goes before the supplied one, which steps in when it is gone.
    write(&supplied, "acme.json", &http("acme", "q"));
    write(&own, "acme.json", &http("acme", "p"));
    rig.wait("M1", "well with its own", |status| status.update_failed.is_none()).await;
    assert_eq!(value(&rig.status("M1"), "power.total"), Some(1.0));
    std::fs::remove_file(own.join("acme.json")).unwrap();
    rig.wait("M1", "with the supplied one", power(2.0)).await;
    std::fs::remove_file(supplied.join("acme.json")).unwrap();
    let status = rig.wait("M1", "missing", missing).await;
    assert!(status.health.describe().contains(&folder), "{:?}", status.health);
    write(&own, "acme.json", &http("acme", "p"));
    rig.wait("M1", "back", |status| status.health == Health::Running && power(1.0)(status)).await;

    let neighbour = rig.status("M2");
    assert_eq!((neighbour.errors, value(&neighbour, "power.total")), (0, Some(neighbour.successes as f64)));
    let longest = gaps.0.lock().unwrap().1;
    assert!(longest < Duration::from_secs(2), "{longest:?} without a poll of the neighbour");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b9_why_an_edited_definition_is_not_in_force_is_shown_until_it_is_mended() {
    let wire = Box1::start().await;
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "ladekern/+/device/#").await;
    let folder = tempfile::tempdir().unwrap();
    let definitions = folder.path().join("definitions");
    write(&definitions, "acme.json", &http("acme", "p"));
    let head = format!("[mqtt]\nbroker = \"{}\"\nnative = \"mqtt\"\npublish_interval_ms = 200\n", broker.url());
    let first = wire.entry("M1", "acme", "");
    write(folder.path(), "ladekern.toml", &format!("{head}{first}"));
    let site = Site::start_in(folder).await;
    let topic = format!("ladekern/{}/device/M1", site.app.view().serial);
    let well = |device: &serde_json::Value| device["power_w"] == 1 && device.get("update_error").is_none();
    until("M1 measures", async || site.device("M1").await, well).await;

    let broken = http("acme", "q").replace("\"float\"", "\"flaot\"");
    let reason = format!("{}/acme.json:2:", definitions.display());
    for again in ["mended", "put back"] {
        write(&definitions, "acme.json", &broken);
        let told = |device: &serde_json::Value| device["update_error"].is_string();
        let shown = until("M1 says why", async || site.device("M1").await, told).await;
        let why = shown["update_error"].as_str().unwrap();
        assert!(why.starts_with(&reason) && why.contains("power_w.type: ") && why.contains("\"float\"?"), "{why}");
        assert_eq!((&shown["com_err"], &shown["status"]), (&json!(false), &json!("")), "the one before goes on");
        let native = probe.wait(&topic, |device| device["update_error"].is_string()).await;
        assert_eq!((&native["update_error"], &native["health"]), (&json!(why), &json!("running")));
        let page = ladekern_tests::http::get(site.http(), "/").await.unwrap().body;
        assert!(page.contains("M1: ") && page.contains("power_w.type"), "{page}");

        // A device that comes meanwhile is told too.
        if again == "mended" {
            let second = wire.entry("M2", "acme", "");
            write(site.file().parent().unwrap(), "ladekern.toml", &format!("{head}{first}{second}"));
            let device = async || {
                let info = site.get("cmd=get_dev_info").await.json();
                info["devices"].as_array().unwrap().iter().find(|device| device["dev_id"] == "M2").cloned()
            };
            let told = |device: &Option<serde_json::Value>| device.as_ref().is_some_and(|it| it["update_error"] == why);
            until("M2 says why", device, told).await;
            write(&definitions, "acme.json", &http("acme", "q"));
            until("M2 is well", device, |device| device.as_ref().is_some_and(|it| it.get("update_error").is_none()))
                .await;
        } else {
            write(&definitions, "acme.json", &http("acme", "q"));
        }
        let well = |device: &serde_json::Value| device["power_w"] == 2 && device.get("update_error").is_none();
        until(again, async || site.device("M1").await, well).await;
        probe.wait(&topic, |device| device["update_error"].is_null()).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_topics_said_before_a_changed_definition_is_not_lost() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "nothing").await;
    let rig = Rig::start("", |_| {}).await;
    let definitions = rig.root.path().join("definitions");
    write(&definitions, "acme.json", MQTT);
    rig.apply(&format!("[[device]]\nid = \"M1\"\ntype = \"acme\"\naddress = \"{}\"\n", broker.url())).await;
    let fed = |status: &DeviceStatus| value(status, "voltage.l1").is_some() && status.info.serial.is_some();
    // Nobody knows when the subscription stands; after that each topic speaks once and never again.
    let speak = async || {
        probe.publish("acme/serial", "S1", false).await;
        probe.publish("acme/u", "230", false).await;
        tokio::task::yield_now().await;
        rig.status("M1")
    };
    until("M1 heard both", speak, fed).await;
    probe.publish("/test_topic3", r#"{"power_w": 100, "e": {"import": 7}}"#, false).await;
    let before = rig.wait("M1", "at 100 W", power(100.0)).await;
    let at = |status: &DeviceStatus, name: &str| status.values.get(name).map(|measured| measured.at);

    // Another unit for one value of the quiet topic, another name for a value of the other, a new formula of both.
    let changed = MQTT
        .replace(r#""acme/u", "type": "float""#, r#""acme/u", "type": "float", "resolution": 0.1"#)
        .replace("\"*Twice\": {\"expr\": \"power_w * 2\"}", "\"*both\": {\"expr\": \"power_w + voltage_l1\"}, \"kwh\": {\"address\": \"/test_topic3\", \"type\": \"float\", \"query\": \"e.import\"}");
    write(&definitions, "acme.json", &changed);
    let status = rig.wait("M1", "with the new unit", |status| value(status, "voltage.l1") == Some(23.0)).await;
    assert_eq!((value(&status, "var.both"), value(&status, "var.kwh")), (Some(123.0), Some(7.0)));
    for name in ["voltage.l1", "power.total", "energy.import"] {
        assert_eq!(at(&status, name), at(&before, name), "{name} is as old as it is");
    }
    assert_eq!(at(&status, "var.both"), at(&before, "voltage.l1"), "as old as the oldest in it");
    assert_eq!(status.info.serial.as_deref(), Some("S1"), "and it is known who it is");
    assert_eq!(status.update_failed, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_calls_a_definition_by_that_name() {
    let wire = Box1::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, definitions) = (folder.path().join("ladekern.toml"), folder.path().join("definitions"));
    write(&definitions, "acme.json", &http("acme", "p"));
    write(folder.path(), "ladekern.toml", &wire.entry("M1", "acme", ""));
    let daemon = Daemon::start(["run", "--config", file.to_str().unwrap(), "--set", "http.listen=127.0.0.1:0"]);
    daemon.http_address().await;
    let polled = async || wire.polls.load(Ordering::Relaxed);
    until("M1 is polled", polled, |polls| *polls > 1).await;
    write(&definitions, "acme.json", &http("acme", "q"));
    daemon.line_with("definition replaced").await;
    write(&definitions, "acme.json", &http("acme", "nowhere"));
    daemon.line_with("the new definition was not taken into use").await;
    let (code, output) = daemon.stop().await;
    assert!(code == Some(0) && !output.contains("plugin replaced"), "{output}");
}
