//! The configuration as the rest of the host sees it: checked, complete, with every default filled in.
//! A value of these types cannot be wrong in itself; what the text said wrong is a [`ConfigError`] of the parser.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::site::{DeviceId, Role};

/// The whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[site]`
    pub site: SiteConfig,
    /// `[http]`
    pub http: HttpConfig,
    /// `[mqtt]`
    pub mqtt: MqttConfig,
    /// `[load]`
    pub load: LoadConfig,
    /// `[[circuit]]`, each once, parents before children.
    pub circuits: Vec<CircuitConfig>,
    /// `[[device]]`, each id once.
    pub devices: Vec<DeviceConfig>,
    /// Where the entries of `devices` are written, for messages of those who know more than this module.
    pub places: Places,
}

/// The file, and where in it each device is written. Equal to any other: moving a device in the file changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Name of the file as messages show it.
    pub file: String,
    /// `file:line` or `--set …` of each `[[device]]`.
    pub devices: BTreeMap<DeviceId, String>,
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// `[site]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// Shown to people; default "Ladekern".
    pub title: String,
    /// Free text.
    pub desc: String,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where the HTTP server listens; default `127.0.0.1:4712`.
    pub listen: SocketAddr,
}

/// Where something may be published or read: a broker, or nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BrokerRef {
    /// Empty text: off.
    #[default]
    Off,
    /// The word `mqtt`: the broker of `mqtt.broker`.
    Default,
    /// A URL of its own.
    Url(BrokerUrl),
}

/// A checked broker URL, `[scheme://][user:password@]host[:port]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerUrl {
    /// Host name or address.
    pub host: String,
    /// Port, the scheme's default filled in.
    pub port: u16,
    /// Protocol version 5 wanted (falls back to 3.1.1).
    pub v5: bool,
    /// TLS wanted.
    pub tls: bool,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// `[mqtt]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// The default broker; `None` if the file names none.
    pub broker: Option<DefaultBroker>,
    /// `get/dev_info`, `get/params` and `get/<dev_id>` of every device; default off.
    pub publish: BrokerRef,
    /// How often `dev_info` and `params` go out; default 3 s.
    pub publish_interval: Duration,
    /// Where the embedded broker listens; default `127.0.0.1:1883`.
    pub embedded_listen: SocketAddr,
}

/// What `mqtt.broker` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultBroker {
    /// `"embedded"`: our own broker, in process.
    Embedded,
    /// Any standard broker.
    Url(BrokerUrl),
}

/// `[load]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// `load.mode`.
    pub mode: LoadMode,
    /// Control cycle; default 1 s.
    pub cycle: Duration,
    /// Taken from every limit and phase before anything is shared; default 0.
    pub reserve_ma: u32,
    /// Share of `limit_ma` in percent that may be used, 0 to 100; default 100. Volatile: never written.
    pub max_total_cur_prc: u8,
    /// What to do with a wallbox when control ends.
    pub disable_policy: DisablePolicy,
}

/// `load.mode`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadMode {
    /// Share the current and command the wallboxes.
    #[default]
    Manage,
    /// Only read.
    Observe,
}

/// `load.disable_policy`: what a wallbox is told when control ends (the host stops, the mode changes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DisablePolicy {
    /// 0: stop charging.
    Stop,
    /// 1: minimum current (default).
    #[default]
    Minimum,
    /// -1: no limit, the wallbox's maximum.
    Unlimited,
}

/// `[[circuit]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CircuitConfig {
    /// Name, unique.
    pub id: String,
    /// The circuit this one hangs below; none for the root.
    pub parent: Option<String>,
    /// Limit per phase L1, L2, L3 in mA.
    pub limit_ma: [u32; 3],
    /// The meter that measures this circuit.
    pub meter: Option<DeviceId>,
    /// Base load per phase assumed while the meter is silent; default: the whole limit, so that nothing is given.
    pub failsafe_base_ma: Option<[u32; 3]>,
}

/// The built-in device type that is fed over HTTP and MQTT.
pub const HTTP_INPUT: &str = "http-input";

