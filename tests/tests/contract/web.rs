//! Who may do what over HTTP, and what bad input gets (B24).

use std::net::SocketAddr;
use std::process::Stdio;

use ladekern::app::{App, Options};
use ladekern::config::Override;
use ladekern::contract::api::COMMANDS;
use ladekern_tests::http::{self, Answer};
use ladekern_tests::site::Site;
use ladekern_tests::until;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

const SITE: &str = r#"
[[device]]
id = "M1"
name = "Sim-Grid"
type = "http-input"
[[device]]
id = "E1"
type = "http-input"
[[user]]
id = "4711"
devices = ["E1"]
"#;

/// `admin:geheim`
const RIGHT: &str = "Authorization: Basic YWRtaW46Z2VoZWlt\r\n";
/// `admin:falsch`
const WRONG: &str = "Authorization: Basic YWRtaW46ZmFsc2No\r\n";

async fn protected() -> Site {
    let hash = ladekern::password::hash("geheim").unwrap().0;
    Site::start(&format!("[http]\nadmin_password_hash = \"{hash}\"\n{SITE}")).await
}

async fn send(site: &Site, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    http::request(site.http(), method, path, headers, body).await.unwrap()
}

fn asks_for_basic(answer: &Answer) -> bool {
    answer.head.to_ascii_lowercase().contains("www-authenticate: basic realm=")
}

/// How Home Assistant learns whether a password is right.
#[tokio::test]
async fn h18_the_simulation_page_tells_whether_a_password_is_right() {
    let site = protected().await;
    for (headers, status) in [("", 401), (WRONG, 401), (RIGHT, 200)] {
        let answer = send(&site, "GET", "/ui/en/sim.htm", headers, "").await;
        assert_eq!((answer.status, asks_for_basic(&answer)), (status, status == 401), "{headers}");
    }
    let page = send(&site, "GET", "/ui/en/sim.htm", RIGHT, "").await.body;
    assert!(page.contains("data-device=\"M1\"") && !page.contains("data-device=\"E1\""), "{page}");
    site.stop().await;
}

#[tokio::test]
async fn h19_the_root_is_a_page() {
    let site = protected().await;
    let answer = http::get(site.http(), "/").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("text/html") && answer.body.starts_with("<!doctype html>"), "{}", answer.head);
    site.stop().await;
}

/// `docs/security.md` says who may call which command, and the server does so.
#[tokio::test]
async fn b24_who_may_call_what_is_as_documented() {
    let text = std::fs::read_to_string(ladekern_tests::root().join("docs/security.md")).unwrap();
    let row = |name: &str| {
        let begin = format!("| `{name}` | ");
        let line = text.lines().find_map(|line| line.strip_prefix(begin.as_str()));
        line.unwrap_or_else(|| panic!("{name} is not in docs/security.md")).trim_end_matches(" |").to_owned()
    };
    let rows = text.split("| command | who |").nth(1).unwrap().split("\n\n").next().unwrap();
    assert_eq!(rows.lines().filter(|line| line.starts_with("| `")).count(), COMMANDS.len(), "rows of the table");
    let site = protected().await;
    let foreign = "Sec-Fetch-Site: cross-site\r\n";
    for command in COMMANDS {
        let path = format!("/cnf?cmd={}", command.name);
        let plain = send(&site, "POST", &path, "", "{}").await;
        let of_others = send(&site, "POST", &path, foreign, "{}").await.status;
        let of_others_with = send(&site, "POST", &path, &format!("{foreign}{RIGHT}"), "{}").await.status;
        let with = send(&site, "GET", &path, RIGHT, "").await;
        assert!(![401, 403].contains(&with.status), "{}: the admin may: {}", command.name, with.body);
        let seen = match (plain.status, of_others, of_others_with) {
            (200, 200, 200) => "everybody",
            // An argument is missing, which nobody had to be let in for to be told.
            (400, 403, 403) if !asks_for_basic(&plain) && command.name == "enter_rfid" => "everybody, own pages",
            (400, 403, 403) => "admin or card",
            (401, 403, 403) if asks_for_basic(&plain) => "admin",
            other => panic!("{}: {other:?} {}", command.name, plain.body),
        };
        assert_eq!(seen, row(command.name), "{}", command.name);
    }
    // Without a card, and with that of nobody.
    for query in ["cmd=override_device&dev_id=E1&flags=C", "cmd=override_device&dev_id=E1&flags=C&rfid=99"] {
        let answer = site.get(query).await;
        assert!(answer.status == 401 && asks_for_basic(&answer), "{query}: {} {}", answer.status, answer.body);
    }
    assert_eq!(site.post("cmd=set_user", r#"{"id":"99"}"#).await.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn b24_every_mistake_has_its_status_and_a_json_error() {
    let site = protected().await;
    let large = " ".repeat((1 << 20) + 1);
    for (method, path, headers, body, status) in [
        ("GET", "/cnf", "", "", 400),
        ("GET", "/cnf?cmd=", "", "", 400),
        ("GET", "/cnf?cmd=reboot", "", "", 400),
        ("GET", "/cnf?cmd=%zz", "", "", 400),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M1", RIGHT, "{\"power_w\":", 400),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M1", "", "{}", 401),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M1", WRONG, "{}", 401),
        ("POST", "/cnf?cmd=set_ajax_meter&dev_id=M1", RIGHT, large.as_str(), 413),
        ("DELETE", "/cnf?cmd=get_params", "", "", 405),
        ("GET", "/nothing", "", "", 404),
    ] {
        let answer = send(&site, method, path, headers, body).await;
        assert_eq!(answer.status, status, "{method} {path} {headers}: {}", answer.body);
        assert!(answer.head.contains("application/json") && answer.json()["error"].is_string(), "{}", answer.head);
    }
    site.stop().await;
}

#[tokio::test]
async fn b24_guessing_passwords_is_throttled() {
    let site = protected().await;
    let mut seen = Vec::new();
    for _ in 0..40 {
        let answer = send(&site, "GET", "/ui/en/sim.htm", WRONG, "").await;
        seen.push(answer.status);
        if answer.status == 429 {
            assert!(answer.head.to_ascii_lowercase().contains("retry-after: "), "{}", answer.head);
            break;
        }
    }
    assert_eq!(seen[..5], [401; 5]);
    assert_eq!(seen.last(), Some(&429));
    assert_eq!(send(&site, "GET", "/cnf?cmd=get_dev_info", WRONG, "").await.status, 200, "reading goes on");
    site.stop().await;
}

#[tokio::test]
async fn b24_without_a_password_the_loopback_is_admin_and_others_are_not() {
    let site = Site::start(SITE).await;
    for headers in ["", WRONG] {
        let answer = send(&site, "POST", "/cnf?cmd=set_ajax_meter&dev_id=M1", headers, "{}").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "\"ok\""), "{headers}");
    }
    let folder = site.stop().await;
    let overrides: Vec<Override> = vec!["http.listen=0.0.0.0:0".parse().unwrap()];
    let options = Options { config: folder.path().join("ladekern.toml"), overrides, ..Options::default() };
    let app = App::start(&options).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], app.address().port()));
    let answer = http::post(address, "/cnf?cmd=set_ajax_meter&dev_id=M1", "{}").await.unwrap();
    assert!(answer.status == 401 && answer.body.contains("ladekern password"), "{}", answer.body);
    assert_eq!(http::get(address, "/cnf?cmd=get_dev_info").await.unwrap().status, 200);
    app.stop().await;
}

