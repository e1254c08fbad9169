//! What wallboxes are told when control ends (`load.disable_policy`).

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::send::deliver;
use crate::config::DisablePolicy;
use crate::load::{self, Milliamps, Site, State};
use crate::site::{Commands, DeviceId, Moment};

/// How long the end may take: a service manager waits not much longer before it kills.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The last commands. A minimum is only left where all minimums fit below the limits at the present load; who was
/// above goes down at the same time as others start, which exceeds a limit by at most their minimums and only until
/// the cars have obeyed.
pub(super) fn orders(policy: DisablePolicy, state: &State, site: &Site, now: Moment) -> Vec<(DeviceId, Milliamps)> {
    let all = site.chargers.iter().filter(|charger| charger.reachable);
    match policy {
        DisablePolicy::Stop => all.map(|charger| (charger.id.clone(), Milliamps::ZERO)).collect(),
        DisablePolicy::Unlimited => all.map(|charger| (charger.id.clone(), charger.cap())).collect(),
        DisablePolicy::Minimum => load::minimums(state, site, now),
    }
}

/// Sends them all at once and waits for the answers.
pub(super) async fn send(commands: &Arc<dyn Commands>, orders: Vec<(DeviceId, Milliamps)>) {
    let mut sending = JoinSet::new();
    for (id, current) in orders {
        let commands = Arc::clone(commands);
        sending.spawn(async move {
            let ma = u32::try_from(current.0).unwrap_or(0);
            let answer = deliver(commands.as_ref(), &id, ma, PATIENCE).await;
            (id, ma, answer)
        });
    }
    while let Some(sent) = sending.join_next().await {
        match sent {
            Ok((id, ma, Ok(()))) => tracing::info!(device = %id, "control ends: left at {ma} mA"),
            Ok((id, ma, Err(error))) => {
                tracing::warn!(device = %id, "control ends, and {ma} mA did not arrive: {error}")
            }
            Err(error) => tracing::error!("control ends, and a command broke down: {error}"),
        }
    }
}
