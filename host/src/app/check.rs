//! Is a configuration right, and does every plugin and definition it names load and fit its bindings? Starts nothing.

use std::path::Path;

use super::files::rule_sets;
use super::{Options, definition_folders, plugin_folders};
use crate::config::{self, Config, ConfigError, ConfigErrors, HTTP_INPUT};
use crate::definition::{self, DefinitionEvent, Library};
use crate::plugin::{self, Registry};
use crate::rules;
use crate::runtime::{Runtime, RuntimeOptions};
use crate::web;

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What is there and fits, a line each.
    pub notes: Vec<String>,
    /// Everything that is wrong, a line each; empty if all is well.
    pub errors: Vec<String>,
}

impl Report {
    /// Charging rules and rule-set files. What nobody here knows is kept for clients and has no effect: worth a note.
    fn rules(&mut self, config: &Config, folder: &Path) {
        let (shared, wrong) = rules::read_folder(folder);
        self.errors.extend(wrong);
        let devices = config.devices.iter().map(|device| (device.id.to_string(), "device.", &device.charging_rules));
        let users = config.users.iter().enumerate();
        let users = users.map(|(place, user)| ((place + 1).to_string(), "user ", &user.charging_rules));
        for (name, kind, text) in devices.chain(users) {
            let Some(text) = text else { continue };
            let key = format!("{kind}{name}.charging_rules");
            let written = config.places.rules.get(&key).is_some_and(|places| places.written);
            for problem in rules::select(text, &shared, written).problems() {
                let told = config.rules_error(&key, problem.index, problem.to_string()).to_string();
                if problem.unknown_code { self.notes.push(told) } else { self.errors.push(told) }
            }
        }
    }
}

/// Checks configuration, plugins and bindings, and reports all of it together.
///
/// # Errors
/// Only if the WebAssembly engine cannot be started; what is wrong with the site stands in the report.
pub async fn check(options: &Options) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let runtime = Runtime::new(&RuntimeOptions::default())?;
    let registry = Registry::new(runtime);
    let config = match config::load(&options.config, &options.overrides) {
        Ok(config) => config,
        Err(ConfigErrors(errors)) => {
            report.errors.extend(errors.iter().map(ToString::to_string));
            return Ok(report);
        }
    };
    if let Some(Err(error)) = web::Tls::named(&config) {
        report.errors.push(error.to_string());
    }
    report.errors.extend(unreadable_files(&config).iter().map(ToString::to_string));
    report.rules(&config, &rule_sets(&options.config));
    registry.allow_wasi_sizes(config.devices.iter().any(|device| device.wasi));
    let folders = plugin_folders(Some(&options.config), &options.plugins);
    report.notes.extend(folders.iter().filter(|folder| folder.is_dir()).map(|f| format!("plugins in {}", f.display())));
    for error in registry.scan(&folders).await {
        report.errors.extend(error.to_string().lines().map(str::to_owned));
    }
    let folders = definition_folders(Some(&options.config), &options.definitions);
    let there = folders.iter().filter(|folder| folder.is_dir());
    report.notes.extend(there.map(|folder| format!("definitions in {}", folder.display())));
    let (definitions, events) = tokio::task::spawn_blocking(move || Library::open(&folders)).await?;
    for event in events {
        if let DefinitionEvent::Broken { findings, .. } = event {
            report.errors.extend(findings);
        }
    }
    report.errors.extend(definitions.doubles());
    report.errors.extend(unknown_types(&config, &registry, &definitions).iter().map(ToString::to_string));
    for device in &config.devices {
        if device.device_type == HTTP_INPUT {
            report.notes.push(format!("{}: built-in {HTTP_INPUT}", device.id));
            continue;
        }
        if let Some(file) = definitions.get(&device.device_type) {
            match definition::binding(&file.definition, device) {
                Ok(_) => report.notes.push(format!("{}: {}", device.id, file.path.display())),
                Err(misfits) => report.errors.extend(
                    misfits.into_iter().map(|m| config.device_error(&device.id, &m.key, m.message).to_string()),
                ),
            }
            continue;
        }
        let Some(plugin) = registry.get(&device.device_type) else { continue };
        match plugin::check(&plugin, device) {
            Ok(_) => report.notes.push(format!("{}: {} {}", device.id, plugin.id(), plugin.version())),
            Err(problems) => report.errors.extend(
                problems.iter().map(|p| config.device_error(&device.id, &p.key, p.message.clone()).to_string()),
            ),
        }
    }
    Ok(report)
}

/// Files that the configuration names and that cannot be read. The daemon starts without them: a broker or a device
/// says then why it is not reached.
fn unreadable_files(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let unreadable = |file: &Path| {
        let error =
            std::fs::File::open(file).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink())).err()?;
        Some(format!("{} cannot be read: {error}", file.display()))
    };
    for ((host, port), tls) in &config.mqtt.tls {
        let (cert, key) = tls.client.as_ref().map(|(cert, key)| (cert, key)).unzip();
        for (name, file) in [("ca_file", tls.ca_file.as_ref()), ("client_cert", cert), ("client_key", key)] {
            let Some(message) = file.and_then(|file| unreadable(file)) else { continue };
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            let key = format!("mqtt.tls.\"mqtts://{host}:{port}\".{name}");
            errors.push(ConfigError { place: config.places.file.clone(), key, message });
        }
    }
    for device in &config.devices {
        for (slot, endpoint) in &device.endpoints {
            let Some(message) = endpoint.password_file.as_deref().and_then(unreadable) else { continue };
            errors.push(config.device_error(&device.id, &format!("endpoint.{slot}.password_file"), message));
        }
    }
    errors
}

