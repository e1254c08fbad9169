//! A device made of a definition, as the device task sees it: an artefact like a plugin, without guest code.

use std::sync::Arc;

use ladekern_definition::{Definition, Transport};

use super::DefinitionFile;
use super::http::HttpGuest;
use super::modbus::{ModbusGuest, timed};
use super::mqtt::MqttGuest;
use super::readings::Readings;
use crate::config::{DeviceConfig, EndpointConfig, EndpointUrl};
use crate::device::guest::{Artefact, Guest, Seat, StartError, Started, Traits, Wired, WiredSlot};
use crate::device::installed::Wires;
use crate::formulas::World;
use crate::runtime::Limits;
use crate::site::{Clock, DeviceId, DeviceKind, Role};
use crate::transport::{BoxFuture, Endpoint};

/// What every device of a definition gets from the host.
#[derive(Clone)]
pub struct Parts {
    /// Where endpoints come from.
    pub wires: Arc<dyn Wires>,
    /// The host's clock.
    pub clock: Clock,
    /// What formulas see of the site.
    pub world: World,
}

/// A definition, ready to be made a device of.
pub struct Described {
    file: Arc<DefinitionFile>,
    version: String,
    parts: Parts,
}

impl Described {
    /// Puts `file` behind the trait of the device task.
    #[must_use]
    pub fn new(file: Arc<DefinitionFile>, parts: Parts) -> Self {
        let version = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { file, version, parts }
    }
}

/// A device's entry that does not fit its definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Misfit {
    /// The key of the entry.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The one endpoint of a device.
///
/// # Errors
/// Everything about the entry that does not fit the definition.
pub fn binding<'a>(definition: &Definition, device: &'a DeviceConfig) -> Result<&'a EndpointConfig, Vec<Misfit>> {
    let mut misfits = Vec::new();
    let mut wrong = |key: &str, message: String| misfits.push(Misfit { key: key.to_owned(), message });
    let dev_type = &definition.dev_type;
    if device.id.kind() == DeviceKind::Evse {
        wrong("type", format!("\"{dev_type}\" describes a meter, and {} is a wallbox; call it M1, M2, …", device.id));
    }
    let plugins_only = [
        ("config", device.config.as_object().is_some_and(|config| !config.is_empty())),
        ("sha256", device.sha256.is_some()),
        ("wasi", device.wasi),
    ];
    for (key, _) in plugins_only.into_iter().filter(|(_, given)| *given) {
        wrong(key, format!("only plugins have this key, \"{dev_type}\" is a definition; remove it"));
    }
    let expected = match definition.transport {
        Transport::Modbus(_) => {
            "a Modbus address (rtype 0) like tcp://192.168.1.20:502 or rtu:///dev/ttyUSB0?baud=9600"
        }
        Transport::Http => "an HTTP address (rtype 1) like http://192.168.1.20",
        Transport::Mqtt => "\"mqtt\" or a broker's address (rtype 2) like mqtt://192.168.1.20",
    };
    let mut endpoints = device.endpoints.iter();
    let endpoint = match (endpoints.next(), endpoints.next()) {
        (None, _) => {
            wrong("address", format!("is missing; \"{dev_type}\" expects {expected}"));
            None
        }
        (Some(_), Some(_)) => {
            wrong(
                "endpoint",
                format!("a definition has one address, found several; \"{dev_type}\" expects {expected}"),
            );
            None
        }
        (Some((slot, endpoint)), None) => {
            let fits = match (&definition.transport, &endpoint.url) {
                (Transport::Http, EndpointUrl::Http(_)) | (Transport::Mqtt, EndpointUrl::Mqtt(_)) => true,
                (Transport::Modbus(_), url) => !matches!(url, EndpointUrl::Http(_) | EndpointUrl::Mqtt(_)),
                _ => false,
            };
            if !fits {
                let key = if slot.is_empty() { "address".to_owned() } else { format!("endpoint.{slot}.url") };
                wrong(&key, format!("\"{dev_type}\" expects {expected}, found {}", endpoint.url));
            }
            Some(endpoint)
        }
    };
    match endpoint {
        Some(endpoint) if misfits.is_empty() => Ok(endpoint),
        _ => Err(misfits),
    }
}

impl Described {
    /// The endpoint; what `present` already holds for the same binding is taken over.
    fn wire(&self, device: &DeviceId, made_from: EndpointConfig, present: &Wired) -> Result<WiredSlot, StartError> {
        let slot = DeviceConfig::ADDRESS_SLOT;
        let kept = present.0.get(slot).filter(|present| present.made_from == made_from);
        let endpoint = match kept {
            Some(present) => present.endpoint.clone(),
            None => {
                let made = self.parts.wires.endpoint(device, slot, &made_from, None, None);
                made.map_err(StartError::Misconfigured)?
            }
        };
        Ok(WiredSlot { made_from, endpoint })
    }

