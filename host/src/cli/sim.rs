//! `ladekern sim home`: the simulated devices of `examples/home` alone, on the ports that its configuration names.
//! `ladekern sim counters`: three counters that no driver knows, for definitions of one's own.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ladekern_sim::counters::{BATTERY_TOPIC, Counters, CountersOptions};
use ladekern_sim::home::{Home, HomeOptions, Ports, demo_script};

/// Arguments of `ladekern sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// Which site.
    site: SimSite,
    /// The broker the grid meter publishes to (counters: the battery).
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    broker: String,
    /// End by itself after this time (`20s`, `5m`); without it the simulation runs until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    duration: Option<Duration>,
    /// Take free ports where those of the example are in use.
    #[arg(long)]
    avoid_busy: bool,
    /// Port of the Modbus meter of `counters` [default: 5020].
    #[arg(long, value_name = "PORT")]
    modbus_port: Option<u16>,
    /// Port of the HTTP inverter of `counters` [default: 8020].
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SimSite {
    /// Grid meter, photovoltaic meter and two wallboxes behind a 35 A main fuse.
    Home,
    /// A Modbus meter, an HTTP inverter and an MQTT battery that no driver knows.
    Counters,
}

/// A day: the script repeats until then, and nobody watches a simulation for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) fn run(args: &SimArgs) -> anyhow::Result<ExitCode> {
    match args.site {
        SimSite::Home => home(args),
        SimSite::Counters => counters(args),
    }
}

fn counters(args: &SimArgs) -> anyhow::Result<ExitCode> {
    let port = |given: Option<u16>, usual| given.unwrap_or(if args.avoid_busy { 0 } else { usual });
    super::block_on(async {
        let options = CountersOptions {
            modbus: ([127, 0, 0, 1], port(args.modbus_port, 5020)).into(),
            http: ([127, 0, 0, 1], port(args.http_port, 8020)).into(),
            broker: Some(args.broker.clone()),
            interval: Duration::from_secs(1),
        };
        let counters = Counters::start(options).await?;
        say!("simulated counters that no driver knows");
        say!("  meter     {} unit 1, function 3", counters.modbus_url());
        say!("  inverter  {}/status", counters.http_url());
        say!("  battery   {} topics {BATTERY_TOPIC} and {BATTERY_TOPIC}/temperature", args.broker);
        super::ended(args.duration).await;
        counters.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn home(args: &SimArgs) -> anyhow::Result<ExitCode> {
    if args.modbus_port.is_some() || args.http_port.is_some() {
        anyhow::bail!(
            "--modbus-port and --http-port belong to `ladekern sim counters`; home has the ports of its example"
        );
    }
    super::block_on(async {
        let options = HomeOptions {
            broker: Some(args.broker.clone()),
            ports: Ports::EXAMPLE,
            avoid_busy: args.avoid_busy,
            script: demo_script(args.duration.unwrap_or(LONGEST)),
            ..HomeOptions::default()
        };
        let home = Home::start(options).await?;
        say!(
            "simulated home, 35 A main fuse; the grid meter publishes to {} below {}",
            args.broker,
            home.meter_prefix()
        );
        for (device, address) in home.addresses() {
            say!("  {device}  {address}");
        }
        say!("manage it with: ladekern run --config examples/home/ladekern.toml");
        let mut events = home.events();
        let ended = super::ended(args.duration);
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => break,
                event = events.recv() => match event {
                    Ok(event) => say!("{:6.1} s  {}", event.at_s, event.text),
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => break,
                },
            }
        }
        let summary = home.stop().await;
        say!("{summary}");
        Ok(if summary.tripped() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}
