//! `ladekern definition try FILE --address ADDRESS`: one reading of a real device, raw and decoded side by side.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ladekern_definition::{Transport, Value, parse};
use serde_json::{Value as Json, json};
use tokio::runtime::Handle;

use crate::config::{self, Config, DeviceConfig};
use crate::definition::DefinitionFile;
use crate::definition::trial::{self, Row, Trial};
use crate::site::Clock;
use crate::transport::Transports;

/// Arguments of `ladekern definition try`.
#[derive(Debug, Args)]
pub struct TryArgs {
    /// The definition file; `-` is the standard input.
    file: PathBuf,
    /// Where the device is, as in the configuration: tcp://192.168.1.20:502, rtu:///dev/ttyUSB0?baud=9600,
    /// http://192.168.1.20, mqtt://192.168.1.20.
    #[arg(long)]
    address: String,
    /// The unit at a Modbus address [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8))]
    unit: Option<u8>,
    /// MQTT: what stands before the definition's topics.
    #[arg(long, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    /// MQTT: how long to wait for messages [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 if nothing could be read.
pub(super) fn run(args: &TryArgs) -> anyhow::Result<ExitCode> {
    let text = super::read(&args.file)?;
    let checked = parse::check(&args.file.display().to_string(), &text);
    for finding in &checked.errors {
        complain!("{finding}");
    }
    for finding in &checked.warnings {
        complain!("warning: {finding}");
    }
    let Some(definition) = checked.definition else { return Ok(ExitCode::FAILURE) };
    let (config, device) = bound(args, &definition.transport)?;
    let file = DefinitionFile { definition, path: args.file.clone(), fingerprint: "tried".into() };
    let file = Arc::new(file);
    let clock = Clock::start();
    let listen = Duration::from_secs(args.seconds.unwrap_or(10));
    let tried = crate::cli::block_on(async {
        let client = format!("ladekern-try-{}", std::process::id());
        let transports = Transports::new(Handle::current(), clock, None, client);
        Ok(trial::run(Arc::clone(&file), config, &device, &transports, clock, listen).await)
    })?;
    if args.json {
        say!("{}", serde_json::to_string_pretty(&answer(&file, &device, &tried))?);
    } else {
        print(&tried);
    }
    Ok(if tried.has_read() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The device as a configuration would name it.
fn bound(args: &TryArgs, transport: &Transport) -> anyhow::Result<(Config, DeviceConfig)> {
    for (option, given, belongs, to) in [
        ("--unit", args.unit.is_some(), matches!(transport, Transport::Modbus(_)), "Modbus (rtype 0)"),
        ("--topic-prefix", args.topic_prefix.is_some(), matches!(transport, Transport::Mqtt), "MQTT (rtype 2)"),
        ("--seconds", args.seconds.is_some(), matches!(transport, Transport::Mqtt), "MQTT (rtype 2)"),
    ] {
        if given && !belongs {
            bail!("{option} belongs to {to}, and {} describes something else; leave it out", args.file.display());
        }
    }
    let address = Json::from(args.address.as_str());
    let mut more = args.unit.map(|unit| format!(", unit = {unit}")).unwrap_or_default();
    if let Some(prefix) = &args.topic_prefix {
        more.push_str(&format!(", topic_prefix = {}", Json::from(prefix.as_str())));
    }
    let text = format!("[[device]]\nid = \"M1\"\ntype = \"tried\"\nendpoint.address = {{ url = {address}{more} }}\n");
    // Who typed an address wants to read about it, not about the file that was made of it.
    let config = config::parse("--address", &text, &[]).map_err(|errors| {
        let messages: Vec<String> = errors.0.into_iter().map(|error| error.message).collect();
        anyhow::anyhow!("--address: {}", messages.join("; "))
    })?;
    let mut device = config.devices.first().cloned().context("--address makes no device")?;
    let endpoint = device.endpoints.pop_first().context("--address makes no endpoint")?;
    device.endpoints.insert(DeviceConfig::ADDRESS_SLOT.to_owned(), endpoint.1);
    Ok((config, device))
}

fn print(tried: &Trial) {
    // Where nobody answers, a table in which each row says so hides the one sentence that counts.
    if let (false, Some(failure)) = (tried.has_read(), &tried.failure) {
        return complain!("{failure}");
    }
    let width = |of: fn(&Row) -> usize| tried.rows.iter().map(of).max().unwrap_or_default();
    let name = width(|row| row.name.chars().count()).max(4);
    let raw = width(|row| row.raw.as_ref().map_or(0, |raw| raw.chars().count())).clamp(3, 40);
    say!("{:name$}  {:raw$}  value", "name", "raw");
    for row in &tried.rows {
        let shown = match (&row.value, row.derived) {
            (None, _) => format!("-  {}", row.problem.as_deref().unwrap_or_default()),
            (Some(value), None) => valued(value, row),
            (Some(value), Some(from)) => format!("{}  (derived from {from})", valued(value, row)),
        };
        say!("{:name$}  {:raw$}  {shown}", row.name, row.raw.as_deref().unwrap_or_default());
    }
    if let Some(failure) = &tried.failure {
        complain!("{failure}");
    }
    if !tried.has_read() {
        complain!("nothing could be read");
    }
}

fn valued(value: &Value, row: &Row) -> String {
    let unit = unit(row).map(|unit| format!(" {unit}")).unwrap_or_default();
    match value {
        Value::Number(number) => format!("{}{unit}", short(*number)),
        Value::Text(text) => text.clone(),
    }
}

/// For people: three decimal places, of small numbers six digits. What a float holds beyond that is noise.
fn short(number: f64) -> f64 {
    let text = if number.abs() >= 1.0 { format!("{number:.3}") } else { format!("{number:.5e}") };
    text.parse().unwrap_or(number)
}

fn unit(row: &Row) -> Option<&'static str> {
    row.quantity.as_ref()?.unit()?.symbol()
}

fn answer(file: &DefinitionFile, device: &DeviceConfig, tried: &Trial) -> Json {
    let variable = |row: &Row| {
        let value = match &row.value {
            None => Json::Null,
            Some(Value::Number(number)) => json!(number),
            Some(Value::Text(text)) => json!(text),
        };
        json!({
            "name": row.name,
            "raw": row.raw,
            "value": value,
            "unit": unit(row),
            "derived": row.derived.is_some(),
            "derived_from": row.derived,
            "error": row.problem,
        })
    };
    json!({
        "ok": tried.has_read(),
        "dev_type": file.definition.dev_type,
        "address": device.endpoints.values().next().map(|endpoint| endpoint.url.to_string()),
        "variables": tried.rows.iter().map(variable).collect::<Vec<_>>(),
        "error": tried.failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_without_the_noise_of_their_floats() {
        for (number, shown) in [
            (231.008_697_509_765_63, "231.009"),
            (1_234_567_890.0, "1234567890"),
            (-0.000_123_456_789, "-0.000123457"),
            (0.0, "0"),
            (0.1, "0.1"),
        ] {
            assert_eq!(short(number).to_string(), shown);
        }
    }
}
