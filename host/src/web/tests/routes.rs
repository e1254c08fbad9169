//! The pages and lists beside `/cnf`.

use super::*;

const PLAYED: &str = r#"
[[device]]
id = "M1"
name = "Sim-<Grid>"
type = "http-input"
[[device]]
id = "E1"
name = "Sim-Box"
type = "http-input"
[[device]]
id = "M2"
name = "Real"
type = "http-input"
[[device]]
id = "M3"
name = "Sim-off"
type = "http-input"
enabled = false
"#;

#[tokio::test]
async fn the_simulation_plays_the_devices_named_so() {
    let server = Server::start_with(PLAYED, "127.0.0.1:0").await;
    let page = server.get("/ui/en/sim.htm").await;
    assert_eq!(page.status, 200);
    for part in [
        "content-type: text/html",
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(page.head.contains(part), "{part}: {}", page.head);
    }
    for part in ["data-device=\"M1\" data-kind=\"meter\"", "data-device=\"E1\" data-kind=\"evse\"", "Sim-&lt;Grid&gt;"]
    {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    for part in ["\"M2\"", "\"M3\"", "style=", "<style", "<script>", "onclick"] {
        assert!(!page.body.contains(part), "{part}: {}", page.body);
    }
    for (path, kind) in [("/ui/en/sim.js", "text/javascript"), ("/ui/en/sim.css", "text/css")] {
        assert!(page.body.contains(path));
        let part = server.get(path).await;
        assert_eq!(part.status, 200);
        assert!(part.head.contains(kind), "{}", part.head);
    }
    // What the script sends is understood.
    let meter = r#"{"model":"Simulation","power_w":1500,"current":[6500,0,0],"voltage":[230,230,230],"import_wh":1,"export_wh":0}"#;
    assert_eq!(server.post("/cnf?cmd=set_ajax_meter&dev_id=M1", meter).await.body, "\"ok\"");
    let evse = r#"{"model":"Simulation","state":2,"current":[0,0,0],"max_charging_current":16000,"total_energy":0}"#;
    assert_eq!(server.post("/cnf?cmd=set_ajax_evse&dev_id=E1", evse).await.status, 200);
    assert_eq!(server.device("M1").await["power_w"], 1500);
    let none = Server::start("127.0.0.1:0").await.get("/ui/en/sim.htm").await;
    assert!(none.status == 200 && none.body.contains("There is nothing to play"), "{}", none.body);
}

#[tokio::test]
async fn transactions_come_as_json_and_as_csv() {
    let server = Server::start("127.0.0.1:0").await;
    let list = server.get("/api/transactions?dev_id=E1&from=2026-01-01&limit=5").await;
    assert_eq!((list.status, list.json()), (200, json!([])));
    let columns = "id,dev_id,name,start,end,energy_wh,meter_start_wh,meter_end_wh,rfid,user_id,reason\r\n";
    let csv = server.get("/api/transactions?format=csv").await;
    assert!(csv.head.contains("content-type: text/csv") && csv.body == columns, "{} {}", csv.head, csv.body);
    assert_eq!(server.send("GET", "/api/transactions", "Accept: text/csv\r\n", "").await.body, columns);
    assert_eq!(server.send("GET", "/api/transactions?format=json", "Accept: text/csv\r\n", "").await.json(), json!([]));
    let wrong = server.get("/api/transactions?from=x").await;
    assert!(wrong.status == 400 && wrong.json()["error"].as_str().unwrap().starts_with("from: "), "{}", wrong.body);
}

#[tokio::test]
async fn b1_brokers_and_numbers_are_shown_without_secrets() {
    // Nobody listens there.
    let text = format!("[mqtt]\nbroker = \"mqtt://user:geheim@127.0.0.1:1\"\npublish = \"mqtt\"\n{SITE}");
    let server = Server::start_with(&text, "127.0.0.1:0").await;
    server.post("/cnf?cmd=set_ajax_meter&dev_id=M1", r#"{"power_w":1500}"#).await;
    let down = async {
        loop {
            let brokers = server.get("/api/brokers").await;
            assert!(!brokers.body.contains("geheim"), "{}", brokers.body);
            let brokers = brokers.json();
            // Between two attempts; during one there is no next.
            if brokers[0]["state"] == "down" && brokers[0]["next_attempt_in_s"].is_number() {
                return brokers;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let brokers = tokio::time::timeout(SOON, down).await.unwrap();
    assert!(
        brokers[0]["last_error"].is_string() && brokers[0]["url"].as_str().unwrap().contains("127.0.0.1:1"),
        "{brokers}"
    );
    assert!(brokers[0]["next_attempt_in_s"].as_f64().unwrap() <= 30.0, "{brokers}");
    assert!(brokers[0]["client_id"].as_str().unwrap().starts_with("ladekern-"), "{brokers}");
    assert!(brokers[0]["connected_for_s"].is_null() && brokers[0]["connections"] == 0, "{brokers}");
    let page = server.get("/metrics").await;
    assert!(page.head.contains("text/plain; version=0.0.4"), "{}", page.head);
    assert!(!page.body.contains("geheim"), "{}", page.body);
    for line in [
        "ladekern_device_com_err{dev_id=\"M1\"} 0",
        "ladekern_device_com_err{dev_id=\"E1\"} 1",
        "ladekern_device_successes_total{dev_id=\"M1\"} 1",
        "ladekern_device_power_watts{dev_id=\"M1\"} 1500",
        "ladekern_managing 1",
        "ladekern_config_writes_total 0",
        "ladekern_config_failed_writes_total 0",
        "# TYPE ladekern_broker_received_total counter",
    ] {
        assert!(page.body.lines().any(|other| other == line), "{line} is missing: {}", page.body);
    }
    let up = page.body.lines().find(|line| line.starts_with("ladekern_broker_up{")).unwrap();
    assert!(up.ends_with(" 0"), "{up}");
    assert!(!page.body.contains("dev_id=\"M3\""), "it is disabled");
}