/// `[[device]]`
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceConfig {
    /// `E1`, `M1`.
    pub id: DeviceId,
    /// Shown to people; default the id.
    pub name: String,
    /// Free text.
    pub desc: String,
    /// A built-in type (`http-input`) or a plugin's id.
    pub device_type: String,
    /// What a meter measures.
    pub role: Role,
    /// Whether the device takes part at all; default true.
    pub enabled: bool,
    /// The slots of the plugin by name. A single `address` stands here under [`DeviceConfig::ADDRESS_SLOT`].
    pub endpoints: BTreeMap<String, EndpointConfig>,
    /// For built-in `http-input`: the broker whose `set/<dev_id>` feeds it.
    pub feed: BrokerRef,
    /// `publish` of the device itself; `None`: as `mqtt.publish` says.
    pub publish: Option<BrokerRef>,
    /// The plugin's own configuration, a JSON object.
    pub config: serde_json::Value,
    /// Values older than this are not used. `None`: 60 s for what is fed, three poll intervals (at least 10 s) for
    /// what is polled.
    pub timeout: Option<Duration>,
    /// How often it is polled; default 1 s.
    pub poll: Duration,
    /// The circuit a wallbox hangs on.
    pub circuit: Option<String>,
    /// Circuit phases at the device's L1, L2, L3; `None`: unknown.
    pub phases: Option<PhaseMap>,
    /// Smallest current in mA a wallbox charges with; default and least 6 000.
    pub min_ma: u32,
    /// Largest current per phase in mA of a wallbox; default 16 000.
    pub max_ma: u32,
    /// Priority of a wallbox, larger first; default 1.
    pub priority: i32,
    /// Armed in the wallbox after each successful open, if its driver can.
    pub failsafe: Option<FailsafeConfig>,
    /// SHA-256 of the plugin's component in hex; another file is refused.
    pub sha256: Option<String>,
    /// Link WASI (empty context) for this device's plugin.
    pub wasi: bool,
    /// Limits of the plugin's instance that differ from the defaults.
    pub limits: LimitsConfig,
}

impl DeviceConfig {
    /// The name under which `address = …` stands in [`DeviceConfig::endpoints`]: the plugin's only slot.
    pub const ADDRESS_SLOT: &'static str = "";
}

/// What the wallbox falls back to when nobody talks to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailsafeConfig {
    /// Current per phase in mA, 0 stops charging.
    pub ma: u32,
    /// Silence after which it falls back.
    pub timeout_s: u32,
}

/// Which phase of the circuit each conductor of a device is connected to: `L1L2L3`, `L2L3L1`, `L2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseMap {
    /// Index 0 to 2 of the circuit's phase at the device's L1, L2, L3; `None` where nothing is connected.
    pub of: [Option<u8>; 3],
}

/// One bound slot: where the wire goes and what may be done on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// The wire.
    pub url: EndpointUrl,
    /// Modbus unit id. `None`: the manifest's `default_unit`, else 1.
    pub unit: Option<u8>,
    /// How long one request may take; default 1 s.
    pub timeout: Duration,
    /// Silence between two requests on the bus; default 0 for TCP, 50 ms for RTU.
    pub min_gap: Option<Duration>,
    /// `access = "read-only"`: writes are refused.
    pub read_only: bool,
    /// MQTT: prefix of all topics, without a trailing slash.
    pub topic_prefix: String,
    /// HTTP Basic user.
    pub user: Option<String>,
    /// File with the password of `user`.
    pub password_file: Option<PathBuf>,
}

/// The wire behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointUrl {
    /// `tcp://host:port`: Modbus TCP. Port `None`: the manifest's `default_port`, else 502.
    ModbusTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: Option<u16>,
    },
    /// `rtutcp://host:port`: Modbus RTU frames over TCP.
    ModbusRtuTcp {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: Option<u16>,
    },
    /// `rtu:///dev/ttyUSB0?baud=9600&parity=n&stop=1`: a serial line.
    ModbusRtu(SerialLine),
    /// `http://host[:port][/base]`
    Http(String),
    /// `mqtt` or a broker URL.
    Mqtt(BrokerRef),
}

/// Settings of a serial line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialLine {
    /// Path of the device.
    pub path: String,
    /// Bits per second; default 9600.
    pub baud: u32,
    /// Default none.
    pub parity: Parity,
    /// 1 (default) or 2.
    pub stop_bits: u8,
}

/// Parity of a serial line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Parity {
    #[default]
    None,
    Even,
    Odd,
}

/// Limits of one instance; `None` is the default of `runtime::limits`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Linear memory in bytes, all memories together (`limits.memory = "8MiB"`).
    pub memory: Option<u64>,
    /// Table elements, all tables together.
    pub tables: Option<u64>,
    /// Computing without a host call.
    pub cpu: Option<Duration>,
    /// One call, wall clock.
    pub call_timeout: Option<Duration>,
    /// Log lines per second.
    pub log: Option<u32>,
    /// Bytes of `state`, keys and values together.
    pub state: Option<u64>,
    /// Bytes of one HTTP body, in or out.
    pub http_body: Option<u64>,
}
