//! The contract over MQTT: `set/<dev_id>` feeds the devices of type `http-input`; `get/…` shows the site and whether
//! we live; `api/…` takes calls, `ctl` controls wallboxes and `log` repeats the system's log; beside them our own
//! topics. Follows the configuration: what it changes is built anew, beside the old.

mod api;
pub(crate) mod complaints;
mod feeding;
mod links;
mod log;
mod native;
mod publishing;
pub(crate) mod repeats;

use std::sync::Arc;

use tokio::sync::watch;

use super::api::Api;
use super::ctl::{self, Ctl};
use links::Links;

/// The running contract over MQTT.
#[derive(Debug)]
pub struct ContractMqtt {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    ctl: Ctl,
}

impl ContractMqtt {
    /// Ends the control over `ctl` as `load.disable_policy` says, publishes how each device is left, says goodbye
    /// (`get/online` is `false`) and ends. The devices have to live until then. The transports send it before they
    /// close.
    pub async fn shutdown(mut self) {
        self.ctl.end().await;
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("the contract over MQTT broke down: {error}");
        }
    }
}

impl Drop for ContractMqtt {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts on the present runtime and follows the configuration.
#[must_use]
pub fn spawn(api: Api) -> ContractMqtt {
    let (stop, stopped) = watch::channel(false);
    let (ctl, control) = ctl::spawn(Arc::new(api.devices.clone()), api.source.config.clone());
    let native = native::transports(&api);
    let links = Links { api, control, native };
    ContractMqtt { stop, task: tokio::spawn(links.run(stopped)), ctl }
}

#[cfg(test)]
mod tests;
