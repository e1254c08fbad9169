//! Authorisation, cards and overrides.

use super::super::{OverrideChange, Overrides};
use super::*;
use crate::site::Forbidden;

const B: Option<Connector> = Some(Connector::Connected);
const A: Option<Connector> = Some(Connector::Available);

const USERS: &str = r#"
[[user]]
id = "1111"
name = "Ann"
devices = ["E1", "E2"]
[[user.card]]
id = "04AB"
[[user.card]]
id = "0FF0"
authorises = false
toggles = true
[[user.card]]
id = "3333"
phases = 3
[[user]]
id = "2222"
name = "Bob"
devices = ["E1"]
"#;

fn forbidden(bench: &Bench, device: &str) -> Option<Forbidden> {
    bench.restriction(device).and_then(|restriction| restriction.forbidden)
}

#[test]
fn h5_a_wallbox_with_users_waits_for_a_card_until_the_car_is_gone() {
    let mut bench = Bench::new(USERS);
    bench.say("E1", B, &[]);
    assert!(bench.session("E1").needs_auth);
    assert_eq!(forbidden(&bench, "E1"), Some(Forbidden::NeedsAuthorisation));
    let error = bench.card("9999", Some("E1")).unwrap_err();
    assert!(error.contains("E1") && error.contains("no user") && !error.contains("9999"), "{error}");
    assert!(bench.session("E1").needs_auth);
    assert_eq!(bench.card("04:ab", Some("E1")), Ok(id("E1")));
    let session = bench.session("E1");
    assert_eq!((session.needs_auth, session.user.as_deref()), (false, Some("Ann")));
    assert_eq!(bench.restriction("E1"), None);
    // A restart and a silence take nothing back.
    bench.crash(60);
    assert_eq!(bench.restriction("E1"), None);
    bench.say("E1", B, &[]);
    bench.after(1).say("E1", A, &[]);
    let end = bench.ends()[0];
    assert_eq!((end.rfid.as_deref(), end.user_id.as_deref()), (Some("04:ab"), Some("1111")));
    bench.after(1).say("E1", B, &[]);
    assert_eq!(forbidden(&bench, "E1"), Some(Forbidden::NeedsAuthorisation));
    assert_eq!(bench.card("2222", Some("E1")), Ok(id("E1")), "the user's id is a PIN");
    assert_eq!(bench.session("E1").user.as_deref(), Some("Bob"));
    // Who has begun pays.
    bench.card("1111", Some("E1")).unwrap();
    bench.after(1).say("E1", A, &[]);
    assert_eq!(bench.ends()[1].user_id.as_deref(), Some("2222"));
}

#[test]
fn h5_a_wallbox_without_users_charges_for_everybody_and_notes_the_card() {
    let mut bench = Bench::new("");
    bench.say("E1", B, &[]);
    assert!(!bench.session("E1").needs_auth);
    bench.card("4711", Some("E1")).unwrap();
    bench.after(1).say("E1", A, &[]);
    assert_eq!((bench.ends()[0].rfid.as_deref(), bench.ends()[0].user_id.as_deref()), (Some("4711"), None));
    assert_eq!(bench.card("4711", Some("E9")), Err("unknown device".into()));
    assert_eq!(bench.card("4711", Some("M1")), Err("unknown device".into()));
}

#[test]
fn h5_without_a_name_the_waiting_wallbox_of_the_user_is_meant() {
    let mut bench = Bench::new(USERS);
    bench.say("E1", A, &[]).say("E2", A, &[]);
    assert_eq!(bench.card("2222", None), Ok(id("E1")), "Bob has only one");
    let error = bench.card("1111", None).unwrap_err();
    assert!(error.contains("E1, E2") && error.contains("dev_id") && !error.contains("1111"), "{error}");
    bench.after(1).say("E2", B, &[]);
    assert_eq!(bench.card("04AB", None), Ok(id("E2")));
    bench.after(61).say("E1", B, &[]);
    assert_eq!(bench.card("04AB", None), Ok(id("E1")), "the one that still waits");
    let error = bench.card("9999", None).unwrap_err();
    assert!(error.contains("no wallbox has a user with this card"), "{error}");
}

#[test]
fn a_card_at_an_empty_wallbox_waits_a_minute_for_the_car() {
    let mut bench = Bench::new(USERS);
    bench.say("E1", A, &[]);
    bench.card("04AB", Some("E1")).unwrap();
    assert!(!bench.session("E1").needs_auth);
    bench.after(59).say("E1", B, &[]);
    assert_eq!(bench.session("E1").user.as_deref(), Some("Ann"));
    assert_eq!(bench.begins()[0].user_id.as_deref(), Some("1111"), "the beginning says it already");
    bench.after(1).say("E1", A, &[]);
    bench.card("04AB", Some("E1")).unwrap();
    bench.after(60).say("E1", B, &[]);
    assert!(bench.session("E1").needs_auth, "a minute is over");
}

