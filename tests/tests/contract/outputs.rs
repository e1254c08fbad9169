//! What definitions write: over MQTT (A8 with `outputs` and `resets` of cfos-interfaces.md 2.4), and through this
//! manager's own API (2.6).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ladekern::transport::BrokerState;
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve};
use ladekern_sim::net::Control;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::site::Site;
use ladekern_tests::{http, until};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::mqtt::ear::Ear;

/// A folder with this definition and this configuration.
fn folder(dev_type: &str, definition: &str, config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let definitions: &Path = &folder.path().join("definitions");
    std::fs::create_dir(definitions).unwrap();
    std::fs::write(definitions.join(format!("{dev_type}.json")), definition).unwrap();
    std::fs::write(folder.path().join("ladekern.toml"), config).unwrap();
    folder
}

/// Measures power, switches above 1 kW, and says what it has seen behind that.
const RELAY: &str = r#"{
    "rtype": 2, "mtype": 1, "dev_type": "relay", "power_w": {"address": "acme/p", "type": "float"},
    "outputs": [
        {"address": "acme/relay", "body": "${if power_w > 1000`on`off}"},
        {"address": "acme/seen", "body": "${power_w} ${CM.twice}"}
    ],
    "resets": [{"address": "acme/relay", "body": "reset"}]
}"#;

#[tokio::test]
async fn a8_an_output_is_published_when_its_state_changes_and_reset_when_the_device_goes() {
    let broker = Mosquitto::start();
    let ear = Ear::connect_to(broker.port(), "acme/#").await;
    let device = "[[device]]\nid = \"M1\"\ntype = \"relay\"\naddress = \"mqtt\"\n";
    let variables = "[variables]\ntwice = \"M1.power_w * 2\"\n";
    let mqtt = format!("[mqtt]\nbroker = \"{}\"\n", broker.url());
    let text = format!("[load]\ncycle_ms = 100\n{mqtt}{variables}{device}");
    let site = Site::start_in(folder("relay", RELAY, &text)).await;
    // Measured and sent; before, the device has to have subscribed.
    let measure = async |watts: u32| {
        let said = ear.all("acme/seen").len();
        let feed = async || {
            ear.publish("acme/p", &watts.to_string()).await;
            ear.all("acme/seen").split_off(said)
        };
        let both = format!("{watts} {}", watts * 2);
        until("what it has seen", feed, |seen| seen.contains(&both)).await;
    };
    for watts in [1_200, 1_300, 1_400, 10, 20, 1_500] {
        measure(watts).await;
    }
    assert_eq!(ear.all("acme/relay"), ["on", "off", "on"], "what has not changed is not sent again");

    let enable = async |flag: bool| {
        let body = format!(r#"{{"devices":[{{"dev_id":"M1","device_enabled":{flag}}}]}}"#);
        assert_eq!(site.post("cmd=set_device", &body).await.status, 200);
    };
    enable(false).await;
    until("the reset", async || ear.all("acme/relay"), |all| *all == ["on", "off", "on", "reset"]).await;
    enable(true).await;
    measure(1_600).await;
    assert_eq!(site.get("cmd=del_device&dev_id=M1").await.status, 200);
    let all = async || ear.all("acme/relay");
    until("the other reset", all, |all| *all == ["on", "off", "on", "reset", "on", "reset"]).await;
    site.stop().await;
    assert_eq!(ear.all("acme/relay").len(), 6, "it has gone already");
}

/// A way to a broker that can be cut.
async fn way(to: SocketAddr) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let open = watch::Sender::new(true);
    let state = open.subscribe();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut state = state.clone();
            tokio::spawn(async move {
                let mut cut = state.clone();
                let work = async {
                    // While it is cut nothing is taken and nothing is said.
                    state.wait_for(|open| *open).await.unwrap();
                    let mut far = TcpStream::connect(to).await.unwrap();
                    // Either side may end it as it likes.
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                };
                tokio::select! {
                    () = work => {}
                    _ = cut.wait_for(|open| !*open) => {}
                }
            });
        }
    });
    (address, open)
}

