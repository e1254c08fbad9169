//! The contract over MQTT: topics, status, the API, `ctl`, the log, our own topics. Against Mosquitto and the embedded
//! broker where they could differ.

mod api;
mod ctl;
mod doubled;
pub mod ear;
mod log;
mod native;
mod status;

use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::site::Site;

use ear::Ear;

/// A site and a client that hears everything at its broker.
struct Host {
    site: Site,
    ear: Ear,
    /// Ends with the test; none for the embedded one.
    _broker: Option<Mosquitto>,
}

impl Host {
    /// At a Mosquitto. `mqtt` are the keys of `[mqtt]` beside the broker, `rest` the rest of the file.
    async fn at_mosquitto(mqtt: &str, rest: &str) -> Self {
        let broker = Mosquitto::start();
        // The client is there first, or it would see only what is retained.
        let ear = Ear::connect(broker.port()).await;
        let site = Site::start(&format!("[mqtt]\nbroker = \"{}\"\n{mqtt}\n{rest}", broker.url())).await;
        Self { site, ear, _broker: Some(broker) }
    }

    /// At the broker of the daemon itself.
    async fn at_embedded(mqtt: &str, rest: &str) -> Self {
        let text = format!("[mqtt]\nbroker = \"embedded\"\nembedded_listen = \"127.0.0.1:0\"\n{mqtt}\n{rest}");
        let site = Site::start(&text).await;
        let ear = Ear::connect(site.app.embedded_broker().unwrap().port).await;
        Self { site, ear, _broker: None }
    }

    /// Waits until the site takes calls: who sees `get/online` and `get/dev_info` may call (rule B19).
    async fn ready(&self, prefix: &str) {
        self.ear.json(&format!("{prefix}/get/dev_info"), |_| true).await;
    }
}

const M1: &str = "[[device]]\nid = \"M1\"\ntype = \"http-input\"\naddress = \"mqtt\"\n";
const M3: &str = "[[device]]\nid = \"M3\"\ntype = \"http-input\"\naddress = \"mqtt\"\n";
const WALLBOXES: &str = "[[circuit]]\nid = \"main\"\nlimit_ma = [63000, 63000, 63000]\n\
    [[device]]\nid = \"E1\"\ntype = \"http-input\"\naddress = \"mqtt\"\n\
    [[device]]\nid = \"E2\"\ntype = \"http-input\"\naddress = \"mqtt\"\nmax_ma = 20000\n";
