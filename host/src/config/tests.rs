//! Mistakes in a configuration, and what is said about each.

mod sections;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::site::Role;

fn sets(texts: &[&str]) -> Vec<Override> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn good(text: &str) -> Config {
    parse("f.toml", text, &[]).unwrap_or_else(|errors| panic!("{errors}"))
}

/// All mistakes, one line each.
fn mistakes(text: &str, overrides: &[&str]) -> Vec<String> {
    match parse("f.toml", text, &sets(overrides)) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
    }
}

/// `text` has exactly one mistake, and its line contains `parts`.
fn check(text: &str, parts: &[&str]) {
    let found = mistakes(text, &[]);
    assert_eq!(found.len(), 1, "{text}\n{found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "{text}\n{found:#?}\nlacks {part}");
    }
}

const HOME: &str = r#"
[site]
title = "Home"
[http]
listen = "127.0.0.1:4712"
[mqtt]
broker = "mqtt://127.0.0.1:1883"
publish = "mqtt"
[load]
mode = "manage"
[[circuit]]
id = "main"
limit_ma = [35000, 35000, 35000]
meter = "M1"
[[device]]
id = "M1"
name = "Grid"
type = "http-input"
role = "grid"
address = "mqtt"
[[device]]
id = "E1"
name = "Carport"
type = "cfos-power-brain"
circuit = "main"
phases = "L1L2L3"
max_ma = 16000
endpoint.main = { url = "tcp://127.0.0.1:4701", unit = 1 }
"#;

#[test]
fn the_documented_example_is_read() {
    let config = good(HOME);
    assert_eq!(config.site.title, "Home");
    assert_eq!(config.mqtt.publish, BrokerRef::Default);
    assert_eq!(config.circuits[0].limit_ma, [35_000; 3]);
    let [meter, wallbox] = config.devices.as_slice() else { panic!("{:?}", config.devices) };
    assert_eq!((meter.role, &meter.feed, meter.timeout), (Role::Grid, &BrokerRef::Default, None));
    assert_eq!(wallbox.circuit.as_deref(), Some("main"));
    assert_eq!(wallbox.phases, Some(PhaseMap { of: [Some(0), Some(1), Some(2)] }));
    let main = &wallbox.endpoints["main"];
    assert_eq!(main.url, EndpointUrl::ModbusTcp { host: "127.0.0.1".into(), port: Some(4701) });
    assert_eq!((main.unit, main.request_timeout(), main.read_only), (Some(1), Duration::from_secs(1), false));
    assert_eq!(config.places.devices[&wallbox.id], "f.toml:21");
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = good("");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:4712");
    assert_eq!(config.mqtt.embedded_listen.to_string(), "127.0.0.1:1883");
    assert_eq!((config.mqtt.publish, config.mqtt.broker), (BrokerRef::Off, None));
    assert_eq!((config.load.mode, config.load.max_total_cur_prc), (LoadMode::Manage, 100));
    assert_eq!((config.load.cycle, config.load.disable_policy), (Duration::from_secs(1), DisablePolicy::Minimum));
}

#[test]
fn all_mistakes_come_together_in_the_order_of_the_file() {
    let text = r#"
[http]
listen = "localhost"
[load]
mode = "automatic"
cyclems = 5
[[device]]
id = "E1"
type = "go-e"
max_ma = "16 A"
adress = "http://10.0.0.1"
[[device]]
id = "E1"
type = "go-e"
[unknown]
"#;
    let found = mistakes(text, &[]);
    let starts: Vec<&str> = found.iter().map(|line| line.rsplit_once(": ").unwrap().0).collect();
    assert_eq!(found.len(), 7, "{found:#?}");
    for (line, part) in [
        "f.toml:3: http.listen: \"localhost\" is no address and port",
        "f.toml:5: load.mode: expected \"manage\" or \"observe\"",
        "f.toml:6: load.cyclems: unknown key, did you mean \"cycle_ms\"?",
        "f.toml:10: device.E1.max_ma: expected a whole number from 6000 to 80000, found the text \"16 A\"",
        "f.toml:11: device.E1.adress: unknown key, did you mean \"address\"?",
        "f.toml:12: device.E1.id: there is a second device with this id, the first is at f.toml:7",
        "f.toml:15: unknown: unknown key, known here are: circuit, device, http, load, modbus_server, mqtt, site",
    ]
    .iter()
    .enumerate()
    {
        assert!(found[line].starts_with(part), "{found:#?}\n{starts:?}\nlacks {part}");
    }
}

#[test]
fn what_is_no_toml_names_the_line() {
    check("[site]\ntitle = \"a\"\ntitle = \"b\"", &["f.toml:3", "no TOML", "duplicate key"]);
    check("[site]\ntitle = ", &["f.toml:2", "no TOML"]);
}

#[test]
fn what_reaches_us_is_checked() {
    for (text, parts) in [
        ("[mqtt]\napi = \"mqtt\"", ["mqtt.api", "mqtt.broker is not set"]),
        ("[mqtt]\ncontrol = true", ["mqtt.control", "need a broker"]),
        ("[mqtt]\napi_max_response = 1", ["mqtt.api_max_response", "256"]),
        ("[mqtt.tls.\"mqtt://a\"]\nverify = false", ["mqtt.tls.mqtt://a", "a broker with TLS"]),
        ("[mqtt.tls.\"mqtts://a\"]\nclient_key = \"k\"", ["client_key", "belong together"]),
        ("[http]\nadmin_password_hash = \"geheim\"", ["http.admin_password_hash", "ladekern password"]),
        ("[http]\ntls_cert = \"a\"", ["http.tls_cert", "belong together"]),
        ("[modbus_server]\nports = [1, 1, 2]", ["modbus_server.ports", "three different"]),
        ("[modbus_server]\nevse = \"E1\"", ["modbus_server.evse", "there is no device E1"]),
        ("[[user]]\nname = \"x\"", ["user 1.id", "is missing"]),
        ("[[user]]\nid = \"1\"\n[[user]]\nid = \"1\"", ["user 2.id", "an earlier user"]),
        ("[[user]]\nid = \"1\"\ndevices = [\"M1\"]", ["user 1.devices", "M1 is a meter"]),
        ("[[user]]\nid = \"1\"\n[[user.card]]\nname = \"x\"", ["user 1.card.id", "is missing"]),
        ("[[user]]\nid = \"1\"\n[[user.card]]\nid = \"1\"\nphases = 2", ["user 1.card.phases", "1 or 3"]),
        ("[variables]\n\"1x\" = 1", ["variables.1x", "letters, digits"]),
        ("[variables]\nx = \"y +\"", ["variables.x", "goes wrong at character 4"]),
        ("[variables]\nx = \"1e999\"", ["variables.x", "expected a number or a formula"]),
        ("[variables]\nx = true", ["variables.x", "expected a number, or a formula in quotes"]),
        ("[variables]\nx = \"CM.y\"\ny = \"X * 2\"", ["variables.x", "CM.x → CM.y → CM.x"]),
        ("[variables]\nx = \"E1.y\"\n\"E1.y\" = \"CM.x\"", ["variables.E1.y", "E1.y → CM.x → E1.y"]),
        ("[variables]\nx = 1\nX = 2", ["variables.", "formulas do not distinguish case"]),
        ("[variables]\n_surplus = 1", ["variables._surplus", "computed by the Charging Manager itself"]),
        ("[variables]\n\"E1.input3\" = 1", ["variables.E1.input3", "what the device itself tells"]),
        ("[variables]\n\"V1.x\" = 1", ["variables.V1.x", "begins with its id, like E1.x"]),
        ("[variables]\n\"E1.x.y\" = 1", ["variables.E1.x.y", "letters, digits"]),
        ("[variables]\n\"E1.\" = 1", ["variables.E1.", "letters, digits"]),
        ("[variables]\n\"M70000.x\" = 1", ["variables.M70000.x", "letters, digits"]),
        ("[variables]\nx = { trigger_s = 1 }", ["variables.x.expr", "is missing"]),
        ("[variables]\nx = { expr = 1, trigger_s = 0 }", ["variables.x.trigger_s", "from 1 to 86400"]),
        ("[variables]\nx = { expr = 1, retrigger = true }", ["variables.x.retrigger", "belongs to trigger_s"]),
        ("[variables]\nx = { expr = 1, trigger = 3 }", ["variables.x.trigger", "unknown key, did you mean"]),
        ("[load]\nsurplus_expr = \"1 +\"", ["load.surplus_expr", "goes wrong at character 4"]),
        ("[load]\nsurplus_expr = 5", ["load.surplus_expr", "expected a text"]),
        ("[load]\nsurplus_expr = \"GM.surplus.power_w\"", ["load.surplus_expr", "CM._org_surplus"]),
        ("[load]\nsurplus_expr = \"CM._surplus\"", ["load.surplus_expr", "CM._surplus → CM._surplus"]),
        ("[[device]]\nid = \"M1\"\ntype = \"t\"\nmax_ma_expr = \"1\"", ["device.M1.max_ma_expr", "only wallboxes"]),
    ] {
        check(text, &parts);
    }
}

#[test]
fn secrets_are_in_no_message_and_in_no_debug_output() {
    let secrets = "[http]\nadmin_password_hash = \"geheim\"\n[[user]]\nid = \"47x11\"\n[[user]]\nid = \"1\"\n[[user.card]]\nid = \"47-11\"";
    let found = mistakes(secrets, &[]).join("\n");
    assert!(!found.contains("geheim") && !found.contains("47x11") && !found.contains("47-11"), "{found}");
    let text = "[mqtt]\nbroker = \"mqtt://u:geheim@h\"\n[[user]]\nid = \"4711\"\n[[user.card]]\nid = \"0815\"";
    let shown = format!("{:?}", good(text));
    assert!(!shown.contains("geheim") && !shown.contains("4711") && !shown.contains("0815"), "{shown}");
}

fn with_device(lines: &str) -> String {
    format!("[mqtt]\nbroker = \"embedded\"\n[[device]]\n{lines}\n")
}

#[test]
fn devices_are_checked() {
    for (lines, part) in [
        ("type = \"x\"", "device.id: is missing"),
        ("id = \"X1\"\ntype = \"x\"", "device.id: \"X1\" is no device id"),
        ("id = \"M1\"", "device.M1.type: is missing"),
        ("id = \"M1\"\ntype = \"x\"\nrole = \"gird\"", "unknown role \"gird\", known are: display"),
        ("id = \"M1\"\ntype = \"x\"\nmax_ma = 6000", "device.M1.max_ma: only wallboxes"),
        ("id = \"E1\"\ntype = \"x\"\nrole = \"grid\"", "device.E1.role: only meters"),
        ("id = \"E1\"\ntype = \"x\"\nmin_ma = 10000\nmax_ma = 8000", "device.E1.max_ma: 8000 is below min_ma"),
        ("id = \"E1\"\ntype = \"x\"\nmin_ma = 5000", "from 6000 to 80000"),
        ("id = \"E1\"\ntype = \"x\"\nphases = \"L1L1\"", "found \"L1L1\""),
        ("id = \"E1\"\ntype = \"x\"\nphases = \"\"", "like \"L1L2L3\""),
        ("id = \"E1\"\ntype = \"x\"\ncircuit = \"main\"", "device.E1.circuit: there is no circuit \"main\""),
        ("id = \"E1\"\ntype = \"x\"\nfailsafe = { ma = 6000 }", "device.E1.failsafe.timeout_s: is missing"),
        ("id = \"E1\"\ntype = \"x\"\nfailsafe = { ma = 3000, timeout_s = 9 }", "less than 6 A"),
        ("id = \"M1\"\ntype = \"x\"\nsha256 = \"12\"", "64 hexadecimal digits"),
        ("id = \"M1\"\ntype = \"x\"\nlimits = { memory = \"8 MB\", cpu_ms = 9999 }", "device.M1.limits.cpu_ms"),
        ("id = \"M1\"\ntype = \"x\"\nlimits = { memory = \"1GiB\" }", "expected a size like \"8MiB\""),
        ("id = \"M1\"\ntype = \"x\"\nconfig = 7", "expected a table"),
        ("id = \"M1\"\ntype = \"x\"\naddress = \"10.0.0.1:502\"", "expected tcp://host:port"),
        ("id = \"M1\"\ntype = \"x\"\naddress = \"mqtt\"\nendpoint.main = { url = \"mqtt\" }", "one or the other"),
        ("id = \"M1\"\ntype = \"x\"\nendpoint.main = \"tcp://a\"", "device.M1.endpoint.main: expected a table"),
        ("id = \"M1\"\ntype = \"x\"\nendpoint.main = { unit = 1 }", "device.M1.endpoint.main.url: is missing"),
        ("id = \"M1\"\ntype = \"x\"\nendpoint.main = { url = \"http://a\", unit = 1 }", "does not belong to an HTTP"),
        ("id = \"M1\"\ntype = \"x\"\nendpoint.main = { url = \"http://a\", user = \"u\" }", "belong together"),
        ("id = \"M1\"\ntype = \"x\"\nendpoint.main = { url = \"mqtt\", access = \"ro\" }", "\"read-only\""),
        ("id = \"M1\"\ntype = \"x\"\nendpoint.main = { url = \"mqtt\", topic_prefix = \"a/#\" }", "no wildcards"),
        ("id = \"M1\"\ntype = \"http-input\"\naddress = \"http://a\"", "An http-input is fed"),
        ("id = \"M1\"\ntype = \"http-input\"\nendpoint.main = { url = \"mqtt\" }", "has no endpoints"),
        ("id = \"M1\"\ntype = \"http-input\"\nwasi = true", "only plugins have this key"),
    ] {
        check(&with_device(lines), &[part]);
    }
}

#[test]
fn a_device_is_read_with_everything() {
    let config = good(&with_device(
        r#"id = "E2"
type = "go-e"
enabled = false
publish = "mqtt5://other:2000"
timeout_s = 30
poll_ms = 500
phases = "L2"
min_ma = 7000
max_ma = 32000
priority = -2
failsafe = { ma = 0, timeout_s = 60 }
sha256 = "9F2C000000000000000000000000000000000000000000000000000000000000"
wasi = true
config = { pin = 4711, list = [1.5, true] }
limits = { memory = "8MiB", tables = 5, cpu_ms = 6, call_timeout_ms = 7, log = 8, state = 9, http_body = "1KiB" }
endpoint.api = { url = "http://10.0.0.2/base/", timeout_ms = 1500, user = "u", password_file = "pw", access = "read-only" }
endpoint.bus = { url = "rtu:///dev/ttyS0?baud=19200&parity=e&stop=2", unit = 7, min_gap_ms = 20 }
endpoint.push = { url = "mqtt", topic_prefix = "go-e/123/" }"#,
    ));
    let device = &config.devices[0];
    assert_eq!((device.name.as_str(), device.enabled, device.wasi), ("E2", false, true));
    assert!(matches!(&device.publish, Some(BrokerRef::Url(url)) if url.v5 && url.port == 2000));
    assert_eq!((device.timeout, device.poll), (Some(Duration::from_secs(30)), Some(Duration::from_millis(500))));
    assert_eq!(device.phases, Some(PhaseMap { of: [Some(1), None, None] }));
    assert_eq!((device.min_ma, device.max_ma, device.priority), (7_000, 32_000, -2));
    assert_eq!(device.failsafe, Some(FailsafeConfig { ma: 0, timeout_s: 60 }));
    assert_eq!(device.sha256.as_deref().map(|digest| &digest[..4]), Some("9f2c"));
    assert_eq!(device.config, serde_json::json!({"pin": 4711, "list": [1.5, true]}));
    let limits = LimitsConfig {
        memory: Some(8 << 20),
        tables: Some(5),
        cpu: Some(Duration::from_millis(6)),
        call_timeout: Some(Duration::from_millis(7)),
        log: Some(8),
        state: Some(9),
        http_body: Some(1024),
    };
    assert_eq!(device.limits, limits);
    let api = &device.endpoints["api"];
    assert_eq!(api.url, EndpointUrl::Http("http://10.0.0.2/base".into()));
    assert_eq!((api.timeout, api.read_only, api.user.as_deref()), (Some(Duration::from_millis(1500)), true, Some("u")));
    let bus = &device.endpoints["bus"];
    assert!(matches!(&bus.url, EndpointUrl::ModbusRtu(line) if line.baud == 19_200 && line.stop_bits == 2));
    assert_eq!((bus.unit, bus.min_gap), (Some(7), Some(Duration::from_millis(20))));
    assert_eq!(device.endpoints["push"].topic_prefix, "go-e/123");
}

#[test]
fn one_address_stands_for_the_only_slot() {
    let config = good(&with_device("id = \"M1\"\ntype = \"eastron-sdm\"\naddress = \"tcp://10.0.0.1\""));
    let only = &config.devices[0].endpoints[DeviceConfig::ADDRESS_SLOT];
    assert_eq!(only.url, EndpointUrl::ModbusTcp { host: "10.0.0.1".into(), port: None });
}

const METER: &str = "[[device]]\nid = \"M1\"\ntype = \"http-input\"\n[[device]]\nid = \"E1\"\ntype = \"http-input\"\n";
const MAIN: &str = "[[circuit]]\nid = \"main\"\nlimit_ma = [1, 2, 3]\n";

#[test]
fn circuits_are_a_tree() {
    let garage = "[[circuit]]\nid = \"garage\"\nlimit_ma = [1, 1, 1]\nparent = \"main\"\n";
    for (text, part) in [
        ("[[circuit]]\nlimit_ma = [1, 2, 3]\n".to_owned(), "circuit.id: is missing"),
        ("[[circuit]]\nid = \"main\"\n".into(), "circuit.main.limit_ma: is missing"),
        ("[[circuit]]\nid = \"main\"\nlimit_ma = [1, 2]\n".into(), "found 2 numbers"),
        ("[[circuit]]\nid = \"main\"\nlimit_ma = [1, 2, -3]\n".into(), "found the number -3"),
        (format!("{MAIN}meter = \"M2\"\n"), "circuit.main.meter: there is no device M2"),
        (format!("{METER}{MAIN}meter = \"E1\"\n"), "E1 is a wallbox; expected a meter"),
        (
            format!("{MAIN}{MAIN}"),
            "f.toml:4: circuit.main.id: there is a second circuit with this id, the first is at f.toml:1",
        ),
        (garage.into(), "circuit.garage.parent: there is no circuit \"main\""),
        (format!("{MAIN}[[circuit]]\nid = \"b\"\nlimit_ma = [1, 1, 1]\n"), "circuit.b.parent: is missing: only one"),
        (format!("{MAIN}parent = \"main\"\n"), "the parents form a ring"),
        (format!("{METER}{garage}{MAIN}"), "device.E1.circuit: is missing: name the circuit"),
    ] {
        check(&text, &[part]);
    }
    let config = good(&format!("{METER}circuit = \"garage\"\n{garage}{MAIN}"));
    let order: Vec<&str> = config.circuits.iter().map(|circuit| circuit.id.as_str()).collect();
    assert_eq!(order, ["main", "garage"]);
}

#[test]
fn the_only_circuit_is_every_wallbox_s_circuit() {
    let config = good(&format!("{METER}{MAIN}"));
    assert_eq!(config.devices[1].circuit.as_deref(), Some("main"));
    assert_eq!(config.devices[0].circuit, None);
}

#[test]
fn the_word_mqtt_needs_a_default_broker() {
    check("[mqtt]\npublish = \"mqtt\"", &["f.toml:2: mqtt.publish", "mqtt.broker is not set"]);
    check("[[device]]\nid = \"M1\"\ntype = \"http-input\"\naddress = \"mqtt\"", &["f.toml:4: device.M1.address"]);
    check("[[device]]\nid = \"M1\"\ntype = \"t\"\nendpoint.a.url = \"mqtt\"", &["f.toml:4: device.M1.endpoint:"]);
    // A broker that is wrong is one mistake, not one for each of its users.
    check("[mqtt]\nbroker = \"ftp://a\"\npublish = \"mqtt\"", &["mqtt.broker"]);
}

#[test]
fn overrides_win_and_address_entries_by_id() {
    let overrides = sets(&[
        "device.E1.max_ma=8000",
        "circuit.main.limit_ma=[1, 2, 3]",
        "load.mode=observe",
        "mqtt.broker=mqtt://other",
        "device.E1.endpoint.main.url=tcp://10.0.0.9",
        "device.M7.type=http-input",
        "site.desc=\"quoted\"",
    ]);
    let config = parse("f.toml", HOME, &overrides).unwrap();
    let wallbox = &config.devices[1];
    assert_eq!((wallbox.max_ma, wallbox.name.as_str()), (8_000, "Carport"));
    assert_eq!(wallbox.endpoints["main"].url.to_string(), "tcp://10.0.0.9");
    assert_eq!(wallbox.endpoints["main"].unit, Some(1));
    assert_eq!(config.circuits[0].limit_ma, [1, 2, 3]);
    assert_eq!(config.load.mode, LoadMode::Observe);
    assert!(matches!(&config.mqtt.broker, Some(DefaultBroker::Url(url)) if url.host == "other"));
    assert_eq!(config.devices[2].id.as_str(), "M7");
    assert_eq!(config.site.desc, "quoted");
}

#[test]
fn mistakes_of_an_override_name_it() {
    for (set, part) in [
        ("device.E1.max_ma=lots", "--set device.E1.max_ma=lots: device.E1.max_ma: expected a whole number"),
        ("device.E1.max=1", "--set device.E1.max=1: device.E1.max: unknown key"),
        ("site.title.x=1", "--set site.title.x=1: title is the text \"Home\", not a table"),
        ("device.E1=1", "--set device.E1=1: the key ends too early"),
        ("load=1", "--set load=1: load: expected a table"),
        ("mqtt.broker=mqtt://a:secret@b:x", "--set mqtt.broker=mqtt://a:***@b:x: mqtt.broker: \"mqtt://a:***@b:x\""),
    ] {
        let found = mistakes(HOME, &[set]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(part), "{found:#?}\nlacks {part}");
    }
    for bad in ["", "novalue", "=1", "a..b=1", "a b=1"] {
        let error = bad.parse::<Override>().unwrap_err().to_string();
        assert!(error.starts_with("--set "), "{error}");
    }
}

#[test]
fn unknown_types_are_reported_where_the_device_is_written() {
    let config = good(HOME);
    assert_eq!(config.check_types(&["cfos-power-brain"]), []);
    let errors = config.check_types(&["cfos-power-brian"]);
    assert_eq!(
        ConfigErrors(errors).to_string(),
        "f.toml:21: device.E1.type: unknown device type \"cfos-power-brain\", did you mean \"cfos-power-brian\"?"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ladekern.toml");
    let message = || load(&path, &[]).unwrap_err().to_string();
    assert!(message().contains("ladekern.toml: there is no such file"), "{}", message());
    std::fs::write(&path, b"[site]\n\xff").unwrap();
    assert!(message().contains("line 2 is no UTF-8"), "{}", message());
    std::fs::write(&path, HOME).unwrap();
    assert_eq!(load(&path, &[]).unwrap(), good(HOME));
}

#[test]
fn deep_nesting_ends_in_a_mistake_and_not_in_a_crash() {
    for text in [format!("a = {}", "[".repeat(100_000)), "a.".repeat(100_000) + "a = 1", "[a.".repeat(9_999)] {
        assert_eq!(mistakes(&text, &[]).len(), 1);
    }
    let deep = format!("{}x=1", "a.".repeat(100_000));
    assert!(deep.parse::<Override>().is_err());
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*", set in "\\PC*") {
        let overrides: Vec<Override> = set.parse().into_iter().collect();
        let _ = parse("f", &text, &overrides);
    }

    /// The example with one stretch replaced reaches deeper than noise does.
    #[test]
    fn a_damaged_file_never_panics(at in 0usize..HOME.len(), len in 0usize..40, with in "\\PC{0,6}|[\\[\\]={}\",.0-9\n-]{0,6}") {
        let before: String = HOME.chars().take(at).collect();
        let after: String = HOME.chars().skip(at + len).collect();
        let _ = parse("f", &format!("{before}{with}{after}"), &[]);
    }

    #[test]
    fn arbitrary_overrides_never_panic(key in "[a-zE1.\"]{0,20}", value in "\\PC{0,12}") {
        let overrides: Vec<Override> = format!("{key}={value}").parse().into_iter().collect();
        let _ = parse("f", HOME, &overrides);
    }
}

/// Keys of the tables of `docs/configuration.md`: the first column, in backquotes, with a dot in it.
fn documented() -> std::collections::BTreeSet<String> {
    let text = include_str!("../../../docs/configuration.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(key, _)| key)
        .filter(|key| key.contains('.') && !key.contains(':'))
        .map(|key| key.replace("<slot>.", ""))
        .collect()
}

#[test]
fn every_accepted_key_is_documented_and_every_documented_one_accepted() {
    let text = "[[circuit]]\nid = \"c\"\nlimit_ma = [1, 1, 1]\n[[device]]\nid = \"E1\"\ntype = \"t\"\nendpoint.a = { url = \"tcp://a\" }\n[[user]]\nid = \"1\"\n[[user.card]]\nid = \"1\"\n[mqtt.tls.\"mqtts://a\"]\n";
    let (config, asked) = parse::parse_recording("f", text, &[]);
    config.unwrap();
    let is_table = |key: &String| asked.iter().any(|other| other.starts_with(&format!("{key}.")));
    // The names below [variables] are free.
    let one = |key: &&String| !is_table(key) && key.as_str() != "variables";
    let accepted: std::collections::BTreeSet<String> = asked.iter().filter(one).cloned().collect();
    assert_eq!(accepted, documented());
}

#[test]
fn the_example_of_a_fed_meter_is_as_the_contract_wants_it() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/mqtt-meter/ladekern.toml");
    let config = load(&path, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches("://").count(), 1, "one broker URL in the file");
    assert!(matches!(&config.mqtt.broker, Some(DefaultBroker::Url(url)) if url.to_string() == "mqtt://127.0.0.1:1883"));
    assert_eq!(config.mqtt.publish, BrokerRef::Default);
    let [meter] = config.devices.as_slice() else { panic!("{:?}", config.devices) };
    assert_eq!((meter.id.as_str(), meter.device_type.as_str(), &meter.feed), ("M3", HTTP_INPUT, &BrokerRef::Default));
}
