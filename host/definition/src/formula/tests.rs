//! The language as its description says it, by examples. `tests/properties.rs` computes random formulas a second way.

mod properties;

use super::*;

/// A site at noon: `missing` is one of the names it does not know.
pub(super) struct Noon;

impl Scope for Noon {
    fn get(&self, name: &Name) -> Option<f64> {
        Some(match name.to_string().as_str() {
            "power_w" => 2_300.0,
            "current" => 10_000.0,
            "soc" => 55.0,
            "half" => 0.5,
            "bat_mode" => 3.0,
            "M1.power_w" => -1_500.0,
            "M5.output1" => 1.0,
            "E1.power_w" => 4_100.0,
            "E1.state" => 2.0,
            "V1.soc" => 40.0,
            "GM.surplus.power_w" => 2_600.0,
            "CM._org_surplus" => 2_600.0,
            "CM._price_level" => -5.0,
            "CM.var1" => 7.0,
            "PB.input1" => 0.0,
            "date.weekday" => 6.0,
            "date.hour" => 12.0,
            "nan" => f64::NAN,
            "infinite" => f64::INFINITY,
            "huge" => f64::MAX,
            _ => return None,
        })
    }

    fn param(&self, id: i64) -> Option<f64> {
        (id == 3).then_some(80.0)
    }

    fn price(&self, what: Price, seconds: f64) -> Option<f64> {
        let value = match what {
            Price::Min => 18.5,
            Price::Max => 41.0,
            Price::MinSecs => 7_200.0,
            Price::MaxSecs => 600.0,
        };
        (seconds == 86_400.0).then_some(value)
    }
}

fn value(text: &str) -> Option<f64> {
    Formula::parse(text).unwrap_or_else(|error| panic!("{text}: {error} at {}", error.offset)).value(&Noon)
}

fn check(table: &[(&str, Option<f64>)]) {
    for (text, expected) in table {
        assert_eq!(value(text), *expected, "{text}");
    }
}

/// Short, for the tables.
fn is(value: f64) -> Option<f64> {
    Some(value)
}

#[test]
fn numbers() {
    check(&[
        ("0", is(0.0)),
        ("230", is(230.0)),
        ("  0.5\t\n", is(0.5)),
        (".5", is(0.5)),
        ("5.", is(5.0)),
        ("1e3", is(1_000.0)),
        ("1E+3", is(1_000.0)),
        ("25e-1", is(2.5)),
        ("1e3-1", is(999.0)),
        ("2e0", is(2.0)),
        ("0xff", is(255.0)),
        ("0XFF-0x1e", is(225.0)),
        ("0xFFFFFFFFFFFFFFFF", is(18_446_744_073_709_551_615.0)),
        ("007", is(7.0)),
    ]);
}

#[test]
fn each_operator() {
    check(&[
        ("7 + 2", is(9.0)),
        ("7 - 2", is(5.0)),
        ("7 * 2", is(14.0)),
        ("7 / 2", is(3.5)),
        ("7 % 2", is(1.0)),
        ("-7 % 2", is(-1.0)),
        ("7.5 % -2", is(1.5)),
        ("7 ^ 2", is(49.0)),
        ("4 ^ 0.5", is(2.0)),
        ("2 ^ -1", is(0.5)),
        ("0 ^ 0", is(1.0)),
        ("6 & 3", is(2.0)),
        ("6.9 & -1", is(6.0)),
        ("6 | 3", is(7.0)),
        ("-1.9 | 0", is(-1.0)),
        ("2 == 2", is(1.0)),
        ("2 == 3", is(0.0)),
        ("2 != 3", is(1.0)),
        ("2 < 3", is(1.0)),
        ("3 < 3", is(0.0)),
        ("3 <= 3", is(1.0)),
        ("3 > 3", is(0.0)),
        ("4 > 3", is(1.0)),
        ("3 >= 3", is(1.0)),
        ("!0", is(1.0)),
        ("!0.1", is(0.0)),
        ("!-1", is(1.0)),
        ("!!5", is(1.0)),
        ("1 && 0.1", is(1.0)),
        ("1 && -1", is(0.0)),
        ("0 || 2", is(1.0)),
        ("0 || -2", is(0.0)),
        ("1 ? 2 : 3", is(2.0)),
        ("-1 ? 2 : 3", is(3.0)),
        ("+5", is(5.0)),
        ("- - 5", is(5.0)),
        ("-0", is(0.0)),
        ("(7)", is(7.0)),
    ]);
}

