//! Contract A6 and the rules B5, B6, B9 to B11: control of wallboxes over `ctl`. The rules themselves are tested with
//! a clock that is advanced by hand beside the code; here is what only a broker can show.

use super::{Host, WALLBOXES};

const CTL: &str = "publish = \"mqtt\"\npublish_interval_ms = 200\ncontrol = true\n";
const OBSERVE: &str = "[load]\nmode = \"observe\"\ndisable_policy = 0\n";

/// The published example, names without quotes.
const EXAMPLE: &str = "{\"E1\": {cur: 8000, ena: true, wke: true}, \"E2\": {cur: 10000, phs: 3}}";

async fn the_example_controls_both_wallboxes(host: Host) {
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", EXAMPLE).await;
    host.ear.json("cfos_mqtt/get/E1", |e| e["last_set_charging_cur"] == 8000 && e["charging_enabled"] == true).await;
    host.ear.json("cfos_mqtt/get/E2", |e| e["last_set_charging_cur"] == 10000).await;
}

#[tokio::test]
async fn a6_the_example_controls_both_wallboxes_at_mosquitto() {
    the_example_controls_both_wallboxes(Host::at_mosquitto(CTL, &format!("{OBSERVE}{WALLBOXES}")).await).await;
}

#[tokio::test]
async fn a6_the_example_controls_both_wallboxes_at_the_embedded_broker() {
    the_example_controls_both_wallboxes(Host::at_embedded(CTL, &format!("{OBSERVE}{WALLBOXES}")).await).await;
}

#[tokio::test]
async fn a6_in_load_management_it_is_ignored() {
    let host = Host::at_mosquitto(&format!("{CTL}api = \"mqtt\"\n"), WALLBOXES).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", EXAMPLE).await;
    host.ear.call("cfos_mqtt", "cmd=get_params", "").await;
    for wallbox in ["E1", "E2"] {
        assert_eq!(host.site.device(wallbox).await["last_set_charging_cur"], 0);
    }
}

#[tokio::test]
async fn a6_without_the_permission_nobody_listens() {
    let text = format!("{OBSERVE}{WALLBOXES}");
    let host = Host::at_mosquitto("publish = \"mqtt\"\npublish_interval_ms = 200\napi = \"mqtt\"\n", &text).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", "{E1: {cur: 8000}}").await;
    host.ear.call("cfos_mqtt", "cmd=get_params", "").await;
    assert_ne!(host.site.device("E1").await["last_set_charging_cur"], 8000);
}

#[tokio::test]
async fn b5_a_retained_message_controls_nothing() {
    let broker = ladekern_tests::mosquitto::Mosquitto::start();
    let ear = super::Ear::connect(broker.port()).await;
    ear.retain("cfos_mqtt/ctl", "{E1: {cur: 8000}}").await;
    ear.hear("the retained message", |heard| heard.topic == "cfos_mqtt/ctl").await;
    let text = format!("[mqtt]\nbroker = \"{}\"\n{CTL}{OBSERVE}{WALLBOXES}", broker.url());
    let site = ladekern_tests::site::Site::start(&text).await;
    ear.json("cfos_mqtt/get/dev_info", |_| true).await;
    ear.publish("cfos_mqtt/ctl", "{E2: {cur: 9000}}").await;
    ear.json("cfos_mqtt/get/E2", |e| e["last_set_charging_cur"] == 9000).await;
    assert_ne!(site.device("E1").await["last_set_charging_cur"], 8000);
    site.stop().await;
}

#[tokio::test]
async fn b9_a_mistake_changes_nothing() {
    let host = Host::at_mosquitto(CTL, &format!("{OBSERVE}{WALLBOXES}")).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", "{E1: {cur: 7000}, E9: {cur: 7000}}").await;
    host.ear.publish("cfos_mqtt/ctl", "{E2: {cur: 0x2710}, /* 10 A */}").await;
    host.ear.json("cfos_mqtt/get/E2", |e| e["last_set_charging_cur"] == 10_000).await;
    assert_ne!(host.site.device("E1").await["last_set_charging_cur"], 7000);
}

#[tokio::test]
async fn b10_what_no_car_can_draw_is_a_pause() {
    let host = Host::at_mosquitto(CTL, &format!("{OBSERVE}{WALLBOXES}")).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", "{E1: {cur: 5999}, E2: {cur: 32000}}").await;
    host.ear.json("cfos_mqtt/get/E1", |e| e["paused"] == true).await;
    host.ear.json("cfos_mqtt/get/E2", |e| e["last_set_charging_cur"] == 20_000).await;
}

#[tokio::test]
async fn b11_silence_and_the_end_of_the_host_apply_the_policy() {
    let host = Host::at_mosquitto(&format!("{CTL}ctl_timeout_s = 1\n"), &format!("{OBSERVE}{WALLBOXES}")).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", "{E1: {cur: 8000}}").await;
    host.ear.json("cfos_mqtt/get/E1", |e| e["last_set_charging_cur"] == 8000).await;
    host.ear.json("cfos_mqtt/get/E1", |e| e["paused"] == true).await;
    assert_eq!(host.site.device("E2").await["paused"], false, "the policy is for what was controlled");

    host.ear.publish("cfos_mqtt/ctl", "{E2: {cur: 9000}}").await;
    host.ear.json("cfos_mqtt/get/E2", |e| e["last_set_charging_cur"] == 9000).await;
    host.site.stop().await;
    host.ear.json("cfos_mqtt/get/E2", |e| e["paused"] == true).await;
}

#[tokio::test]
async fn a6_changing_to_load_management_ends_control() {
    let host = Host::at_mosquitto(CTL, &format!("{OBSERVE}{WALLBOXES}")).await;
    host.ready("cfos_mqtt").await;
    host.ear.publish("cfos_mqtt/ctl", "{E1: {cur: 8000}}").await;
    host.ear.json("cfos_mqtt/get/E1", |e| e["last_set_charging_cur"] == 8000).await;
    let text = std::fs::read_to_string(host.site.file()).unwrap();
    std::fs::write(host.site.file(), text.replace("\"observe\"", "\"manage\"")).unwrap();
    host.ear.json("cfos_mqtt/get/E1", |e| e["paused"] == true).await;
    host.ear.publish("cfos_mqtt/ctl", "{E1: {cur: 9000}}").await;
    host.ear.json("cfos_mqtt/get/params", |params| params["lb_enabled"] == true).await;
    assert_ne!(host.site.device("E1").await["last_set_charging_cur"], 9000);
}
