//! One run of the rules: conditions, actions, links, undercutting, triggers.

use super::*;

const PV: i64 = 2;
const END: i64 = 16;
const NOT: i64 = 1;

fn watts(surplus: f64) -> Bench {
    Bench { powers: Powers { surplus: Some(surplus), ..Powers::default() }, ..Bench::default() }
}

#[test]
fn without_a_rule_that_is_met_charging_pauses() {
    let verdict = Bench::default().run(&set(&[rule(50, 0, json!({"cexpr": "0", "aexpr": 16000}))]));
    assert_eq!((verdict.ma, verdict.because, verdict.surplus_ma), (0, Because::NoRule, None));
    assert_eq!(
        ma(&[rule(51, 0, json!({"aexpr": 16000, "ena": false})), rule(50, 0, json!({"cexpr": 0, "aexpr": 7000}))]),
        0
    );
}

#[test]
fn a_value_is_0_or_between_minimum_and_maximum() {
    for (value, wanted) in [(5_999.9, 0), (6_000.0, 6_000), (7_500.5, 7_500), (16_000.0, 16_000), (1e12, 16_000)] {
        assert_eq!(ma(&[always(json!(value))]), wanted, "{value}");
    }
    assert_eq!(ma(&[always(json!(-1))]), 0);
}

#[test]
fn rules_run_from_top_to_bottom_until_one_ends() {
    assert_eq!(ma(&[always(json!(7000)), always(json!(8000))]), 8_000);
    assert_eq!(ma(&[rule(51, 0, json!({"aexpr": 7000, "flags": END})), always(json!(8000))]), 7_000);
    // One that is not met ends nothing.
    let first = rule(50, 0, json!({"cexpr": "0", "aexpr": 7000, "flags": END}));
    assert_eq!(ma(&[first, always(json!(8000))]), 8_000);
    // The value so far is there for formulas.
    assert_eq!(ma(&[always(json!(7000)), always(json!("_rule_val + 1000"))]), 8_000);
}

#[test]
fn conditions_hold_above_0_and_not_turns_them() {
    let mut bench = Bench { numbers: Numbers::of(&[("m7.soc", 70.0)]), ..Bench::default() };
    let soc = |flags: i64| rule(50, 0, json!({"cexpr": "M7.soc >= 60", "aexpr": 9000, "flags": flags}));
    assert_eq!(bench.ma(&[soc(0)]), 9_000);
    assert_eq!(bench.ma(&[soc(NOT)]), 0);
    bench.numbers = Numbers::of(&[("m7.soc", 50.0)]);
    assert_eq!(bench.ma(&[soc(0)]), 0);
    assert_eq!(bench.ma(&[soc(NOT)]), 9_000);
}

#[test]
fn a_missing_value_meets_no_rule() {
    let rules =
        |flags: i64| set(&[rule(50, 0, json!({"cexpr": "M7.soc >= 60", "aexpr": 9000, "flags": flags, "udur": 60}))]);
    for flags in [0, NOT] {
        let verdict = Bench::default().run(&rules(flags));
        assert_eq!((verdict.ma, verdict.because), (0, Because::Missing), "flags {flags}");
    }
    // Nor does it go on for a while.
    let mut bench = Bench { numbers: Numbers::of(&[("m7.soc", 70.0)]), ..Bench::default() };
    assert_eq!(bench.run(&rules(0)).ma, 9_000);
    bench.numbers = Numbers::default();
    assert_eq!(bench.run(&rules(0)).ma, 0);
    // A value that cannot be computed leaves what was there, and its end does not count.
    let missing = rule(51, 0, json!({"aexpr": "M7.soc * 100", "flags": END}));
    assert_eq!(ma(&[always(json!(8000)), missing.clone()]), 8_000);
    assert_eq!(ma(&[missing, always(json!(8000))]), 8_000);
    // Linked: false decides "and", true decides "or", whatever the other is.
    let unknown = |atype: i64| rule(50, atype, json!({"cexpr": "M7.soc"}));
    assert_eq!(ma(&[unknown(1), always(json!(8000))]), 0);
    assert_eq!(ma(&[unknown(2), always(json!(8000))]), 8_000);
}

