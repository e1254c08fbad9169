//! `set_cm_vars`, `set_cm_var` and `get_cm_vars`: 7.2, rows 7 to 10.

use serde_json::json;

use super::*;

impl TestSite {
    async fn variables(&self) -> Vec<(String, f64)> {
        let vars = self.read("cmd=get_cm_vars").await;
        let vars = vars["vars"].as_array().unwrap().iter();
        vars.map(|var| {
            assert_eq!((&var["expr"], &var["val"]), (&var["value"], &var["value"]));
            (var["name"].as_str().unwrap().to_owned(), var["value"].as_f64().unwrap())
        })
        .collect()
    }

    async fn are_values(&self, wanted: &[(&str, f64)]) {
        let vars = self.read("cmd=get_cm_vars").await;
        let vars = vars["vars"].as_array().unwrap();
        for (name, value) in wanted {
            let var = vars.iter().find(|var| var["name"] == *name).unwrap();
            assert_eq!(var["value"].as_f64(), Some(*value), "{name}");
        }
    }

    async fn are(&self, wanted: &[(&str, f64)]) {
        let wanted: Vec<(String, f64)> = wanted.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        assert_eq!(self.variables().await, wanted);
    }
}

#[tokio::test]
async fn h7_h8_a_variable_is_set_read_and_kept() {
    let site = TestSite::start(SITE).await;
    site.are(&[]).await;
    site.ok("cmd=set_cm_vars&name=x&val=1", "").await;
    assert_eq!(site.read("cmd=get_cm_vars").await, json!({"vars": [{"name": "x", "expr": 1, "val": 1, "value": 1}]}));
    // Some clients publish a blank where there is nothing to say.
    site.ok("cmd=set_cm_vars&name=y&expr=-2.5e1", " \n").await;
    let site = site.restart().await;
    site.are(&[("x", 1.0), ("y", -25.0)]).await;
}

#[tokio::test]
async fn h9_a_list_is_set_at_once() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_cm_vars", r#"{"vars":[{"name":"a","expr":1},{"name":"b","expr":"2.5"},{"name":"c","val":3}]}"#)
        .await;
    site.are(&[("a", 1.0), ("b", 2.5), ("c", 3.0)]).await;
    // What was read can be sent back.
    let read = site.read("cmd=get_cm_vars").await;
    site.ok("cmd=set_cm_vars", &read.to_string()).await;
    site.are(&[("a", 1.0), ("b", 2.5), ("c", 3.0)]).await;
    site.ok("cmd=set_cm_vars&clear=1", r#"{"vars":[{"name":"b","expr":7},{"name":"d","expr":0}]}"#).await;
    site.are(&[("b", 7.0), ("d", 0.0)]).await;
    let site = site.restart().await;
    site.are(&[("b", 7.0), ("d", 0.0)]).await;
    site.ok("cmd=set_cm_vars&clear=1", "").await;
    site.are(&[]).await;
    site.ok("cmd=set_cm_vars", r#"{"vars":[]}"#).await;
}

#[tokio::test]
async fn h9_temporary_variables_are_never_written() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_cm_vars&name=x&val=1", "").await;
    site.written("x = 1").await;
    let before = site.text();
    site.ok("cmd=set_cm_vars&name=x&val=2&tmp=1", "").await;
    site.ok("cmd=set_cm_vars&tmp=1", r#"{"vars":[{"name":"y","expr":9}]}"#).await;
    site.are(&[("x", 2.0), ("y", 9.0)]).await;
    // With both, the temporary ones go and those of the file stay.
    site.ok("cmd=set_cm_vars&tmp=1&clear=1&name=z&val=5", "").await;
    site.are(&[("x", 1.0), ("z", 5.0)]).await;
    let site = site.restart().await;
    assert_eq!(site.text(), before);
    site.are(&[("x", 1.0)]).await;
}

#[tokio::test]
async fn h9_a_kept_value_takes_the_place_of_a_temporary_one() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_cm_vars&name=x&val=5&tmp=1", "").await;
    site.ok("cmd=set_cm_vars&name=x&val=5", "").await;
    let site = site.restart().await;
    site.are(&[("x", 5.0)]).await;
}

