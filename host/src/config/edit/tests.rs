//! The editor: each way to write a thing, and random edits of random files.

use proptest::prelude::*;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::*;

fn set(key: &str, value: &str) -> Edit {
    let key = toml_edit::Key::parse(key).unwrap().iter().map(|key| key.get().to_owned()).collect();
    Edit::Set { key, value: value.parse().unwrap() }
}

fn remove(key: &str) -> Edit {
    let Edit::Set { key, .. } = set(key, "1") else { unreachable!() };
    Edit::Remove { key }
}

fn entry(list: &'static str, text: &str) -> Edit {
    let document: DocumentMut = text.parse().unwrap();
    Edit::Entry { list, entry: document.as_table().clone() }
}

fn remove_entry(list: &'static str, id: &str) -> Edit {
    Edit::RemoveEntry { list, id: id.to_owned() }
}

#[track_caller]
fn check(before: &str, edits: &[Edit], after: &str) {
    let made = edit(before, edits).unwrap_or_else(|error| panic!("{error:?}\n{before}"));
    assert_eq!(made, after);
    assert_eq!(edit(&made, edits).unwrap(), made, "a second time changes nothing");
}

#[track_caller]
fn fails(before: &str, with: &Edit, key: &str, part: &str) {
    let error = edit(before, std::slice::from_ref(with)).unwrap_err();
    assert_eq!(error.key, key);
    assert!(error.message.contains(part), "{error:?}");
}

#[test]
fn a_value_is_replaced_where_it_stands() {
    let before = "# top\n[load]\n  mode = 'manage' # why\ncycle_ms=1000\n\n# end";
    check(
        before,
        &[set("load.mode", "\"observe\""), set("load.cycle_ms", "500")],
        "# top\n[load]\n  mode = \"observe\" # why\ncycle_ms=500\n\n# end",
    );
    // The same number, however written.
    check(before, &[set("load.mode", "\"manage\""), set("load.cycle_ms", "1_000.0")], before);
}

#[test]
fn a_new_key_follows_the_last_one_of_its_table() {
    check(
        "[site]\n# a\n\ttitle = \"x\" # b\n\n# about load\n[load]\n",
        &[set("site.desc", "\"y\""), set("load.mode", "\"observe\"")],
        "[site]\n# a\n\ttitle = \"x\" # b\n\tdesc = \"y\"\n\n# about load\n[load]\nmode = \"observe\"\n",
    );
    check("[site]", &[set("site.title", "\"x\"")], "[site]\ntitle = \"x\"");
    check("[site]\ntitle = 1", &[set("site.desc", "2")], "[site]\ntitle = 1\ndesc = 2");
    check("site.title = 1\n", &[set("site.desc", "2")], "site.title = 1\nsite.desc = 2\n");
    check("site = { title = 1 }\n", &[set("site.desc", "2")], "site = { title = 1, desc = 2 }\n");
    check("site = {}\n", &[set("site.desc.x", "2")], "site = { desc = { x = 2 } }\n");
    check("\u{feff}# top\n", &[set("site.desc", "2")], "\u{feff}# top\n\n[site]\ndesc = 2\n");
}

#[test]
fn a_new_table_comes_before_the_lists() {
    let lists = "[site]\ntitle = 1\n\n# the house\n[[circuit]]\nid = \"a\"\n";
    check(
        lists,
        &[set("load.mode", "1"), set("load.reserve_ma", "2")],
        "[site]\ntitle = 1\n\n[load]\nmode = 1\nreserve_ma = 2\n\n# the house\n[[circuit]]\nid = \"a\"\n",
    );
    check("", &[set("load.mode", "1")], "[load]\nmode = 1\n");
    check("# only this", &[set("load.mode", "1")], "# only this\n\n[load]\nmode = 1\n");
    check(
        "[site]\na = 1\n",
        &[set("mqtt.tls.\"mqtts://h:1\".verify", "false")],
        "[site]\na = 1\n\n[mqtt]\ntls.\"mqtts://h:1\".verify = false\n",
    );
    check(
        "[mqtt.tls.x]\nverify = true\n",
        &[set("mqtt.api", "\"\"")],
        "[mqtt]\napi = \"\"\n\n[mqtt.tls.x]\nverify = true\n",
    );
}

const DEVICES: &str = r#"[[device]]
id = "M1"
type = "http-input"