#[test]
fn and_and_or_link_to_the_next_rule() {
    let link = |value: i64, atype: i64| rule(50, atype, json!({"cexpr": value}));
    let last = |value: i64| rule(50, 0, json!({"cexpr": value, "aexpr": 8000}));
    for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        assert_eq!(ma(&[link(a, 1), last(b)]) > 0, a == 1 && b == 1, "{a} and {b}");
        assert_eq!(ma(&[link(a, 2), last(b)]) > 0, a == 1 || b == 1, "{a} or {b}");
        // From the left: (a and b) or 1.
        assert_eq!(ma(&[link(a, 1), link(b, 2), last(1)]), 8_000);
    }
    // A link reaches one rule only.
    assert_eq!(ma(&[link(0, 1), last(1), always(json!(7000))]), 7_000);
}

#[test]
fn time_windows_follow_the_clock_on_the_wall() {
    let night = |more: Value| {
        let mut rule = rule(0, 0, json!({"time": 1320, "dur": 480, "aexpr": 16000}));
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        [rule]
    };
    let at = |weekday: u8, hour: u32, more: Value| {
        let mut bench = Bench { local: Some(LocalTime { weekday, second: hour * 3_600 }), ..Bench::default() };
        bench.ma(&night(more))
    };
    assert_eq!(at(0, 21, json!({})), 0);
    assert_eq!(at(0, 22, json!({})), 16_000);
    assert_eq!(at(1, 5, json!({})), 16_000);
    assert_eq!(at(1, 6, json!({})), 0);
    // Only the night from Monday to Tuesday.
    assert_eq!(at(1, 5, json!({"days": 1})), 16_000);
    assert_eq!(at(1, 23, json!({"days": 1})), 0);
    // Not at night, and only on Tuesdays.
    assert_eq!(at(1, 12, json!({"days": 2, "flags": NOT})), 16_000);
    assert_eq!(at(2, 12, json!({"days": 2, "flags": NOT})), 0);
    // Nobody knows what time it is.
    let mut bench = Bench { local: None, ..Bench::default() };
    assert_eq!(bench.run(&set(&night(json!({})))).because, Because::Missing);
    assert_eq!(bench.ma(&night(json!({"flags": NOT}))), 0);
    // Rules of other days are not met; those of every day need no clock.
    assert_eq!(ma(&[rule(51, 0, json!({"aexpr": 8000, "days": 2}))]), 0);
    assert_eq!(ma(&[rule(51, 0, json!({"aexpr": 8000, "days": 1}))]), 8_000);
    assert_eq!(bench.ma(&[rule(51, 0, json!({"aexpr": 8000, "days": 1}))]), 0);
    assert_eq!(bench.ma(&[always(json!(8000))]), 8_000);
}

#[test]
fn surplus_is_handed_on_per_phase_in_use() {
    let rules = [rule(1, 10, json!({"cexpr": 6000, "flags": PV | END}))];
    assert_eq!(watts(6_900.0).ma(&rules), 10_000, "6 900 W on three phases");
    assert_eq!(watts(4_139.0).ma(&rules), 0);
    assert_eq!(watts(4_140.0).ma(&rules), 6_000);
    assert_eq!(watts(50_000.0).ma(&rules), 16_000);
    let mut one = Bench { phases: 1, ..watts(2_300.0) };
    assert_eq!(one.ma(&rules), 10_000, "2 300 W on one phase");
    let verdict = watts(6_900.0).run(&set(&rules));
    assert_eq!((verdict.surplus_ma, verdict.because), (Some(10_000), Because::Surplus));
    // The condition is compared with what there is, also below 0.
    assert_eq!(watts(-500.0).ma(&[rule(1, 0, json!({"cexpr": 0, "aexpr": 9000, "flags": PV}))]), 0);
    // The same as a formula.
    let pcur = [rule(51, 0, json!({"aexpr": "surplus_pcur * 0.5", "flags": PV}))];
    assert_eq!(watts(13_800.0).ma(&pcur), 10_000);
}