#[tokio::test]
async fn h9_a_value_that_is_so_already_writes_nothing() {
    let site = TestSite::start(&format!("{SITE}[variables]\nx = 1 # one\n")).await;
    let before = (site.text(), std::fs::metadata(site.file()).unwrap().modified().unwrap());
    site.ok("cmd=set_cm_vars&name=x&val=1", "").await;
    site.ok("cmd=set_cm_var&name=x&val=1.0", "").await;
    let site = site.restart().await;
    assert_eq!(before, (site.text(), std::fs::metadata(site.file()).unwrap().modified().unwrap()));
}

#[tokio::test]
async fn h9_a_formula_is_kept_as_written_and_computed() {
    let site =
        TestSite::start(&format!("{SITE}[variables]\n# counts\nOne = {{ expr = 0, trigger_s = 60 }} # pulse\n")).await;
    site.ok("cmd=set_cm_vars&name=sum&expr=1%2B1", "").await;
    site.ok(
        "cmd=set_cm_vars",
        r#"{"vars":[{"name":"PWR","expr":"sum+1"},{"name":"E1.own","expr":"max_current / 2"}]}"#,
    )
    .await;
    let wanted = json!({"vars": [
        {"name": "E1.own", "expr": "max_current / 2", "val": 8000, "value": 8000},
        {"name": "One", "expr": 0, "val": 0, "value": 0},
        {"name": "PWR", "expr": "sum+1", "val": 3, "value": 3},
        {"name": "sum", "expr": "1+1", "val": 2, "value": 2},
    ]});
    assert_eq!(site.read("cmd=get_cm_vars").await, wanted);
    assert_eq!(site.read("cmd=get_params").await["cm_vars"], wanted);
    // What was read can be sent back, a name is the same in any case, and a trigger stays one.
    site.ok("cmd=set_cm_vars", &wanted.to_string()).await;
    site.ok("cmd=set_cm_var&name=CM.pwr&val=sum*10", "").await;
    site.ok("cmd=set_cm_var&name=one&val=1", "").await;
    let read = site.read("cmd=get_cm_vars").await;
    assert_eq!(read["vars"][2], json!({"name": "PWR", "expr": "sum*10", "val": 20, "value": 20}));
    assert_eq!(read["vars"][1], json!({"name": "One", "expr": 1, "val": 1, "value": 1}));
    let site = site.restart().await;
    assert!(site.text().contains("# counts\nOne = { expr = 1, trigger_s = 60 } # pulse\n"), "{}", site.text());
    assert!(site.text().contains("\"E1.own\" = \"max_current / 2\"\n"), "{}", site.text());
    let read = site.read("cmd=get_cm_vars").await;
    assert_eq!((&read["vars"][0]["val"], &read["vars"][2]["val"]), (&json!(8000), &json!(20)));
    // It was 1 at the start, which is no news.
    assert_eq!(read["vars"][1]["val"], json!(0));
}

#[tokio::test]
async fn the_share_of_the_limit_is_a_variable_too() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_cm_vars&name=CM._max_total_current_prc&val=70", "").await;
    assert_eq!(site.read("cmd=get_params").await["max_total_cur_prc"], json!(70));
    site.ok("cmd=set_cm_vars&name=x&val=_max_total_current_prc%2B1", "").await;
    site.are_values(&[("x", 71.0)]).await;
    site.ok("cmd=set_cm_vars&name=_flag3&val=1", "").await;
    assert_eq!(site.read("cmd=get_params").await["cm_flags"], json!(4));
}

#[tokio::test]
async fn h10_the_singular_form_sets_one() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_cm_var&name=switch&val=1", "").await;
    site.ok("cmd=set_cm_var&name=other&val=3&tmp=1", "").await;
    site.are(&[("other", 3.0), ("switch", 1.0)]).await;
    let site = site.restart().await;
    site.are(&[("switch", 1.0)]).await;
}

