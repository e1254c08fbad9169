//! `ladekern definition check | try | schema | from-csv`, the built program as people and scripts use it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ladekern_sim::http::{Response, serve as serve_http};
use ladekern_sim::modbus::{Bank, Bus, Framing, Table, serve as serve_modbus};
use ladekern_sim::net::Control;
use ladekern_tests::daemon::Daemon;
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::mqtt::Probe;
use ladekern_tests::{free_port, root};
use serde_json::{Value, json};

/// A command to its end: the exit code, and what it printed.
async fn definition(args: &[&str]) -> (Option<i32>, String) {
    // What the program logs would stand in the midst of it.
    Daemon::start(["--log", "off", "definition"].iter().chain(args)).ended(Duration::from_secs(60)).await
}

/// The same with `--json`.
async fn answered(args: &[&str]) -> (Option<i32>, Value) {
    let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
    let (code, output) = definition(&args).await;
    (code, serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error} in:\n{output}")))
}

/// A file in a folder, and its path as a text.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn supplied() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("definitions")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    files
}

// === check ===

const GOOD: &str = "{\n  dev_type: 'my-meter', rtype: 0,\n  power_w: { address: 0x10, type: 'int32' },\n}\n";

const WRONG: &str = r#"{
  "dev_type": "my-meter",
  "rtype": 0,
  "mtype": 3,
  "power_w":    { "address": 16, "type": "int23" },
  "voltage_l1": { "adress": 70000, "type": "uint32" },
  "current_l1": { "address": 12, "type": "float" },
  "soc":        { "address": 70000, "type": "uint16" },
  "*twice":     { "expr": "power_w * " }
}
"#;

/// Line and column, key, and a part of what would be right.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("4:12", "mtype", "0 (other) or 1 (meter) or 2 (inverter) or 4 (battery), is 3"),
    ("5:42", "power_w.type", "did you mean \"int32\"?"),
    ("6:3", "voltage_l1", "give it an address"),
    ("6:19", "voltage_l1.adress", "did you mean \"address\"?"),
    ("8:19", "soc.address", "0 to 65535, is 70000"),
    ("9:38", "*twice.expr", "ends where a number or a name is expected"),
];

#[tokio::test]
async fn check_tells_every_mistake_with_its_place_and_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    let (good, wrong) = (file(folder.path(), "good.json", GOOD), file(folder.path(), "wrong.json", WRONG));

    let (code, output) = definition(&["check", &good]).await;
    assert_eq!((code, output.as_str()), (Some(0), format!("{good}: my-meter (modbus), 1 variable\n").as_str()));

    let (code, output) = definition(&["check", &good, &wrong]).await;
    assert_eq!(code, Some(1), "{output}");
    for (place, key, right) in MISTAKES {
        let begin = format!("{wrong}:{place}: {key}: ");
        let line = output.lines().find(|line| line.starts_with(&begin));
        assert!(line.is_some_and(|line| line.contains(right)), "{begin}… {right} in:\n{output}");
    }
    let doubt = format!("warning: {wrong}:7:19: current_l1.address: currents are in mA");
    assert!(output.contains(&doubt), "{output}");
    assert!(output.contains(&format!("{wrong}: 6 errors, 1 warning")), "{output}");
    assert!(output.contains(&format!("{good}: my-meter")), "{output}");

    let (code, answer) = answered(&["check", &good, &wrong]).await;
    assert_eq!((code, &answer["ok"]), (Some(1), &json!(false)));
    let [good, wrong] = answer["files"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&good["ok"], &good["definition"]["variables"]), (&json!(true), &json!(["power_w"])));
    let told: Vec<(String, &str)> = wrong["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (format!("{}:{}", error["line"], error["column"]), error["key"].as_str().unwrap()))
        .collect();
    let wanted: Vec<(String, &str)> = MISTAKES.iter().map(|(place, key, _)| ((*place).to_owned(), *key)).collect();
    assert_eq!(told, wanted);
    assert_eq!(wrong["warnings"][0]["key"], "current_l1.address");
}

