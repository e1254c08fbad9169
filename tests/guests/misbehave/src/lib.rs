//! Breaks one limit of the host, the one that `do` names, as far as `n` says; everything else it does well. It is no
//! example of how a driver is written.

use ladekern_plugin_sdk::http::{self, Request};
use ladekern_plugin_sdk::log::{Level, log};
use ladekern_plugin_sdk::{
    Device, Error, Handover, Info, Json, Outcome, Push, Reading, Text, clock, modbus, mqtt, state,
};

struct Misbehave {
    what: String,
    n: usize,
    polls: u32,
    /// What is eaten and never given back.
    eaten: Vec<Vec<u8>>,
    handles: Vec<modbus::Endpoint>,
}

impl Device for Misbehave {
    fn open(config: &Json<'_>) -> Result<(Self, Info), Error> {
        let what = config.get("do").and_then(Json::text).unwrap_or_default().to_owned();
        let n = config.get("n").and_then(Json::integer).and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        let mut info = Info::new();
        match what.as_str() {
            "spin-in-open" => spin(),
            "config" => return Err(Error::config("it is never right")),
            "long-model" => info.model = Some("m".repeat(n)),
            "subscribe" => mqtt::Endpoint::open("broker")?.subscribe("#", mqtt::Qos::AtMostOnce)?,
            _ => info.model = Some("Misbehave".into()),
        }
        Ok((Self { what, n, polls: 0, eaten: Vec::new(), handles: Vec::new() }, info))
    }

    fn poll(&mut self) -> Result<Outcome, Error> {
        self.polls += 1;
        let mut outcome = Outcome::new();
        outcome.set("polls", f64::from(self.polls));
        if self.what.ends_with("-once") && self.polls > 1 {
            return Ok(outcome);
        }
        let n = self.n;
        match self.what.as_str() {
            // === computing and waiting ===
            "spin" => spin(),
            "spin-asking" => loop {
                std::hint::black_box(clock::now_ms());
            },
            "wait" => (0..n).for_each(|_| clock::sleep_ms(100)),
            "sleep" => clock::sleep_ms(u32::try_from(n).unwrap_or(u32::MAX)),
            "recurse" => outcome.set("depth", deeper(n as u64) as f64),
            // === memory ===
            "eat" => loop {
                self.eaten.push(vec![1; 64 * 1024]);
            },
            "eat-some" => self.eaten.push(vec![1; n]),
            "shout" => log(Level::Info, &"a".repeat(n), &[]),
            // === the outcome ===
            "readings" => (0..n).for_each(|_| outcome.set("power.total", 1.0)),
            "long-name" => outcome.set(&"q".repeat(n), 1.0),
            "texts" => (0..n).for_each(|_| outcome.set_text("status", "on")),
            "long-text" => outcome.texts.push(Text { name: "status".into(), value: "t".repeat(n) }),
            "nan" => outcome.readings.push(Reading { quantity: "power.total".into(), value: Some(f64::NAN) }),
            "infinity" => {
                outcome.readings.push(Reading { quantity: "power.total".into(), value: Some(f64::NEG_INFINITY) });
            }
            // === endpoints ===
            "handles" => {
                for _ in 0..n {
                    self.handles.push(modbus::Endpoint::open("main")?);
                }
            }
            "handles-given-back" => {
                for _ in 0..n {
                    drop(modbus::Endpoint::open("main")?);
                }
            }
            "other-endpoint" => drop(modbus::Endpoint::open("neighbour")?),
            "wrong-kind" => drop(modbus::Endpoint::open("web")?),
            "read" => {
                let count = u16::try_from(n).unwrap_or(u16::MAX);
                let values = modbus::Endpoint::open("main")?.read_holding(0, count)?;
                outcome.set("values", values.len() as f64);
            }
            "write" => modbus::Endpoint::open("main")?.write_registers(0, &vec![1; n])?,
            "http-out" => {
                let mut request = Request::get("/");
                request.body = vec![b'x'; n];
                outcome.set("status", f64::from(http::Endpoint::open("web")?.send(&request)?.status));
            }
            "http-in" => {
                let answer = http::Endpoint::open("web")?.send(&Request::get("/big"))?;
                outcome.set("bytes", answer.body.len() as f64);
            }
            // === log and state ===
            "flood" => (0..n).for_each(|_| log(Level::Info, "again", &[])),
            "state-keys" => {
                for key in 0..n {
                    state::set(&format!("key{key}"), b"").map_err(said)?;
                }
            }
            "state-bytes" => state::set("big", &vec![1; n]).map_err(said)?,
            "state-two" => {
                state::set("one", &vec![1; n]).map_err(said)?;
                state::set("two", &vec![1; n]).map_err(said)?;
            }
            "remember" => {
                let before = state::get("polls").map_err(said)?.and_then(|v| v.first().copied()).unwrap_or_default();
                state::set("polls", &[before + 1]).map_err(said)?;
                outcome.set("remembered", f64::from(before));
            }
            // === breaking down ===
            "panic" | "panic-once" => {
                let nothing: &[u8] = &self.eaten.concat();
                #[expect(clippy::indexing_slicing, reason = "this is the fault")]
                outcome.set("never", f64::from(nothing[n]));
            }
            "trap" => trap(),
            "offline" => return Err(Error::Offline("nobody at home".into())),
            "long-error" => return Err(Error::Other("e".repeat(n))),
            _ => {}
        }
        Ok(outcome)
    }

    fn close(&mut self) {
        match self.what.as_str() {
            "spin-in-close" => spin(),
            _ => log(Level::Info, "closed", &[]),
        }
    }
}

impl Push for Misbehave {
    fn on_message(&mut self, endpoint: &str, topic: &str, payload: &[u8]) -> Result<Option<Outcome>, Error> {
        if topic == "spin" {
            spin();
        }
        let mut outcome = Outcome::new();
        outcome.set_text("status", format!("{endpoint} {topic} {}", String::from_utf8_lossy(payload)));
        Ok(Some(outcome))
    }
}

impl Handover for Misbehave {
    fn save(&mut self) -> Vec<u8> {
        match self.what.as_str() {
            "big-snapshot" => vec![1; self.n],
            _ => self.polls.to_le_bytes().to_vec(),
        }
    }

    fn restore(&mut self, version: &str, snapshot: &[u8]) -> bool {
        let Ok(polls) = snapshot.try_into() else { return false };
        self.polls = u32::from_le_bytes(polls);
        version == "0.1.0"
    }
}

fn said(error: state::Error) -> Error {
    Error::Other(match error {
        state::Error::TooLarge => "too large".into(),
        state::Error::Quota => "quota".into(),
        state::Error::Io(why) => why,
    })
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

/// Needs stack for each step: the result is used after the call, and in a way that no loop can imitate.
#[inline(never)]
fn deeper(n: u64) -> u64 {
    if n == 0 { 0 } else { deeper(n - 1).wrapping_mul(n | 1) ^ n }
}

#[cfg(target_arch = "wasm32")]
fn trap() {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() {}

ladekern_plugin_sdk::export!(Misbehave: Device, Push, Handover);
