//! `ladekern:modbus/client`: one unit on the bus that the user bound. The guest names no address and no unit.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::runtime::Guest;
use crate::runtime::bindings::ladekern::modbus::client::{Error, Host, HostEndpoint};
use crate::transport::{Block, Endpoint, Modbus, ModbusError, Table};

/// Most registers one request may write (Modbus application protocol 1.1b3, 6.12).
const MAX_WRITE: usize = 123;

/// An open Modbus slot of a guest.
pub struct ModbusSlot {
    name: String,
    wire: Arc<dyn Modbus>,
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Guest {
    fn modbus_error(&self, slot: &str, error: ModbusError) -> Error {
        match error {
            ModbusError::Denied(why) => Error::Denied(self.refused(slot, &why)),
            ModbusError::Timeout => Error::Timeout,
            ModbusError::Unreachable(why) => Error::Unreachable(why),
            ModbusError::Exception(code) => Error::Exception(code),
            ModbusError::Protocol(why) => Error::Protocol(why),
            ModbusError::Limit(why) => Error::Limit(why),
        }
    }

    async fn modbus_read(&mut self, slot: &Resource<ModbusSlot>, block: Block) -> Answer<Vec<u16>> {
        self.host_call();
        let slot = self.table.get(slot)?;
        let max = block.table.max_count();
        if block.count == 0 || block.count > max {
            let why = format!("one request reads 1 to {max} values, {} were asked for", block.count);
            return Ok(Err(Error::Limit(why)));
        }
        if u32::from(block.address) + u32::from(block.count) > 0x1_0000 {
            let why = format!("{} values from address {} end beyond address 65535", block.count, block.address);
            return Ok(Err(Error::Limit(why)));
        }
        let answer = slot.wire.read(block).await;
        let answer = match answer {
            Ok(values) if values.len() == usize::from(block.count) => Ok(values),
            Ok(values) => Err(Error::Protocol(format!("{} values were asked for, {} came", block.count, values.len()))),
            Err(error) => Err(self.modbus_error(&slot.name, error)),
        };
        self.host_call();
        Ok(answer)
    }

    async fn modbus_read_bits(&mut self, slot: &Resource<ModbusSlot>, block: Block) -> Answer<Vec<bool>> {
        let answer = self.modbus_read(slot, block).await?;
        Ok(answer.map(|values| values.into_iter().map(|value| value != 0).collect()))
    }
}

impl Host for Guest {}

impl HostEndpoint for Guest {
    async fn open(&mut self, name: String) -> Answer<Resource<ModbusSlot>> {
        self.host_call();
        let wire = match self.bound(&name) {
            Ok(Endpoint::Modbus(wire)) => wire.clone(),
            Ok(other) => return Ok(Err(Error::Denied(self.wrong_kind(&name, other, "modbus")))),
            Err(why) => return Ok(Err(Error::Denied(why))),
        };
        Ok(Ok(self.hand_out(ModbusSlot { name, wire })?))
    }

    async fn read_coils(&mut self, slot: Resource<ModbusSlot>, address: u16, count: u16) -> Answer<Vec<bool>> {
        self.modbus_read_bits(&slot, Block { table: Table::Coils, address, count }).await
    }

    async fn read_discrete_inputs(
        &mut self,
        slot: Resource<ModbusSlot>,
        address: u16,
        count: u16,
    ) -> Answer<Vec<bool>> {
        self.modbus_read_bits(&slot, Block { table: Table::Discrete, address, count }).await
    }

    async fn read_holding(&mut self, slot: Resource<ModbusSlot>, address: u16, count: u16) -> Answer<Vec<u16>> {
        self.modbus_read(&slot, Block { table: Table::Holding, address, count }).await
    }

    async fn read_input(&mut self, slot: Resource<ModbusSlot>, address: u16, count: u16) -> Answer<Vec<u16>> {
        self.modbus_read(&slot, Block { table: Table::Input, address, count }).await
    }

    async fn write_coil(&mut self, slot: Resource<ModbusSlot>, address: u16, value: bool) -> Answer<()> {
        self.host_call();
        let slot = self.table.get(&slot)?;
        let answer = slot.wire.write_coil(address, value).await.map_err(|e| self.modbus_error(&slot.name, e));
        self.host_call();
        Ok(answer)
    }

    async fn write_register(&mut self, slot: Resource<ModbusSlot>, address: u16, value: u16) -> Answer<()> {
        self.host_call();
        let slot = self.table.get(&slot)?;
        let answer = slot.wire.write_register(address, value).await.map_err(|e| self.modbus_error(&slot.name, e));
        self.host_call();
        Ok(answer)
    }

    async fn write_registers(&mut self, slot: Resource<ModbusSlot>, address: u16, values: Vec<u16>) -> Answer<()> {
        self.host_call();
        let slot = self.table.get(&slot)?;
        if values.is_empty() || values.len() > MAX_WRITE {
            let why = format!("one request writes 1 to {MAX_WRITE} registers, {} were given", values.len());
            return Ok(Err(Error::Limit(why)));
        }
        let answer = slot.wire.write_registers(address, values).await.map_err(|e| self.modbus_error(&slot.name, e));
        self.host_call();
        Ok(answer)
    }

    async fn drop(&mut self, slot: Resource<ModbusSlot>) -> wasmtime::Result<()> {
        self.table.delete(slot)?;
        Ok(())
    }
}
