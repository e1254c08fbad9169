//! The configuration as the rest of the host sees it: checked, complete, with every default filled in.
//! A value of these types cannot be wrong in itself; what the text said wrong is a [`ConfigError`] of the parser.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ladekern_definition::Formula;

use super::Timing;
use crate::site::{DeviceId, Role};

use super::VariableConfig;

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
    /// `[modbus_server]`
    pub modbus_server: ModbusServerConfig,
    /// `[[user]]`, each id once.
    pub users: Vec<UserConfig>,
    /// `[variables]`: the Charging Manager variables and user variables, by name as written. Temporary ones are laid over
    /// those of the file.
    pub variables: BTreeMap<String, VariableConfig>,
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
    /// By key, `device.E1.charging_rules`, `user 1.charging_rules`.
    pub rules: BTreeMap<String, RulePlaces>,
}

/// Where charging rules are written.
#[derive(Clone, Debug, Default)]
pub struct RulePlaces {
    /// `file:line` of the key.
    pub key: String,
    /// Likewise of each rule of a list.
    pub rules: Vec<String>,
    /// They are TOML, as people write it, and not JSON in quotes, as clients do.
    pub written: bool,
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
    /// Where the HTTP server listens, plain and TLS on one port; default `127.0.0.1:4712`.
    pub listen: SocketAddr,
    /// The admin password; `None` is the empty one, with which only this machine may write.
    pub admin_password: Option<PasswordHash>,
    /// Requests from this machine need no password; default false.
    pub localhost_is_admin: bool,
    /// Certificate chain and key, PEM. `None`: a self-signed one that is made at the first start.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// A hashed password in PHC form, `$argon2id$v=19$…`. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

/// `[modbus_server]`: the register map of a wallbox, for whoever controls such a one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModbusServerConfig {
    /// Default false.
    pub enabled: bool,
    /// The address of all three ports; default `127.0.0.1`. Modbus knows no password.
    pub listen: IpAddr,
    /// Ports of the wallbox (unit 1) and of two meters (units 2 and 3); default 4701, 4702, 4703.
    pub ports: [u16; 3],
    /// The wallbox that is shown; default the first one of the file.
    pub evse: Option<DeviceId>,
    /// The meters that are shown; default the first two of the file.
    pub meters: [Option<DeviceId>; 2],
}

/// `[[user]]`: somebody who may charge. A wallbox that a user is assigned to charges only for its users.
#[derive(Clone, PartialEq)]
pub struct UserConfig {
    /// Digits, unique; entered as a PIN it authorises too.
    pub id: String,
    /// Shown to people.
    pub name: String,
    /// Whether clients show the user in lists.
    pub display: bool,
    /// The wallboxes this user is assigned to.
    pub devices: Vec<DeviceId>,
    /// RFIDs and PINs.
    pub cards: Vec<CardConfig>,
    /// Charging rules of whoever charges as this user, as JSON: a list.
    pub charging_rules: Option<String>,
}

/// One RFID or PIN of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct CardConfig {
    /// Digits or hexadecimal digits.
    pub id: String,
    /// Shown to people.
    pub name: String,
    /// It authorises charging.
    pub authorises: bool,
    /// It switches charging off and on again.
    pub toggles: bool,
    /// Phases to charge with; 0 leaves them.
    pub phases: u8,
}

impl std::fmt::Debug for UserConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Ids are PINs: debug output ends up in logs.
        write!(f, "UserConfig({}, {:?}, {} cards)", self.name, self.devices, self.cards.len())
    }
}

impl std::fmt::Debug for CardConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CardConfig({})", self.name)
    }
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
    /// The API, `api/#` and `api_res`; default off. Whoever may publish there is admin.
    pub api: BrokerRef,
    /// Direct control of wallboxes (`ctl`) in mode observe, over the broker of `api`, else the default one.
    pub control: bool,
    /// Silence on `ctl` after which `load.disable_policy` applies; default 60 s, `None`: never.
    pub ctl_timeout: Option<Duration>,
    /// The same call or control message within this time is answered and not run again; default 500 ms.
    pub duplicate_window: Duration,
    /// Longer answers are replaced by an error on `api_res`; bytes, default 64 KiB.
    pub api_max_response: usize,
    /// Every entry of the system log; default off.
    pub log: BrokerRef,
    /// Every charging transaction; default off.
    pub ta_log: BrokerRef,
    /// Our own topics below `ladekern/<serial>/`; default off.
    pub native: BrokerRef,
    /// Topics begin with `cfos_mqtt_<serial>` instead of `cfos_mqtt`.
    pub prefix_with_serial: bool,
    /// TLS settings by host and port of the broker.
    pub tls: BTreeMap<(String, u16), BrokerTls>,
}