#[tokio::test]
async fn a8_while_a_broker_is_away_outputs_fail_and_then_only_the_newest_state_comes() {
    let broker = Mosquitto::start();
    let ear = Ear::connect_to(broker.port(), "acme/#").await;
    let (address, open) = way(broker.addr()).await;
    let definition = r#"{
        "rtype": 2, "mtype": 1, "dev_type": "limit", "power_w": {"address": "acme/p", "type": "float"},
        "outputs": [{"address": "acme/limit", "body": "${M2.power_w}"}]
    }"#;
    let devices = format!(
        "[[device]]\nid = \"M1\"\ntype = \"limit\"\naddress = \"mqtt://{address}\"\n\
         [[device]]\nid = \"M2\"\ntype = \"http-input\"\n"
    );
    let site = Site::start_in(folder("limit", definition, &format!("[load]\ncycle_ms = 100\n{devices}"))).await;
    let feed = async |watts: u32| {
        let body = format!(r#"{{"power_w":{watts}}}"#);
        assert_eq!(site.post("cmd=set_ajax_meter&dev_id=M2", &body).await.status, 200);
    };
    let failed = async || {
        let page = http::get(site.http(), "/metrics").await.unwrap().body;
        assert!(!page.contains("failed_outputs_total{dev_id=\"M2\"}"), "it has no outputs: {page}");
        let line = "ladekern_device_failed_outputs_total{dev_id=\"M1\"} ";
        page.lines().find_map(|found| found.strip_prefix(line)).map(|number| number.parse::<u64>().unwrap())
    };
    feed(100).await;
    until("the first state", async || ear.all("acme/limit"), |all| *all == ["100"]).await;
    assert_eq!(failed().await, Some(0));

    open.send_replace(false);
    let down = |state: &Vec<BrokerState>| !matches!(state[..], [BrokerState::Connected { .. }]);
    let states = async || site.app.brokers().into_iter().map(|status| status.state).collect::<Vec<_>>();
    until("the connection is lost", states, down).await;
    feed(200).await;
    until("a failure", failed, |failed| *failed >= Some(1)).await;
    feed(300).await;
    let before = failed().await.unwrap();
    // The one that was under way, and one of the new state.
    until("another two", failed, |failed| *failed >= Some(before + 2)).await;
    open.send_replace(true);
    until("the newest state", async || ear.all("acme/limit"), |all| all.len() > 1).await;
    site.stop().await;
    assert_eq!(ear.all("acme/limit"), ["100", "300"], "never what is no longer true");
}

#[tokio::test]
async fn h20_an_output_to_localhost_sets_a_register_without_the_password() {
    let bank = Arc::new(Bank::new().with(Table::Holding, 0, &[0, 1_234]).with(Table::Holding, 300, &[9]));
    let (bus, control) = (Bus::new().with(3, bank.clone()), Control::default());
    let server = serve(([127, 0, 0, 1], 0).into(), Framing::Tcp, bus, control.clone()).await.unwrap();
    let definition = r#"{
        "rtype": 0, "mtype": 1, "dev_type": "switch", "upd_delay": 100, "power_w": {"type": "int32", "address": 0},
        "outputs": [{"address":
            "http://localhost/cnf?cmd=modbus_set&addr=${address}&id=${id}&reg=300&val=${if power_w > 1000`1`0}"}],
        "resets": [{"address": "http://localhost/cnf?cmd=modbus_set&addr=${address}&id=${id}&reg=300&val=7"}]
    }"#;
    let hash = ladekern::password::hash("geheim").unwrap().0;
    let config = format!(
        "[http]\nadmin_password_hash = \"{hash}\"\n[load]\ncycle_ms = 100\n\
         [[device]]\nid = \"M1\"\ntype = \"switch\"\n\
         endpoint.line = {{ url = \"tcp://{}\", unit = 3 }}\n",
        server.address()
    );
    let site = Site::start_in(folder("switch", definition, &config)).await;
    let writes = async || bank.writes();
    until("the register is set", writes, |writes| *writes == [(300, vec![1])]).await;
    bank.set(Table::Holding, 0, &[0, 1_300]);
    until("1300 W are measured", async || site.device("M1").await, |device| device["power_w"] == 1_300).await;
    bank.set(Table::Holding, 0, &[0, 99]);
    until("it is set once per state", writes, |writes| *writes == [(300, vec![1]), (300, vec![0])]).await;

    // Others need the password, and the log of failures stays empty.
    let query = format!("cmd=modbus_set&addr={}&id=3&reg=300&val=5", server.address());
    assert_eq!(site.get(&query).await.status, 401);
    assert_eq!(site.app.api().output_failures.count(&"M1".parse().unwrap()), Some(0));
    assert_eq!(control.connections(), 1, "on the connection the device is read over");
    site.stop().await;
    assert_eq!(bank.writes(), [(300, vec![1]), (300, vec![0]), (300, vec![7])], "reset when the host stops");
}
