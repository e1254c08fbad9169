//! What is said about bad files.

use super::*;

/// The body of a file with one Modbus variable `x`.
fn modbus(variable: &str) -> String {
    errors(&format!("{{\"rtype\": 0, \"dev_type\": \"d\",\n\"power_w\": {variable}}}"))
}

fn http(variable: &str) -> String {
    errors(&format!("{{\"rtype\": 1, \"dev_type\": \"d\",\n\"power_w\": {variable}}}"))
}

fn mqtt(variable: &str) -> String {
    errors(&format!("{{\"rtype\": 2, \"dev_type\": \"d\",\n\"power_w\": {variable}}}"))
}

#[test]
fn all_mistakes_of_a_file_are_told_together_in_their_order() {
    let text = "{
  \"dev_type\": 7,
  \"upd_dely\": 2000,
  \"rtype\": 0,
  \"power_w\": { \"adress\": 1, \"type\": \"int17\", \"resolution\": 0 },
  \"rtu\": { \"retries\": 99, \"silence\": 1 },
  \"soc\": 5,
  \"power_w\": {},
}";
    assert_eq!(
        errors(text),
        "f:2:15: dev_type: must be a text, is 7
f:3:3: upd_dely: unknown key; did you mean \"upd_delay\"?
f:5:3: power_w: nothing says where the value comes from; give it an address, or fixed, or expr
f:5:16: power_w.adress: unknown key; did you mean \"address\"?
f:5:37: power_w.type: must be one of int16, uint16, int32, uint32, int64, uint64, float, double, string, is \"int17\"; did you mean \"int16\"?
f:5:60: power_w.resolution: must be a number other than 0, is 0
f:6:23: rtu.retries: must be a whole number from 0 to 10, is 99
f:6:27: rtu.silence: unknown key; did you mean \"silence_period\"?
f:7:3: soc: a variable is an object, { \"address\": … }, is 5
f:8:3: power_w: this key was there before; each key may be given once
"
    );
}

#[test]
fn registers_are_checked() {
    for (variable, said) in [
        (
            "{\"type\": \"int16\"}",
            "2:1: power_w: nothing says where the value comes from; give it an address, or fixed, or expr",
        ),
        (
            "{\"address\": 1}",
            "2:1: power_w.type: type is missing; it says what the registers hold: int16, uint16, int32, uint32, int64, uint64, float, double or string",
        ),
        (
            "{\"address\": -1, \"type\": \"int16\"}",
            "2:13: power_w.address: must be the number of a register, 0 to 65535, is -1",
        ),
        (
            "{\"address\": 65536, \"type\": \"int16\"}",
            "2:13: power_w.address: must be the number of a register, 0 to 65535, is 65536",
        ),
        (
            "{\"address\": 1.5, \"type\": \"int16\"}",
            "2:24: power_w.address: must be a text, or the number of a register, is 1.5",
        ),
        (
            "{\"address\": 1e300, \"type\": \"int16\"}",
            "2:24: power_w.address: must be a text, or the number of a register, is 1e300",
        ),
        (
            "{\"address\": \"/p\", \"type\": \"int16\"}",
            "2:24: power_w.address: must be the number of a register, 0 to 65535, is the text \"/p\"",
        ),
        (
            "{\"address\": \"\", \"type\": \"int16\"}",
            "2:24: power_w.address: must be the number of a register, 0 to 65535, is the text \"\"",
        ),
        (
            "{\"address\": 65535, \"type\": \"float\"}",
            "2:13: power_w.address: 2 registers from 65535 on do not fit; the last register is 65535",
        ),
        (
            "{\"address\": 65533, \"type\": \"uint64\"}",
            "2:13: power_w.address: 4 registers from 65533 on do not fit; the last register is 65535",
        ),
        (
            "{\"address\": 1, \"type\": \"string\", \"length\": 2}",
            "2:27: power_w.type: this variable is a number; string is for texts",
        ),
        (
            "{\"address\": 1, \"type\": \"int16\", \"query\": \"a\"}",
            "2:44: power_w.query: query is for HTTP and MQTT (rtype 1 and 2); registers need type",
        ),
        (
            "{\"address\": 1, \"type\": \"int16\", \"resolution\": NaN}",
            "2:58: power_w.resolution: must be a number other than 0, is NaN",
        ),
        (
            "{\"address\": 1, \"type\": \"int16\", \"resolution\": -Infinity}",
            "2:58: power_w.resolution: must be a number other than 0, is -Infinity",
        ),
        (
            "{\"address\": 1, \"type\": \"int16\", \"resolution\": 1e999}",
            "2:58: power_w.resolution: must be a number other than 0, is 1e999",
        ),
        (
            "{\"address\": 1, \"type\": \"int16\", \"order\": \"big\"}",
            "2:53: power_w.order: must be one of hl, lh, is \"big\"",
        ),
    ] {
        assert_eq!(modbus(variable), format!("f:{said}\n"), "{variable}");
    }
    for text in [
        "{\"address\": 65532, \"type\": \"uint64\"}",
        "{\"address\": \"65532\", \"type\": \"INT64\"}",
        "{\"address\": \" 0xFFFF\", \"type\": \"int16\"}",
    ] {
        assert_eq!(modbus(text), "", "{text}");
    }
}