#[test]
fn solar_import_and_export_are_handed_on_with_their_factors() {
    let powers = |grid: f64| Powers { solar: Some(8_280.0), grid: Some(grid), surplus: None };
    let run = |atype: i64, grid: f64, factor: Value| {
        let mut bench = Bench { powers: powers(grid), ..Bench::default() };
        bench.ma(&[rule(51, atype, json!({"aexpr": factor}))])
    };
    assert_eq!(run(11, 0.0, json!(1)), 12_000);
    assert_eq!(run(11, 0.0, json!("0.75")), 9_000);
    assert_eq!(run(12, 6_900.0, json!(1)), 10_000);
    assert_eq!(run(12, -6_900.0, json!(1)), 0);
    assert_eq!(run(13, -6_900.0, json!(1.2)), 12_000);
    assert_eq!(run(13, 6_900.0, json!(1)), 0);
    assert_eq!(run(10, 0.0, json!(1)), 0, "nobody knows the surplus");
}

#[test]
fn rules_for_surplus_run_first_and_normal_ones_overwrite_them() {
    let surplus = rule(1, 10, json!({"cexpr": 6000, "flags": PV | END}));
    // Nothing met: takes part with nothing.
    let verdict = watts(0.0).run(&set(std::slice::from_ref(&surplus)));
    assert_eq!((verdict.ma, verdict.surplus_ma), (0, Some(0)));
    // -1: takes no part.
    let none = rule(51, 0, json!({"aexpr": -1, "flags": PV | END}));
    let night = rule(50, 0, json!({"cexpr": "CM.night", "aexpr": 16000}));
    let rules = [surplus.clone(), none, night];
    let mut bench = watts(0.0);
    bench.numbers = Numbers::of(&[("cm.night", 1.0)]);
    let verdict = bench.run(&set(&rules));
    assert_eq!((verdict.ma, verdict.surplus_ma), (16_000, None));
    bench.powers.surplus = Some(6_900.0);
    let verdict = bench.run(&set(&rules));
    assert_eq!((verdict.ma, verdict.surplus_ma), (16_000, Some(10_000)), "the normal rule overwrites");
    bench.numbers = Numbers::of(&[("cm.night", 0.0)]);
    assert_eq!(bench.run(&set(&rules)).ma, 10_000, "the normal rule is not met");
    // At least 8 A, more with the sun; the order in the list does not matter.
    let least = always(json!("max(8000, lb_cur)"));
    for rules in [[surplus.clone(), least.clone()], [least.clone(), surplus.clone()]] {
        assert_eq!(watts(0.0).ma(&rules), 8_000);
        let verdict = watts(8_280.0).run(&set(&rules));
        assert_eq!((verdict.ma, verdict.surplus_ma), (12_000, Some(12_000)));
    }
}

#[test]
fn a_linked_rule_runs_where_the_rule_it_is_linked_to_runs() {
    // As in public rule sets: the first has no flag for surplus, the second has.
    let rules = [
        rule(50, 1, json!({"cexpr": "M7.soc >= 60", "flags": NOT, "udur": 300})),
        rule(1, 10, json!({"cexpr": 1200, "aexpr": 0, "flags": NOT | PV | END})),
        rule(1, 10, json!({"cexpr": 2100, "aexpr": 1, "flags": PV})),
    ];
    let run = |soc: f64, surplus: f64| {
        let mut bench = watts(surplus);
        bench.numbers = Numbers::of(&[("m7.soc", soc)]);
        bench.ma(&rules)
    };
    assert_eq!(run(50.0, 0.0), 0);
    assert_eq!(run(50.0, 6_900.0), 10_000);
    assert_eq!(run(80.0, 6_900.0), 10_000);
}

