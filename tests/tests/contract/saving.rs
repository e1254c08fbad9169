//! Changes of the configuration by commands: what is in force, what is written, how often, and what survives.

use std::time::{Duration, Instant};

use ladekern::config::Expr;
use ladekern::config::{Edit, Settings, SettingsError, Volatile};
use ladekern_tests::daemon::Daemon;
use ladekern_tests::site::Site;
use ladekern_tests::{SOON, http, until};

const HOME: &str = r#"# Our house
[site]
title = "Home"   # shown on the door

[[circuit]]
id = "main"
limit_ma = [35000, 35000, 35000] # the fuse

# Carport, left
[[device]]
id = "E1"
type = "http-input"
max_ma = 16000 # until the cable is new

[variables]
tariff = 1
"#;

fn set(key: &str, value: &str) -> Edit {
    Edit::Set { key: key.split('.').map(str::to_owned).collect(), value: value.parse().unwrap() }
}

async fn change(settings: &Settings, edit: Edit) -> Result<(), SettingsError> {
    settings.change(vec![edit], Vec::new()).await
}

fn text(site: &Site) -> String {
    std::fs::read_to_string(site.file()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a5_max_total_cur_prc_is_never_written() {
    let site = Site::start(HOME).await;
    let settings = site.app.api().settings;
    for share in (0..=100).cycle().take(1000) {
        settings.change(Vec::new(), vec![Volatile::MaxTotalCurPrc(share)]).await.unwrap();
        assert_eq!(site.app.view().config.load.max_total_cur_prc, share);
    }
    // In force also after the file is read again.
    settings.change(Vec::new(), vec![Volatile::MaxTotalCurPrc(50)]).await.unwrap();
    let edited = HOME.replace("Home", "House");
    std::fs::write(site.file(), &edited).unwrap();
    until("the title", async || site.app.view().config.site.title.clone(), |title| title == "House").await;
    assert_eq!(site.app.view().config.load.max_total_cur_prc, 50);
    let folder = site.stop().await;
    assert_eq!(settings.writes(), 0);
    let site = Site::start_in(folder).await;
    assert_eq!(text(&site), edited);
    assert_eq!(site.app.view().config.load.max_total_cur_prc, 100);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_many_changes_are_few_writes_and_comments_survive() {
    let site = Site::start(HOME).await;
    let settings = site.app.api().settings;
    let start = Instant::now();
    for n in 0..1000 {
        change(&settings, set("variables.counter", &n.to_string())).await.unwrap();
        assert_eq!(site.app.view().config.variables["counter"].expr, Expr::Number(f64::from(n)));
    }
    change(&settings, set("device.E1.max_ma", "8000")).await.unwrap();
    let allowed = 2 + start.elapsed().as_secs() / 10;
    let folder = site.stop().await;
    assert!(settings.writes() <= allowed, "{} writes", settings.writes());
    let expected = HOME.replace("16000", "8000").replace("tariff = 1\n", "tariff = 1\ncounter = 999\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("ladekern.toml")).unwrap(), expected);
}

async fn refused(settings: &Settings, edit: Edit, part: &str) {
    let error = change(settings, edit).await.unwrap_err().to_string();
    assert!(error.contains(part), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h3_a_share_over_http_is_in_force_and_gone_after_a_restart() {
    let site = Site::start(HOME).await;
    let answer = site.post("cmd=set_params", "{\"max_total_cur_prc\": 50}").await;
    assert_eq!((answer.status, answer.json()), (200, serde_json::json!("ok")));
    assert_eq!(site.get("cmd=get_params").await.json()["max_total_cur_prc"], 50);
    let folder = site.stop().await;
    assert_eq!(std::fs::read_to_string(folder.path().join("ladekern.toml")).unwrap(), HOME);
    let site = Site::start_in(folder).await;
    assert_eq!(site.get("cmd=get_params").await.json()["max_total_cur_prc"], 100);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h7_variables_over_http_are_saved_unless_they_are_temporary() {
    let site = Site::start(HOME).await;
    for query in ["name=a&val=1.5", "name=tariff&val=1", "name=b&val=7&tmp=1"] {
        let answer = site.get(&format!("cmd=set_cm_vars&{query}")).await;
        assert_eq!((answer.status, answer.json()), (200, serde_json::json!("ok")), "{query}");
    }
    let folder = site.stop().await;
    let saved = std::fs::read_to_string(folder.path().join("ladekern.toml")).unwrap();
    assert_eq!(saved, HOME.replace("tariff = 1\n", "tariff = 1\na = 1.5\n"));
    let site = Site::start_in(folder).await;
    let variables = site.app.view().config.variables.clone();
    let variables: Vec<_> = variables.into_iter().map(|(name, variable)| (name, variable.expr)).collect();
    assert_eq!(variables, [("a".to_owned(), Expr::Number(1.5)), ("tariff".to_owned(), Expr::Number(1.0))]);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_what_would_be_wrong_changes_nothing() {
    let site = Site::start(HOME).await;
    let settings = site.app.api().settings;
    let mut config = site.app.api().source.config;
    config.mark_unchanged();
    refused(&settings, set("device.E1.max_ma", "5"), "ladekern.toml:13: device.E1.max_ma: expected a whole number")
        .await;
    refused(&settings, set("device.E9.max_ma", "8000"), "device.E9.max_ma: there is no entry").await;
    refused(&settings, set("site.titel", "\"x\""), "did you mean \"title\"?").await;
    refused(&settings, set("http.listen", "\"127.0.0.1:1\""), "http.listen: is set on the command line").await;
    let both = vec![set("site.title", "\"x\""), set("device.E1.circuit", "\"garage\"")];
    let error = settings.change(both, vec![Volatile::MaxTotalCurPrc(1)]).await.unwrap_err();
    assert!(error.to_string().contains("there is no circuit \"garage\""), "{error}");
    assert!(!config.has_changed().unwrap());
    let folder = site.stop().await;
    assert_eq!(std::fs::read_to_string(folder.path().join("ladekern.toml")).unwrap(), HOME);
    assert_eq!(settings.writes(), 0);
    assert!(change(&settings, set("site.title", "\"x\"")).await.unwrap_err().to_string().contains("stopping"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_own_writes_restart_nothing() {
    let site = Site::start(HOME).await;
    let settings = site.app.api().settings;
    let config = site.app.api().source.config;
    let fed = "{\"current\":[6000,0,0],\"voltage\":[230,230,230],\"total_energy\":5}";
    let answer = site.post("cmd=set_ajax_evse&dev_id=E1", fed).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mut watched = config.clone();
    watched.mark_unchanged();
    change(&settings, set("device.E1.name", "\"Left\"")).await.unwrap();
    assert!(watched.has_changed().unwrap());
    watched.mark_unchanged();
    until("the write", async || settings.writes(), |writes| *writes == 1).await;
    // What they edit next is the next configuration there is: what we wrote was none.
    std::fs::write(site.file(), format!("{}\n", text(&site).replace("Home", "House"))).unwrap();
    tokio::time::timeout(SOON, watched.changed()).await.expect("their edit is seen").unwrap();
    assert_eq!(watched.borrow().site.title, "House");
    // A change has been made when every device has gone over to it, and to those before.
    change(&settings, set("variables.tariff", "2")).await.unwrap();
    assert_eq!(site.device("E1").await["current_l1"], 6000, "a device that was started again knows nothing");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_a_human_and_a_command_at_the_same_time_lose_nothing() {
    let site = Site::start(HOME).await;
    let settings = site.app.api().settings;
    change(&settings, set("device.E1.max_ma", "8000")).await.unwrap();
    // Before the first write: what they save is read at the latest when we want to write.
    let theirs = HOME.replace("# Our house", "# Our house, 2026").replace("35000, 35000]", "35000, 25000]");
    std::fs::write(site.file(), &theirs).unwrap();
    until("both", async || text(&site), |text| *text == theirs.replace("16000", "8000")).await;
    let config = site.app.view().config;
    assert_eq!((config.circuits[0].limit_ma, config.devices[0].max_ma), ([35000, 35000, 25000], 8000));
    // A file that is broken is not written, and nothing can be saved to it.
    std::fs::write(site.file(), "[site\n").unwrap();
    until("broken", async || change(&settings, set("variables.x", "1")).await, Result::is_err).await.unwrap_err();
    refused(&settings, set("variables.x", "2"), "ladekern.toml:1: no TOML").await;
    assert_eq!(site.app.view().config.devices[0].max_ma, 8000);
    let folder = site.stop().await;
    assert_eq!(std::fs::read_to_string(folder.path().join("ladekern.toml")).unwrap(), "[site\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_a_disk_that_takes_nothing_keeps_the_change_in_force_and_pending() {
    let site = Site::start(HOME).await;
    let settings = site.app.api().settings;
    // Root may write everywhere; a folder in the way of the new file stops root too.
    let obstacle = site.file().with_file_name(".ladekern.toml.new");
    std::fs::create_dir(&obstacle).unwrap();
    change(&settings, set("device.E1.max_ma", "8000")).await.unwrap();
    until("an attempt to write", async || settings.failed_writes(), |failed| *failed > 0).await;
    change(&settings, set("device.E1.min_ma", "7000")).await.unwrap();
    let device = site.app.view().config.devices[0].clone();
    assert_eq!((device.max_ma, device.min_ma, settings.writes()), (8000, 7000, 0));
    assert_eq!(text(&site), HOME);
    let numbers = http::get(site.http(), "/metrics").await.unwrap().body;
    let failed = numbers.lines().find_map(|line| line.strip_prefix("ladekern_config_failed_writes_total ")).unwrap();
    assert!((1..=settings.failed_writes()).contains(&failed.parse().unwrap()), "{failed}");
    std::fs::remove_dir(&obstacle).unwrap();
    until("the write", async || settings.writes(), |writes| *writes == 1).await;
    let line = "max_ma = 8000 # until the cable is new\nmin_ma = 7000";
    assert_eq!(text(&site), HOME.replace("max_ma = 16000 # until the cable is new", line));
    site.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_a_link_stays_and_its_file_is_written_with_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let elsewhere = tempfile::tempdir().unwrap();
    let real = elsewhere.path().join("home.toml");
    std::fs::write(&real, HOME).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&real, folder.path().join("ladekern.toml")).unwrap();
    let site = Site::start_in(folder).await;
    change(&site.app.api().settings, set("variables.tariff", "2")).await.unwrap();
    let folder = site.stop().await;
    assert!(std::fs::symlink_metadata(folder.path().join("ladekern.toml")).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(&real).unwrap(), HOME.replace("tariff = 1", "tariff = 2"));
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1, "nothing is left beside it");
}

/// The built program is killed while it saves, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_a_killed_process_leaves_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ladekern.toml");
    std::fs::write(&file, HOME).unwrap();
    let config = file.display().to_string();
    let mut number = 0;
    for round in 0..6_u64 {
        let daemon = Daemon::start(["run", "--config", &config, "--set", "http.listen=127.0.0.1:0"]);
        let address = daemon.http_address().await;
        let end = Instant::now() + Duration::from_millis(280 + 15 * round);
        while Instant::now() < end {
            number += 1;
            let answer = http::get(address, &format!("/cnf?cmd=set_cm_vars&name=counter&val={number}")).await.unwrap();
            assert_eq!(answer.status, 200);
        }
        // Dropping kills it with SIGKILL.
        let pid = daemon.pid().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        drop(daemon.ended(Duration::from_secs(20)).await);
        let now = std::fs::read_to_string(&file).unwrap();
        let counted = |n: u64| HOME.replace("tariff = 1\n", &format!("tariff = 1\ncounter = {n}\n"));
        assert!(now == HOME || (1..=number).any(|n| now == counted(n)), "{now}");
    }
    assert_ne!(std::fs::read_to_string(&file).unwrap(), HOME, "it saved in the meantime");
}
