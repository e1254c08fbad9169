//! `ladekern:host/state`: the driver's own few values. The guest learns that its space is used up; the log says
//! which setting gives more.

use crate::runtime::Guest;
use crate::runtime::bindings::ladekern::host::state::{Error, Host};
use crate::runtime::limits::{STATE_KEYS, bytes};
use crate::store::StateError;

impl Guest {
    fn state_error(&self, error: StateError, key: &str) -> Error {
        let key: String = key.chars().take(64).collect();
        let space = bytes(self.context.limits.state);
        match error {
            StateError::TooLarge => {
                self.log.note(&format!("state \"{key}\" is larger than the device's {space} (limits.state)"));
                Error::TooLarge
            }
            StateError::Quota => {
                self.log.note(&format!(
                    "state \"{key}\" does not fit: a device may keep {STATE_KEYS} keys and {space} (limits.state)"
                ));
                Error::Quota
            }
            StateError::Io(reason) => Error::Io(reason),
        }
    }
}

impl Host for Guest {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.host_call();
        let found = self.context.state.get(&self.context.device, &self.plugin, key.clone()).await;
        self.host_call();
        Ok(found.map_err(|error| self.state_error(error, &key)))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.host_call();
        let (device, space) = (&self.context.device, self.context.limits.state);
        let done = self.context.state.set(device, &self.plugin, key.clone(), value, space).await;
        self.host_call();
        Ok(done.map_err(|error| self.state_error(error, &key)))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        self.host_call();
        let done = self.context.state.delete(&self.context.device, &self.plugin, key.clone()).await;
        self.host_call();
        Ok(done.map_err(|error| self.state_error(error, &key)))
    }
}