# Carport
[[device]]
id = "E1" # left
# the fuse
max_ma = 16000
endpoint.main = { url = "tcp://a", unit = 1 } # wired
endpoint.other.url = "tcp://b"

[device.limits]
# small
memory = "8MiB"

[[user]]
id = "4711"
[[user.card]]
id = "AA"
name = "blue"
"#;

#[test]
fn entries_are_addressed_by_id_however_written() {
    let change = |edits: &[Edit]| edit(DEVICES, edits).unwrap();
    let only = |edits: &[Edit], old: &str, new: &str| check(DEVICES, edits, &DEVICES.replace(old, new));
    only(&[set("device.E1.max_ma", "8000")], "16000", "8000");
    only(&[set("device.E1.endpoint.main.unit", "2")], "unit = 1", "unit = 2");
    only(&[set("device.E1.endpoint.main.timeout_ms", "50")], "unit = 1", "unit = 1, timeout_ms = 50");
    only(&[remove("device.E1.endpoint.main.unit")], ", unit = 1", "");
    only(&[set("device.E1.endpoint.other.unit", "3")], "\"tcp://b\"\n", "\"tcp://b\"\nendpoint.other.unit = 3\n");
    only(&[set("device.E1.limits.cpu_ms", "50")], "\"8MiB\"\n", "\"8MiB\"\ncpu_ms = 50\n");
    only(&[remove("device.E1.max_ma")], "max_ma = 16000\n", "");
    only(&[set("user.4711.card.AA.name", "\"red\"")], "blue", "red");
    only(&[set("device.M1.name", "\"x\"")], "\"http-input\"\n", "\"http-input\"\nname = \"x\"\n");
    only(&[set("device.M1.config.a.b", "1")], "\"http-input\"\n", "\"http-input\"\nconfig.a.b = 1\n");
    assert_eq!(
        change(&[remove("device.E7.x"), remove("device.E1.x.y"), remove("no.such"), remove_entry("user", "1")]),
        DEVICES
    );
    fails(DEVICES, &set("device.E7.max_ma", "1"), "device.E7.max_ma", "there is no entry");
    fails(DEVICES, &set("user.99.name", "1"), "user.***.name", "there is no entry");
    fails(DEVICES, &set("device.E1", "1"), "device.E1", "ends too early");
    fails(DEVICES, &set("device.E1.id.x", "1"), "device.E1.id.x", "single value");
    fails("", &set("device.E1.name", "1"), "device.E1.name", "there is no entry");
    fails("[a", &set("a.b", "1"), "a.b", "no TOML");
}

#[test]
fn entries_come_after_the_last_of_their_kind_and_go_without_a_trace() {
    let e2 = "[[device]]\nid = \"E2\"\ntype = \"t\"\nendpoint = { main = { url = \"x\" } }\n\n";
    let with = DEVICES.replace("[[user]]", &format!("{e2}[[user]]"));
    let new = entry("device", "id = \"E2\"\ntype = \"t\"\nendpoint.main.url = \"x\"\n");
    let made = edit(DEVICES, std::slice::from_ref(&new)).unwrap();
    assert_eq!(made.lines().filter(|line| !DEVICES.contains(line)).count(), 1 + 2, "{made}");
    assert!(made.find("\"E2\"").unwrap() < made.find("[[user]]").unwrap());
    assert_eq!(edit(&made, std::slice::from_ref(&new)).unwrap(), made);
    check(&with, &[remove_entry("device", "E2")], DEVICES);
    // What stands above an entry may be about more than the entry.
    let (from, to) = (DEVICES.find("[[device]]\nid = \"E1").unwrap(), DEVICES.find("\n[[user]]").unwrap());
    let without = format!("{}{}", &DEVICES[..from], &DEVICES[to..]);
    assert_eq!(edit(DEVICES, &[remove_entry("device", "E1")]).unwrap(), without);
    check(
        "",
        &[entry("user", "id = \"1\"\n[[card]]\nid = \"2\"")],
        "[[user]]\nid = \"1\"\n\n[[user.card]]\nid = \"2\"\n",
    );
    check(
        "user = [{ id = \"1\" }]\n",
        &[entry("user", "id = \"2\""), remove_entry("user", "1"), set("user.2.name", "\"n\"")],
        "user = [{ id = \"2\", name = \"n\" }]\n",
    );
}

