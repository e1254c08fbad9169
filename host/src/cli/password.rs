//! `ladekern password`: makes the line for the configuration file from a password that nobody else sees.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::{Command, ExitCode, Stdio};

use anyhow::bail;

/// A longer one is a file by mistake.
const LONGEST: usize = 1024;

/// Asks twice on a terminal, without showing what is typed; else reads the first line of the input.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let password = if std::io::stdin().is_terminal() { super::block_on(ask())? } else { Some(line()?) };
    let Some(password) = password else { return Ok(ExitCode::from(130)) };
    let hash = hashed(&password)?;
    say!("[http]");
    say!("admin_password_hash = \"{hash}\"");
    Ok(ExitCode::SUCCESS)
}

fn hashed(password: &str) -> anyhow::Result<String> {
    if password.is_empty() {
        bail!("an empty password is none; leave http.admin_password_hash out for that");
    }
    if password.len() > LONGEST {
        bail!("a password has at most {LONGEST} bytes");
    }
    if password.contains(char::is_control) {
        bail!("the password holds a control character, which no browser can send");
    }
    crate::password::hash(password).map(|hash| hash.0).map_err(anyhow::Error::msg)
}

/// One line without its end.
fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// `None`: interrupted.
async fn ask() -> anyhow::Result<Option<String>> {
    // Restored whatever happens; Ctrl-C would otherwise leave a terminal that shows nothing.
    let silence = Silence::begin();
    if silence.is_none() {
        complain!("the password will be shown: this terminal cannot be told to hide it");
    }
    let typed = tokio::task::spawn_blocking(|| {
        complain!("password for http.admin_password_hash:");
        let first = line()?;
        complain!("again:");
        if line()? == first { Ok(first) } else { bail!("these were two different passwords") }
    });
    tokio::select! {
        typed = typed => Ok(Some(typed??)),
        _ = tokio::signal::ctrl_c() => Ok(None),
    }
}

/// A terminal that does not show what is typed, until dropped.
struct Silence;

impl Silence {
    fn begin() -> Option<Self> {
        stty("-echo").then_some(Self)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        stty("echo");
    }
}

fn stty(how: &str) -> bool {
    let done = Command::new("stty").arg(how).stdin(Stdio::inherit()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_out_is_a_line_the_configuration_takes() {
        let hash = hashed("Geheim, \"mit\" Umlaut: ä").unwrap();
        let text = format!("[http]\nadmin_password_hash = \"{hash}\"");
        let config = crate::config::parse("f", &text, &[]).unwrap();
        let kept = config.http.admin_password.unwrap();
        assert!(crate::password::verify(&kept, "Geheim, \"mit\" Umlaut: ä"));
        for wrong in ["", "a\u{7}", &"x".repeat(LONGEST + 1)] {
            hashed(wrong).unwrap_err();
        }
    }
}
