//! Golden cases: what good files become, what is said about bad ones, and that every key is checked.

mod full;
mod mistakes;
mod real;
mod robust;
mod schema;

use super::*;

/// Errors of a text, one a line.
fn errors(text: &str) -> String {
    let checked = check("f", text);
    assert_eq!(checked.definition.is_none(), !checked.errors.is_empty(), "{text}");
    checked.errors.iter().map(|finding| format!("{finding}\n")).collect()
}

/// Warnings of a text, one a line.
fn warnings(text: &str) -> String {
    check("f", text).warnings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// The definition of a text without errors.
#[track_caller]
fn good(text: &str) -> Definition {
    match parse("f", text) {
        Ok(parsed) => parsed.definition,
        Err(errors) => panic!("{}", errors.iter().map(|finding| format!("{finding}\n")).collect::<String>()),
    }
}

/// A file with every key, by transport; each has to be read without a warning.
const MODBUS: &str = r##"// A meter with everything that Modbus knows.
{
  "$schema": "definition.schema.json",
  "dev_type": "test-meter.1",
  "name": "Test Meter",
  "manufacturer": "Nobody",
  "rtype": 0,
  "mtype": 1,
  "upd_delay": 2000,
  "delay_accumulated": false,
  "ui_addr": "http://192.168.0.9/",
  "reserved": [0x8000, -1, 4294967295],
  "unavailable": [-32768],
  "modbus_read": 4,
  "modbus_read_max_registers": 60,
  "modbus_allow_gaps": true,
  rtu: { silence_period: 40, silence_same_slave: true, retries: 2, rcv_timeout: 700 },
  'tcp': { 'connect_timeout': 3000, 'delay_after_connect': 50, },
  "type_designation": { "fixed": "TM 1", "address": "", "type": "string" },
  "version": { "address": 0x8907, "type": "int32", "length": 4 },
  "firmware_version": { "address": 10, "type": "uint16", "length": 2 },
  "serial": { "address": "0x8900", "type": "string", "length": 8 },
  "power_w": { "address": 0x5B14, "type": "int32", "resolution": -0.01 },
  "import_wh": { "address": 0x5000, "type": "uint64", "resolution": 10, "order": "lh" },
  "voltage_l1": { "address": 0x5B00, "type": "uint32", "resolution": .1 },
  "energy_total": { "address": 0x6000, "type": "double" },
  "temperature": { "address": 65535, "type": "int16", "once": true },
  "*label": { "address": 100, "type": "string", "length": 4 },
  "CM._set_price": { "expr": "12" },
  "count": { "fixed": "3" },
  "inputs": [{ "address": 200, "count": 4 }, { "address": 201, "count": 20 }],
  "outputs": [{ "address": "#30#http://localhost/cnf?cmd=x&v=${temperature}", "body": "{\"id\": ${id}}" }],
  "resets": [{ "address": "http://192.168.0.9/off" }],
}
"##;

const HTTP: &str = r#"{
  "dev_type": "http_meter", "rtype": 1, "mtype": 2, "tcp": { "connect_timeout": 1000 },
  "power_w": { "address": "GET /status", "query": "power", "resolution": -1 },
  "soc": { "address": "POST /soc?a=1&b=total/x", "regex": "soc=(\\d+)", "type": "uint16" },
  "serial": { "address": "/id" },
  "version": { "address": "/status", "query": "version", "type": "int64", "length": 4 },
  "mode": { "address": "/status", "query": "mode", "type": "string" },
  "inputs": [{ "address": "/status", "query": "relays", "count": 8 }],
  "outputs": [{ "address": "POST /set?on=${if power_w > 0`1`0}" }],
}"#;

const MQTT: &str = r#"{
  "dev_type": "mqtt_meter", "rtype": 2,
  "power_w": { "address": "meters/1/power" },
  "voltage_l1": { "address": "meters/1", "query": "voltage" },
  "raw": { "address": "meters/1/log", "regex": "^x=(.*)$", "type": "string", "once": false },
}"#;