#[test]
fn a_replaced_entry_keeps_what_stays() {
    let new = "id = \"E1\"\nmax_ma = 8000\ndesc = \"d\"\nendpoint.main = { url = \"tcp://a\", unit = 2 }\nlimits.memory = \"8MiB\"";
    let made = edit(DEVICES, &[entry("device", new)]).unwrap();
    let after = DEVICES
        .replace("16000", "8000")
        .replace("unit = 1", "unit = 2")
        .replace("endpoint.other.url = \"tcp://b\"\n", "desc = \"d\"\n");
    assert_eq!(made, after);
    // Cards: one stays, one comes; then both go and another comes.
    let made = edit(DEVICES, &[entry("user", "id = \"4711\"\n[[card]]\nid = \"AA\"\n[[card]]\nid = \"BB\"")]).unwrap();
    let after = DEVICES.replace("name = \"blue\"\n", "\n[[user.card]]\nid = \"BB\"\n");
    assert_eq!(made, after);
    let made = edit(&made, &[entry("user", "id = \"4711\"\n[[card]]\nid = \"CC\"\n[[card]]\nid = \"AA\"")]).unwrap();
    assert!(!made.contains("BB"), "{made}");
    let made = edit(&made, &[entry("user", "id = \"4711\"")]).unwrap();
    assert!(!made.contains("card"), "{made}");
}

#[test]
fn lists_keep_the_comments_in_them() {
    let before = "[x]\na = [\n  # first\n  1, # one\n  2,\n  # last\n  3, # three\n]\n";
    check(before, &[set("x.a", "[1, 5, 3]")], &before.replace("2,", "5,"));
    check(
        before,
        &[set("x.a", "[1, 2, 3, 4]")],
        "[x]\na = [\n  # first\n  1, # one\n  2,\n  # last\n  3,\n  4, # three\n]\n",
    );
    let shorter = edit(before, &[set("x.a", "[1]")]).unwrap();
    for comment in ["# first", "# one", "# last", "# three"] {
        assert!(shorter.contains(comment), "{shorter}");
    }
}

#[test]
fn line_ends_stay_as_they_are() {
    let dos = |text: &str| text.replace('\n', "\r\n");
    let edits = [
        set("device.E1.max_ma", "8000"),
        set("device.E1.priority", "2"),
        set("load.mode", "\"observe\""),
        entry("user", "id = \"1\"\nname = \"n\"\n[[card]]\nid = \"2\""),
        remove_entry("device", "M1"),
    ];
    assert_eq!(edit(&dos(DEVICES), &edits).unwrap(), dos(&edit(DEVICES, &edits).unwrap()));
    let lists = "[x]\na = [\n  1,\n  2\n]\n";
    let grow = [set("x.a", "[1, 2, 3]")];
    assert_eq!(edit(&dos(lists), &grow).unwrap(), dos("[x]\na = [\n  1,\n  2,\n  3\n]\n"));
}

#[test]
fn differences_make_the_one_of_the_other() {
    let edits = [
        set("device.E1.max_ma", "8000"),
        set("variables.x", "1.5"),
        remove("device.E1.endpoint.other"),
        entry("user", "id = \"1\"\n[[card]]\nid = \"2\""),
        remove_entry("user", "4711"),
        remove_entry("device", "M1"),
    ];
    let after = edit(DEVICES, &edits).unwrap();
    let found = differences(DEVICES, &after).unwrap();
    let mut targets: Vec<String> = found.iter().map(key_of).collect();
    targets.sort();
    assert_eq!(
        targets,
        ["device.E1.endpoint.other", "device.E1.max_ma", "device.M1", "user.***", "user.***", "variables.x"]
    );
    assert!(differences(&edit(DEVICES, &found).unwrap(), &after).unwrap().is_empty());
    assert!(differences(DEVICES, DEVICES).unwrap().is_empty());
}

#[test]
fn a_thousand_variables_take_no_minute() {
    let edits: Vec<Edit> = (0..1000).map(|n| set(&format!("variables.v{n}"), "1")).collect();
    let start = std::time::Instant::now();
    let made = edit(DEVICES, &edits).unwrap();
    assert_eq!(edit(&made, &edits).unwrap(), made);
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(made.lines().count(), DEVICES.lines().count() + 1002);
}

