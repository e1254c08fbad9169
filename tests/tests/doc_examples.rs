//! What the documentation shows as an example is taken by the program: definitions, configurations, rule sets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::PathBuf;

use ladekern_definition::Transport;
use ladekern_definition::parse::{check, parse};
use ladekern_tests::root;

/// A fenced block of a document.
struct Block {
    /// `docs/definitions.md:7`
    place: String,
    text: String,
}

/// The blocks of a document in this language.
fn blocks(document: &str, language: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<bool> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (line.trim_start().strip_prefix("```"), open) {
            (Some(fence), None) => {
                open = Some(fence.trim() == language);
                if fence.trim() == language {
                    blocks.push(Block { place: format!("{document}:{number}"), text: String::new() });
                }
            }
            (Some(_), Some(_)) => open = None,
            (None, Some(true)) => {
                let text = &mut blocks.last_mut().unwrap().text;
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// A definition that holds the keys of a fragment, over this transport.
fn around(fragment: &str, rtype: u8) -> String {
    format!("{{ dev_type: 'd', rtype: {rtype}, power_w: {{ fixed: 1 }},\n{fragment}\n}}")
}

#[test]
fn definitions_of_the_documentation_are_definitions() {
    let blocks = blocks("docs/definitions.md", "json5");
    assert!(blocks.len() >= 3, "{} blocks", blocks.len());
    for Block { place, text } in blocks {
        // A block that is no object shows some keys of one; it is an example of at least one transport.
        let whole = text.lines().any(|line| line.starts_with('{'));
        let texts = if whole { vec![text] } else { (0..3).map(|rtype| around(&text, rtype)).collect() };
        let checked: Vec<_> = texts.iter().map(|text| check(&place, text)).collect();
        let told: Vec<_> = checked.iter().map(|checked| (&checked.errors, &checked.warnings)).collect();
        assert!(told.iter().any(|(errors, warnings)| errors.is_empty() && warnings.is_empty()), "{told:#?}");
    }
}

/// Documents whose TOML is `ladekern.toml`, or a part of it.
const CONFIGURED: &[&str] = &[
    "README.md",
    "docs/definitions.md",
    "docs/charging-rules.md",
    "docs/formulas.md",
    "docs/configuration.md",
    "plugins/cfos-power-brain/README.md",
    "plugins/eastron-sdm/README.md",
    "plugins/go-e/README.md",
    "plugins/tasmota/README.md",
];

#[test]
fn configurations_of_the_documentation_are_configurations() {
    for document in CONFIGURED {
        let blocks = blocks(document, "toml");
        assert!(!blocks.is_empty(), "{document}");
        for Block { place, mut text } in blocks {
            // A part of a file: the broker that it means is in another one.
            if text.contains("\"mqtt\"") && !text.lines().any(|line| line == "[mqtt]") {
                text.push_str("[mqtt]\nbroker = \"embedded\"\n");
            }
            if let Err(errors) = ladekern::config::parse(&place, &text, &[]) {
                panic!("{errors}\n{text}");
            }
        }
    }
}

#[test]
fn rule_sets_of_the_documentation_are_rule_sets() {
    let blocks = blocks("docs/charging-rules.md", "json");
    assert!(!blocks.is_empty());
    let folder = tempfile::tempdir().unwrap();
    for (at, block) in blocks.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{at}.json")), &block.text).unwrap();
    }
    let (sets, problems) = ladekern::rules::read_folder(folder.path());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(sets.len(), blocks.len());
}

/// Code within a line, `` `like this` ``.
fn inline(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn rules_within_the_text_are_rules() {
    let rules: Vec<String> = inline("docs/charging-rules.md")
        .into_iter()
        .filter(|code| code.starts_with("charging_rules = ") && !code.contains('…'))
        .collect();
    assert!(rules.len() >= 2, "{rules:?}");
    for rules in rules {
        let text = format!("[[device]]\nid = \"E1\"\ntype = \"http-input\"\n{rules}\n");
        ladekern::config::parse("docs/charging-rules.md", &text, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn formulas_within_the_text_are_formulas() {
    let mut seen = 0;
    for document in ["docs/formulas.md", "docs/charging-rules.md", "docs/definitions.md"] {
        // What compares, chooses or counts; prose has no such code.
        let is_formula = |code: &String| {
            [" ? ", " >= ", " && ", " - "].iter().any(|sign| code.contains(sign)) && !code.contains(['…', '`', '$'])
        };
        for code in inline(document).into_iter().filter(is_formula) {
            let text = code.trim_matches('"');
            if let Err(error) = ladekern_definition::Formula::parse(text) {
                panic!("{document}: {text}: {error}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen} formulas");
}

#[test]
fn the_list_of_supplied_definitions_is_that_of_the_folder() {
    let text = std::fs::read_to_string(root().join("docs/definitions.md")).unwrap();
    let (_, list) = text.split_once("| `type` | device | over |\n|---|---|---|\n").unwrap();
    let told: Vec<&str> = list.lines().take_while(|line| line.starts_with('|')).collect();
    let folder = root().join("definitions");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    let rows: Vec<String> = files
        .iter()
        .map(|file| {
            let parsed = parse("", &std::fs::read_to_string(file).unwrap()).unwrap();
            let definition = parsed.definition;
            let over = match definition.transport {
                Transport::Modbus(_) => "Modbus",
                Transport::Http => "HTTP",
                Transport::Mqtt => "MQTT",
            };
            format!("| `{}` | {} {} | {over} |", definition.dev_type, definition.manufacturer, definition.name)
        })
        .collect();
    assert_eq!(told, rows, "\n{}\n", rows.join("\n"));
}
