//! `ladekern definition from-csv FILE`: a definition file of a table, as manuals have them. What the table says is
//! checked by the same parser as every definition; what it finds is told with the line of the table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use clap::builder::PossibleValuesParser;
use ladekern_definition::parse::{self, Finding};
use serde_json::json;

use crate::config::reader::nearest;

/// Arguments of `ladekern definition from-csv`.
#[derive(Debug, Args)]
pub struct FromCsvArgs {
    /// A table with a header line that names its columns: name, address, type, resolution, order, length, query,
    /// regex, once, optional, fixed, expr; separated by `,`, `;` or tabs. `-` is the standard input.
    file: PathBuf,
    /// Type id; default the file's name.
    #[arg(long, value_name = "ID")]
    dev_type: Option<String>,
    /// Shown to people; default the type id.
    #[arg(long)]
    name: Option<String>,
    /// Shown to people.
    #[arg(long)]
    manufacturer: Option<String>,
    /// How the device is read: 0 Modbus, 1 HTTP, 2 MQTT.
    #[arg(long, default_value = "0", value_parser = PossibleValuesParser::new(["0", "1", "2"]))]
    rtype: String,
    /// What it is: 0 other, 1 meter, 2 inverter, 4 battery.
    #[arg(long, default_value = "1", value_parser = PossibleValuesParser::new(["0", "1", "2", "4"]))]
    mtype: String,
    /// Modbus function to read with.
    #[arg(long, value_parser = PossibleValuesParser::new(["3", "4"]))]
    modbus_read: Option<String>,
    /// Print a JSON object with the file's text, or with the errors.
    #[arg(long)]
    json: bool,
}

/// Columns besides `name`: keys of a variable.
const COLUMNS: [&str; 11] =
    ["address", "type", "resolution", "order", "length", "query", "regex", "once", "optional", "fixed", "expr"];

