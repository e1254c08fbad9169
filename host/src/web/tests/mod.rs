//! Over real sockets: what a client sends and gets is written out.

mod bad_input;
mod doors;
mod routes;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::testing::TestSite;

const SOON: Duration = Duration::from_secs(20);

const SITE: &str = r#"
[site]
title = "<b>Home</b>"
[[device]]
id = "M1"
name = "Grid & more"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
type = "http-input"
[[device]]
id = "M2"
type = "eastron-sdm"
[[device]]
id = "M3"
type = "http-input"
enabled = false
"#;

struct Server {
    addr: SocketAddr,
    site: TestSite,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

impl Server {
    async fn start(listen: &str) -> Self {
        Self::start_with(SITE, listen).await
    }

    async fn start_with(text: &str, listen: &str) -> Self {
        let site = TestSite::start_with(text, &[&format!("http.listen={listen}")]).await;
        let port = site.http().port();
        Self { addr: ([127, 0, 0, 1], port).into(), site }
    }

    /// One request as written, its answer as it comes.
    async fn raw(&self, request: &str) -> Answer {
        self.bytes(request.as_bytes()).await
    }

    async fn bytes(&self, request: &[u8]) -> Answer {
        let exchange = async {
            let mut stream = TcpStream::connect(self.addr).await.unwrap();
            // The server may answer and close before it has read everything.
            let _ = stream.write_all(request).await;
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes).await;
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let text = tokio::time::timeout(SOON, exchange).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let (addr, length) = (self.addr, body.len());
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, "Content-Type: application/json\r\n", body).await
    }

    async fn device(&self, id: &str) -> Value {
        let info = self.get("/cnf?cmd=get_dev_info").await.json();
        info["devices"].as_array().unwrap().iter().find(|device| device["dev_id"] == id).unwrap().clone()
    }
}

#[tokio::test]
async fn the_site_is_read_without_credentials() {
    let server = Server::start("127.0.0.1:0").await;
    let info = server.get("/cnf?cmd=get_dev_info").await;
    assert_eq!(info.status, 200);
    assert!(info.head.contains("content-type: application/json"), "{}", info.head);
    assert_eq!(info.json()["devices"].as_array().unwrap().len(), 4);
    let params = server.get("/cnf?cmd=get_params").await.json();
    assert_eq!((&params["version"], &params["max_total_evse_power"]), (&json!("2.0.1"), &json!(0)));
    assert_eq!(params["dev_meta"]["meter_ajax"], "HTTP input");
    let types = server.get("/cnf?cmd=get_dev_types").await.json();
    for device in info.json()["devices"].as_array().unwrap() {
        assert!(types.get(device["dev_type"].as_str().unwrap()).is_some(), "{device}");
    }
    assert_eq!(server.get("/healthz").await.json()["status"], "ok");
}

#[tokio::test]
async fn a_meter_is_fed_by_post_and_by_get() {
    let server = Server::start("127.0.0.1:0").await;
    let message = r#"{"model":"TestModell","import_wh":12345,"export_wh":23456,"voltage":[231,232,233],"current":[10001,10002,10003]}"#;
    let answer = server.post("/cnf?cmd=set_ajax_meter&dev_id=M1", message).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"ok\""));
    let meter = server.device("M1").await;
    assert_eq!(
        (&meter["import"], &meter["current_l1"], &meter["com_err"]),
        (&json!(12345), &json!(10001), &json!(false))
    );

    let path = "/cnf?cmd=set_ajax_meter&dev_id=M1&voltage=230,231%2C232.5&power_va=-10.50&is_va=false&model=My+Meter";
    assert_eq!(server.get(path).await.body, "\"ok\"");
    let meter = server.device("M1").await;
    assert_eq!(
        (&meter["voltage_l3"], &meter["power_w"], &meter["model"]),
        (&json!(232.5), &json!(-10.5), &json!("My Meter"))
    );
    assert_eq!(meter["import"], 12345);
}

#[tokio::test]
async fn a_wallbox_gets_its_orders() {
    let server = Server::start("127.0.0.1:0").await;
    let orders = json!({"device_enabled":true,"charging_enabled":true,"paused":false,"charging_current":16000});
    let message =
        r#"{"state":2,"max_charging_current":16000,"current":[0,0,0],"total_energy":1,"model":"m","rfid":"4711"}"#;
    assert_eq!(server.post("/cnf?cmd=set_ajax_evse&dev_id=E1", message).await.json(), orders);
    assert_eq!(server.get("/cnf?cmd=set_ajax_evse&dev_id=E1&state=3&current=1000,0,0").await.json(), orders);
    assert_eq!(server.device("E1").await["state"], 3);
}

#[tokio::test]
async fn wrong_requests_get_a_json_error_with_its_status() {
    let server = Server::start("127.0.0.1:0").await;
    for (method, path, body, status, part) in [
        ("GET", "/cnf", "", 400, "cmd is missing"),
        ("GET", "/cnf?cmd=", "", 400, "unknown cmd \"\""),
        ("GET", "/cnf?cmd=set_nothing", "", 400, "unknown cmd \"set_nothing\""),
        ("GET", "/cnf?cmd=set_params", "", 400, "expects a JSON object"),
        ("GET", "/cnf?cmd=%zz%", "", 400, "escaped wrongly"),
        ("DELETE", "/cnf?cmd=get_params", "", 405, "use GET"),
        ("POST", "/", "", 405, "use GET"),
        ("GET", "/nothing", "", 404, "there is no /nothing"),
        ("POST", "/cnf?cmd=set_ajax_meter", "{}", 400, "dev_id is missing"),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M01", "{}", 400, "no device id"),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M9", "{}", 400, "there is no device M9"),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=E1", "{}", 400, "is not for E1"),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M2", "{}", 400, "is of type eastron-sdm"),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M3", "{}", 400, "M3 is disabled"),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M1", "{\"power_w\":", 400, "EOF"),
        ("POST", "/cnf?cmd=set_ajax_evse&dev_id=E1", "{\"state\":9}", 400, "from 1 to 5"),
    ] {
        let answer = server.send(method, path, "", body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{method} {path}: {error}");
    }
}

#[tokio::test]
async fn the_page_shows_the_devices_and_no_one_s_markup() {
    let server = Server::start("127.0.0.1:0").await;
    server.post("/cnf?cmd=set_ajax_meter&dev_id=M1", r#"{"power_w":1234,"current":[1500,0,0]}"#).await;
    let page = server.get("/").await;
    assert!(page.head.contains("content-type: text/html"), "{}", page.head);
    for part in ["&lt;b&gt;Home&lt;/b&gt;", "Grid &amp; more", "1234 W", "1.5 A", "disabled", "starting", "no-store"] {
        assert!(page.body.contains(part) || page.head.contains(part), "{part} is missing: {}", page.body);
    }
    assert!(!page.body.contains("<b>"));
}

#[tokio::test]
async fn an_idle_client_does_not_keep_the_server_from_ending() {
    let server = Server::start("127.0.0.1:0").await;
    let mut idle = TcpStream::connect(server.addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    tokio::time::timeout(SOON, server.site.app.stop()).await.unwrap();
}
