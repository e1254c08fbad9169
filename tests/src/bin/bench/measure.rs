//! Medians, percentiles, and what the kernel says about memory.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Rounds of which the median counts.
pub const ROUNDS: usize = 15;

/// The value below which `share` (0 to 1) of the values lie.
pub fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// The middle one.
pub fn median(values: Vec<f64>) -> f64 {
    percentile(values, 0.5)
}

/// Microseconds of one call: the median over [`ROUNDS`] rounds of `calls` calls, after one round to warm up.
pub fn time_us(calls: u32, mut call: impl FnMut()) -> f64 {
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let start = Instant::now();
        (0..calls).for_each(|_| call());
        rounds.push(us(start.elapsed()) / f64::from(calls));
    }
    rounds.remove(0);
    median(rounds)
}

pub fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Memory of a process that is in RAM now, in KiB. `pid`: a number or `self`.
pub fn resident_kib(pid: &str) -> anyhow::Result<f64> {
    let file = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{file} (this number needs Linux)"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).context("VmRSS is no number")
}