/// Devices whose type is neither built in nor a plugin or a definition that is there. Of a definition that is there and
/// broken, its own findings are told.
pub(super) fn unknown_types(config: &Config, registry: &Registry, library: &Library) -> Vec<config::ConfigError> {
    let (plugins, definitions) = (registry.all(), library.all());
    let broken = config.devices.iter().map(|device| device.device_type.as_str());
    let broken = broken.filter(|dev_type| library.broken(dev_type).is_some());
    let known = plugins.iter().map(|plugin| plugin.id());
    let known = known.chain(definitions.iter().map(|file| file.definition.dev_type.as_str())).chain(broken);
    config.check_types(&known.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_wrong_are_named_with_their_device() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| std::fs::write(folder.path().join("a.json"), text).unwrap();
        let text = "[[circuit]]\nid = \"m\"\nlimit_ma = [1, 1, 1]\n[[device]]\nid = \"E1\"\ntype = \"http-input\"\n\
                    charging_rules = { selected_id = \"sun\" }\n[[user]]\nid = \"1\"\nname = \"Ann\"\n\
                    charging_rules = [\n  { ctype = 4, aexpr = 1 },\n  { ctype = 51, aexpr = \"1 +\" },\n\
                    { ctype = 51, aexpr = 1, until = 3 },\n]\n";
        let config = config::parse("f", text, &[]).unwrap();
        let check = || {
            let mut report = Report::default();
            report.rules(&config, folder.path());
            report
        };
        file("{");
        let Report { notes, errors } = check();
        assert!(errors[0].contains("a.json: ") && errors[0].contains("line 1 column 1"), "{errors:?}");
        assert!(
            errors[1].contains("device.E1.charging_rules") && errors[1].contains("no rule set \"sun\""),
            "{errors:?}"
        );
        assert!(errors[2].starts_with("f:13: user 1.charging_rules: rule 1.aexpr: "), "{errors:?}");
        assert!(errors[3].starts_with("f:14: user 1.charging_rules: rule 2: unknown key \"until\", "), "{errors:?}");
        assert_eq!((errors.len(), notes.len()), (4, 1));
        assert!(notes[0].starts_with("f:12: ") && notes[0].contains("rule 0.ctype: 4 is not known here"), "{notes:?}");
        file(r#"{"set_id": "sun", "charging_rules": []}"#);
        assert_eq!(check().errors.len(), 2);
    }

    #[test]
    fn files_that_cannot_be_read_are_named_with_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.pem"), "").unwrap();
        let text = "[mqtt.tls.\"mqtts://[::1]\"]\nca_file = \"ca.pem\"\nclient_cert = \"c.pem\"\nclient_key = \".\"\n\
                    [[device]]\nid = \"M1\"\ntype = \"t\"\nendpoint.a = { url = \"http://h\", user = \"u\", password_file = \"pw\" }\n";
        let file = folder.path().join("ladekern.toml").display().to_string();
        let found = unreadable_files(&config::parse(&file, text, &[]).unwrap());
        let keys: Vec<&str> = found.iter().map(|error| error.key.as_str()).collect();
        let tls = |name: &str| format!("mqtt.tls.\"mqtts://[::1]:8883\".{name}");
        assert_eq!(keys, [&tls("ca_file"), &tls("client_key"), "device.M1.endpoint.a.password_file"]);
        let said = found[2].to_string();
        assert!(said.starts_with(&format!("{file}:5: ")) && said.contains("pw cannot be read: "), "{said}");
    }

    #[tokio::test]
    async fn definitions_are_types_that_devices_may_have() {
        let folder = tempfile::tempdir().unwrap();
        let definitions = folder.path().join("definitions");
        std::fs::create_dir_all(&definitions).unwrap();
        let meter = "{rtype: 2, dev_type: 'acme-meter', power_w: {address: 't', type: 'float'}}";
        std::fs::write(definitions.join("a.json5"), meter).unwrap();
        std::fs::write(definitions.join("c.json5"), meter).unwrap();
        std::fs::write(definitions.join("b.json"), "{\"rtype\": 2,\n\"dev_type\": \"broken-meter\"").unwrap();
        let device = |id: &str, device_type: &str, address: &str| {
            format!("[[device]]\nid = \"{id}\"\ntype = \"{device_type}\"\naddress = \"{address}\"\n")
        };
        let text = [
            device("M1", "acme-meter", "mqtt://h"),
            device("M2", "acme-metre", "mqtt://h"),
            device("M3", "acme-meter", "http://h"),
            device("M4", "broken-meter", "mqtt://h"),
        ];
        let config = folder.path().join("ladekern.toml");
        std::fs::write(&config, text.concat()).unwrap();
        let report = check(&Options { config, ..Options::default() }).await.unwrap();
        assert!(report.notes.iter().any(|note| note.starts_with("M1: ") && note.ends_with("a.json5")), "{report:?}");
        let errors: Vec<&String> = report.errors.iter().collect();
        let [broken, double, unknown, misfit] = errors.as_slice() else { panic!("{errors:#?}") };
        assert!(broken.contains("b.json:1:1: "), "{broken}");
        let (a, c) = (definitions.join("a.json5"), definitions.join("c.json5"));
        let wanted = format!("{}: dev_type: \"acme-meter\" is described by {} too", c.display(), a.display());
        assert!(double.starts_with(&wanted), "{double}");
        assert!(unknown.contains("device.M2.type") && unknown.contains("did you mean \"acme-meter\"?"), "{unknown}");
        assert!(misfit.contains("device.M3.address") && misfit.contains("found http://h"), "{misfit}");
    }
}
