//! What one instance may use: the numbers, where they come from, and the accountant that says no.
//!
//! wasmtime's own `StoreLimits` compares each memory alone; here all memories of a store count together, and all
//! tables. What the guest asked for when it was refused is an error of its own type, so that the user reads the
//! name of the setting instead of "unreachable".

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::config::LimitsConfig;

/// Size of one step of the epoch clock: how finely computing time is measured.
pub const TICK: Duration = Duration::from_millis(10);
/// Stack of the WebAssembly code of one call, in bytes.
pub const WASM_STACK: usize = 256 * 1024;
/// Stack of the fiber a call runs on, in bytes; host functions need some below the guest's.
pub const FIBER_STACK: usize = 512 * 1024;
/// Open endpoints of one instance, and what WASI hands out.
pub const HANDLES: usize = 64;
/// Live handles of all kinds, those to resources of the guest itself included.
pub const ALL_HANDLES: usize = 4 * HANDLES;
/// Readings in one outcome.
pub const READINGS: usize = 256;
/// Texts in one outcome, features of one device.
pub const TEXTS: usize = 64;
/// Bytes of the name of a reading or a text.
pub const NAME_BYTES: usize = 64;
/// Bytes of one text, and of model, serial number and firmware.
pub const TEXT_BYTES: usize = 1024;
/// Blocks of one register plan; subscriptions and fetches of a payload decoder.
pub const PLAN: usize = 256;
/// Bytes of one log line.
pub const LOG_LINE: usize = 1024;
/// Seconds of full log rate that may come at once.
pub const LOG_BURST_SECONDS: u32 = 5;
/// Keys a device may have in `state`.
pub const STATE_KEYS: usize = 64;
/// Core instances of one store; a Python component needs 38 of them, so the compatibility profile has more.
pub const CORE_INSTANCES: usize = 16;
/// Core instances of one store under the compatibility profile.
pub const CORE_INSTANCES_WASI: usize = 64;
/// Linear memories of one store.
pub const MEMORIES: usize = 4;
/// Linear memories of one store under the compatibility profile.
pub const MEMORIES_WASI: usize = 8;
/// Bytes a guest may hand to the host in one host call or as one result.
pub const HOSTCALL_BYTES: usize = 1024 * 1024;
/// Bytes of a component file.
pub const COMPONENT_FILE: u64 = 16 * MIB;
/// Bytes of a component file when a binding gives `wasi = true`: Python components have 18 MB.
pub const COMPONENT_FILE_WASI: u64 = 64 * MIB;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Default and maximum of what a user can set.
struct Range<T> {
    key: &'static str,
    default: T,
    max: T,
}

const MEMORY: Range<u64> = Range { key: "limits.memory", default: 8 * MIB, max: 256 * MIB };
const MEMORY_WASI: u64 = 64 * MIB;
const TABLES: Range<u64> = Range { key: "limits.tables", default: 16_384, max: 131_072 };
const CPU: Range<Duration> =
    Range { key: "limits.cpu_ms", default: Duration::from_millis(200), max: Duration::from_secs(2) };
const CALL: Range<Duration> =
    Range { key: "limits.call_timeout_ms", default: Duration::from_secs(10), max: Duration::from_secs(60) };
const LOG: Range<u32> = Range { key: "limits.log", default: 20, max: 1_000 };
const STATE: Range<u64> = Range { key: "limits.state", default: 16 * KIB, max: MIB };
const HTTP_BODY: Range<u64> = Range { key: "limits.http_body", default: 256 * KIB, max: 4 * MIB };

/// The limits of one instance, every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory, all memories together.
    pub memory: u64,
    /// Elements of all tables together.
    pub tables: u64,
    /// Core instances of the store.
    pub instances: usize,
    /// Linear memories of the store.
    pub memories: usize,
    /// Computing without a host call.
    pub cpu: Duration,
    /// Wall clock of one call.
    pub call_timeout: Duration,
    /// Wall clock of `open`, the start of the instance included.
    pub open_timeout: Duration,
    /// Wall clock of `close`.
    pub close_timeout: Duration,
    /// Bytes the guest may hand to the host at once.
    pub hostcall_bytes: usize,
    /// Log lines per second; five seconds' worth may come at once.
    pub log: u32,
    /// Bytes of `state`, keys and values together.
    pub state: u64,
    /// Bytes of one HTTP body, in or out.
    pub http_body: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: MEMORY.default,
            tables: TABLES.default,
            instances: CORE_INSTANCES,
            memories: MEMORIES,
            cpu: CPU.default,
            call_timeout: CALL.default,
            open_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(3),
            hostcall_bytes: HOSTCALL_BYTES,
            log: LOG.default,
            state: STATE.default,
            http_body: HTTP_BODY.default,
        }
    }
}