/// `[mqtt.tls."mqtts://host:8883"]`: how a broker is verified, and how it verifies us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerTls {
    /// PEM with the only certificate authorities that are trusted; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM with our certificate chain and our key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// `false` takes any certificate; default true.
    pub verify: bool,
}

impl Default for BrokerTls {
    fn default() -> Self {
        Self { ca_file: None, client: None, verify: true }
    }
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
#[derive(Clone, Debug, PartialEq)]
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
    /// Surplus in W, in the place of what the meters tell; may use `CM._org_surplus`.
    pub surplus_expr: Option<Formula>,
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
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitConfig {
    /// Name, unique.
    pub id: String,
    /// The circuit this one hangs below; none for the root.
    pub parent: Option<String>,
    /// Limit per phase L1, L2, L3 in mA.
    pub limit_ma: [u32; 3],
    /// Further limits each phase to this many mA; while it has no value, to 0.
    pub limit_ma_expr: Option<Formula>,
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
    /// A number shown to people; `None`: the place in the file.
    pub number: Option<u32>,
    /// `publish` of the device itself; `None`: as `mqtt.publish` says.
    pub publish: Option<BrokerRef>,
    /// The plugin's own configuration, a JSON object.
    pub config: serde_json::Value,
    /// Values older than this are not used. `None`: 60 s for what is fed, three poll intervals (at least 10 s) for
    /// what is polled.
    pub timeout: Option<Duration>,
    /// How often it is polled. `None`: as its definition says, else every [`DeviceConfig::DEFAULT_POLL`].
    pub poll: Option<Duration>,
    /// The circuit a wallbox hangs on.
    pub circuit: Option<String>,
    /// Circuit phases at the device's L1, L2, L3; `None`: unknown.
    pub phases: Option<PhaseMap>,
    /// Smallest current in mA a wallbox charges with; default and least 6 000.
    pub min_ma: u32,
    /// Largest current per phase in mA of a wallbox; default 16 000.
    pub max_ma: u32,
    /// Further limits it to this many mA per phase; while it has no value, to 0.
    pub max_ma_expr: Option<Formula>,
    /// Priority of a wallbox, larger first; default 1.
    pub priority: i32,
    /// Armed in the wallbox after each successful open, if its driver can.
    pub failsafe: Option<FailsafeConfig>,
    /// SHA-256 of the plugin's component in hex; another file is refused.
    pub sha256: Option<String>,
    /// Link WASI (empty context) for this device's plugin.
    pub wasi: bool,
    /// Text shown at a wallbox while a car is plugged in.
    pub label: String,
    /// The meter in front of a wallbox that measures nothing itself.
    pub meter: Option<DeviceId>,
    /// The RFID that counts as entered when a car is plugged in.
    pub fixed_rfid: Option<String>,
    /// Charging rules as JSON: a list of rules, or `{"rule_set":…,"selected_id":…}` as clients write it.
    pub charging_rules: Option<String>,
    /// Limits of the plugin's instance that differ from the defaults.
    pub limits: LimitsConfig,
}

impl DeviceConfig {
    /// The name under which `address = …` stands in [`DeviceConfig::endpoints`]: the plugin's only slot.
    pub const ADDRESS_SLOT: &'static str = "";
    /// How often a device is polled if nobody says otherwise.
    pub const DEFAULT_POLL: Duration = Duration::from_secs(1);

    /// The Modbus unit; 1 for everything else.
    #[must_use]
    pub fn unit(&self) -> u8 {
        let modbus = |endpoint: &&EndpointConfig| !matches!(endpoint.url, EndpointUrl::Http(_) | EndpointUrl::Mqtt(_));
        self.endpoints.values().find(modbus).and_then(|endpoint| endpoint.unit).unwrap_or(1)
    }
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
    /// How long one request may take. `None`: as the device's type says, else 1 s.
    pub timeout: Option<Duration>,
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
    /// What the device's type says about its wire; no key of the file.
    pub timing: Timing,
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