/// Each pair of neighbours in the table of precedence, in both orders, and the operators of one line from the left.
#[test]
fn precedence_is_that_of_c_with_the_power_on_top() {
    check(&[
        ("2 ^ 3 ^ 2", is(512.0)),
        ("-2 ^ 2", is(-4.0)),
        ("(-2) ^ 2", is(4.0)),
        ("!2 ^ 0", is(0.0)),
        ("2 ^ -1 ^ 2", is(0.5)),
        ("2 * 3 ^ 2", is(18.0)),
        ("2 ^ 3 * 2", is(16.0)),
        ("-2 * -3", is(6.0)),
        ("!0 * 5", is(5.0)),
        ("5 * !0", is(5.0)),
        ("24 / 4 / 2", is(3.0)),
        ("24 / 4 * 2", is(12.0)),
        ("7 * 3 % 2", is(1.0)),
        ("7 % 3 * 2", is(2.0)),
        ("1 + 2 * 3", is(7.0)),
        ("2 * 3 + 1", is(7.0)),
        ("9 % 4 + 1", is(2.0)),
        ("8 - 4 / 2", is(6.0)),
        ("10 - 4 - 3", is(3.0)),
        ("10 - 4 + 3", is(9.0)),
        ("1 + 1 < 3", is(1.0)),
        ("3 < 1 + 3", is(1.0)),
        ("5 - 1 >= 4", is(1.0)),
        ("3 > 2 > 1", is(0.0)),
        ("1 <= 3 < 2", is(1.0)),
        ("2 == 3 < 5", is(0.0)),
        ("1 < 2 == 1", is(1.0)),
        ("4 > 3 != 0", is(1.0)),
        ("3 == 3 == 1", is(1.0)),
        ("3 != 3 == 0", is(1.0)),
        ("6 & 2 == 2", is(0.0)),
        ("2 == 2 & 3", is(1.0)),
        ("6 | 1 & 0", is(6.0)),
        ("0 & 1 | 6", is(6.0)),
        ("2 | 1 && 0", is(0.0)),
        ("1 && 2 | 1", is(1.0)),
        ("1 || 0 && 0", is(1.0)),
        ("0 && 0 || 1", is(1.0)),
        ("0 || 0 ? 1 : 2", is(2.0)),
        ("0 ? 1 : 0 || 5", is(1.0)),
        ("1 ? 0 ? 2 : 3 : 4", is(3.0)),
        ("0 ? 1 : 0 ? 2 : 3", is(3.0)),
        ("1 ? 1 : 0 ? 2 : 3", is(1.0)),
        ("-1 ? 2 : 3 + 4", is(7.0)),
        ("(1 + 2) * 3", is(9.0)),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("min(3)", is(3.0)),
        ("min(3, 1, 2)", is(1.0)),
        ("MAX(3, 1 + 4, 2)", is(5.0)),
        ("max(-3, -1)", is(-1.0)),
        ("abs(-3.5)", is(3.5)),
        ("clamp(5, 6, 16)", is(6.0)),
        ("clamp(32, 6, 16)", is(16.0)),
        ("clamp(10, 6, 16)", is(10.0)),
        ("clamp(10, 16, 6)", is(6.0)),
        ("round(2.5)", is(3.0)),
        ("round(-2.5)", is(-3.0)),
        ("round(2.4)", is(2.0)),
        ("sqrt(2 + 7)", is(3.0)),
        ("exists(power_w)", is(1.0)),
        ("exists(missing)", is(0.0)),
        ("exists(power_w / 0)", is(0.0)),
        ("param(3)", is(80.0)),
        ("param(3.9)", is(80.0)),
        ("param(4)", None),
        ("min_price(24*3600)", is(18.5)),
        ("max_price(86400)", is(41.0)),
        ("min_price_secs(86400)", is(7_200.0)),
        ("max_price_secs(86400)", is(600.0)),
        ("min_price(1)", None),
        ("abs (-1)", is(1.0)),
    ]);
}

