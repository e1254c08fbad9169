//! Medians, percentiles, and what the kernel says about memory.

use std::time::Duration;

use anyhow::Context as _;

/// Rounds of which the median counts.
pub const ROUNDS: usize = 7;

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

/// Microseconds of computing that one call takes: the median over [`ROUNDS`] rounds of `calls` calls, after one round
/// to warm up.
pub fn time_us(calls: u32, mut call: impl FnMut()) -> anyhow::Result<f64> {
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let start = Cpu::now()?;
        (0..calls).for_each(|_| call());
        rounds.push(us(start.elapsed()?) / f64::from(calls));
    }
    rounds.remove(0);
    Ok(median(rounds))
}

/// A moment on the clock that only runs while this thread computes: what others do on a shared machine is not in it.
/// It ticks every few milliseconds only, so what is measured has to take a tenth of a second.
#[derive(Clone, Copy, Debug)]
pub struct Cpu(Duration);

impl Cpu {
    pub fn now() -> anyhow::Result<Self> {
        let file = "/proc/thread-self/schedstat";
        let text = std::fs::read_to_string(file).with_context(|| format!("{file} (this number needs Linux)"))?;
        let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse().ok());
        Ok(Self(Duration::from_nanos(nanoseconds.with_context(|| format!("{file}: {text}"))?)))
    }

    pub fn elapsed(self) -> anyhow::Result<Duration> {
        Ok(Self::now()?.0.saturating_sub(self.0))
    }
}

/// Computing time of a process so far, all its threads together. `pid`: a number or `self`.
pub fn process_cpu(pid: &str) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name in parentheses; utime and stime are the fields 14 and 15, in ticks of 10 ms.
    let (_, fields) = text.rsplit_once(')').context("no process name")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
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