#[test]
fn edits_do_not_show_their_values() {
    let shown = format!(
        "{:?}",
        [set("http.admin_password_hash", "\"secret\""), entry("user", "id = \"4711\"\nname = \"secret\"")]
    );
    let shown = format!("{shown}{}", key_of(&set("mqtt.tls.\"mqtts://u:secret@h\".verify", "1")));
    assert!(!shown.contains("secret") && !shown.contains("4711"), "{shown}");
}

// === Random ===

/// A file in pieces, each written in one of several ways; `#` and a number on every comment line.
fn file() -> impl Strategy<Value = String> {
    let site = prop_oneof![
        Just("# 1\n[site]\n# 2\ntitle = \"a\" # x\n\n"),
        Just("site.title = \"a\"\n# 3\nsite.desc = \"b\"\n"),
        Just("site = { title = \"a\" }\n"),
        Just("")
    ];
    let load = prop_oneof![Just("[load]\n# 4\nmode = \"manage\"\n# 5\n"), Just("[load] # x\n"), Just("")];
    let mqtt = prop_oneof![
        Just("[mqtt.tls.\"mqtts://h\"]\n# 6\nverify = false\n\n[mqtt]\n  api = \"\"\n"),
        Just("[mqtt]\ntls.\"mqtts://h\".verify = true\n# 7\ntls.\"mqtts://h\".ca_file = \"c\"\n"),
        Just("[mqtt.tls]\n# 8\n\"mqtts://h\" = { verify = true }\n"),
    ];
    let device = |id: &'static str| {
        prop_oneof![
            Just(format!("# 9{id}\n\n[[device]]\nid = \"{id}\"\nmax_ma = 1\nconfig = {{ a = 1, b = [1, 2] }}\n")),
            Just(format!(
                "[[device]]\n  # 10{id}\n  id = '{id}' # x\n  config.a = 1\n  max_ma = 1_0\n  config.b = 7\n\n"
            )),
            Just(format!("[[device]]\nid = \"{id}\"\n[device.config]\n# 11{id}\na = 2\n[device.config.c]\nd = 1\n\n")),
            Just(format!("[[device]]\nid = \"{id}\"\nconfig.list = [\n  # 12{id}\n  1, # x\n  2\n]\n# 13{id}\n")),
            Just(format!("[[device]]\nid = \"{id}\"\n# 14{id}\n[device.config.c]\nd = 1\n\n")),
        ]
    };
    let user = prop_oneof![
        Just("[[user]]\nid = \"1\"\n# 15\n[[user.card]]\n# 16\nid = \"AA\"\n"),
        Just("[[user]]\nid = \"1\"\ncard = [{ id = \"AA\" }]\n"),
        Just("")
    ];
    let end = prop_oneof![Just("# 17"), Just("\n# 18\n\n"), Just("")];
    (site, load, device("E1"), mqtt, device("M1"), user, end, any::<bool>()).prop_map(
        |(site, load, e1, mqtt, m1, user, end, dos)| {
            let text = format!("{site}{load}{e1}{mqtt}{m1}{user}{end}");
            if dos { text.replace('\n', "\r\n") } else { text }
        },
    )
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        (0..3i64).prop_map(|n| n.to_string()),
        Just("1.5".to_owned()),
        Just("\"text\"".to_owned()),
        Just("\"two\\nlines\"".to_owned()),
        prop::collection::vec(0..3i64, 0..4).prop_map(|list| format!("{list:?}")),
        Just("{ a = 1, z = { y = 2 } }".to_owned()),
    ]
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let keys = [
        "site.title",
        "site.desc",
        "load.mode",
        "load.cycle_ms",
        "mqtt.api",
        "mqtt.tls.\"mqtts://h\".verify",
        "mqtt.tls.\"mqtts://other\".verify",
        "device.E1.max_ma",
        "device.M1.config.a",
        "device.E1.config.b",
        "device.M1.config.list",
        "device.E1.config.c.d",
        "device.M1.config.c.e",
        "device.E1.config",
        "device.M1.name",
        "user.1.name",
        "user.1.card",
        "variables.x",
        "variables.y",
    ];
    let entries = [
        ("device", "id = \"E1\"\nmax_ma = 5\nconfig.a = 9"),
        ("device", "id = \"E9\"\nconfig = { a = 1 }"),
        ("user", "id = \"1\"\n[[card]]\nid = \"AA\"\nname = \"n\"\n[[card]]\nid = \"BB\""),
        ("user", "id = \"1\""),
        ("user", "id = \"7\"\n[[card]]\nid = \"CC\""),
    ];
    prop_oneof![
        4 => (prop::sample::select(keys.to_vec()), value()).prop_map(|(key, value)| set(key, &value)),
        2 => prop::sample::select(keys.to_vec()).prop_map(remove),
        2 => prop::sample::select(entries.to_vec()).prop_map(|(list, text)| entry(list, text)),
        1 => prop::sample::select(vec![("device", "M1"), ("device", "E9"), ("user", "1"), ("user", "7")])
            .prop_map(|(list, id)| remove_entry(list, id)),
    ]
}

