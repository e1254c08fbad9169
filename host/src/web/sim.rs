//! `/ui/en/sim.htm`: a page that plays the devices whose name begins with `Sim-` (`cfos-interfaces.md` 1.9). Clients
//! also ask for it to learn whether a password is right.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::config::{Config, DeviceConfig, HTTP_INPUT};
use crate::site::DeviceKind;

use super::page::escape;
use super::{Admin, App, html};

/// Devices with such a name are played.
const PREFIX: &str = "Sim-";

pub(super) const STYLE: &str = "body{font:1rem/1.4 system-ui,sans-serif;margin:2rem;color:#222;background:#fff}\
fieldset{border:1px solid #ccc;margin:0 0 1rem;max-width:50rem}label{display:inline-block;margin:.3rem 1rem .3rem 0}\
input,select{font:inherit;width:7rem}output{display:block;min-height:1.4em}.bad{color:#a00}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}.bad{color:#f77}}";

/// What is entered is sent at once and again every five seconds, because what is fed grows old; leaving the page
/// sends zeros.
pub(super) const SCRIPT: &str = r#"'use strict';
const forms = [...document.querySelectorAll('form[data-device]')];
const used = new Set();
const number = (form, name) => Number(form.elements[name].value) || 0;
function message(form, zero) {
  const field = (name) => zero ? 0 : number(form, name);
  const current = [field('l1'), field('l2'), field('l3')].map((amperes) => Math.round(amperes * 1000));
  if (form.dataset.kind === 'evse') {
    return { model: 'Simulation', state: zero ? 1 : number(form, 'state'), current,
      max_charging_current: Math.round(number(form, 'max') * 1000), total_energy: number(form, 'energy') };
  }
  return { model: 'Simulation', power_w: field('power'), current, voltage: [230, 230, 230],
    import_wh: number(form, 'import'), export_wh: number(form, 'export') };
}
function send(form, zero) {
  const url = '/cnf?cmd=set_ajax_' + form.dataset.kind + '&dev_id=' + form.dataset.device;
  return fetch(url, { method: 'POST', keepalive: zero, credentials: 'same-origin',
    headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(message(form, zero)) });
}
async function feed(form) {
  const told = form.querySelector('output');
  try {
    const answer = await send(form, false);
    const text = await answer.text();
    told.className = answer.ok ? '' : 'bad';
    told.textContent = text;
  } catch (error) {
    told.className = 'bad';
    told.textContent = String(error);
  }
}
for (const form of forms) {
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('change', () => { used.add(form); feed(form); });
}
setInterval(() => used.forEach(feed), 5000);
addEventListener('pagehide', () => { used.forEach((form) => send(form, true)); });
"#;

/// The page, for the admin.
pub(super) async fn page(_: Admin, State(app): State<Arc<App>>) -> Response {
    let config = Arc::clone(&app.state.api.source.config.borrow());
    html(render(&config), "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
}

fn render(config: &Config) -> String {
    let mut html = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Simulation</title>\
         <link rel=\"stylesheet\" href=\"/ui/en/sim.css\"><script src=\"/ui/en/sim.js\" defer></script></head>\
         <body><h1>Simulation</h1>"
        .to_owned();
    let mut any = false;
    for device in config.devices.iter().filter(|device| is_played(device)) {
        any = true;
        form(&mut html, device);
    }
    if any {
        html.push_str("<p>What is entered here is fed to the device until the page is closed, which feeds zeros.</p>");
    } else {
        html.push_str(
            "<p>There is nothing to play: name a device of type <code>http-input</code> so that its name begins with \
             <code>Sim-</code>.</p>",
        );
    }
    html.push_str("</body></html>");
    html
}

fn is_played(device: &DeviceConfig) -> bool {
    device.enabled && device.device_type == HTTP_INPUT && device.name.starts_with(PREFIX)
}

fn form(html: &mut String, device: &DeviceConfig) {
    let kind = match device.id.kind() {
        DeviceKind::Evse => "evse",
        DeviceKind::Meter => "meter",
    };
    let id = &device.id;
    // Writing into a string cannot fail.
    let _ = write!(
        html,
        "<form data-device=\"{id}\" data-kind=\"{kind}\"><fieldset><legend>{id} {}</legend>",
        escape(&device.name)
    );
    let mut field = |name: &str, text: &str, value: &str| {
        let _ = write!(
            html,
            "<label>{text} <input type=\"number\" step=\"any\" name=\"{name}\" value=\"{value}\" autocomplete=\"off\"></label>"
        );
    };
    for (name, text) in [("l1", "L1 (A)"), ("l2", "L2 (A)"), ("l3", "L3 (A)")] {
        field(name, text, "0");
    }
    if kind == "meter" {
        field("power", "Power (W)", "0");
        field("import", "Import (Wh)", "0");
        field("export", "Export (Wh)", "0");
    } else {
        field("max", "Largest current (A)", &format!("{}", f64::from(device.max_ma) / 1000.0));
        field("energy", "Energy (Wh)", "0");
        html.push_str(
            "<label>State <select name=\"state\"><option value=\"1\">no car</option><option value=\"2\">car present\
             </option><option value=\"3\">charging</option><option value=\"5\">error</option></select></label>",
        );
    }
    html.push_str("<output></output></fieldset></form>");
}
