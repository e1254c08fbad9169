//! Control over `ctl` with a clock that is advanced by hand and wallboxes that remember what they were told.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::config;
use crate::site::{Clock, CommandError};

const SITE: &str = "[mqtt]\nbroker = \"mqtt://127.0.0.1\"\ncontrol = true\nctl_timeout_s = 60\n\
    [load]\nmode = \"observe\"\n\
    [[circuit]]\nid = \"main\"\nlimit_ma = [63000, 63000, 63000]\n\
    [[device]]\nid = \"E1\"\ntype = \"http-input\"\n\
    [[device]]\nid = \"E2\"\ntype = \"http-input\"\nmax_ma = 20000\n\
    [[device]]\nid = \"M1\"\ntype = \"http-input\"\n";

/// What a wallbox does with its next command.
#[derive(Clone, Copy)]
enum Mood {
    Hangs,
    NotYet(Duration),
    Cannot,
}

#[derive(Default)]
struct Boxes {
    told: Mutex<Vec<(String, Command)>>,
    moods: Mutex<BTreeMap<&'static str, Vec<Mood>>>,
}

impl Commands for Boxes {
    fn command<'a>(
        &'a self,
        device: &'a DeviceId,
        command: Command,
    ) -> Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send + 'a>> {
        Box::pin(async move {
            let mood = self.moods.lock().unwrap().get_mut(device.as_str()).and_then(Vec::pop);
            match mood {
                Some(Mood::Hangs) => std::future::pending().await,
                Some(Mood::NotYet(wait)) => return Err(CommandError::NotYet(wait)),
                Some(Mood::Cannot) => return Err(CommandError::Unsupported("no such contactor".into())),
                None => {}
            }
            self.told.lock().unwrap().push((device.to_string(), command));
            Ok(())
        })
    }
}

struct Site {
    boxes: Arc<Boxes>,
    config: watch::Sender<Arc<Config>>,
    ctl: Ctl,
    messages: mpsc::Sender<Message>,
    clock: Clock,
}

fn site(changes: &[&str]) -> Arc<Config> {
    let overrides: Vec<config::Override> = changes.iter().map(|change| change.parse().unwrap()).collect();
    Arc::new(config::parse("test", SITE, &overrides).unwrap())
}

impl Site {
    fn start(changes: &[&str]) -> Self {
        let boxes = Arc::new(Boxes::default());
        let (config, receiver) = watch::channel(site(changes));
        let (ctl, messages) = spawn(boxes.clone(), receiver);
        Self { boxes, config, ctl, messages, clock: Clock::start() }
    }

    async fn message(&self, text: &str, retained: bool) {
        let message = Message {
            endpoint: "ctl".into(),
            topic: "cfos_mqtt/ctl".into(),
            payload: text.to_owned().into(),
            retained,
            at: self.clock.now(),
            reply_to: None,
        };
        self.messages.send(message).await.unwrap();
        settle().await;
    }

    async fn say(&self, text: &str) {
        self.message(text, false).await;
    }

    /// What the wallboxes were told since the last question.
    fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.boxes.told.lock().unwrap());
        told.iter().map(|(id, command)| format!("{id} {command:?}")).collect()
    }

    async fn reconfigure(&self, changes: &[&str]) {
        self.config.send_replace(site(changes));
        settle().await;
    }
}

/// Lets every task run until it waits; takes a millisecond of the paused clock.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a6_each_wallbox_is_told_in_order() {
    let site = Site::start(&[]);
    site.say("{\"E1\": {cur: 8000, ena: true, wke: true}, \"E2\": {cur: 10000, phs: 3}}").await;
    let told = site.told();
    let of = |id: &str| told.iter().filter(|line| line.starts_with(id)).cloned().collect::<Vec<_>>();
    assert_eq!(of("E1"), ["E1 Current(8000)", "E1 Enable(true)", "E1 WakeUp"]);
    assert_eq!(of("E2"), ["E2 Phases(3)", "E2 Current(10000)"]);
}

