//! Whatever somebody writes as rules and whatever the site shows: no panic, and never a current that cannot be told.

use proptest::prelude::*;

use super::*;

fn formula() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-20_000.0..20_000.0_f64).prop_map(|value| json!(value)),
        Just(json!(6000)),
        Just(json!(-1)),
        Just(json!("surplus_pcur")),
        Just(json!("_rule_val + 3000")),
        Just(json!("M1.x")),
        Just(json!("1 / 0")),
        Just(json!("max(8000, lb_cur)")),
        Just(json!("param(1)")),
        "[0-9a-z+*/.() ]{0,12}".prop_map(|text| json!(text)),
    ]
}

fn a_rule() -> impl Strategy<Value = Value> {
    let code = prop_oneof![Just(0_i64), Just(1), Just(50), Just(51), -5..60_i64];
    let action = prop_oneof![Just(0_i64), Just(1), Just(2), Just(3), Just(5), Just(7), Just(8), Just(10), 0..25_i64];
    let name = prop_oneof![Just("CM.x"), Just("_undercut"), Just("_rule_val"), Just("_rule_id"), Just("bad name")];
    (code, action, formula(), formula(), 0..32_i64, 0..4_i64, (0..2_000_i64, 0..2_000_i64), 0..200_i64, name).prop_map(
        |(ctype, atype, cexpr, aexpr, flags, id, (time, dur), days, name)| {
            json!({
                "ctype": ctype, "atype": atype, "cexpr": cexpr, "aexpr": aexpr, "flags": flags, "id": id,
                "time": time, "dur": dur, "days": days, "name": name, "udur": time,
            })
        },
    )
}

/// Any JSON, rules or not.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,8}".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 32, 6, |inner| {
        let key = prop_oneof![Just("ctype"), Just("atype"), Just("cexpr"), Just("aexpr"), Just("flags"), Just("x")];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::vec((key, inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn watts() -> impl Strategy<Value = Option<f64>> {
    proptest::option::of(prop_oneof![-30_000.0..30_000.0_f64, Just(f64::MAX), Just(f64::NAN), Just(0.0)])
}

proptest! {
    #[test]
    fn a_current_is_0_or_between_minimum_and_maximum(
        rules in proptest::collection::vec(a_rule(), 0..8),
        surplus in watts(), solar in watts(), grid in watts(),
        min in 6_000..16_000_u32, range in 0..16_000_u32, phases in 0..5_u8,
        weekday in 0..7_u8, second in 0..86_400_u32, clock in any::<bool>(),
        moments in proptest::collection::vec(0..4_000_000_u64, 1..4),
    ) {
        let rules = RuleSet::read(&Value::Array(rules));
        let numbers = Numbers::default();
        let mut memory = RuleMemory::default();
        let max = min + range;
        for now in moments {
            let context = RuleContext {
                scope: &numbers,
                local: clock.then_some(LocalTime { weekday, second }),
                now: Moment(now),
                min_ma: min,
                max_ma: max,
                phases,
                powers: Powers { surplus, solar, grid },
            };
            let verdict = evaluate(&rules, &context, &mut memory);
            prop_assert!(verdict.ma == 0 || (min..=max).contains(&verdict.ma), "{verdict:?}");
            prop_assert!(verdict.surplus_ma.is_none_or(|surplus| surplus <= verdict.ma), "{verdict:?}");
            prop_assert!(verdict.variables.iter().all(|(_, value)| value.is_finite()), "{verdict:?}");
        }
    }

    #[test]
    fn no_json_is_too_strange(json in any_json()) {
        let rules = RuleSet::read(&json);
        let _ = RuleSet::parse(&json);
        let verdict = Bench::default().run(&rules);
        prop_assert!(verdict.ma == 0 || (6_000..=16_000).contains(&verdict.ma));
    }
}
