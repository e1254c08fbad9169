//! What Tasmota's messages mean. Section and value names of meter readers are the user's own; the usual ones are found by name,
//! everything can be named in the configuration. Pure: text in, readings out.
//!
//! Source: Tasmota documentation, "Commands" and "Smart Meter Interface", and the names seen in the field.

use ladekern_plugin_sdk::{Error, Json, Outcome};

/// What the user said about the device.
pub struct Settings {
    section: Option<String>,
    power: Option<String>,
    import: Option<String>,
    export: Option<String>,
    /// Wh per unit of the counters.
    energy_factor: f64,
    inverted: bool,
    zero_is_unknown: bool,
    status: i64,
    /// User and password of the web server.
    login: Option<(String, String)>,
}

/// Names of values, in the order in which they are tried; compared without regard to case.
const POWER: &[&str] = &["power_curr", "watt_summe", "power_total", "power", "watt", "16_7_0"];
const IMPORT: &[&str] = &["total_in", "e_in", "importactive", "energy_in", "import", "1_8_0"];
const EXPORT: &[&str] = &["total_out", "e_out", "exportactive", "energy_out", "export", "2_8_0"];
const FREQUENCY: &[&str] = &["frequency", "freq", "14_7_0"];
/// `ENERGY.Total` of a plug counts what went through it; where there is a counter of import alone, that one is right.
const TOTAL: &[&str] = &["total"];

/// What the name of one phase's value starts with, and its OBIS names.
const PHASE_POWER: PhaseNames = PhaseNames { stems: &["power", "watt", "phase"], obis: ["36_7_0", "56_7_0", "76_7_0"] };
const PHASE_VOLTAGE: PhaseNames = PhaseNames { stems: &["voltage", "volt", "u"], obis: ["32_7_0", "52_7_0", "72_7_0"] };
const PHASE_CURRENT: PhaseNames = PhaseNames { stems: &["current", "amp", "i"], obis: ["31_7_0", "51_7_0", "71_7_0"] };

/// Every name this plugin gives.
const QUANTITIES: [&str; 15] = [
    "power.total",
    "power.l1",
    "power.l2",
    "power.l3",
    "power.apparent",
    "power.reactive",
    "voltage.l1",
    "voltage.l2",
    "voltage.l3",
    "current.l1",
    "current.l2",
    "current.l3",
    "frequency",
    "energy.import",
    "energy.export",
];

struct PhaseNames {
    stems: &'static [&'static str],
    obis: [&'static str; 3],
}

impl Settings {
    /// Reads a configuration that passed the schema; what is missing has the schema's default.
    pub fn new(config: &Json<'_>) -> Self {
        let text = |key| config.get(key).and_then(Json::text).map(str::to_owned);
        let flag = |key, default| config.get(key).and_then(Json::flag).unwrap_or(default);
        let user = text("user").unwrap_or_else(|| "admin".into());
        Self {
            section: text("section"),
            power: text("power"),
            import: text("import"),
            export: text("export"),
            energy_factor: if text("energy_unit").as_deref() == Some("Wh") { 1.0 } else { 1000.0 },
            inverted: flag("inverted", false),
            zero_is_unknown: flag("zero_is_unknown", true),
            status: config.get("status").and_then(Json::integer).unwrap_or(8),
            login: text("password").map(|password| (user, password)),
        }
    }

    /// The request for all values, as a path relative to the device's web server.
    pub fn path(&self) -> String {
        let login = self
            .login
            .as_ref()
            .map(|(user, password)| format!("user={}&password={}&", percent_encoded(user), percent_encoded(password)));
        format!("/cm?{}cmnd=Status%20{}", login.unwrap_or_default(), self.status)
    }

