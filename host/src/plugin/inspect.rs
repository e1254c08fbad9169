//! What a component may do and what it offers, read from the component itself: a manifest can lie, imports cannot.
//! Nothing runs here.

use std::fmt;
use std::str::FromStr;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::manifest::SlotKind;

/// Version of every WIT package this host implements.
pub const HOST: Version = Version(0, 1, 0);

/// A version of three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64, pub u64, pub u64);

/// No version of three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version has three numbers, like 0.1.0")]
pub struct BadVersion;

impl FromStr for Version {
    type Err = BadVersion;

    fn from_str(text: &str) -> Result<Self, BadVersion> {
        let mut numbers = text.split('.').map(|part| match part.bytes().all(|b| b.is_ascii_digit()) {
            true => part.parse::<u64>().map_err(|_| BadVersion),
            false => Err(BadVersion),
        });
        let mut next = || numbers.next().ok_or(BadVersion)?;
        let version = Version(next()?, next()?, next()?);
        if numbers.next().is_some() { Err(BadVersion) } else { Ok(version) }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// An imported or exported interface, `ladekern:modbus/client@0.1.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `ladekern:modbus`
    pub package: String,
    /// `client`
    pub name: String,
    /// `None` for one without a version, or with one that is more than three numbers.
    pub version: Option<Version>,
    /// The name as the component spells it.
    pub full: String,
    /// Names of its functions; empty for an interface of types.
    pub functions: Vec<String>,
}

impl Interface {
    fn new(full: &str, functions: Vec<String>) -> Self {
        let (path, version) = full.split_once('@').map_or((full, None), |(path, v)| (path, v.parse().ok()));
        let (package, name) = path.split_once('/').unwrap_or((path, ""));
        Self { package: package.to_owned(), name: name.to_owned(), version, full: full.to_owned(), functions }
    }
}

/// What a component imports and exports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Interfaces with functions: what the component may do.
    pub imports: Vec<Interface>,
    /// Interfaces with functions: what it offers.
    pub exports: Vec<Interface>,
    /// Imports that are no interface at all: bare functions, modules, components.
    pub bare_imports: Vec<String>,
}

/// What the functions of an interface of ours let a guest do.
const OFFERED: &[(&str, &str, &str)] = &[
    ("ladekern:host", "log", "log"),
    ("ladekern:host", "clock", "read the clock and wait"),
    ("ladekern:host", "state", "keep a few values of its own"),
    ("ladekern:modbus", "client", "talk Modbus"),
    ("ladekern:http", "client", "talk HTTP"),
    ("ladekern:mqtt", "client", "talk MQTT"),
];

impl Contents {
    /// Reads the type of a compiled component.
    #[must_use]
    pub fn of(engine: &Engine, component: &Component) -> Self {
        let mut contents = Self::default();
        let ty = component.component_type();
        for (name, item) in ty.imports(engine) {
            match functions(engine, &item.ty) {
                Some(functions) if functions.is_empty() => {}
                Some(functions) => contents.imports.push(Interface::new(name, functions)),
                None if matches!(item.ty, ComponentItem::Type(_)) => {}
                None => contents.bare_imports.push(name.to_owned()),
            }
        }
        for (name, item) in ty.exports(engine) {
            if let Some(functions) = functions(engine, &item.ty).filter(|functions| !functions.is_empty()) {
                contents.exports.push(Interface::new(name, functions));
            }
        }
        contents
    }

    /// Interfaces of WASI it imports, as it spells them.
    pub fn wasi(&self) -> impl Iterator<Item = &str> {
        self.imports.iter().filter(|import| import.package.starts_with("wasi:")).map(|import| import.full.as_str())
    }

    /// Whether it talks over endpoints of this kind, whatever the version.
    #[must_use]
    pub fn talks(&self, kind: SlotKind) -> bool {
        let package = format!("ladekern:{kind}");
        self.imports.iter().any(|import| import.package == package)
    }

    /// The newest version of `ladekern:device` among its exports.
    #[must_use]
    pub fn built_against(&self) -> Option<Version> {
        self.exports.iter().filter(|export| export.package == "ladekern:device").filter_map(|e| e.version).max()
    }

