//! The data of one store: everything a host function may touch on behalf of one device.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::limits::{Accountant, HANDLES, LimitExceeded, Limits};
use super::wasi;
use crate::capability::{LogTap, PluginLog};
use crate::site::{Clock, DeviceId};
use crate::store::DriverState;
use crate::transport::{Endpoints, Inbox};

/// What the host gives to the instance of one device. Outlives the instance: the next one gets the same wires.
#[derive(Clone)]
pub struct DeviceContext {
    /// The device.
    pub device: DeviceId,
    /// Its bound slots by name.
    pub endpoints: Endpoints,
    /// What the instance may use.
    pub limits: Limits,
    /// Where messages of the topics go to which a driver subscribes.
    pub inbox: Inbox,
    /// The values that outlive the instance.
    pub state: DriverState,
    /// The only clock the guest has.
    pub clock: Clock,
    /// Sees the guest's log lines beside the host's own log.
    pub log_tap: Option<LogTap>,
    /// The binding says `wasi = true`: a component that imports WASI may run, in an empty context.
    pub wasi: bool,
}

/// Data of one store.
pub struct Guest {
    pub(crate) context: DeviceContext,
    pub(crate) plugin: Arc<str>,
    pub(crate) table: ResourceTable,
    pub(crate) log: Arc<PluginLog>,
    pub(crate) accountant: Accountant,
    /// Ticks of the epoch clock since the call began or a host function ran.
    ticks: u32,
    wasi: Option<Box<WasiCtx>>,
}

impl Guest {
    pub(crate) fn new(plugin: Arc<str>, context: DeviceContext) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let log = Arc::new(PluginLog::new(
            context.device.clone(),
            plugin.clone(),
            context.clock,
            context.limits.log,
            context.log_tap.clone(),
        ));
        let accountant = Accountant::new(context.limits.clone());
        Self { context, plugin, table, log, accountant, ticks: 0, wasi: None }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.ticks = 0;
        self.log.forget_last_error();
    }

    /// The guest asked the host for something: it is not spinning. Said before and after each wait.
    pub(crate) fn host_call(&mut self) {
        self.ticks = 0;
    }

    /// The epoch clock ticked while guest code ran.
    pub(crate) fn tick(&mut self) -> Result<(), LimitExceeded> {
        self.ticks += 1;
        if self.ticks <= self.context.limits.cpu_ticks() {
            return Ok(());
        }
        let reason =
            format!("it computed for more than {:?} without asking the host for anything", self.context.limits.cpu);
        Err(LimitExceeded::new("limits.cpu_ms", reason))
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let log = &self.log;
        let ctx = self.wasi.get_or_insert_with(|| Box::new(wasi::empty_context(log)));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

/// The interface of shared types has no functions.
impl super::bindings::ladekern::device::types::Host for Guest {}