#[test]
fn lengths_of_strings_and_versions_are_checked() {
    let serial = |variable: &str| errors(&format!("{{\"rtype\": 0, \"dev_type\": \"d\",\n\"version\": {variable}}}"));
    for (variable, said) in [
        (
            "{\"address\": 1, \"type\": \"string\"}",
            "2:1: version.length: length is missing; it says how many registers the string takes, two characters each",
        ),
        (
            "{\"address\": 1, \"type\": \"string\", \"length\": 0}",
            "2:55: version.length: must be a whole number from 1 to 125, is 0",
        ),
        (
            "{\"address\": 1, \"type\": \"string\", \"length\": 126}",
            "2:55: version.length: must be a whole number from 1 to 125, is 126",
        ),
        (
            "{\"address\": 65500, \"type\": \"string\", \"length\": 40}",
            "2:13: version.address: 40 registers from 65500 on do not fit; the last register is 65535",
        ),
        (
            "{\"address\": 1, \"type\": \"int16\", \"length\": 4}",
            "2:44: version.length: a version of a 16-bit number has length 2, one of 32 or 64 bits 2 or 4; floats have no parts",
        ),
        (
            "{\"address\": 1, \"type\": \"float\", \"length\": 2}",
            "2:44: version.length: a version of a 16-bit number has length 2, one of 32 or 64 bits 2 or 4; floats have no parts",
        ),
        (
            "{\"expr\": \"1\"}",
            "2:13: version.expr: this variable is a text and a formula is a number; read it, or write fixed",
        ),
    ] {
        assert_eq!(serial(variable), format!("f:{said}\n"), "{variable}");
    }
}

#[test]
fn paths_are_checked() {
    for (address, said) in [
        ("\"\"", "2:24: power_w.address: must be a path beginning with /, after an optional GET or POST, is \"\""),
        (
            "\"status\"",
            "2:24: power_w.address: must be a path beginning with /, after an optional GET or POST, is \"status\"",
        ),
        (
            "\"DELETE /x\"",
            "2:24: power_w.address: \"DELETE\" is no method to read with; write GET or POST before the path",
        ),
        (
            "\"http://10.0.0.1/status\"",
            "2:24: power_w.address: must be a path beginning with /; the host is the address of the device in ladekern.toml",
        ),
        (
            "\"GET http://10.0.0.1/status\"",
            "2:28: power_w.address: must be a path beginning with /; the host is the address of the device in ladekern.toml",
        ),
        ("\"/a b\"", "2:26: power_w.address: \" \" cannot stand in a path; write %20"),
        ("\"GET /\\u00e4\"", "2:29: power_w.address: \"ä\" cannot stand in a path; write %C3%A4"),
        ("\"/a#b\"", "2:26: power_w.address: \"#\" cannot stand in a path; write %23"),
        (
            "12",
            "2:13: power_w.address: must be a path, like /status or GET /status, is a number; registers are for Modbus (rtype 0)",
        ),
    ] {
        // The opening quote is in column 24, the text begins in column 25.
        let said = if address.starts_with('"') { shifted(said) } else { said.to_owned() };
        assert_eq!(http(&format!("{{\"address\": {address}}}")), format!("f:{said}\n"), "{address}");
    }
}

