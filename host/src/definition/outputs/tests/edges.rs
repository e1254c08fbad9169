//! What goes wrong on the way: targets that hang or refuse, definitions that change, devices that fall silent.

use super::*;

/// A device whose outputs all go to the manager.
fn local(outputs: &str) -> Rig {
    Rig::new(&device("M1", "relay", "192.0.2.1"), &[("relay", outputs)])
}

impl Rig {
    fn hang(&self, hang: bool) {
        self.manager.hang.send_replace(hang);
    }

    async fn silent(&mut self) {
        self.settle().await;
        assert_eq!(self.calls.try_recv().ok(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_target_that_hangs_the_newest_state_wins() {
    let mut rig = local(
        r#""outputs":[{"address":"http://localhost/cnf?cmd=a&w=${power_w}"},
           {"address":"http://localhost/cnf?cmd=b&w=${power_w}"}]"#,
    );
    rig.hang(true);
    for watts in 1..=5 {
        rig.measured(f64::from(watts));
        rig.settle().await;
    }
    assert_eq!(next(&mut rig.calls).await, "cmd=a&w=1");
    rig.silent().await;
    rig.hang(false);
    assert_eq!(next(&mut rig.calls).await, "cmd=b&w=5", "never what is no longer true");
    assert_eq!(next(&mut rig.calls).await, "cmd=a&w=5");
    rig.silent().await;
}

const SWITCH: &str =
    r#""outputs":[{"address":"http://localhost/cnf?cmd=on"}],"resets":[{"address":"http://localhost/cnf?cmd=off"}]"#;

/// Each of the two ways in which a request under way comes to its end.
async fn ends_before_the_next(rig: &mut Rig, answered: bool, following: &str) {
    let begin = Instant::now();
    rig.silent().await;
    if answered {
        rig.hang(false);
        assert_eq!(next(&mut rig.calls).await, following);
        assert!(begin.elapsed() < Duration::from_millis(100), "{:?}", begin.elapsed());
    } else {
        assert_eq!(next(&mut rig.calls).await, following);
        assert!((900..1_100).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_is_swapped_lets_a_request_under_way_end() {
    for answered in [true, false] {
        let mut rig = local(SWITCH);
        rig.hang(true);
        rig.cycle();
        assert_eq!(next(&mut rig.calls).await, "cmd=on");
        let other = r#""outputs":[{"address":"http://localhost/cnf?cmd=other"}]"#;
        rig.files.lock().unwrap().insert("relay".into(), file("relay", other));
        rig.cycle();
        ends_before_the_next(&mut rig, answered, "cmd=other").await;
        rig.hang(false);
        rig.cycle();
        rig.silent().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_does_not_arrive_before_the_request_under_way() {
    for answered in [true, false] {
        let mut rig = local(SWITCH);
        rig.hang(true);
        rig.cycle();
        assert_eq!(next(&mut rig.calls).await, "cmd=on");
        rig.config.send_replace(config(&format!("{}enabled = false\n", device("M1", "relay", "192.0.2.1"))));
        ends_before_the_next(&mut rig, answered, "cmd=off").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_definition_without_outputs_and_one_that_is_gone_reset_the_device() {
    for gone in [true, false] {
        let mut rig = local(SWITCH);
        rig.cycle();
        assert_eq!(next(&mut rig.calls).await, "cmd=on");
        rig.settle().await;
        let files = Arc::clone(&rig.files);
        files.lock().unwrap().remove("relay");
        if !gone {
            files.lock().unwrap().insert("relay".into(), file("relay", r#""ui_addr":"http://192.0.2.1""#));
        }
        rig.cycle();
        assert_eq!(next(&mut rig.calls).await, "cmd=off");
    }
}

#[tokio::test(start_paused = true)]
async fn resets_that_hang_share_their_time() {
    let resets = r#""resets":[{"address":"http://localhost/cnf?cmd=1"},{"address":"http://localhost/cnf?cmd=2"},
        {"address":"http://localhost/cnf?cmd=${missing}"}]"#;
    let mut rig = local(resets);
    rig.cycle();
    rig.silent().await;
    rig.hang(true);
    let begin = Instant::now();
    rig.outputs.shutdown().await;
    assert_eq!((next(&mut rig.calls).await, next(&mut rig.calls).await), ("cmd=1".into(), "cmd=2".into()));
    assert!((4_900..5_100).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert_eq!(rig.failures.count(&"M1".parse().unwrap()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_device_gets_what_does_not_need_its_values() {
    let mut rig = local(
        r##""outputs":[{"address":"#30#http://localhost/cnf?cmd=own&w=${power_w}"},
           {"address":"#30#http://localhost/cnf?cmd=other"}]"##,
    );
    rig.measured(7.0);
    for expected in ["cmd=own&w=7", "cmd=other"] {
        assert_eq!(next(&mut rig.calls).await, expected);
    }
    rig.devices[0].update(|status| {
        status.health = Health::Quarantined("5 faults".into());
        status.stale_after = Duration::from_secs(10);
    });
    tokio::time::advance(Duration::from_secs(31)).await;
    rig.cycle();
    assert_eq!(next(&mut rig.calls).await, "cmd=other");
    rig.silent().await;
    rig.measured(7.0);
    assert_eq!(next(&mut rig.calls).await, "cmd=own&w=7", "the device may have forgotten it");
    rig.silent().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_repeated_counts_from_what_arrived_last() {
    let mut rig = local(r##""outputs":[{"address":"#30#http://localhost/cnf?cmd=a&w=${power_w}"}]"##);
    rig.measured(1.0);
    assert_eq!(next(&mut rig.calls).await, "cmd=a&w=1");
    tokio::time::advance(Duration::from_secs(20)).await;
    rig.measured(2.0);
    assert_eq!(next(&mut rig.calls).await, "cmd=a&w=2");
    tokio::time::advance(Duration::from_secs(20)).await;
    rig.measured(2.0);
    rig.silent().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    *rig.manager.refuse.lock().unwrap() = true;
    for _ in 0..2 {
        rig.measured(2.0);
        assert_eq!(next(&mut rig.calls).await, "cmd=a&w=2", "a repetition that fails is tried in each cycle");
        rig.settle().await;
    }
    *rig.manager.refuse.lock().unwrap() = false;
    rig.measured(2.0);
    assert_eq!(next(&mut rig.calls).await, "cmd=a&w=2");
    rig.measured(2.0);
    rig.silent().await;
}

#[tokio::test(start_paused = true)]
async fn all_outputs_a_definition_may_have_go_in_their_order() {
    let each = |n: usize| format!(r#"{{"address":"http://localhost/cnf?cmd={n}&w=${{power_w}}"}}"#);
    let list = (0..32).map(each).collect::<Vec<_>>().join(",");
    let mut rig = local(&format!(r#""outputs":[{list}]"#));
    for watts in 1..=2 {
        rig.measured(f64::from(watts));
        for n in 0..32 {
            assert_eq!(next(&mut rig.calls).await, format!("cmd={n}&w={watts}"));
        }
        rig.silent().await;
    }
}

/// What the log says.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An hour of failures is three lines in the log, and none holds a secret.
#[tokio::test(start_paused = true)]
async fn a_failure_is_told_once_and_again_when_it_works() {
    // With one subscriber alone, tracing decides about a line for the thread that meets it first, which may be that of
    // another test, where nobody listens.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut rig = local(
        r#""outputs":[{"address":"http://localhost/cnf?cmd=set&pwd=geheim&w=${power_w}","body":"topsecret"},
           {"address":"${if power_w > 0`geheim`${missing}}"}]"#,
    );
    *rig.manager.refuse.lock().unwrap() = true;
    for second in 0..3_600_u32 {
        // Each of the two goes wrong in ever new ways; now and then the second one has nothing to say.
        rig.measured(f64::from(second % 5));
        next(&mut rig.calls).await;
        rig.settle().await;
    }
    assert_eq!(rig.failed("M1"), Some(3_600));
    *rig.manager.refuse.lock().unwrap() = false;
    rig.cycle();
    next(&mut rig.calls).await;
    rig.settle().await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let [failed, no_request, again] = log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    for part in ["WARN", "device=M1", "outputs[0]", "http://localhost/cnf?cmd=set:", "not now"] {
        assert!(failed.contains(part) || no_request.contains(part), "{part} in {log}");
    }
    assert!(log.contains("outputs[1].address: its values make no request: expected a path"), "{log}");
    assert!(again.contains("INFO") && again.contains("sent again after 3600 failures"), "{again}");
    assert!(!log.contains("geheim") && !log.contains("topsecret"), "{log}");
}

#[test]
fn addresses_are_shown_without_what_may_be_a_secret() {
    for (address, expected) in [
        ("/relay/0?turn=on&key=geheim", "GET /relay/0"),
        ("PUT /api/0123456789abcdef0123/lights/1", "PUT /api/…/lights/1"),
        ("http://me:geheim@192.0.2.1:8080/x?pw=geheim#geheim", "GET http://192.0.2.1:8080/x"),
        ("POST http://192.0.2.1/bot123456:geheim-geheim/send", "POST http://192.0.2.1/…/send"),
        ("http://me:geheim@[/", "GET of a URL"),
        ("http://localhost/cnf?cmd=change_admin_pwd&new_pwd=geheim", "http://localhost/cnf?cmd=change_admin_pwd"),
        ("http://localhost/cnf?new_pwd=geheim%", "http://localhost/cnf?cmd="),
    ] {
        let output = Output { address: address.into(), body: None };
        let transport = ladekern_definition::Transport::Http;
        let template = OutputTemplate::parse(&output, &transport).unwrap_or_else(|error| panic!("{address}: {error}"));
        let own = Own { address: "", id: "" };
        let look = World::alone(Config::clone(&config("")), Clock::start()).look();
        let request = template.request(&look.scope(None), own).unwrap().unwrap();
        assert_eq!(send::shown(&request), expected, "{address}");
    }
}
