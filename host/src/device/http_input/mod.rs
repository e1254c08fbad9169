//! The built-in device type `http-input`: a meter or a wallbox that is fed, over HTTP (`set_ajax_meter`,
//! `set_ajax_evse`) or over MQTT (`set/<dev_id>`), and reads its orders from the answer or from `get/<dev_id>`.
//! Opens nothing: whoever owns the wire hands the message in.

mod message;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

pub use message::{Fed, FeedError, parse};

use super::arrivals::Arrivals;
use crate::config::DeviceConfig;
use crate::site::{
    Clock, Command, CommandError, DeviceId, DeviceKind, Health, Measured, Moment, StatusSender, quantities,
};

/// What the feeder gets back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The device is a meter: taken.
    Taken,
    /// The device is a wallbox: its orders.
    Orders(Orders),
}

/// What a wallbox is to do (`cfos-interfaces.md` 1.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Orders {
    /// The device takes part at all.
    pub device_enabled: bool,
    /// Charging is allowed.
    pub charging_enabled: bool,
    /// Paused by the load manager.
    pub paused: bool,
    /// Current per phase in mA; 0 while paused or not enabled.
    pub charging_current: u32,
}

impl Answer {
    /// The body of the HTTP answer: `"ok"`, or the orders as an object.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Answer::Taken => "ok".into(),
            Answer::Orders(orders) => serde_json::json!(orders),
        }
    }
}

/// One fed device.
#[derive(Debug)]
pub struct HttpInput {
    status: StatusSender,
    clock: Clock,
    timeout: Option<Duration>,
    max_ma: u32,
    arrivals: Mutex<Arrivals>,
}

impl HttpInput {
    /// A device that has not been fed yet. `managed`: the load manager commands it, so that until the first command
    /// its order is 0; otherwise it may charge with its maximum.
    #[must_use]
    pub fn new(status: StatusSender, clock: Clock, device: &DeviceConfig, managed: bool) -> Self {
        let arrivals = Arrivals::default();
        let at = clock.now();
        status.update(|status| {
            status.stale_after = device.timeout.unwrap_or(arrivals.stale_after());
            if managed && device.id.kind() == DeviceKind::Evse {
                status.commanded = Some(Measured { value: 0, at });
            }
        });
        Self { status, clock, timeout: device.timeout, max_ma: device.max_ma, arrivals: Mutex::new(arrivals) }
    }

    /// The device this is.
    #[must_use]
    pub fn id(&self) -> &DeviceId {
        self.status.id()
    }

    /// Takes one message over. The age of a retained message is unknown: its values are shown, and count as too old
    /// to be used (contract rule B5).
    ///
    /// # Errors
    /// If the message is wrong; then nothing has changed but the count of errors.
    pub fn feed(&self, payload: &[u8], retained: bool) -> Result<Answer, FeedError> {
        match parse(self.id().kind(), payload) {
            Ok(fed) => {
                self.take(fed, retained);
                Ok(self.answer())
            }
            Err(error) => {
                self.status.update(|status| {
                    status.errors += 1;
                    status.last_error = error.to_string();
                });
                Err(error)
            }
        }
    }

    fn take(&self, fed: Fed, retained: bool) {
        let at = if retained { Moment(0) } else { self.clock.now() };
        let stale_after = self.timeout.unwrap_or_else(|| {
            // Every change of the intervals is complete before anything could panic.
            let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if !retained {
                arrivals.note("", at);
            }
            arrivals.stale_after()
        });
        self.status.update(|status| {
            status.values.merge(fed.outcome, at);
            if fed.model.is_some() && (!retained || status.info.model.is_none()) {
                status.info.model = fed.model;
            }
            status.stale_after = stale_after;
            status.successes += 1;
            if !retained {
                status.health = Health::Running;
            }
        });
    }