#[tokio::test]
async fn wrong_variables_are_refused_whole() {
    let site = TestSite::start(SITE).await;
    for (query, parts) in [
        ("cmd=set_cm_vars", vec!["name is missing"]),
        ("cmd=set_cm_var&val=1", vec!["name is missing"]),
        ("cmd=set_cm_var&name=x", vec!["val is missing"]),
        ("cmd=set_cm_vars&name=x&val=a%2B", vec!["val", "the formula goes wrong at character 3"]),
        ("cmd=set_cm_vars&name=x&val=x%2B1", vec!["variables.x", "need one another", "CM.x → CM.x"]),
        ("cmd=set_cm_vars&name=_Surplus&val=1", vec!["CM._Surplus is computed by the Charging Manager"]),
        ("cmd=set_cm_vars&name=E1.power_w&val=1", vec!["E1.power_w is what the device itself tells"]),
        ("cmd=set_cm_vars&name=_max_total_current_prc&val=101", vec!["from 0 to 100, found 101"]),
        ("cmd=set_cm_vars&name=x&val=nan", vec!["val", "expected a number"]),
        ("cmd=set_cm_vars&name=x&val=inf", vec!["val", "expected a number"]),
        ("cmd=set_cm_vars&name=x&val=", vec!["val", "character 1"]),
        ("cmd=set_cm_vars&name=1x&val=1", vec!["name", "\"1x\"", "not beginning with a digit"]),
        ("cmd=set_cm_vars&name=a.b&val=1", vec!["name", "letters, digits and _"]),
        ("cmd=set_cm_vars&name=&val=1", vec!["name"]),
        ("cmd=set_cm_vars&name=x&val=1&tmp=2", vec!["tmp", "expected 0 or 1, found \"2\""]),
        ("cmd=set_cm_vars&name=x&val=1&clear=yes", vec!["clear", "expected 0 or 1"]),
    ] {
        site.refused(query, "", &parts).await;
    }
    for (body, parts) in [
        (r#"{}"#, vec!["vars is missing"]),
        (r#"{"vars":{}}"#, vec!["vars", "expected a list"]),
        (r#"{"vars":[1]}"#, vec!["vars[0]", "expected an object"]),
        (r#"{"vars":[{"expr":1}]}"#, vec!["vars[0].name is missing"]),
        (r#"{"vars":[{"name":7,"expr":1}]}"#, vec!["vars[0].name", "expected a text, found 7"]),
        (r#"{"vars":[{"name":"a","expr":1},{"name":"b"}]}"#, vec!["vars[1].expr is missing"]),
        (r#"{"vars":[{"name":"a","expr":1},{"name":"b","expr":"(a"}]}"#, vec!["vars[1].expr", "character 3"]),
        (r#"{"vars":[{"name":"a","expr":"b"},{"name":"b","expr":"CM.A"}]}"#, vec!["variables.a", "CM.a → CM.b → CM.a"]),
        (r#"{"vars":[{"name":"a","expr":1},{"name":"A","expr":1}]}"#, vec!["A is given twice"]),
        (r#"{"vars":[{"name":"a","expr":null}]}"#, vec!["vars[0].expr", "found null"]),
        (r#"{"vars":[{"name":"a","expr":true}]}"#, vec!["vars[0].expr", "found true"]),
        (r#"{"vars":[{"name":"a","expr":1},{"name":"a","expr":2}]}"#, vec!["a is given twice"]),
    ] {
        site.refused("cmd=set_cm_vars", body, &parts).await;
    }
    site.are(&[]).await;
    let many: Vec<_> = (0..1_001).map(|n| json!({"name": format!("v{n}"), "expr": n})).collect();
    site.refused("cmd=set_cm_vars", &json!({ "vars": many }).to_string(), &["more than 1000"]).await;
}
