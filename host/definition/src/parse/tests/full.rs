//! Files with every key become what they say.

use std::time::Duration;

use super::*;
use crate::{
    Address, DocumentField, Extract, Identity, Kind, Method, Modbus, ModbusField, Number, Rtu, Shape, Source, Table,
    Target, Tcp, Transport, Variable, WordOrder,
};

fn variable<'a>(definition: &'a Definition, name: &str) -> &'a Variable {
    definition.variables.iter().find(|variable| variable.name == name).unwrap()
}

fn registers(definition: &Definition, name: &str) -> ModbusField {
    match &variable(definition, name).source {
        Source::Modbus(field) => field.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn document(definition: &Definition, name: &str) -> DocumentField {
    match &variable(definition, name).source {
        Source::Document(field) => field.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_modbus_file_with_every_key() {
    assert_eq!(warnings(MODBUS), "");
    let definition = good(MODBUS);
    assert_eq!(definition.dev_type, "test-meter.1");
    assert_eq!(definition.name, "Test Meter");
    assert_eq!(definition.manufacturer, "Nobody");
    assert_eq!(definition.kind, Kind::Meter);
    let rtu = Rtu {
        silence: Some(Duration::from_millis(40)),
        silence_same_slave: true,
        retries: Some(2),
        receive_timeout: Some(Duration::from_millis(700)),
    };
    assert_eq!(
        definition.transport,
        Transport::Modbus(Modbus { table: Table::Input, max_registers: 60, allow_gaps: true, rtu })
    );
    let tcp =
        Tcp { connect_timeout: Some(Duration::from_secs(3)), delay_after_connect: Some(Duration::from_millis(50)) };
    assert_eq!(definition.tcp, tcp);
    assert_eq!(definition.update, Some(Duration::from_secs(2)));
    assert!(!definition.delay_accumulated);
    assert_eq!(definition.ui_addr.as_deref(), Some("http://192.168.0.9/"));
    assert_eq!(definition.reserved, [32768.0, -1.0, 4_294_967_295.0]);
    assert_eq!(definition.unavailable, [-32768.0]);
    assert_eq!(definition.inputs.iter().map(|input| input.count).collect::<Vec<_>>(), [4, 20]);
    assert!(matches!(&definition.inputs[1].source, Source::Modbus(field) if field.address == 201 && field.count == 2));
    assert_eq!(definition.outputs[0].address, "#30#http://localhost/cnf?cmd=x&v=${temperature}");
    assert_eq!(definition.outputs[0].body.as_deref(), Some("{\"id\": ${id}}"));
    assert_eq!(definition.resets[0].address, "http://192.168.0.9/off");
    assert_eq!(definition.resets[0].body, None);
    let names: Vec<&str> = definition.variables.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names.len(), 12);
    assert_eq!(names[..2], ["type_designation", "version"], "in the order of the file");
}

#[test]
fn registers_as_written() {
    let definition = good(MODBUS);
    let number = |number, factor| Shape::Number { number, factor };
    let field = |address, count, shape, order| ModbusField { address, count, shape, order };
    let high = WordOrder::HighFirst;
    for (name, expected) in [
        ("version", field(0x8907, 2, Shape::Dotted { number: Number::Int32, parts: 4 }, high)),
        ("firmware_version", field(10, 1, Shape::Dotted { number: Number::Uint16, parts: 2 }, high)),
        ("serial", field(0x8900, 8, Shape::Text, high)),
        ("power_w", field(0x5B14, 2, number(Number::Int32, -0.01), high)),
        ("import_wh", field(0x5000, 4, number(Number::Uint64, 10.0), WordOrder::LowFirst)),
        ("voltage_l1", field(0x5B00, 2, number(Number::Uint32, 0.1), high)),
        ("energy_total", field(0x6000, 4, number(Number::Double, 1.0), high)),
        ("temperature", field(65535, 1, number(Number::Int16, 1.0), high)),
        ("*label", field(100, 4, Shape::Text, high)),
    ] {
        assert_eq!(registers(&definition, name), expected, "{name}");
    }
    for (name, target, once) in [
        ("version", Target::Identity(Identity::Version), true),
        ("power_w", Target::Quantity("power.total"), false),
        ("temperature", Target::User { name: "temperature".into(), shown: false }, true),
        ("*label", Target::User { name: "label".into(), shown: true }, false),
        ("CM._set_price", Target::Manager("_set_price".into()), false),
    ] {
        assert_eq!(variable(&definition, name).target, target, "{name}");
        assert_eq!(variable(&definition, name).once, once, "{name}");
    }
    assert!(matches!(&variable(&definition, "type_designation").source, Source::Fixed(text) if text == "TM 1"));
    assert!(matches!(&variable(&definition, "count").source, Source::Fixed(text) if text == "3"));
    assert!(matches!(&variable(&definition, "CM._set_price").source, Source::Expr(formula) if formula.text() == "12"));
}

#[test]
fn a_variable_may_be_optional() {
    let definition = good(
        r#"{"rtype": 1, "dev_type": "x",
        "a": {"address": "/", "query": "a", "optional": true}, "b": {"address": "/", "query": "b"}}"#,
    );
    assert!(variable(&definition, "a").optional && !variable(&definition, "b").optional);
}

#[test]
fn what_is_not_said_is_the_default() {
    let definition = good(r#"{"rtype": 0, "dev_type": "x", "power_w": {"address": 1, "type": "float"}}"#);
    assert_eq!((definition.name.as_str(), definition.manufacturer.as_str()), ("x", ""));
    assert_eq!((definition.kind, definition.update, definition.ui_addr), (Kind::Other, None, None));
    assert!(definition.delay_accumulated);
    assert_eq!(definition.tcp, Tcp::default());
    let modbus = Modbus { table: Table::Holding, max_registers: 125, allow_gaps: false, rtu: Rtu::default() };
    assert_eq!(definition.transport, Transport::Modbus(modbus));
}

#[test]
fn an_http_file() {
    assert_eq!(warnings(HTTP), "");
    let definition = good(HTTP);
    assert_eq!((definition.kind, &definition.transport), (Kind::Inverter, &Transport::Http));
    let get = |path: &str| Address::Http { method: Method::Get, path: path.into() };
    let power = document(&definition, "power_w");
    assert_eq!(power.address, get("/status"));
    assert_eq!(power.shape, Shape::Number { number: Number::Float, factor: -1.0 });
    assert!(matches!(power.extract, Extract::Query(query) if query.text() == "power"));
    let soc = document(&definition, "soc");
    assert_eq!(soc.address, Address::Http { method: Method::Post, path: "/soc?a=1&b=total/x".into() });
    assert_eq!(soc.shape, Shape::Number { number: Number::Uint16, factor: 1.0 });
    assert!(matches!(soc.extract, Extract::Regex(regex) if regex.as_str() == r"soc=(\d+)"));
    let serial = document(&definition, "serial");
    assert_eq!((serial.address, serial.shape), (get("/id"), Shape::Text));
    assert!(matches!(serial.extract, Extract::Whole));
    assert_eq!(document(&definition, "version").shape, Shape::Dotted { number: Number::Int64, parts: 4 });
    assert_eq!(document(&definition, "mode").shape, Shape::Text);
    assert_eq!(definition.inputs[0].count, 8);
    assert_eq!(definition.outputs[0].address, "POST /set?on=${if power_w > 0`1`0}");
}

#[test]
fn an_mqtt_file() {
    assert_eq!(warnings(MQTT), "");
    let definition = good(MQTT);
    assert_eq!(definition.transport, Transport::Mqtt);
    assert_eq!(document(&definition, "power_w").address, Address::Mqtt { topic: "meters/1/power".into() });
    assert!(matches!(document(&definition, "raw").extract, Extract::Regex(_)));
    assert_eq!(document(&definition, "raw").shape, Shape::Text);
}
