//! The page at `/`: every device with what it says and what the load manager does with it. One table, no script,
//! nothing from elsewhere.

use std::fmt::Write as _;

use crate::config::LoadMode;
use crate::contract::SiteView;
use crate::site::{DeviceKind, quantities};

const STYLE: &str = "body{font:1rem/1.4 system-ui,sans-serif;margin:2rem;color:#222;background:#fff}\
table{border-collapse:collapse}th,td{padding:.3rem .8rem;border-bottom:1px solid #ccc;text-align:left}\
td.n{text-align:right}.bad{color:#a00}@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}.bad{color:#f77}}";

/// The whole page.
pub(super) fn render(view: &SiteView) -> String {
    let title = escape(&view.config.site.title);
    let mode = match view.config.load.mode {
        LoadMode::Manage => "load management",
        LoadMode::Observe => "observing only",
    };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"3\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1><p>Ladekern {}, {mode}, serial number {}</p>\
         <table><tr><th>Device</th><th>Name</th><th>Type</th><th>State</th><th>Power</th><th>L1</th><th>L2</th>\
         <th>L3</th><th>Limit</th><th>Why</th></tr>",
        env!("CARGO_PKG_VERSION"),
        escape(&view.serial),
    );
    for device in &view.config.devices {
        row(&mut html, view, device);
    }
    html.push_str("</table>");
    if view.config.devices.is_empty() {
        html.push_str("<p>The configuration names no device yet.</p>");
    }
    for alarm in &view.plan.plan.alarms {
        // Writing into a string cannot fail.
        let _ = write!(html, "<p class=\"bad\">{}</p>", escape(&alarm.to_string()));
    }
    for device in &view.config.devices {
        let status = view.snapshot.devices.get(&device.id);
        let refused = status.and_then(|status| status.update_failed.as_ref());
        for reason in refused.into_iter().chain(view.plan.rule_mistakes.get(&device.id)) {
            let _ = write!(html, "<p class=\"bad\">{}: {}</p>", device.id, escape(reason));
        }
    }
    html.push_str("<p>For programs: <a href=\"/cnf?cmd=get_dev_info\">/cnf?cmd=get_dev_info</a></p></body></html>");
    html
}

fn row(html: &mut String, view: &SiteView, device: &crate::config::DeviceConfig) {
    let status = view.snapshot.devices.get(&device.id);
    let silent = view.device(&device.id).is_some_and(|object| object.com_err());
    let state = match status {
        _ if !device.enabled => "disabled".to_owned(),
        Some(status) if status.health.is_running() && silent => "no fresh values".to_owned(),
        Some(status) => match status.values.connector().and_then(|state| state.value.letter()) {
            Some(letter) if status.health.is_running() => format!("running, {letter}"),
            _ => status.health.describe(),
        },
        None => "starting".to_owned(),
    };
    // What is not known is shown as such.
    let value = |name: &str, scale: f64, unit: &str, digits: usize| {
        let value = status.and_then(|status| status.values.get(name));
        value.map_or_else(|| "–".to_owned(), |value| format!("{:.digits$} {unit}", value.value / scale))
    };
    let plan = view.plan.plan.chargers.get(&device.id);
    let limit = status.and_then(|status| status.commanded).filter(|_| device.id.kind() == DeviceKind::Evse);
    let cells = [
        ("n", value(quantities::POWER_TOTAL, 1.0, "W", 0)),
        ("n", value(quantities::CURRENT[0], 1000.0, "A", 1)),
        ("n", value(quantities::CURRENT[1], 1000.0, "A", 1)),
        ("n", value(quantities::CURRENT[2], 1000.0, "A", 1)),
        ("n", limit.map_or_else(String::new, |limit| format!("{:.1} A", f64::from(limit.value) / 1000.0))),
        ("", plan.map_or_else(String::new, |plan| plan.reason.to_string())),
    ];
    let class = if silent { "bad" } else { "" };
    let _ = write!(
        html,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td>",
        device.id,
        escape(&device.name),
        escape(&device.device_type),
        escape(&state)
    );
    for (class, text) in cells {
        let _ = write!(html, "<td class=\"{class}\">{}</td>", escape(&text));
    }
    html.push_str("</tr>");
}

/// Names and messages of devices come from outside.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
