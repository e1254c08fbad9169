//! House rules that a program can check: headers, sizes, and what must not stand in the source.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed unwrap is a failed assertion"
)]

use std::path::{Path, PathBuf};

/// Source files of the project, without what is built or generated (the SDK's bindings).
fn sources() -> Vec<(PathBuf, String)> {
    let root = ladekern_tests::root();
    let mut files = Vec::new();
    for folder in ["host", "plugins", "tests", "xtask", "examples"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(files.len() > 20, "the walk found only {} files below {}", files.len(), root.display());
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            (file.strip_prefix(&root).unwrap().to_owned(), text)
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("sdk/src/bindings") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(file, _)| file.display().to_string())
        .collect();
    report("each file begins with //! and a sentence", &broken);
}

#[test]
fn no_file_is_too_large_to_hold_in_the_head() {
    let broken: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > 600)
        .map(|(file, text)| format!("{} has {} lines", file.display(), text.lines().count()))
        .collect();
    report("no file is longer than 600 lines", &broken);
}

#[test]
fn nothing_unfinished_is_left_in_the_source() {
    let words = ["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore", "dbg!("];
    let broken: Vec<String> = sources()
        .iter()
        .filter(|(file, _)| !file.ends_with("tidy.rs"))
        .flat_map(|(file, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(n, line)| format!("{}:{}: {}", file.display(), n + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    report("finish it, or say in the documentation that it is not there", &broken);
}

#[test]
fn the_load_manager_does_no_io_and_reads_no_clock() {
    let words = ["tokio", "std::net", "std::fs", "std::io", "Instant", "SystemTime", "tracing", "anyhow", "async "];
    let broken: Vec<String> = sources()
        .iter()
        .filter(|(file, _)| file.starts_with("host/src/load"))
        .flat_map(|(file, text)| {
            text.lines()
                .enumerate()
                .filter(|(_, line)| !line.trim_start().starts_with("//"))
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(n, line)| format!("{}:{}: {}", file.display(), n + 1, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    report("host/src/load is pure", &broken);
}

/// `b6_a_duplicate_runs_once`: the letter of the part, the row, words.
fn is_row_test(name: &str) -> bool {
    let Some((row, words)) = name.split_once('_') else { return false };
    let (part, number) = row.split_at(row.len().min(1));
    matches!(part, "a" | "b" | "h") && number.parse::<u8>().is_ok() && !words.is_empty()
}

#[test]
fn every_row_of_the_contract_names_a_test_and_every_named_test_exists() {
    let root = ladekern_tests::root();
    let text = std::fs::read_to_string(root.join("docs/contract.md")).unwrap();
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|name| is_row_test(name)).collect();
    let code: String = sources().into_iter().map(|(_, text)| text).collect();
    let missing: Vec<String> =
        named.iter().filter(|name| !code.contains(&format!("fn {name}("))).map(|name| (*name).to_owned()).collect();
    report("docs/contract.md names tests that do not exist", &missing);

    let rows = (1..=7).map(|n| format!("a{n}")).chain((1..=24).map(|n| format!("b{n}")));
    let rows = rows.chain((1..=20).map(|n| format!("h{n}")));
    // A test may show several rows at once: `b3_b4_…`.
    let shows = |name: &str, row: &str| name.split('_').any(|part| part == row);
    let unproven: Vec<String> = rows.filter(|row| !named.iter().any(|name| shows(name, row))).collect();
    report("rows of the contract without a test in docs/contract.md", &unproven);
}
