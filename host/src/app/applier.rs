//! Takes the devices over to each new configuration, beside the one who decides what it is: closing a device may take
//! seconds, and nobody else is to wait for that.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::writer::Waiting;
use crate::config::Config;
use crate::device::Devices;

/// The task; ends when the last job is done after [`Applier::stop`].
#[derive(Debug)]
pub(super) struct Applier {
    jobs: mpsc::UnboundedSender<Job>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Job {
    config: Arc<Config>,
    waiting: Option<Waiting>,
}

impl Applier {
    pub fn start(devices: Devices) -> Self {
        // Without a bound, because each job is a change of the file or somebody who waits for it, and they are few.
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let task = tokio::spawn(async move {
            while let Some(mut job) = queue.recv().await {
                let mut waiting: Vec<Waiting> = job.waiting.take().into_iter().collect();
                // Only the newest counts, and who waits for an older one waits for that one too.
                while let Ok(newer) = queue.try_recv() {
                    job.config = newer.config;
                    waiting.extend(newer.waiting);
                }
                devices.apply(&job.config).await;
                for waiting in waiting {
                    // Whoever has gone does not want to know.
                    let _ = waiting.send(Ok(()));
                }
            }
        });
        Self { jobs, task }
    }

    /// Takes the devices over, then tells who waits.
    pub fn apply(&self, config: Arc<Config>, waiting: Option<Waiting>) {
        // The task lives as long as this; if it broke down, who waits is told that by the dropped sender.
        let _ = self.jobs.send(Job { config, waiting });
    }

    /// Ends after what is under way. A device that is being closed is not left alone with that.
    pub async fn stop(self) {
        drop(self.jobs);
        if let Err(error) = self.task.await {
            tracing::error!("taking over the configuration broke down: {error}");
        }
    }
}
