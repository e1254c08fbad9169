//! `ladekern demo`: the site of `examples/home` in one process: simulated devices on real loopback sockets, an
//! embedded broker, and the daemon that manages them. The verdict is the simulation's own breaker, which knows nothing
//! of the load manager.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ladekern_sim::home::{Home, HomeOptions, Ports, Summary, demo_script};
use tokio::sync::broadcast::error::RecvError;

use super::rows;
use super::table;
use crate::app::{App, Options, StateDir, plugin_folders};
use crate::plugin::Registry;
use crate::runtime::{Runtime, RuntimeOptions};

/// The configuration the demo runs with; ports are laid over it.
const CONFIG: &str = include_str!("../../../examples/home/ladekern.toml");

/// The script repeats until then, and nobody watches a demo for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How often the table is renewed.
const REFRESH: Duration = Duration::from_secs(1);

/// Arguments of `ladekern demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// End by itself after this time with a summary (`20s`, `5m`); without it the demo runs until Ctrl-C.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    duration: Option<Duration>,
    /// Print plain lines instead of a table that redraws itself.
    #[arg(long)]
    plain: bool,
    /// A folder with plugins, searched first.
    #[arg(long, value_name = "DIR")]
    plugins: Vec<PathBuf>,
    /// Overrides one key of the demo's configuration.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl DemoArgs {
    /// Whether the table redraws itself in place.
    pub(super) fn redraws(&self) -> bool {
        std::io::stdout().is_terminal() && !self.plain
    }
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    super::block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("ladekern-demo-").tempdir().context("a temporary folder")?;
    let state = state_dir();
    compile(args, &state).await?;
    // The simulated reader needs the broker's address before the broker runs, so the port is chosen first.
    let broker_port = free_port(1883)?;
    let home = Home::start(HomeOptions {
        broker: Some(format!("mqtt://127.0.0.1:{broker_port}")),
        ports: Ports::EXAMPLE,
        avoid_busy: true,
        script: demo_script(args.duration.unwrap_or(LONGEST)),
        ..HomeOptions::default()
    })
    .await
    .context("the simulated site")?;
    let options = options(args, folder.path(), state, &home, broker_port)?;
    let app = match App::start(&options).await {
        Ok(app) => app,
        Err(error) => return super::run::refused(error),
    };
    announce(&app, &home);
    watch(args, &app, &home).await;
    // The verdict is about the managed site, so it is taken before control ends.
    let summary = home.summary();
    let traffic = traffic(&app, &home);
    app.stop().await;
    home.stop().await;
    say!("\n{summary}\n{traffic}");
    Ok(verdict(&summary))
}

/// Where compiled plugins are kept from one demo to the next: beside the program if that can be written, else
/// nowhere for longer than this run.
fn state_dir() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("demo-state")));
    let fallback = || std::env::temp_dir().join(format!("ladekern-demo-state-{}", std::process::id()));
    beside.filter(|folder| std::fs::create_dir_all(folder).is_ok()).unwrap_or_else(fallback)
}

/// Compiles the plugins before the simulated time begins: the script does not wait for a compiler. From the second
/// demo on they come from the cache.
async fn compile(args: &DemoArgs, state: &Path) -> anyhow::Result<()> {
    let options = Options { state: Some(state.to_owned()), plugins: args.plugins.clone(), ..Options::default() };
    let state = StateDir::open(&options)?;
    let runtime = Runtime::new(&RuntimeOptions { cache_dir: Some(state.cache()), ..RuntimeOptions::default() })?;
    let registry = Registry::new(runtime);
    let errors = registry.scan(&plugin_folders(None, &args.plugins)).await;
    for error in &errors {
        complain!("{error}");
    }
    Ok(())
}

/// What went over the wires: whether a poll was missed, and over how many connections each device was reached.
fn traffic(app: &App, home: &Home) -> String {
    let control = home.control();
    let devices = app.view().snapshot.devices.into_iter().map(|(id, status)| {
        let connections = control.device(id.as_str()).map_or(0, |device| device.connections());
        let (good, bad) = (status.successes, status.errors);
        format!("{id} {good} exchanges, {bad} failed, {connections} connections ({})", status.driver)
    });
    format!("devices        {}", devices.collect::<Vec<_>>().join("\n               "))
}

