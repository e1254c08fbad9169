//! The commands of `/cnf` over real HTTP, one test per row of `cfos-interfaces.md` 7.2: what a client sends byte by
//! byte, and what it gets. Variants and refusals are tested beside the commands.

mod cards;

use ladekern_tests::http::Answer;
use ladekern_tests::site::Site;
use ladekern_tests::{SOON, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SITE: &str = r#"
[site]
title = "Home"
[[circuit]]
id = "main"
limit_ma = [35000, 35000, 35000]
meter = "M1"
[[device]]
id = "M1"
name = "Grid"
type = "http-input"
role = "grid"
[[device]]
id = "E1"
name = "Box"
type = "http-input"
[[device]]
id = "E2"
type = "http-input"
[[user]]
id = "4711"
name = "Ada"
devices = ["E1"]
[[user.card]]
id = "5678"
"#;

/// `Authorization` of admin with the password 1234abcd.
const ADMIN: &str = "Authorization: Basic YWRtaW46MTIzNGFiY2Q=\r\n";

trait Calls {
    async fn ok(&self, query: &str);
    async fn post_ok(&self, query: &str, body: &Value);
    async fn read(&self, query: &str) -> Value;
    async fn until(&self, id: &str, key: &str, wanted: Value);
    async fn with(&self, headers: &str, query: &str, body: &str) -> Answer;
}

impl Calls for Site {
    async fn ok(&self, query: &str) {
        let answer = self.get(query).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "\"ok\""), "{query}");
        assert!(answer.head.to_ascii_lowercase().contains("content-type: application/json"), "{}", answer.head);
    }

    async fn post_ok(&self, query: &str, body: &Value) {
        let answer = self.post(query, &body.to_string()).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "\"ok\""), "{query}");
    }

    async fn read(&self, query: &str) -> Value {
        let answer = self.get(query).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        answer.json()
    }

    /// Waits until a device shows a value.
    async fn until(&self, id: &str, key: &str, wanted: Value) {
        let look = async || self.device(id).await.get(key).cloned().unwrap_or_default();
        until(&format!("{id}.{key} is {wanted}"), look, |shown| *shown == wanted).await;
    }

    /// A call with header lines; POST if there is a body.
    async fn with(&self, headers: &str, query: &str, body: &str) -> Answer {
        let (method, addr, length) = (if body.is_empty() { "GET" } else { "POST" }, self.http(), body.len());
        let request = format!(
            "{method} /cnf?{query} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        let exchange = async {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            String::from_utf8(bytes).unwrap()
        };
        let text = tokio::time::timeout(SOON, exchange).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }
}

#[tokio::test]
async fn h1_get_params_is_the_object_of_get_dev_info_with_labels() {
    let site = Site::start(SITE).await;
    let params = site.read("cmd=get_params").await;
    let info = site.read("cmd=get_dev_info").await;
    for key in info["params"].as_object().unwrap().keys() {
        assert!(params.get(key).is_some(), "{key}");
    }
    assert_eq!((&params["version"], &params["title"]), (&json!("2.0.1"), &json!("Home")));
    assert!(params["max_total_evse_power"].is_number());
    assert_eq!(params["dev_meta"]["evse_ajax"], "HTTP input");
}

#[tokio::test]
async fn h2_every_type_of_the_site_has_a_label() {
    let site = Site::start(SITE).await;
    let types = site.read("cmd=get_dev_types").await;
    assert!(types.as_object().unwrap().values().all(Value::is_string), "{types}");
    for device in site.read("cmd=get_dev_info").await["devices"].as_array().unwrap() {
        assert!(types.get(device["dev_type"].as_str().unwrap()).is_some(), "{}", device["dev_type"]);
    }
}

#[tokio::test]
async fn h3_the_share_is_set_with_the_password_and_is_gone_after_a_restart() {
    let site = Site::start(SITE).await;
    site.ok("cmd=change_admin_pwd&new_pwd=1234abcd").await;
    let body = r#"{"max_total_cur_prc":50}"#;
    for headers in ["", "Authorization: Basic YWRtaW46d3Jvbmc=\r\n"] {
        let answer = site.with(headers, "cmd=set_params", body).await;
        assert_eq!(answer.status, 401, "{headers}{}", answer.body);
        assert_eq!(site.read("cmd=get_params").await["max_total_cur_prc"], 100, "unchanged");
    }
    let answer = site.with(ADMIN, "cmd=set_params", body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "\"ok\""));
    assert_eq!(site.read("cmd=get_params").await["max_total_cur_prc"], 50);
    let site = Site::start_in(site.stop().await).await;
    assert_eq!(site.read("cmd=get_params").await["max_total_cur_prc"], 100);
    assert!(!std::fs::read_to_string(site.file()).unwrap().contains("max_total_cur_prc"));
}

