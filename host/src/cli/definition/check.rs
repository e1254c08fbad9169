//! `ladekern definition check FILE…`: everything that is wrong or doubtful in definition files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use ladekern_definition::parse::{self, Checked, Finding};
use ladekern_definition::{Kind, Transport};
use serde_json::{Value, json};

use crate::definition::double_of;

/// Arguments of `ladekern definition check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Definition files; `-` is the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is said about one file.
enum Told {
    Read(Box<Checked>),
    /// It could not be read; why.
    Unread(String),
}

impl Told {
    fn is_well(&self) -> bool {
        matches!(self, Self::Read(checked) if checked.errors.is_empty())
    }
}

/// Exit code 1 if a file has an error.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut files: Vec<(String, Told)> = Vec::new();
    for file in &args.files {
        let name = file.display().to_string();
        let told = match super::read(file) {
            Ok(text) => Told::Read(Box::new(parse::check(&name, &text))),
            Err(error) => Told::Unread(format!("{error:#}")),
        };
        files.push((name, told));
    }
    same_types(&mut files);
    let well = files.iter().all(|(_, told)| told.is_well());
    if args.json {
        say!("{}", serde_json::to_string_pretty(&answer(&files))?);
    } else {
        for (name, told) in &files {
            print(name, told);
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Files of one folder that describe the same type: all but the first by name are not used.
fn same_types(files: &mut [(String, Told)]) {
    let mut first: BTreeMap<(PathBuf, String), PathBuf> = BTreeMap::new();
    let place = |name: &str| std::fs::canonicalize(name).ok();
    let dev_type = |told: &Told| match told {
        Told::Read(checked) => checked.definition.as_ref().map(|definition| definition.dev_type.clone()),
        Told::Unread(_) => None,
    };
    for (name, told) in &*files {
        if let (Some(path), Some(dev_type)) = (place(name), dev_type(told)) {
            let folder = path.parent().unwrap_or(&path).to_owned();
            let first = first.entry((folder, dev_type)).or_insert_with(|| path.clone());
            *first = path.min(first.clone());
        }
    }
    for (name, told) in files {
        let (Some(path), Some(dev_type)) = (place(name), dev_type(told)) else { continue };
        let folder = path.parent().unwrap_or(&path).to_owned();
        let Some(first) = first.get(&(folder, dev_type.clone())).filter(|first| **first != path) else { continue };
        let Told::Read(checked) = told else { continue };
        // As it was given, where that is the same folder.
        let shown = Path::new(name).with_file_name(first.file_name().unwrap_or_default());
        let message = double_of(&dev_type, &shown);
        checked.errors.push(Finding { file: name.clone(), line: 1, column: 1, key: String::new(), message });
    }
}

fn print(name: &str, told: &Told) {
    let checked = match told {
        Told::Unread(why) => return complain!("{why}"),
        Told::Read(checked) => checked,
    };
    for error in &checked.errors {
        complain!("{error}");
    }
    for warning in &checked.warnings {
        complain!("warning: {warning}");
    }
    let doubts = match checked.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".into(),
        many => format!(", {many} warnings"),
    };
    match (&checked.definition, checked.errors.len()) {
        (Some(definition), _) => {
            let variables = match definition.variables.len() {
                1 => "1 variable".to_owned(),
                many => format!("{many} variables"),
            };
            say!("{name}: {} ({}), {variables}{doubts}", definition.dev_type, transport(&definition.transport));
        }
        (None, 1) => say!("{name}: 1 error{doubts}"),
        (None, errors) => say!("{name}: {errors} errors{doubts}"),
    }
}

fn answer(files: &[(String, Told)]) -> Value {
    let each: Vec<Value> = files
        .iter()
        .map(|(name, told)| match told {
            Told::Unread(why) => {
                let error = json!({ "file": name, "line": 0, "column": 0, "key": "", "message": why });
                json!({ "file": name, "ok": false, "definition": null, "errors": [error], "warnings": [] })
            }
            Told::Read(checked) => {
                let Checked { definition, errors, warnings } = &**checked;
                let about = definition.as_ref().map(|definition| {
                    let variables: Vec<&str> = definition.variables.iter().map(|v| v.name.as_str()).collect();
                    json!({
                        "dev_type": definition.dev_type,
                        "name": definition.name,
                        "manufacturer": definition.manufacturer,
                        "kind": kind(definition.kind),
                        "transport": transport(&definition.transport),
                        "ui_addr": definition.ui_addr,
                        "variables": variables,
                    })
                });
                let ok = errors.is_empty();
                json!({ "file": name, "ok": ok, "definition": about, "errors": errors, "warnings": warnings })
            }
        })
        .collect();
    json!({ "ok": files.iter().all(|(_, told)| told.is_well()), "files": each })
}

fn transport(transport: &Transport) -> &'static str {
    match transport {
        Transport::Modbus(_) => "modbus",
        Transport::Http => "http",
        Transport::Mqtt => "mqtt",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Other => "other",
        Kind::Meter => "meter",
        Kind::Inverter => "inverter",
        Kind::Battery => "battery",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(files: &[PathBuf], json: bool) -> CheckArgs {
        CheckArgs { files: files.to_vec(), json }
    }

    fn code(done: anyhow::Result<ExitCode>) -> String {
        format!("{:?}", done.unwrap())
    }

    #[test]
    fn the_exit_code_says_whether_a_file_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("good.json"), folder.path().join("bad.json"));
        std::fs::write(&good, "{\"rtype\": 1, \"dev_type\": \"d\", \"power_w\": {\"address\": \"/\"}}").unwrap();
        std::fs::write(&bad, "{\"rtype\": 1}").unwrap();
        let well = format!("{:?}", ExitCode::SUCCESS);
        for json in [false, true] {
            assert_eq!(code(run(&args(std::slice::from_ref(&good), json))), well);
            assert_ne!(code(run(&args(&[good.clone(), bad.clone()], json))), well);
            assert_ne!(code(run(&args(&[folder.path().join("missing.json")], json))), well);
        }
    }

    #[test]
    fn of_two_files_of_one_folder_for_one_type_the_second_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            |dev_type: &str| format!("{{\"rtype\": 2, \"dev_type\": \"{dev_type}\", \"soc\": {{\"address\": \"t\"}}}}");
        let write = |name: &str, dev_type: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text(dev_type)).unwrap();
            path
        };
        let files = [write("b.json", "d"), write("a.json", "d"), write("c.json", "e"), write("own/a.json", "d")];
        let read = |path: &PathBuf| {
            let name = path.display().to_string();
            let told = Told::Read(Box::new(parse::check(&name, &std::fs::read_to_string(path).unwrap())));
            (name, told)
        };
        // One that is named twice is no second one.
        let mut told: Vec<(String, Told)> = files.iter().chain([&files[1]]).map(read).collect();
        same_types(&mut told);
        assert_eq!(told.iter().map(|(_, told)| told.is_well()).collect::<Vec<_>>(), [false, true, true, true, true]);
        let answer = answer(&told);
        let message = answer["files"][0]["errors"][0]["message"].as_str().unwrap();
        let wanted = format!("dev_type: \"d\" is described by {} too", files[1].display());
        assert!(message.starts_with(&wanted), "{message}");
        let code_of = |files: &[PathBuf]| code(run(&args(files, false)));
        assert_ne!(code_of(&files), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code_of(&files[1..]), format!("{:?}", ExitCode::SUCCESS));
    }

    #[test]
    fn the_answer_for_programs_has_every_finding_with_its_place() {
        let read = |text: &str| Told::Read(Box::new(parse::check("f", text)));
        let files = [
            ("f".to_owned(), read("{\"rtype\": 2, \"dev_type\": \"d\", \"mtype\": 4, \"soc\": {\"address\": \"t\"}}")),
            ("f".to_owned(), read("{\"rtype\": 2,\n \"dev_typ\": \"d\",\n \"tcp\": {}}")),
            ("g".to_owned(), Told::Unread("g: no such file".into())),
        ];
        let answer = answer(&files);
        assert_eq!(answer["ok"], false);
        let [good, bad, missing] = answer["files"].as_array().unwrap().as_slice() else { panic!("{answer}") };
        assert_eq!(good["ok"], true);
        assert_eq!(
            good["definition"],
            json!({ "dev_type": "d", "name": "d", "manufacturer": "", "kind": "battery", "transport": "mqtt", "ui_addr": null, "variables": ["soc"] })
        );
        assert_eq!((&bad["ok"], &bad["definition"]), (&json!(false), &Value::Null));
        assert_eq!(bad["errors"][1]["key"], "dev_typ");
        assert_eq!((&bad["errors"][1]["line"], &bad["errors"][1]["column"]), (&json!(2), &json!(2)));
        assert_eq!(bad["errors"][1]["message"], "unknown key; did you mean \"dev_type\"?");
        assert_eq!(bad["warnings"].as_array().map(Vec::len), Some(2), "{bad}");
        assert_eq!(missing["errors"][0]["message"], "g: no such file");
    }
}
