//! `driver.toml`: what a plugin's author says about it and asks for. It asks; the user's binding gives.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::Validator;
use serde_json::Value as Json;

use crate::config::ConfigErrors;
use crate::config::reader::{self, Context, Reader};
use crate::config::tree::{self, Data, Node, Place};

use super::inspect::{HOST, Version};

/// A checked `driver.toml`.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `[a-z0-9-]+`, the name of the folder and the `type` of a device.
    pub id: String,
    /// Three numbers, `1.4.0`.
    pub version: String,
    /// What it was written against, `ladekern:device@0.1`.
    pub interface: String,
    /// Shown to people.
    pub name: String,
    /// SPDX expression.
    pub license: String,
    /// Devices it is known to work with.
    pub devices: Vec<String>,
    /// File beside the manifest that explains it.
    pub docs: Option<String>,
    /// `[endpoint.<slot>]`
    pub slots: BTreeMap<String, Slot>,
    /// `limits.memory`, a wish in bytes.
    pub memory: Option<u64>,
    /// `limits.min_poll_ms`: the device is not to be asked more often.
    pub min_poll: Option<Duration>,
    /// `limits.min_write_interval_ms`: a value is not to be written more often; several boxes write to flash.
    pub min_write_interval: Option<Duration>,
    /// `[config]`: a JSON Schema; the empty object if the plugin has no configuration.
    pub schema: Json,
    validator: Arc<Validator>,
}

/// A named connection that the user binds to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What is spoken on it.
    pub kind: SlotKind,
    /// Port when the address names none.
    pub default_port: Option<u16>,
    /// Modbus unit when the binding names none.
    pub default_unit: Option<u8>,
    /// For the user, one line.
    pub about: String,
    /// The plugin works without it.
    pub optional: bool,
}

/// The protocols this host offers to plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the protocols")]
pub enum SlotKind {
    Modbus,
    Http,
    Mqtt,
}

impl SlotKind {
    /// All of them.
    pub const ALL: [SlotKind; 3] = [SlotKind::Modbus, SlotKind::Http, SlotKind::Mqtt];

    /// The word of the manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SlotKind::Modbus => "modbus",
            SlotKind::Http => "http",
            SlotKind::Mqtt => "mqtt",
        }
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Manifest {
    /// Reads a manifest. `file` is its name in messages.
    ///
    /// # Errors
    /// All mistakes together, each with its line and key; unknown keys are mistakes.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        let context = Context::new(file, &[]);
        let manifest = match tree::parse(text) {
            Ok(entries) => read(Reader::new(&context, "", "", &entries, Place::Line(1))),
            Err(syntax) => {
                context.error(Place::Line(syntax.line), "", syntax.message);
                None
            }
        };
        let (errors, _) = context.into_parts();
        manifest.filter(|_| errors.is_empty()).ok_or(ConfigErrors(errors))
    }

    /// The configuration of a device with the schema's defaults filled in.
    ///
    /// # Errors
    /// One sentence for each place that breaks the schema. Values are not repeated: they may be secrets.
    pub fn complete_config(&self, given: &Json) -> Result<Json, Vec<String>> {
        let mut config = if given.is_null() { Json::Object(serde_json::Map::new()) } else { given.clone() };
        fill_defaults(&self.schema, &mut config);
        let errors: Vec<String> = self
            .validator
            .iter_errors(&config)
            .map(|error| {
                let path = error.instance_path().to_string();
                let key = path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
                let key = if key.is_empty() { "config".to_owned() } else { format!("config.{key}") };
                format!("{key}: {}", error.masked_with("the value"))
            })
            .collect();
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }
}

/// Writes `default` of each property that is missing, in nested objects too.
fn fill_defaults(schema: &Json, value: &mut Json) {
    let (Some(properties), Some(object)) = (schema.get("properties").and_then(Json::as_object), value.as_object_mut())
    else {
        return;
    };
    for (name, property) in properties {
        match object.get_mut(name) {
            Some(present) => fill_defaults(property, present),
            None => {
                if let Some(default) = property.get("default") {
                    object.insert(name.clone(), default.clone());
                }
            }
        }
    }
}

