//! What clients get that send too much, too slowly or nonsense: an answer in JSON, and nobody else notices.

use super::super::body::MAX_BODY;
use super::*;

const METER: &str = "/cnf?cmd=set_ajax_meter&dev_id=M1";

/// Status and `error` of an answer that has to be JSON.
fn error(answer: &Answer) -> (u16, String) {
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    (answer.status, answer.json()["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_body_of_more_than_a_mebibyte_is_refused() {
    let server = Server::start("127.0.0.1:0").await;
    let addr = server.addr;
    let chunked = |body: &str| {
        format!(
            "POST {METER} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    for size in [MAX_BODY + 1, 10 << 20] {
        let body = " ".repeat(size);
        assert_eq!(error(&server.send("POST", METER, "", &body).await).0, 413, "{size}");
        assert_eq!(error(&server.raw(&chunked(&body)).await).0, 413, "{size} in chunks");
    }
    let fits = format!("{{\"power_w\":1}}{}", " ".repeat(MAX_BODY - 13));
    assert_eq!(server.post(METER, &fits).await.body, "\"ok\"");
    assert_eq!(server.raw(&chunked(&fits)).await.status, 200);
    // What is too large is told before it is sent.
    let told = format!("POST {METER} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 10485760\r\n\r\n");
    assert_eq!(error(&server.raw(&told).await).0, 413);
}

#[tokio::test]
async fn what_is_no_http_gets_a_json_error_too() {
    let server = Server::start("127.0.0.1:0").await;
    let x = |n: usize| "x".repeat(n);
    for (request, status) in [
        (format!("GET /cnf?cmd={} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", x(9000)), 414),
        (format!("GET /cnf?cmd={} HTTP/1.1\r\nHost: x\r\n\r\n", x(100_000)), 414),
        (format!("GET /cnf?cmd={} HTTP/1.1\r\nHost: x\r\n\r\n", x(1 << 20)), 414),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: {}\r\n\r\n", x(40_000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", x(1 << 20)), 431),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
        ("GET /\u{0} HTTP/1.1\r\nHost: x\r\n\r\n".into(), 400),
        ("GET / HTTP/7.0\r\nHost: x\r\n\r\n".into(), 400),
        ("\r\n\r\nwhat is this\r\n\r\n".into(), 400),
        ("GET / HTTP/1.1\r\nHost x\r\n\r\n".into(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
        (format!("POST {METER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: x\r\n\r\n"), 400),
        (format!("POST {METER} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400),
    ] {
        let answer = server.raw(&request).await;
        assert_eq!(error(&answer).0, status, "{:.60}: {}", request, answer.head);
    }
    // After a request that was well, on the same connection.
    let both = server.raw("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n").await;
    assert_eq!(both.status, 200);
    assert!(both.body.contains("HTTP/1.1 400 ") && both.body.ends_with("\"}"), "{}", both.body);
}

#[tokio::test]
async fn wrong_text_in_the_address_is_told() {
    let server = Server::start("127.0.0.1:0").await;
    for query in ["cmd=%ff", "cmd=%C3%28", "cmd=get_dev_info&x=%", "%zz=1", "cmd=get_dev_info&cmd=get_params"] {
        assert_eq!(error(&server.get(&format!("/cnf?{query}")).await).0, 400, "{query}");
    }
    let mut bytes = b"GET /cnf?cmd=\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    assert_eq!(error(&server.bytes(&bytes).await).0, 400);
    bytes.truncate(13);
    bytes.extend(b"\xc3\xa4 HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    assert_eq!(error(&server.bytes(&bytes).await).0, 400);
}

#[tokio::test]
async fn other_methods_are_told_which_there_are() {
    let server = Server::start("127.0.0.1:0").await;
    for (method, path, allow) in [
        ("PUT", "/cnf?cmd=get_params", "allow: get, head, post"),
        ("OPTIONS", "/cnf?cmd=get_params", "allow: get, head, post"),
        ("BREW", "/cnf", "allow: get, head, post"),
        ("POST", "/metrics", "allow: get"),
    ] {
        let answer = server.send(method, path, "", "").await;
        assert_eq!(error(&answer).0, 405, "{method} {path}");
        assert!(answer.head.contains(allow), "{method} {path}: {}", answer.head);
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    let head = server.send("HEAD", "/cnf?cmd=get_dev_info", "", "").await;
    let get = server.get("/cnf?cmd=get_dev_info").await;
    let length =
        |answer: &Answer| answer.head.lines().find(|line| line.starts_with("content-length")).unwrap().to_owned();
    assert_eq!((head.status, head.body.as_str(), length(&head)), (200, "", length(&get)));
    // HEAD promises to change nothing.
    let path = "/cnf?cmd=set_ajax_meter&dev_id=M1&power_w=77";
    assert_eq!(server.send("HEAD", path, "", "").await.status, 405);
    assert_ne!(server.device("M1").await["power_w"], 77);
}

#[tokio::test]
async fn ten_thousand_requests_on_one_connection_and_many_at_once() {
    let server = Server::start("127.0.0.1:0").await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let all = async {
        let mut answers = 0;
        let mut room = vec![0; 64 << 10];
        let mut tail = Vec::new();
        for _ in 0..500 {
            // Twenty at once, without waiting for the answers in between.
            stream.write_all(&one.repeat(20)).await.unwrap();
            let wanted = answers + 20;
            while answers < wanted {
                let read = stream.read(&mut room).await.unwrap();
                assert_ne!(read, 0, "closed after {answers}");
                tail.extend_from_slice(&room[..read]);
                let end = b"{\"status\":\"ok\"}";
                while let Some(at) = tail.windows(end.len()).position(|window| window == end) {
                    answers += 1;
                    tail.drain(..at + end.len());
                }
            }
        }
        answers
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(120), all).await.unwrap(), 10_000);
}

#[tokio::test]
async fn who_sends_too_slowly_is_told_and_others_do_not_notice() {
    let server = Server::start("127.0.0.1:0").await;
    // Three clients: one stops in the head, one in the body, one before the first byte.
    let slow = async |text: String| {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    };
    let addr = server.addr;
    let clients = [
        slow("GET / HTTP/1.1\r\nHost: x\r\n".into()).await,
        slow(format!("POST {METER} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 20\r\n\r\n{{\"power_w\":7")).await,
        slow(String::new()).await,
    ];
    let began = std::time::Instant::now();
    assert_eq!(server.post(METER, r#"{"power_w":8}"#).await.body, "\"ok\"");
    assert!(began.elapsed() < Duration::from_secs(9), "others had to wait");
    for mut client in clients {
        let mut text = String::new();
        // A byte now and then does not help.
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if client.write_all(b" ").await.is_err() {
                    std::future::pending::<()>().await;
                }
                let mut room = [0; 1024];
                if let Ok(read) = client.try_read(&mut room) {
                    text = String::from_utf8_lossy(&room[..read]).into_owned();
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), drip).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("{\"error\":"), "{text}");
    }
    assert_eq!(server.device("M1").await["power_w"], 8, "half a message is none");
}

#[tokio::test]
async fn a_client_that_never_reads_is_left() {
    let server = Server::start("127.0.0.1:0").await;
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let one = b"GET /cnf?cmd=get_dev_info HTTP/1.1\r\nHost: x\r\n\r\n";
    let ended = async {
        // Until the server has closed the connection, which it does when its own buffers have long been full.
        loop {
            match stream.try_write(one) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(_) => break,
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    };
    let others = async {
        for _ in 0..20 {
            assert_eq!(server.get("/healthz").await.status, 200);
        }
    };
    tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(ended, others) }).await.unwrap();
}

#[tokio::test]
async fn a_new_client_finds_room_however_many_there_are() {
    let server = Server::start("127.0.0.1:0").await;
    let mut all = Vec::new();
    for _ in 0..super::super::server::MAX_CONNECTIONS + 20 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"GET /").await.unwrap();
        all.push(stream);
    }
    assert_eq!(server.get("/healthz").await.status, 200);
}

/// Slow clients and large bodies, as many as fit: the load manager goes on deciding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_does_not_hold_up_control() {
    let server = Server::start_with(&format!("{SITE}\n[load]\ncycle_ms = 100\n"), "127.0.0.1:0").await;
    let addr = server.addr;
    let mut slow = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let text = if n % 2 == 0 {
            "GET / HTTP/1.1\r\nX: ".to_owned()
        } else {
            format!("POST {METER} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 1000000\r\n\r\n{{")
        };
        stream.write_all(text.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let stop = std::sync::Arc::clone(&stop);
        flood.spawn(async move {
            let body = format!("[{}1]", "1,".repeat(400_000));
            let head = format!(
                "POST {METER} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut answered = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut stream = TcpStream::connect(addr).await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
                answered += 1;
            }
            answered
        });
    }
    let mut plan = server.site.api.source.plan.clone();
    let mut last = plan.borrow_and_update().plan.at;
    for _ in 0..30 {
        tokio::time::timeout(Duration::from_secs(5), plan.changed()).await.unwrap().unwrap();
        let at = plan.borrow_and_update().plan.at;
        // The host's own clock: a cycle late is a cycle late, however busy this test's machine is.
        assert!(at.since(last) <= Duration::from_secs(2), "{last:?} → {at:?}");
        last = at;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let answered: usize = flood.join_all().await.into_iter().sum();
    assert!(answered > 0);
    drop(slow);
}