impl Limits {
    /// What holds for one device: the user's word, else the author's wish for memory (`[limits] memory` of
    /// `driver.toml`, cut to the maximum), else the default. `wasi` is the compatibility profile, whose language
    /// runtimes start with more.
    ///
    /// # Errors
    /// One sentence for each key above its maximum, or zero.
    pub fn resolve(config: &LimitsConfig, wish: Option<u64>, wasi: bool) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let bytes = |n: &u64| crate::runtime::limits::bytes(*n);
        let ms = |d: &Duration| format!("{} ms", d.as_millis());
        let memory_default = match wish {
            Some(wish) => wish.min(MEMORY.max),
            None if wasi => MEMORY_WASI,
            None => MEMORY.default,
        };
        let call_timeout = pick(config.call_timeout, CALL.default, &CALL, ms, &mut errors);
        let defaults = Self::default();
        let http_body = pick(config.http_body, HTTP_BODY.default, &HTTP_BODY, bytes, &mut errors);
        let limits = Self {
            memory: pick(config.memory, memory_default, &MEMORY, bytes, &mut errors),
            tables: pick(config.tables, TABLES.default, &TABLES, u64::to_string, &mut errors),
            instances: if wasi { CORE_INSTANCES_WASI } else { CORE_INSTANCES },
            memories: if wasi { MEMORIES_WASI } else { MEMORIES },
            cpu: pick(config.cpu, CPU.default, &CPU, ms, &mut errors),
            call_timeout,
            open_timeout: defaults.open_timeout.max(call_timeout),
            close_timeout: defaults.close_timeout,
            // A body crosses the border in one piece, with its headers around it.
            hostcall_bytes: HOSTCALL_BYTES.max(usize::try_from(http_body).unwrap_or(usize::MAX) + 64 * 1024),
            log: pick(config.log, LOG.default, &LOG, u32::to_string, &mut errors),
            state: pick(config.state, STATE.default, &STATE, bytes, &mut errors),
            http_body,
        };
        if errors.is_empty() { Ok(limits) } else { Err(errors) }
    }

    /// Ticks of the epoch clock a guest may compute without a host call.
    pub(crate) fn cpu_ticks(&self) -> u32 {
        u32::try_from(self.cpu.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX).max(1)
    }
}

fn pick<T: Copy + PartialOrd + Default>(
    given: Option<T>,
    default: T,
    range: &Range<T>,
    show: impl Fn(&T) -> String,
    errors: &mut Vec<String>,
) -> T {
    match given {
        None => default,
        Some(value) if value > range.max => {
            errors.push(format!("{} is {}, at most {} is possible", range.key, show(&value), show(&range.max)));
            range.max
        }
        Some(value) if value == T::default() => {
            errors.push(format!("{} is 0, nothing could run; leave it out for {}", range.key, show(&default)));
            default
        }
        Some(value) => value,
    }
}

/// A number of bytes as people write it: `8 MiB`, `1500 bytes`.
#[must_use]
pub fn bytes(n: u64) -> String {
    match n {
        n if n >= MIB && n % MIB == 0 => format!("{} MiB", n / MIB),
        n if n >= KIB && n % KIB == 0 => format!("{} KiB", n / KIB),
        n if n >= 10 * MIB => format!("{:.1} MiB", n as f64 / MIB as f64),
        n => format!("{n} bytes"),
    }
}

/// The guest asked for more than it may have. Travels through wasmtime as the cause of the trap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({setting})")]
pub struct LimitExceeded {
    /// The setting that gives more, or the name of a fixed limit.
    pub setting: &'static str,
    /// What was asked for and what is allowed.
    pub reason: String,
}

impl LimitExceeded {
    pub(crate) fn new(setting: &'static str, reason: impl Into<String>) -> Self {
        Self { setting, reason: reason.into() }
    }
}

/// Counts the memories and tables of one store.
#[derive(Debug)]
pub(crate) struct Accountant {
    limits: Limits,
    memory: u64,
    tables: u64,
    memory_peak: u64,
}