#[test]
fn names_of_every_object() {
    check(&[
        ("POWER_W", is(2_300.0)),
        ("m1.Power_W", is(-1_500.0)),
        ("e1.power_w", is(4_100.0)),
        ("v1.SOC", is(40.0)),
        ("gm.surplus.power_w", is(2_600.0)),
        ("CM._org_surplus - 500", is(2_100.0)),
        ("cm.var1", is(7.0)),
        ("pb.input1", is(0.0)),
        ("DATE.hour", is(12.0)),
        ("M5.output1", is(1.0)),
        ("-M5.output1", is(-1.0)),
        // Only what has a point is an object's, only what has a parenthesis is a function.
        ("exists(m1)", is(0.0)),
        ("exists(min) + exists(abs)", is(0.0)),
    ]);
    let formula =
        Formula::parse("e12.ÜBER + a1_2 + E12.über + m65535.x - CM.x ? date.hour : pb.input2 + V3.soc").unwrap();
    let names: Vec<String> = formula.names().iter().map(Name::to_string).collect();
    assert_eq!(names, ["E12.über", "a1_2", "M65535.x", "CM.x", "date.hour", "PB.input2", "V3.soc"]);
    assert_eq!(formula.names()[0], Name { object: Object::Evse(12), member: "über".into() });
    assert_eq!(formula.names()[1].object, Object::Own);
}

#[test]
fn what_is_missing_stays_missing() {
    for operator in ["+", "-", "*", "/", "%", "^", "&", "|", "==", "!=", "<", "<=", ">", ">="] {
        for text in [format!("missing {operator} 0"), format!("1 {operator} missing")] {
            assert_eq!(value(&text), None, "{text}");
        }
    }
    check(&[
        ("missing", None),
        ("-missing", None),
        ("!missing", None),
        ("missing ^ 0", None),
        ("1 ^ missing", None),
        ("min(1, missing)", None),
        ("max(missing, 1)", None),
        ("clamp(missing, 1, 2)", None),
        ("clamp(1, missing, 2)", None),
        ("clamp(1, 0, missing)", None),
        ("abs(missing)", None),
        ("param(missing)", None),
        ("min_price(missing)", None),
        ("nan", None),
        ("infinite", None),
        // Decided by the side that is known.
        ("missing && 0", is(0.0)),
        ("0 && missing", is(0.0)),
        ("missing && 1", None),
        ("1 && missing", None),
        ("missing || 1", is(1.0)),
        ("1 || missing", is(1.0)),
        ("missing || 0", None),
        ("0 || missing", None),
        // What is not chosen does not matter.
        ("1 ? 5 : missing", is(5.0)),
        ("0 ? missing : 6", is(6.0)),
        ("0 ? 5 : missing", None),
        ("missing ? 5 : 5", None),
        ("exists(soc) ? soc : 0", is(55.0)),
        ("exists(missing) ? missing : 0", is(0.0)),
    ]);
}

