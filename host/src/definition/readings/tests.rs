//! What variables and formulas of a definition hold, and how old it is.

use super::*;

fn definition(variables: &str) -> Arc<Definition> {
    let text = format!("{{rtype: 2, dev_type: 'acme', name: 'Meter, small', manufacturer: 'ACME', {variables}}}");
    let parsed = ladekern_definition::parse("a.json", &text);
    Arc::new(parsed.unwrap_or_else(|findings| panic!("{findings:?}")).definition)
}

fn readings(variables: &str) -> Readings {
    Readings::new(definition(variables)).unwrap()
}

/// `set` by name.
fn set(readings: &mut Readings, name: &str, value: impl Into<Said>, at: u64) {
    let variable = readings.definition().variables.iter().position(|variable| variable.name == name).unwrap();
    readings.set(variable, value.into().0, Moment(at));
}

struct Said(Value);

impl From<f64> for Said {
    fn from(number: f64) -> Self {
        Self(Value::Number(number))
    }
}

impl From<&str> for Said {
    fn from(text: &str) -> Self {
        Self(Value::Text(text.to_owned()))
    }
}

/// Name, value and age (only where it is another one).
fn shown(outcome: &Outcome) -> Vec<String> {
    let now = outcome.readings.iter().map(|(name, value)| format!("{name}={}", value.unwrap()));
    let aged = outcome.aged.iter().map(|(name, value, at)| format!("{name}={}@{}", value.unwrap(), at.0));
    now.chain(aged).chain(outcome.texts.iter().map(|(name, text)| format!("{name}={text}"))).collect()
}

const POWER: &str = "power_w: {address: 't', type: 'float', query: 'p'}";

#[test]
fn each_value_goes_where_its_name_says() {
    let mut readings = readings(&format!(
        "{POWER}, '*Temp': {{address: 't', type: 'float'}}, 'CM._set_price': {{address: 't', type: 'float'}}, \
         mode: {{address: 't', type: 'string'}}"
    ));
    set(&mut readings, "power_w", 5.0, 9);
    set(&mut readings, "*Temp", 21.5, 9);
    set(&mut readings, "CM._set_price", 0.3, 9);
    set(&mut readings, "mode", "eco", 9);
    let outcome = readings.outcome(Moment(9));
    assert_eq!(shown(&outcome), ["power.total=5", "var.temp=21.5", "cm._set_price=0.3", "var.mode=eco"]);
    assert_eq!(outcome.info.unwrap().shown[..], ["Temp".to_owned()]);
    assert_eq!(readings.value("temp"), Some(21.5));
    let nothing = readings.outcome(Moment(10));
    assert_eq!((shown(&nothing), nothing.info), (vec![], None), "told once");
}

#[test]
fn identity_makes_the_model_and_what_is_read_once_stays() {
    let mut readings = readings(&format!(
        "{POWER}, type_designation: {{fixed: 'M,1'}}, serial: {{address: 't', type: 'string'}}, \
         nominal: {{address: 't', type: 'float', once: true}}"
    ));
    assert_eq!(readings.info().model.as_deref(), Some("ACME,M 1,"));
    set(&mut readings, "serial", "S1", 1);
    set(&mut readings, "nominal", 10.0, 1);
    let info = readings.outcome(Moment(1)).info.unwrap();
    assert_eq!((info.serial.as_deref(), info.firmware), (Some("S1"), None));
    set(&mut readings, "serial", "S2", 2);
    set(&mut readings, "nominal", 11.0, 2);
    assert_eq!(readings.info().serial.as_deref(), Some("S1"));
    let outcome = readings.outcome(Moment(2));
    assert_eq!(shown(&outcome), ["var.nominal=10"], "it does not age");
    assert_eq!(Readings::new(definition(POWER)).unwrap().info().model.as_deref(), Some("ACME,Meter  small,"));
}

#[test]
fn a_fixed_value_does_not_age() {
    let mut readings = readings(&format!("{POWER}, voltage_l1: {{fixed: '230'}}"));
    for now in [5, 500] {
        assert_eq!(shown(&readings.outcome(Moment(now))), ["voltage.l1=230"]);
    }
}

#[test]
fn what_a_broker_had_stored_does_not_replace_what_came_later() {
    let mut readings = readings(POWER);
    set(&mut readings, "power_w", 1.0, 0);
    assert_eq!(shown(&readings.outcome(Moment(0))), ["power.total=1"]);
    set(&mut readings, "power_w", 2.0, 7);
    set(&mut readings, "power_w", 1.0, 0);
    assert_eq!(readings.value("power_w"), Some(2.0));
}