    /// One message under its topic or path. `None`: it is not about measured values.
    pub fn message(&self, source: &str, text: Option<&str>) -> Result<Option<Outcome>, Error> {
        let fetched = source.starts_with("/cm");
        let topic = source.rsplit('/').next().unwrap_or(source);
        let Some(text) = text else { return Err(Error::protocol(format!("{topic}: no UTF-8"))) };
        if topic == "LWT" && !fetched {
            // The broker's word that the device is gone; nothing it said before is true any more.
            return Ok((text == "Offline").then(nothing_known));
        }
        let json = Json::parse(text)?;
        if json.get("WARNING").is_some() {
            return Err(Error::config("the device wants a password: set user and password in the device's config"));
        }
        let sections = json.get("StatusSNS").unwrap_or(&json);
        match self.section(sections) {
            Some(section) => Ok(Some(self.values(section))),
            // A switch or a thermometer reports on the same topic.
            None if !fetched && self.section.is_none() => Ok(None),
            None => Err(Error::protocol(self.missing(sections))),
        }
    }

    /// The section the user named, or the first that has a power or a counter.
    fn section<'j, 'a>(&self, sections: &'j Json<'a>) -> Option<&'j Json<'a>> {
        if let Some(name) = &self.section {
            return sections.get(name).filter(|section| matches!(section, Json::Object(_)));
        }
        let has = |section: &Json<'_>, own: &Option<String>, names: &[&str]| find(section, own, names).is_some();
        let objects = || sections.members().iter().map(|(_, section)| section);
        let power = |section: &&Json<'_>| has(section, &self.power, POWER);
        let counter = |section: &&Json<'_>| has(section, &self.import, IMPORT) || has(section, &self.export, EXPORT);
        objects().find(power).or_else(|| objects().find(counter))
    }

    fn missing(&self, sections: &Json<'_>) -> String {
        let found: Vec<&str> = sections.members().iter().map(|(name, _)| name.as_ref()).collect();
        let wanted = self.section.as_deref().map(|name| format!("section \"{name}\""));
        let wanted = wanted.unwrap_or_else(|| "section with a power or a counter".into());
        format!("no {wanted} in the message; it has {}", found.join(", "))
    }

    fn values(&self, section: &Json<'_>) -> Outcome {
        let mut outcome = Outcome::new();
        let sign = if self.inverted { -1.0 } else { 1.0 };
        let field = |own: &Option<String>, names| find(section, own, names);

        let power = field(&self.power, POWER);
        let mut phase_power = power.and_then(list).or_else(|| PHASE_POWER.values(section)).unwrap_or_default();
        for value in phase_power.iter_mut().flatten() {
            *value *= sign;
        }
        let total = power.and_then(sum).map(|value| value * sign);
        // Without a power there is none: readers that wait for their PIN leave it out.
        outcome.set("power.total", total);
        some_phases(&mut outcome, "power", phase_power);
        outcome.set_some("power.apparent", field(&None, &["apparentpower"]).and_then(sum));
        outcome.set_some("power.reactive", field(&None, &["reactivepower"]).and_then(sum).map(|value| value * sign));

        let voltage = self.voltages(section, phase_power);
        some_phases(&mut outcome, "voltage", voltage);
        let current = field(&None, &["current"]).and_then(|v| list(v).or_else(|| single(v)));
        let current = current.or_else(|| PHASE_CURRENT.values(section)).unwrap_or_default();
        // A plug has one phase, whose power is the total.
        let direction = if phase_power == [None; 3] { [total, None, None] } else { phase_power };
        let signed = |(amperes, power): (Option<f64>, Option<f64>)| {
            amperes.map(|amperes| match power {
                Some(power) if power != 0.0 => (amperes.abs() * power.signum() * 1000.0).round(),
                Some(_) => (amperes.abs() * 1000.0).round(),
                None => (amperes * sign * 1000.0).round(),
            })
        };
        let [l1, l2, l3] = current;
        let [p1, p2, p3] = direction;
        some_phases(&mut outcome, "current", [(l1, p1), (l2, p2), (l3, p3)].map(signed));
        outcome.set_some("frequency", field(&None, FREQUENCY).and_then(first));

        let import = field(&self.import, IMPORT).or_else(|| field(&None, TOTAL));
        let export = field(&self.export, EXPORT);
        let (import, export) = if self.inverted { (export, import) } else { (import, export) };
        for (name, counter) in [("energy.import", import), ("energy.export", export)] {
            if let Some(counter) = counter {
                outcome.set(name, self.energy(counter));
            }
        }
        outcome
    }

