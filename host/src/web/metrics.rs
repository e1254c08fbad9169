//! `GET /metrics`: the numbers for a monitoring system, in Prometheus' text form. `GET /api/brokers`: the state of
//! every broker (contract rule B1). Neither holds a secret; URLs come without their passwords.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::config::{LoadMode, Settings};
use crate::contract::SiteView;
use crate::definition::outputs::Failures;
use crate::site::{Moment, quantities};
use crate::transport::{BrokerState, BrokerStatus};

use super::{Admin, App, JSON, reply};

/// The state of every broker in use.
pub(super) async fn brokers(_: Admin, State(app): State<Arc<App>>) -> Response {
    let api = &app.state.api;
    let now = api.source.clock.now();
    let brokers: Vec<Value> = api.transports.brokers().iter().map(|status| broker(status, now)).collect();
    reply(StatusCode::OK, JSON, Value::from(brokers).to_string())
}

fn broker(status: &BrokerStatus, now: Moment) -> Value {
    let (state, version) = match &status.state {
        BrokerState::Connecting => ("connecting", None),
        BrokerState::Connected { v5: true } => ("connected", Some("5")),
        BrokerState::Connected { v5: false } => ("connected", Some("3.1.1")),
        BrokerState::Down(_) => ("down", None),
    };
    json!({
        "url": status.url,
        "client_id": status.client_id,
        "state": state,
        "version": version,
        "connected_for_s": status.connected_since.map(|since| now.since(since).as_secs()),
        "next_attempt_in_s": status.next_attempt.map(|at| at.since(now).as_secs_f64()),
        "last_error": status.last_error,
        "refused_filters": status.refused_filters,
        "received": status.received,
        "too_large": status.too_large,
        "duplicates": status.duplicates,
        "sent": status.sent,
        "refused": status.refused,
        "waiting": status.waiting,
        "superseded": status.superseded,
        "connections": status.connections,
        "lost": status.lost,
    })
}

/// All numbers.
pub(super) async fn text(_: Admin, State(app): State<Arc<App>>) -> Response {
    let api = &app.state.api;
    let text = render(&api.source.view(), &api.settings, &api.transports.brokers(), &api.output_failures);
    reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// Writes one metric after the other, as the format wants it.
#[derive(Default)]
struct Page(String);

impl Page {
    fn metric(&mut self, name: &str, kind: &str, help: &str, values: impl IntoIterator<Item = (String, f64)>) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

/// `{name="value"}`
fn label(name: &str, value: impl Display) -> String {
    let value = value.to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

#[expect(clippy::cast_precision_loss, reason = "counters are shown as floating point by definition of the format")]
fn render(view: &SiteView, settings: &Settings, brokers: &[BrokerStatus], outputs: &Failures) -> String {
    let mut page = Page::default();
    let one = |value: f64| [(String::new(), value)];
    let flag = |set: bool| f64::from(u8::from(set));
    let version = [(label("version", env!("CARGO_PKG_VERSION")), 1.0)];
    page.metric("ladekern_build_info", "gauge", "The running version.", version);
    let managing = flag(view.config.load.mode == LoadMode::Manage);
    page.metric("ladekern_managing", "gauge", "1: wallboxes are commanded, 0: observed only.", one(managing));
    let age = view.snapshot.at.since(view.plan.plan.at).as_secs_f64();
    page.metric("ladekern_plan_age_seconds", "gauge", "Time since the load manager last decided.", one(age));
    let alarms = view.plan.plan.alarms.len() as f64;
    page.metric("ladekern_alarms", "gauge", "What a person should look at.", one(alarms));
    let writes = settings.writes() as f64;
    page.metric("ladekern_config_writes_total", "counter", "Changes of settings written to the file.", one(writes));
    let failed = settings.failed_writes() as f64;
    let help = "Attempts to write changes of settings that failed.";
    page.metric("ladekern_config_failed_writes_total", "counter", help, one(failed));

    let mut of_brokers = |name, kind, help, value: &dyn Fn(&BrokerStatus) -> f64| {
        page.metric(name, kind, help, brokers.iter().map(|broker| (label("url", &broker.url), value(broker))));
    };
    of_brokers("ladekern_broker_up", "gauge", "1: connected.", &|broker| {
        flag(matches!(broker.state, BrokerState::Connected { .. }))
    });
    of_brokers("ladekern_broker_received_total", "counter", "Messages received.", &|broker| broker.received as f64);
    of_brokers("ladekern_broker_too_large_total", "counter", "Received messages that were too large.", &|broker| {
        broker.too_large as f64
    });
    of_brokers("ladekern_broker_duplicates_total", "counter", "Received messages that had come before.", &|broker| {
        broker.duplicates as f64
    });
    of_brokers("ladekern_broker_refused_total", "counter", "Messages the broker did not take.", &|broker| {
        broker.refused as f64
    });
    of_brokers("ladekern_broker_sent_total", "counter", "Messages handed to the broker.", &|broker| broker.sent as f64);
    of_brokers("ladekern_broker_superseded_total", "counter", "Measurements that gave way to newer ones.", &|broker| {
        broker.superseded as f64
    });
    of_brokers("ladekern_broker_lost_total", "counter", "How often the connection was lost.", &|broker| {
        broker.lost as f64
    });

    let devices: Vec<_> = view.config.devices.iter().filter(|device| device.enabled).collect();
    let silent = devices.iter().map(|device| {
        let silent = view.device(&device.id).is_none_or(|object| object.com_err());
        (label("dev_id", &device.id), flag(silent))
    });
    page.metric("ladekern_device_com_err", "gauge", "1: the device says nothing that is fresh.", silent);
    let statuses = || devices.iter().filter_map(|device| Some((&device.id, view.snapshot.devices.get(&device.id)?)));
    let errors = statuses().map(|(id, status)| (label("dev_id", id), status.errors as f64));
    page.metric("ladekern_device_errors_total", "counter", "Exchanges that failed.", errors);
    let successes = statuses().map(|(id, status)| (label("dev_id", id), status.successes as f64));
    page.metric("ladekern_device_successes_total", "counter", "Polls and messages that succeeded.", successes);
    let failed = devices.iter().filter_map(|device| {
        let failed = outputs.count(&device.id)? as f64;
        Some((label("dev_id", &device.id), failed))
    });
    let help = "Attempts to send an output or a reset of a definition that failed.";
    page.metric("ladekern_device_failed_outputs_total", "counter", help, failed);
    let power = statuses().filter_map(|(id, status)| {
        let fresh = status.values.fresh(quantities::POWER_TOTAL, status.not_before(view.snapshot.at))?;
        Some((label("dev_id", id), fresh))
    });
    page.metric("ladekern_device_power_watts", "gauge", "Power, where it is fresh.", power);
    let current =
        statuses().filter_map(|(id, status)| Some((label("dev_id", id), f64::from(status.commanded?.value) / 1000.0)));
    page.metric("ladekern_device_commanded_amperes", "gauge", "The last current the wallbox accepted.", current);
    page.0
}
