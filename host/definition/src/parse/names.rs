//! Names of variables: which ones the manager knows, which ones are the user's, and which ones are typing errors.

use crate::formula::DEVICE_MEMBERS;
use crate::{Identity, Target};

use super::keys::{HEAD, VARIABLE};

/// Names with a meaning, and the quantity (`docs/quantities.md`) each one is. `cfos-interfaces.md` 2.2; `frequency` is
/// not in the vendor's list and would be a user variable there.
const QUANTITIES: &[(&str, &str)] = &[
    ("power_w", "power.total"),
    ("power_var", "power.reactive"),
    ("power_va", "power.apparent"),
    ("power_w_l1", "power.l1"),
    ("power_w_l2", "power.l2"),
    ("power_w_l3", "power.l3"),
    ("voltage_l1", "voltage.l1"),
    ("voltage_l2", "voltage.l2"),
    ("voltage_l3", "voltage.l3"),
    ("current_l1", "current.l1"),
    ("current_l2", "current.l2"),
    ("current_l3", "current.l3"),
    ("import_wh", "energy.import"),
    ("export_wh", "energy.export"),
    ("soc", "battery.soc"),
    ("frequency", "frequency"),
];

/// Names that say who a device is.
const IDENTITIES: &[(&str, Identity)] = &[
    ("type_designation", Identity::TypeDesignation),
    ("version", Identity::Version),
    ("firmware_version", Identity::FirmwareVersion),
    ("serial", Identity::Serial),
];

/// Longer names are refused.
const MOST_LETTERS: usize = 64;

/// Names with a meaning of their own and what the schema says about them.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    QUANTITIES.iter().map(|(name, _)| *name).chain(IDENTITIES.iter().map(|(name, _)| *name))
}

/// Unit of a known name, as a file gives it; `None`: a text.
pub(super) fn unit(name: &str) -> Option<&'static str> {
    let (_, quantity) = QUANTITIES.iter().find(|(known, _)| *known == name)?;
    Some(match quantity.split('.').next() {
        Some("power") if quantity.ends_with("reactive") => "var",
        Some("power") if quantity.ends_with("apparent") => "VA",
        Some("power") => "W",
        Some("voltage") => "V",
        Some("current") => "mA",
        Some("energy") => "Wh",
        Some("frequency") => "Hz",
        _ => "%",
    })
}

/// Where the value of a variable of this name goes.
pub(super) fn target(name: &str) -> Result<Target, String> {
    if let Some((_, identity)) = IDENTITIES.iter().find(|(known, _)| *known == name) {
        return Ok(Target::Identity(*identity));
    }
    if let Some((_, quantity)) = QUANTITIES.iter().find(|(known, _)| *known == name) {
        return Ok(Target::Quantity(quantity));
    }
    if let Some(manager) =
        name.get(3..).filter(|_| name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("cm.")))
    {
        return well_formed(manager).map(|()| Target::Manager(manager.to_owned()));
    }
    let (own, shown) = name.strip_prefix('*').map_or((name, false), |own| (own, true));
    if shown && known().any(|known| known == own) {
        return Err(format!("{own} is shown anyway; write it without the *"));
    }
    well_formed(own).map(|()| Target::User { name: own.to_owned(), shown })
}

fn well_formed(name: &str) -> Result<(), String> {
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let goes_on = letters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !begins || !goes_on {
        return Err(
            "a variable's name is made of the letters a to z, digits and _, and begins with no digit; before it \
                    may stand CM. or *"
                .into(),
        );
    }
    if name.len() > MOST_LETTERS {
        return Err(format!("a variable's name has at most {MOST_LETTERS} letters"));
    }
    Ok(())
}

/// A doubt about the name of a user variable: it looks like a known one, or formulas know something else by it.
pub(super) fn doubt(name: &str) -> Option<String> {
    let own = name.strip_prefix('*').unwrap_or(name);
    let lower = own.to_ascii_lowercase();
    let heads = HEAD.iter().map(|key| key.name);
    // Digits behind a known name make a name on purpose: `power_w2`, `voltage_l12`.
    let numbered = |tail: &str| !tail.is_empty() && tail.bytes().all(|c| c.is_ascii_digit());
    let on_purpose = known().filter_map(|known| lower.strip_prefix(known)).any(numbered);
    if let Some(known) = known().chain(heads).find(|known| resembles(&lower, known) && !on_purpose) {
        return Some(format!("is a variable of your own; did you mean \"{known}\"?"));
    }
    if VARIABLE.iter().any(|key| key.name == lower) {
        return Some("is a key of a variable, but stands at the top level and makes a variable of its own".into());
    }
    let input =
        lower.strip_prefix("input").is_some_and(|n| !n.is_empty() && n.bytes().all(|digit| digit.is_ascii_digit()));
    // Documented for every device too, and nothing here sets it but users.
    let switch = lower == "switch_phases";
    (input || switch || DEVICE_MEMBERS.contains(&lower.as_str())).then(|| {
        "every device has a member of this name; choose another one, or formulas may mean the wrong one".into()
    })
}

/// The same but for capital letters, or one typing error apart.
fn resembles(lower: &str, known: &str) -> bool {
    lower == known || known.len() >= 5 && lower.len() <= MOST_LETTERS && strsim::damerau_levenshtein(lower, known) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_where_they_belong() {
        assert_eq!(target("power_va"), Ok(Target::Quantity("power.apparent")));
        assert_eq!(target("serial"), Ok(Target::Identity(Identity::Serial)));
        assert_eq!(target("CM._set_price"), Ok(Target::Manager("_set_price".into())));
        assert_eq!(target("cm.x"), Ok(Target::Manager("x".into())));
        assert_eq!(target("*temp"), Ok(Target::User { name: "temp".into(), shown: true }));
        assert_eq!(target("Power_W"), Ok(Target::User { name: "Power_W".into(), shown: false }));
        for bad in ["", "*", "CM.", "1a", "a b", "a.b", "grüße", "**a", "CM.*a", "*power_w", &"a".repeat(65)] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_looks_like_a_typing_error_is_doubted() {
        for name in [
            "power_W",
            "voltage_11",
            "Soc",
            "curent_l1",
            "current_l4",
            "import_kwh",
            "rtypes",
            "resolution",
            "state",
            "Input3",
        ] {
            assert!(doubt(name).is_some(), "{name}");
        }
        for name in ["power_w2", "voltage_l12", "temperature", "soh", "pf", "battery_w", "inputs_total"] {
            assert_eq!(doubt(name), None, "{name}");
        }
    }

    #[test]
    fn every_quantity_has_its_unit() {
        let units: Vec<_> = known().map(unit).collect();
        assert_eq!(units.iter().filter(|unit| unit.is_none()).count(), IDENTITIES.len());
        assert_eq!(unit("power_var"), Some("var"));
        assert_eq!(unit("current_l2"), Some("mA"));
        assert_eq!(unit("soc"), Some("%"));
    }
}
