//! The `params` object: the whole site in one table. Fields and units: `cfos-interfaces.md` 1.3.1 and 7.1. What this
//! version does not have yet stands there with the value that means "none", because clients index these keys.

use serde::ser::{Serialize, SerializeMap, Serializer};

use ladekern_definition::Formula;

use crate::config::{DisablePolicy, LoadMode, variable_key};
use crate::formulas::{Flow, Flows, Silent, surplus_name};
use crate::site::{DeviceKind, VariableValues};

use super::number::Number;
use super::source::overdraft_ma;
use super::{SiteView, VERSION, variables};

/// Volts to turn a current limit into the power that old clients read.
const NOMINAL_V: f64 = 230.0;

/// The answer to `get_params`, the payload of `get/params`.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a>(pub &'a SiteView);

impl SiteView {
    /// Limit of the house connection per phase in mA: the smallest of its three, 0 without a circuit.
    fn max_total_current(&self) -> u32 {
        self.config.circuits.first().and_then(|root| root.limit_ma.iter().min()).copied().unwrap_or(0)
    }
}

fn watts(milliamps: f64) -> f64 {
    milliamps / 1000.0 * NOMINAL_V
}

/// Bits of the variables `_flag1` to `_flag32` that are not 0.
fn flags(values: &VariableValues) -> u32 {
    let is_set = |number: &u32| values.get(&variable_key(&format!("_flag{number}"))).is_some_and(|value| value != 0.0);
    (1..=32).filter(is_set).fold(0, |bits, number| bits | 1 << (number - 1))
}

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.who(&mut map)?;
        self.limits(&mut map)?;
        self.powers(&mut map)?;
        self.absent(&mut map)?;
        map.end()
    }
}

impl Params<'_> {
    fn who<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let view = self.0;
        map.serialize_entry("title", &view.config.site.title)?;
        map.serialize_entry("desc", &view.config.site.desc)?;
        map.serialize_entry("version", VERSION)?;
        map.serialize_entry("ladekern_version", env!("CARGO_PKG_VERSION"))?;
        map.serialize_entry("time", &view.unix_s)?;
        // Vendor, product and packed version are those of the emulated level: clients compare them.
        let vsn = serde_json::json!({
            "vendorid": 52997, "version": 33_564_433, "productid": 1, "serialno": &*view.serial, "platform": "linux",
        });
        map.serialize_entry("vsn", &vsn)
    }

    fn limits<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let view = self.0;
        let load = &view.config.load;
        let total = view.max_total_current();
        map.serialize_entry("max_total_cur_prc", &load.max_total_cur_prc)?;
        map.serialize_entry("max_total_current", &total)?;
        map.serialize_entry("reserve_current", &load.reserve_ma)?;
        map.serialize_entry("overdraft_cur", &view.max_overdraft_ma)?;
        map.serialize_entry("max_overdraft_cur", &view.max_overdraft_ma)?;
        map.serialize_entry("cur_overdraft", &overdraft_ma(&view.config, &view.plan))?;
        map.serialize_entry("max_total_power", &Number((3.0 * watts(total.into())).round()))?;
        map.serialize_entry("power_reserve", &Number((3.0 * watts(load.reserve_ma.into())).round()))?;
        map.serialize_entry("overdraft", &Number((3.0 * watts(view.max_overdraft_ma.into())).round()))?;
        map.serialize_entry("lb_enabled", &(load.mode == LoadMode::Manage))?;
        let policy = match load.disable_policy {
            DisablePolicy::Stop => 0,
            DisablePolicy::Minimum => 1,
            DisablePolicy::Unlimited => -1,
        };
        map.serialize_entry("disable_policy", &policy)?;
        map.serialize_entry("cycle_time", &u64::try_from(load.cycle.as_millis()).unwrap_or(u64::MAX))?;
        let wallboxes = |enabled: bool| {
            let wallboxes = view.config.devices.iter().filter(|device| device.id.kind() == DeviceKind::Evse);
            wallboxes.filter(|device| device.enabled == enabled).count()
        };
        map.serialize_entry("real_evses", &wallboxes(true))?;
        map.serialize_entry("real_evses_dis", &wallboxes(false))?;
        map.serialize_entry("cm_vars", &variables(&view.config, &view.variables))?;
        map.serialize_entry("cm_flags", &flags(&view.variables))?;
        let limit_expr = view.config.circuits.first().and_then(|root| root.limit_ma_expr.as_ref());
        map.serialize_entry("max_total_current_expr", limit_expr.map_or("", Formula::text))?;
        let surplus_expr = view.config.load.surplus_expr.as_ref();
        map.serialize_entry("surplus_expr", surplus_expr.map_or("", Formula::text))?;
        map.serialize_entry("cpu", &view.machine.cpu)?;
        map.serialize_entry("mem", &view.machine.mem)
    }

    fn powers<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let view = self.0;
        let flows = Flows::of(&view.config, &view.snapshot, view.snapshot.at, Silent::Skipped);
        let watts = |flow: &Flow| flow.power_w.unwrap_or_default();
        let surplus = match &view.config.load.surplus_expr {
            None => flows.surplus.power_w,
            Some(_) => view.variables.get(&surplus_name()),
        };
        let (evse, available) = (watts(&flows.evse), watts(&flows.available));
        for (name, watts) in [
            ("cons_pwr", watts(&flows.consumption)),
            ("prod_pwr", watts(&flows.generation)),
            ("grid_pwr", watts(&flows.grid)),
            ("error_pwr", watts(&flows.unanswered)),
            ("storage_home", watts(&flows.storage_home)),
            ("storage_all", watts(&flows.storage_all)),
            ("cons_evse_power", evse),
            ("consumed_evse_power", evse),
            ("avail_evse_power", available),
            ("remaining_evse_power", available - evse),
            ("surplus_power", surplus.unwrap_or_default()),
        ] {
            map.serialize_entry(name, &Number(watts.round()))?;
        }
        Ok(())
    }

    /// What this version does not have: no limit for all wallboxes together, no imbalance limit, no pauses, no
    /// prices, no outputs, no licences, no OCPP.
    fn absent<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        for name in [
            "max_total_evse_current",
            "max_total_evse_power",
            "max_imbalance_cur",
            "max_imbalance",
            "min_pause_time",
            "phase_switch_delay",
            "price_model",
            "fixed_price",
            "feed_in_tariff",
            "last_budget_reset",
            "license_end",
            "ocpp_gateway_license_cnt",
            "ocpp_gateway_licenses_used",
        ] {
            map.serialize_entry(name, &0)?;
        }
        for name in ["imbalance_add", "shareware_mode", "ocpp_srv_use_ext_cert"] {
            map.serialize_entry(name, &false)?;
        }
        for name in ["tibber_home_id", "ocpp_srv_cert_fn", "ocpp_srv_private_key_fn", "ocpp_srv_password"] {
            map.serialize_entry(name, "")?;
        }
        for name in ["cm_outs", "ocpp_srv_cacert_fn"] {
            map.serialize_entry(name, &serde_json::json!([]))?;
        }
        // A wallbox that does not answer always counts as a load here.
        map.serialize_entry("reduce_on_com_err", &true)?;
        map.serialize_entry("max_evses", &1000)?;
        map.serialize_entry("ocpp_srv_tls_mode", "off")?;
        map.serialize_entry("ocpp_srv_port", &19520)
    }
}