fn comments(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| line.starts_with("# ")).collect()
}

/// Found by its path, by other means than those of the editor.
fn look<'a>(item: &'a Item, path: &[String]) -> Option<&'a Item> {
    let [key, rest @ ..] = path else { return Some(item) };
    let has_id = |table: &&Table| table.get("id").and_then(Item::as_str) == Some(key);
    match item.as_array_of_tables() {
        Some(list) => rest
            .iter()
            .try_fold(list.iter().find(has_id)?.get(rest.first()?)?, |item, _| Some(item))
            .and_then(|item| look(item, rest.get(1..)?)),
        None => look(item.as_table_like()?.get(key)?, rest),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn edits_do_what_they_say_and_nothing_else(text in file(), edits in prop::collection::vec(any_edit(), 1..8)) {
        let mut now = text;
        for one in &edits {
            let made = match edit(&now, std::slice::from_ref(one)) {
                Ok(made) => made,
                Err(error) => {
                    // Only what cannot be: an entry that is not there, a table where a value is.
                    prop_assert!(error.message != UNUSUAL && error.message != "this place of the file cannot be edited",
                        "{error:?}\n{one:?}\n{now}");
                    continue;
                }
            };
            let document: DocumentMut = made.parse().unwrap();
            if let Edit::Set { key, value } = one {
                let found = look(document.as_item(), key).and_then(Plain::of_item);
                prop_assert!(found.is_some_and(|found| found.same(&Plain::of_value(value))), "{one:?}\n{now}\n->\n{made}");
            }
            let changed: Vec<Vec<String>> = differences(&now, &made).unwrap().iter().map(target).collect();
            prop_assert!(changed.iter().all(|path| overlap(path, &target(one))), "{one:?}: {changed:?}");
            let kept = match one {
                Edit::RemoveEntry { .. } | Edit::Remove { .. } | Edit::Entry { .. } => Vec::new(),
                Edit::Set { value, .. } if !matches!(value, Value::Integer(_)) => Vec::new(),
                Edit::Set { key, .. } if key.last().is_some_and(|key| key == "config" || key == "card" || key == "list") => Vec::new(),
                Edit::Set { .. } => comments(&now),
            };
            let left = comments(&made);
            prop_assert!(kept.iter().all(|comment| left.contains(comment)), "{one:?}\n{now}\n->\n{made}");
            prop_assert_eq!(edit(&made, std::slice::from_ref(one)).unwrap(), made.clone(), "{:?}", one);
            let plain_ends = made.lines().count() > 0 && now.contains("\r\n") && made.replace("\r\n", "").contains('\n');
            prop_assert!(!plain_ends || made.contains("\"\"\""), "{made:?}");
            now = made;
        }
    }

    /// All together come to the same as one after the other.
    #[test]
    fn many_edits_say_what_each_says(text in file(), edits in prop::collection::vec(any_edit(), 2..6)) {
        let each = edits.iter().try_fold(text.clone(), |text, one| edit(&text, std::slice::from_ref(one)));
        match (edit(&text, &edits), each) {
            (Ok(together), Ok(each)) => prop_assert!(differences(&together, &each).unwrap().is_empty(),
                "{edits:?}\n{text}\n->\n{together}\n->\n{each}"),
            (together, each) => prop_assert_eq!(together.is_err(), each.is_err(), "{:?}\n{}", edits, text),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*|[\\[\\]={}\",.#ab0-9\n\r\t -]{0,60}", one in any_edit()) {
        let _ = edit(&text, &[one]);
        let _ = differences(&text, "[a]");
    }
}
