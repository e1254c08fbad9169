//! What goes over a wire, kept beside what is made of it: for people who try a definition out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::EndpointConfig;
use crate::device::installed::Wires;
use crate::site::DeviceId;
use crate::transport::{
    Block, BoxFuture, Endpoint, Http, HttpError, HttpMethod, HttpRequest, HttpResponse, Modbus, ModbusError,
};

/// What has been answered, in the order of the answers.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub blocks: Vec<(Block, Result<Vec<u16>, ModbusError>)>,
    pub pages: Vec<(HttpMethod, String, Result<HttpResponse, HttpError>)>,
}

/// Passes everything on and keeps the answers.
#[derive(Clone)]
pub(super) struct Tap {
    wires: Arc<dyn Wires>,
    heard: Arc<Mutex<Heard>>,
}

impl Tap {
    pub fn new(wires: Arc<dyn Wires>) -> Self {
        Self { wires, heard: Arc::default() }
    }

    /// What has been answered until now.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        lock(&self.heard)
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wires for Tap {
    fn endpoint(
        &self,
        device: &DeviceId,
        slot: &str,
        binding: &EndpointConfig,
        default_port: Option<u16>,
        default_unit: Option<u8>,
    ) -> Result<Endpoint, String> {
        let heard = Arc::clone(&self.heard);
        Ok(match self.wires.endpoint(device, slot, binding, default_port, default_unit)? {
            Endpoint::Modbus(wire) => Endpoint::Modbus(Arc::new(Tapped { wire, heard })),
            Endpoint::Http(wire) => Endpoint::Http(Arc::new(Tapped { wire, heard })),
            // Messages pass through the hands of whoever listens.
            Endpoint::Mqtt(wire) => Endpoint::Mqtt(wire),
        })
    }
}

struct Tapped<W: ?Sized> {
    heard: Arc<Mutex<Heard>>,
    wire: Arc<W>,
}

impl Modbus for Tapped<dyn Modbus> {
    fn read(&self, block: Block) -> BoxFuture<'_, Result<Vec<u16>, ModbusError>> {
        Box::pin(async move {
            let answer = self.wire.read(block).await;
            lock(&self.heard).blocks.push((block, answer.clone()));
            answer
        })
    }

    fn read_many(&self, blocks: Vec<Block>) -> BoxFuture<'_, Vec<Result<Vec<u16>, ModbusError>>> {
        Box::pin(async move {
            let answers = self.wire.read_many(blocks.clone()).await;
            lock(&self.heard).blocks.extend(blocks.into_iter().zip(answers.iter().cloned()));
            answers
        })
    }

    fn write_coil(&self, address: u16, value: bool) -> BoxFuture<'_, Result<(), ModbusError>> {
        self.wire.write_coil(address, value)
    }

    fn write_register(&self, address: u16, value: u16) -> BoxFuture<'_, Result<(), ModbusError>> {
        self.wire.write_register(address, value)
    }

    fn write_registers(&self, address: u16, values: Vec<u16>) -> BoxFuture<'_, Result<(), ModbusError>> {
        self.wire.write_registers(address, values)
    }
}

impl Http for Tapped<dyn Http> {
    fn send(&self, request: HttpRequest, max_body: u64) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let (method, path) = (request.method, request.path.clone());
            let answer = self.wire.send(request, max_body).await;
            lock(&self.heard).pages.push((method, path, answer.clone()));
            answer
        })
    }
}
