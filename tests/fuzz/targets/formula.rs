//! Formulas, and the templates of outputs that hold them: any text is one or a mistake inside it, evaluation ends and
//! gives a finite number or none, and parentheses around a formula change nothing.
#![no_main]

use ladekern_definition::formula::{Formula, Name, Price, Scope};
use ladekern_definition::template::{Own, Template};
use libfuzzer_sys::fuzz_target;

/// Knows about every other name.
struct Half;

impl Scope for Half {
    fn get(&self, name: &Name) -> Option<f64> {
        (name.member.len() % 2 == 0).then(|| name.member.bytes().map(f64::from).sum::<f64>() - 500.0)
    }

    fn param(&self, id: i64) -> Option<f64> {
        (id > 0).then_some(id as f64)
    }

    fn price(&self, what: Price, seconds: f64) -> Option<f64> {
        (what == Price::Min).then_some(seconds)
    }
}

fuzz_target!(|text: &str| {
    match Formula::parse(text) {
        Ok(formula) => {
            let value = formula.value(&Half);
            assert!(value.is_none_or(f64::is_finite), "{value:?}");
            assert_eq!(formula.holds(&Half), value.map(|value| value > 0.0));
            // One level more may be one too many.
            if let Ok(wrapped) = Formula::parse(&format!("({text})")) {
                assert_eq!(wrapped.value(&Half), value);
                assert_eq!(wrapped.names(), formula.names());
            }
        }
        Err(error) => assert!(text.is_char_boundary(error.offset), "{} at {}", error.message, error.offset),
    }
    match Template::parse(text) {
        Ok(template) => drop(template.render(&Half, Own { address: "a", id: "1" })),
        Err(error) => assert!(text.is_char_boundary(error.offset), "{} at {}", error.message, error.offset),
    }
});
