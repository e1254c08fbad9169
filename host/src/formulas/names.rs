//! Names that formulas know without being told: nobody may call a variable so. Pure.

use std::sync::LazyLock;

use ladekern_definition::formula::{Name, Object};

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

/// Members that are no user variables, `inputN` apart. Some of them are never known here.
const MEMBERS: &[&str] = &[
    "current_l1",
    "current_l2",
    "current_l3",
    "current",
    "power_w",
    "offered",
    "import_wh",
    "export_wh",
    "dt",
    "soc",
    "id",
    "txn_duration",
    "charging_dur",
    "txn_energy",
    "min_current",
    "max_current",
    "state",
    "cphases",
    "pphases",
    "lb_cur_l1",
    "lb_cur_l2",
    "lb_cur_l3",
    "lb_cur",
    "surplus_pcur",
    "surplus_wanted",
    "budget",
    "budget_amount",
    "budget_used",
    "com_err",
    "com_err2",
    "reactive_power",
    "departure",
    "req_energy",
    "plugin_start",
    "plugin_energy",
];

/// Whether a device's member of this name, of any case, is no user variable.
pub(crate) fn is_of_device(member: &str) -> bool {
    let input = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let member = member.to_ascii_lowercase();
    MEMBERS.contains(&&*member) || member.strip_prefix("input").is_some_and(input)
}
