//! Queries against payloads of the shapes that devices send. The payloads are invented.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the failed assertion itself")]

use ladekern_definition::{Address, Document, DocumentField, Extract, Number, Query, Shape, Value, compile_regex};

const NUMBER: Shape = Shape::Number { number: Number::Float, factor: 1.0 };

fn times(factor: f64) -> Shape {
    Shape::Number { number: Number::Float, factor }
}

fn field(extract: Extract, shape: Shape) -> DocumentField {
    DocumentField { address: Address::Http { method: Default::default(), path: "/".into() }, extract, shape }
}

/// Values as text, `missing`, or what is wrong.
fn read(payload: &str, queries: &[(&str, Shape)]) -> Vec<String> {
    let one = |(query, shape): &(&str, Shape)| field(Extract::Query(Query::parse(query).unwrap()), *shape);
    let fields: Vec<DocumentField> = queries.iter().map(one).collect();
    values(payload, &fields)
}

fn values(payload: &str, fields: &[DocumentField]) -> Vec<String> {
    let document = Document::new(&fields.iter().collect::<Vec<_>>(), &[]);
    let shown = |result| match result {
        Ok(Value::Number(number)) => number.to_string(),
        Ok(Value::Text(text)) => text,
        Err(error) => told(&error),
    };
    document.read(payload.as_bytes()).unwrap().into_iter().map(shown).collect()
}

fn told(error: &ladekern_definition::FieldError) -> String {
    if error.is_missing() { "missing".into() } else { error.to_string() }
}

#[test]
fn a_channel_of_vzlogger() {
    // One element per channel, the values as pairs of a time and a number, the newest first.
    let payload = r#"{
        "version": "0.8.6", "generator": "vzlogger",
        "data": [
            {"uuid": "11111111-aaaa-0000-0000-000000000001", "last": 1777600000000, "interval": -1, "protocol": "sml",
             "tuples": [[1777600000000, 4711815.2]]},
            {"uuid": "11111111-aaaa-0000-0000-000000000002", "last": 1777600000010, "interval": -1, "protocol": "sml",
             "tuples": [[1777600000010, -1520.4], [1777599999010, -1519]]},
            {"uuid": "11111111-aaaa-0000-0000-000000000003", "last": 0, "interval": -1, "protocol": "sml", "tuples": []}
        ]
    }"#;
    let found = read(
        payload,
        &[
            ("data[0].tuples[0][1]", NUMBER),
            (r#"data[{"uuid":"11111111-aaaa-0000-0000-000000000002"}].tuples[0][1]"#, NUMBER),
            (r#"data[{"uuid":"11111111-aaaa-0000-0000-000000000003"}].tuples[0][1]"#, NUMBER),
            (r#"data[{"protocol":"sml","last":1777600000010}].tuples[1][1]"#, times(-1.0)),
            ("version", Shape::Text),
        ],
    );
    assert_eq!(found[..2], ["4711815.2", "-1520.4"]);
    assert!(found[2].ends_with(".tuples"), "there is no element 0 in …tuples: {}", found[2]);
    assert_eq!(found[3..], ["1519", "0.8.6"]);
}

#[test]
fn a_plug_and_a_meter_of_shelly() {
    // The first generation answers with arrays, the second names its components with a colon.
    let first = r#"{"wifi_sta":{"connected":true,"ssid":"x","ip":"192.0.2.7","rssi":-58},"relays":[{"ison":true}],
        "emeters":[{"power":120.55,"pf":0.97,"current":0.54,"voltage":229.80,"is_valid":true,"total":12345.6,"total_returned":0.0},
        {"power":-30.00,"pf":-0.5,"current":0.26,"voltage":230.10,"is_valid":true,"total":2345.6,"total_returned":17.4}],
        "total_power":90.55,"mac":"A4CF12000001"}"#;
    let found = read(
        first,
        &[
            ("emeters[0].power", NUMBER),
            ("emeters[1].current", times(1000.0)),
            ("emeters[1].total_returned", NUMBER),
            ("relays[0].ison", NUMBER),
            ("emeters[2].power", NUMBER),
            ("mac", Shape::Text),
        ],
    );
    let there = "emeters[2].power: there is no element 2 in emeters";
    assert_eq!(found, ["120.55", "260", "17.4", "1", there, "A4CF12000001"]);

    let second = r#"{"em:0":{"id":0,"a_current":4.029,"a_voltage":236.1,"a_act_power":951.2,"b_current":4.027,"b_act_power":-951.1,
        "n_current":null,"total_act_power":2484.782,"user_calibrated_phase":[],"errors":["phase_sequence"]},
        "emdata:0":{"id":0,"total_act":1234.5,"total_act_ret":0},"sys":{"mac":"A4CF12000002","ver":"1.4.4"}}"#;
    let found = read(
        second,
        &[
            ("em:0.total_act_power", NUMBER),
            (r#"["em:0"].a_current"#, times(1000.0)),
            ("em:0.n_current", NUMBER),
            ("emdata:0.total_act", NUMBER),
            ("sys.ver", Shape::Text),
            ("em:1.total_act_power", NUMBER),
        ],
    );
    let there = r#"em:1.total_act_power: there is no member "em:1" in the document"#;
    assert_eq!(found, ["2484.782", "4029", "missing", "1234.5", "1.4.4", there]);
}

