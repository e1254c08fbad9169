//! Cases of `fixtures/`, and what has no place in a recorded answer.

use ladekern_plugin_sdk::{Error, Json, fixtures};

use crate::Sdm;
use crate::decode::Meter;

fn meter(config: &str) -> Meter {
    Meter::new(&Json::parse(config).unwrap()).unwrap()
}

#[test]
fn recorded_registers() {
    fixtures::check_decoder::<Sdm>(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).unwrap();
}

#[test]
fn no_plan_asks_for_more_than_a_meter_answers_or_for_the_sum_of_both_directions() {
    for model in ["auto", "three-phase", "one-phase", "sdm72-v1"] {
        for block in meter(&format!(r#"{{"model":"{model}"}}"#)).plan() {
            assert!(block.count <= 80 && block.address % 2 == 0, "{model} {block:?}");
            assert!(block.address + block.count <= 0x0156, "{model} {block:?}");
        }
    }
}

#[test]
fn an_unknown_model_is_a_mistake_in_the_configuration() {
    let config = Json::parse(r#"{"model":"SDM630"}"#).unwrap();
    assert!(matches!(Meter::new(&config), Err(Error::Config(_))));
}

#[test]
fn garbage_never_panics_and_never_is_a_value() {
    for model in ["auto", "three-phase", "one-phase", "sdm72-v1"] {
        let meter = meter(&format!(r#"{{"model":"{model}"}}"#));
        let plan = meter.plan();
        let filled = |word: u16, less: usize| {
            let block = |count: u16| Some(vec![word; usize::from(count).saturating_sub(less)]);
            plan.iter().map(|b| block(b.count)).collect::<Vec<_>>()
        };
        for blocks in
            [vec![], vec![None; plan.len()], filled(0xFFFF, 0), filled(0x7FC0, 0), filled(0x7F80, 0), filled(1, 99)]
        {
            assert!(matches!(meter.decode(&blocks), Err(Error::Protocol(_))), "{model} {blocks:?}");
        }
        // Half a register pair at the end.
        for reading in meter.decode(&filled(0x4140, 1)).map(|o| o.readings).unwrap_or_default() {
            assert!(reading.value.is_none_or(f64::is_finite));
        }
    }
}

#[test]
fn one_value_that_is_no_number_leaves_the_others() {
    let meter = meter(r#"{"model":"three-phase"}"#);
    let mut words = vec![0; 76];
    (words[0], words[1]) = (0x7FC0, 0);
    (words[2], words[3]) = (0x4366, 0);
    let outcome = meter.decode(&[Some(words)]).unwrap();
    assert_eq!(outcome.value("voltage.l1"), Some(None));
    assert_eq!(outcome.value("voltage.l2"), Some(Some(230.0)));
}