#[tokio::test]
async fn a_doubt_is_told_and_is_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let text = GOOD.replace("}\n", "") + "  current_l1: { address: 0x20, type: 'float' }\n}\n";
    let doubtful = file(folder.path(), "doubtful.json", &text);
    let (code, output) = definition(&["check", &doubtful]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("warning: ") && output.contains("resolution must be 1000"), "{output}");
}

#[tokio::test]
async fn check_says_which_file_is_not_there() {
    let (code, output) = definition(&["check", "nowhere/meter.json"]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with("nowhere/meter.json: "), "{output}");
}

#[tokio::test]
async fn the_supplied_definitions_pass_the_check_without_a_doubt() {
    let files = supplied();
    let args = std::iter::once("check").chain(files.iter().map(|file| file.to_str().unwrap()));
    let (code, answer) = answered(&args.collect::<Vec<_>>()).await;
    assert_eq!(code, Some(0), "{answer:#}");
    let doubtful: Vec<&Value> =
        answer["files"].as_array().unwrap().iter().filter(|file| file["warnings"] != json!([])).collect();
    assert!(doubtful.is_empty(), "{doubtful:#?}");
}

// === schema ===

#[tokio::test]
async fn schema_is_a_schema_that_takes_every_supplied_definition() {
    let (code, output) = definition(&["schema"]).await;
    assert_eq!(code, Some(0));
    let schema: Value = serde_json::from_str(&output).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for file in supplied() {
        let value: Value = json5::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let told: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(told, Vec::<String>::new(), "{}", file.display());
    }
    assert!(!validator.is_valid(&json!({ "dev_type": "d", "rtype": 3 })));

    let (_, line) = definition(&["schema", "--json"]).await;
    assert_eq!(line.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), schema);
}

// === from-csv ===

#[tokio::test]
async fn a_table_becomes_a_definition_that_the_check_takes() {
    let folder = tempfile::tempdir().unwrap();
    let table = "# from the manual\nname;address;type;resolution;optional\npower_w;0x5B14;int32;0,01;\n\
                 import_wh;0x5000;uint64;10;yes\n";
    let table = file(folder.path(), "registers.csv", table);
    let (code, output) = definition(&["from-csv", &table, "--dev-type", "my-meter", "--name", "My \"meter\""]).await;
    assert_eq!(code, Some(0), "{output}");
    let made: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(made["name"], "My \"meter\"");
    assert_eq!(made["power_w"], json!({ "address": 0x5B14, "type": "int32", "resolution": 0.01 }));
    assert_eq!(made["import_wh"]["optional"], true);
    let made = file(folder.path(), "my-meter.json", &output);
    let (code, output) = definition(&["check", &made]).await;
    assert_eq!((code, output.as_str()), (Some(0), format!("{made}: my-meter (modbus), 2 variables\n").as_str()));

    let wrong = file(folder.path(), "wrong.csv", "name,address,type\npower_w,16,int23\n\nimport_wh,x,uint64\n");
    let (code, output) = definition(&["from-csv", &wrong]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("{wrong}:2: power_w.type: ")), "{output}");
    assert!(output.contains(&format!("{wrong}:4: import_wh.address: ")), "{output}");
    let (code, answer) = answered(&["from-csv", &wrong]).await;
    assert_eq!((code, &answer["ok"], &answer["text"]), (Some(1), &json!(false), &Value::Null));
    assert_eq!(answer["errors"][1]["line"], 4);
}

// === try ===

