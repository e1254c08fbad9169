//! Tables become definitions that the checker takes, or errors with their lines.

use clap::Parser;
use ladekern_definition::{Source, WordOrder};

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: FromCsvArgs,
}

fn args(words: &[&str]) -> FromCsvArgs {
    Command::try_parse_from(std::iter::once("from-csv").chain(words.iter().copied())).unwrap().args
}

fn told(table: &str) -> Vec<String> {
    let made = make(&args(&["my table.csv"]), table);
    made.errors.iter().map(|told| format!("{}: {}", told.line, told.sentence())).collect()
}

#[test]
fn a_table_becomes_a_definition() {
    let table = "# registers of the manual\nname,address,type,resolution,order,length\n\
                 power_w,0x5B14,int32,0.01,,\nimport_wh,20480,uint64,10,lh,\nserial,35072,string,,,2\n";
    let made =
        make(&args(&["dir/ABB B23.csv", "--name", "B \"23\"", "--modbus-read", "4", "--manufacturer", "ABB"]), table);
    assert_eq!(made.errors, []);
    assert_eq!(made.warnings, []);
    let expected = r#"{
  "dev_type": "abb-b23",
  "name": "B \"23\"",
  "manufacturer": "ABB",
  "rtype": 0,
  "mtype": 1,
  "modbus_read": 4,
  "power_w": { "address": 23316, "type": "int32", "resolution": 0.01 },
  "import_wh": { "address": 20480, "type": "uint64", "resolution": 10, "order": "lh" },
  "serial": { "address": 35072, "type": "string", "length": 2 }
}
"#;
    assert_eq!(made.text, expected);
    assert!(serde_json::from_str::<serde_json::Value>(&made.text).is_ok(), "it is plain JSON");
    let definition = parse::parse("f", &made.text).unwrap().definition;
    let Some(Source::Modbus(field)) = definition.variables.get(1).map(|variable| &variable.source) else { panic!() };
    assert_eq!((field.address, field.count, field.order), (20480, 4, WordOrder::LowFirst));
}

#[test]
fn semicolons_tabs_quotes_and_decimal_commas_are_understood() {
    for table in [
        "\u{feff}Name;Address;Type;Resolution\r\nvoltage_l1;\"1\";float;0,1\r\n\r\n",
        "name\taddress\ttype\tresolution\nvoltage_l1\t1\tfloat\t0.1\n",
        "resolution, type, address, name\n0.1, float, 1, voltage_l1",
    ] {
        let made = make(&args(&["t.csv"]), table);
        assert_eq!(made.errors, [], "{table}");
        assert!(made.text.contains("0.1"), "{}", made.text);
    }
}

#[test]
fn other_transports_have_paths_and_topics() {
    let http = make(
        &args(&["t.csv", "--rtype", "1", "--mtype", "2", "--dev-type", "x"]),
        "name,address,query,once,optional\npower_w,GET /s,a.b,yes,1\n",
    );
    assert_eq!(http.errors, []);
    assert!(
        http.text.contains(r#""power_w": { "address": "GET /s", "query": "a.b", "once": true, "optional": true }"#),
        "{}",
        http.text
    );
    let mqtt = make(&args(&["t.csv", "--rtype", "2"]), "name,address\npower_w,a/#\n");
    assert_eq!(mqtt.errors.first().map(|told| told.line), Some(2));
}

#[test]
fn mistakes_are_told_with_the_line_of_the_table() {
    let head = "name,address,type,resolution";
    for (table, expected) in [
        (String::new(), "1: the first line must name the columns: name, address, type, …; name is missing"),
        (
            "address,type\n1,int16".into(),
            "1: the first line must name the columns: name, address, type, …; name is missing",
        ),
        (head.to_owned(), "1: the table has no rows"),
        ("name,adress\nx,1".into(), "1: adress: unknown column; did you mean \"address\"?"),
        (format!("{head},type\nx,1,int16,1,int16"), "1: type: this column was there before"),
        (format!("{head}\n\n,1,int16,1"), "3: the name is missing"),
        (format!("{head}\npower_w,1,int16,1,5"), "2: power_w: has 5 cells, the header 4; put cells with , in quotes"),
        (
            format!("{head}\na,1,int16,1\n\nb,70000,int16,1"),
            "4: b.address: must be the number of a register, 0 to 65535, is 70000",
        ),
        (format!("{head}\na,1,int16,1\na,2,int16,1"), "3: a: this key was there before; each key may be given once"),
        (
            format!("{head}\nmy power,1,int16,1"),
            "2: my power: a variable's name is made of the letters a to z, digits and _, and begins with no digit; before it may stand CM. or *",
        ),
    ] {
        assert_eq!(told(&table).first().map(String::as_str), Some(expected), "{table}");
    }
    let several = told(&format!("{head}\na,x,int16,1\nb,1,int17,1\nc,1,int16,zero"));
    assert_eq!(several.len(), 3, "{several:?}");
    assert!(
        several[0].starts_with("2: a.address: ")
            && several[1].starts_with("3: b.type: ")
            && several[2].starts_with("4: c.resolution: ")
    );
}

#[test]
fn what_is_made_is_told_by_the_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.csv");
    let name = file.to_str().unwrap();
    std::fs::write(&file, "name,address,type\npower_w,1,int16\n").unwrap();
    let well = format!("{:?}", ExitCode::SUCCESS);
    assert_eq!(format!("{:?}", run(&args(&[name])).unwrap()), well);
    assert_eq!(format!("{:?}", run(&args(&[name, "--json"])).unwrap()), well);
    std::fs::write(&file, "name,address,type\npower_w,-1,int16\n").unwrap();
    assert_eq!(run(&args(&[name])).unwrap_err().to_string(), format!("{name}: 1 error, no definition was made"));
    assert_ne!(format!("{:?}", run(&args(&[name, "--json"])).unwrap()), well);
}
