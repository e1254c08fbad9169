//! The outputs of one device, one after the other.

use std::time::Duration;

use ladekern_definition::OutputRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RESETS;
use super::failures::Counter;
use super::send::{Sender, shown};

/// How long a request that is under way when the device is deactivated may go on: a reset must not arrive before it.
const GRACE: Duration = Duration::from_secs(1);

/// What is to be sent, from the newest cycle.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// By the place in the file; `None`: nothing.
    pub outputs: Vec<Option<OutputRequest>>,
    /// Likewise, from the last cycle that could make each of them.
    pub resets: Vec<Option<OutputRequest>>,
    /// The device is deactivated: only the resets are sent, then the lane ends.
    pub over: bool,
}

/// See the module.
pub(super) struct Lane {
    sender: Sender,
    failures: Counter,
    outputs: Vec<Sent>,
}

/// How far an output has come.
#[derive(Debug, Default)]
struct Sent {
    /// What arrived last, and when.
    last: Option<(OutputRequest, Instant)>,
    /// Failures since then.
    failures: u64,
}

impl Lane {
    pub fn new(sender: Sender, failures: Counter, outputs: usize) -> Self {
        Self { sender, failures, outputs: (0..outputs).map(|_| Sent::default()).collect() }
    }

    /// Ends when the device is deactivated, or when nobody tells it anything any more. `before`: what has to end first.
    pub async fn run(mut self, mut wants: watch::Receiver<Wants>, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            // The former lane bounds its own time, and one that broke down has ended.
            let _ = before.await;
        }
        while !wants.borrow().over {
            if wants.changed().await.is_err() {
                return;
            }
            wants.mark_unchanged();
            self.send(&wants).await;
        }
        let resets: Vec<_> = wants.borrow().resets.iter().cloned().enumerate().collect();
        self.reset(resets).await;
    }

    /// Sends what is due, each as the newest cycle wants it: a target that is slow must not make the others old.
    async fn send(&mut self, wants: &watch::Receiver<Wants>) {
        for (at, sent) in self.outputs.iter_mut().enumerate() {
            let request = {
                let wants = wants.borrow();
                if wants.over {
                    return;
                }
                wants.outputs.get(at).cloned().flatten()
            };
            let Some(request) = request else {
                // When it comes back it is sent, though it be the same.
                sent.last = None;
                continue;
            };
            if !sent.is_due(&request) {
                continue;
            }
            let outcome = tokio::select! {
                biased;
                outcome = self.sender.send(&request) => outcome,
                () = deactivated(wants.clone()) => return,
            };
            let (device, address) = (&self.sender.device, shown(&request));
            match outcome {
                Ok(()) => {
                    if sent.failures > 0 {
                        let failures = sent.failures;
                        tracing::info!(%device, "outputs[{at}], {address}: sent again after {failures} failures");
                    }
                    *sent = Sent { last: Some((request, Instant::now())), failures: 0 };
                }
                Err(error) => {
                    self.failures.add_one();
                    if sent.failures == 0 {
                        tracing::warn!(%device, "outputs[{at}], {address}: not sent, tried again in each cycle: {error}");
                    }
                    // What was there before may have been replaced by half of this.
                    *sent = Sent { last: None, failures: sent.failures + 1 };
                }
            }
        }
    }

    /// Each may take its share of the time that is left, so that one that hangs does not keep the others from theirs.
    async fn reset(&self, resets: Vec<(usize, Option<OutputRequest>)>) {
        let resets: Vec<_> = resets.into_iter().filter_map(|(at, reset)| Some((at, reset?))).collect();
        let (end, mut left) = (Instant::now() + RESETS, u32::try_from(resets.len()).unwrap_or(u32::MAX));
        for (at, request) in resets {
            let share = (end - Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            let late = |_| Err(format!("no answer within {share:.1?}"));
            if let Err(error) = tokio::time::timeout(share, self.sender.send(&request)).await.unwrap_or_else(late) {
                self.failures.add_one();
                tracing::warn!(device = %self.sender.device, "resets[{at}], {}: not sent: {error}", shown(&request));
            }
        }
    }
}

/// Returns when a request under way has had its time.
async fn deactivated(mut wants: watch::Receiver<Wants>) {
    // An error means that nobody is left who could want anything.
    let _ = wants.wait_for(|wants| wants.over).await.is_ok();
    tokio::time::sleep(GRACE).await;
}

impl Sent {
    fn is_due(&self, request: &OutputRequest) -> bool {
        match &self.last {
            Some((last, at)) if last == request => request.repeat.is_some_and(|repeat| at.elapsed() >= repeat),
            _ => true,
        }
    }
}