/// The rest of the row of a variable, its columns separated by one blank.
fn shown(output: &str, name: &str) -> String {
    let row = output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    row.unwrap_or_else(|| panic!("no row {name} in:\n{output}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

const REGISTERS: &str = r#"{
  dev_type: "m", rtype: 0, mtype: 1,
  serial: { address: 20, type: "string", length: 3 },
  version: { address: 23, type: "uint16", length: 2 },
  voltage_l1: { address: 0, type: "uint16", resolution: 0.1 },
  current_l1: { address: 1, type: "int16", resolution: 10 },
  import_wh: { address: 2, type: "uint32", order: "lh", resolution: 100 },
  level: { address: 4, type: "float" },
  refused: { address: 90, type: "int16" },
  limit: { fixed: 4600 },
  place: { fixed: "cellar" },
  "*Left": { expr: "limit - power_w + input2" },
  lost: { expr: "refused * 2 + M7.power_w" },
  inputs: [{ address: 5, count: 3 }, { address: 6 }, { address: 91 }],
}"#;

#[tokio::test]
async fn try_shows_registers_beside_what_was_made_of_them() {
    let bank = Bank::new().with(Table::Holding, 0, &[2305, 0xff9c, 0xe240, 1, 0x3eaa, 0xaaab, 1]).with(
        Table::Holding,
        20,
        &[0x4142, 0x2d37, 0, 0x0207],
    );
    let bus = Bus::new().with(3, Arc::new(bank));
    let server = serve_modbus(([127, 0, 0, 1], 0).into(), Framing::Tcp, bus, Control::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Register 5 is the low word of the float and the first input.
    let text = REGISTERS.replace("limit - power_w", "limit - voltage_l1");
    let meter = file(folder.path(), "m.json", &text);
    let url = format!("tcp://{}", server.address());

    let (code, output) = definition(&["try", &meter, "--address", &url, "--unit", "3"]).await;
    assert_eq!(code, Some(0), "{output}");
    for (name, wanted) in [
        ("serial", "4142 2d37 0000 AB-7"),
        ("version", "0207 2.7"),
        ("voltage_l1", "0901 230.5 V"),
        ("current_l1", "ff9c -1000 mA"),
        ("import_wh", "e240 0001 12345600 Wh"),
        ("level", "3eaa aaab 0.333333"),
        ("refused", "- the device answered with Modbus exception 2 (no such register)"),
        ("limit", "4600"),
        ("place", "cellar"),
        // 0xaaab: bits 0, 1 and 3.
        ("*Left", "4370.5"),
        ("lost", "- refused has no value; M7.power_w is not read here, only this device is"),
        ("inputs[0] (input1…input3)", "aaab 1 1 0"),
        ("inputs[1] (input4)", "0001 1"),
        ("inputs[2] (input5)", "- the device answered with Modbus exception 2 (no such register)"),
        ("power_w", "-231 W (derived from currents and voltages)"),
    ] {
        assert_eq!(shown(&output, name), wanted, "{name}\n{output}");
    }

    let (code, output) = definition(&["try", &meter, "--address", &url]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("exception 11 (gateway: no unit with this id answers)"), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    server.stop().await;
}

#[tokio::test]
async fn try_says_in_one_sentence_that_nobody_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let meter = file(folder.path(), "m.json", GOOD);
    let inverter =
        file(folder.path(), "i.json", "{dev_type: 'i', rtype: 1, power_w: {address: '/p'}, limit: {fixed: 5}}");
    let battery = file(folder.path(), "b.json", "{dev_type: 'b', rtype: 2, soc: {address: 'b/soc'}}");
    for (definition_file, scheme) in [(&meter, "tcp"), (&inverter, "http"), (&battery, "mqtt")] {
        let host = format!("127.0.0.1:{}", free_port());
        let url = format!("{scheme}://{host}");
        let mut args = vec!["try", definition_file, "--address", &url];
        if scheme == "mqtt" {
            args.extend(["--seconds", "2"]);
        }
        let (code, output) = definition(&args).await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.lines().count() == 1 && output.contains(&host), "{output}");
        let (code, answer) = answered(&args).await;
        assert_eq!((code, &answer["ok"]), (Some(1), &json!(false)), "{answer:#}");
        assert!(answer["error"].as_str().unwrap().contains(&host), "{answer:#}");
    }

    for (address, wanted) in [
        ("http://127.0.0.1", "expects a Modbus address (rtype 0) like tcp://192.168.1.20:502"),
        ("meter", "--address: \"meter\": expected tcp://host:port"),
    ] {
        let (code, output) = definition(&["try", &meter, "--address", address]).await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.lines().count() == 1 && output.contains(wanted), "{output}");
    }
}

#[tokio::test]
async fn try_shows_parts_of_answers_and_which_page_failed() {
    let server = serve_http(([127, 0, 0, 1], 0).into(), Control::default(), |request| match request.path.as_str() {
        "/status" => Response::json(&json!({ "name": "SUN", "ac": [{ "w": "-1250.5" }], "kwh": 12.5, "off": null })),
        "/plain" => Response { status: 200, body: "power=-12.5 W\n".into() },
        _ => Response::error(404),
    })
    .await
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{ dev_type: "i", rtype: 1, mtype: 2,
        type_designation: { address: "/status", query: "name" },
        power_w: { address: "/status", query: "ac[0].w", resolution: -1 },
        export_wh: { address: "GET /status", query: "kwh", resolution: 1000 },
        export_text: { address: "/plain", regex: "power=(-?\\d+\\.\\d)" },
        off: { address: "/status", query: "off" },
        far: { address: "/status", query: "ac[3].w" },
        gone: { address: "/gone" },
        inputs: [{ address: "/status", query: "kwh" }],
    }"#;
    let inverter = file(folder.path(), "i.json", text);
    let url = format!("http://{}", server.address());
    let (code, output) = definition(&["try", &inverter, "--address", &url]).await;
    assert_eq!(code, Some(0), "{output}");
    for (name, wanted) in [
        ("type_designation", "SUN SUN"),
        ("power_w", "-1250.5 1250.5 W"),
        ("export_wh", "12.5 12500 Wh"),
        ("export_text", "-12.5 -12.5"),
        ("gone", "- /gone answered with status 404"),
    ] {
        assert_eq!(shown(&output, name), wanted, "{output}");
    }
    assert!(shown(&output, "off").starts_with("- "), "{output}");
    assert!(shown(&output, "far").contains("ac[3]"), "{output}");
    assert!(shown(&output, "inputs[0] (input1)").contains("whole number"), "{output}");
    server.stop().await;
}

#[tokio::test]
async fn try_listens_until_every_topic_has_spoken() {
    let broker = Mosquitto::start();
    let probe = Probe::connect(broker.port(), "cellar/#").await;
    probe.publish("cellar/battery", r#"{"p":-250,"soc":63,"in":5}"#, true).await;
    probe.publish("cellar/temperature", "21.50", true).await;
    probe.wait("cellar/temperature", |_| true).await;
    let folder = tempfile::tempdir().unwrap();
    let text = r#"{ dev_type: "b", rtype: 2, mtype: 4,
        power_w: { address: "battery", query: "p" },
        soc: { address: "battery", query: "soc" },
        "*Temperature": { address: "temperature" },
        inputs: [{ address: "battery", query: "in", count: 4 }],
    }"#;
    let battery = file(folder.path(), "b.json", text);
    let url = broker.url();
    let args = ["try", &battery, "--address", &url, "--topic-prefix", "cellar"];
    let (code, output) = definition(&args).await;
    assert_eq!(code, Some(0), "{output}");
    for (name, wanted) in [
        // As the file means it: charging is positive.
        ("power_w", "-250 -250 W"),
        ("soc", "63 63 %"),
        ("*Temperature", "21.50 21.5"),
        ("inputs[0] (input1…input4)", "5 1 0 1 0"),
    ] {
        assert_eq!(shown(&output, name), wanted, "{output}");
    }

    let more = file(folder.path(), "more.json", &text.replace("inputs", "cycles: { address: \"cycles\" }, inputs"));
    let (code, output) =
        definition(&["try", &more, "--address", &url, "--topic-prefix", "cellar", "--seconds", "1"]).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(shown(&output, "cycles").contains("no message on the topic cycles within 1 s"), "{output}");
}

#[tokio::test]
async fn decode_says_how_a_payload_of_the_right_transport_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let payload = file(folder.path(), "payload.json", r#"{"power": 5}"#);
    let args = ["--log", "off", "decode", "openwb2_counter", &payload];
    let (code, output) = Daemon::start(args).ended(Duration::from_secs(60)).await;
    assert_eq!(code, Some(1), "{output}");
    let wanted = r#"openwb2_counter is read over MQTT, this payload is of HTTP; write {"kind": "mqtt", "messages": [{"#;
    assert!(output.contains(wanted), "{output}");
}