    /// A voltage that is given once stands for all phases the device has.
    fn voltages(&self, section: &Json<'_>, phase_power: [Option<f64>; 3]) -> [Option<f64>; 3] {
        let Some(value) = find(section, &None, &["voltage"]) else {
            return PHASE_VOLTAGE.values(section).unwrap_or_default();
        };
        if let Some(list) = list(value) {
            return list;
        }
        let common = value.number();
        if phase_power == [None; 3] { [common, None, None] } else { phase_power.map(|power| power.and(common)) }
    }

    fn energy(&self, counter: &Json<'_>) -> Option<f64> {
        // Tenths of a Wh are finer than any meter; the rest is the noise of decimal fractions.
        let wh = sum(counter).map(|value| (value * self.energy_factor * 10.0).round() / 10.0);
        wh.filter(|value| *value != 0.0 || !self.zero_is_unknown)
    }
}

impl PhaseNames {
    /// Values of the three phases: OBIS names, or a stem with `_l1` or `_p1`. None if there is not a single one.
    fn values(&self, section: &Json<'_>) -> Option<[Option<f64>; 3]> {
        let mut values = [None; 3];
        for (name, value) in section.members() {
            let name = name.to_ascii_lowercase();
            let obis = self.obis.iter().position(|obis| *obis == name);
            let phase = obis.or_else(|| {
                let rest = self.stems.iter().find_map(|stem| name.strip_prefix(stem))?;
                ["1", "2", "3"].iter().position(|n| {
                    let tail = rest.strip_suffix(n);
                    matches!(tail, Some("_l" | "_p" | "l" | "p" | "_"))
                })
            });
            if let Some(slot) = phase.and_then(|phase| values.get_mut(phase)) {
                *slot = value.number();
            }
        }
        values.iter().any(Option::is_some).then_some(values)
    }
}

/// Everything this plugin could have said before is unknown now.
fn nothing_known() -> Outcome {
    let mut outcome = Outcome::new();
    for quantity in QUANTITIES {
        outcome.set(quantity, None);
    }
    outcome
}

/// The value the user named, or the first that has one of the usual names.
fn find<'j, 'a>(section: &'j Json<'a>, own: &Option<String>, names: &[&str]) -> Option<&'j Json<'a>> {
    if let Some(own) = own {
        return section.get(own);
    }
    let named = |name: &&str| section.members().iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    names.iter().find_map(named)
}

/// The elements of an array as phases.
fn list(value: &Json<'_>) -> Option<[Option<f64>; 3]> {
    let Json::Array(elements) = value else { return None };
    let element = |index| elements.get(index).and_then(Json::number);
    Some([element(0), element(1), element(2)])
}

/// A plain number is that of the first phase.
fn single(value: &Json<'_>) -> Option<[Option<f64>; 3]> {
    Some([Some(value.number()?), None, None])
}

/// A number, or the sum of an array of numbers; unknown if one of them is.
fn sum(value: &Json<'_>) -> Option<f64> {
    match value {
        Json::Array(elements) if !elements.is_empty() => {
            elements.iter().map(Json::number).try_fold(0.0, |total, value| Some(total + value?))
        }
        _ => value.number(),
    }
}

fn first(value: &Json<'_>) -> Option<f64> {
    value.at(0).unwrap_or(value).number()
}

/// Three values, if the device mentioned any of them.
fn some_phases(outcome: &mut Outcome, quantity: &str, values: [Option<f64>; 3]) {
    if values != [None; 3] {
        outcome.set_phases(quantity, values);
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.extend(char::from_digit(u32::from(digit), 16).map(|c| c.to_ascii_uppercase()));
            }
        }
    }
    out
}