#[test]
fn a_fixed_rfid_counts_as_entered() {
    let mut bench = Bench::new(USERS);
    bench.config = config(&format!("{}{USERS}", SITE.replace("name = \"Carport\"", "fixed_rfid = \"04AB\"")));
    bench.say("E1", B, &[]);
    assert_eq!((bench.session("E1").needs_auth, bench.begins()[0].rfid.as_deref()), (false, Some("04AB")));
}

#[test]
fn h12_rfid_of_a_message_counts_as_shown() {
    let mut bench = Bench::new(USERS);
    bench.say_with_card("E1", B, &[], Some("04AB"));
    assert_eq!(bench.session("E1").user.as_deref(), Some("Ann"));
    assert_eq!(bench.begins()[0].rfid.as_deref(), Some("04AB"));
    // It is in every message; the next car does not inherit it.
    bench.after(1).say_with_card("E1", A, &[], Some("04AB"));
    bench.after(1).say_with_card("E1", B, &[], Some("04AB"));
    assert!(bench.session("E1").needs_auth);
    // Gone from a message and in it again: shown once more.
    bench.after(1).say("E1", B, &[]);
    assert!(bench.session("E1").needs_auth);
    bench.after(1).say_with_card("E1", B, &[], Some("04AB"));
    assert!(!bench.session("E1").needs_auth);
    // At the empty wallbox it waits for as long as it is there.
    bench.after(1).say("E1", A, &[]);
    for _ in 0..100 {
        bench.after(1).say_with_card("E1", A, &[], Some("2222"));
    }
    bench.after(1).say("E1", B, &[]);
    assert_eq!(bench.session("E1").user.as_deref(), Some("Bob"));
}

#[test]
fn h12_rfid_that_a_driver_keeps_naming_is_shown_once() {
    let mut bench = Bench::new(USERS);
    // The last card of some car before the start: nobody has shown it now.
    bench.say_with_card("E2", A, &[], Some("04AB"));
    bench.after(1).say_with_card("E2", B, &[], Some("04AB"));
    assert!(bench.session("E2").needs_auth);
    bench.after(1).say_with_card("E2", B, &[], Some(""));
    bench.after(1).say_with_card("E2", B, &[], Some("04AB"));
    assert!(!bench.session("E2").needs_auth);
    bench.after(1).say_with_card("E2", A, &[], Some("04AB"));
    // Also after a restart it is the old one.
    bench.crash(10);
    bench.after(1).say_with_card("E2", B, &[], Some("04AB"));
    assert!(bench.session("E2").needs_auth);
}

#[test]
fn a_toggling_card_switches_off_and_on_and_a_card_with_phases_asks_for_them() {
    let mut bench = Bench::new(USERS);
    bench.say("E1", B, &[]);
    bench.card("3333", Some("E1")).unwrap();
    assert_eq!(bench.core.take_phases(), [(id("E1"), 3)]);
    bench.card("0FF0", Some("E1")).unwrap();
    assert_eq!(forbidden(&bench, "E1"), Some(Forbidden::Override));
    bench.card("0FF0", Some("E1")).unwrap();
    assert_eq!(bench.restriction("E1"), None);
    // Kept for the car, but no authorisation.
    bench.after(1).say("E1", A, &[]);
    bench.card("0FF0", Some("E1")).unwrap();
    assert!(bench.session("E1").needs_auth);
}

#[test]
fn h6_overrides_last_until_the_car_is_seen_unplugged() {
    let mut bench = Bench::new("");
    let change = OverrideChange {
        charging_off: Some(true),
        rules_off: Some(true),
        user_rules_off: Some(true),
        max_ma: Some(Some(8_000)),
    };
    let set = |bench: &mut Bench, change: OverrideChange| {
        bench.core.change(&bench.config, &id("E1"), change, bench.now).unwrap();
        bench.write();
    };
    bench.say("E1", B, &[]);
    set(&mut bench, change);
    let all = Overrides { charging_off: true, rules_off: true, user_rules_off: true, max_ma: Some(8_000) };
    assert_eq!(bench.session("E1").overrides, all);
    assert_eq!(
        bench.restriction("E1"),
        Some(Restriction { forbidden: Some(Forbidden::Override), max_ma: Some(8_000) })
    );
    set(&mut bench, OverrideChange { charging_off: Some(false), ..OverrideChange::default() });
    assert_eq!(bench.session("E1").overrides, Overrides { charging_off: false, ..all });
    // Silence, faults and a restart are no unplugging.
    bench.after(100).say("E1", Some(Connector::Fault), &[]);
    bench.crash(10).say("E1", B, &[]);
    assert_eq!(bench.restriction("E1"), Some(Restriction { forbidden: None, max_ma: Some(8_000) }));
    set(&mut bench, OverrideChange { max_ma: Some(None), ..OverrideChange::default() });
    assert_eq!(bench.restriction("E1"), None);
    bench.after(1).say("E1", A, &[]);
    assert_eq!(bench.session("E1").overrides, Overrides::default());
    // Without a car they are taken, and end when it is next seen that there is none.
    bench.after(1);
    set(&mut bench, change);
    bench.look();
    assert_eq!(bench.session("E1").overrides, all);
    bench.after(1).say("E1", A, &[]);
    assert_eq!(bench.session("E1").overrides, Overrides::default());
}
