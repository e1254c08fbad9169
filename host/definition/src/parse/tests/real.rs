//! The shapes that public files have (`cfos-interfaces.md` 2.5), in words of our own.

use super::*;
use crate::{Address, Extract, Kind, Method, Source, Target};

/// A service that answers one number as text, a path for each.
fn metrics(mtype: u8, with_soc: bool) -> String {
    let field = |topic: &str| {
        format!(
            r#"{{ "address": "/api/v1/metrics?topic=total/{topic}&value=1", "type": "float", "regex": "(-?\\d+(?:\\.\\d+)?)", "resolution": 1.0 }}"#
        )
    };
    let soc = if with_soc { format!(",\n  \"soc\": {}", field("charge")) } else { String::new() };
    format!(
        r#"{{
  "rtype": 1,
  "mtype": {mtype},
  "name": "Metrics {mtype}",
  "manufacturer": "Example",
  "dev_type": "example_metrics_{mtype}",
  "upd_delay": 2000,
  "delay_accumulated": false,
  "type_designation": {{ "fixed": "Metrics" }},
  "version": {{ "fixed": "1.0" }},
  "serial": {{ "fixed": "m-1" }},
  "power_w": {}{soc}
}}"#,
        field("power")
    )
}

#[test]
fn files_that_read_numbers_by_regex_load_without_a_word() {
    for (mtype, with_soc, kind) in
        [(4, true, Kind::Battery), (1, false, Kind::Meter), (1, false, Kind::Meter), (2, false, Kind::Inverter)]
    {
        let text = metrics(mtype, with_soc);
        assert_eq!(warnings(&text), "", "{text}");
        let definition = good(&text);
        assert_eq!(definition.kind, kind);
        let Some(Source::Document(power)) = definition.variables.get(3).map(|variable| &variable.source) else {
            panic!("{definition:?}")
        };
        let path = "/api/v1/metrics?topic=total/power&value=1".to_owned();
        assert_eq!(power.address, Address::Http { method: Method::Get, path });
        let Extract::Regex(regex) = &power.extract else { panic!("{power:?}") };
        let found = regex.captures("-1234.5\n").and_then(|captures| captures.get(1)).map(|group| group.as_str());
        assert_eq!(found, Some("-1234.5"));
        assert_eq!(definition.variables.len(), 4 + usize::from(with_soc));
    }
}

#[test]
fn files_with_a_method_before_the_path_and_empty_addresses_load_without_a_word() {
    for (member, mtype) in [("grid_power", ""), ("solar_power", r#""mtype": 1,"#), ("export_power", r#""mtype": 2,"#)] {
        let text = format!(
            r#"{{
  "rtype": 1, {mtype}
  "name": "Link", "manufacturer": "Example", "dev_type": "example_link", "delay_accumulated": false,
  "type_designation": {{ "address": "", "type": "string", "fixed": "Power Meter" }},
  "version": {{ "address": "", "type": "string", "fixed": "1.0" }},
  "firmware_version": {{ "address": "", "type": "string", "fixed": "1.0" }},
  "serial": {{ "address": "", "type": "string", "fixed": "0" }},
  "power_w": {{ "address": "GET /{member}", "query": "{member}", "type": "float", "resolution": 1.0 }}
}}"#
        );
        assert_eq!(warnings(&text), "");
        let definition = good(&text);
        let power = &definition.variables[4];
        assert_eq!(power.target, Target::Quantity("power.total"));
        let Source::Document(field) = &power.source else { panic!("{power:?}") };
        assert_eq!(field.address, Address::Http { method: Method::Get, path: format!("/{member}") });
        assert!(matches!(&field.extract, Extract::Query(query) if query.text() == member));
        assert!(matches!(&definition.variables[3].source, Source::Fixed(serial) if serial == "0"));
    }
}

#[test]
fn a_type_id_that_is_a_number_is_refused() {
    let text = r#"{"rtype": 1, "dev_type": 1, "power_w": {"address": "/p"}}"#;
    assert_eq!(errors(text), "f:1:26: dev_type: must be a text, is 1\n");
}