#[test]
fn formulas_follow_what_they_need_and_are_as_old_as_it() {
    let mut readings = readings(
        "power_w: {expr: 'twice + 1'}, twice: {expr: 'u * 2'}, u: {address: 't', type: 'float'}, \
         i: {address: 's', type: 'float'}, both: {expr: 'u + i'}, alone: {expr: '40 + 2'}",
    );
    assert_eq!(shown(&readings.outcome(Moment(1))), ["var.alone=42"]);
    set(&mut readings, "u", 10.0, 1_000);
    let first = shown(&readings.outcome(Moment(1_000)));
    assert_eq!(first, ["var.u=10", "var.twice=20", "var.alone=42", "power.total=21"]);
    // The other topic goes on, this one is silent: what hangs on it does not become new again.
    set(&mut readings, "i", 1.0, 5_000);
    let later = shown(&readings.outcome(Moment(5_000)));
    assert_eq!(later, ["var.i=1", "var.alone=42", "var.twice=20@1000", "var.both=11@1000", "power.total=21@1000"]);
}

#[test]
fn inputs_are_bits_counted_through_all_entries() {
    let mut readings =
        readings(&format!("{POWER}, inputs: [{{address: 't', count: 2, query: 'x'}}, {{address: 's', query: 'y'}}]"));
    readings.set_input(0, &Value::Number(2.0), Moment(3)).unwrap();
    readings.set_input(1, &Value::Number(1.0), Moment(3)).unwrap();
    assert_eq!(shown(&readings.outcome(Moment(3))), ["input.1=0", "input.2=1", "input.3=1"]);
    for bad in [Value::Number(1.5), Value::Number(1e300), Value::Text("on".into())] {
        assert!(readings.set_input(0, &bad, Moment(3)).unwrap_err().contains("expected a whole number"));
    }
}

#[test]
fn formulas_of_the_device_see_its_inputs_as_old_as_they_are() {
    let mut readings = readings(
        "u: {address: 't', query: 'u'}, sum: {expr: 'INPUT1 + 2 * input2 + 4 * input3'}, no: {expr: 'input4'}, \
         both: {expr: 'u + input3'}, inputs: [{address: 't', count: 2, query: 'x'}, {address: 's', query: 'y'}]",
    );
    readings.set_input(0, &Value::Number(2.0), Moment(3)).unwrap();
    assert_eq!(shown(&readings.outcome(Moment(3))), ["input.1=0", "input.2=1"]);
    readings.set_input(1, &Value::Number(1.0), Moment(5)).unwrap();
    set(&mut readings, "u", 10.0, 8);
    assert_eq!(shown(&readings.outcome(Moment(8))), ["var.u=10", "input.3=1", "var.sum=6@3", "var.both=11@5"]);
}

#[test]
fn a_battery_that_charges_is_positive_in_its_file_and_negative_on_the_board() {
    let mut readings = readings(&format!("{POWER}, twice: {{expr: 'power_w * 2'}}")).turned(true);
    set(&mut readings, "power_w", 500.0, 1);
    assert_eq!(shown(&readings.outcome(Moment(1))), ["power.total=-500", "var.twice=1000"]);
}

#[test]
fn a_formula_that_has_no_value_any_more_is_unknown() {
    let definition = definition(
        "a: {address: 't', query: 'a'}, b: {address: 't', query: 'b'}, power_w: {expr: 'a / b'}, spare: {expr: 'z'}",
    );
    let mut readings = Readings::new(definition).unwrap();
    let mut with = |b: f64, at: u64| {
        readings.set(0, Value::Number(6.0), Moment(at));
        readings.set(1, Value::Number(b), Moment(at));
        let told = readings.outcome(Moment(at)).readings;
        told.into_iter().find(|(name, _)| name.as_str() == "power.total").map(|(_, value)| value)
    };
    assert_eq!(with(0.0, 1), None, "it never had one");
    assert_eq!(with(2.0, 2), Some(Some(3.0)));
    assert_eq!(with(0.0, 3), Some(None));
    assert_eq!(with(0.0, 4), None, "that is known already");
    assert_eq!(with(3.0, 5), Some(Some(2.0)));
}
