//! A cycle: order, missing values, triggers on virtual time, what others assign.

use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::config::variable_key;
use crate::formulas::testing::Site;

const METER: &str = "[[device]]\nid = \"M1\"\ntype = \"http-input\"\n";

fn variables(text: &str) -> (Site, Variables, watch::Sender<Arc<PlanView>>) {
    let site = Site::new(&format!("{text}\n{METER}"));
    let (sender, plan) = watch::channel(Arc::default());
    let variables = Variables::new(site.world.clone());
    variables.follow(plan);
    (site, variables, sender)
}

fn value(site: &Site, name: &str) -> Option<f64> {
    site.world.variables().borrow().get(&variable_key(name))
}

#[tokio::test(start_paused = true)]
async fn each_is_computed_behind_what_it_needs_in_one_cycle() {
    let text = "[variables]\na = \"CM.b * 2\"\nb = \"C + M1.power_w\"\nc = 5\n\"M1.d\" = \"power_w + CM.a\"\n";
    let (site, variables, _plan) = variables(text);
    assert_eq!(["a", "b", "c", "M1.d"].map(|name| value(&site, name)), [None, None, Some(5.0), None]);
    site.say("M1", &[("power.total", 100.0)]);
    variables.recompute();
    let now = ["a", "b", "c", "M1.d"].map(|name| value(&site, name));
    assert_eq!(now, [Some(210.0), Some(105.0), Some(5.0), Some(310.0)]);
    assert_eq!(site.value(None, "M1.d - a"), Some(100.0));
    // What needs a silent meter has no value any more.
    tokio::time::advance(Duration::from_secs(11)).await;
    variables.recompute();
    assert_eq!(["a", "b", "c", "M1.d"].map(|name| value(&site, name)), [None, None, Some(5.0), None]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_ends_a_cycle() {
    let (site, _variables, plan) = variables("[variables]\na = \"M1.power_w\"\n");
    let mut values = site.world.variables();
    values.mark_unchanged();
    site.say("M1", &[("power.total", 100.0)]);
    plan.send_replace(Arc::default());
    tokio::time::timeout(Duration::from_secs(5), values.changed()).await.unwrap().unwrap();
    assert_eq!(value(&site, "a"), Some(100.0));
}

#[tokio::test(start_paused = true)]
async fn a_trigger_is_one_for_its_time() {
    let text = "[variables]\nt = { expr = \"M1.power_w > 50\", trigger_s = 5 }\nu = \"CM.t * 10\"\n";
    let (site, variables, _plan) = variables(text);
    let mut seen = String::new();
    for second in 0..12 {
        // A meter that says nothing yet is no condition that holds.
        if second >= 2 {
            site.say("M1", &[("power.total", if second >= 3 { 100.0 } else { 0.0 })]);
        }
        variables.recompute();
        assert_eq!(value(&site, "u"), value(&site, "t").map(|t| t * 10.0));
        seen.push(if value(&site, "t") == Some(1.0) { '1' } else { '0' });
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(seen, "000111110000");
}

#[tokio::test(start_paused = true)]
async fn the_surplus_may_be_a_formula() {
    let grid = METER.replace("http-input\"", "http-input\"\nrole = \"grid\"");
    let text = |expr: &str| {
        format!("load.surplus_expr = \"{expr}\"\n[variables]\nhalf = \"CM._surplus / 2\"\nless = 500\n{grid}")
    };
    let site = Site::new(&text("CM._org_surplus - CM.less"));
    let variables = Variables::new(site.world.clone());
    site.say("M1", &[("power.total", -3_000.0)]);
    variables.recompute();
    assert_eq!(value(&site, "half"), Some(1_250.0));
    for (formula, wanted) in [
        ("CM._surplus", Some(2_500.0)),
        ("CM._org_surplus", Some(3_000.0)),
        ("GM.surplus", Some(2_500.0)),
        ("GM.surplus.power_w", Some(2_500.0)),
        ("GM.surplus.current_l1", None),
    ] {
        assert_eq!(site.value(None, formula), wanted, "{formula}");
    }
    // A formula without a value leaves none, not that of the meters.
    site.configure(&text("CM._org_surplus / 0"));
    variables.recompute();
    assert_eq!((site.value(None, "CM._surplus"), value(&site, "half")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn what_is_assigned_lasts_until_the_configuration_says_something_else() {
    let (site, variables, _plan) = variables("[variables]\nx = 1\ny = \"CM.x + 1\"\n");
    variables.assign(vec![(variable_key("x"), 7.0), (variable_key("new"), 3.0), (variable_key("y"), f64::NAN)]);
    variables.recompute();
    assert_eq!(["x", "y", "new"].map(|name| value(&site, name)), [Some(7.0), Some(8.0), Some(3.0)]);
    site.configure(&format!("[variables]\nx = 1\ny = \"CM.x + 2\"\n{METER}"));
    variables.recompute();
    assert_eq!(["x", "y", "new"].map(|name| value(&site, name)), [Some(7.0), Some(9.0), Some(3.0)]);
    site.configure(&format!("[variables]\nx = 2\n{METER}"));
    variables.recompute();
    assert_eq!(["x", "y", "new"].map(|name| value(&site, name)), [Some(2.0), None, Some(3.0)]);
}

#[tokio::test(start_paused = true)]
async fn those_of_a_cycle_have_no_value_and_the_others_do() {
    let (site, variables, _plan) = variables("[variables]\na = 1\nb = \"CM.a\"\nc = \"CM.b + 1\"\n");
    // The parser refuses this; a changed file beside a temporary variable may bring it about.
    let mut config = crate::config::Config::clone(&site.config.borrow());
    let expr = crate::config::Expr::parse("CM.b").unwrap();
    config.variables.insert("a".into(), crate::config::VariableConfig::of(expr));
    config.variables.insert("d".into(), crate::config::VariableConfig::of(crate::config::Expr::parse("2*3").unwrap()));
    site.config.send_replace(Arc::new(config));
    variables.recompute();
    assert_eq!(["a", "b", "c", "d"].map(|name| value(&site, name)), [None, None, None, Some(6.0)]);
}

proptest! {
    /// However they are called: one cycle computes sums of sums completely.
    #[test]
    fn one_cycle_is_enough(
        needs in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..12),
        names in Just((0..12).map(|n| format!("v{n}")).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut text = String::from("[variables]\n");
        let mut wanted: Vec<f64> = Vec::new();
        for (at, needs) in needs.iter().enumerate() {
            let needs: Vec<usize> = if at == 0 { Vec::new() } else { needs.iter().map(|need| need.index(at)).collect() };
            let sum = needs.iter().fold("1".to_owned(), |sum, need| format!("{sum} + CM.{}", names[*need]));
            wanted.push(needs.iter().fold(1.0, |sum, need| sum + wanted[*need]));
            text += &format!("{} = \"{sum}\"\n", names[at]);
        }
        let site = Site::new(&text);
        let mut look = site.world.look();
        Engine::default().cycle(&mut look);
        for (name, wanted) in names.iter().zip(wanted) {
            prop_assert_eq!(look.variables().get(&variable_key(name)), Some(wanted));
        }
    }
}