    /// One sentence for each import that no plugin gets and each version that does not fit. WASI is judged by the
    /// binding, not here.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let foreign = |name: &str| {
            format!(
                "it imports {name}, which no plugin gets: remove what uses it and build again (there are log, clock \
                 and state of ladekern:host, and the clients of modbus, http and mqtt)"
            )
        };
        let mut refusals: Vec<String> = self.bare_imports.iter().map(|name| foreign(name)).collect();
        for import in self.imports.iter().filter(|import| !import.package.starts_with("wasi:")) {
            match OFFERED.iter().find(|(package, name, _)| *package == import.package && *name == import.name) {
                Some(_) => refusals.extend(version_refusal(import)),
                None => refusals.push(foreign(&import.full)),
            }
        }
        for export in self.exports.iter().filter(|export| export.package == "ladekern:device") {
            refusals.extend(version_refusal(export));
        }
        refusals
    }

    /// Sentences for interfaces that ask for a newer patch than the host has: only worth saying when linking
    /// failed, because a component that uses no new function runs.
    #[must_use]
    pub fn newer_than_host(&self) -> Vec<String> {
        let newer = |interface: &&Interface| {
            interface.package.starts_with("ladekern:") && interface.version.is_some_and(|version| version > HOST)
        };
        self.imports.iter().chain(&self.exports).filter(newer).map(needs_newer).collect()
    }
}

/// Below 1.0 the minor number is the generation, the patch number adds functions.
fn version_refusal(interface: &Interface) -> Option<String> {
    match interface.version {
        Some(Version(HOST_MAJOR, HOST_MINOR, _)) => None,
        Some(_) => Some(needs_newer(interface)),
        None => Some(format!("{} has no version like @{HOST}", interface.full)),
    }
}

const HOST_MAJOR: u64 = HOST.0;
const HOST_MINOR: u64 = HOST.1;

fn needs_newer(interface: &Interface) -> String {
    let version = interface.version.map(|version| version.to_string()).unwrap_or_default();
    format!("this driver needs {} {version}, this host has {HOST}", interface.package)
}

/// Names of the functions of an instance; `None` for anything else.
fn functions(engine: &Engine, item: &ComponentItem) -> Option<Vec<String>> {
    let ComponentItem::ComponentInstance(instance) = item else { return None };
    let is_function = |item: &ComponentItem| matches!(item, ComponentItem::ComponentFunc(_));
    Some(instance.exports(engine).filter(|(_, e)| is_function(&e.ty)).map(|(name, _)| name.to_owned()).collect())
}

/// What a set of imports permits, in words: `may` and `may not` of the box that `inspect` prints.
pub(super) fn permissions(contents: &Contents, slots_of: impl Fn(SlotKind) -> Vec<String>) -> (String, String) {
    let mut may = Vec::new();
    let mut may_not = vec!["network addresses of its choice", "files", "environment"];
    for (package, name, words) in OFFERED {
        let imported = contents.imports.iter().any(|i| i.package == *package && i.name == *name);
        let kind = SlotKind::ALL.into_iter().find(|kind| *package == format!("ladekern:{kind}"));
        match kind {
            Some(kind) if imported => may.push(format!("{words} on endpoint {}", slots_of(kind).join(", "))),
            None if imported => may.push((*words).to_owned()),
            Some(SlotKind::Modbus) => may_not.push("Modbus"),
            Some(SlotKind::Http) => may_not.push("HTTP"),
            Some(SlotKind::Mqtt) => may_not.push("MQTT"),
            None => {}
        }
    }
    if contents.wasi().next().is_some() {
        may.push("use WASI with nothing in it (only where the binding says wasi = true)".to_owned());
    }
    if may.is_empty() {
        may.push("nothing: the host reads, it decodes".to_owned());
    }
    (may.join(", "), may_not.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_numbers_are_a_version() {
        assert_eq!("0.1.10".parse(), Ok(Version(0, 1, 10)));
        for bad in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.+3", "1..2", "99999999999999999999.0.0"] {
            assert_eq!(bad.parse::<Version>(), Err(BadVersion), "{bad}");
        }
        assert!(Version(0, 1, 10) > Version(0, 1, 9));
    }

    fn importing(full: &str) -> Contents {
        Contents { imports: vec![Interface::new(full, vec!["f".into()])], ..Contents::default() }
    }

    #[test]
    fn other_generations_and_strangers_are_refused_by_name() {
        for fine in ["ladekern:modbus/client@0.1.0", "ladekern:modbus/client@0.1.3", "wasi:io/poll@0.2.6"] {
            assert_eq!(importing(fine).refusals(), [""; 0], "{fine}");
        }
        let refusal = |full: &str| importing(full).refusals().join("");
        assert_eq!(
            refusal("ladekern:modbus/client@0.2.0"),
            "this driver needs ladekern:modbus 0.2.0, this host has 0.1.0"
        );
        for stranger in ["acme:shell/run@1.0.0", "ladekern:byte-stream/client@0.1.0", "ladekern:host/random@0.1.1"] {
            assert!(refusal(stranger).starts_with(&format!("it imports {stranger}, which no plugin gets")));
        }
    }
}