/// Exit code 1 if the table has an error.
pub(super) fn run(args: &FromCsvArgs) -> anyhow::Result<ExitCode> {
    let text = super::read(&args.file)?;
    let Made { text, errors, warnings } = make(args, &text);
    let file = args.file.display();
    if args.json {
        let well = errors.is_empty();
        let made =
            json!({ "ok": well, "text": well.then_some(text), "errors": lines(&errors), "warnings": lines(&warnings) });
        say!("{}", serde_json::to_string_pretty(&made)?);
    } else {
        for (kind, told) in errors.iter().map(|told| ("", told)).chain(warnings.iter().map(|told| ("warning: ", told)))
        {
            complain!("{kind}{file}:{}: {}", told.line, told.sentence());
        }
        if errors.is_empty() {
            say!("{}", text.trim_end());
        }
    }
    if !errors.is_empty() && !args.json {
        bail!("{file}: {} error{}, no definition was made", errors.len(), if errors.len() == 1 { "" } else { "s" });
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of a table.
#[derive(Debug)]
struct Made {
    text: String,
    errors: Vec<Told>,
    warnings: Vec<Told>,
}

/// Something about a line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// Counted from 1; 0: an argument of the command.
    line: u64,
    key: String,
    message: String,
}

impl Told {
    fn sentence(&self) -> String {
        if self.key.is_empty() { self.message.clone() } else { format!("{}: {}", self.key, self.message) }
    }
}

fn lines(told: &[Told]) -> Vec<serde_json::Value> {
    told.iter().map(|told| json!({ "line": told.line, "key": told.key, "message": told.message })).collect()
}

/// The definition of a table: one line per row, so that what the parser finds can be told with the row's line.
fn make(args: &FromCsvArgs, table: &str) -> Made {
    let table = table.strip_prefix('\u{feff}').unwrap_or(table);
    let mut errors = Vec::new();
    let (rows, separator) = rows(table, &mut errors);
    let mut text = format!("{{\n{}\n", head(args));
    let before = text.lines().count();
    let mut origin = Vec::new();
    for Row { line, name, cells } in &rows {
        let comma = if origin.len() + 1 < rows.len() { "," } else { "" };
        let cells: Vec<String> =
            cells.iter().map(|(key, cell)| format!("{}: {}", json!(key), value(key, cell, separator))).collect();
        text.push_str(&format!("  {}: {{ {} }}{comma}\n", json!(name), cells.join(", ")));
        origin.push(*line);
    }
    text.push_str("}\n");
    let checked = parse::check("", &text);
    let told = |finding: &Finding| Told {
        line: finding.line.checked_sub(before + 1).and_then(|row| origin.get(row).copied()).unwrap_or(0),
        key: finding.key.clone(),
        message: finding.message.clone(),
    };
    errors.extend(checked.errors.iter().map(told));
    errors.sort_by_key(|told: &Told| told.line);
    Made { text, errors, warnings: checked.warnings.iter().map(told).collect() }
}

/// The lines above the variables.
fn head(args: &FromCsvArgs) -> String {
    let dev_type = args.dev_type.clone().unwrap_or_else(|| id(&args.file));
    let mut head = vec![("dev_type", json!(dev_type).to_string())];
    head.push(("name", json!(args.name.as_ref().unwrap_or(&dev_type)).to_string()));
    head.extend(args.manufacturer.as_ref().map(|manufacturer| ("manufacturer", json!(manufacturer).to_string())));
    head.push(("rtype", args.rtype.clone()));
    head.push(("mtype", args.mtype.clone()));
    head.extend(args.modbus_read.as_ref().map(|function| ("modbus_read", function.clone())));
    let lines: Vec<String> = head.into_iter().map(|(key, value)| format!("  \"{key}\": {value},")).collect();
    lines.join("\n")
}

/// A type id of a file's name.
fn id(file: &Path) -> String {
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let id: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let id = id.trim_matches(['-', '_']);
    if id.is_empty() { "device".to_owned() } else { id.to_owned() }
}

struct Row {
    line: u64,
    name: String,
    cells: Vec<(&'static str, String)>,
}

/// The rows with their columns, and what separates them.
fn rows(table: &str, errors: &mut Vec<Told>) -> (Vec<Row>, u8) {
    let header = table.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
    let separator = [b';', b'\t'].into_iter().find(|byte| header.bytes().any(|b| b == *byte)).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .comment(Some(b'#'))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(table.as_bytes());
    let mut wrong = |line: u64, key: &str, message: String| errors.push(Told { line, key: key.to_owned(), message });
    let line_of = |record: &csv::StringRecord| record.position().map_or(0, |position| line(table, position));
    let mut rows = Vec::new();
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            wrong(1, "", error.to_string());
            return (rows, separator);
        }
    };
    let mut columns: Vec<Option<&'static str>> = Vec::new();
    let mut name_at = None;
    for (at, title) in header.iter().enumerate() {
        let known = COLUMNS.iter().find(|column| column.eq_ignore_ascii_case(title)).copied();
        if title.eq_ignore_ascii_case("name") && name_at.is_none() {
            name_at = Some(at);
        } else if known.is_some_and(|known| columns.contains(&Some(known))) {
            wrong(line_of(&header), title, "this column was there before".into());
        } else if known.is_none() {
            let all: Vec<&str> = std::iter::once("name").chain(COLUMNS).collect();
            let hint = match nearest(&title.to_lowercase(), &all) {
                Some(column) => format!("did you mean \"{column}\"?"),
                None => format!("known are {}", all.join(", ")),
            };
            wrong(line_of(&header), title, format!("unknown column; {hint}"));
        }
        columns.push(known);
    }
    let Some(name_at) = name_at else {
        wrong(
            line_of(&header).max(1),
            "",
            "the first line must name the columns: name, address, type, …; name is missing".into(),
        );
        return (rows, separator);
    };
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                wrong(error.position().map_or(0, csv::Position::line), "", error.to_string());
                continue;
            }
        };
        let line = line_of(&record);
        if record.iter().all(str::is_empty) {
            continue;
        }
        if record.len() > header.len() {
            let separator = char::from(separator);
            let message = format!(
                "has {} cells, the header {}; put cells with {separator} in quotes",
                record.len(),
                header.len()
            );
            wrong(line, record.get(name_at).unwrap_or_default(), message);
            continue;
        }
        let name = record.get(name_at).unwrap_or_default().to_owned();
        if name.is_empty() {
            wrong(line, "", "the name is missing".into());
            continue;
        }
        let cells = columns.iter().zip(record.iter()).filter_map(|(column, cell)| Some(((*column)?, cell.to_owned())));
        rows.push(Row { line, name, cells: cells.filter(|(_, cell)| !cell.is_empty()).collect() });
    }
    if rows.is_empty() && errors.is_empty() {
        errors.push(Told { line: 1, key: String::new(), message: "the table has no rows".into() });
    }
    (rows, separator)
}

/// The line of a record; where the reader looked for it, empty lines and comments may come first.
fn line(table: &str, position: &csv::Position) -> u64 {
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = table.get(start..).unwrap_or_default();
    let skipped = rest.lines().take_while(|line| line.is_empty() || line.starts_with('#')).count();
    position.line() + u64::try_from(skipped).unwrap_or_default()
}

/// A cell as JSON. What is no number where one is needed stays a text, and the parser says so.
fn value(key: &str, cell: &str, separator: u8) -> String {
    let text = json!(cell).to_string();
    match key {
        "address" | "length" => {
            let hex = cell.strip_prefix("0x").or_else(|| cell.strip_prefix("0X"));
            let number = hex.map_or_else(|| cell.parse().ok(), |hex| i64::from_str_radix(hex, 16).ok());
            number.map_or(text, |number: i64| number.to_string())
        }
        "resolution" => {
            // Where ; separates, a comma is what spreadsheets of many countries write for a point.
            let point = if separator == b',' { cell.to_owned() } else { cell.replacen(',', ".", 1) };
            let number = point.parse::<f64>().ok().filter(|number| number.is_finite());
            number.map_or(text, |number| number.to_string())
        }
        "once" | "optional" => match cell.to_lowercase().as_str() {
            "1" | "true" | "yes" => "true".into(),
            "0" | "false" | "no" => "false".into(),
            _ => text,
        },
        _ => text,
    }
}

#[cfg(test)]
mod tests;