/// One column to the right.
fn shifted(said: &str) -> String {
    let mut parts = said.splitn(3, ':');
    let (line, column, rest) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    format!("{line}:{}:{rest}", column.parse::<usize>().unwrap() + 1)
}

#[test]
fn topics_are_checked() {
    let wild = "power_w.address: must be one topic without the wildcards + and #: a variable is one value, and with several \
                topics each message would overwrite another device's; give each variable its own topic";
    for (address, said) in [
        ("\"\"", "2:25: power_w.address: is empty; it is a topic, like meters/1/power".to_owned()),
        ("\"a/+/b\"", format!("2:27: {wild}")),
        ("\"a/#\"", format!("2:27: {wild}")),
        ("\"a\\u0000\"", "2:26: power_w.address: a control character cannot stand in a topic".to_owned()),
        ("7", "2:13: power_w.address: must be a topic, like meters/1/power, is a number; registers are for Modbus (rtype 0)".to_owned()),
    ] {
        assert_eq!(mqtt(&format!("{{\"address\": {address}}}")), format!("f:{said}\n"), "{address}");
    }
}

#[test]
fn expressions_are_checked_and_a_lost_backslash_is_noticed() {
    for (regex, said) in [
        ("\"\"", "39: power_w.regex: is empty; expected a pattern, like (-?\\d+(?:\\.\\d+)?)"),
        ("\"(\\\\d+\"", "39: power_w.regex: is no regular expression: unclosed group"),
        (
            "\"a\\u0062[z-a]\"",
            "47: power_w.regex: is no regular expression: invalid character class range, the start must be <= the end",
        ),
        ("\"(\\d+)\"", "40: power_w.regex: \\d in a JSON text is only d; write \\\\d"),
        (
            "\"(\\\\w{1,900}){1,900}\"",
            "39: power_w.regex: is too large when compiled; expected fewer or smaller repetitions",
        ),
    ] {
        let told = http(&format!("{{\"address\": \"/\", \"regex\": {regex}}}"));
        assert_eq!(told, format!("f:2:{said}\n"), "{regex}");
    }
}

#[test]
fn what_excludes_each_other_is_told() {
    for (variable, said) in [
        (
            "{\"address\": \"/\", \"regex\": \"a\", \"query\": \"a\"}",
            "29: power_w.regex: query is for JSON, regex for other texts; give only one of the two",
        ),
        (
            "{\"fixed\": \"1\", \"expr\": \"1\"}",
            "27: power_w.expr: fixed is a constant and expr a formula; give only one of the two",
        ),
        (
            "{\"fixed\": \"1\", \"address\": \"/\"}",
            "27: power_w.address: fixed gives the value, so nothing is read; remove address or fixed",
        ),
        (
            "{\"expr\": \"1\", \"query\": \"a\"}",
            "26: power_w.query: expr gives the value, so nothing is read; remove query or expr",
        ),
        ("{\"fixed\": \"abc\"}", "13: power_w.fixed: must be a number here, is \"abc\""),
        (
            "{\"fixed\": \"1\", \"type\": \"string\"}",
            "27: power_w.type: this variable is a number; string is for texts",
        ),
    ] {
        assert_eq!(http(variable), format!("f:2:{said}\n"), "{variable}");
    }
}

