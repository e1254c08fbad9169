//! A unit made of plain register tables, for transport tests and simple devices; it remembers every write. No physics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Answer, Unit, exception};

/// The four tables of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Bits that can be written (functions 1, 5, 15).
    Coils,
    /// Bits that cannot be written (function 2).
    Discrete,
    /// Registers that can be written (functions 3, 6, 16).
    Holding,
    /// Registers that cannot be written (function 4).
    Input,
}

type OnWrite = Box<dyn Fn(u16, &[u16]) -> Answer<()> + Send + Sync>;

#[derive(Default)]
struct State {
    values: BTreeMap<(Table, u16), u16>,
    writes: Vec<(u16, Vec<u16>)>,
    requests: u64,
}

/// Register tables; what has not been defined answers with exception 2.
#[derive(Default)]
pub struct Bank {
    state: Mutex<State>,
    on_write: Option<OnWrite>,
}

impl Bank {
    /// Empty tables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Defines `values` from `address` in `table`; for bits 0 is off and anything else on.
    #[must_use]
    pub fn with(self, table: Table, address: u16, values: &[u16]) -> Self {
        self.set(table, address, values);
        self
    }

    /// Asks `check` before registers are written: it may refuse with an exception code.
    #[must_use]
    pub fn on_write(mut self, check: impl Fn(u16, &[u16]) -> Answer<()> + Send + Sync + 'static) -> Self {
        self.on_write = Some(Box::new(check));
        self
    }

    /// Sets values, defining them where needed.
    pub fn set(&self, table: Table, address: u16, values: &[u16]) {
        let mut state = self.state();
        for (offset, value) in (0u16..).zip(values) {
            state.values.insert((table, address.wrapping_add(offset)), *value);
        }
    }

    /// A value, if it is defined.
    #[must_use]
    pub fn get(&self, table: Table, address: u16) -> Option<u16> {
        self.state().values.get(&(table, address)).copied()
    }

    /// Every successful write in order: first address and values (1 and 0 for coils).
    #[must_use]
    pub fn writes(&self) -> Vec<(u16, Vec<u16>)> {
        self.state().writes.clone()
    }

    /// Requests this unit has received.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, table: Table, address: u16, count: u16) -> Answer<Vec<u16>> {
        let state = self.state();
        (0..count)
            .map(|n| state.values.get(&(table, address.wrapping_add(n))).copied().ok_or(exception::ADDRESS))
            .collect()
    }

    fn write(&self, table: Table, address: u16, values: &[u16]) -> Answer<()> {
        let mut state = self.state();
        let all_there = (0u16..).zip(values).all(|(n, _)| state.values.contains_key(&(table, address.wrapping_add(n))));
        if !all_there {
            return Err(exception::ADDRESS);
        }
        for (n, value) in (0u16..).zip(values) {
            state.values.insert((table, address.wrapping_add(n)), *value);
        }
        state.writes.push((address, values.to_vec()));
        Ok(())
    }
}

impl Unit for Bank {
    fn read_words(&self, table: Table, address: u16, count: u16) -> Answer<Vec<u16>> {
        self.read(table, address, count)
    }

    fn write_words(&self, address: u16, values: &[u16]) -> Answer<()> {
        if let Some(check) = &self.on_write {
            check(address, values)?;
        }
        self.write(Table::Holding, address, values)
    }

    fn read_bits(&self, table: Table, address: u16, count: u16) -> Answer<Vec<bool>> {
        Ok(self.read(table, address, count)?.into_iter().map(|value| value != 0).collect())
    }

    fn write_bits(&self, address: u16, values: &[bool]) -> Answer<()> {
        let values: Vec<u16> = values.iter().map(|on| u16::from(*on)).collect();
        self.write(Table::Coils, address, &values)
    }

    fn heard(&self) {
        self.state().requests += 1;
    }
}