#[test]
fn what_has_no_value_is_missing() {
    check(&[
        ("1 / 0", None),
        ("0 / 0", None),
        ("1 % 0", None),
        ("sqrt(-1)", None),
        ("sqrt(-0)", is(0.0)),
        ("(-8) ^ 0.5", None),
        ("0 ^ -1", None),
        ("huge * 10", None),
        ("huge + huge - huge", None),
        ("10 ^ 400", None),
        ("huge & 1", None),
        ("9223372036854775808 | 0", None),
        ("-9223372036854775808 | 0", is(-9_223_372_036_854_775_808.0)),
        ("param(1e30)", None),
    ]);
}

#[test]
fn a_condition_holds_above_zero() {
    let holds = |text: &str| Formula::parse(text).unwrap().holds(&Noon);
    assert_eq!(holds("soc >= 55 && date.hour < 13"), Some(true));
    assert_eq!(holds("0.001"), Some(true));
    assert_eq!(holds("0"), Some(false));
    assert_eq!(holds("-1"), Some(false));
    assert_eq!(holds("missing > 1"), None);
}

/// As users write them: the examples of the description, rule-set files and outputs.
#[test]
fn formulas_of_the_field() {
    check(&[
        ("CM._org_surplus + (exists(M2.power_w) ? M2.power_w : 0)", is(2_600.0)),
        ("M1.power_w < 0 ? -M1.power_w : 0", is(1_500.0)),
        ("date.weekday == 0 || date.weekday == 6", is(1.0)),
        ("CM._price_level <= -5 && V1.soc < param(3)", is(1.0)),
        ("clamp(round((E1.power_w - M1.power_w) / 230 * 1000), 6000, 16000)", is(16_000.0)),
        ("(bat_mode & 2) / 2", is(1.0)),
        ("exists(charge_power_w) ? charge_power_w : -1", is(-1.0)),
        ("E1.state==2&&!PB.input1", is(1.0)),
    ]);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let table: &[(&str, usize, &str)] = &[
        ("", 0, "is empty; expected a formula, like power_w * 2"),
        ("   ", 3, "is empty; expected a formula, like power_w * 2"),
        ("1 +", 3, "ends where a number or a name is expected"),
        ("()", 1, "expected a number, a name or a parenthesis before )"),
        ("(1", 2, "the parenthesis of byte 0 is open; expected ) before the end"),
        ("(1 2)", 3, "the parenthesis of byte 0 is open; expected ) or an operator before 2"),
        ("1)", 1, "this ) closes no parenthesis; expected an operator or the end"),
        ("1 2", 2, "expected an operator before 2"),
        ("soc power_w", 4, "expected an operator before power_w"),
        ("* 2", 0, "expected a number, a name or a parenthesis before *"),
        ("1 = 1", 2, "= is no operator; == compares"),
        ("1 ? 2", 5, "a choice is written condition ? a : b; expected : before the end"),
        ("1 ! 2", 2, "expected an operator before !"),
        ("1 : 2", 2, "expected an operator before : (a choice is written condition ? a : b)"),
        ("12kW", 0, "\"12kW\" is no number; numbers look like 230, 0.5, 1e3 or 0xFF"),
        ("1 + 1.2.3", 4, "\"1.2.3\" is no number; numbers look like 230, 0.5, 1e3 or 0xFF"),
        ("1e", 0, "\"1e\" is no number; numbers look like 230, 0.5, 1e3 or 0xFF"),
        ("1e999", 0, "1e999 is too large for a number"),
        ("0xG", 0, "\"0xG\" is no number; hexadecimal ones look like 0xFF, with at most 16 digits"),
        ("0x", 0, "\"0x\" is no number; hexadecimal ones look like 0xFF, with at most 16 digits"),
        ("ü + $", 5, "'$' is no part of a formula"),
        ("\"a\"", 0, "texts are no part of a formula; there are only numbers and names"),
        ("X1.soc", 0, "\"X1\" is no object; there are M1, E1, V1 (and so on), GM, CM, PB and date"),
        ("M0.soc", 0, "\"M0\" is no object; there are M1, E1, V1 (and so on), GM, CM, PB and date"),
        ("M01.soc", 0, "\"M01\" is no object; there are M1, E1, V1 (and so on), GM, CM, PB and date"),
        ("M65536.soc", 0, "\"M65536\" is no object; there are M1, E1, V1 (and so on), GM, CM, PB and date"),
        ("E1.", 0, "\"E1.\" lacks a member behind the point, like E1.power_w"),
        ("GM.a..b", 0, "\"GM.a..b\" lacks a member behind the point, like GM.power_w"),
        ("mni(1, 2)", 0, "there is no function mni; the nearest one is min(a, b, …)"),
        ("Sqr(2)", 0, "there is no function Sqr; the nearest one is sqrt(x)"),
        ("min()", 0, "min is written min(a, b, …), here with no value"),
        ("clamp(1, 2)", 0, "clamp is written clamp(x, low, high), here with 2 values"),
        ("abs(1, 2)", 0, "abs is written abs(x), here with 2 values"),
        ("abs()", 0, "abs is written abs(x), here with no value"),
        ("abs(1", 5, "abs(x) is open; expected ) before the end"),
        ("min(1; 2)", 5, "; is no part of a formula; the values of a function are separated by commas"),
        ("min(1 2)", 6, "min(a, b, …) is open; expected ) or an operator before 2"),
        ("min(1,)", 6, "expected a number, a name or a parenthesis before )"),
    ];
    for (text, offset, message) in table {
        let error = Formula::parse(text).expect_err(text);
        assert_eq!((error.offset, error.message.as_str()), (*offset, *message), "{text}");
    }
    let comma = Formula::parse("1,5").unwrap_err();
    assert_eq!(comma.offset, 1);
    assert!(comma.message.contains("a decimal point is written as a point"), "{comma}");
}

