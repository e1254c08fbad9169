//! Every key of `[http]`, `[mqtt]`, `[modbus_server]` and `[[user]]`: what is no value of it, and what
//! a value of it is.

use std::path::Path;

use super::*;

/// Texts that are wrong at one key because of the type alone.
fn wrong_types(table: &str, before: &str, keys: &[(&str, &str)]) {
    for (key, good) in keys {
        for wrong in ["1979-05-27", "{ x = 1 }", "[[1]]", "true", "7", "\"\\u0000\"", "1.5"] {
            if good.split_whitespace().any(|kind| fits(kind, wrong)) {
                continue;
            }
            let text = format!("{before}{table}\n{key} = {wrong}\n");
            let found = mistakes(&text, &[]);
            assert_eq!(found.len(), 1, "{text}\n{found:#?}");
            assert!(found[0].contains(&format!("{key}: ")) && found[0].contains("expected"), "{found:#?}");
        }
    }
}

fn fits(kind: &str, value: &str) -> bool {
    match kind {
        "text" => value.starts_with('"'),
        "bool" => value == "true",
        "number" => value == "7",
        "float" => value == "7" || value == "1.5",
        _ => false,
    }
}

#[test]
fn a_value_of_another_type_is_one_mistake_at_its_key() {
    let broker = "mqtt.broker = \"mqtt://h\"\n";
    wrong_types("[site]", "", &[("title", "text"), ("desc", "text")]);
    wrong_types("[http]", "", &[("listen", ""), ("admin_password_hash", ""), ("localhost_is_admin", "bool")]);
    let mqtt = [
        ("mqtt.control", "bool"),
        ("mqtt.publish_interval_ms", ""),
        ("mqtt.embedded_listen", ""),
        ("mqtt.ctl_timeout_s", "number"),
        ("mqtt.duplicate_window_ms", "number"),
        ("mqtt.api_max_response", ""),
        ("mqtt.prefix_with_serial", "bool"),
    ];
    wrong_types("", broker, &mqtt);
    wrong_types("[mqtt.tls.\"mqtts://h\"]", "", &[("ca_file", "text"), ("verify", "bool")]);
    wrong_types("client_key = \"k\"", "[mqtt.tls.\"mqtts://h\"]\n", &[("client_cert", "text")]);
    wrong_types("tls_cert = \"c\"", "[http]\n", &[("tls_key", "text")]);
    let modbus = [("enabled", "bool"), ("listen", ""), ("ports", "")];
    wrong_types("[modbus_server]", "", &modbus);
    wrong_types("id = \"1\"", "[[user]]\n", &[("name", "text"), ("display", "bool"), ("devices", "")]);
    let card = [("name", "text"), ("authorises", "bool"), ("toggles", "bool"), ("phases", "")];
    wrong_types("id = \"1\"", "[[user]]\nid = \"1\"\n[[user.card]]\n", &card);
}

#[test]
fn brokers_are_named_wherever_the_word_mqtt_stands() {
    for key in ["publish", "api", "log", "ta_log", "native"] {
        check(&format!("[mqtt]\n{key} = \"mqtt\""), &[&format!("mqtt.{key}: "), "mqtt.broker is not set"]);
        check(&format!("[mqtt]\n{key} = \"ftp://h\""), &[&format!("mqtt.{key}: ")]);
        good(&format!("[mqtt]\n{key} = \"mqtts5://u:p@h\""));
    }
    check("[mqtt]\nbroker = \"mqtt\"", &["mqtt.broker: ", "this very key"]);
    good("[mqtt]\nbroker = \"\"");
    // Control has the broker of the API, or the default one.
    good("[mqtt]\ncontrol = true\napi = \"mqtt://h\"");
    good("[mqtt]\ncontrol = true\nbroker = \"embedded\"");
}

