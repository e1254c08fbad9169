//! `cargo xtask build-plugins`: builds the guest workspace `plugins/` and installs each component with its manifest where the host looks:
//! plugins under `dist/plugins/<id>/`, the guests of the host's tests under `dist/guests/<name>/`.
//!
//! A normal machine needs the rustup target `wasm32-unknown-unknown` and nothing else; one that cannot fetch it builds the standard library from
//! a distribution's source package. A file is replaced only when its content differs, by rename, so a running host never sees half
//! a file and reloads nothing without a reason. `cargo xtask build-plugin FOLDER` does the same for one plugin that lies anywhere else. It never changes an installed toolchain where `RUSTUP_AUTO_INSTALL=0` forbids it.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages of a Rust that comes with the source of its library.
const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// Builds and installs everything; the text of an error says what to do about it.
pub fn run(root: &Path) -> Result<(), String> {
    let root = &fs::canonicalize(root).map_err(|e| format!("{}: {e}", root.display()))?;
    Builder::find()?.build(root, &root.join("plugins"), true)?;
    let sources = sources(root)?;
    let mut installed = [BTreeSet::new(), BTreeSet::new()];
    for source in &sources {
        let (dist, kept) = match source.kind {
            Kind::Plugin => (root.join("dist/plugins"), &mut installed[0]),
            Kind::Guest => (root.join("dist/guests"), &mut installed[1]),
        };
        install(root, source, &dist)?;
        kept.insert(source.id.clone());
    }
    for (dist, kept) in [("dist/plugins", &installed[0]), ("dist/guests", &installed[1])] {
        remove_stale(&root.join(dist), kept)?;
    }
    Ok(())
}

/// Builds the plugin in `folder`, which may lie anywhere, and installs it as `<folder>/dist/<id>/`. The answer is `<folder>/dist`: what the
/// host is given as `--plugins`.
pub fn run_one(root: &Path, folder: &Path) -> Result<PathBuf, String> {
    let absolute = |path: &Path| fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()));
    let (root, folder) = (&absolute(root)?, absolute(folder)?);
    let source = Source::read(Kind::Plugin, folder)?;
    // In the same target directory, so that the standard library is built once.
    Builder::find()?.build(root, &source.dir, source.dir.join("Cargo.lock").is_file())?;
    let dist = source.dir.join("dist");
    install(root, &source, &dist)?;
    Ok(dist)
}

// === What is built with ===

/// A compiler with its cargo.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    host: String,
}

/// A toolchain that can build for the target, and the linker that makes components.
struct Builder {
    toolchain: Toolchain,
    /// The standard library has to be built from its source.
    build_std: bool,
    linker: PathBuf,
}

impl Toolchain {
    fn probe(cargo: PathBuf, rustc: PathBuf) -> Option<Self> {
        let sysroot = ask(&rustc, &["--print", "sysroot"])?.into();
        let version = ask(&rustc, &["-vV"])?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "))?.to_owned();
        Some(Self { cargo, rustc, sysroot, host })
    }

    /// The toolchain this program was started with. `CARGO` is the cargo of that very toolchain, its rustc lies beside it.
    fn current() -> Option<Self> {
        let cargo = env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        let beside = cargo.with_file_name(format!("rustc{}", env::consts::EXE_SUFFIX));
        let rustc = if beside.is_file() { beside } else { "rustc".into() };
        Self::probe(cargo, rustc)
    }

    /// The distribution's Rust beside rustup's.
    fn distribution() -> Option<Self> {
        Self::probe("/usr/bin/cargo".into(), "/usr/bin/rustc".into())
    }

    /// The target's standard library is installed.
    fn has_target(&self) -> bool {
        let Some(dir) = ask(&self.rustc, &["--print", "target-libdir", "--target", TARGET]) else { return false };
        fs::read_dir(dir).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| {
                    let name = file.file_name();
                    let name = name.to_string_lossy();
                    name.starts_with("libstd-") && name.ends_with(".rlib")
                })
            })
        })
    }

    /// The source of the standard library is installed.
    fn has_source(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/std/Cargo.toml").is_file()
    }

    /// Where rustup puts the programs that come with a toolchain.
    fn tools(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(&self.host).join("bin")
    }
}