fn read(mut root: Reader<'_>) -> Option<Manifest> {
    let id = required(&mut root, "id", plugin_id);
    let version = required(&mut root, "version", version);
    let interface = required(&mut root, "interface", interface);
    let name = required(&mut root, "name", non_empty);
    let license = required(&mut root, "license", non_empty);
    let devices = root.read("devices", texts).unwrap_or_default();
    let docs = root.read("docs", non_empty);
    let slots = slots(root.table("endpoint"));
    let mut limits = root.table("limits");
    let memory = limits.read("memory", reader::size(65_536..=256 << 20));
    let min_poll = limits.read("min_poll_ms", milliseconds);
    let min_write_interval = limits.read("min_write_interval_ms", milliseconds);
    limits.finish();
    // Without a schema there is no configuration, and what the user wrote there would be ignored in silence.
    let no_config = || compiled(serde_json::json!({ "type": "object", "additionalProperties": false }));
    let schema = match root.node("config") {
        None => no_config().ok(),
        Some(_) => root.read("config", |node| compiled(reader::json(node)?)),
    };
    root.finish();
    let (schema, validator) = schema?;
    Some(Manifest {
        id: id?,
        version: version?,
        interface: interface?,
        name: name?,
        license: license?,
        devices,
        docs,
        slots,
        memory,
        min_poll,
        min_write_interval,
        schema,
        validator: Arc::new(validator),
    })
}

fn required<'a, T>(
    table: &mut Reader<'a>,
    name: &'static str,
    parse: impl FnOnce(&'a Node) -> Result<T, String>,
) -> Option<T> {
    if table.peek(name).is_none() {
        table.error(name, "is missing");
    }
    table.read(name, parse)
}

fn slots(table: Reader<'_>) -> BTreeMap<String, Slot> {
    let mut slots = BTreeMap::new();
    for (name, node) in table.entries() {
        let key = table.key(name);
        if !is_name(name) {
            table.error(name, "a slot is named with a-z, 0-9 and -");
        }
        let Data::Table(entries) = &node.data else {
            table.error(name, format!("expected a table with kind and about, found {}", node.data.describe()));
            continue;
        };
        let mut slot = Reader::new(table.context(), key, "endpoint", entries, node.place);
        let kind = required(&mut slot, "kind", kind);
        let default_port = slot.read("default_port", reader::number(1..=65_535));
        let default_unit = slot.read("default_unit", reader::number(0..=255));
        let about = slot.read("about", reader::owned).unwrap_or_default();
        let optional = slot.read("optional", reader::boolean).unwrap_or_default();
        let Some(kind) = kind else { continue };
        // A broker's port is the user's business, and only Modbus knows units.
        let foreign = [
            ("default_port", "\"modbus\" or \"http\"", !matches!(kind, SlotKind::Modbus | SlotKind::Http)),
            ("default_unit", "\"modbus\"", kind != SlotKind::Modbus),
        ];
        for (key, kinds, foreign) in foreign {
            if foreign && slot.peek(key).is_some() {
                slot.error(key, format!("belongs to slots of kind {kinds}, this one is \"{kind}\""));
            }
        }
        slot.finish();
        slots.insert(name.clone(), Slot { kind, default_port, default_unit, about, optional });
    }
    slots
}

// === Values ===

/// Whether a text is a folder and topic safe name.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn plugin_id(node: &Node) -> Result<String, String> {
    let id = reader::owned(node)?;
    if is_name(&id) { Ok(id) } else { Err(format!("\"{}\" is no id, use a-z, 0-9 and -", tree::shorten(&id))) }
}

fn version(node: &Node) -> Result<String, String> {
    let text = reader::owned(node)?;
    match text.parse::<Version>() {
        Ok(_) => Ok(text),
        Err(_) => Err(format!("expected three numbers like 1.4.0, found \"{}\"", tree::shorten(&text))),
    }
}

/// `ladekern:device@0.1`, more precise if the author likes.
fn interface(node: &Node) -> Result<String, String> {
    let text = reader::owned(node)?;
    let (major, minor) = (HOST.0, HOST.1);
    let wanted = format!("ladekern:device@{major}.{minor}");
    match text.strip_prefix(wanted.as_str()) {
        Some(rest) if rest.is_empty() || rest.starts_with('.') => Ok(text),
        _ => Err(format!("this host speaks {wanted}, the plugin was written against {}", tree::shorten(&text))),
    }
}

fn non_empty(node: &Node) -> Result<String, String> {
    let text = reader::owned(node)?;
    if text.trim().is_empty() { Err("must not be empty".into()) } else { Ok(text) }
}

fn texts(node: &Node) -> Result<Vec<String>, String> {
    match &node.data {
        Data::List(items) => items.iter().map(reader::owned).collect(),
        other => Err(format!("expected a list of texts, found {}", other.describe())),
    }
}

fn milliseconds(node: &Node) -> Result<Duration, String> {
    reader::number::<u64>(1..=3_600_000)(node).map(Duration::from_millis)
}

fn kind(node: &Node) -> Result<SlotKind, String> {
    let text = reader::text(node)?;
    SlotKind::ALL
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| format!("this host has no \"{}\", known are modbus, http, mqtt", tree::shorten(text)))
}