#[test]
fn tls_belongs_to_a_host_and_a_port() {
    let tls = |text: &str| good(text).mqtt.tls;
    let found =
        tls("[mqtt.tls.\"mqtts://[::1]:8884\"]\nverify = false\n[mqtt.tls.\"mqtts5://h\"]\nca_file = \"ca.pem\"");
    let six = found.get(&("::1".to_owned(), 8884)).or_else(|| found.get(&("[::1]".to_owned(), 8884))).unwrap();
    assert!(!six.verify && six.ca_file.is_none());
    let broker: BrokerUrl = "mqtts://[::1]:8884".parse().unwrap();
    assert!(found.contains_key(&(broker.host, broker.port)), "found by the URL of the broker");
    assert_eq!(found[&("h".to_owned(), 8883)].ca_file.as_deref(), Some(Path::new("ca.pem")));
    check(
        "[mqtt.tls.\"mqtts://h\"]\n[mqtt.tls.\"mqtts5://h:8883\"]",
        &["f.toml:2: mqtt.tls.mqtts5://h:8883", "earlier table"],
    );
    check("[mqtt.tls]\n\"mqtts://h\" = true", &["mqtt.tls.mqtts://h: expected a table like"]);
    check("[mqtt.tls.\"mqtts://h:x\"]", &["mqtt.tls.mqtts://h:x: "]);
    check("[mqtt.tls.\"mqtts://h\"]\nca = \"x\"", &["mqtt.tls.mqtts://h.ca: unknown key", "ca_file"]);
    let found = mistakes("[mqtt.tls.\"mqtts://u:geheim@h\"]\nx = 1\n[mqtt.tls.\"u:geheim@h:x\"]", &[]).join("\n");
    assert!(found.contains("without a login") && !found.contains("geheim"), "{found}");
}

#[test]
fn files_lie_beside_the_configuration() {
    let text = "[mqtt.tls.\"mqtts://h\"]\nca_file = \"ca.pem\"\nclient_cert = \"/etc/c.pem\"\nclient_key = \"../k.pem\"\n\
                [[device]]\nid = \"M1\"\ntype = \"t\"\nendpoint.a = { url = \"http://h\", user = \"u\", password_file = \"pw\" }\n";
    let config = parse("/etc/ladekern/ladekern.toml", text, &[]).unwrap();
    let tls = config.mqtt.tls.values().next().unwrap();
    assert_eq!(tls.ca_file.as_deref(), Some(Path::new("/etc/ladekern/ca.pem")));
    assert_eq!(tls.client, Some(("/etc/c.pem".into(), "/etc/ladekern/../k.pem".into())));
    assert_eq!(config.devices[0].endpoints["a"].password_file.as_deref(), Some(Path::new("/etc/ladekern/pw")));
    check("[mqtt.tls.\"mqtts://h\"]\nca_file = \"\"", &["ca_file: is empty"]);
}

#[test]
fn what_is_named_has_to_be_there() {
    let home = "[[device]]\nid = \"E1\"\ntype = \"t\"\n[[device]]\nid = \"M1\"\ntype = \"t\"\n";
    for (text, part) in [
        (home.replacen("\"t\"", "\"t\"\nmeter = \"M2\"", 1), "f.toml:4: device.E1.meter: there is no device M2"),
        (home.replacen("\"t\"", "\"t\"\nmeter = \"E1\"", 1), "f.toml:4: device.E1.meter: E1 is a wallbox"),
        (format!("{home}[modbus_server]\nmeter1 = \"M2\""), "modbus_server.meter1: there is no device M2"),
        (format!("{home}[modbus_server]\nmeter1 = \"E1\""), "modbus_server.meter1: E1 is none"),
        (format!("{home}[modbus_server]\nevse = \"M1\""), "modbus_server.evse: M1 is none"),
        (format!("{home}[[user]]\nid = \"1\"\ndevices = [\"E2\"]"), "user 1.devices: there is no device E2"),
    ] {
        check(&text, &[part]);
    }
    let config = good(&home.replacen("\"t\"", "\"t\"\nmeter = \"M1\"", 1));
    assert_eq!(config.devices[0].meter, Some("M1".parse().unwrap()));
}