#[tokio::test(start_paused = true)]
async fn a6_in_load_management_nothing_is_done() {
    let site = Site::start(&["load.mode=manage"]);
    site.say("{E1: {cur: 8000}}").await;
    pass(120).await;
    assert!(site.told().is_empty(), "neither the message nor its silence");
    site.reconfigure(&[]).await;
    site.say("{E1: {cur: 8000}}").await;
    assert_eq!(site.told(), ["E1 Current(8000)"]);
}

#[tokio::test(start_paused = true)]
async fn b9_a_message_with_one_mistake_changes_nothing_at_all() {
    let site = Site::start(&[]);
    for text in ["{E1: {cur: 8000}, E2: {cur: -1}}", "{E1: {cur: 8000}, M1: {cur: 8000}}", "{E1: {cur: 8000}", ""] {
        site.say(text).await;
        assert!(site.told().is_empty(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn b10_currents_that_no_wallbox_knows() {
    let site = Site::start(&[]);
    site.say("{E1: {cur: 3000}, E2: {cur: 99999}}").await;
    let mut told = site.told();
    told.sort();
    assert_eq!(told, ["E1 Current(0)", "E2 Current(20000)"]);
}

#[tokio::test(start_paused = true)]
async fn b5_a_retained_message_is_ignored() {
    let site = Site::start(&[]);
    site.message("{E1: {cur: 8000}}", true).await;
    pass(120).await;
    assert!(site.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn b6_the_same_message_within_the_window_counts_once() {
    let site = Site::start(&[]);
    site.say("{E1: {cur: 8000}}").await;
    site.say("{E1: {cur: 8000}}").await;
    assert_eq!(site.told(), ["E1 Current(8000)"]);
    site.say("{E1: {cur: 9000}}").await;
    assert_eq!(site.told(), ["E1 Current(9000)"], "another message is another one");
    pass(1).await;
    site.say("{E1: {cur: 9000}}").await;
    assert_eq!(site.told(), ["E1 Current(9000)"], "the window is over");
}

#[tokio::test(start_paused = true)]
async fn b11_silence_ends_control_once_and_for_what_was_controlled() {
    for (policy, left_at) in [("0", "E2 Current(0)"), ("1", "E2 Current(6000)"), ("-1", "E2 Current(20000)")] {
        let site = Site::start(&[&format!("load.disable_policy={policy}")]);
        pass(120).await;
        assert!(site.told().is_empty(), "nobody controls before the first message");
        site.say("{E2: {cur: 10000}}").await;
        pass(40).await;
        site.say("{}").await;
        pass(40).await;
        assert_eq!(site.told(), ["E2 Current(10000)"], "a message without a wish is a sign of life");
        pass(21).await;
        assert_eq!(site.told(), [left_at]);
        pass(300).await;
        assert!(site.told().is_empty(), "once");
        site.say("{E2: {cur: 12000}}").await;
        assert_eq!(site.told(), ["E2 Current(12000)"], "the next message takes control again");
        pass(61).await;
        assert_eq!(site.told(), [left_at]);
    }
}

#[tokio::test(start_paused = true)]
async fn b11_what_is_wrong_or_retained_is_no_sign_of_life() {
    let site = Site::start(&[]);
    site.say("{E1: {cur: 8000}}").await;
    pass(50).await;
    site.say("{E1: {cur: -8000}}").await;
    site.message("{E1: {cur: 9000}}", true).await;
    pass(11).await;
    assert_eq!(site.told(), ["E1 Current(8000)", "E1 Current(6000)"]);
}

#[tokio::test(start_paused = true)]
async fn b11_a_timeout_of_zero_is_never() {
    let site = Site::start(&["mqtt.ctl_timeout_s=0"]);
    site.say("{E1: {cur: 8000}}").await;
    pass(100_000).await;
    assert_eq!(site.told(), ["E1 Current(8000)"]);
}

#[tokio::test(start_paused = true)]
async fn b11_switching_control_off_and_stopping_end_it_with_the_policy() {
    let mut site = Site::start(&["load.disable_policy=0"]);
    site.say("{E1: {cur: 8000}}").await;
    site.reconfigure(&["load.disable_policy=0", "mqtt.control=false"]).await;
    assert_eq!(site.told(), ["E1 Current(8000)", "E1 Current(0)"]);
    site.reconfigure(&["load.disable_policy=0"]).await;
    site.say("{E2: {cur: 9000}}").await;
    site.ctl.end().await;
    assert_eq!(site.told(), ["E2 Current(9000)", "E2 Current(0)"], "E1 is not ours any more");
}

#[tokio::test(start_paused = true)]
async fn b11_when_the_load_manager_takes_over_nothing_is_raised() {
    for (policy, told) in
        [("0", vec!["E1 Current(0)", "E2 Current(0)"]), ("1", vec!["E1 Current(6000)"]), ("-1", vec![])]
    {
        let policy = format!("load.disable_policy={policy}");
        let site = Site::start(&[&policy]);
        site.say("{E1: {cur: 8000}, E2: {cur: 6000}}").await;
        site.told();
        site.reconfigure(&[&policy, "load.mode=manage"]).await;
        let mut now = site.told();
        now.sort();
        assert_eq!(now, told, "{policy}");
        pass(120).await;
        assert!(site.told().is_empty(), "and that was the last word");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wallbox_that_hangs_holds_up_nobody() {
    let site = Site::start(&[]);
    site.boxes.moods.lock().unwrap().insert("E1", vec![Mood::Hangs]);
    site.say("{E1: {cur: 8000}, E2: {cur: 9000}}").await;
    assert_eq!(site.told(), ["E2 Current(9000)"]);
    for ma in [10_000, 11_000, 12_000] {
        site.say(&format!("{{E1: {{cur: {ma}}}, E2: {{cur: {ma}}}}}")).await;
    }
    assert_eq!(site.told(), ["E2 Current(10000)", "E2 Current(11000)", "E2 Current(12000)"]);
    pass(11).await;
    assert_eq!(site.told(), ["E1 Current(12000)"], "of what waited only the newest");
}

#[tokio::test(start_paused = true)]
async fn b11_the_end_does_not_wait_for_a_wallbox_that_hangs() {
    let mut site = Site::start(&[]);
    site.boxes.moods.lock().unwrap().insert("E1", vec![Mood::Hangs, Mood::Hangs]);
    site.say("{E1: {cur: 8000}, E2: {cur: 9000}}").await;
    let before = tokio::time::Instant::now();
    site.ctl.end().await;
    assert!(before.elapsed() <= Duration::from_secs(4));
    assert_eq!(site.told(), ["E2 Current(9000)", "E2 Current(6000)"]);
}

#[tokio::test(start_paused = true)]
async fn what_one_command_cannot_do_does_not_keep_the_others() {
    let site = Site::start(&[]);
    site.boxes.moods.lock().unwrap().insert("E2", vec![Mood::Cannot]);
    site.say("{E2: {cur: 10000, phs: 3}}").await;
    assert_eq!(site.told(), ["E2 Current(10000)"]);
}

#[tokio::test(start_paused = true)]
async fn a_raise_that_comes_too_soon_is_tried_again_unless_it_is_outdated() {
    let site = Site::start(&[]);
    let wait = Mood::NotYet(Duration::from_secs(3));
    site.boxes.moods.lock().unwrap().insert("E1", vec![wait]);
    site.say("{E1: {cur: 8000}}").await;
    assert!(site.told().is_empty());
    pass(3).await;
    assert_eq!(site.told(), ["E1 Current(8000)"]);
    site.boxes.moods.lock().unwrap().insert("E1", vec![wait]);
    site.say("{E1: {cur: 9000}}").await;
    site.say("{E1: {cur: 7000}}").await;
    assert_eq!(site.told(), ["E1 Current(7000)"], "a reduction does not wait behind the raise");
    pass(10).await;
    assert!(site.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_current_waits_for_the_message_that_allows_charging() {
    let site = Site::start(&[]);
    site.say("{E1: {cur: 8000, ena: false}}").await;
    assert_eq!(site.told(), ["E1 Enable(false)"]);
    site.say("{E1: {ena: true}}").await;
    assert_eq!(site.told(), ["E1 Current(8000)", "E1 Enable(true)"]);
    site.say("{E1: {ena: false, cur: 9000}}").await;
    site.say("{E1: {cur: 10000, ena: true}}").await;
    assert_eq!(site.told(), ["E1 Enable(false)", "E1 Current(10000)", "E1 Enable(true)"]);
}
