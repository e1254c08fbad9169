//! `cargo xtask bench [NAME…]`: measures what the project promises, prints a table and writes
//! `target/bench/summary.json`. A missed target is a number and no failure; `docs/benchmarks.md` says what each number
//! means. Needs a release build, the built plugins and Mosquitto.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot run ends with a sentence; nobody depends on this program"
)]

mod broker;
mod contract;
mod counters;
mod decode_json;
mod definitions;
mod formulas;
mod guest;
mod http;
mod measure;
mod outbox;
mod plan;
mod report;
mod site;
mod spin;
mod wire;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use report::Number;

type Measured = Pin<Box<dyn Future<Output = anyhow::Result<Vec<Number>>>>>;

/// Numbers that come out of one run.
struct Group {
    names: &'static [&'static str],
    run: fn() -> Measured,
}

const GROUPS: &[Group] = &[
    Group { names: &["decode_call_us", "decode_vs_native"], run: || Box::pin(guest::decode()) },
    Group { names: &["decode_json_us"], run: || Box::pin(decode_json::eight_variables()) },
    Group { names: &["driver_poll_us"], run: || Box::pin(guest::driver_poll()) },
    Group { names: &["instantiate_us"], run: || Box::pin(guest::instantiate()) },
    Group { names: &["load_cached_ms"], run: || Box::pin(guest::load_cached()) },
    Group { names: &["memory_per_driver_kib"], run: || Box::pin(guest::memory_per_driver()) },
    Group {
        names: &["mqtt_through_plugin_vs_echo", "mqtt_latency_p50_ms", "mqtt_latency_p99_ms"],
        run: || Box::pin(broker::through_plugin()),
    },
    Group { names: &["mqtt_api_p50_ms"], run: || Box::pin(contract::api_round_trip()) },
    Group { names: &["get_publish_1000_devices_core_pct"], run: || Box::pin(contract::thousand_devices()) },
    Group { names: &["mqtt_counters_core_pct"], run: || Box::pin(definitions::mqtt_counters()) },
    Group { names: &["outbox_per_s"], run: || Box::pin(outbox::outbox_per_s()) },
    Group { names: &["rss_20_drivers_mb"], run: || Box::pin(site::rss_20_drivers()) },
    Group {
        names: &["http_dev_info_200_per_s", "http_dev_info_200_p99_ms"],
        run: || Box::pin(http::dev_info_of_200_devices()),
    },
    Group { names: &["modbus_counters_late"], run: || Box::pin(counters::hundred_on_ten_buses()) },
    Group { names: &["plan_20_chargers_us"], run: || Box::pin(async { plan::twenty_chargers() }) },
    Group { names: &["formulas_1000_us"], run: || Box::pin(async { formulas::thousand() }) },
    Group { names: &["formulas_cycle_us"], run: || Box::pin(async { formulas::cycle() }) },
    Group { names: &["spin_neighbour_delay_ms"], run: || Box::pin(spin::neighbour_delay()) },
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> anyhow::Result<()> {
    let known: Vec<&str> = GROUPS.iter().flat_map(|group| group.names).copied().collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("there is no benchmark \"{unknown}\"; there are {}", known.join(", "));
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build, its numbers mean nothing; use `cargo xtask bench`");
    }
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut numbers = Vec::new();
    for group in GROUPS.iter().filter(|group| group.names.iter().any(|name| chosen(name))) {
        eprintln!("measuring {} …", group.names.join(", "));
        // What a benchmark brings along for comparison (the echo's own latency) has no target and is always shown.
        let measured = runtime.block_on((group.run)())?;
        numbers.extend(measured.into_iter().filter(|number| number.target.is_none() || chosen(number.name)));
    }
    print!("{}", report::table(&numbers));
    report::save(&numbers)
}
