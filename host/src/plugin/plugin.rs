//! A plugin that passed the checks which need no device: manifest, component, imports, exports.

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::inspect::{self, Contents, HOST};
use super::manifest::{Manifest, SlotKind};
use crate::config::ConfigErrors;
use crate::runtime::{Exports, Linked, Runtime, limits};

/// Names of the two files of a plugin's folder.
pub const MANIFEST_FILE: &str = "driver.toml";
/// See [`MANIFEST_FILE`].
pub const COMPONENT_FILE: &str = "driver.wasm";

/// A manifest larger than this is none.
const MANIFEST_MAX: u64 = 256 * 1024;

/// A folder that holds no usable plugin. Displays every reason on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginError {
    /// The folder.
    pub folder: PathBuf,
    /// All reasons together, in the order of the checks.
    pub problems: Vec<String>,
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {problem}", self.folder.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for PluginError {}

/// A loaded plugin. Immutable: a new file is a new value.
pub struct Plugin {
    folder: PathBuf,
    manifest: Manifest,
    contents: Contents,
    digest: String,
    fingerprint: String,
    size: u64,
    linked: Linked,
}

impl Plugin {
    /// Reads, checks and compiles the plugin in `folder`. Runs none of its code.
    ///
    /// # Errors
    /// Everything that is wrong with it, together.
    pub async fn load(runtime: &Runtime, folder: &Path, max_component: u64) -> Result<Self, PluginError> {
        let failed = |problems| PluginError { folder: folder.to_owned(), problems };
        let files = read_files(folder.to_owned(), max_component).await.map_err(failed)?;
        let mut problems = Vec::new();
        let manifest = match files.manifest {
            Ok(text) => Manifest::parse(MANIFEST_FILE, &text).map_err(|ConfigErrors(errors)| {
                problems.extend(errors.iter().map(ToString::to_string));
            }),
            Err(problem) => {
                problems.push(problem);
                Err(())
            }
        };
        let name = folder.file_name().and_then(|name| name.to_str());
        if let Some((id, name)) =
            manifest.as_ref().ok().map(|m| m.id.as_str()).zip(name).filter(|(id, name)| id != name)
        {
            problems.push(format!("{MANIFEST_FILE}: id is \"{id}\", the folder is \"{name}\": they must be equal"));
        }
        let component = match files.component {
            Ok(bytes) => compile(runtime, bytes, &mut problems).await,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if let (Ok(manifest), Some(component)) = (&manifest, &component) {
            problems.extend(disagreements(manifest, &component.contents));
        }
        match (manifest, component) {
            (Ok(manifest), Some(Compiled { contents, digest, size, linked: Some(linked) })) if problems.is_empty() => {
                let fingerprint = fingerprint(&digest, &files.manifest_digest);
                Ok(Self { folder: folder.to_owned(), manifest, contents, digest, fingerprint, size, linked })
            }
            _ => Err(failed(problems)),
        }
    }

    /// The `type` of devices that use it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// Its own version, `1.4.0`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// Where it was loaded from.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What its author says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What the component says.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// SHA-256 of the component, hex in small letters: what a binding pins.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Differs when the component or the manifest differs: whether a changed folder is a new plugin.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Bytes of the component.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The interfaces it offers.
    #[must_use]
    pub fn exports(&self) -> Exports {
        self.linked.exports()
    }

    /// Whether it runs under the compatibility profile only.
    #[must_use]
    pub fn needs_wasi(&self) -> bool {
        self.contents.wasi().next().is_some()
    }

    /// The sentence for a binding that does not give WASI.
    #[must_use]
    pub fn wasi_refusal(&self) -> String {
        let first = self.contents.wasi().next().unwrap_or("wasi");
        format!(
            "{COMPONENT_FILE} imports {first}: build it for wasm32-unknown-unknown, or set wasi = true at the device \
             to run it with a WASI that gives no files, environment, arguments or network"
        )
    }

    pub(crate) fn linked(&self) -> &Linked {
        &self.linked
    }

    /// What it may do and what it asks for, as `ladekern plugin inspect` prints it.
    #[must_use]
    pub fn describe(&self) -> String {
        let manifest = &self.manifest;
        let slots_of = |kind: SlotKind| {
            let of_kind = manifest.slots.iter().filter(|(_, slot)| slot.kind == kind);
            of_kind.map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>()
        };
        let (may, may_not) = inspect::permissions(&self.contents, slots_of);
        let exports: Vec<&str> = self.exports().names().collect();
        let mut asks = Vec::new();
        for (name, slot) in &manifest.slots {
            let optional = if slot.optional { ", optional" } else { "" };
            asks.push(format!("endpoint \"{name}\" ({}{optional})", slot.kind));
        }
        asks.extend(manifest.memory.map(|memory| format!("{} of memory", limits::bytes(memory))));
        asks.extend(manifest.min_poll.map(|time| format!("polls every {} ms at most", time.as_millis())));
        asks.extend(manifest.min_write_interval.map(|time| format!("writes every {} ms at most", time.as_millis())));
        if asks.is_empty() {
            asks.push("nothing".into());
        }
        format!(
            "{id} {version}   sha256 {digest}   {kib} KiB   built against ladekern:device {against}\n  \
             may:     {may}\n  may not: {may_not}\n  exports: {exports}\n  asks:    {asks}\n",
            id = self.id(),
            version = self.version(),
            digest = self.digest,
            kib = self.size.div_ceil(1024),
            against = self.contents.built_against().unwrap_or(HOST),
            exports = exports.join(", "),
            asks = asks.join(", "),
        )
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.id(), self.version(), self.folder.display())
    }
}

