//! The end-to-end tests run against a real Mosquitto. Finds it, installs it as root on Debian, else says how.

use std::path::Path;
use std::process::Command;

const INSTALL: &str = "apt-get install mosquitto mosquitto-clients";

/// Makes sure that a `mosquitto` and its clients can be started.
///
/// # Errors
/// One sentence with the command that installs it.
pub fn ensure() -> Result<(), String> {
    if found() {
        return Ok(());
    }
    let missing = format!("the tests need a Mosquitto broker; install it with: {INSTALL}");
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(missing);
    }
    eprintln!("xtask: {INSTALL}");
    for args in
        [&["update", "-q"][..], &["install", "-q", "-y", "--no-install-recommends", "mosquitto", "mosquitto-clients"]]
    {
        let status = Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("apt-get {} failed; {missing}", args.join(" ")));
        }
    }
    if found() { Ok(()) } else { Err(missing) }
}

/// Debian installs daemons into /usr/sbin, which is not on every user's path.
fn found() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).collect();
    // The clients are what the vendor's published examples are made of.
    ["mosquitto", "mosquitto_passwd", "mosquitto_pub", "mosquitto_sub"]
        .iter()
        .all(|program| folders.iter().any(|folder| folder.join(program).is_file()))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