fn compiled(schema: Json) -> Result<(Json, Validator), String> {
    match schema.get("type").and_then(Json::as_str) {
        Some("object") => {}
        _ => return Err("is a JSON Schema and needs type = \"object\"".into()),
    }
    let validator = jsonschema::validator_for(&schema).map_err(|error| format!("is no JSON Schema: {error}"))?;
    Ok((schema, validator))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
id = "acme-wallbox"
version = "1.4.0"
interface = "ladekern:device@0.1"
name = "ACME Wallbox"
license = "MIT"
devices = ["ACME One"]

[endpoint.main]
kind = "modbus"
default_port = 5020
default_unit = 255

[endpoint.web]
kind = "http"
optional = true

[limits]
memory = "4MiB"
min_poll_ms = 500

[config]
type = "object"
required = ["max_current", "pin"]
additionalProperties = false
[config.properties.max_current]
type = "integer"
minimum = 6
default = 16
[config.properties.pin]
type = "string"
secret = true
[config.properties.net]
type = "object"
[config.properties.net.properties.retries]
type = "integer"
default = 3
"#;

    fn parse(text: &str) -> Result<Manifest, String> {
        Manifest::parse("driver.toml", text).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_manifest_is_read_whole() {
        let manifest = parse(GOOD).unwrap();
        assert_eq!((manifest.id.as_str(), manifest.version.as_str()), ("acme-wallbox", "1.4.0"));
        let main = &manifest.slots["main"];
        assert_eq!((main.kind, main.default_port, main.default_unit), (SlotKind::Modbus, Some(5020), Some(255)));
        assert!(manifest.slots["web"].optional && !main.optional);
        assert_eq!((manifest.memory, manifest.min_poll), (Some(4 << 20), Some(Duration::from_millis(500))));
    }

    #[test]
    fn all_mistakes_come_together_with_their_lines() {
        let text =
            "id = \"Acme\"\nversion = \"1\"\nname = \"\"\nlicence = \"MIT\"\n\n[endpoint.main]\nkind = \"smoke\"\n";
        let errors = parse(text).unwrap_err();
        let lines: Vec<&str> = errors.lines().collect();
        for wanted in [
            "driver.toml:1: id: \"Acme\" is no id, use a-z, 0-9 and -",
            "driver.toml:1: interface: is missing",
            "driver.toml:1: license: is missing",
            "driver.toml:2: version: expected three numbers like 1.4.0, found \"1\"",
            "driver.toml:3: name: must not be empty",
            "driver.toml:4: licence: unknown key, did you mean \"license\"?",
            "driver.toml:7: endpoint.main.kind: this host has no \"smoke\", known are modbus, http, mqtt",
        ] {
            assert!(lines.contains(&wanted), "{wanted}\nnot in\n{errors}");
        }
        assert_eq!(lines.len(), 7, "{errors}");
    }

    #[test]
    fn another_generation_of_the_interface_is_refused() {
        for good in ["ladekern:device@0.1", "ladekern:device@0.1.7"] {
            parse(&GOOD.replace("ladekern:device@0.1", good)).unwrap();
        }
        for bad in ["ladekern:device@0.2", "ladekern:device@0.11", "ladekern:device"] {
            let error = parse(&GOOD.replace("ladekern:device@0.1", bad)).unwrap_err();
            assert!(error.contains("this host speaks ladekern:device@0.1"), "{error}");
        }
    }

    #[test]
    fn a_configuration_gets_its_defaults_and_is_checked_without_telling_values() {
        let manifest = parse(GOOD).unwrap();
        let full = manifest.complete_config(&serde_json::json!({ "pin": "s3cret", "net": {} })).unwrap();
        assert_eq!(full, serde_json::json!({ "pin": "s3cret", "max_current": 16, "net": { "retries": 3 } }));
        let wrong = serde_json::json!({ "max_current": 5, "pin": 471_142, "max": 1 });
        let errors = manifest.complete_config(&wrong).unwrap_err().join("\n");
        for wanted in ["config.max_current: ", "config.pin: ", "max"] {
            assert!(errors.contains(wanted), "{errors}");
        }
        assert!(!errors.contains("471142"), "{errors}");
        assert!(manifest.complete_config(&Json::Null).unwrap_err().join("").contains("pin"));
    }

    #[test]
    fn without_a_schema_there_is_no_configuration() {
        let manifest = parse(GOOD.split("[config]").next().unwrap()).unwrap();
        manifest.complete_config(&serde_json::json!({})).unwrap();
        assert!(manifest.complete_config(&serde_json::json!({ "x": 1 })).is_err());
    }

    #[test]
    fn a_schema_that_is_none_is_a_mistake_of_the_author() {
        let error = parse(&GOOD.replace("minimum = 6", "minimum = \"six\"")).unwrap_err();
        assert!(error.contains("config: is no JSON Schema"), "{error}");
    }
}
