//! The outputs of one device, one after the other.

use ladekern_definition::OutputRequest;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::RESETS;
use super::send::Sender;

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
    pub fn new(sender: Sender, outputs: usize) -> Self {
        Self { sender, outputs: (0..outputs).map(|_| Sent::default()).collect() }
    }

    /// Ends when the device is deactivated, or when nobody tells it anything any more. `before`: what has to end first.
    pub async fn run(mut self, mut wants: watch::Receiver<Wants>, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            // The former lane bounds its own time, and one that broke down has ended.
            let _ = before.await;
        }
        loop {
            let mut ending = wants.clone();
            tokio::select! {
                // Also while a target hangs.
                biased;
                over = async { ending.wait_for(|wants| wants.over).await.is_ok() } => {
                    if over { break } else { return }
                }
                () = self.send(&mut wants) => {}
            }
        }
        let resets: Vec<_> = wants.borrow().resets.iter().flatten().cloned().collect();
        if tokio::time::timeout(RESETS, self.reset(&resets)).await.is_err() {
            let device = &self.sender.device;
            tracing::warn!(%device, "not all resets were sent within {} s", RESETS.as_secs());
        }
    }

    /// Waits for the next cycle and sends what is due.
    async fn send(&mut self, wants: &mut watch::Receiver<Wants>) {
        if wants.changed().await.is_err() {
            // Whoever follows the end sees it, too.
            return std::future::pending().await;
        }
        let requests = wants.borrow_and_update().outputs.clone();
        for (at, (request, sent)) in requests.into_iter().zip(&mut self.outputs).enumerate() {
            let Some(request) = request else {
                // When it comes back it is sent, though it be the same.
                sent.last = None;
                continue;
            };
            if !sent.is_due(&request) {
                continue;
            }
            let device = &self.sender.device;
            match self.sender.send(&request).await {
                Ok(()) => {
                    if sent.failures > 0 {
                        tracing::info!(%device, "outputs[{at}]: sent again after {} failures", sent.failures);
                    }
                    *sent = Sent { last: Some((request, Instant::now())), failures: 0 };
                }
                Err(error) => {
                    if sent.failures == 0 {
                        tracing::warn!(%device, "outputs[{at}]: not sent, tried again in each cycle: {error}");
                    }
                    // What was there before may have been replaced by half of this.
                    *sent = Sent { last: None, failures: sent.failures + 1 };
                }
            }
        }
    }

    async fn reset(&self, resets: &[OutputRequest]) {
        for (at, request) in resets.iter().enumerate() {
            if let Err(error) = self.sender.send(request).await {
                tracing::warn!(device = %self.sender.device, "resets[{at}]: not sent: {error}");
            }
        }
    }
}

impl Sent {
    fn is_due(&self, request: &OutputRequest) -> bool {
        match &self.last {
            Some((last, at)) if last == request => request.repeat.is_some_and(|repeat| at.elapsed() >= repeat),
            _ => true,
        }
    }
}