struct Files {
    manifest: Result<String, String>,
    manifest_digest: String,
    component: Result<Bytes, String>,
}

async fn read_files(folder: PathBuf, max_component: u64) -> Result<Files, Vec<String>> {
    let task = tokio::task::spawn_blocking(move || {
        let manifest = read_file(&folder.join(MANIFEST_FILE), MANIFEST_MAX, "a manifest");
        Files {
            manifest_digest: hex_digest(manifest.as_deref().unwrap_or_default()),
            manifest: manifest
                .and_then(|bytes| String::from_utf8(bytes).map_err(|_| format!("{MANIFEST_FILE}: is no UTF-8 text"))),
            component: read_file(&folder.join(COMPONENT_FILE), max_component, "a component").map(Bytes::from),
        }
    });
    task.await.map_err(|error| vec![error.to_string()])
}

/// Reads a file of bounded size. The bound holds for what is read, not only for what the folder says.
fn read_file(path: &Path, max: u64, what: &str) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{name} is missing"),
        _ => format!("{name} cannot be read: {error}"),
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > max {
        return Err(format!("{name} is larger than the {} that {what} may have", limits::bytes(max)));
    }
    Ok(bytes)
}

struct Compiled {
    contents: Contents,
    digest: String,
    size: u64,
    linked: Option<Linked>,
}

async fn compile(runtime: &Runtime, bytes: Bytes, problems: &mut Vec<String>) -> Option<Compiled> {
    // Compilation is the most expensive thing a file can ask for: look at its head first.
    if let Err(problem) = check_header(&bytes) {
        problems.push(problem);
        return None;
    }
    let (digest, size) = (hex_digest(&bytes), bytes.len() as u64);
    let component = match runtime.compile(bytes).await {
        Ok(component) => component,
        Err(error) => {
            let hint = "is it complete, or still being copied?";
            problems.push(format!("{COMPONENT_FILE} is no valid component ({hint}): {error:#}"));
            return None;
        }
    };
    let contents = Contents::of(runtime.engine(), &component);
    let refusals = contents.refusals();
    if !refusals.is_empty() {
        problems.extend(refusals.into_iter().map(|refusal| format!("{COMPONENT_FILE}: {refusal}")));
        return Some(Compiled { contents, digest, size, linked: None });
    }
    let wasi = contents.wasi().next().is_some();
    let linked = match runtime.link(&component, wasi) {
        Ok(linked) => Some(linked),
        Err(error) => {
            let newer = contents.newer_than_host();
            let sentences = if newer.is_empty() { vec![format!("{error:#}")] } else { newer };
            problems.extend(sentences.into_iter().map(|sentence| format!("{COMPONENT_FILE}: {sentence}")));
            None
        }
    };
    Some(Compiled { contents, digest, size, linked })
}

