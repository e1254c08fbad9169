//! The commands against a whole daemon: every variant of every call, what is refused, and that a refused call changes
//! nothing.

mod access;
mod admin;
mod devices;
mod fed;
mod malformed;
mod parameters;
mod users;
mod vars;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Answer;
use crate::app::testing::TestSite;
use crate::config::{Config, DeviceConfig};

/// A deadline for what happens at once on an idle machine.
const SOON: Duration = Duration::from_secs(20);

const SITE: &str = r#"# written by hand
[site]
title = "Home"
[load]
reserve_ma = 1000 # for the oven
[[circuit]]
id = "main"
limit_ma = [35000, 32000, 35000]
meter = "M1"
[[device]]
id = "M1"
name = "Grid"
type = "http-input"
role = "grid"
[[device]]
id = "M2"
type = "http-input"
[[device]]
id = "E1"
name = "Carport"
type = "http-input"
phases = "L2L3L1"
[[device]]
id = "E2"
type = "http-input"
[[user]]
id = "4711"
name = "Ada"
devices = ["E1"]
[[user.card]]
id = "04AB12"
"#;

impl TestSite {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.api.source.config.borrow())
    }

    fn device(&self, id: &str) -> DeviceConfig {
        self.config().devices.iter().find(|device| device.id.as_str() == id).unwrap().clone()
    }

    /// A call that has to be answered `"ok"`.
    async fn ok(&self, query: &str, body: &str) {
        let answer = self.call(query, body).await;
        assert_eq!((answer.status, text(&answer)), (200, "\"ok\""), "{query} {body}");
    }

    /// A call that has to be refused with a sentence that has these parts, and that changes nothing.
    async fn refused(&self, query: &str, body: &str, parts: &[&str]) {
        let before = self.config();
        let answer = self.call(query, body).await;
        assert_eq!(answer.status, 400, "{query} {body}: {}", text(&answer));
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        for part in parts {
            assert!(error.contains(part), "{query} {body}: \"{part}\" is not in: {error}");
        }
        assert_eq!(*before, *self.config(), "{query} {body} changed something");
    }

    /// What a call answers as JSON, with 200.
    async fn read(&self, query: &str) -> Value {
        let answer = self.call(query, "").await;
        assert_eq!(answer.status, 200, "{query}: {}", text(&answer));
        answer.json()
    }

    /// One entry of `get_devices`.
    async fn full(&self, id: &str) -> Value {
        let devices = self.read("cmd=get_devices").await;
        devices.as_array().unwrap().iter().find(|device| device["dev_id"] == id).unwrap().clone()
    }

    /// `set_device` with these members.
    async fn set_device(&self, device: Value) -> Answer {
        self.call("cmd=set_device", &serde_json::json!({ "devices": [device] }).to_string()).await
    }

    /// Waits until the file holds a text: it is written soon after a change, not at once.
    async fn written(&self, part: &str) {
        let looked = tokio::time::timeout(SOON, async {
            while !self.text().contains(part) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        looked.await.unwrap_or_else(|_| panic!("{part} is not in the file: {}", self.text()));
    }
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}