impl Builder {
    /// The first of: the target is there, rustup may fetch it, a distribution's source is there, apt may fetch that.
    fn find() -> Result<Self, String> {
        let current = Toolchain::current();
        let linker = linker(current.as_ref())?;
        let with = |toolchain, build_std| Ok(Self { toolchain, build_std, linker: linker.clone() });
        let has_or_gets = |toolchain: &Toolchain| toolchain.has_target() || (fetch_target() && toolchain.has_target());
        if let Some(toolchain) = current.filter(has_or_gets) {
            return with(toolchain, false);
        }
        let ready = |toolchain: &Toolchain| toolchain.has_target() || toolchain.has_source();
        let found = Toolchain::distribution().filter(&ready).or_else(|| {
            fetch_packages();
            Toolchain::distribution().filter(&ready)
        });
        if let Some(toolchain) = found {
            let build_std = !toolchain.has_target();
            return with(toolchain, build_std);
        }
        Err(format!(
            "no Rust here can build for {TARGET}. Type one of these lines and try again:\n  \
             rustup target add {TARGET}\n  \
             sudo apt-get install {}    (where rustup's target cannot be fetched)",
            DEBIAN.join(" ")
        ))
    }

    /// Runs cargo over the workspace in `folder`; its output is the user's.
    fn build(&self, root: &Path, folder: &Path, locked: bool) -> Result<(), String> {
        println!(
            "plugins: {} ({})",
            self.toolchain.rustc.display(),
            if self.build_std { "with the standard library from source" } else { "with its installed target" }
        );
        let mut cargo = Command::new(&self.toolchain.cargo);
        // What the outer cargo run has set for its own crates would be taken for wishes about these.
        for (name, _) in env::vars_os() {
            if disturbs(&name) {
                cargo.env_remove(name);
            }
        }
        // wasm-component-ld looks for rust-lld on the path; it lies beside it.
        let beside = self.linker.parent().map(Path::to_path_buf);
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths(beside.into_iter().chain(env::split_paths(&path))).map_err(|e| e.to_string())?;
        cargo
            .args(["build", "--release", "--target", TARGET, "--manifest-path"])
            .arg(folder.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(root.join("target/plugins"))
            .env("PATH", path)
            .env("RUSTC", &self.toolchain.rustc)
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.linker)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(root).join("\u{1f}"));
        if locked {
            cargo.arg("--locked");
        }
        if self.build_std {
            cargo.args(["-Z", "build-std=std,panic_abort"]).env("RUSTC_BOOTSTRAP", "1");
        }
        let status = cargo.status().map_err(|e| format!("{}: {e}", self.toolchain.cargo.display()))?;
        if status.success() { Ok(()) } else { Err("cargo could not build the plugins (its messages are above)".into()) }
    }

    /// No path of this machine gets into a component: the same source gives the same digest wherever it is built.
    fn flags(&self, root: &Path) -> Vec<String> {
        // The same for every folder that is built: other flags would build the standard library again. Cargo names the sources of the
        // workspace itself relative to it anyway.
        let mut mappings = vec![(root.to_path_buf(), "/ladekern")];
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
        mappings.extend(home.map(|home| (home, "/cargo")));
        mappings.push((self.toolchain.sysroot.clone(), "/rust"));
        mappings.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect()
    }
}

/// Variables of an outer cargo that must not reach the inner one; where cargo keeps its downloads and how it may use the network stay.
fn disturbs(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return false };
    let kept = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
        "CARGO_BUILD_JOBS",
        "CARGO_SOURCE_",
    ];
    (name == "CARGO" || name.starts_with("CARGO_") || name.starts_with("RUSTC") || name.starts_with("RUSTFLAGS"))
        && !kept.iter().any(|prefix| name.starts_with(prefix))
}