#[test]
fn the_head_is_checked() {
    for (head, said) in [
        (
            "\"dev_type\": \"d\"",
            "f:1:1: rtype: rtype is missing; it says how the device is read: 0 Modbus, 1 HTTP, 2 MQTT\n",
        ),
        (
            "\"rtype\": 1",
            "f:1:1: dev_type: dev_type is missing; it is the name by which ladekern.toml means this file: type = \"…\"\n",
        ),
        (
            "\"rtype\": 3, \"dev_type\": \"d\"",
            "f:1:11: rtype: must be 0 (Modbus (TCP, RTU over TCP, RTU)) or 1 (HTTP) or 2 (MQTT), is 3\n",
        ),
        (
            "\"rtype\": \"0\", \"dev_type\": \"d\"",
            "f:1:11: rtype: must be 0 (Modbus (TCP, RTU over TCP, RTU)) or 1 (HTTP) or 2 (MQTT), is the text \"0\"\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"\"",
            "f:1:26: dev_type: must be made of the letters a to z, digits and - _ . (at most 64), beginning with a letter or digit, is \"\"\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"../x\"",
            "f:1:26: dev_type: must be made of the letters a to z, digits and - _ . (at most 64), beginning with a letter or digit, is \"../x\"\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"d\", \"mtype\": 3",
            "f:1:40: mtype: must be 0 (other) or 1 (meter) or 2 (inverter) or 4 (battery), is 3\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"d\", \"upd_delay\": 99",
            "f:1:44: upd_delay: must be a whole number from 100 to 86400000, is 99\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"d\", \"name\": \"a\\nb\"",
            "f:1:31: name: must be a text of at most 200 letters on one line\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"d\", \"ui_addr\": \"javascript:alert(1)\"",
            "f:1:42: ui_addr: must begin with http://, https:// or /, and have no spaces, is \"javascript:alert(1)\"\n",
        ),
        (
            "\"rtype\": 1, \"dev_type\": \"d\", \"reserved\": [1, \"2\"]",
            "f:1:47: reserved[1]: must be a number, is the text \"2\"\n",
        ),
        (
            "\"rtype\": 0, \"dev_type\": \"d\", \"modbus_read_max_registers\": 126",
            "f:1:60: modbus_read_max_registers: must be a whole number from 1 to 125, is 126\n",
        ),
    ] {
        let text = format!("{{{head}, \"v\": {{\"fixed\": 1}}}}");
        assert_eq!(errors(&text), said, "{head}");
    }
}

#[test]
fn inputs_and_outputs_are_checked() {
    let told = |list: &str| errors(&format!("{{\"rtype\": 0, \"dev_type\": \"d\",\n{list}}}"));
    assert_eq!(
        told("\"inputs\": [{\"count\": 2}, 7, {\"address\": 1, \"count\": 33}, {\"address\": 1, \"bits\": 2}]"),
        "f:2:12: inputs[0].address: address is missing; it is the number of the first register, 0 to 65535
f:2:26: inputs[1]: must be an object, is 7
f:2:53: inputs[2].count: must be a whole number from 1 to 32, is 33
f:2:73: inputs[3].bits: unknown key; known here are address, count, query
"
    );
    assert_eq!(
        told("\"inputs\": [{\"address\": 1, \"count\": 32}, {\"address\": 1}]"),
        "f:2:1: inputs: a device has at most 32 inputs, these are 33 bits together\n"
    );
    assert_eq!(
        told("\"outputs\": [{}, {\"address\": \" \"}, {\"address\": 1, \"body\": {}}]"),
        "f:2:13: outputs[0].address: address is missing; it says where the request goes: /path, or POST http://…
f:2:31: outputs[1].address: expected a path that begins with /, or a URL that begins with http://
f:2:47: outputs[2].address: must be a text, is 1
f:2:58: outputs[2].body: must be a text, is an object
"
    );
    let many = |list: &str| format!("\"{list}\": [{}]", "{\"address\": \"/a\"},".repeat(33));
    assert!(
        told(&many("outputs"))
            .contains("outputs: must be a list of at most 32 objects with address, body, is a list of 33")
    );
    assert!(told(&many("resets")).contains("resets: must be a list of at most 32 objects"));
    assert!(told(&many("inputs")).contains("inputs: must be a list of at most 32 objects"));
}

