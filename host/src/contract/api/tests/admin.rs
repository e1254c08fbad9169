//! `change_admin_pwd`, `accept_license`, `set_diag_logging`: 7.2, row 17.

use super::*;
use crate::password;

impl TestSite {
    fn is_password(&self, wanted: &str) -> bool {
        self.config().http.admin_password.as_ref().is_some_and(|hash| password::verify(hash, wanted))
    }
}

#[tokio::test]
async fn h17_the_password_is_set_changed_and_taken_away() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=change_admin_pwd&new_pwd=1234abcd", "").await;
    assert!(site.is_password("1234abcd"));
    for query in ["old_pwd=1234abcD&new_pwd=othersecret", "old_pwd=&new_pwd=othersecret"] {
        assert_eq!(site.call(&format!("cmd=change_admin_pwd&{query}"), "").await.status, 401, "{query}");
    }
    assert_eq!(site.call("cmd=change_admin_pwd&old_pwd=wrong&new_pwd=", "").await.status, 401);
    site.refused("cmd=change_admin_pwd&new_pwd=othersecret", "", &["old_pwd is missing"]).await;
    assert!(site.is_password("1234abcd"));
    site.ok("cmd=change_admin_pwd&old_pwd=1234abcd&new_pwd=%C3%A4%26+%2B%25%22%5C%22", "").await;
    assert!(site.is_password("ä& +%\"\\\""));
    let site = site.restart().await;
    assert!(site.is_password("ä& +%\"\\\""));
    assert!(!site.text().contains("+%") && site.text().contains("$argon2id$"), "only the hash is written");
    site.ok("cmd=change_admin_pwd&old_pwd=%C3%A4%26+%2B%25%22%5C%22&new_pwd=", "").await;
    assert_eq!(site.config().http.admin_password, None);
    assert_eq!(site.restart().await.config().http.admin_password, None);
}

#[tokio::test]
async fn h17_a_password_has_its_limits_and_is_not_repeated() {
    let site = TestSite::start(SITE).await;
    let long = format!("cmd=change_admin_pwd&new_pwd={}", "x".repeat(129));
    for (query, parts) in [
        ("cmd=change_admin_pwd", vec!["new_pwd is missing"]),
        ("cmd=change_admin_pwd&new_pwd=sh0rt", vec!["new_pwd", "8 to 128 characters, found 5"]),
        (long.as_str(), vec!["new_pwd", "found 129"]),
        ("cmd=change_admin_pwd&new_pwd=12345678%0A", vec!["new_pwd", "control characters"]),
    ] {
        site.refused(query, "", &parts).await;
    }
    let answer = site.call("cmd=change_admin_pwd&new_pwd=sh0rt", "").await;
    assert!(!text(&answer).contains("sh0rt"));
}

#[tokio::test]
async fn h17_no_empty_password_where_others_can_reach_us() {
    let hash = password::hash("1234abcd").unwrap().0;
    let site = TestSite::start_with(
        &SITE.replace("[site]", &format!("[http]\nadmin_password_hash = \"{hash}\"\n[site]")),
        &["http.listen=0.0.0.0:0"],
    )
    .await;
    site.refused("cmd=change_admin_pwd&old_pwd=1234abcd&new_pwd=", "", &["new_pwd is empty", "loopback"]).await;
    assert!(site.is_password("1234abcd"));
}

#[tokio::test]
async fn h17_the_licence_needs_no_accepting() {
    let site = TestSite::start(SITE).await;
    site.ok("cmd=accept_license&acc=1&allow_usage_stats=0", "").await;
    site.ok("cmd=accept_license", "").await;
    site.refused("cmd=accept_license&acc=maybe", "", &["acc", "expected 0 or 1"]).await;
}

#[tokio::test]
async fn h17_diagnosis_makes_our_own_log_lines_more() {
    // Only the first start in a process counts.
    _ = crate::logging::start("warn");
    let site = TestSite::start(SITE).await;
    let ours = || tracing::enabled!(target: "ladekern::contract", tracing::Level::DEBUG);
    assert!(!ours());
    site.ok("cmd=set_diag_logging&enable=1", "").await;
    assert!(ours());
    assert!(!tracing::enabled!(target: "rumqttc", tracing::Level::INFO), "others stay as they were");
    site.ok("cmd=set_diag_logging&enable=0", "").await;
    assert!(!ours());
    site.refused("cmd=set_diag_logging", "", &["enable is missing"]).await;
    site.refused("cmd=set_diag_logging&enable=2", "", &["enable", "expected 0 or 1, found \"2\""]).await;
}
