//! Who gets in: passwords, TLS, other people's pages.

use std::sync::Arc;

use base64::Engine as _;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use super::*;

const METER: &str = "/cnf?cmd=set_ajax_meter&dev_id=M1";

fn with_password(password: &str) -> String {
    let hash = crate::password::quick(password);
    format!("[http]\nadmin_password_hash = \"{}\"\n{SITE}", hash.0)
}

fn login(login: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(login))
}

#[tokio::test]
async fn without_a_password_only_a_loopback_listener_takes_writes() {
    let server = Server::start("0.0.0.0:0").await;
    let answer = server.post(METER, "{}").await;
    assert_eq!(answer.status, 401);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("ladekern password") && error.contains("http.admin_password_hash"), "{error}");
    assert_eq!(server.get("/cnf?cmd=get_dev_info").await.status, 200);
    let server = Server::start("127.0.0.1:0").await;
    assert_eq!(server.post(METER, "{}").await.status, 200);
    assert_eq!(server.send("POST", METER, &login("admin:anything"), "{}").await.status, 200);
}

#[tokio::test]
async fn with_a_password_only_who_knows_it_gets_in() {
    let server = Server::start_with(&with_password("geheim"), "127.0.0.1:0").await;
    for (headers, status) in [
        (String::new(), 401),
        (login("admin:falsch"), 401),
        (login("root:geheim"), 401),
        ("Authorization: Bearer geheim\r\n".into(), 401),
        (login("admin:geheim"), 200),
    ] {
        for path in [METER, "/ui/en/sim.htm", "/api/transactions", "/api/brokers", "/metrics"] {
            let method = if path == METER { "POST" } else { "GET" };
            // Few enough of them not to be slowed down.
            if path != METER && status == 401 && !headers.is_empty() {
                continue;
            }
            let answer = server.send(method, path, &headers, "{}").await;
            assert_eq!(answer.status, status, "{path} {headers}: {}", answer.body);
            assert_eq!(answer.head.contains("www-authenticate: basic realm="), status == 401, "{}", answer.head);
        }
    }
    // Who only reads goes on with an old password.
    assert_eq!(server.send("GET", "/cnf?cmd=get_dev_info", &login("admin:falsch"), "").await.status, 200);
    for path in ["/", "/healthz"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_down_and_reading_is_not() {
    let server = Server::start_with(&with_password("geheim"), "127.0.0.1:0").await;
    for _ in 0..5 {
        assert_eq!(server.send("GET", "/ui/en/sim.htm", &login("admin:falsch"), "").await.status, 401);
    }
    // The machine may be so slow that the first second has passed.
    let throttled = async {
        loop {
            let answer = server.send("GET", "/ui/en/sim.htm", &login("admin:falsch"), "").await;
            if answer.status == 429 {
                return answer;
            }
            assert_eq!(answer.status, 401);
        }
    };
    let answer = tokio::time::timeout(SOON, throttled).await.unwrap();
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    assert!(answer.json()["error"].as_str().unwrap().contains("too many"));
    assert_eq!(server.send("GET", "/cnf?cmd=get_dev_info", &login("admin:falsch"), "").await.status, 200);
    // Forgiven after a while.
    let again = async {
        while server.send("GET", "/ui/en/sim.htm", &login("admin:geheim"), "").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
}

#[tokio::test]
async fn a_new_password_counts_at_once() {
    let server = Server::start_with(&with_password("alt"), "127.0.0.1:0").await;
    assert_eq!(server.send("POST", METER, &login("admin:alt"), "{}").await.status, 200);
    std::fs::write(server.site.file(), with_password("neu")).unwrap();
    let changed = async {
        while server.send("POST", METER, &login("admin:alt"), "{}").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, changed).await.unwrap();
    assert_eq!(server.send("POST", METER, &login("admin:neu"), "{}").await.status, 200);
}

#[tokio::test]
async fn other_web_pages_neither_write_nor_read_what_is_the_admins() {
    let with = Server::start_with(&with_password("geheim"), "127.0.0.1:0").await;
    let without = Server::start("127.0.0.1:0").await;
    let writes = ["/cnf?cmd=set_ajax_meter&dev_id=M1&power_w=66", "/cnf?cmd=enter_rfid&rfid=1&dev_id=E1"];
    for (server, credentials) in [(&with, login("admin:geheim")), (&without, String::new())] {
        for header in [
            "Origin: http://evil.example\r\n",
            "Origin: null\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
        ] {
            for path in writes.into_iter().chain(["/ui/en/sim.htm", "/api/transactions", "/api/brokers", "/metrics"]) {
                let answer = server.send("GET", path, &format!("{header}{credentials}"), "").await;
                assert_eq!(answer.status, 403, "{header}{path}: {}", answer.body);
                assert!(answer.json()["error"].as_str().unwrap().contains("other web pages"));
            }
        }
        assert_ne!(server.device("M1").await["power_w"], 66);
        let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n{credentials}", server.addr);
        assert_eq!(server.send("POST", METER, &own, "{}").await.status, 200);
        let typed = format!("Sec-Fetch-Site: none\r\n{credentials}");
        assert_eq!(server.send("GET", writes[0], &typed, "").await.status, 200);
    }
}

#[tokio::test]
async fn a_foreign_name_for_this_address_is_not_taken_without_a_password() {
    let server = Server::start("127.0.0.1:0").await;
    let ask = async |path: &str, host: &str| {
        server.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await.status
    };
    let write = format!("{METER}&power_w=1");
    for host in ["evil.example", "evil.example:4712", "127.0.0.1.nip.io"] {
        assert_eq!((ask(&write, host).await, ask("/cnf?cmd=get_dev_info", host).await), (403, 200), "{host}");
    }
    for host in ["localhost", "127.0.0.1", "[::1]:4712"] {
        assert_eq!(ask(&write, host).await, 200, "{host}");
    }
}

async fn over_tls(server: &Server, cert: CertificateDer<'static>, name: &str, request: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_string(&mut text)).await.unwrap();
    text
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn plain_and_tls_share_one_port_and_the_certificate_stays() {
    let server = Server::start("127.0.0.1:0").await;
    let file = server.site.file().with_file_name("state").join("http-cert.pem");
    let cert = CertificateDer::from_pem_file(&file).unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    for name in ["localhost", "127.0.0.1"] {
        let text = over_tls(&server, cert.clone(), name, HEALTH).await;
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("{\"status\":\"ok\"}"), "{text}");
    }
    let refused = over_tls(&server, cert.clone(), "localhost", "nonsense\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("{\"error\":"), "{refused}");
    let site = server.site.restart().await;
    let server = Server { addr: site.http(), site };
    let text = over_tls(&server, cert, "localhost", HEALTH).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[tokio::test]
async fn an_endless_handshake_holds_up_nobody() {
    let server = Server::start("127.0.0.1:0").await;
    let mut stuck = TcpStream::connect(server.addr).await.unwrap();
    stuck.write_all(&[0x16, 3, 1]).await.unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    let mut text = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(60), stuck.read_to_end(&mut text)).await;
    assert!(closed.is_ok(), "the connection is still open");
}

#[tokio::test]
async fn a_certificate_of_ones_own_is_served_and_a_bad_one_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["charger.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
    let text = |key: &str| {
        format!("[http]\ntls_cert = \"{0}/cert.pem\"\ntls_key = \"{0}/{key}\"\n{SITE}", folder.path().display())
    };
    let server = Server::start_with(&text("key.pem"), "127.0.0.1:0").await;
    let answer = over_tls(&server, cert.der().clone(), "charger.example", HEALTH).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    std::fs::write(folder.path().join("ladekern.toml"), text("none.pem")).unwrap();
    let options = crate::app::Options { config: folder.path().join("ladekern.toml"), ..Default::default() };
    let overrides = vec!["http.listen=127.0.0.1:0".parse().unwrap()];
    let options = crate::app::Options { overrides, ..options };
    let Err(error) = crate::app::App::start(&options).await else { panic!("it starts") };
    let errors: crate::config::ConfigErrors = error.downcast().unwrap();
    let text = errors.to_string();
    for part in ["http.tls_cert", "cert.pem", "http.tls_key", "none.pem"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let report = crate::app::check(&options).await.unwrap();
    assert!(report.errors.iter().any(|line| line.contains("none.pem")), "{:?}", report.errors);
}
