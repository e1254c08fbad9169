//! Who may call what (`cfos-interfaces.md` 1.1), and what nobody gets to see.

use super::*;
use crate::contract::api::{Access, Body, COMMANDS};

/// Everything in this configuration that must not be seen without the admin password.
const SECRETS: [&str; 5] = ["s3cretpw", "argon2id", "471147114711", "04DEADBEEF", "FEED1234"];

fn with_secrets() -> String {
    let hash = crate::password::hash("whatever1").unwrap();
    format!(
        r#"[http]
admin_password_hash = "{}"
[mqtt]
broker = "mqtt://user:s3cretpw@127.0.0.1:1"
[[device]]
id = "M1"
type = "http-input"
address = "mqtt://user:s3cretpw@127.0.0.1:1"
[[device]]
id = "E1"
type = "http-input"
fixed_rfid = "FEED1234"
[[user]]
id = "471147114711"
name = "Ada"
devices = ["E1"]
[[user.card]]
id = "04DEADBEEF"
"#,
        hash.0
    )
}

#[tokio::test]
async fn nothing_secret_is_told_without_the_password() {
    let site = TestSite::start(&with_secrets()).await;
    for command in COMMANDS.iter().filter(|command| command.access == Access::Public) {
        let answer = site.call_as(false, &format!("cmd={}&rfid=9999", command.name), "").await;
        for secret in SECRETS {
            assert!(!text(&answer).contains(secret), "{} tells {secret}", command.name);
        }
    }
    // Not even the admin reads passwords.
    let devices = site.read("cmd=get_devices").await.to_string();
    assert!(!devices.contains("s3cretpw") && !devices.contains("argon2id"), "{devices}");
}

#[tokio::test]
async fn what_needs_the_password_is_refused_without_it_and_changes_nothing() {
    let site = TestSite::start(SITE).await;
    let before = site.config();
    for command in COMMANDS {
        let query = format!(
            "cmd={}&dev_id=E1&flags=C&name=x&val=1&id=4711&new_pwd=12345678&enable=1&rfid=0000&state=3&current=1,1,1",
            command.name
        );
        for body in
            ["", r#"{"title":"x","vars":[{"name":"x","expr":1}],"devices":[{"dev_id":"E1","name":"x"}],"id":"99"}"#]
        {
            let answer = site.call_as(false, &query, body).await;
            match command.access {
                Access::Public => assert_ne!(answer.status, 401, "{}", command.name),
                // Without a body that one does not get to the question.
                Access::Own(_) if command.body == Body::Required && body.is_empty() => {}
                Access::Own(_) | Access::Admin => {
                    assert_eq!(answer.status, 401, "{}: {}", command.name, text(&answer));
                    assert!(answer.json()["error"].as_str().unwrap().contains("admin password"));
                }
            }
        }
    }
    assert_eq!(*before, *site.config());
    assert_eq!(site.read("cmd=get_cm_vars").await["vars"], serde_json::json!([]));
}

#[tokio::test]
async fn every_command_of_the_table_is_there_once_and_every_call_is_answered() {
    let site = TestSite::start(SITE).await;
    let mut names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
    for name in &names {
        let answer = site.call(&format!("cmd={name}"), "").await;
        assert!(!text(&answer).contains("unknown cmd"), "{name}");
        assert!(answer.status == 200 || answer.json()["error"].is_string(), "{name}: {}", text(&answer));
    }
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    let expected = "accept_license change_admin_pwd del_device enter_rfid get_cm_vars get_dev_info get_dev_types \
        get_devices get_new_user_id get_params get_user get_users modbus modbus_get modbus_set override_device \
        reset_device set_ajax_evse set_ajax_meter set_cm_var set_cm_vars set_device set_diag_logging set_params \
        set_user soft_meter";
    assert_eq!(names.join(" "), expected);
    for query in ["", "cmd=", "cmd=nothing", "CMD=get_params", "a=b", "cmd=get_params%20"] {
        let answer = site.call(query, "").await;
        assert_eq!(answer.status, 400, "{query}");
        let error = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("set_ajax_meter") && error.contains("get_dev_info"), "{query}: {error}");
    }
    for command in COMMANDS.iter().filter(|command| command.body == Body::Required) {
        assert_eq!(command.body.methods(), "POST");
        site.refused(&format!("cmd={}", command.name), "", &[command.name, "expects a JSON object", "POST"]).await;
    }
}

#[tokio::test]
async fn unknown_arguments_are_ignored() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=set_cm_vars&name=x&val=1&_=1700000000&user=admin", "").await;
    assert_eq!(site.read("cmd=get_dev_types&nocache=1").await["evse_ajax"], "HTTP input");
}

#[tokio::test]
async fn a_device_that_is_not_there_has_its_exact_answer() {
    let site = TestSite::start(SITE).await;
    for query in [
        "cmd=override_device&dev_id=E9&flags=C",
        "cmd=override_device&dev_id=M1&mamps=6000",
        "cmd=override_device&dev_id=garbage&flags=c",
        "cmd=soft_meter&dev_id=E9",
        "cmd=soft_meter&dev_id=M1&val=1",
        "cmd=enter_rfid&rfid=5678&dev_id=E9",
        "cmd=enter_rfid&rfid=5678&dev_id=M1",
        "cmd=del_device&dev_id=E9",
        "cmd=reset_device&dev_id=M99",
    ] {
        let answer = site.call(query, "").await;
        assert_eq!((answer.status, text(&answer)), (200, "\"unknown device\""), "{query}");
    }
    for query in ["cmd=override_device&flags=C", "cmd=soft_meter", "cmd=del_device", "cmd=reset_device"] {
        site.refused(query, "", &["dev_id is missing, like dev_id=E1"]).await;
    }
}