#[test]
fn size_has_limits() {
    let refused = |text: &str| Formula::parse(text).expect_err("too much").to_string();
    assert_eq!(refused(&"(".repeat(10_000)), "is longer than 4096 bytes; split it into variables");
    let closed = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    assert_eq!(refused(&closed(2_000)), "is nested more than 100 deep; split it into variables");
    assert_eq!(refused(&closed(101)), "is nested more than 100 deep; split it into variables");
    assert_eq!(value(&closed(100)), Some(1.0));
    for deep in ["-", "!", "1^", "abs(", "1?", "1?2:"] {
        assert_eq!(refused(&deep.repeat(800)), "is nested more than 100 deep; split it into variables", "{deep}");
    }
    let sum = |values: usize| vec!["1"; values].join("+");
    assert_eq!(value(&sum(500)), Some(500.0));
    assert_eq!(refused(&sum(501)), "has more than 1000 values and operators; split it into variables");
    assert_eq!(value(&format!("max({})", vec!["2"; 500].join(","))), Some(2.0), "two at a time");
    assert_eq!(value(&format!("{}7", " ".repeat(4_095))), Some(7.0));
    assert_eq!(Formula::parse(&"ü€".repeat(1_000)).unwrap_err().offset, 4_095, "between two characters");
    assert_eq!(refused(&format!("{}7", " ".repeat(4_096))), "is longer than 4096 bytes; split it into variables");
}

/// The worst there is: each level opens all of the precedence below it. A thread of the runtime has 2 MiB.
/// (In a build without optimisation, whose frames are the largest.)
#[test]
fn the_deepest_formula_needs_little_stack() {
    let level = "0||1&&1|1&1==1<1+1*(";
    let text = format!("{}1{}", level.repeat(100), ")".repeat(100));
    let parse = move || Formula::parse(&text).map(|formula| formula.value(&Noon)).map_err(|error| error.message);
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(parse).unwrap();
    let result = thread.join().unwrap();
    assert_eq!(result, Err("has more than 1000 values and operators; split it into variables".into()));
    let text = format!("{}1{}", "1|1&1+1*(".repeat(100), ")".repeat(100));
    assert_eq!(value(&text), Some(1.0));
}
