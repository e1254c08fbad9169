//! The definition files that come with Ladekern are well-formed, and each is named after its type.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed assertion")]

use std::path::Path;

#[test]
fn every_supplied_definition_is_read_without_a_complaint() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../definitions");
    let mut read = 0;
    let mut complaints = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match ladekern_definition::parse(&name, &std::fs::read_to_string(&path).unwrap()) {
            Ok(parsed) => {
                complaints.extend(parsed.warnings.iter().map(ToString::to_string));
                let expected = format!("{}.json", parsed.definition.dev_type.replace('_', "-"));
                if name != expected {
                    complaints.push(format!("{name}: its dev_type belongs into {expected}"));
                }
            }
            Err(errors) => complaints.extend(errors.iter().map(ToString::to_string)),
        }
        read += 1;
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(read >= 20, "only {read} definitions are supplied");
}
