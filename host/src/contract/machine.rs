//! How busy the machine is: `cpu` and `mem` of the `params` object, in %. Linux tells it in `/proc`; elsewhere both
//! are 0. Looked up at most once per second, whoever asks how often.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::site::Moment;

/// Looking more often would show noise.
const INTERVAL: Duration = Duration::from_secs(1);

/// Load of the machine in whole %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Of all processors together, since the look before.
    pub cpu: u8,
    /// Memory that is not available to programs.
    pub mem: u8,
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub(super) struct Watch {
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    at: Option<Moment>,
    ticks: Ticks,
    shown: Machine,
}

/// Time of all processors since the start, in the kernel's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

impl Watch {
    /// The load now, or of less than a second ago.
    pub fn look(&self, now: Moment) -> Machine {
        self.look_at(now, |name| std::fs::read_to_string(name).ok())
    }

    fn look_at(&self, now: Moment, read: impl Fn(&str) -> Option<String>) -> Machine {
        // Each change is complete before anything could panic.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.at.is_some_and(|at| now.since(at) < INTERVAL) {
            return last.shown;
        }
        last.at = Some(now);
        if let Some(ticks) = read("/proc/stat").as_deref().and_then(ticks) {
            last.shown.cpu =
                percent(ticks.busy.saturating_sub(last.ticks.busy), ticks.all.saturating_sub(last.ticks.all));
            last.ticks = ticks;
        }
        if let Some(mem) = read("/proc/meminfo").as_deref().and_then(memory) {
            last.shown.mem = mem;
        }
        last.shown
    }
}

/// `cpu  user nice system idle iowait irq softirq steal …`, proc(5).
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    // The two behind these are counted in user and nice already.
    let values: Vec<u64> = line.split_whitespace().skip(1).take(8).map_while(|value| value.parse().ok()).collect();
    let [_, _, _, idle, rest @ ..] = values.as_slice() else { return None };
    let idle = idle + rest.first().copied().unwrap_or(0);
    let all = values.iter().sum();
    Some(Ticks { busy: u64::saturating_sub(all, idle), all })
}

fn memory(meminfo: &str) -> Option<u8> {
    let kib = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = kib("MemTotal:")?;
    Some(percent(total.saturating_sub(kib("MemAvailable:")?), total))
}

fn percent(part: u64, whole: u64) -> u8 {
    let percent = part.saturating_mul(100).checked_div(whole).unwrap_or(0);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1\n";
    const MEMORY: &str = "MemTotal:        1000 kB\nMemFree:           10 kB\nMemAvailable:     250 kB\n";

    #[test]
    fn the_load_is_that_since_the_last_look_and_looked_up_once_per_second() {
        let watch = Watch::default();
        let files =
            |stat: &'static str| move |name: &str| Some(if name == "/proc/stat" { stat } else { MEMORY }.into());
        assert_eq!(watch.look_at(Moment(1_000), files(STAT)), Machine { cpu: 20, mem: 75 }, "since the start");
        let later = "cpu  190 0 100 710 100 0 0 0 50 0\n";
        assert_eq!(watch.look_at(Moment(1_900), files(later)), Machine { cpu: 20, mem: 75 }, "too soon");
        assert_eq!(watch.look_at(Moment(2_000), files(later)), Machine { cpu: 90, mem: 75 });
        // Files that are not there, or say something else, change nothing.
        assert_eq!(watch.look_at(Moment(4_000), |_| None), Machine { cpu: 90, mem: 75 });
        assert_eq!(watch.look_at(Moment(6_000), |_| Some("cpu x".into())), Machine { cpu: 90, mem: 75 });
        assert_eq!(Watch::default().look_at(Moment(1_000), |_| None), Machine::default());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_it() {
        assert!(Watch::default().look(Moment(1_000)).mem > 0);
    }
}