/// The example's configuration in a folder of its own, with the addresses that were really taken.
fn options(args: &DemoArgs, folder: &Path, state: PathBuf, home: &Home, broker_port: u16) -> anyhow::Result<Options> {
    let config = folder.join("ladekern.toml");
    std::fs::write(&config, CONFIG).with_context(|| config.display().to_string())?;
    let mut set = vec![
        format!("http.listen=127.0.0.1:{}", free_port(4712)?),
        format!("mqtt.embedded_listen=127.0.0.1:{broker_port}"),
        format!("device.M1.endpoint.mqtt.topic_prefix={}", home.meter_prefix()),
        // The meter sends every second; what is silent for three is lost, and the demo has no time to wait longer.
        "device.M1.timeout_s=3".to_owned(),
    ];
    for (device, slot) in [("M2", "main"), ("E1", "main"), ("E2", "main")] {
        let address = home.address(device).with_context(|| format!("the simulation has no {device}"))?;
        set.push(format!("device.{device}.endpoint.{slot}.url={address}"));
    }
    set.extend(args.set.iter().cloned());
    Ok(Options {
        config,
        state: Some(state),
        overrides: set.iter().map(|set| set.parse()).collect::<Result<_, _>>()?,
        plugins: args.plugins.clone(),
        definitions: Vec::new(),
    })
}

/// The wanted port if it is free, else any.
fn free_port(wanted: u16) -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", wanted))
        .or_else(|_| std::net::TcpListener::bind(("127.0.0.1", 0)))
        .context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}

fn announce(app: &App, home: &Home) {
    say!("Ladekern manages a simulated house: two wallboxes, a roof, a 35 A main fuse.");
    say!("  status     http://{}/", app.address());
    say!("  API        http://{}/cnf?cmd=get_dev_info", app.address());
    if let Some(broker) = app.embedded_broker() {
        say!("  MQTT       mosquitto_sub -h {} -p {} -v -t 'cfos_mqtt/get/#'", broker.host, broker.port);
    }
    for (device, address) in home.addresses() {
        say!("  {device}         {address}");
    }
    for folder in app.plugin_dirs().filter(|folder| folder.is_dir()) {
        say!("  plugins    {}", folder.display());
    }
    say!();
}

/// Shows what happens until the time is over.
async fn watch(args: &DemoArgs, app: &App, home: &Home) {
    let redraw = args.redraws();
    let mut events = home.events();
    let mut site = home.watch();
    let mut refresh = tokio::time::interval(REFRESH);
    let mut drawn = 0;
    let ended = super::ended(args.duration);
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return,
            event = events.recv() => match event {
                Ok(event) => {
                    say!("{:5.1} s  {}", event.at_s, event.text);
                    drawn = 0;
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = refresh.tick() => {
                let picture = site.borrow_and_update().clone();
                let [l1, l2, l3] = picture.grid_a;
                let mut text =
                    format!("{:5.1} s  main fuse, true current: L1 {l1:.1} A, L2 {l2:.1} A, L3 {l3:.1} A\n", picture.t_s);
                text.push_str(&table::render(&rows::of(&app.view())));
                draw(&text, redraw, &mut drawn);
            }
        }
    }
}

/// Prints `text`, over the text before on a terminal.
fn draw(text: &str, redraw: bool, drawn: &mut usize) {
    let mut out = std::io::stdout().lock();
    if redraw && *drawn > 0 {
        // Up to the first line of what was drawn, and clear from there on.
        let _ = write!(out, "\x1b[{drawn}A\x1b[J");
    }
    // A closed pipe (`| head`) is no reason to leave the devices uncontrolled.
    let _ = if redraw {
        // A line that wraps would be two lines for the way back up.
        let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
        write!(out, "{}", table::cut(text, width))
    } else {
        writeln!(out, "{text}")
    };
    let _ = out.flush();
    *drawn = text.lines().count();
}

fn verdict(summary: &Summary) -> ExitCode {
    if summary.ok() {
        return ExitCode::SUCCESS;
    }
    if summary.tripped() {
        complain!("ladekern: the main breaker would have tripped");
    } else {
        complain!(
            "ladekern: a cut came {} ms after the overload was measured, not within 1000 ms",
            summary.worst_reaction_ms
        );
    }
    ExitCode::FAILURE
}