/// Cards are not guessed through either, and the admin is not held up by whoever tries.
#[tokio::test]
async fn b24_guessing_cards_is_throttled() {
    let site = protected().await;
    let path = |card: u32| format!("/cnf?cmd=enter_rfid&dev_id=E1&rfid={card}");
    assert_eq!(send(&site, "GET", &path(4711), "", "").await.status, 200);
    let mut seen = Vec::new();
    for card in 0..200 {
        let answer = send(&site, "GET", &path(card), "", "").await;
        seen.push(answer.status);
        if answer.status == 429 {
            assert!(answer.head.to_ascii_lowercase().contains("retry-after: "), "{}", answer.head);
            break;
        }
    }
    assert_eq!(seen[..20], [403; 20]);
    assert_eq!(seen.last(), Some(&429));
    assert_eq!(send(&site, "GET", "/ui/en/sim.htm", RIGHT, "").await.status, 200);
    site.stop().await;
}

/// What was charged is read by the admin, as JSON and for a spreadsheet.
#[tokio::test]
async fn transactions_are_read_over_http() {
    let name = "=1+1,\"x\"";
    let site = Site::start(&SITE.replace("id = \"E1\"\ntype", &format!("id = \"E1\"\nname = '{name}'\ntype"))).await;
    let list = async |query: &str| http::get(site.http(), &format!("/api/transactions{query}")).await.unwrap();
    for transaction in 1..=2 {
        for (state, energy) in [(1, 1000), (2, 1000), (2, 1500), (1, 1500)] {
            let message = format!("{{\"state\":{state},\"total_energy\":{}}}", energy + transaction * 1000);
            assert_eq!(site.post("cmd=set_ajax_evse&dev_id=E1", &message).await.status, 200);
            // Each message has to be seen: of measurements only the newest counts.
            let seen = |all: &serde_json::Value| {
                let all = all.as_array().unwrap();
                match (state, energy) {
                    (1, 1000) => true,
                    (2, _) => all.len() == transaction,
                    _ => all.iter().filter(|one| one["end"].is_string()).count() == transaction,
                }
            };
            until(&message, async || list("").await.json(), seen).await;
        }
    }
    let all = list("").await.json();
    assert_eq!((&all[0]["id"], &all[1]["id"], &all[2]), (&json!(1), &json!(2), &json!(null)), "{all}");
    assert_eq!((&all[0]["dev_id"], &all[0]["name"]), (&json!("E1"), &json!(name)), "{all}");
    assert_eq!(list("?after=1").await.json().as_array().unwrap().len(), 1);
    assert_eq!(list("?limit=1").await.json()[0]["id"], 1);
    assert_eq!(list("?to=2020-01-01").await.json(), json!([]));
    assert_eq!(list("?from=2020-01-01T00:00:00%2B01:00&dev_id=E1").await.json(), all);
    let csv = list("?format=csv").await;
    let lines: Vec<&str> = csv.body.trim_end().split("\r\n").collect();
    assert_eq!(lines.len(), 3, "{}", csv.body);
    assert!(lines[1].starts_with("1,E1,\"'=1+1,\"\"x\"\"\",20"), "{}", lines[1]);
    site.stop().await;
}

/// What `ladekern password` prints is what the file takes.
#[tokio::test]
async fn the_program_makes_the_line_for_a_password() {
    let mut program = tokio::process::Command::new(ladekern_tests::daemon::program());
    let mut child = program.arg("password").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"geheim\n").await.unwrap();
    let output = tokio::time::timeout(ladekern_tests::SOON, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(!lines.contains("geheim"), "{lines}");
    let site = Site::start(&format!("{lines}{SITE}")).await;
    for (headers, status) in [(WRONG, 401), (RIGHT, 200)] {
        assert_eq!(send(&site, "GET", "/ui/en/sim.htm", headers, "").await.status, status, "{headers}");
    }
    site.stop().await;
}
