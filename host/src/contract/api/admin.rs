//! `change_admin_pwd`, `accept_license` and `set_diag_logging` (`cfos-interfaces.md` 1.10).

use crate::config::Edit;
use crate::{logging, password};

use super::{Answer, Api, Call, Refusal, bad, required, values};

/// Characters of an admin password.
const LEAST: usize = 8;
const MOST: usize = 128;

/// `old_pwd` has to be right even for a caller who gave the password with the request, as long as there is one. An
/// empty `new_pwd` takes the password away, which only a manager may have that nobody else can reach.
pub(super) async fn change_password(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let http = api.source.config.borrow().http.clone();
    let new = required(call, "new_pwd", "…")?.to_owned();
    check(&new, http.listen.ip().to_canonical().is_loopback())?;
    if let Some(hash) = http.admin_password {
        let old = required(call, "old_pwd", "…")?.to_owned();
        let right = old.chars().count() <= MOST && computed(move || password::verify(&hash, &old)).await?;
        if !right {
            return Err(Refusal::Unauthorised);
        }
    }
    let key = vec!["http".to_owned(), "admin_password_hash".to_owned()];
    let edit = if new.is_empty() {
        Edit::Remove { key }
    } else {
        let hash = computed(move || password::hash(&new)).await?.map_err(Refusal::NotNow)?;
        Edit::Set { key, value: hash.0.into() }
    };
    api.settings.change(vec![edit], Vec::new()).await?;
    tracing::info!("the admin password was changed");
    Ok(Answer::ok())
}

fn check(new: &str, loopback: bool) -> Result<(), Refusal> {
    let length = new.chars().count();
    if length == 0 && !loopback {
        return Err(bad("new_pwd is empty; without a password http.listen has to be a loopback address"));
    }
    if length != 0 && !(LEAST..=MOST).contains(&length) {
        return Err(bad(format!("new_pwd: expected {LEAST} to {MOST} characters, found {length}")));
    }
    if new.chars().any(char::is_control) {
        return Err(bad("new_pwd: expected text without control characters"));
    }
    Ok(())
}

/// Argon2 computes for some tens of milliseconds, which no other call waits for.
async fn computed<T: Send + 'static>(compute: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(compute).await.map_err(|_| Refusal::NotNow("the host is stopping".into()))
}

/// There is nothing to accept: the licence is that of the program. Clients ask before they go on.
pub(super) fn accept_license(call: &Call) -> Result<Answer, Refusal> {
    values::flag_arg(call, "acc")?;
    values::flag_arg(call, "allow_usage_stats")?;
    Ok(Answer::ok())
}

/// `enable=1`: our own lines of level debug are logged, until `enable=0` or the next start.
pub(super) fn diagnostic_logging(call: &Call) -> Result<Answer, Refusal> {
    required(call, "enable", "1")?;
    let enable = values::flag_arg(call, "enable")?;
    logging::set_diagnostic(enable).map_err(Refusal::NotNow)?;
    tracing::info!("diagnostic logging is {}", if enable { "on" } else { "off" });
    Ok(Answer::ok())
}