/// rustup ships the linker with each toolchain; without rustup it is a program of its own.
fn linker(current: Option<&Toolchain>) -> Result<PathBuf, String> {
    let exe = format!("wasm-component-ld{}", env::consts::EXE_SUFFIX);
    let beside = current.map(|toolchain| toolchain.tools().join(&exe)).filter(|path| path.is_file());
    beside.or_else(|| on_path(&exe)).ok_or_else(|| {
        "no wasm-component-ld, which makes components. Install Rust with rustup (it comes with it), or type:\n  \
         cargo install wasm-component-ld"
            .to_owned()
    })
}

/// Asks rustup for the target, where rustup exists and is allowed to fetch. True if it says that it did.
fn fetch_target() -> bool {
    let Some(rustup) = on_path(&format!("rustup{}", env::consts::EXE_SUFFIX)) else { return false };
    if env::var_os("RUSTUP_AUTO_INSTALL").is_some_and(|value| value == "0") {
        return false;
    }
    println!("plugins: rustup target add {TARGET}");
    Command::new(rustup).args(["target", "add", TARGET]).status().is_ok_and(|status| status.success())
}

/// Installs Debian's packages, where apt exists and this user may use it.
fn fetch_packages() {
    let Some(apt) = on_path("apt-get") else { return };
    if ask(Path::new("id"), &["-u"]).as_deref() != Some("0") {
        return;
    }
    println!("plugins: apt-get install {}", DEBIAN.join(" "));
    let quiet = |args: &[&str]| {
        let mut command = Command::new(&apt);
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    // An outdated list may still know the packages, so a failed update is not the end.
    quiet(&["update", "-q"]);
    quiet(&[&["install", "-q", "-y", "--no-install-recommends"][..], &DEBIAN[..]].concat());
}

fn ask(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

// === What is installed ===

#[derive(Clone, Copy)]
enum Kind {
    Plugin,
    Guest,
}

/// A folder with a `driver.toml` and a package.
struct Source {
    kind: Kind,
    dir: PathBuf,
    /// What the plugin is called, and the folder it is installed in.
    id: String,
    /// What cargo calls the file it builds, without its ending.
    artefact: String,
}

impl Source {
    fn read(kind: Kind, dir: PathBuf) -> Result<Self, String> {
        let id = first_value(&dir.join("driver.toml"), "id")?;
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if id.is_empty() || !id.chars().all(valid) {
            return Err(format!("{}: id \"{id}\": use a to z, 0 to 9 and -", dir.join("driver.toml").display()));
        }
        let artefact = first_value(&dir.join("Cargo.toml"), "name")?.replace('-', "_");
        Ok(Self { kind, dir, id, artefact })
    }
}

/// Plugins and guests; a folder without `driver.toml` (the SDK) is a library.
fn sources(root: &Path) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for (kind, dir) in [(Kind::Plugin, root.join("plugins")), (Kind::Guest, root.join("tests/guests"))] {
        let mut dirs: Vec<PathBuf> = fs::read_dir(&dir).into_iter().flatten().flatten().map(|f| f.path()).collect();
        dirs.sort();
        for dir in dirs.into_iter().filter(|dir| dir.join("driver.toml").is_file() && dir.join("Cargo.toml").is_file())
        {
            found.push(Source::read(kind, dir)?);
        }
    }
    if found.is_empty() { Err(format!("{} holds no plugin", root.join("plugins").display())) } else { Ok(found) }
}

/// The value of the first line `key = "value"`: all that is needed of these files here.
fn first_value(file: &Path, key: &str) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let value = text.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim_start().strip_prefix('"')?;
        value.split_once('"').map(|(value, _)| value.to_owned())
    });
    value.ok_or_else(|| format!("{}: no line {key} = \"…\"", file.display()))
}

