//! The transaction log: durable events per second, from the sessions' write through SQLite (`synchronous = FULL`) to
//! Mosquitto and its acknowledgement back into the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ladekern::store::{Change, Record, Transactions};
use ladekern_tests::mosquitto::Mosquitto;
use ladekern_tests::site::Site;

use crate::measure::median;
use crate::report::Number;

/// Events of one round.
const EVENTS: u64 = 1_000;
const ROUNDS: usize = 5;
/// Events that come together and become one commit: as many as end at once when a car park empties.
const COMMIT: u64 = 20;

pub async fn outbox_per_s() -> anyhow::Result<Vec<Number>> {
    let broker = Mosquitto::start();
    let text = format!("[mqtt]\nta_log = \"{}\"\n[[device]]\nid = \"E1\"\ntype = \"http-input\"\n", broker.url());
    let site = Site::start(&text).await;
    let store = site.app.api().sessions.transactions().clone();
    let (mut whole, mut written) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let start = Instant::now();
        for commit in 0..EVENTS / COMMIT {
            let first = (u64::try_from(round)? * EVENTS + commit * COMMIT) / 2;
            let changes = (first..first + COMMIT / 2).flat_map(transaction).collect();
            store.write(Arc::new(changes), true).await.map_err(anyhow::Error::msg)?;
        }
        written.push(per_second(start));
        emptied(&store).await?;
        whole.push(per_second(start));
    }
    // The first round connects and warms up.
    written.remove(0);
    whole.remove(0);
    site.stop().await;
    Ok(vec![
        Number::at_least("outbox_per_s", median(whole), "1/s", 500.0),
        Number::beside("outbox_written_per_s", median(written), "1/s"),
    ])
}

fn per_second(start: Instant) -> f64 {
    EVENTS as f64 / start.elapsed().as_secs_f64()
}

/// Waits until the broker has acknowledged all.
async fn emptied(store: &Transactions) -> anyhow::Result<()> {
    let deadline = Instant::now() + 3 * ladekern_tests::SOON;
    while !store.waiting(1).await.map_err(anyhow::Error::msg)?.is_empty() {
        anyhow::ensure!(Instant::now() < deadline, "the outbox is not emptied");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// The beginning and the end of one.
fn transaction(number: u64) -> Vec<Change> {
    let Ok(device) = "E2".parse().context("an id") else { return Vec::new() };
    let record = Record {
        device,
        name: "Car park, upper deck".into(),
        start_s: 1_800_000_000 + 100 * number,
        end_s: Some(1_800_000_050 + 100 * number),
        energy_wh: 12_345.6,
        meter_start_wh: Some(1_000_000.0),
        meter_end_wh: Some(1_012_345.6),
        rfid: Some("04AB12CD34EF80".into()),
        user_id: Some("1111".into()),
        reason: Some("unplugged".into()),
    };
    vec![Change::Begin(record.clone()), Change::End(record)]
}