#[test]
fn what_tasmota_sends() {
    let sensor = r#"{"Time":"2026-05-01T12:00:01","ENERGY":{"TotalStartTime":"2025-01-01T00:00:00","Total":[1234.567,2.5],
        "Power":[512,0],"Voltage":231,"Current":[2.217,0.000]},"TempUnit":"C"}"#;
    let found =
        read(sensor, &[("ENERGY.Total[0]", times(1000.0)), ("ENERGY.Power[1]", NUMBER), ("ENERGY.Voltage", NUMBER)]);
    assert_eq!(found, ["1234567", "0", "231"]);
    // A meter reader: the section is named by the user, the values by their OBIS numbers.
    let reader = r#"{"Time":"2026-05-01T12:00:01","MT175":{"1-0:1.8.0*255":4711.8,"1_8_0":4711.8,"16.7.0":-215.4,"Meter_number":"0a01484c59"}}"#;
    let found = read(
        reader,
        &[
            (r#"MT175["16.7.0"]"#, NUMBER),
            (r#"MT175["1-0:1.8.0*255"]"#, times(1000.0)),
            ("MT175.1_8_0", NUMBER),
            ("MT175.Meter_number", Shape::Text),
            // Points part members: this is another query than the first one.
            ("MT175.16.7.0", NUMBER),
        ],
    );
    let there = r#"MT175.16.7.0: there is no member "16" in MT175"#;
    assert_eq!(found, ["-215.4", "4711800", "4711.8", "0a01484c59", there]);
    let result = r#"{"POWER":"ON","StatusSNS":{"ENERGY":{"Power":"17"}}}"#;
    assert_eq!(read(result, &[("POWER", NUMBER), ("StatusSNS.ENERGY.Power", NUMBER)]), ["1", "17"]);
}

#[test]
fn states_of_home_assistant() {
    let state = |value: &str| {
        format!(r#"{{"entity_id":"sensor.grid_power","state":"{value}","attributes":{{"unit_of_measurement":"W"}}}}"#)
    };
    let power = |value: &str| read(&state(value), &[("state", NUMBER)]).remove(0);
    assert_eq!(power("-1234.5"), "-1234.5");
    assert_eq!([power("unavailable"), power("unknown")], ["missing", "missing"]);
    assert_eq!([power("on"), power("off")], ["1", "0"]);
    assert_eq!(power("12,5"), r#"state: is "12,5"; expected a number with a decimal point, not a comma"#);
    // The list of all states is an array at the root.
    let states = format!("[{}, {}]", state("1").replace("grid_power", "soc"), state("2"));
    assert_eq!(read(&states, &[(r#"[{"entity_id":"sensor.grid_power"}].state"#, NUMBER)]), ["2"]);
}

#[test]
fn a_gateway_with_everything_in_lists() {
    let payload = r#"{"Body":{"Data":{"Site":{"P_Grid":-350.2,"P_PV":null,"E_Total":7.5e6},
        "Inverters":[{"DT":1,"P":0,"name":"a"},{"DT":1,"P":2210,"name":"b","soc":55.5}]}},"Head":{"Status":{"Code":0,"Reason":""}}}"#;
    let found = read(
        payload,
        &[
            ("Body.Data.Site.P_Grid", NUMBER),
            ("Body.Data.Site.P_PV", NUMBER),
            ("Body.Data.Site.E_Total", NUMBER),
            (r#"Body.Data.Inverters[{"DT":1,"name":"b"}].soc"#, NUMBER),
            (r#"Body.Data.Inverters[{"DT":1}].P"#, NUMBER),
            ("Head.Status.Reason", Shape::Text),
            ("Body.Data", NUMBER),
        ],
    );
    let object = "Body.Data: is an object; expected a value";
    assert_eq!(found, ["-350.2", "missing", "7500000", "55.5", "0", "missing", object]);
}

#[test]
fn answers_that_are_no_json() {
    let regex = |text: &str| field(Extract::Regex(compile_regex(text).unwrap()), NUMBER);
    let number = regex(r"(-?\d+(?:\.\d+)?)");
    let metric = regex(r"^solar_power_watts (-?\d+)");
    assert_eq!(values("-1234.5\n", &[number.clone(), field(Extract::Whole, NUMBER)]), ["-1234.5", "-1234.5"]);
    assert_eq!(values("total/grid_power value=-812\r\n", &[number]), ["-812"]);
    let text = "# TYPE solar_power_watts gauge\nsolar_power_watts 1532\n";
    // ^ is the beginning of the text; (?m) makes it that of each line.
    assert!(values(text, &[metric])[0].contains("matches nothing in \"# TYPE solar_power_watts"));
    assert_eq!(values(text, &[regex(r"(?m)^solar_power_watts (-?\d+)")]), ["1532"]);
    assert_eq!(values("<td class=\"v\">17</td>", &[regex(r">(\d+)<")]), ["17"]);
}
