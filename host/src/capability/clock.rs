//! `ladekern:host/clock`: the host's clock, the only one a driver has.

use std::time::Duration;

use crate::runtime::Guest;
use crate::runtime::bindings::ladekern::host::clock::Host;

impl Host for Guest {
    fn now_ms(&mut self) -> wasmtime::Result<u64> {
        self.host_call();
        Ok(self.context.clock.now().0)
    }

    fn unix_ms(&mut self) -> wasmtime::Result<Option<u64>> {
        self.host_call();
        Ok(self.context.clock.unix_ms())
    }

    async fn sleep_ms(&mut self, duration: u32) -> wasmtime::Result<()> {
        self.host_call();
        tokio::time::sleep(Duration::from_millis(duration.into())).await;
        self.host_call();
        Ok(())
    }
}