#[tokio::test]
async fn h4_parameters_are_kept_and_unknown_ones_ignored() {
    let site = Site::start(SITE).await;
    let body = json!({"max_total_current": 20000, "reserve_current": 500, "disable_policy": 0, "lb_enabled": false, "charging_rules": [{}], "nothing": 1});
    site.post_ok("cmd=set_params", &body).await;
    let site = Site::start_in(site.stop().await).await;
    let params = site.read("cmd=get_params").await;
    for key in ["max_total_current", "reserve_current", "disable_policy", "lb_enabled"] {
        assert_eq!(params[key], body[key], "{key}");
    }
}

#[tokio::test]
async fn h7_to_h10_variables_are_set_and_read() {
    let site = Site::start(SITE).await;
    site.ok("cmd=set_cm_vars&name=x&val=1").await;
    let x = json!({"name": "x", "expr": 1, "val": 1, "value": 1});
    assert_eq!(site.read("cmd=get_cm_vars").await, json!({"vars": [x]}));
    site.post_ok("cmd=set_cm_vars&tmp=1", &json!({"vars": [{"name": "a", "expr": "2"}]})).await;
    site.ok("cmd=set_cm_var&name=b&val=0").await;
    let names = async |site: &Site| -> Vec<String> {
        let vars = site.read("cmd=get_cm_vars").await;
        vars["vars"].as_array().unwrap().iter().map(|var| var["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&site).await, ["a", "b", "x"]);
    site.post_ok("cmd=set_cm_vars&tmp=1", &json!({"vars": [{"name": "a", "expr": "1+1"}]})).await;
    let a = json!({"name": "a", "expr": "1+1", "val": 2, "value": 2});
    assert_eq!(site.read("cmd=get_cm_vars").await["vars"][0], a);
    let site = Site::start_in(site.stop().await).await;
    assert_eq!(names(&site).await, ["b", "x"], "the temporary one is gone");
    site.post_ok("cmd=set_cm_vars&clear=1", &json!({"vars": [{"name": "c", "expr": 3}]})).await;
    assert_eq!(names(&site).await, ["c"]);
}

#[tokio::test]
async fn h9_formulas_follow_a_fed_meter() {
    let site = Site::start(SITE).await;
    let vars = json!({"vars": [{"name": "KW", "expr": "M1.power_w / 1000"}, {"name": "PWR", "expr": "kw+1"}]});
    site.post_ok("cmd=set_cm_vars", &vars).await;
    let values = async || {
        let vars = site.read("cmd=get_cm_vars").await["vars"].take();
        [vars[0]["value"].as_f64(), vars[1]["value"].as_f64()]
    };
    // Nobody has fed the meter: without a value, which clients read as 0.
    assert_eq!(values().await, [Some(0.0), Some(0.0)]);
    for (watts, wanted) in [(2300, [Some(2.3), Some(3.3)]), (-500, [Some(-0.5), Some(0.5)])] {
        site.ok(&format!("cmd=set_ajax_meter&dev_id=M1&power_w={watts}")).await;
        until("the variables follow the meter", values, |values| *values == wanted).await;
    }
    let cycle = json!({"vars": [{"name": "a", "expr": "CM.b"}, {"name": "b", "expr": "a * 2"}]});
    let answer = site.post("cmd=set_cm_vars", &cycle.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("CM.a → CM.b → CM.a"), "{}", answer.body);
    let answer = site.post("cmd=set_cm_vars", r#"{"vars":[{"name":"a","expr":"2 +* 3"}]}"#).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("vars[0].expr: the formula goes wrong at character 4"), "{}", answer.body);
    assert_eq!(site.read("cmd=get_cm_vars").await["vars"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn the_surplus_may_be_a_formula() {
    let site = Site::start(SITE).await;
    site.ok("cmd=set_ajax_meter&dev_id=M1&power_w=-3000").await;
    site.post_ok("cmd=set_params", &json!({"surplus_expr": "CM._org_surplus - 500"})).await;
    let surplus = async || site.read("cmd=get_params").await["surplus_power"].take();
    until("the formula counts", surplus, |watts| *watts == json!(2500)).await;
    site.ok("cmd=set_ajax_meter&dev_id=M1&power_w=-1000").await;
    until("it follows the meter", surplus, |watts| *watts == json!(500)).await;
    site.post_ok("cmd=set_params", &json!({"surplus_expr": ""})).await;
    until("without a formula the meter alone", surplus, |watts| *watts == json!(1000)).await;
}

#[tokio::test]
async fn h11_a_meter_is_fed() {
    let site = Site::start(SITE).await;
    let body = json!({"model": "TestModell", "import_wh": 12345, "export_wh": 23456, "voltage": [231, 232, 233], "current": [10001, 10002, 10003]});
    site.post_ok("cmd=set_ajax_meter&dev_id=M1", &body).await;
    let meter = site.device("M1").await;
    assert_eq!((&meter["import"], &meter["current_l1"]), (&json!(12345), &json!(10001)));
    site.ok("cmd=set_ajax_meter&dev_id=M1&power_va=-10.50&is_va=false&current=1,2,3").await;
    assert_eq!(site.device("M1").await["power_w"], -10.5);
}

#[tokio::test]
async fn h12_a_wallbox_is_fed_and_gets_its_orders() {
    let site = Site::start(&SITE.replace("[site]", "[load]\nmode = \"observe\"\n[site]")).await;
    let body =
        r#"{"state":2,"max_charging_current":16000,"current":[0,0,0],"total_energy":1,"model":"m","rfid":"4711"}"#;
    let wanted = json!({"device_enabled": true, "charging_enabled": true, "paused": false, "charging_current": 16000});
    let answer = site.post("cmd=set_ajax_evse&dev_id=E2", body).await;
    assert_eq!((answer.status, answer.json()), (200, wanted));
    assert_eq!(site.device("E2").await["state"], 2);
}

#[tokio::test]
async fn h15_the_estimated_counter_answers_the_reading_before() {
    let site = Site::start(SITE).await;
    site.get("cmd=set_ajax_evse&dev_id=E1&state=1&current=0,0,0").await;
    let before = site.read("cmd=soft_meter&dev_id=E1&val=5000").await;
    assert!(before.is_number(), "{before}");
    assert_eq!(site.read("cmd=soft_meter&dev_id=E1").await, 5000);
    assert_eq!(site.read("cmd=soft_meter&dev_id=E1&val=0").await, 5000);
    for wrong in ["val=-1", "val=x", "val=nan", "val="] {
        let answer = site.get(&format!("cmd=soft_meter&dev_id=E1&{wrong}")).await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
    assert_eq!(site.get("cmd=soft_meter&dev_id=E77").await.body, "\"unknown device\"");
}

#[tokio::test]
async fn h16_a_device_makes_the_round() {
    let site = Site::start(SITE).await;
    let devices = site.read("cmd=get_devices").await;
    let mut device = devices.as_array().unwrap().iter().find(|device| device["dev_id"] == "E1").unwrap().clone();
    assert_eq!(device["crule_set"], json!({"rule_set": {"": []}, "selected_id": ""}));
    device["crule_set"]["rule_set"][""] =
        json!([{"id": 1, "ena": true, "ctype": 51, "aexpr": 11000, "unheard_of": [1]}]);
    device["max_charging_cur"] = json!(11000);
    site.post_ok("cmd=set_device", &json!({"devices": [device]})).await;
    let site = Site::start_in(site.stop().await).await;
    let devices = site.read("cmd=get_devices").await;
    let kept = devices.as_array().unwrap().iter().find(|device| device["dev_id"] == "E1").unwrap();
    assert_eq!(kept["crule_set"], device["crule_set"]);
    assert_eq!(site.device("E1").await["max_charging_cur"], 11000);
}

#[tokio::test]
async fn h17_users_and_the_rest() {
    let site = Site::start(SITE).await;
    let id = site.read("cmd=get_new_user_id").await;
    site.post_ok("cmd=set_user", &json!({"id": id, "name": "Bob", "dev_ids": ["E2"], "rfids": [{"id": "AA"}]})).await;
    let users = site.read("cmd=get_users").await;
    assert_eq!(users.as_array().unwrap().len(), 2);
    let bob = site.read(&format!("cmd=get_user&id={}", id.as_str().unwrap())).await;
    assert_eq!((&bob, &bob["dev_ids"]), (&users[1], &json!(["E2"])));
    site.post_ok("cmd=set_user", &json!({"id": id, "delete": true})).await;
    site.ok("cmd=del_device&dev_id=E2").await;
    assert_eq!(site.read("cmd=get_dev_info").await["devices"].as_array().unwrap().len(), 2);
    site.ok("cmd=reset_device&dev_id=E1").await;
    site.ok("cmd=accept_license&acc=1&allow_usage_stats=0").await;
    site.ok("cmd=change_admin_pwd&new_pwd=1234abcd").await;
    assert_eq!(site.get("cmd=get_users").await.status, 401);
    assert_eq!(site.with(ADMIN, "cmd=get_users", "").await.status, 200);
    let changed = site.with(ADMIN, "cmd=change_admin_pwd&old_pwd=1234abcd&new_pwd=", "").await;
    assert_eq!((changed.status, changed.body.as_str()), (200, "\"ok\""));
    assert_eq!(site.get("cmd=get_users").await.status, 200);
    // A user's own id is enough to change the own name, and for nothing else.
    site.ok("cmd=change_admin_pwd&new_pwd=1234abcd").await;
    assert_eq!(site.with("", "cmd=set_user", r#"{"id":"4711","name":"Ada L."}"#).await.status, 200);
    assert_eq!(site.with("", "cmd=set_user", r#"{"id":"4711","dev_ids":["E1","M1"]}"#).await.status, 400);
    assert_eq!(site.with("", "cmd=set_user", r#"{"id":"4711","dev_ids":[]}"#).await.status, 401);
    assert_eq!(site.with("", "cmd=set_user", r#"{"id":"99","name":"x"}"#).await.status, 401);
}