impl Accountant {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, memory: 0, tables: 0, memory_peak: 0 }
    }

    /// The most bytes all memories together ever had.
    pub(crate) fn memory_peak(&self) -> u64 {
        self.memory_peak
    }
}

/// The sum after one part grew. A part never shrinks, so `desired` is at least `current`.
fn grown(sum: u64, current: usize, desired: usize) -> u64 {
    sum.saturating_sub(current as u64).saturating_add(desired as u64)
}

impl ResourceLimiter for Accountant {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The component's own bound: `memory.grow` answers -1 as the specification says.
            return Ok(false);
        }
        let sum = grown(self.memory, current, desired);
        if sum > self.limits.memory {
            let reason = format!("it wanted {} of memory, {} are allowed", bytes(sum), bytes(self.limits.memory));
            return Err(LimitExceeded::new(MEMORY.key, reason).into());
        }
        self.memory = sum;
        self.memory_peak = self.memory_peak.max(sum);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let sum = grown(self.tables, current, desired);
        if sum > self.limits.tables {
            let reason = format!("it wanted {sum} table elements, {} are allowed", self.limits.tables);
            return Err(LimitExceeded::new(TABLES.key, reason).into());
        }
        self.tables = sum;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }

    fn memories(&self) -> usize {
        self.limits.memories
    }

    fn tables(&self) -> usize {
        // Each has at least one element that counts against `limits.tables`, except for empty ones.
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl FnOnce(&mut LimitsConfig)) -> LimitsConfig {
        let mut config = LimitsConfig::default();
        change(&mut config);
        config
    }

    #[test]
    fn the_user_beats_the_author_and_the_author_beats_the_default() {
        let memory = |config: &LimitsConfig, wish, wasi| Limits::resolve(config, wish, wasi).unwrap().memory;
        let none = LimitsConfig::default();
        assert_eq!(memory(&none, None, false), 8 * MIB);
        assert_eq!(memory(&none, None, true), 64 * MIB);
        assert_eq!(memory(&none, Some(4 * MIB), true), 4 * MIB);
        assert_eq!(memory(&none, Some(1024 * MIB), false), 256 * MIB);
        assert_eq!(memory(&config(|c| c.memory = Some(MIB)), Some(4 * MIB), false), MIB);
    }

    #[test]
    fn every_key_above_its_maximum_is_named() {
        let config = LimitsConfig {
            memory: Some(257 * MIB),
            tables: Some(131_073),
            cpu: Some(Duration::from_millis(2_001)),
            call_timeout: Some(Duration::from_millis(60_001)),
            log: Some(1_001),
            state: Some(MIB + 1),
            http_body: Some(4 * MIB + 1),
        };
        let errors = Limits::resolve(&config, None, false).unwrap_err();
        let keys = ["limits.memory", "limits.tables", "limits.cpu_ms", "limits.call_timeout_ms", "limits.log"];
        for key in keys.into_iter().chain(["limits.state", "limits.http_body"]) {
            assert!(errors.iter().any(|e| e.starts_with(key)), "{key}: {errors:?}");
        }
        assert_eq!(errors.len(), 7);
        assert!(errors.iter().any(|e| e == "limits.memory is 257 MiB, at most 256 MiB is possible"), "{errors:?}");
    }

    #[test]
    fn zero_is_refused() {
        let errors = Limits::resolve(&config(|c| c.memory = Some(0)), None, false).unwrap_err();
        assert_eq!(errors, ["limits.memory is 0, nothing could run; leave it out for 8 MiB"]);
    }

    #[test]
    fn memories_count_together() {
        let mut accountant = Accountant::new(Limits { memory: 3 * 65_536, ..Limits::default() });
        assert!(accountant.memory_growing(0, 65_536, None).unwrap());
        assert!(accountant.memory_growing(0, 65_536, None).unwrap());
        assert!(accountant.memory_growing(65_536, 131_072, None).unwrap());
        let error = accountant.memory_growing(65_536, 131_072, None).unwrap_err();
        assert_eq!(error.downcast_ref::<LimitExceeded>().unwrap().setting, "limits.memory");
        assert_eq!(accountant.memory_peak(), 3 * 65_536);
    }

    #[test]
    fn a_memorys_own_maximum_is_no_fault() {
        let mut accountant = Accountant::new(Limits::default());
        assert!(!accountant.memory_growing(0, 65_536, Some(10)).unwrap());
        assert_eq!(accountant.memory_peak(), 0);
    }
}
