//! The contract's published examples, run as the script in `examples/contract` runs them for a reader.

use std::process::Stdio;
use std::time::Duration;

use ladekern_tests::daemon::program;
use ladekern_tests::free_port;

/// The script waits up to ten seconds for each answer; all of them together are a matter of seconds.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_published_examples_get_the_published_answers() {
    let run = tokio::process::Command::new(ladekern_tests::root().join("examples/contract/run.sh"))
        .arg(program())
        .env("HTTP_PORT", free_port().to_string())
        .env("MQTT_PORT", free_port().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, run).await.expect("the script ends").expect("bash is there");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(said.contains("all answers as the contract says"), "{said}");
}