#[test]
fn texts_of_outputs_are_checked_where_they_stand() {
    let told = |rtype: u8, output: &str| {
        errors(&format!("{{\"rtype\": {rtype}, \"dev_type\": \"d\", \"outputs\": [\n{output}]}}"))
    };
    assert_eq!(told(1, "{\"address\": \"/a?b=${power_w}\", \"body\": \"x\"}"), "");
    let bad = told(1, "{\"address\": \"/a?b=${1 +* 2}\"}");
    assert!(bad.starts_with("f:2:24: outputs[0].address: "), "{bad}");
    let bad = told(1, "{\"address\": \"/a\", \"body\": \"\\\"${power_w\"}");
    assert!(bad.starts_with("f:2:") && bad.contains(": outputs[0].body: "), "{bad}");
    let path = "a path needs a device that is read over HTTP; expected a whole URL, like http://localhost/cnf?…";
    assert_eq!(told(0, "{\"address\": \"/a\"}"), format!("f:2:14: outputs[0].address: {path}\n"));
    let message = "a topic gets a message; expected a body, or a URL as address";
    assert_eq!(told(2, "{\"address\": \"a/b\"}"), format!("f:2:1: outputs[0].body: {message}\n"));
}

#[test]
fn names_are_checked() {
    let told = |list: &str| errors(&format!("{{\"rtype\": 1, \"dev_type\": \"d\",\n{list}}}"));
    let rule = "a variable's name is made of the letters a to z, digits and _, and begins with no digit; before it may stand \
                CM. or *";
    assert_eq!(told("\"my var\": {\"fixed\": 1}"), format!("f:2:1: my var: {rule}\n"));
    assert_eq!(told("\"CM.\": {\"fixed\": 1}"), format!("f:2:1: CM.: {rule}\n"));
    assert_eq!(told("\"*soc\": {\"fixed\": 1}"), "f:2:1: *soc: soc is shown anyway; write it without the *\n");
    let same = "capital letters and * make no difference; choose another one\n";
    assert_eq!(
        told("\"a\": {\"fixed\": 1}, \"*A\": {\"fixed\": 1}"),
        format!("f:2:20: *A: is the same name as a: {same}")
    );
    assert_eq!(
        told("\"cm.a\": {\"fixed\": 1}, \"CM.A\": {\"fixed\": 1}"),
        format!("f:2:23: CM.A: is the same name as cm.a: {same}")
    );
    assert_eq!(told("\"a\": {\"fixed\": 1}, \"CM.a\": {\"fixed\": 1}"), "", "another object");
    assert_eq!(told("\"powr_w\": 3"), "f:2:1: powr_w: unknown key; did you mean \"power_w\"?\n");
    assert_eq!(
        told("\"_note\": \"x\""),
        "f:2:1: _note: unknown key; a variable would be an object, { \"address\": … }, this is the text \"x\"\n"
    );
}