    /// What the feeder is to be told now.
    #[must_use]
    pub fn answer(&self) -> Answer {
        if self.id().kind() == DeviceKind::Meter {
            return Answer::Taken;
        }
        let status = self.status.status();
        let most = status.values.get(quantities::LIMIT_CABLE).map_or(self.max_ma, |most| whole_ma(most.value));
        let ordered = status.commanded.map_or(self.max_ma, |commanded| commanded.value);
        let charging_enabled = status.enable_ordered.unwrap_or(true);
        let ordered = if charging_enabled { ordered.min(most) } else { 0 };
        Answer::Orders(Orders {
            device_enabled: true,
            charging_enabled,
            paused: status.commanded.is_some_and(|commanded| commanded.value == 0),
            charging_current: ordered,
        })
    }

    /// Keeps an order until the feeder fetches it.
    ///
    /// # Errors
    /// [`CommandError::Unsupported`] for what the contract has no words for, and for meters.
    pub fn command(&self, command: Command) -> Result<(), CommandError> {
        if self.id().kind() == DeviceKind::Meter {
            return Err(CommandError::Unsupported(format!("{} is a meter", self.id())));
        }
        let at = self.clock.now();
        match command {
            Command::Current(value) => self.status.update(|status| {
                status.commanded = Some(Measured { value, at });
                if value > 0 {
                    status.enable_ordered = Some(true);
                }
            }),
            Command::Enable(enable) => self.status.update(|status| status.enable_ordered = Some(enable)),
            Command::Phases(_) => {
                return Err(CommandError::Unsupported("an http-input cannot be told how many phases to use".into()));
            }
            Command::WakeUp => {
                return Err(CommandError::Unsupported("an http-input cannot wake a vehicle up".into()));
            }
        }
        Ok(())
    }
}

/// A limit somebody told us, as whole milliamps.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range just before")]
fn whole_ma(value: f64) -> u32 {
    value.clamp(0.0, 1e9).floor() as u32
}

/// All fed devices by id: who owns a wire finds them here. Cloning clones the handle.
#[derive(Clone, Debug, Default)]
pub struct Feeds {
    inputs: Arc<RwLock<BTreeMap<DeviceId, Arc<HttpInput>>>>,
}

impl Feeds {
    /// Adds a device, in the place of an older one with the same id.
    pub fn insert(&self, input: Arc<HttpInput>) {
        let mut inputs = self.inputs.write().unwrap_or_else(PoisonError::into_inner);
        inputs.insert(input.id().clone(), input);
    }

