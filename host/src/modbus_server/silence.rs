//! The failsafe of the registers 8083 and 8085: a controller that has said how much may be charged and then falls
//! silent is not believed for ever. Also brings commands to wallboxes that did not take them at once.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::JoinSet;

use super::registers::{Inner, Registers};
use crate::config::LoadMode;
use crate::site::{DeviceKind, Moment};

/// Between two attempts to command a wallbox that did not take it.
const AGAIN: Duration = Duration::from_secs(2);

/// Follows the registers until they are dropped.
pub(super) fn watch(registers: &Registers) {
    let weak = Arc::downgrade(&registers.inner);
    tokio::spawn(follow(weak));
}

async fn follow(registers: Weak<Inner>) {
    let Some(inner) = registers.upgrade() else { return };
    let stirred = Arc::clone(&inner.stirred);
    let mut config = Registers { inner }.source().config.clone();
    loop {
        // Held only while it is used: whoever waits must not keep alive what it waits for.
        let wait = match registers.upgrade() {
            Some(inner) => pause(&Registers { inner }).await,
            None => return,
        };
        tokio::select! {
            () = stirred.notified() => {}
            () = tokio::time::sleep(wait) => {}
            changed = config.changed() => if changed.is_err() { return },
        }
    }
}

/// Does what is to be done now. How long nothing is to be done.
async fn pause(registers: &Registers) -> Duration {
    for id in wallboxes(registers) {
        // The defaults of a wallbox count from the start on, whether anybody asks for them or not.
        registers.wallbox(&id).await;
    }
    let next = look(registers).await;
    let wait = next.map(|at| at.since(registers.source().clock.now()).max(Duration::from_millis(10)));
    wait.unwrap_or(Duration::from_secs(3600))
}

fn wallboxes(registers: &Registers) -> Vec<crate::site::DeviceId> {
    let config = registers.source().config.borrow();
    config.devices.iter().map(|device| device.id.clone()).filter(|id| id.kind() == DeviceKind::Evse).collect()
}

/// Declares silent who has been so for too long, and pays what is owed. When to look again.
async fn look(registers: &Registers) -> Option<Moment> {
    let now = registers.source().clock.now();
    let observes = registers.source().config.borrow().load.mode == LoadMode::Observe;
    let mut next: Option<Moment> = None;
    let mut paying = JoinSet::new();
    for (id, wallbox) in registers.inner.all() {
        let (fell_silent, deadline) = {
            let mut state = wallbox.state();
            let after = Duration::from_secs(state.held.defaults.fail_safe_s.into());
            let watched = state.controlled && !state.held.silent && !after.is_zero();
            let deadline = watched.then(|| state.heard.after(after));
            let fell_silent = deadline.is_some_and(|deadline| deadline <= now);
            state.held.silent |= fell_silent;
            (fell_silent, deadline.filter(|_| !fell_silent))
        };
        if fell_silent {
            tracing::warn!(device = %id, "its Modbus controller has fallen silent; the failsafe current counts");
            registers.show_wish(&wallbox, &id).await;
        }
        if observes && wallbox.state().owed {
            let registers = registers.clone();
            // At the same time: one that hangs holds up nobody else.
            paying.spawn(async move { registers.pay(&wallbox, &id).await });
        }
        next = next.into_iter().chain(deadline).min();
    }
    let all_paid = paying.join_all().await.into_iter().all(|paid| paid);
    let again = (!all_paid).then(|| registers.source().clock.now().after(AGAIN));
    next.into_iter().chain(again).min()
}