#[test]
fn what_has_no_effect_or_is_doubtful_is_warned_of() {
    let told = |list: &str| {
        let text = format!("{{\"rtype\": 1, \"dev_type\": \"d\",\n{list}}}");
        assert_eq!(errors(&text), "");
        warnings(&text)
    };
    let amperes = "currents are in mA; if the device tells amperes, resolution must be 1000\n";
    for (list, said) in [
        ("", "f:1:1: no variable: nothing is read from the device\n".to_owned()),
        ("\"voltage_11\": {\"address\": \"/\"}", "f:2:1: voltage_11: is a variable of your own; did you mean \"voltage_l1\"?\n".to_owned()),
        ("\"power_W\": {\"address\": \"/\"}", "f:2:1: power_W: is a variable of your own; did you mean \"power_w\"?\n".to_owned()),
        ("\"state\": {\"address\": \"/\"}", "f:2:1: state: every device has a member of this name; choose another one, or formulas may mean the wrong one\n".to_owned()),
        ("\"current_l1\": {\"address\": \"/\"}", format!("f:2:16: current_l1.address: {amperes}")),
        ("\"current_l1\": {\"address\": \"/\", \"resolution\": -1}", format!("f:2:32: current_l1.resolution: {amperes}")),
        ("\"import_wh\": {\"address\": \"/\", \"query\": \"a.total_kWh\"}", "f:2:15: import_wh.address: import_wh is in Wh, but what is read ends in \"kwh\"; did you mean resolution 1000?\n".to_owned()),
        ("\"power_w\": {\"address\": \"/power_kw\"}", "f:2:13: power_w.address: power_w is in W, but what is read ends in \"kw\"; did you mean resolution 1000?\n".to_owned()),
        ("\"voltage_l1\": {\"fixed\": 230000}", "f:2:16: voltage_l1.fixed: 230000 V is not likely; the unit of voltage_l1 is V\n".to_owned()),
        ("\"soc\": {\"fixed\": \"101\"}", "f:2:9: soc.fixed: 101 % is not likely; the unit of soc is %\n".to_owned()),
        ("\"v\": {\"fixed\": 1, \"resolution\": 2}", "f:2:19: v.resolution: has no effect beside fixed\n".to_owned()),
        ("\"v\": {\"address\": \"/\", \"order\": \"lh\"}", "f:2:23: v.order: has no effect; it is for registers (rtype 0)\n".to_owned()),
        ("\"v\": {\"address\": \"/\", \"length\": 2}", "f:2:23: v.length: has no effect here; it is for strings in registers, and for versions\n".to_owned()),
        ("\"serial\": {\"address\": \"/\", \"once\": false}", "f:2:28: serial.once: has no effect; who a device is is always read once\n".to_owned()),
        ("\"rtu\": {}, \"v\": {\"fixed\": 1}", "f:2:1: rtu: has no effect; it is for Modbus (rtype 0)\n".to_owned()),
    ] {
        assert_eq!(told(list), said, "{list}");
    }
    assert_eq!(
        warnings("{\"rtype\": 2, \"dev_type\": \"d\",\n\"upd_delay\": 2000, \"tcp\": {}, \"v\": {\"fixed\": 1}}"),
        "f:2:1: upd_delay: has no effect; values of MQTT come when they are published
f:2:20: tcp: has no effect; it is for Modbus TCP and HTTP (rtype 0 and 1)
"
    );
    for list in [
        "\"current_l1\": {\"address\": \"/\", \"resolution\": 1000}",
        "\"current_l1\": {\"address\": \"/\", \"type\": \"int32\"}",
        "\"import_wh\": {\"address\": \"/\", \"query\": \"kwh\", \"resolution\": 1000}",
        "\"import_wh\": {\"address\": \"/\", \"query\": \"total\"}",
        "\"power_w2\": {\"address\": \"/\"}",
        "\"temperature\": {\"address\": \"/\", \"query\": \"t_a\"}",
    ] {
        assert_eq!(told(list), "", "{list}");
    }
}

#[test]
fn formulas_and_queries_say_where_in_their_text() {
    let told = |list: &str| errors(&format!("{{\"rtype\": 1, \"dev_type\": \"d\",\n{list}}}"));
    let formula = told("\"a\": {\"expr\": \"1 + \\u0028 2 +* 3)\"}");
    assert!(formula.starts_with("f:2:30: a.expr: "), "{formula}");
    let query = told("\"a\": {\"address\": \"/\", \"query\": \"b[\"}");
    assert!(query.starts_with("f:2:34: a.query: ") || query.starts_with("f:2:35: a.query: "), "{query}");
}

#[test]
fn formulas_that_need_one_another_are_named() {
    let told = |list: &str| errors(&format!("{{\"rtype\": 1, \"dev_type\": \"d\",\n{list}}}"));
    assert_eq!(
        told(
            "\"*A\": {\"expr\": \"b + 1\"}, \"b\": {\"expr\": \"a\"}, \"c\": {\"expr\": \"C\"}, \"d\": {\"expr\": \"a\"}"
        ),
        "f:2:8: *A.expr: these formulas need one another: a → b → a\nf:2:52: c.expr: these formulas need one another: c → c\n"
    );
    assert_eq!(
        told("\"CM.a\": {\"expr\": \"b\"}, \"b\": {\"expr\": \"CM.a\"}"),
        "",
        "through the manager, a cycle later"
    );
    assert_eq!(told("\"a\": {\"expr\": \"M1.a\"}"), "", "whose M1 is is not known here");
}