    /// Removes a device.
    pub fn remove(&self, id: &DeviceId) {
        self.inputs.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The device with this id.
    #[must_use]
    pub fn get(&self, id: &DeviceId) -> Option<Arc<HttpInput>> {
        self.inputs.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::site::{Board, Connector, DeviceStatus};

    struct Input {
        input: HttpInput,
        clock: Clock,
    }

    impl Input {
        fn new(id: &str, more: &str, managed: bool) -> Self {
            let text = format!("[[device]]\nid = \"{id}\"\ntype = \"http-input\"\n{more}");
            let config = config::parse("f", &text, &[]).unwrap();
            let clock = Clock::start();
            let status = Board::default().register(id.parse().unwrap());
            Self { input: HttpInput::new(status, clock, &config.devices[0], managed), clock }
        }

        fn feed(&self, text: &str) -> Answer {
            self.input.feed(text.as_bytes(), false).unwrap()
        }

        fn status(&self) -> DeviceStatus {
            self.input.status.status()
        }

        fn silent(&self) -> bool {
            self.status().com_err(self.clock.now())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn values_age_with_the_interval_of_their_feeder() {
        let meter = Input::new("M1", "", false);
        assert!(meter.silent(), "never fed");
        for _ in 0..5 {
            assert_eq!(meter.feed("{\"power_w\":1}"), Answer::Taken);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        assert_eq!(meter.status().stale_after, Duration::from_secs(15));
        assert!(!meter.silent());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(meter.silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_of_the_file_is_kept() {
        let meter = Input::new("M1", "timeout_s = 3", false);
        meter.feed("{}");
        meter.feed("{\"power_w\":1}");
        assert_eq!(meter.status().stale_after, Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(meter.silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retained_message_is_shown_and_not_used() {
        let meter = Input::new("M1", "", false);
        meter.input.feed(b"{\"power_w\":7,\"model\":\"old\"}", true).unwrap();
        assert_eq!(meter.status().values.get("power.total").unwrap().value, 7.0);
        assert_eq!(meter.status().info.model.as_deref(), Some("old"));
        assert!(meter.silent());
        meter.feed("{\"power_w\":8,\"model\":\"new\"}");
        meter.input.feed(b"{\"power_w\":7,\"model\":\"old\"}", true).unwrap();
        assert_eq!(meter.status().values.get("power.total").unwrap().value, 8.0);
        assert_eq!(meter.status().info.model.as_deref(), Some("new"));
        assert!(!meter.silent());
    }

    #[tokio::test]
    async fn a_wrong_message_changes_nothing_but_the_count() {
        let meter = Input::new("M1", "", false);
        meter.feed("{\"power_w\":8}");
        let before = meter.status();
        let error = meter.input.feed(b"{\"import_wh\":1,\"power_w\":\"x\"}", false).unwrap_err();
        let after = meter.status();
        assert_eq!(after.values, before.values);
        assert_eq!((after.errors, after.last_error), (1, error.to_string()));
    }

    fn orders(answer: Answer) -> Orders {
        match answer {
            Answer::Orders(orders) => orders,
            Answer::Taken => panic!("a wallbox gets orders"),
        }
    }

    #[tokio::test]
    async fn a_wallbox_reads_its_orders_from_the_answer() {
        let wallbox = Input::new("E1", "max_ma = 20000", false);
        let answer = wallbox.feed("{\"state\":2,\"max_charging_current\":16000,\"current\":[0,0,0]}");
        // The example of the interface (cfos-interfaces.md 7.2, row 12).
        assert_eq!(
            answer.to_json(),
            serde_json::json!({"device_enabled":true,"charging_enabled":true,"paused":false,"charging_current":16000})
        );
        assert_eq!(wallbox.status().values.connector().map(|c| c.value), Some(Connector::Connected));

        wallbox.input.command(Command::Current(8_000)).unwrap();
        assert_eq!(orders(wallbox.input.answer()).charging_current, 8_000);
        assert_eq!(wallbox.status().commanded.map(|c| c.value), Some(8_000));

        wallbox.input.command(Command::Current(0)).unwrap();
        let paused = orders(wallbox.feed("{\"state\":2}"));
        assert_eq!((paused.paused, paused.charging_enabled, paused.charging_current), (true, true, 0));

        wallbox.input.command(Command::Enable(false)).unwrap();
        wallbox.input.command(Command::Enable(false)).unwrap();
        assert!(!orders(wallbox.input.answer()).charging_enabled);
        wallbox.input.command(Command::Current(6_000)).unwrap();
        let again = orders(wallbox.input.answer());
        assert_eq!((again.paused, again.charging_enabled, again.charging_current), (false, true, 6_000));

        assert!(matches!(wallbox.input.command(Command::Phases(1)), Err(CommandError::Unsupported(_))));
        assert!(matches!(wallbox.input.command(Command::WakeUp), Err(CommandError::Unsupported(_))));
    }

    #[tokio::test]
    async fn a_managed_wallbox_waits_for_its_first_order() {
        let wallbox = Input::new("E1", "", true);
        let first = orders(wallbox.feed("{\"state\":2}"));
        assert_eq!((first.paused, first.charging_current), (true, 0));
    }

    #[tokio::test]
    async fn a_meter_takes_no_orders() {
        let meter = Input::new("M1", "", true);
        assert_eq!(meter.status().commanded, None);
        assert!(matches!(meter.input.command(Command::Current(0)), Err(CommandError::Unsupported(_))));
    }
}