/// Copies component, manifest and description to `dist/<id>/`.
fn install(root: &Path, source: &Source, dist: &Path) -> Result<(), String> {
    let built = root.join("target/plugins").join(TARGET).join("release").join(format!("{}.wasm", source.artefact));
    let component = fs::read(&built).map_err(|e| {
        format!("{}: {e} (is {} a member of its workspace and a cdylib?)", built.display(), source.dir.display())
    })?;
    // A component says layer 1 where a core module says 0.
    if component.get(4..8) != Some(&[0x0d, 0, 1, 0]) {
        return Err(format!("{} is no component: the linker was not wasm-component-ld", built.display()));
    }
    let dir = dist.join(&source.id);
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut changed = false;
    for name in ["README.md", "driver.toml"] {
        let from = source.dir.join(name);
        if from.is_file() {
            let text = fs::read(&from).map_err(|e| format!("{}: {e}", from.display()))?;
            changed |= replace(&dir.join(name), &text)?;
        }
    }
    changed |= replace(&dir.join("driver.wasm"), &component)?;
    let shown = dir.strip_prefix(root).unwrap_or(&dir).display();
    println!("{shown}: {} bytes{}", component.len(), if changed { "" } else { ", unchanged" });
    Ok(())
}

/// Writes a file whole or not at all, and not at all if it says the same already. True if it was written.
fn replace(path: &Path, content: &[u8]) -> Result<bool, String> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(name);
    fs::write(&temporary, content).map_err(told)?;
    fs::rename(&temporary, path).map_err(told)?;
    Ok(true)
}

/// Removes what an earlier build installed and no source stands for any more.
fn remove_stale(dist: &Path, kept: &BTreeSet<String>) -> Result<(), String> {
    for entry in fs::read_dir(dist).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !kept.contains(&name) {
            fs::remove_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            println!("{}: removed, its source is gone", path.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test's own, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = env::temp_dir().join(format!("ladekern-xtask-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_only_when_it_differs_and_leaves_nothing_beside_it() {
        let scratch = Scratch::new("replace");
        let path = scratch.0.join("driver.wasm");
        assert_eq!(replace(&path, b"one"), Ok(true));
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert_eq!(replace(&path, b"one"), Ok(false));
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(replace(&path, b"two"), Ok(true));
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
    }

    #[test]
    fn folders_without_a_source_go_and_others_stay() {
        let scratch = Scratch::new("stale");
        scratch.file("kept/driver.wasm", "");
        scratch.file("gone/driver.wasm", "");
        scratch.file("a-file", "");
        remove_stale(&scratch.0, &BTreeSet::from(["kept".to_owned()])).unwrap();
        let mut left: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|f| f.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a-file", "kept"]);
        remove_stale(&scratch.0.join("nowhere"), &BTreeSet::new()).unwrap();
    }

    #[test]
    fn a_core_module_is_not_installed() {
        let scratch = Scratch::new("module");
        let built = scratch.file("target/plugins/wasm32-unknown-unknown/release/my_meter.wasm", "\0asm\u{1}\0\0\0");
        scratch.file("my-meter/driver.toml", "id = \"my-meter\"\n");
        scratch.file("my-meter/Cargo.toml", "[package]\nname = \"my-meter\"\n");
        let source = Source::read(Kind::Plugin, scratch.0.join("my-meter")).unwrap();
        let dist = scratch.0.join("dist/plugins");
        assert!(install(&scratch.0, &source, &dist).is_err_and(|e| e.contains("no component")));
        assert!(!dist.exists());
        fs::write(built, b"\0asm\x0d\0\x01\0").unwrap();
        install(&scratch.0, &source, &dist).unwrap();
        assert!(dist.join("my-meter/driver.toml").is_file());
    }

    #[test]
    fn an_id_is_no_path() {
        let scratch = Scratch::new("id");
        scratch.file("x/Cargo.toml", "[package]\nname = \"x\"\n");
        for id in ["../evil", "", "A", "a b"] {
            scratch.file("x/driver.toml", &format!("id = \"{id}\"\n"));
            assert!(Source::read(Kind::Plugin, scratch.0.join("x")).is_err(), "{id}");
        }
    }

    #[test]
    fn the_outer_cargo_does_not_reach_the_inner_one() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_TARGET_DIR",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
        ] {
            assert!(disturbs(&name.into()), "{name}");
        }
        for name in
            ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_REGISTRIES_X_INDEX", "CARGO_HTTP_PROXY", "PATH", "RUSTUP_HOME"]
        {
            assert!(!disturbs(&name.into()), "{name}");
        }
    }
}