    fn guest(&self, seat: &Seat<'_>, endpoint: &Endpoint) -> Result<Box<dyn Guest>, StartError> {
        let definition = Arc::new(self.file.definition.clone());
        let broken = |reason: String| StartError::Misconfigured(format!("{}: {reason}", self.file.path.display()));
        let readings = Readings::new(definition).map_err(|circle| broken(circle.to_string()))?;
        let battery = matches!(seat.device.role, Role::StorageHome | Role::StorageAll);
        let readings = readings.within(self.parts.world.clone(), seat.device.id.clone()).turned(battery);
        let http_body = seat.device.limits.http_body.unwrap_or(Limits::default().http_body);
        match (&self.file.definition.transport, endpoint) {
            (Transport::Http, Endpoint::Http(http)) => {
                Ok(Box::new(HttpGuest::new(readings, Arc::clone(http), http_body, self.parts.clock)))
            }
            (Transport::Mqtt, Endpoint::Mqtt(_)) => Ok(Box::new(MqttGuest::new(readings))),
            (Transport::Modbus(reading), Endpoint::Modbus(modbus)) => {
                Ok(Box::new(ModbusGuest::new(readings, reading.clone(), Arc::clone(modbus), self.parts.clock)))
            }
            (_, other) => Err(broken(format!("its address is one of {}", other.kind()))),
        }
    }
}

impl Artefact for Described {
    fn id(&self) -> &str {
        &self.file.definition.dev_type
    }

    /// Definitions have none; people know them by their file.
    fn version(&self) -> &str {
        &self.version
    }

    fn fingerprint(&self) -> &str {
        &self.file.fingerprint
    }

    fn traits(&self) -> Traits {
        Traits { poll: self.file.definition.update, described: true, ..Traits::default() }
    }

    fn start<'a>(&'a self, seat: Seat<'a>) -> BoxFuture<'a, Result<Started, StartError>> {
        Box::pin(async move {
            let made_from = binding(&self.file.definition, seat.device).map_err(|misfits| {
                let sentences: Vec<String> = misfits.iter().map(ToString::to_string).collect();
                StartError::Misconfigured(sentences.join("; "))
            })?;
            let slot = self.wire(&seat.device.id, timed(&self.file.definition, made_from), seat.wired)?;
            let guest = self.guest(&seat, &slot.endpoint)?;
            let wired = Wired([(DeviceConfig::ADDRESS_SLOT.to_owned(), slot)].into());
            Ok(Started { guest, wired, config: "{}".into(), http_body: 0 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn definition(rtype: u8) -> Definition {
        let address = if rtype == 0 { "1" } else { "'/t'" };
        let text = format!("{{rtype: {rtype}, dev_type: 'acme', power_w: {{address: {address}, type: 'float'}}}}");
        ladekern_definition::parse("a.json", &text).unwrap_or_else(|findings| panic!("{findings:?}")).definition
    }

    /// Every sentence about a device with these lines.
    fn misfits(rtype: u8, id: &str, lines: &str) -> String {
        let text = format!("[mqtt]\nbroker = \"mqtt://b\"\n[[device]]\nid = \"{id}\"\ntype = \"acme\"\n{lines}");
        let config = config::parse("f", &text, &[]).unwrap();
        let misfits = binding(&definition(rtype), &config.devices[0]).err().unwrap_or_default();
        misfits.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_kind_of_the_address_fits_the_definition() {
        let fitting: [(u8, &[&str]); 3] = [
            (0, &["tcp://h:502", "rtutcp://h", "rtu:///dev/ttyUSB0?baud=9600"]),
            (1, &["http://h/base"]),
            (2, &["mqtt", "mqtts5://u:p@h"]),
        ];
        for (rtype, _) in fitting {
            for (other, urls) in fitting {
                for url in urls {
                    let said = misfits(rtype, "M1", &format!("address = \"{url}\""));
                    let ok =
                        if other == rtype { said.is_empty() } else { said.starts_with("address: \"acme\" expects ") };
                    assert!(ok, "rtype {rtype} at {url}: {said}");
                    assert!(!said.contains("u:p@"), "{said}");
                }
            }
        }
        let said = misfits(1, "M1", "endpoint.web = { url = \"tcp://h\" }");
        assert!(said.starts_with("endpoint.web.url: ") && said.ends_with("found tcp://h"), "{said}");
    }

    #[test]
    fn an_entry_that_cannot_work_is_told_all_of_it() {
        assert!(
            misfits(2, "M1", "").starts_with("address: is missing; \"acme\" expects \"mqtt\" or a broker's address")
        );
        let two = "endpoint.a = { url = \"mqtt\" }\nendpoint.b = { url = \"mqtt\" }";
        assert!(misfits(2, "M1", two).starts_with("endpoint: a definition has one address, found several"));
        let said = misfits(2, "E1", "address = \"mqtt\"\nwasi = true\nconfig = { a = 1 }");
        for part in ["type: \"acme\" describes a meter", "wasi: only plugins", "config: only plugins"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
}
