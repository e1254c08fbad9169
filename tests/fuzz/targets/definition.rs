//! Definition files: any text is a definition or a list of mistakes, each with a place in the text; what is a definition
//! fits on the wire.
#![no_main]

use ladekern_definition::parse::check;
use ladekern_definition::{Address, Shape, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let checked = check("f", text);
    assert_eq!(checked.definition.is_none(), !checked.errors.is_empty());
    let lines = text.split(['\n', '\r']).count();
    for finding in checked.errors.iter().chain(&checked.warnings) {
        assert!((1..=lines).contains(&finding.line) && finding.column >= 1, "{finding}");
        assert!(!finding.message.is_empty() && !finding.message.contains('\n'), "{finding}");
    }
    let Some(definition) = checked.definition else { return };
    assert!(!definition.dev_type.is_empty());
    let inputs: u32 = definition.inputs.iter().map(|input| u32::from(input.count)).sum();
    assert!(inputs <= 32 && definition.outputs.len() <= 32 && definition.resets.len() <= 32);
    for variable in &definition.variables {
        let shape = match &variable.source {
            Source::Modbus(field) => {
                assert!(field.count >= 1 && field.count <= 125);
                assert!(u32::from(field.address) + u32::from(field.count) <= 65_536);
                field.shape
            }
            Source::Document(field) => {
                match &field.address {
                    Address::Http { path, .. } => assert!(path.starts_with('/') && path.is_ascii()),
                    Address::Mqtt { topic } => assert!(!topic.is_empty() && !topic.contains(['+', '#'])),
                }
                field.shape
            }
            Source::Fixed(_) | Source::Expr(_) => continue,
        };
        if let Shape::Number { factor, .. } = shape {
            assert!(factor.is_finite() && factor != 0.0);
        }
    }
});
