//! `get_dev_info` for those who ask often: with many devices and many clients, making the same text again and again is
//! most of the work. It is made once and given out until anything in it could differ.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::control::PlanView;
use crate::session::SessionView;
use crate::site::Moment;

use super::{DevInfo, SiteSource, SiteView, to_json};

/// Ages grow while nothing changes: a device falls silent so much later in the text than in truth. The load manager
/// does not read the text.
const KEPT: Duration = Duration::from_millis(100);

/// What was made last, and from what.
#[derive(Debug)]
struct Made {
    /// Count of the board's changes, read before the text was made: a change meanwhile makes a new text.
    changes: u64,
    config: Arc<Config>,
    plan: Arc<PlanView>,
    sessions: Arc<SessionView>,
    unix_s: u64,
    max_overdraft_ma: u32,
    at: Moment,
    json: Bytes,
}

impl Made {
    fn holds(&self, changes: u64, now: &SiteView) -> bool {
        self.changes == changes
            && Arc::ptr_eq(&self.config, &now.config)
            && Arc::ptr_eq(&self.plan, &now.plan)
            && Arc::ptr_eq(&self.sessions, &now.sessions)
            && (self.unix_s, self.max_overdraft_ma) == (now.unix_s, now.max_overdraft_ma)
            && now.snapshot.at.since(self.at) < KEPT
    }
}

/// The text that was made last.
#[derive(Clone, Debug, Default)]
pub(super) struct Cache(Arc<Mutex<Option<Made>>>);

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Option<Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SiteSource {
    /// The answer to `get_dev_info`, as JSON.
    #[must_use]
    pub fn dev_info(&self) -> Bytes {
        let changes = *self.board.changes().borrow();
        let now = self.empty_view();
        if let Some(made) = &*self.cache.lock()
            && made.holds(changes, &now)
        {
            return made.json.clone();
        }
        // Without the lock: nobody waits while another one makes a text.
        let view = self.view();
        let json: Bytes = to_json(&DevInfo(&view)).into();
        let SiteView { config, snapshot, plan, sessions, unix_s, max_overdraft_ma, .. } = view;
        let kept = json.clone();
        let made = Made { changes, config, plan, sessions, unix_s, max_overdraft_ma, at: snapshot.at, json: kept };
        *self.cache.lock() = Some(made);
        json
    }
}

#[cfg(test)]
mod tests {
    use crate::app::testing::TestSite;

    const SITE: &str = "[[device]]\nid = \"M1\"\ntype = \"http-input\"\n[load]\ncycle_ms = 10000\n";

    async fn power(site: &TestSite) -> serde_json::Value {
        site.call("cmd=get_dev_info", "").await.json()["devices"][0]["power_w"].clone()
    }

    #[tokio::test]
    async fn what_was_fed_is_in_the_next_answer() {
        let site = TestSite::start(SITE).await;
        for watts in 0..200 {
            let fed = site.call("cmd=set_ajax_meter&dev_id=M1", &format!("{{\"power_w\":{watts}}}")).await;
            assert_eq!(fed.status, 200);
            assert_eq!(power(&site).await, watts);
            assert_eq!(power(&site).await, watts);
        }
    }

    #[tokio::test]
    async fn the_same_text_is_given_out_for_a_moment_only() {
        let site = TestSite::start(SITE).await;
        let source = &site.api.source;
        let same = async {
            loop {
                // Another second, another plan: sometimes the text is new.
                let (one, other) = (source.dev_info(), source.dev_info());
                if one.as_ptr() == other.as_ptr() {
                    return one;
                }
            }
        };
        let one = tokio::time::timeout(std::time::Duration::from_secs(20), same).await.unwrap();
        tokio::time::sleep(super::KEPT).await;
        assert_ne!(source.dev_info().as_ptr(), one.as_ptr());
    }

    #[tokio::test]
    async fn a_silent_device_is_told_although_nothing_changes() {
        let site = TestSite::start(&SITE.replace("http-input\"", "http-input\"\ntimeout_s = 1")).await;
        let silent = async || site.call("cmd=get_dev_info", "").await.json()["devices"][0]["com_err"].clone();
        site.call("cmd=set_ajax_meter&dev_id=M1", "{\"power_w\":1}").await;
        let told = async {
            while silent().await != true {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), told).await.unwrap();
    }
}