/// The first eight bytes tell a component from a core module (component model, binary format: version 0x0d, layer 1).
fn check_header(bytes: &[u8]) -> Result<(), String> {
    match (bytes.get(..4), bytes.get(4..8)) {
        (Some(b"\0asm"), Some([0x0d, 0x00, 0x01, 0x00])) => Ok(()),
        (Some(b"\0asm"), Some([0x01, 0x00, 0x00, 0x00])) => Err(format!(
            "{COMPONENT_FILE} is a core module, not a component: link it with wasm-component-ld, or wrap it with \
             wasm-tools component new"
        )),
        (Some(b"\0asm"), Some(_)) => {
            Err(format!("{COMPONENT_FILE} has a version of WebAssembly this host does not know"))
        }
        (None, _) | (Some(b"\0asm"), None) => {
            Err(format!("{COMPONENT_FILE} has {} bytes only: it is cut off, or still being copied", bytes.len()))
        }
        _ => Err(format!("{COMPONENT_FILE} is no WebAssembly file")),
    }
}

/// Where the manifest and the component contradict each other, and what a plugin must export.
fn disagreements(manifest: &Manifest, contents: &Contents) -> Vec<String> {
    let mut problems = Vec::new();
    let has_slot = |kind: SlotKind| manifest.slots.values().any(|slot| slot.kind == kind);
    for kind in SlotKind::ALL {
        if contents.talks(kind) && !has_slot(kind) {
            problems.push(format!("it talks {kind}, but {MANIFEST_FILE} has no [endpoint.<slot>] of kind \"{kind}\""));
        }
    }
    let exported = |name: &str| contents.exports.iter().any(|e| e.package == "ladekern:device" && e.name == name);
    let (device, decoder, payload) = (exported("device"), exported("decoder"), exported("payload-decoder"));
    if !device && !decoder && !payload {
        problems.push("it exports none of ladekern:device/device, /decoder and /payload-decoder".into());
    }
    if device && (decoder || payload) {
        problems.push("it exports device and a decoder: a plugin is a driver or a decoder, not both".into());
    }
    for optional in ["charge-control", "phase-control", "failsafe", "push", "handover"] {
        if exported(optional) && !device {
            problems.push(format!("it exports {optional}, which needs device beside it"));
        }
    }
    if decoder && !has_slot(SlotKind::Modbus) {
        problems.push(format!("it exports decoder, but {MANIFEST_FILE} has no [endpoint.<slot>] of kind \"modbus\""));
    }
    if payload && !has_slot(SlotKind::Mqtt) && !has_slot(SlotKind::Http) {
        problems.push(format!(
            "it exports payload-decoder, but {MANIFEST_FILE} has no [endpoint.<slot>] of kind \"mqtt\" or \"http\""
        ));
    }
    problems
}

/// What [`Plugin::fingerprint`] says of the files that lie in `folder` now, without a look at what they mean.
pub(super) async fn fingerprint_of(folder: &Path, max_component: u64) -> String {
    match read_files(folder.to_owned(), max_component).await {
        Ok(files) => {
            let component = hex_digest(files.component.as_deref().unwrap_or_default());
            fingerprint(&component, &files.manifest_digest)
        }
        Err(problems) => problems.join("; "),
    }
}

fn fingerprint(component: &str, manifest: &str) -> String {
    hex_digest(format!("{component} {manifest}").as_bytes())
}

fn hex_digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
