//! Changes of the configuration by commands: what is in force, what is written, how often, and what survives.

use std::time::{Duration, Instant};

use ladekern::config::{Edit, Settings, SettingsError, Volatile};
use ladekern_tests::site::Site;

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

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    until("the title", || site.app.view().config.site.title == "House").await;
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
        assert_eq!(site.app.view().config.variables["counter"], f64::from(n));
    }
    change(&settings, set("device.E1.max_ma", "8000")).await.unwrap();
    let allowed = 2 + start.elapsed().as_secs() / 10;
    let folder = site.stop().await;
    assert!(settings.writes() <= allowed, "{} writes", settings.writes());
    let expected = HOME.replace("16000", "8000").replace("tariff = 1\n", "tariff = 1\ncounter = 999\n");
    assert_eq!(std::fs::read_to_string(folder.path().join("ladekern.toml")).unwrap(), expected);
}