#[test]
fn undercutting_keeps_the_minimum_for_its_time() {
    let rules = set(&[rule(1, 10, json!({"cexpr": 6000, "flags": PV | END, "udur": 300}))]);
    let mut bench = watts(6_900.0);
    assert_eq!(bench.run(&rules).ma, 10_000);
    bench.powers.surplus = Some(1_000.0);
    for second in [1, 150, 299] {
        bench.second = second;
        let verdict = bench.run(&rules);
        assert_eq!((verdict.ma, verdict.because, verdict.surplus_ma), (6_000, Because::Undercut, Some(6_000)));
    }
    bench.second = 300;
    assert_eq!(bench.run(&rules).ma, 0);
    // The action is still executed: a value that is enough stays what it is.
    let fixed = set(&[rule(50, 0, json!({"cexpr": "CM.on", "aexpr": 12000, "udur": 10}))]);
    let mut bench = Bench { numbers: Numbers::of(&[("cm.on", 1.0)]), ..Bench::default() };
    bench.run(&fixed);
    bench.numbers = Numbers::of(&[("cm.on", 0.0)]);
    bench.second = 9;
    assert_eq!(bench.run(&fixed).ma, 12_000);
    bench.second = 10;
    assert_eq!(bench.run(&fixed).ma, 0);
    // A rule may set and delete the mark itself.
    let marks = |value: i64| [always(json!(1000)), rule(51, 3, json!({"name": "_undercut", "aexpr": value}))];
    assert_eq!(ma(&marks(1)), 6_000);
    assert_eq!(ma(&marks(0)), 0);
}

#[test]
fn variables_and_parameters_are_there_for_later_rules() {
    let rules = [
        rule(51, 22, json!({"id": 12, "name": "current", "aexpr": "3000 * 3"})),
        rule(51, 3, json!({"name": "CM.Wanted", "aexpr": "param(12) + 1000"})),
        rule(51, 3, json!({"name": "E1.x", "aexpr": 1})),
        always(json!("CM.wanted")),
        // A rule for surplus sees the parameter too.
        rule(51, 0, json!({"aexpr": "param(12)", "flags": PV})),
    ];
    let verdict = Bench::default().run(&set(&rules));
    assert_eq!((verdict.ma, verdict.surplus_ma), (10_000, Some(9_000)));
    let told: Vec<(String, f64)> = verdict.variables.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    assert_eq!(told, [("CM.wanted".to_owned(), 10_000.0), ("E1.x".to_owned(), 1.0)]);
    // The last rule with an id that was met, and one that is set by hand.
    let ids = [
        rule(51, 0, json!({"id": 3, "aexpr": 8000})),
        rule(50, 0, json!({"id": 4, "cexpr": 0, "aexpr": 8000})),
        always(json!("_rule_id * 3000")),
    ];
    assert_eq!(ma(&ids), 9_000);
    let value = [rule(51, 3, json!({"name": "_rule_val", "aexpr": 7000}))];
    assert_eq!(ma(&value), 7_000);
}

#[test]
fn go_to_jumps_and_a_circle_is_stopped() {
    let jump = |to: i64| rule(51, 5, json!({"aexpr": to}));
    let at = |id: i64, ma: i64| rule(51, 0, json!({"id": id, "aexpr": ma, "flags": END}));
    assert_eq!(ma(&[jump(2), at(1, 7000), at(2, 8000)]), 8_000);
    assert_eq!(ma(&[jump(9), at(1, 7000)]), 7_000, "no such rule: the next one");
    let verdict = Bench::default().run(&set(&[always(json!(8000)), rule(51, 5, json!({"id": 5, "aexpr": 5}))]));
    assert_eq!((verdict.ma, verdict.endless), (0, true));
    assert!(!Bench::default().run(&set(&[jump(2), at(2, 8000)])).endless);
}

#[test]
fn triggers_are_pulses_and_retriggers_last_as_long_as_their_condition() {
    let pulse = |atype: i64| set(&[rule(50, atype, json!({"cexpr": "CM.on", "name": "CM.t", "aexpr": 30}))]);
    let history = |atype: i64| {
        let rules = pulse(atype);
        let mut bench = Bench::default();
        // On for 100 s, off for 100 s, on again.
        let mut told = Vec::new();
        for second in 0..300 {
            let on = if second % 200 < 100 { 1.0 } else { 0.0 };
            bench.numbers = Numbers::of(&[("cm.on", on)]);
            bench.second = second;
            for (name, value) in bench.run(&rules).variables {
                assert_eq!(&*name.member, "t");
                if told.last().is_none_or(|(_, last)| *last != value) {
                    told.push((second, value));
                }
            }
        }
        told
    };
    assert_eq!(history(7), [(0, 1.0), (30, 0.0), (200, 1.0), (230, 0.0)]);
    assert_eq!(history(8), [(0, 1.0), (129, 0.0), (200, 1.0)]);
}
