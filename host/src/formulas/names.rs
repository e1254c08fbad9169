//! Names that formulas know without being told: nobody may call a variable so. Pure.

use std::sync::LazyLock;

use ladekern_definition::formula::{DEVICE_MEMBERS, Name, Object};

/// What formulas read and nobody sets.
const BUILT_IN: &[&str] = &[
    "_num_charging",
    "_num_charging1",
    "_max_total_current",
    "_max_total_evse_current",
    "_max_total_current_prc",
    "_price",
    "_price_level",
    "_surplus",
    "_org_surplus",
    "_storage_home_max_capacity",
    "_storage_home_capacity",
    "_storage_home_soc",
    "_storage_all_max_capacity",
    "_storage_all_capacity",
    "_storage_all_soc",
    "_dt",
];

/// Whether `CM.` and this name, of any case, is no variable.
pub(crate) fn is_of_manager(member: &str) -> bool {
    BUILT_IN.iter().any(|name| name.eq_ignore_ascii_case(member))
}

/// `CM._surplus`
pub(crate) fn surplus_name() -> Name {
    static NAME: LazyLock<Name> = LazyLock::new(|| Name::new(Object::Manager, "_surplus"));
    NAME.clone()
}

/// What else is told of every device, where its definition tells it or not.
const MEASURED: [&str; 7] = ["current_l1", "current_l2", "current_l3", "power_w", "import_wh", "export_wh", "soc"];

/// Whether a device's member of this name, of any case, is no user variable.
pub(crate) fn is_of_device(member: &str) -> bool {
    let input = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let member = member.to_ascii_lowercase();
    DEVICE_MEMBERS.contains(&&*member)
        || MEASURED.contains(&&*member)
        || member.strip_prefix("input").is_some_and(input)
}
